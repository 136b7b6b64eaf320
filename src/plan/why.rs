//! Why a step is not in the cache: the rows of its key's table against those of the last build that
//! had it, described for people. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::key::{BELOW, Row};
use super::listing::{Listing, Names};
use crate::digest::Digest;

/// Longest value shown, in characters.
const WIDE: usize = 60;

/// Why a step has to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// No build of this recipe came to this step before.
    First,
    /// The lock file does not pin yet what it needs.
    Unpinned,
    /// These rows of its table changed, each in words.
    Changed(Vec<Change>),
    /// Nothing changed, but its layer is no longer in the cache.
    Gone,
    /// Its cached layer is damaged: what was found.
    Damaged(String),
    /// `--no-cache`.
    Asked,
    /// `--paranoid`: it is cached, and run again to compare.
    Paranoid,
}

/// One row that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The row's name.
    pub row: String,
    /// What changed in it, for people: one fragment each.
    pub how: Vec<String>,
}

impl Why {
    /// Returns the reason as one line for people.
    pub fn text(&self) -> String {
        match self {
            Self::First => "never built before".to_owned(),
            Self::Unpinned => "the lock file does not pin what it needs yet".to_owned(),
            Self::Changed(changes) => changes
                .iter()
                .flat_map(|change| change.how.iter().cloned())
                .collect::<Vec<_>>()
                .join("; "),
            Self::Gone => "its layer is no longer in the cache".to_owned(),
            Self::Damaged(what) => format!("its cached layer is damaged: {what}"),
            Self::Asked => "--no-cache".to_owned(),
            Self::Paranoid => "--paranoid: run again to compare".to_owned(),
        }
    }

    /// Returns a word for it that never changes, for scripts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Unpinned => "unpinned",
            Self::Changed(_) => "changed",
            Self::Gone => "gone",
            Self::Damaged(_) => "damaged",
            Self::Asked => "no-cache",
            Self::Paranoid => "paranoid",
        }
    }

    /// Returns the names of the rows that changed.
    pub fn rows(&self) -> Vec<&str> {
        match self {
            Self::Changed(changes) => changes.iter().map(|change| change.row.as_str()).collect(),
            _ => vec![],
        }
    }
}

/// What a root stands on, where that is layers that it did not make.
#[derive(Debug, Clone, Copy)]
pub struct StandsOn<'a> {
    /// What the base is called.
    pub name: &'a str,
    /// How many layers it has.
    pub layers: usize,
}

/// Compares two tables of one step. `listing` finds what a digest of the row `files` was made of,
/// where that is still known.
pub fn changes(
    old: &BTreeMap<String, Value>,
    new: &[Row],
    base: Option<StandsOn<'_>>,
    listing: &dyn Fn(&Digest) -> Option<Listing>,
) -> Vec<Change> {
    let mut out = vec![];
    for row in new {
        let before = old.get(&row.name);
        if before == Some(&row.value) {
            continue;
        }
        let null = Value::Null;
        let before = before.unwrap_or(&null);
        let how = match row.name.as_str() {
            "format" => vec![
                "this bake makes other bytes of the same inputs than the one before".to_owned(),
            ],
            "operations" => operations(before, &row.value),
            "files" => files(before, &row.value, listing),
            "packages" => sets("package", before, &row.value),
            "downloads" => sets("download", before, &row.value),
            "network" => vec![format!(
                "network is now {}",
                if row.value == Value::Bool(true) { "on" } else { "off" }
            )],
            "base" => vec!["the base is another one".to_owned()],
            BELOW => vec![below(before, &row.value, base)],
            name => {
                let mut how = vec![];
                leaves(name, before, &row.value, &mut how);
                how
            }
        };
        out.push(Change { row: row.name.clone(), how });
    }
    // The digest of the pin says nothing that its packages do not say better.
    if out.iter().any(|change| change.row == "packages") {
        out.retain(|change| change.row != "base");
    }
    out
}

/// Names what differs in the layers below a step.
fn below(old: &Value, new: &Value, base: Option<StandsOn<'_>>) -> String {
    let of_base = |value: &Value, layers: usize| {
        value.as_array().map(|all| all.iter().take(layers).cloned().collect::<Vec<_>>())
    };
    match base {
        Some(base) if of_base(old, base.layers) != of_base(new, base.layers) => {
            format!("its base, {}, has other layers", base.name)
        }
        _ => "a step below gave another layer".to_owned(),
    }
}

