//! Reads one `[[test]]`: which check it makes, and what its keys mean together.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeTable;

use super::kind::{Family, Options, condition, sh, sort};
use super::reader::Reader;
use crate::recipe::keys;
use crate::recipe::model::{Probe, ProbeOptions, Test};
use crate::schema::{Fields, Mistake, Start, sha256};

/// How long a check may take to hold where the test says nothing.
const PATIENCE: Duration = Duration::from_secs(30);

const TESTS: Family = Family {
    noun: "test",
    kinds: keys::CHECKS,
    later: &[],
    without: ("a test without a check", "what does this test look at?"),
};

/// A test as read, and where it says what it starts.
pub(crate) struct Read {
    pub(crate) test: Test,
    /// Where `start` names `[config]`.
    pub(crate) starts_config: Option<Range<usize>>,
    /// Its `when` is not false.
    pub(crate) on: bool,
}

/// Reads one test; `None` where it is wrong, which is reported.
pub(crate) fn read_test(
    reader: &mut Reader<'_>,
    place: Range<usize>,
    table: &DeTable<'_>,
    defaults: &Options,
) -> Option<Read> {
    let on = condition(reader, table);
    let (check, key) = sort(reader, &TESTS, place, table, |reader, checks| {
        let [(first, _), rest @ ..] = checks else { return };
        for (second, span) in rest {
            let mistake = Mistake::new(format!(
                "a test has one check, but this one has both `{}` and `{}`",
                first.name, second.name
            ));
            reader.report(
                span.clone(),
                mistake
                    .label("a second check")
                    .help("start the second one with a `[[test]]` of its own"),
            );
        }
    })?;
    let fields = reader.fields(check, key.clone(), table);
    together(reader, check.name, &key, &fields, on != Some(false));
    let start = fields.starts("start");
    let starts_config = fields
        .get("start")
        .filter(|_| start.contains(&Start::Config))
        .map(|field| field.span.clone());
    let test = Test {
        name: fields.text("name"),
        line: reader.source.line(key.start),
        start,
        probe: probe(check.name, &fields)?,
        shell: fields
            .given_list("shell")
            .or_else(|| defaults.shell().map(<[String]>::to_vec))
            .unwrap_or_else(sh),
        timeout: fields.duration("timeout").unwrap_or(PATIENCE),
    };
    Some(Read { test, starts_config, on: on != Some(false) })
}

/// Checks what keys of a test say together. `on`: it will be run.
fn together(reader: &mut Reader<'_>, check: &str, key: &Range<usize>, fields: &Fields, on: bool) {
    if matches!(check, "http" | "tcp") && fields.get("start").is_none() {
        let mistake = Mistake::new(format!("a test with `{check}` that starts nothing"))
            .label("nobody would answer");
        reader.report(
            key.clone(),
            mistake.help("add `start = true` for what `[config]` says, or `start = \"…\"`: nothing else runs in the copy"),
        );
    }
    if check != "file" {
        return;
    }
    if fields.get("absent").is_some() {
        for name in ["mode", "owner", "contains", "sha256"] {
            if let Some(field) = fields.get(name) {
                reader.report(
                    field.key.clone(),
                    Mistake::new(format!("`{name}` of a file that must be absent"))
                        .label("there is nothing to look at"),
                );
            }
        }
    }
    if let (true, Some(field), Some([])) =
        (on, fields.get("sha256"), fields.given_list("sha256").as_deref())
    {
        let arch = reader.arch.to_owned();
        let mistake =
            Mistake::new(format!("no sha256 for {arch}")).label(format!("`{arch}` is missing"));
        reader.report(
            field.span.clone(),
            mistake.help(format!(
                "add `{arch} = \"…\"`, or keep the test off with `when = \"arch != '{arch}'\"`"
            )),
        );
    }
}

/// Reports tests that start what `[config]` does not say.
pub(crate) fn nothing_to_start(reader: &mut Reader<'_>, tests: &[Read]) {
    for place in tests.iter().filter(|read| read.on).filter_map(|read| read.starts_config.clone()) {
        let mistake =
            Mistake::new("`start = true` stands for what `[config]` says, which is nothing")
                .label("no `cmd` and no `entrypoint`");
        reader.report(
            place,
            mistake.help(
                "add `cmd = [\"…\"]` to `[config]`, or write the command here: start = \"…\"",
            ),
        );
    }
}

/// Makes the check of its fields; `None` where a needed one is missing or wrong, which is reported.
fn probe(check: &str, fields: &Fields) -> Option<Probe> {
    let how = || ProbeOptions {
        run_as: fields.text("as"),
        env: fields.map("env"),
        workdir: fields.text("workdir"),
    };
    let contains = fields.text("contains");
    Some(match check {
        "http" => Probe::Http {
            url: fields.text("http")?,
            status: fields.integer("status").unwrap_or(200),
            contains,
        },
        "tcp" => Probe::Tcp(fields.text("tcp")?),
        "run" => Probe::Run { command: fields.command("run")?, how: how() },
        "script" => Probe::Script {
            files: fields.given_list("script")?.into_iter().map(PathBuf::from).collect(),
            args: fields.list("args"),
            how: how(),
        },
        "file" if fields.get("absent").is_some() => Probe::Absent(fields.text("file")?),
        "file" => Probe::File {
            path: fields.text("file")?,
            mode: fields.mode("mode"),
            owner: fields.text("owner"),
            contains,
            sha256: fields.text("sha256").and_then(|text| sha256(&text).ok()),
        },
        _ => return None,
    })
}
