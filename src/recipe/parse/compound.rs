//! Reads the values that are made of several: maps, mounts, ports, what a test starts.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::node::{Node, map_mistake, string_inside, type_name, wrong_entry};
use super::reader::Reader;
use crate::recipe::keys;
use crate::schema::address;
use crate::schema::{
    Check, Checked, Command, Kept, Located, Mistake, MountSource, Placed, Sharing, Start, Targets,
    either, quote, sha256,
};

impl Reader<'_> {
    /// Reads a list for `start`: of strings, one command; with lists and `true` in it, several.
    pub(crate) fn starts(
        &mut self,
        name: &str,
        node: &Node<'_>,
        list: &[Node<'_>],
    ) -> Option<Vec<(Option<String>, Start)>> {
        let several = |entry: &Node<'_>| {
            matches!(entry.get_ref(), DeValue::Array(_) | DeValue::Boolean(true))
        };
        if list.iter().any(several) {
            let all: Vec<Option<Start>> =
                list.iter().map(|entry| self.one_start(name, entry)).collect();
            return all.into_iter().map(|start| Some((None, start?))).collect();
        }
        let words = self.words(name, node)?;
        if words[0].contains(char::is_whitespace) {
            let mistake = Mistake::new("a list of strings is one program with its arguments")
                .label(format!("the program would be called {}", quote(&words[0])))
                .help("several commands are a table: start.web = true, start.db = \"…\"");
            self.report(node.span(), mistake);
            return None;
        }
        Some(vec![(None, Start::Command(Command::Argv(words)))])
    }

    /// Reads a table for `start`: several by their names, in the order written.
    pub(crate) fn named_starts(
        &mut self,
        name: &str,
        node: &Node<'_>,
        table: &DeTable<'_>,
    ) -> Option<Vec<(Option<String>, Start)>> {
        if table.is_empty() {
            self.report(node.span(), Mistake::new(format!("an empty table for \"{name}\"")));
            return None;
        }
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let mut all = vec![];
        for (key, entry) in entries {
            let named = Check::StageName.test(key.get_ref()).map_err(|_| {
                Mistake::new(format!("{} is not a name of a command", quote(key.get_ref()))).help(
                    "1 to 64 of lower-case letters, digits, `_` and `-`, starting with a letter",
                )
            });
            if let Err(mistake) = named {
                self.report(key.span(), mistake);
                all.push(None);
                continue;
            }
            let start = self.one_start(name, entry);
            all.push(start.map(|start| (Some(key.get_ref().to_string()), start)));
        }
        all.into_iter().collect()
    }

    /// Reads one of several that are started.
    fn one_start(&mut self, name: &str, entry: &Node<'_>) -> Option<Start> {
        match entry.get_ref() {
            DeValue::Boolean(true) => Some(Start::Config),
            DeValue::String(_) => self.shell_text(name, entry).map(Start::Command),
            DeValue::Array(_) => {
                self.words(name, entry).map(|words| Start::Command(Command::Argv(words)))
            }
            other => {
                let mistake = wrong_entry(name, "commands or `true`", other);
                let help = "write each as a string for the shell or a list without one: start = \
                    [true, \"redis-server --port 6380\"]";
                self.report(entry.span(), mistake.help(help));
                None
            }
        }
    }

    /// Reads a program with its arguments.
    pub(crate) fn words(&mut self, name: &str, node: &Node<'_>) -> Option<Vec<String>> {
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

    pub(crate) fn map(
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
    pub(crate) fn stage(&mut self, node: &Node<'_>) -> Option<String> {
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
    pub(crate) fn mounts(
        &mut self,
        name: &str,
        table: &DeTable<'_>,
    ) -> Option<BTreeMap<String, MountSource>> {
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
                    let from = self.image_as_stage(&fields, node.span());
                    from.zip(fields.text("path"))
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

    /// Reads the directories that are kept: paths, or tables with more about them.
    pub(crate) fn caches<'n>(
        &mut self,
        name: &str,
        list: impl Iterator<Item = &'n Node<'n>>,
    ) -> Option<Vec<Kept>> {
        let mut caches: Vec<Kept> = vec![];
        let mut whole = true;
        for node in list {
            let kept = match node.get_ref() {
                DeValue::String(_) => self.string(Check::MountPoint, node).map(|to| Kept {
                    to: tidy(&to),
                    id: None,
                    sharing: Sharing::default(),
                }),
                DeValue::Table(table) => {
                    self.unknown_keys(&keys::CACHE, table);
                    let fields = self.fields(&keys::CACHE, node.span(), table);
                    let sharing = fields.text("sharing").as_deref().map(Sharing::named);
                    let right = ["id", "sharing"]
                        .iter()
                        .all(|key| fields.get(key).is_none_or(|field| field.value.is_some()));
                    fields.text("to").filter(|_| right).map(|to| Kept {
                        to: tidy(&to),
                        id: fields.text("id"),
                        sharing: sharing.flatten().unwrap_or_default(),
                    })
                }
                other => {
                    let wanted = "paths or tables such as { to = \"/root/.cache/pip\" }";
                    self.report(node.span(), wrong_entry(name, wanted, other));
                    None
                }
            };
            match kept {
                Some(kept) if caches.iter().any(|other| other.to == kept.to) => {
                    let mistake = Mistake::new(format!("two caches at {}", quote(&kept.to)));
                    self.report(node.span(), mistake);
                    whole = false;
                }
                Some(kept) => caches.push(kept),
                None => whole = false,
            }
        }
        whole.then_some(caches)
    }

    /// Reads a table of targets, in the order written.
    pub(crate) fn targets(
        &mut self,
        name: &str,
        targets: &Targets,
        node: &Node<'_>,
        table: &DeTable<'_>,
    ) -> Option<Vec<Placed>> {
        if table.is_empty() {
            let mistake = Mistake::new(format!("an empty table for \"{name}\""));
            self.report(node.span(), mistake.label("at least one target is needed"));
            return None;
        }
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let all: Vec<Option<Placed>> = entries
            .into_iter()
            .map(|(key, node)| {
                let at = self.target(targets.at, key.get_ref(), key.span());
                let what = self.what_goes_there(name, targets, key.get_ref(), node);
                Some(Placed { at: at?, what: what? })
            })
            .collect();
        all.into_iter().collect()
    }

    /// Reads a target, which may use variables.
    fn target(&mut self, check: Check, text: &str, span: Range<usize>) -> Option<Located> {
        let filled = match self.scope.fill(text) {
            Ok(filled) => filled?,
            Err(mistakes) => {
                for (_, mistake) in mistakes {
                    self.report(span.clone(), mistake);
                }
                return None;
            }
        };
        if let Err(mistake) = check.test(&filled) {
            self.report(span, mistake);
            return None;
        }
        Some(Located { text: filled, span })
    }

    fn what_goes_there(
        &mut self,
        name: &str,
        targets: &Targets,
        at: &str,
        node: &Node<'_>,
    ) -> Option<Vec<Located>> {
        match node.get_ref() {
            DeValue::String(_) => {
                let text = self.string(targets.what, node)?;
                Some(vec![Located { text, span: string_inside(self.source, node) }])
            }
            DeValue::Array(list) if targets.many && !list.is_empty() => {
                self.strings(name, targets.what, node)
            }
            other => {
                let wanted =
                    if targets.many { "a string or a list of strings" } else { "a string" };
                let mistake = Mistake::new(format!(
                    "expected {wanted} for {} in \"{name}\", found {}",
                    quote(at),
                    type_name(other)
                ));
                self.report(node.span(), mistake.label(format!("expected {wanted}")));
                None
            }
        }
    }

    pub(crate) fn ports<'n>(
        &mut self,
        list: impl Iterator<Item = &'n Node<'n>>,
    ) -> Option<Vec<Located>> {
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
                    ports.extend(range.into_iter().map(|text| Located { text, span: node.span() }))
                }
                None => whole = false,
            }
        }
        whole.then_some(ports)
    }

    /// Reads a table of sha256 by architecture and takes ours; that ours is there is for the step
    /// to say, because the step may be off.
    pub(crate) fn sha256_by_arch(&mut self, table: &DeTable<'_>) -> Option<Checked> {
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
            let digest = self.filled(entry).and_then(|text| self.judge(sha256(&text), entry));
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
