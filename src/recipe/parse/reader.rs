//! Reads a TOML table by a [`Section`] of the tables of keys: unknown keys, types, substitution and
//! checks, for every key alike.
//!
//! What comes out are [`Fields`], typed by their shape; the files for `[image]`, steps and so on
//! only look at how keys fit together.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::including::Including;
use super::node::{
    Node, beside_targets, later, misspelt, not_a_network, place_inside, string_inside, unknown_key,
    wanted, wrong_entry, wrong_type,
};
use crate::recipe::keys;
use crate::recipe::model::Stage;
use crate::recipe::vars::{Placed, Scope};
use crate::schema::{
    Check, Checked, Command, Field, Fields, Located, Mistake, Mistakes, Section, Shape, Source,
    Start, Targets, either, quote, sha256,
};

/// What reading needs to know and to report to.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) source: &'a Source,
    pub(crate) scope: &'a Scope,
    pub(crate) arch: &'a str,
    /// The stages of the recipe.
    pub(crate) stages: BTreeSet<String>,
    /// Those that were named so far, also by what is off or wrong otherwise.
    pub(crate) named: BTreeSet<String>,
    /// The images that files are taken from, as stages, by the names of these.
    pub(crate) images: BTreeMap<String, Stage>,
    /// The included file that this is, and what such files need and have.
    pub(crate) including: Including,
    /// What is read now takes files of a stage or an image, not of the context.
    pub(crate) of_stage: bool,
    pub(crate) mistakes: &'a mut Mistakes,
}

impl<'a> Reader<'a> {
    /// Begins to read what is in `source`, where the names of `scope` are known.
    pub(crate) fn new(
        source: &'a Source,
        scope: &'a Scope,
        arch: &'a str,
        mistakes: &'a mut Mistakes,
    ) -> Self {
        Reader {
            source,
            scope,
            arch,
            stages: BTreeSet::new(),
            named: BTreeSet::new(),
            images: BTreeMap::new(),
            including: Including::default(),
            of_stage: false,
            mistakes,
        }
    }

    /// Adds a mistake.
    pub(crate) fn report(&mut self, span: Range<usize>, mistake: Mistake) {
        self.mistakes.add(self.source, span, mistake);
    }

    /// Reads a value that must be a table of this section, at `key`.
    pub(crate) fn section(
        &mut self,
        section: &'static Section,
        key: Range<usize>,
        node: &Node<'_>,
    ) -> Option<Fields> {
        match node.get_ref() {
            DeValue::Table(table) => {
                self.unknown_keys(section, table);
                Some(self.fields(section, key, table))
            }
            DeValue::Array(_) => {
                let help = format!(
                    "write `[{}]` with single brackets; only steps and tests are lists",
                    section.name
                );
                self.report(
                    key,
                    Mistake::new(format!("expected a table for {}, found a list", section.title))
                        .help(help),
                );
                None
            }
            other => {
                self.report(node.span(), wrong_type(section.name, "a table", other));
                None
            }
        }
    }

    /// Reads the section's keys of a table, and reports the required ones that are missing at
    /// `place`.
    pub(crate) fn fields(
        &mut self,
        section: &'static Section,
        place: Range<usize>,
        table: &DeTable<'_>,
    ) -> Fields {
        let mut fields = Fields::default();
        let of_stage = std::mem::replace(&mut self.of_stage, table.contains_key("from"));
        let targets = section.keys.iter().find(|key| {
            let table = table.get(key.name).is_some_and(|node| node.get_ref().is_table());
            matches!(key.shape, Shape::Targets(_)) && table
        });
        for key in section.keys {
            let beside = targets.filter(|_| key.of_one);
            if let Some((name, node)) = table.get_key_value(key.name) {
                if let Some(targets) = beside {
                    self.report(name.span(), beside_targets(key.name, targets.name));
                }
                let span = string_inside(self.source, node);
                let value = self.value(key.name, key.shape, node);
                fields.found.insert(key.name, Field { key: name.span(), span, value });
            } else if key.required && beside.is_none() && !misspelt(section, key.name, table) {
                let mistake = Mistake::new(format!("{} without `{}`", section.title, key.name))
                    .label(format!("`{}` is missing", key.name));
                self.report(place.clone(), mistake.help(key.doc));
            }
        }
        self.of_stage = of_stage;
        fields
    }

