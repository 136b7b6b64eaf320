//! One stage being converted: its state, its steps, and what is remarked on.

use std::collections::BTreeSet;

use super::arguments::Arguments;
use super::around::Around;
use super::document::{Step, Value};
use super::fault::{Fault, Remark};
use super::fill::Filler;
use super::instruction::{Flag, Instruction};
use super::state::{Directory, Origin, State};
use super::text::Text;

/// What a stage is called by others, and where it stands among them.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// As the Dockerfile calls it.
    pub(super) name: Option<String>,
    /// As the recipe calls it.
    pub(super) title: String,
}

/// What all stages share.
pub(super) struct Shared<'a> {
    /// What messages call the Dockerfile.
    pub(super) file: &'a str,
    /// What names of mounts begin with.
    pub(super) kind: &'static str,
    pub(super) escape: char,
    pub(super) around: &'a Around,
    /// All stages, those behind it too.
    pub(super) stages: Vec<Named>,
    pub(super) arguments: Arguments,
    /// Further stages that the recipe needs: name, and the archive that it is made of.
    pub(super) archives: Vec<(String, String)>,
    /// A stage with nothing in it is needed.
    pub(super) empty: bool,
}

/// The stage with nothing in it.
pub(super) const EMPTY: &str = "empty";

/// A stage in the making.
pub(super) struct Stage<'a, 'b> {
    pub(super) shared: &'b mut Shared<'a>,
    /// Its place among the stages.
    pub(super) index: usize,
    pub(super) state: State,
    /// Other stages that it takes something from.
    pub(super) needs: BTreeSet<usize>,
    pub(super) remarks: Vec<Remark>,
    /// The working directory, while nothing has made it.
    pub(super) directory: Option<Directory>,
    /// Comments for the next step.
    pub(super) pending: Vec<String>,
    /// It starts from nothing, and nothing has been put there.
    pub(super) scratch: bool,
    /// What the stage starts from is an archive: it replaces the empty base.
    pub(super) archive: Option<String>,
}

impl Stage<'_, '_> {
    /// Remarks that something is not as it was; what was done instead stands in the message.
    pub(super) fn remark(&mut self, line: u32, topic: &'static str, message: impl Into<String>) {
        self.add_remark(line, topic, message.into(), false);
    }

    /// Remarks on something that changes nothing about the image.
    pub(super) fn note(&mut self, line: u32, topic: &'static str, message: impl Into<String>) {
        self.add_remark(line, topic, message.into(), true);
    }

    fn add_remark(&mut self, line: u32, topic: &'static str, message: String, harmless: bool) {
        let comment = format!("{}:{line}: {message}", self.shared.file);
        if !self.pending.contains(&comment) {
            self.pending.push(comment);
        }
        self.remarks.push(Remark { line, topic, message, harmless });
    }

    /// Adds a step, with all comments that wait for one.
    pub(super) fn add(&mut self, mut step: Step) {
        step.comments = std::mem::take(&mut self.pending);
        self.state.steps.push(step);
    }

    /// Fills a word in.
    pub(super) fn fill(&mut self, line: u32, word: &str) -> Result<Text, Fault> {
        self.filled(line, word, true)
    }

    /// Fills the content of a here-document in, in which quotes are characters as all others.
    pub(super) fn fill_content(&mut self, line: u32, content: &str) -> Result<Text, Fault> {
        self.filled(line, content, false)
    }

    fn filled(&mut self, line: u32, word: &str, quotes: bool) -> Result<Text, Fault> {
        let (state, mut unknown) = (&self.state, vec![]);
        let mut look = |name: &str, otherwise: bool| {
            if let Some(text) = state.value(name) {
                return Some(text);
            }
            if let Some(value) = state.base_value(name) {
                return Some(Text::plain(value));
            }
            let Origin::Image { name: image, .. } = &state.origin else { return None };
            unknown.push((name.to_owned(), image.clone(), otherwise));
            let value = if name == "PATH" { super::bases::PATH } else { "" };
            (!otherwise).then(|| Text::variable(name, value))
        };
        let escape = if quotes { self.shared.escape } else { '\\' };
        let mut filler = Filler { escape, look: &mut look, quotes, fixed: vec![] };
        let text = filler.fill(word).map_err(|why| Fault::new(line, why))?;
        let fixed = std::mem::take(&mut filler.fixed);
        for name in fixed {
            let message = format!(
                "a part of `{name}` is cut off: what comes out here follows its default, not what \
                    --var sets"
            );
            self.remark(line, "argument", message);
        }
        for (name, image, otherwise) in unknown {
            self.unknown(line, &name, &image, otherwise);
        }
        Ok(text)
    }