/// Names what differs in lists of operations.
fn operations(old: &Value, new: &Value) -> Vec<String> {
    let empty = vec![];
    let (old, new) = (old.as_array().unwrap_or(&empty), new.as_array().unwrap_or(&empty));
    if old.len() != new.len() || old.iter().zip(new).any(|(old, new)| old["op"] != new["op"]) {
        return vec!["it does something else".to_owned()];
    }
    let mut out = vec![];
    for (old, new) in old.iter().zip(new) {
        if let (Some(a), Some(b)) = (command(old), command(new))
            && a != b
        {
            out.push(differ("command", Some(&a), Some(&b)));
            let without = |value: &Value| {
                let mut value = value.clone();
                value.as_object_mut().map(|map| map.remove("argv"));
                value
            };
            leaves("", &without(old), &without(new), &mut out);
        } else {
            leaves("", old, new, &mut out);
        }
    }
    out
}

/// Returns the command of an `exec` as a person wrote it: of a shell's the text behind `-c`.
fn command(op: &Value) -> Option<String> {
    let argv: Vec<&str> = op["argv"].as_array()?.iter().filter_map(Value::as_str).collect();
    match argv.as_slice() {
        [.., flag, text] if *flag == "-c" => Some((*text).to_owned()),
        all => Some(all.join(" ")),
    }
}

/// Names every leaf that differs.
fn leaves(at: &str, old: &Value, new: &Value, out: &mut Vec<String>) {
    if old == new {
        return;
    }
    let below = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let mut names: Vec<&String> =
                a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))).collect();
            names.sort();
            for name in names {
                leaves(
                    &below(name),
                    a.get(name).unwrap_or(&Value::Null),
                    b.get(name).unwrap_or(&Value::Null),
                    out,
                );
            }
        }
        _ => {
            let shown = |value: &Value| match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            out.push(differ(at, shown(old).as_deref(), shown(new).as_deref()));
        }
    }
}

/// Names what differs between two values; of long ones the part that differs.
fn differ(what: &str, old: Option<&str>, new: Option<&str>) -> String {
    match (old, new) {
        (None, Some(new)) => format!("{what} is now {:?}", cut(new, 0)),
        (Some(old), None) => format!("{what} is gone (was {:?})", cut(old, 0)),
        (Some(old), Some(new)) => {
            let same = old.chars().zip(new.chars()).take_while(|(a, b)| a == b).count();
            let from = if old.chars().count().max(new.chars().count()) <= WIDE {
                0
            } else {
                same.saturating_sub(10)
            };
            format!("{what} was {:?}, is {:?}", cut(old, from), cut(new, from))
        }
        (None, None) => what.to_owned(),
    }
}

/// Returns at most [`WIDE`] characters of `text` from character `from`.
fn cut(text: &str, from: usize) -> String {
    let mut out = String::new();
    if from > 0 {
        out.push('…');
    }
    out.extend(text.chars().skip(from).take(WIDE));
    if text.chars().count() > from + WIDE {
        out.push('…');
    }
    out
}

/// Names the files that differ, where both listings are known.
fn files(old: &Value, new: &Value, listing: &dyn Fn(&Digest) -> Option<Listing>) -> Vec<String> {
    let read = |value: &Value| -> Vec<(String, Digest)> {
        serde_json::from_value(value.clone()).unwrap_or_default()
    };
    let (old, new) = (read(old), read(new));
    let mut out = vec![];
    for (at, (what, digest)) in new.iter().enumerate() {
        let before = old.get(at).map(|(_, digest)| digest);
        if before == Some(digest) {
            continue;
        }
        match (before.and_then(listing), listing(digest)) {
            (Some(a), Some(b)) => {
                let difference = a.compare(&b);
                // A file that is copied alone has no name below what is copied.
                let alone = what.strip_prefix("copy ").unwrap_or(what);
                describe(&mut out, "changed", &difference.changed, alone);
                describe(&mut out, "added", &difference.added, alone);
                describe(&mut out, "removed", &difference.removed, alone);
            }
            _ => out.push(format!("{what} changed")),
        }
    }
    if out.is_empty() {
        out.push("it reads other files".to_owned());
    }
    out
}

/// Names what came, went or changed; a name that is empty is `alone`.
fn describe(out: &mut Vec<String>, how: &str, names: &Names, alone: &str) {
    if names.count == 0 {
        return;
    }
    let more = names.count - names.first.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let name = |name: &String| if name.is_empty() { alone.to_owned() } else { name.clone() };
    let first: Vec<String> = names.first.iter().map(name).collect();
    out.push(format!("{how}: {}{more}", first.join(", ")));
}

fn named(names: impl Iterator<Item = impl AsRef<str>>) -> Names {
    let mut all = Names::default();
    names.for_each(|name| all.add(name.as_ref().as_bytes()));
    all
}