    /// Reports keys that the section does not have.
    pub(crate) fn unknown_keys(&mut self, section: &Section, table: &DeTable<'_>) {
        for (key, _) in table {
            let name: &str = key.get_ref();
            if section.key(name).is_none() {
                let mistake = match section.later.contains(&name) {
                    true => later(&format!("`{name}` in {}", section.title)),
                    false => unknown_key(name, section.title, section.keys.iter().map(|k| k.name)),
                };
                self.report(key.span(), mistake);
            }
        }
    }

    fn value(&mut self, name: &str, shape: Shape, node: &Node<'_>) -> Option<Checked> {
        match (shape, node.get_ref()) {
            (Shape::Targets(targets), DeValue::Table(table)) => {
                self.targets(name, targets, node, table).map(Checked::Targets)
            }
            (Shape::Targets(targets), _) => self.value(name, targets.one, node),
            (Shape::Text(check) | Shape::OneOrMany(check), DeValue::String(_)) => {
                self.string(check, node).map(Checked::Text)
            }
            (Shape::List(check), DeValue::Array(_)) => {
                self.strings(name, check, node).map(Checked::List)
            }
            (Shape::OneOrMany(check), DeValue::Array(list)) => {
                if list.is_empty() {
                    self.report(
                        node.span(),
                        Mistake::new(format!("an empty list for \"{name}\""))
                            .label("at least one is needed"),
                    );
                    return None;
                }
                self.strings(name, check, node).map(Checked::List)
            }
            (Shape::Boolean, DeValue::Boolean(yes)) => Some(Checked::Boolean(*yes)),
            (Shape::Yes, DeValue::Boolean(true)) => Some(Checked::Boolean(true)),
            (Shape::Yes | Shape::Start, DeValue::Boolean(false)) => {
                self.report(
                    node.span(),
                    Mistake::new(format!("\"{name}\" can only be true"))
                        .help(format!("leave `{name}` out instead")),
                );
                None
            }
            (Shape::Integer(low, high), DeValue::Integer(number)) => {
                let found = i64::from_str_radix(number.as_str(), number.radix())
                    .ok()
                    .filter(|n| (low..=high).contains(n));
                if found.is_none() {
                    let text = self.source.slice(&node.span()).to_owned();
                    self.report(
                        node.span(),
                        Mistake::new(format!("{text} is out of range for \"{name}\""))
                            .label(format!("{low} to {high}")),
                    );
                }
                found.map(Checked::Integer)
            }
            (Shape::Choice(choices), DeValue::String(_)) => {
                let text = self.string(Check::Any, node)?;
                if choices.contains(&text.as_str()) {
                    return Some(Checked::Text(text));
                }
                let mistake = Mistake::new(format!("unknown {name} {}", quote(&text)));
                let mistake = mistake
                    .suggest(&text, choices.iter().copied())
                    .help(format!("it is one of {}", either(choices.iter().copied())));
                self.report(string_inside(self.source, node), mistake);
                None
            }
            (Shape::Command, DeValue::String(_)) => {
                self.shell_text(name, node).map(Checked::Command)
            }
            (Shape::Command, DeValue::Array(_)) => {
                let words = self.words(name, node)?;
                Some(Checked::Command(Command::Argv(words)))
            }
            (Shape::Start, DeValue::Boolean(true)) => {
                Some(Checked::Starts(vec![(None, Start::Config)]))
            }
            (Shape::Start, DeValue::String(_)) => {
                let command = self.shell_text(name, node)?;
                Some(Checked::Starts(vec![(None, Start::Command(command))]))
            }
            (Shape::Start, DeValue::Array(list)) => {
                self.starts(name, node, list).map(Checked::Starts)
            }
            (Shape::Start, DeValue::Table(table)) => {
                self.named_starts(name, node, table).map(Checked::Starts)
            }
            (Shape::Network, DeValue::Boolean(yes)) => Some(Checked::Boolean(*yes)),
            (Shape::Network, DeValue::Array(_)) => {
                self.strings(name, Check::Reachable, node).map(Checked::List)
            }
            (Shape::Network, DeValue::String(_)) => {
                let text = self.string(Check::Any, node)?;
                if text == "host" {
                    return Some(Checked::Text(text));
                }
                self.report(string_inside(self.source, node), not_a_network(name, &text));
                None
            }
            (Shape::Shell, DeValue::String(_)) => {
                let text = self.string(Check::Any, node)?;
                let words: &[&str] = match text.as_str() {
                    "sh" => &["/bin/sh", "-eu", "-c"],
                    "bash" => &["/bin/bash", "-euo", "pipefail", "-c"],
                    _ => {
                        let mistake = Mistake::new(format!("unknown shell {}", quote(&text)))
                            .suggest(&text, ["sh", "bash"]);
                        let help = "it is \"sh\", \"bash\" or the whole list, such as \
                            [\"/bin/sh\", \"-c\"]";
                        self.report(string_inside(self.source, node), mistake.help(help));
                        return None;
                    }
                };
                let span = node.span();
                Some(Checked::List(
                    words
                        .iter()
                        .map(|w| Located { text: (*w).to_owned(), span: span.clone() })
                        .collect(),
                ))
            }
            (Shape::Shell, DeValue::Array(_)) => {
                let words = self.words(name, node)?;
                Some(Checked::List(
                    words.into_iter().map(|text| Located { text, span: node.span() }).collect(),
                ))
            }
            (Shape::Map(check), DeValue::Table(table)) => {
                self.map(name, check, table).map(Checked::Map)
            }
            (Shape::Lists(at, what), DeValue::Table(table)) => {
                let one = Shape::Text(what);
                let targets = Targets { one, at, what, many: true };
                self.targets(name, &targets, node, table).map(Checked::Targets)
            }
            (Shape::Data, DeValue::Table(_)) => self.data(node).map(Checked::Data),
            // The step reads them by the variables of the file that it includes.
            (Shape::Vars, DeValue::Table(_)) => None,
            (Shape::Stage | Shape::From, DeValue::String(_)) => self.stage(node).map(Checked::Text),
            (Shape::From, DeValue::Table(table)) => {
                self.unknown_keys(&keys::FROM, table);
                let fields = self.fields(&keys::FROM, node.span(), table);
                self.image_as_stage(&fields, node.span()).map(Checked::Text)
            }
            (Shape::Mounts, DeValue::Table(table)) => self.mounts(name, table).map(Checked::Mounts),
            (Shape::Caches, DeValue::Array(list)) => {
                self.caches(name, list.iter()).map(Checked::Caches)
            }
            (Shape::Ports, DeValue::Array(list)) => self.ports(list.iter()).map(Checked::List),
            (Shape::Sha256, DeValue::String(_)) => {
                let text = self.string(Check::Any, node)?;
                self.judge(sha256(&text), node).map(Checked::Text)
            }
            (Shape::Sha256, DeValue::Table(table)) => self.sha256_by_arch(table),
            (Shape::Table(section), DeValue::Table(table)) => {
                self.unknown_keys(section, table);
                Some(Checked::Table(self.fields(section, node.span(), table)))
            }
            (shape, other) => {
                self.report(node.span(), self.type_mistake(name, shape, node, other));
                None
            }
        }
    }