    /// A variable that only the image of a registry may set.
    fn unknown(&mut self, line: u32, name: &str, image: &str, otherwise: bool) {
        if otherwise {
            let message =
                format!("`{name}` is taken as not set: whether {image} sets it is not known");
            return self.remark(line, "base-variable", message);
        }
        let value = if name == "PATH" { super::bases::PATH } else { "" };
        let comment = format!("As {image} sets it.");
        let text = self.shared.arguments.declare(name, &Text::plain(value), &[comment]);
        // The next time it is known, and the remark is made once.
        self.state.hidden.push((name.to_owned(), text));
        let what = if value.is_empty() { "empty" } else { "the usual one" };
        let message = format!(
            "what {image} has as `{name}` is not known: it is a variable of the recipe, {what} \
                until you change it"
        );
        self.remark(line, "base-variable", message);
    }

    /// Fills a word in that may not depend on a variable: the recipe needs it as it is.
    pub(super) fn fixed(&mut self, line: u32, word: &str, what: &str) -> Result<String, Fault> {
        let text = self.fill(line, word)?;
        if !text.is_plain() {
            let message = format!(
                "{what} `{word}` is what the default of its variables makes it: {:?}",
                text.value()
            );
            self.remark(line, "argument", message);
        }
        Ok(text.value())
    }

    /// Returns the stage that `--from` or `from=` means: by its name, or by its number.
    pub(super) fn stage(&self, from: &str) -> Option<usize> {
        let lower = from.to_ascii_lowercase();
        let before = &self.shared.stages[..self.index];
        let named = before.iter().rposition(|one| one.name.as_deref() == Some(&lower));
        named.or_else(|| from.parse().ok().filter(|number| *number < self.index))
    }

    /// Reports a path of a stage where nothing stays.
    pub(super) fn gone(&mut self, line: u32, from: &Value, path: &str) {
        let gone = ["/tmp/", "/run/"].iter().any(|gone| path.starts_with(gone));
        if gone && matches!(from, Value::Text(_)) {
            let message = format!(
                "`{path}` is not in the stage any more: of /tmp and /run nothing stays behind a \
                    step; have it made elsewhere"
            );
            self.remark(line, "tmp", message);
        }
    }

    /// Returns what files are taken from: as `from` of a step says it.
    pub(super) fn source(&mut self, line: u32, from: &str) -> Result<Value, Fault> {
        let from = self.fill(line, from)?;
        if let Some(index) = self.stage(&from.value()) {
            self.needs.insert(index);
            return Ok(Value::Text(self.shared.stages[index].title.clone()));
        }
        Ok(Value::Table(vec![("oci", Value::Text(from.written()))]))
    }
}

/// Returns the value of a flag, the last one where there are several.
pub(super) fn flag<'i>(one: &'i Instruction, name: &str) -> Option<&'i str> {
    one.flags.iter().rfind(|flag| flag.name == name).map(|flag| flag.value.as_deref().unwrap_or(""))
}

/// Whether a flag without a value, or `=true`, is there.
pub(super) fn is_on(one: &Instruction, name: &str) -> bool {
    let on = |flag: &Flag| flag.value.as_deref().is_none_or(|value| value == "true");
    one.flags.iter().any(|flag| flag.name == name && on(flag))
}

/// Makes sure that all flags are known.
pub(super) fn known_flags(one: &Instruction, known: &[&str]) -> Result<(), Fault> {
    match one.flags.iter().find(|flag| !known.contains(&flag.name.as_str())) {
        Some(flag) => {
            let fault = Fault::new(one.line, format!("unknown flag `--{}`", flag.name));
            let known: Vec<String> = known.iter().map(|name| format!("--{name}")).collect();
            Err(fault.help(format!("there are {}", known.join(", "))))
        }
        None => Ok(()),
    }
}
