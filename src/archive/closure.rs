//! The minimal set of packages, and everything it depends on: no solver, but the few rules that
//! Debian's own set needs.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use crate::deb::index::{Catalog, Found};
use crate::deb::stanza::field;
use crate::deb::version;

/// Why no set could be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unmet {
    /// A package that must be there is not.
    #[error("the archive has no package {0}")]
    Missing(String),
    /// A dependency cannot be satisfied.
    #[error("{package} depends on {clause}, which the archive cannot satisfy")]
    Dependency {
        /// Who depends.
        package: String,
        /// On what.
        clause: String,
    },
    /// The archive names no essential package at all.
    #[error("the archive has no essential packages")]
    Empty,
    /// An index cannot be read.
    #[error("cannot read a package index")]
    Read(#[from] io::Error),
}

/// One way to satisfy a dependency: a name and perhaps a version.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Alternative<'a> {
    name: &'a str,
    relation: Option<(&'a str, &'a str)>,
    foreign: bool,
}

/// What is to be selected first.
#[derive(Debug, Clone, Copy)]
pub enum Want {
    /// Essential, required, and apt.
    Minimal,
    /// Essential only.
    Essential,
}

/// Returns the set for `want`, by name, with the newest version of each package. `drop`: names
/// never chosen. `arch`: Debian's name.
pub fn close(
    catalog: &Catalog,
    want: Want,
    arch: &str,
    drop: &[&str],
) -> Result<BTreeMap<String, Found>, Unmet> {
    let mut set = Set {
        catalog,
        arch,
        drop,
        chosen: BTreeMap::new(),
        provided: BTreeMap::new(),
        queue: VecDeque::new(),
    };
    let mut any = false;
    for name in catalog.roots() {
        let Some(found) = catalog.newest(name)? else { continue };
        let essential = field(&found.stanza, "Essential") == Some("yes");
        let required = field(&found.stanza, "Priority") == Some("required");
        if essential || (required && matches!(want, Want::Minimal)) {
            any |= essential;
            set.choose(name, found);
        }
    }
    if !any {
        return Err(Unmet::Empty);
    }
    if matches!(want, Want::Minimal) {
        let apt = catalog.newest("apt")?.ok_or_else(|| Unmet::Missing("apt".to_owned()))?;
        set.choose("apt", apt);
    }
    set.run()?;
    Ok(set.chosen)
}

struct Set<'a> {
    catalog: &'a Catalog,
    arch: &'a str,
    drop: &'a [&'a str],
    chosen: BTreeMap<String, Found>,
    /// Virtual name → the versions in which it is provided by what is chosen.
    provided: BTreeMap<String, Vec<Option<String>>>,
    queue: VecDeque<String>,
}