    fn type_mistake(
        &self,
        name: &str,
        shape: Shape,
        node: &Node<'_>,
        found: &DeValue<'_>,
    ) -> Mistake {
        let mistake = wrong_type(name, wanted(shape), found);
        let written = self.source.slice(&node.span());
        match (shape, found) {
            (Shape::Text(Check::Duration), DeValue::Integer(_)) => {
                mistake.help(format!("write a duration with its unit: {name} = \"{written}s\""))
            }
            (Shape::Text(Check::Mode), DeValue::Integer(n)) => {
                mistake.help(format!("write a mode as a string: {name} = \"0{}\"", n.as_str()))
            }
            (Shape::Text(_), DeValue::Boolean(_)) if name == "when" => mistake.help(format!(
                "write \
                when = \"{written}\""
            )),
            (Shape::Text(_), DeValue::Integer(_) | DeValue::Float(_)) => {
                mistake.help(format!("write it in quotes: {name} = \"{written}\""))
            }
            (Shape::List(_) | Shape::Ports, DeValue::String(_) | DeValue::Integer(_))
                if written.len() <= 60 && !written.contains('\n') =>
            {
                mistake.help(match name {
                    "cmd" | "entrypoint" => {
                        format!(
                            "a program and its arguments, each in quotes; for a shell: {name} \
                            = [\"/bin/sh\", \"-c\", {written}]"
                        )
                    }
                    _ => format!("write {name} = [{written}]"),
                })
            }
            (Shape::Boolean, DeValue::String(text))
                if matches!(text.as_ref(), "true" | "false") =>
            {
                mistake.help(format!("write {name} = {text}"))
            }
            (Shape::Integer(..), DeValue::String(text)) if text.parse::<i64>().is_ok() => {
                mistake.help(format!("write {name} = {text}"))
            }
            _ => mistake,
        }
    }

