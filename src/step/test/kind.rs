//! What a kind of test is, and what all kinds share.

use std::time::Duration;

use super::model::{Boot, Checks, LoweredTest, Manner, Service};
use crate::schema::{Check, Fields, Key, Mistake, Section, Shape, Start, may};
#[cfg(test)]
use crate::step::kind::Case;
use crate::step::kind::Findings;
use crate::step::label::short;
use crate::step::program::{Options, argv};

/// How long a check may take to hold where the test says nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a machine may take to be up, and a check of one to hold, where the test says nothing:
/// it may be emulated.
const PATIENCE_OF_MACHINES: Duration = Duration::from_secs(300);

/// A kind of test, by what is checked.
pub(crate) struct TestKind {
    /// Its keys with their shapes, defaults and documentation.
    pub(crate) section: Section,
    /// Finds what is wrong with keys that are right by themselves.
    pub(crate) cross_check: fn(&Fields, &mut Findings<'_>),
    /// Lowers a check; the second argument is the whole list of its shell. `None` where a needed
    /// key is missing or wrong, which has been reported.
    pub(crate) lower: fn(&Fields, &[String]) -> Option<Checks>,
    /// For each key but `name`, `when` and `timeout`: two tests that differ in it alone.
    #[cfg(test)]
    pub(crate) cases: &'static [Case],
}

impl TestKind {
    /// Makes the test of checked keys; `line` is where it stands.
    pub(crate) fn test(
        &self,
        line: u32,
        fields: &Fields,
        defaults: &Options,
    ) -> Option<LoweredTest> {
        let shell = defaults.shell_of(fields);
        let Checks { about, probes } = (self.lower)(fields, &shell)?;
        let (names, start): (Vec<_>, Vec<_>) = fields.starts("start").into_iter().unzip();
        let start = start.into_iter().map(|start| match start {
            Start::Config => Service::Config,
            Start::Command(command) => Service::Argv(argv(&command, &shell)),
        });
        let boot = fields
            .boolean("boot")
            .unwrap_or(false)
            .then(|| Box::new(Boot { may_fail: fields.list("may_fail"), ..Boot::default() }));
        Some(LoweredTest {
            label: short(&fields.text("name").unwrap_or(about)),
            line,
            start: start.collect(),
            names: names.into_iter().flatten().collect(),
            probes,
            timeout: fields.duration("timeout").unwrap_or(match boot {
                Some(_) => PATIENCE_OF_MACHINES,
                None => PATIENCE,
            }),
            boot,
        })
    }
}

/// `name`, of every test.
pub(super) const NAME: Key = may("name", Shape::Text(Check::Line), "What people call this test.");

/// `when`, of every test.
pub(super) const WHEN: Key = may(
    "when",
    Shape::Text(Check::Any),
    "A condition over the variables that comes out true or false, decided before anything runs: a \
        test that is off is not part of the recipe.",
);

/// `start`, of every test.
pub(super) const START: Key = may(
    "start",
    Shape::Start,
    "What runs while the check is made, as the user of `[config]`: `true` for what `[config]` \
        says, a command (a string for the shell, a list without one), or several: a list of them \
        that begins with `true` or a list, or a table by name, under which each is logged. \
        Examples: `start = [true, \"redis-server\"]`, `start.web = true`.",
);

/// `boot`, of the tests that can look at a machine.
pub(super) const BOOT: Key = may(
    "boot",
    Shape::Yes,
    "`true`: the check is made of the image as a machine, booted in QEMU from its disk.",
);

/// `timeout`, of every test.
pub(super) const TIMEOUT: Key = may(
    "timeout",
    Shape::Text(Check::Duration),
    "How long the check may take to hold; with `start` it is made again until then. Default: \
        `30s`.",
);

/// `as`, of the checks that run something.
pub(super) const AS: Key = may(
    "as",
    Shape::Text(Check::RunAs),
    "The user the check runs as, `name`, `name:group` or ids. Default: root.",
);

/// `workdir`, of the checks that run something.
pub(super) const WORKDIR: Key = may(
    "workdir",
    Shape::Text(Check::Inside),
    "Working directory of the check. Default: that of `[config]`.",
);

/// `env`, of the checks that run something.
pub(super) const ENV: Key =
    may("env", Shape::Map(Check::EnvName), "Environment of the check, besides that of `[config]`.");

/// What `contains` is.
pub(super) const CONTAINS: &str = "What must be found in it.";

/// Returns as whom and where a check runs.
pub(super) fn manner(fields: &Fields) -> Manner {
    Manner {
        user: fields.text("as").unwrap_or_else(|| "root".to_owned()),
        env: fields.map("env"),
        cwd: fields.text("workdir"),
    }
}

/// Reports a check of a server where nothing is started.
pub(super) fn answers(fields: &Fields, check: &str, findings: &mut Findings<'_>) {
    if fields.get("boot").is_some() {
        return;
    }
    if let (None, Some(field)) = (fields.get("start"), fields.get(check)) {
        let mistake = Mistake::new(format!("a test with `{check}` that starts nothing"))
            .label("nobody would answer")
            .help(
                "add `start = true` for what `[config]` says, or `start = \"…\"`: nothing else \
                runs in the container",
            );
        findings.add(field.key.clone(), mistake);
    }
}
