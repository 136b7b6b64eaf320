//! What a kind of step is, and a step that is ready to be planned.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::label::short;
use super::limit::Limits;
use super::op::Op;
use super::program::{Options, RunOptions};
use crate::reach::Reach;
use crate::schema::{Check, Fields, Key, Mistake, Section, Shape, may};

/// A kind of step: all there is to know of it but for what its operations do inside the root.
pub(crate) struct Kind {
    /// Its keys with their shapes, defaults and documentation, and what each does to the key of a
    /// step; the kind's own key among them.
    pub(crate) section: Section,
    /// Finds what is wrong with keys that are right by themselves.
    pub(crate) cross_check: fn(&Fields, &mut Findings<'_>),
    /// Lowers a step to its operations, defaults filled in; the second argument is `[defaults]`.
    /// `None` where a needed key is missing or wrong, which has been reported.
    pub(crate) lower: fn(&Fields, &Options) -> Option<Work>,
    /// For each key but `name` and `when`: two steps that differ in it alone.
    #[cfg(test)]
    pub(crate) cases: &'static [Case],
}

/// A key, a step (or a test), and the same with another value of that key.
#[cfg(test)]
pub(crate) type Case = (&'static str, &'static str, &'static str);

impl Kind {
    /// Makes the steps of checked keys, nearly always one; `line` is where they stand. None where a
    /// needed key is missing or wrong.
    pub(crate) fn steps(&self, line: u32, fields: &Fields, defaults: &Options) -> Vec<Lowered> {
        let Some(mut work) = (self.lower)(fields, defaults) else { return vec![] };
        let name = fields.text("name");
        let rest = std::mem::take(&mut work.rest);
        let several = !rest.is_empty();
        let one = |work: Work| {
            let name = name.as_deref().map(|name| match several {
                true => format!("{name}: {}", work.about),
                false => name.to_owned(),
            });
            self.step(line, name, work)
        };
        std::iter::once(work).chain(rest).map(one).collect()
    }

    fn step(&self, line: u32, name: Option<String>, work: Work) -> Lowered {
        let Work { about, ops, run, rest: _ } = work;
        let about = short(&format!("{} {about}", self.section.name));
        let run = run.unwrap_or_default();
        Lowered {
            label: name.map_or_else(|| about.clone(), |name| short(&name)),
            about,
            line,
            part: None,
            ops,
            network: run.network,
            timeout: run.timeout,
            retries: run.retries,
            limits: run.limits,
            shell: run.shell.into_iter().next(),
        }
    }
}

/// What a kind makes of a step.
pub(crate) struct Work {
    /// What it is about: the first words of the command, the paths.
    pub(crate) about: String,
    /// What it does, in order.
    pub(crate) ops: Vec<Op>,
    /// How its programs run, where it runs any of the recipe's.
    pub(crate) run: Option<RunOptions>,
    /// Further steps that it is: a copy becomes a layer of its own, without being unpacked.
    pub(crate) rest: Vec<Work>,
}

impl Work {
    /// Returns the work of one operation that runs no program of the recipe.
    pub(crate) fn of(about: String, op: Op) -> Self {
        Self { about, ops: vec![op], run: None, rest: vec![] }
    }
}

/// A step ready to be planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lowered {
    /// What people call it: its name, else as `about`.
    pub label: String,
    /// Its kind and what it is about, whatever its name: what the image's history says of it.
    /// Everything in it is in `ops` too, so that it is in the key.
    pub about: String,
    /// Line of the recipe, or of the included file that it stands in, from 1.
    pub line: u32,
    /// The included file that it stands in; none: the recipe.
    pub part: Option<InPart>,
    /// What it does.
    pub ops: Vec<Op>,
    /// What of the network its programs reach.
    pub network: Reach,
    /// Per try.
    pub timeout: Option<Duration>,
    /// Further tries after a failure, each on a fresh root.
    pub retries: u32,
    /// What its programs may use.
    pub limits: Limits,
    /// The program that is its shell, where it runs programs.
    pub shell: Option<String>,
}

impl Lowered {
    /// Returns the path of the included file that its line is of; none: it is the recipe's.
    #[must_use]
    pub fn part_file(&self) -> Option<Arc<Path>> {
        self.part.as_ref().map(|part| Arc::clone(&part.file))
    }
}

/// The included file that a step stands in. No key knows of it: what a step does is the same
/// wherever it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPart {
    /// Its path as people would write it beside the recipe's.
    pub file: Arc<Path>,
    /// Which of the recipe's parts it is, from 0: a file that is included twice is two.
    pub number: usize,
}

/// What is found wrong with keys cross_check, and what must be known for that.
pub(crate) struct Findings<'a> {
    /// OCI architecture of the image.
    pub(crate) arch: &'a str,
    /// The step (or test) will be run: its `when` is not false.
    pub(crate) on: bool,
    /// What is wrong, and where.
    pub(crate) list: Vec<(Range<usize>, Mistake)>,
}

impl Findings<'_> {
    /// Adds a mistake.
    pub(crate) fn add(&mut self, span: Range<usize>, mistake: Mistake) {
        self.list.push((span, mistake));
    }

    /// Reports a `sha256` by architecture that lacks the one of the image. `noun`: step or test.
    pub(crate) fn sha256_of_this_architecture(&mut self, fields: &Fields, noun: &str) {
        if let (true, Some(field), Some([])) =
            (self.on, fields.get("sha256"), fields.given_list("sha256").as_deref())
        {
            let arch = self.arch;
            let mistake =
                Mistake::new(format!("no sha256 for {arch}")).label(format!("`{arch}` is missing"));
            let help = format!(
                "add `{arch} = \"…\"`, or keep the {noun} off with `when = \"arch != '{arch}'\"`"
            );
            self.add(field.span.clone(), mistake.help(help));
        }
    }
}

/// Highest user or group id: the one above means "none" to the kernel.
pub(crate) const MAX_ID: i64 = u32::MAX as i64 - 1;

/// `name`, of every step.
pub(crate) const NAME: Key =
    may("name", Shape::Text(Check::Line), "What people call this step.").without_effect();

/// `when`, of every step.
pub(crate) const WHEN: Key = may(
    "when",
    Shape::Text(Check::Any),
    "A condition over the variables that comes out true or false, decided before anything runs; a \
        step that is off is not part of the build. Example: `site == 'blue' and arch != \
        'riscv64'`.",
)
.without_effect();