impl Set<'_> {
    fn choose(&mut self, name: &str, found: Found) {
        if self.chosen.contains_key(name) || self.drop.contains(&name) {
            return;
        }
        for (provided, version) in provides(&found.stanza) {
            self.provided.entry(provided.to_owned()).or_default().push(version.map(str::to_owned));
        }
        self.chosen.insert(name.to_owned(), found);
        self.queue.push_back(name.to_owned());
    }

    /// Plain clauses first; those with a choice wait until nothing else is left, when most of them
    /// are satisfied already.
    fn run(&mut self) -> Result<(), Unmet> {
        let mut waiting: VecDeque<(String, String)> = VecDeque::new();
        loop {
            while let Some(name) = self.queue.pop_front() {
                let stanza = self.chosen[&name].stanza.clone();
                for kind in ["Pre-Depends", "Depends"] {
                    for clause in field(&stanza, kind)
                        .unwrap_or_default()
                        .split(',')
                        .map(str::trim)
                        .filter(|c| !c.is_empty())
                    {
                        let alternatives = parse(clause, self.arch);
                        match &alternatives[..] {
                            [one] if self.chosen_satisfies(one) => {}
                            [one] => match self.real(one)? {
                                Some(found) => self.choose(one.name, found),
                                None => waiting.push_back((name.clone(), clause.to_owned())),
                            },
                            _ => waiting.push_back((name.clone(), clause.to_owned())),
                        }
                    }
                }
            }
            let Some((package, clause)) = waiting.pop_front() else { return Ok(()) };
            self.decide(&package, &clause)?;
        }
    }

    fn decide(&mut self, package: &str, clause: &str) -> Result<(), Unmet> {
        let alternatives = parse(clause, self.arch);
        if alternatives.iter().any(|a| self.chosen_satisfies(a)) {
            return Ok(());
        }
        for alternative in &alternatives {
            if let Some(found) = self.real(alternative)? {
                self.choose(alternative.name, found);
                return Ok(());
            }
            if let Some((name, found)) = self.provider(alternative)? {
                self.choose(&name, found);
                return Ok(());
            }
        }
        Err(Unmet::Dependency { package: package.to_owned(), clause: clause.to_owned() })
    }

    fn chosen_satisfies(&self, wanted: &Alternative<'_>) -> bool {
        if wanted.foreign {
            return false;
        }
        let real = self.chosen.get(wanted.name).and_then(|f| field(&f.stanza, "Version"));
        if real.is_some_and(|version| fits(Some(version), wanted.relation)) {
            return true;
        }
        self.provided
            .get(wanted.name)
            .is_some_and(|versions| versions.iter().any(|v| fits(v.as_deref(), wanted.relation)))
    }

    fn real(&self, wanted: &Alternative<'_>) -> Result<Option<Found>, Unmet> {
        if wanted.foreign || self.drop.contains(&wanted.name) {
            return Ok(None);
        }
        let found = self.catalog.newest(wanted.name)?;
        Ok(found.filter(|f| fits(field(&f.stanza, "Version"), wanted.relation)))
    }

    /// The provider with the highest priority, the first by name among equals.
    fn provider(&self, wanted: &Alternative<'_>) -> Result<Option<(String, Found)>, Unmet> {
        let mut best: Option<(usize, &str, Found)> = None;
        for name in self.catalog.providers(wanted.name) {
            if wanted.foreign || self.drop.contains(&name) {
                continue;
            }
            let Some(found) = self.catalog.newest(name)? else { continue };
            if !provides(&found.stanza).any(|(n, v)| n == wanted.name && fits(v, wanted.relation)) {
                continue;
            }
            let priorities = ["required", "important", "standard", "optional"];
            let rank = priorities
                .iter()
                .position(|p| field(&found.stanza, "Priority") == Some(p))
                .unwrap_or(priorities.len());
            if best.as_ref().is_none_or(|b| rank < b.0) {
                best = Some((rank, name, found));
            }
        }
        Ok(best.map(|(_, name, found)| (name.to_owned(), found)))
    }
}

/// Something without a version satisfies only a dependency without one (Debian Policy 7.5).
fn fits(version: Option<&str>, relation: Option<(&str, &str)>) -> bool {
    match (version, relation) {
        (_, None) => true,
        (Some(version), Some((op, wanted))) => version::satisfies(version, op, wanted),
        (None, Some(_)) => false,
    }
}

fn provides(stanza: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    field(stanza, "Provides").unwrap_or_default().split(',').filter_map(|item| {
        let (name, rest) = item.split_once('(').unwrap_or((item, ""));
        let version = rest
            .trim_end()
            .strip_suffix(')')
            .and_then(|r| r.trim().strip_prefix('='))
            .map(str::trim);
        let name = name.trim();
        (!name.is_empty()).then_some((name, version))
    })
}