/// Names what came and went in lists of `name rest…`.
fn sets(kind: &str, old: &Value, new: &Value) -> Vec<String> {
    let read = |value: &Value| -> BTreeMap<String, String> {
        let one = |value: &Value| match value {
            Value::Array(pair) => {
                Some((pair.first()?.as_str()?.to_owned(), pair.get(1)?.as_str()?.to_owned()))
            }
            Value::String(text) => {
                let mut parts = text.splitn(3, ' ');
                Some((parts.next()?.to_owned(), parts.next().unwrap_or_default().to_owned()))
            }
            _ => None,
        };
        value.as_array().into_iter().flatten().filter_map(one).collect()
    };
    let (old, new) = (read(old), read(new));
    let mut out = vec![];
    let changed = new.iter().filter_map(|(name, now)| {
        old.get(name).filter(|was| *was != now).map(|was| format!("{name} {was} → {now}"))
    });
    describe(&mut out, &format!("{kind} changed"), &named(changed), "");
    describe(
        &mut out,
        &format!("{kind} added"),
        &named(new.keys().filter(|name| !old.contains_key(*name))),
        "",
    );
    describe(
        &mut out,
        &format!("{kind} removed"),
        &named(old.keys().filter(|name| !new.contains_key(*name))),
        "",
    );
    if out.is_empty() {
        out.push(format!("another build of the same {kind} versions"));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::key::Table;

    const BASE: StandsOn<'_> = StandsOn { name: "recipe base.toml", layers: 1 };

    fn described(old: &Table, new: &Table) -> String {
        let listing = |digest: &Digest| {
            let at = |text: &str| Digest::of(text);
            let mut listing = Listing::default();
            let rows = match *digest {
                d if d == at("A") => [("x", "1"), ("y", "1")],
                d if d == at("B") => [("x", "2"), ("z", "1")],
                _ => return None,
            };
            rows.iter().for_each(|(name, what)| listing.add(name.as_bytes(), &at(what)));
            Some(listing)
        };
        let old = old.rows().iter().map(|row| (row.name.clone(), row.value.clone())).collect();
        Why::Changed(changes(&old, new.rows(), Some(BASE), &listing)).text()
    }

    fn table(rows: &[(&str, Value)]) -> Table {
        let mut table = Table::new();
        for (name, value) in rows {
            table.add(*name, value);
        }
        table
    }

    #[test]
    fn a_person_reads_what_changed() {
        let exec = |argv: &[&str], env: Value| json!([{ "op": "exec", "argv": argv, "env": env, "user": "root", "cwd": "/" }]);
        let cases = [
            (
                "operations",
                exec(&["sh", "-c", "true"], json!({})),
                exec(&["sh", "-c", "false"], json!({})),
                "command was \"true\", is \"false\"",
            ),
            (
                "operations",
                exec(&["a"], json!({ "A": "1", "B": "2" })),
                exec(&["a"], json!({ "A": "2" })),
                "env.A was \"1\", is \"2\"; env.B is gone (was \"2\")",
            ),
            (
                "operations",
                exec(&["a"], json!({})),
                json!([{ "op": "mkdir" }]),
                "it does something else",
            ),
            (
                "files",
                json!([["copy s", Digest::of("A")]]),
                json!([["copy s", Digest::of("B")]]),
                "changed: x; added: z; removed: y",
            ),
            (
                "files",
                json!([["copy s", Digest::of("?")]]),
                json!([["copy s", Digest::of("B")]]),
                "copy s changed",
            ),
            (
                "packages",
                json!(["a 1 x", "b 1 x"]),
                json!(["a 2 y", "c 1 x"]),
                "package changed: a 1 → 2; package added: c; package removed: b",
            ),
            (BELOW, json!(["a", "b"]), json!(["a", "c"]), "a step below gave another layer"),
            (
                BELOW,
                json!(["a", "b"]),
                json!(["c", "b"]),
                "its base, recipe base.toml, has other layers",
            ),
            ("epoch", json!(1), json!(2), "epoch was \"1\", is \"2\""),
            ("network", json!(false), json!(true), "network is now on"),
        ];
        for (row, old, new, expected) in cases {
            assert_eq!(described(&table(&[(row, old)]), &table(&[(row, new)])), expected, "{row}");
        }
    }

    #[test]
    fn of_long_values_the_difference_is_shown() {
        let long = "x".repeat(500);
        let text = differ("command", Some(&format!("{long}a")), Some(&format!("{long}b")));
        assert_eq!(text, "command was \"…xxxxxxxxxxa\", is \"…xxxxxxxxxxb\"");
    }

    #[test]
    fn many_names_are_counted() {
        let mut out = vec![];
        let names: Vec<String> = (0..8).map(|n| format!("f{n}")).collect();
        describe(&mut out, "added", &named(names.iter()), "");
        assert_eq!(out, ["added: f0, f1, f2, f3, f4 and 3 more"]);
    }
}
