//! Reads a TOML table by a [`Section`] of the table of keys: unknown keys, types, substitution and
//! checks, for every key alike.
//!
//! What comes out are [`Fields`], typed by their shape; the rooms for `[image]`, steps and so on
//! only look at how keys fit together. A value that was wrong has been reported and is simply not
//! there, but its key still counts as given.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::check::{self, Check};
use super::keys::{self, Key, Section, Shape};
use super::mistake::{Mistake, Mistakes, Source, either, near, quote};
use super::scope::{Placed, Scope};
use super::{Command, MountSource, Start, address, spot};

/// A spanned value.
pub(super) type Node<'a> = toml::Spanned<DeValue<'a>>;

/// A text and the bytes of the recipe that say it.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) span: Range<usize>,
}

/// A checked value.
#[derive(Debug)]
enum Checked {
    Text(String),
    List(Vec<Said>),
    Boolean(bool),
    Integer(i64),
    Map(BTreeMap<String, String>),
    Command(Command),
    Table(Fields),
    Starts(Vec<Start>),
    Mounts(BTreeMap<String, MountSource>),
}

/// A key that was given.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) key: Range<usize>,
    pub(super) span: Range<usize>,
    value: Option<Checked>,
}

/// The keys of one table.
#[derive(Debug, Default)]
pub(super) struct Fields {
    found: BTreeMap<&'static str, Field>,
}

impl Fields {
    /// Returns the key, right or wrong.
    pub(super) fn get(&self, name: &str) -> Option<&Field> {
        self.found.get(name)
    }

    fn value(&self, name: &str) -> Option<&Checked> {
        self.found.get(name)?.value.as_ref()
    }

    /// Returns a string.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Checked::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// Returns a list's entries; of a single string, that one.
    pub(super) fn entries(&self, name: &str) -> Vec<Said> {
        match (self.value(name), self.get(name)) {
            (Some(Checked::List(list)), _) => list.clone(),
            (Some(Checked::Text(text)), Some(field)) => {
                vec![Said { text: text.clone(), span: field.span.clone() }]
            }
            _ => vec![],
        }
    }

    /// Returns a list's texts; empty where it was not given.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        self.entries(name).into_iter().map(|said| said.text).collect()
    }

    /// Returns a list's texts, if given.
    pub(super) fn given_list(&self, name: &str) -> Option<Vec<String>> {
        self.value(name).map(|_| self.list(name))
    }

    /// Returns a boolean.
    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        match self.value(name)? {
            Checked::Boolean(yes) => Some(*yes),
            _ => None,
        }
    }

    /// Returns an integer; its bounds were checked.
    pub(super) fn integer<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        match self.value(name)? {
            Checked::Integer(number) => T::try_from(*number).ok(),
            _ => None,
        }
    }

    /// Returns names and texts; empty where it was not given.
    pub(super) fn map(&self, name: &str) -> BTreeMap<String, String> {
        match self.value(name) {
            Some(Checked::Map(map)) => map.clone(),
            _ => BTreeMap::new(),
        }
    }

    /// Returns a command.
    pub(super) fn command(&self, name: &str) -> Option<Command> {
        match self.value(name)? {
            Checked::Command(command) => Some(command.clone()),
            _ => None,
        }
    }

    /// Returns what a test starts; empty where it was not given.
    pub(super) fn starts(&self, name: &str) -> Vec<Start> {
        match self.value(name) {
            Some(Checked::Starts(starts)) => starts.clone(),
            _ => vec![],
        }
    }

    /// Returns what is mounted where; empty where it was not given.
    pub(super) fn mounts(&self, name: &str) -> BTreeMap<String, MountSource> {
        match self.value(name) {
            Some(Checked::Mounts(mounts)) => mounts.clone(),
            _ => BTreeMap::new(),
        }
    }

    /// Returns a duration.
    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        check::duration(&self.text(name)?).ok()
    }

    /// Returns permission bits.
    pub(super) fn mode(&self, name: &str) -> Option<u32> {
        check::mode(&self.text(name)?).ok()
    }

    /// Returns a table's keys.
    pub(super) fn table(&self, name: &str) -> Option<&Fields> {
        match self.value(name)? {
            Checked::Table(fields) => Some(fields),
            _ => None,
        }
    }
}