    /// Reads a string: substituted, then checked.
    pub(crate) fn string(&mut self, check: Check, node: &Node<'_>) -> Option<String> {
        let text = self.filled(node)?;
        let text = self.including.of_context(check, self.of_stage, text);
        self.judge(check.test(&text).map(|()| text), node)
    }

    /// Reads a string without any check.
    pub(crate) fn filled(&mut self, node: &Node<'_>) -> Option<String> {
        let text = node.get_ref().as_str()?;
        match self.scope.fill(text) {
            Ok(filled) => filled,
            Err(mistakes) => {
                for placed in mistakes {
                    self.inside(node, placed);
                }
                None
            }
        }
    }

    /// Decides a `when`; `None` where it is not decided because of a mistake.
    pub(crate) fn decide(&mut self, node: &Node<'_>) -> Option<bool> {
        match self.scope.decide(node.get_ref().as_str()?) {
            Ok(decision) => decision,
            Err(placed) => {
                self.inside(node, placed);
                None
            }
        }
    }

    /// Reports a mistake at its place inside a string.
    fn inside(&mut self, node: &Node<'_>, (part, mistake): Placed) {
        if self.mistakes.full() {
            return;
        }
        self.report(place_inside(self.source, node, part), mistake);
    }

    pub(crate) fn judge<T>(&mut self, result: Result<T, Mistake>, node: &Node<'_>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(mistake) => {
                self.report(string_inside(self.source, node), mistake);
                None
            }
        }
    }

    /// Reads a list of strings; `None` if any entry was wrong.
    pub(crate) fn strings(
        &mut self,
        name: &str,
        check: Check,
        node: &Node<'_>,
    ) -> Option<Vec<Located>> {
        let mut list = vec![];
        let mut whole = true;
        for entry in node.get_ref().as_array()? {
            match entry.get_ref() {
                DeValue::String(_) => match self.string(check, entry) {
                    Some(text) => {
                        list.push(Located { text, span: string_inside(self.source, entry) })
                    }
                    None => whole = false,
                },
                other => {
                    whole = false;
                    self.report(entry.span(), wrong_entry(name, "strings", other));
                }
            }
        }
        whole.then_some(list)
    }

    /// Reads a command for the shell.
    pub(crate) fn shell_text(&mut self, name: &str, node: &Node<'_>) -> Option<Command> {
        let text = self.string(Check::Any, node)?;
        if text.trim().is_empty() {
            self.report(node.span(), Mistake::new(format!("an empty command for \"{name}\"")));
            return None;
        }
        Some(Command::Shell(text))
    }
}