/// `a (>= 1) | b:any` → alternatives. A qualifier that names another architecture can never be
/// satisfied here.
fn parse<'a>(clause: &'a str, arch: &str) -> Vec<Alternative<'a>> {
    let one = |text: &'a str| {
        let text = text
            .split(['[', '<'])
            .next()
            .map_or(text, |before| if text.contains('(') { text } else { before });
        let (name, rest) = text.split_once('(').unwrap_or((text, ""));
        let (name, qualifier) = name.trim().split_once(':').unwrap_or((name.trim(), "any"));
        let relation = rest.split(')').next().map(str::trim).filter(|r| !r.is_empty()).map(|r| {
            let end = r.find(|c| !matches!(c, '<' | '>' | '=')).unwrap_or(r.len());
            (&r[..end], r[end..].trim())
        });
        Alternative { name, relation, foreign: !["any", "native", arch].contains(&qualifier) }
    };
    clause.split('|').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, drop: &[&str]) -> Result<String, String> {
        let mut catalog = Catalog::default();
        // Compact notation: `name version flags; fields`.
        let stanzas: Vec<String> = text
            .trim()
            .lines()
            .map(|line| {
                let (head, fields) = line.trim().split_once(';').unwrap_or((line.trim(), ""));
                let words: Vec<&str> = head.split_whitespace().collect();
                let mut stanza = format!("Package: {}\nVersion: {}\n", words[0], words[1]);
                if words.contains(&"E") {
                    stanza += "Essential: yes\n";
                }
                if words.contains(&"R") {
                    stanza += "Priority: required\n";
                }
                for field in fields.split(';').filter(|f| !f.trim().is_empty()) {
                    stanza += &format!("{}\n", field.trim());
                }
                stanza
            })
            .collect();
        catalog.add_text(stanzas.join("\n")).expect("well-formed");
        let set = close(&catalog, Want::Minimal, "amd64", drop).map_err(|e| e.to_string())?;
        Ok(set.into_keys().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn sets() {
        for (text, set) in [
            ("sh 1 E\napt 1\nother 1", "apt sh"),
            (
                "sh 1 E; Depends: libc (>= 2)\nlibc 2; Pre-Depends: gcc-base\ngcc-base 1\nmount 1 \
                    R\napt 1",
                "apt gcc-base libc mount sh",
            ),
            // A choice waits: mawk is required anyway, so gawk, though named first, is not taken.
            (
                "base 1 E; Depends: gawk | awk\ngawk 1; Provides: awk\nmawk 1 R; Provides: \
                    awk\napt 1",
                "apt base mawk",
            ),
            // Nothing chosen satisfies it: the first alternative that exists.
            ("base 1 E; Depends: none | b | c\nb 1\nc 1\napt 1", "apt b base"),
            // A provider counts for a versioned dependency only with a version.
            (
                "x 1 E; Depends: v (>= 2)\np 1; Provides: v\nq 1; Provides: v (= 2.1)\napt 1",
                "apt q x",
            ),
            (
                "x 1 E; Depends: v\np 1; Provides: v\nq 1; Provides: v; Priority: important\napt 1",
                "apt q x",
            ),
            ("x 1 E; Depends: y:any, z:amd64\ny 1\nz 1\napt 1", "apt x y z"),
            // Cycles end.
            ("x 1 E; Depends: y\ny 1; Depends: x\napt 1; Depends: apt", "apt x y"),
            // The newest version counts, also for what it no longer is.
            ("x 1 E\nold 1 R\nold 2\napt 1", "apt x"),
        ] {
            assert_eq!(check(text, &[]).as_deref(), Ok(set), "{text}");
        }
    }

    #[test]
    fn bookworm_needs_no_usrmerge() {
        let text = "init 1 E; Depends: usrmerge | usr-is-merged\nusrmerge 1; Depends: \
            perl\nusr-is-merged 1\nperl 1\napt 1";
        assert_eq!(check(text, &[]).as_deref(), Ok("apt init perl usrmerge"));
        assert_eq!(check(text, &["usrmerge"]).as_deref(), Ok("apt init usr-is-merged"));
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (text, message) in [
            ("sh 1 E", "the archive has no package apt"),
            ("apt 1", "the archive has no essential packages"),
            (
                "sh 1 E; Depends: libc (>= 3)\nlibc 2\napt 1",
                "sh depends on libc (>= 3), which the archive cannot satisfy",
            ),
            (
                "sh 1 E; Depends: y:i386\ny 1\napt 1",
                "sh depends on y:i386, which the archive cannot satisfy",
            ),
        ] {
            assert_eq!(check(text, &[]), Err(message.to_owned()));
        }
    }

    #[test]
    fn clauses() {
        let plain = |name, relation| Alternative { name, relation, foreign: false };
        assert_eq!(
            parse("a (>= 1:2-3) | b", "amd64"),
            [plain("a", Some((">=", "1:2-3"))), plain("b", None)]
        );
        assert_eq!(parse("a(<<1)", "amd64"), [plain("a", Some(("<<", "1")))]);
        assert_eq!(parse("a [linux-any]", "amd64"), [plain("a", None)]);
    }
}