/// What reading needs to know and to report to.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) source: &'a Source,
    pub(super) scope: &'a Scope,
    pub(super) arch: &'a str,
    /// The stages of the recipe.
    pub(super) stages: BTreeSet<String>,
    /// Those that were named so far, also by what is off or wrong otherwise.
    pub(super) named: BTreeSet<String>,
    pub(super) mistakes: &'a mut Mistakes,
}

impl Reader<'_> {
    /// Adds a mistake.
    pub(super) fn report(&mut self, span: Range<usize>, mistake: Mistake) {
        self.mistakes.add(self.source, span, mistake);
    }

    /// Reads a value that must be a table of this section, at `key`.
    pub(super) fn section(
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
    pub(super) fn fields(
        &mut self,
        section: &'static Section,
        place: Range<usize>,
        table: &DeTable<'_>,
    ) -> Fields {
        let mut fields = Fields::default();
        for key in section.keys {
            if let Some((name, node)) = table.get_key_value(key.name) {
                let span = string_inside(self.source, node);
                let value = self.value(key, node);
                fields.found.insert(key.name, Field { key: name.span(), span, value });
            } else if key.required && !misspelt(section, key.name, table) {
                let mistake = Mistake::new(format!("{} without `{}`", section.title, key.name))
                    .label(format!("`{}` is missing", key.name));
                self.report(place.clone(), mistake.help(key.doc));
            }
        }
        fields
    }

    /// Reports keys that the section does not have.
    fn unknown_keys(&mut self, section: &Section, table: &DeTable<'_>) {
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

    fn value(&mut self, key: &'static Key, node: &Node<'_>) -> Option<Checked> {
        let name = key.name;
        match (key.shape, node.get_ref()) {
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
            (Shape::Start, DeValue::Boolean(true)) => Some(Checked::Starts(vec![Start::Config])),
            (Shape::Start, DeValue::String(_)) => {
                let command = self.shell_text(name, node)?;
                Some(Checked::Starts(vec![Start::Command(command)]))
            }
            (Shape::Start, DeValue::Array(list)) => {
                self.starts(name, node, list).map(Checked::Starts)
            }
            (Shape::Shell, DeValue::String(_)) => {
                let text = self.string(Check::Any, node)?;
                let words: &[&str] = match text.as_str() {
                    "sh" => &["/bin/sh", "-eu", "-c"],
                    "bash" => &["/bin/bash", "-euo", "pipefail", "-c"],
                    _ => {
                        let mistake = Mistake::new(format!("unknown shell {}", quote(&text)))
                            .suggest(&text, ["sh", "bash"]);
                        let help = "it is \"sh\", \"bash\" or the whole list, such as [\"/bin/sh\", \"-c\"]";
                        self.report(string_inside(self.source, node), mistake.help(help));
                        return None;
                    }
                };
                let span = node.span();
                Some(Checked::List(
                    words
                        .iter()
                        .map(|w| Said { text: (*w).to_owned(), span: span.clone() })
                        .collect(),
                ))
            }
            (Shape::Shell, DeValue::Array(_)) => {
                let words = self.words(name, node)?;
                Some(Checked::List(
                    words.into_iter().map(|text| Said { text, span: node.span() }).collect(),
                ))
            }
            (Shape::Map(check), DeValue::Table(table)) => {
                self.map(name, check, table).map(Checked::Map)
            }
            (Shape::Stage, DeValue::String(_)) => self.stage(node).map(Checked::Text),
            (Shape::Mounts, DeValue::Table(table)) => self.mounts(name, table).map(Checked::Mounts),
            (Shape::Ports, DeValue::Array(list)) => self.ports(list.iter()).map(Checked::List),
            (Shape::Sha256, DeValue::String(_)) => {
                let text = self.string(Check::Any, node)?;
                self.judge(check::sha256(&text), node).map(Checked::Text)
            }
            (Shape::Sha256, DeValue::Table(table)) => self.sha256_by_arch(table),
            (Shape::Table(section), DeValue::Table(table)) => {
                self.unknown_keys(section, table);
                Some(Checked::Table(self.fields(section, node.span(), table)))
            }
            (shape, other) => {
                self.report(node.span(), self.type_mistake(key, shape, node, other));
                None
            }
        }
    }

    fn type_mistake(
        &self,
        key: &Key,
        shape: Shape,
        node: &Node<'_>,
        found: &DeValue<'_>,
    ) -> Mistake {
        let name = key.name;
        let mistake = wrong_type(name, wanted(shape), found);
        let written = self.source.slice(&node.span());
        match (shape, found) {
            (Shape::Text(Check::Duration), DeValue::Integer(_)) => {
                mistake.help(format!("write a duration with its unit: {name} = \"{written}s\""))
            }
            (Shape::Text(Check::Mode), DeValue::Integer(n)) => {
                mistake.help(format!("write a mode as a string: {name} = \"0{}\"", n.as_str()))
            }
            (Shape::Text(_), DeValue::Boolean(_)) if name == "when" => mistake.help(format!("write when = \"{written}\"")),
            (Shape::Text(_), DeValue::Integer(_) | DeValue::Float(_)) => {
                mistake.help(format!("write it in quotes: {name} = \"{written}\""))
            }
            (Shape::List(_) | Shape::Ports, DeValue::String(_) | DeValue::Integer(_)) if written.len() <= 60 && !written.contains('\n') => {
                mistake.help(match name {
                    "cmd" | "entrypoint" => {
                        format!("a program and its arguments, each in quotes; for a shell: {name} = [\"/bin/sh\", \"-c\", {written}]")
                    }
                    _ => format!("write {name} = [{written}]"),
                })
            }
            (Shape::Boolean, DeValue::String(text)) if matches!(text.as_ref(), "true" | "false") => {
                mistake.help(format!("write {name} = {text}"))
            }
            (Shape::Integer(..), DeValue::String(text)) if text.parse::<i64>().is_ok() => mistake.help(format!("write {name} = {text}")),
            _ => mistake,
        }
    }

    /// Reads a string: substituted, then checked.
    fn string(&mut self, check: Check, node: &Node<'_>) -> Option<String> {
        let text = self.filled(node)?;
        self.judge(check.test(&text).map(|()| text), node)
    }

    /// Reads a string without any check.
    fn filled(&mut self, node: &Node<'_>) -> Option<String> {
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
    pub(super) fn decide(&mut self, node: &Node<'_>) -> Option<bool> {
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

    fn judge<T>(&mut self, result: Result<T, Mistake>, node: &Node<'_>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(mistake) => {
                self.report(string_inside(self.source, node), mistake);
                None
            }
        }
    }

    /// Reads a list of strings; `None` if any entry was wrong.
    fn strings(&mut self, name: &str, check: Check, node: &Node<'_>) -> Option<Vec<Said>> {
        let mut list = vec![];
        let mut whole = true;
        for entry in node.get_ref().as_array()? {
            match entry.get_ref() {
                DeValue::String(_) => match self.string(check, entry) {
                    Some(text) => list.push(Said { text, span: string_inside(self.source, entry) }),
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
    fn shell_text(&mut self, name: &str, node: &Node<'_>) -> Option<Command> {
        let text = self.string(Check::Any, node)?;
        if text.trim().is_empty() {
            self.report(node.span(), Mistake::new(format!("an empty command for \"{name}\"")));
            return None;
        }
        Some(Command::Shell(text))
    }

    /// Reads a list for `start`: of strings, one command; of lists (and `true`), several.
    fn starts(&mut self, name: &str, node: &Node<'_>, list: &[Node<'_>]) -> Option<Vec<Start>> {
        if !list
            .iter()
            .any(|entry| matches!(entry.get_ref(), DeValue::Array(_) | DeValue::Boolean(true)))
        {
            let words = self.words(name, node)?;
            return Some(vec![Start::Command(Command::Argv(words))]);
        }
        let mut starts = vec![];
        let mut whole = true;
        for entry in list {
            let start = match entry.get_ref() {
                DeValue::Boolean(true) => Some(Start::Config),
                DeValue::Array(_) => {
                    self.words(name, entry).map(|words| Start::Command(Command::Argv(words)))
                }
                other => {
                    let help = "write each as a list of its own: start = [true, [\"redis-server\"], [\"sh\", \"-c\", \"…\"]]";
                    self.report(
                        entry.span(),
                        wrong_entry(name, "lists or `true`", other).help(help),
                    );
                    None
                }
            };
            whole &= start.is_some();
            starts.extend(start);
        }
        whole.then_some(starts)
    }

    /// Reads a program with its arguments.
    fn words(&mut self, name: &str, node: &Node<'_>) -> Option<Vec<String>> {
        let words: Vec<String> =
            self.strings(name, Check::Argument, node)?.into_iter().map(|s| s.text).collect();
        if words.first().is_none_or(String::is_empty) {
            self.report(
                node.span(),
                Mistake::new(format!("\"{name}\" without a program"))
                    .label("the first entry is the program"),
            );
            return None;
        }
        Some(words)
    }

    fn map(
        &mut self,
        name: &str,
        check: Check,
        table: &DeTable<'_>,
    ) -> Option<BTreeMap<String, String>> {
        let mut map = BTreeMap::new();
        let mut whole = true;
        for (key, node) in table {
            let key_name: &str = key.get_ref();
            if let Err(mistake) = check.test(key_name) {
                self.report(key.span(), mistake);
                whole = false;
            }
            let text = match node.get_ref() {
                DeValue::String(_) => self.string(Check::Any, node),
                DeValue::Integer(number) => {
                    match i64::from_str_radix(number.as_str(), number.radix()) {
                        Ok(number) => Some(number.to_string()),
                        Err(_) => {
                            self.report(
                                node.span(),
                                Mistake::new("an integer out of range").help("write it in quotes"),
                            );
                            None
                        }
                    }
                }
                other => {
                    self.report(
                        node.span(),
                        map_mistake(name, key_name, self.source.slice(&node.span()), other),
                    );
                    None
                }
            };
            match text {
                Some(text) => drop(map.insert(key_name.to_owned(), text)),
                None => whole = false,
            }
        }
        whole.then_some(map)
    }

    /// Reads the name of a stage, which must be there.
    fn stage(&mut self, node: &Node<'_>) -> Option<String> {
        let name = self.filled(node)?;
        if self.stages.contains(&name) {
            self.named.insert(name.clone());
            return Some(name);
        }
        let mistake = if name.contains('/') || name.starts_with('.') {
            Mistake::new(format!("{} is a path; the name of a stage is needed", quote(&name)))
                .label("a name of a `[stage.NAME.base]`")
        } else {
            Mistake::new(format!("there is no stage {}", quote(&name)))
                .suggest(&name, self.stages.iter().map(String::as_str))
        };
        let mistake = match (mistake.has_label(), self.stages.is_empty()) {
            (_, true) => mistake.help("a stage starts with `[stage.NAME.base]`"),
            (true, false) => mistake,
            (false, false) => mistake.help(format!(
                "the stages are {}",
                either(self.stages.iter().map(String::as_str)).replace(" or ", " and ")
            )),
        };
        self.report(string_inside(self.source, node), mistake);
        None
    }

    /// Reads what is mounted where; the places without needless slashes.
    fn mounts(&mut self, name: &str, table: &DeTable<'_>) -> Option<BTreeMap<String, MountSource>> {
        let mut mounts = BTreeMap::new();
        let mut whole = true;
        for (key, node) in table {
            let place: &str = key.get_ref();
            if let Err(mistake) = Check::MountPoint.test(place) {
                self.report(key.span(), mistake);
                whole = false;
            }
            let source = match node.get_ref() {
                DeValue::String(_) => {
                    self.string(Check::Context, node).map(|path| MountSource::Context(path.into()))
                }
                DeValue::Table(table) => {
                    self.unknown_keys(&keys::MOUNT_FROM, table);
                    let fields = self.fields(&keys::MOUNT_FROM, key.span(), table);
                    fields
                        .text("from")
                        .zip(fields.text("path"))
                        .map(|(stage, path)| MountSource::Stage { stage, path: tidy(&path) })
                }
                other => {
                    let mistake = Mistake::new(format!(
                        "expected a path or a table for \"{name}.{place}\", found {}",
                        type_name(other)
                    ));
                    let help =
                        "write a path of the context, or { from = \"stage\", path = \"/…\" }";
                    self.report(node.span(), mistake.help(help));
                    None
                }
            };
            let Some(source) = source else {
                whole = false;
                continue;
            };
            if mounts.insert(tidy(place), source).is_some() {
                self.report(
                    key.span(),
                    Mistake::new(format!("two mounts at {}", quote(&tidy(place)))),
                );
                whole = false;
            }
        }
        whole.then_some(mounts)
    }

    fn ports<'n>(&mut self, list: impl Iterator<Item = &'n Node<'n>>) -> Option<Vec<Said>> {
        let mut ports = vec![];
        let mut whole = true;
        for node in list {
            let port = match node.get_ref() {
                DeValue::Integer(number) => self.judge(address::ports(number.as_str()), node),
                DeValue::String(_) => {
                    self.filled(node).and_then(|text| self.judge(address::ports(&text), node))
                }
                other => {
                    self.report(
                        node.span(),
                        wrong_entry("ports", "integers or strings such as \"53/udp\"", other),
                    );
                    None
                }
            };
            match port {
                Some(range) => {
                    ports.extend(range.into_iter().map(|text| Said { text, span: node.span() }))
                }
                None => whole = false,
            }
        }
        whole.then_some(ports)
    }

    /// Reads a table of sha256 by architecture and takes ours; that ours is there is for the step
    /// to say, because the step may be off.
    fn sha256_by_arch(&mut self, table: &DeTable<'_>) -> Option<Checked> {
        let mut ours = None;
        for (key, entry) in table {
            let name: &str = key.get_ref();
            if !ARCHES.contains(&name) && name != self.arch {
                let mistake = Mistake::new(format!("unknown architecture {}", quote(name)))
                    .suggest(name, ARCHES.iter().copied());
                let help = format!("OCI calls them {}", either(ARCHES.iter().copied()));
                self.report(
                    key.span(),
                    if mistake.has_label() { mistake } else { mistake.help(help) },
                );
            }
            let DeValue::String(_) = entry.get_ref() else {
                self.report(entry.span(), wrong_entry("sha256", "strings", entry.get_ref()));
                continue;
            };
            let digest =
                self.filled(entry).and_then(|text| self.judge(check::sha256(&text), entry));
            if name == self.arch {
                ours = Some(digest);
            }
        }
        match ours {
            Some(digest) => digest.map(Checked::Text),
            // An empty list stands for "none for this architecture".
            None => Some(Checked::List(vec![])),
        }
    }
}

/// Returns an absolute path without needless slashes and dots.
fn tidy(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    format!("/{}", parts.join("/"))
}

/// OCI architectures.
const ARCHES: &[&str] =
    &["amd64", "arm64", "arm", "386", "riscv64", "ppc64le", "s390x", "loong64", "mips64le"];

/// Returns the span of a value; of a string, without its quotes.
pub(super) fn string_inside(source: &Source, node: &Node<'_>) -> Range<usize> {
    match node.get_ref() {
        DeValue::String(text) if !text.is_empty() => place_inside(source, node, 0..text.len()),
        _ => node.span(),
    }
}

/// Returns the bytes of the recipe that say a part of a string.
fn place_inside(source: &Source, node: &Node<'_>, part: Range<usize>) -> Range<usize> {
    let span = node.span();
    let text = node.get_ref().as_str().unwrap_or_default();
    match spot::inside(source.slice(&span), text, part) {
        Some(place) => span.start + place.start..span.start + place.end,
        None => span,
    }
}

/// Whether a key of the table is a slip for this one, and reported as such.
pub(super) fn misspelt(section: &Section, name: &str, table: &DeTable<'_>) -> bool {
    let known = || section.keys.iter().map(|k| k.name);
    table.keys().any(|key| {
        section.key(key.get_ref()).is_none() && near(key.get_ref(), known()) == Some(name)
    })
}

fn map_mistake(map: &str, key: &str, written: &str, found: &DeValue<'_>) -> Mistake {
    let mistake = Mistake::new(format!(
        "expected a string or an integer for \"{map}.{key}\", found {}",
        type_name(found)
    ));
    match found {
        DeValue::Boolean(_) => {
            let mistake = mistake.label("booleans are refused here");
            match map == "env" && super::keys::KINDS.iter().any(|kind| kind.key(key).is_some()) {
                true => mistake.help(format!(
                    "`{key}` is a key of the step, but after `[step.env]` every line is an environment variable: write `env.NAME = …` in the step, or put `{key}` above `[step.env]`"
                )),
                false => mistake.help(format!("write the text that is meant: {key} = \"{written}\"")),
            }
        }
        DeValue::Float(_) | DeValue::Datetime(_) => {
            mistake.help(format!("write it in quotes: {key} = \"{written}\""))
        }
        _ => mistake,
    }
}

/// Returns what TOML calls a value, with its article.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date-time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn wanted(shape: Shape) -> &'static str {
    match shape {
        Shape::Text(_) | Shape::Choice(_) | Shape::Stage => "a string",
        Shape::List(_) => "a list of strings",
        Shape::OneOrMany(_) | Shape::Command | Shape::Shell => "a string or a list of strings",
        Shape::Boolean | Shape::Yes => "a boolean",
        Shape::Integer(..) => "an integer",
        Shape::Map(_) | Shape::Table(_) | Shape::Mounts => "a table",
        Shape::Ports => "a list",
        Shape::Sha256 => "a string or a table by architecture",
        Shape::Start => "`true`, a string or a list",
    }
}

/// The mistake of a value of a wrong type.
pub(super) fn wrong_type(name: &str, wanted: &str, found: &DeValue<'_>) -> Mistake {
    Mistake::new(format!("expected {wanted} for \"{name}\", found {}", type_name(found)))
        .label(format!("expected {wanted}"))
}

fn wrong_entry(name: &str, wanted: &str, found: &DeValue<'_>) -> Mistake {
    Mistake::new(format!("expected {wanted} in \"{name}\", found {}", type_name(found)))
        .label(format!("expected {wanted}"))
}

/// The mistake of a key that a place does not have.
pub(super) fn unknown_key<'k>(
    name: &str,
    place: &str,
    known: impl Iterator<Item = &'k str> + Clone,
) -> Mistake {
    let mistake = Mistake::new(format!("unknown key {} in {place}", quote(name)))
        .suggest(name, known.clone());
    match mistake.has_label() {
        true => mistake,
        false => mistake
            .label("not a key here")
            .help(format!("{place} takes {}", either(known).replace(" or ", " and "))),
    }
}

/// The mistake of something that only a later version has.
pub(super) fn later(what: &str) -> Mistake {
    Mistake::new(format!("unknown key: {what}"))
        .label("not built yet")
        .help("this version of bake does not have it yet")
}
