//! Finds out which kind of step or test a table is, by the key it has.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::node::{later, unknown_key};
use super::reader::Reader;
use crate::schema::{Fields, Mistake, Section, either, near, quote};
use crate::step::Findings;

/// What is sorted into kinds by the key it has: steps, tests.
pub(crate) struct Family {
    /// `step`.
    pub(crate) noun: &'static str,
    pub(crate) kinds: Vec<&'static Section>,
    /// Kinds of the reference that this version does not have.
    pub(crate) later: &'static [&'static str],
    /// What one without a kind is called, and what is asked of it.
    pub(crate) without: (&'static str, &'static str),
}

/// Finds the one kind of a table, and where its key stands; reports what hinders that, and keys
/// that the kind does not have.
pub(crate) fn sort(
    reader: &mut Reader<'_>,
    family: &Family,
    place: Range<usize>,
    table: &DeTable<'_>,
    two_kinds: impl FnOnce(&mut Reader<'_>, &[(&'static Section, Range<usize>)]),
) -> Option<(&'static Section, Range<usize>)> {
    let kind = |name: &str| family.kinds.iter().copied().find(|kind| kind.name == name);
    let mut kinds: Vec<(&'static Section, Range<usize>)> =
        table.keys().filter_map(|key| kind(key.get_ref()).map(|kind| (kind, key.span()))).collect();
    kinds.sort_by_key(|(_, span)| span.start);
    let (kind, key) = match kinds.as_slice() {
        [] => {
            no_kind(reader, family, place, table);
            return None;
        }
        [one] => one.clone(),
        several => {
            two_kinds(reader, several);
            let all: Vec<&'static Section> = several.iter().map(|(kind, _)| *kind).collect();
            unknown_keys(reader, family, &all, table);
            return None;
        }
    };
    unknown_keys(reader, family, &[kind], table);
    warn_of_swallowed_keys(reader, family, kind, table);
    Some((kind, key))
}

/// Decides `when`; `None` where there is none or it is wrong.
pub(crate) fn condition(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Option<bool> {
    let node = table.get("when")?;
    if node.get_ref().is_str() { reader.decide(node) } else { None }
}

fn no_kind(reader: &mut Reader<'_>, family: &Family, place: Range<usize>, table: &DeTable<'_>) {
    let names = || family.kinds.iter().map(|kind| kind.name);
    let noun = family.noun;
    let mut explained = false;
    for key in table.keys() {
        let name: &str = key.get_ref();
        if family.later.contains(&name) {
            explained = true;
            reader.report(key.span(), later(&format!("`{name}` {noun}s")));
        } else if let Some(kind) = near(name, names())
            && family.kinds.iter().all(|k| k.key(name).is_none())
        {
            explained = true;
            let mistake = Mistake::new(format!("unknown key {} in a {noun}", quote(name)))
                .label(format!("did you mean \"{kind}\"?"));
            reader.report(key.span(), mistake);
        }
    }
    if explained {
        return;
    }
    for (key, _) in table {
        let name: &str = key.get_ref();
        if family.kinds.iter().all(|k| k.key(name).is_none() && !k.later.contains(&name)) {
            reader.report(key.span(), unknown_key(name, &format!("a {noun}"), names()));
        }
    }
    let (message, label) = family.without;
    reader.report(
        place,
        Mistake::new(message).label(label).help(format!("say one of {}", either(names()))),
    );
}

/// Reports keys that none of the kinds has; says so where another kind has them.
fn unknown_keys(
    reader: &mut Reader<'_>,
    family: &Family,
    kinds: &[&'static Section],
    table: &DeTable<'_>,
) {
    let [first, ..] = kinds else { return };
    let known = || kinds.iter().flat_map(|k| k.keys).map(|k| k.name);
    for (key, _) in table {
        let name: &str = key.get_ref();
        if known().any(|k| k == name) {
            continue;
        }
        let owners: Vec<&str> =
            family.kinds.iter().filter(|k| k.key(name).is_some()).map(|k| k.name).collect();
        let mistake = if kinds.iter().any(|k| k.later.contains(&name)) {
            later(&format!("`{name}` in {}", first.title))
        } else if family.later.contains(&name) {
            later(&format!("`{name}` {}s", family.noun))
        } else if !owners.is_empty() {
            let mistake = Mistake::new(format!("key \"{name}\" does not go with `{}`", first.name));
            let help = format!(
                "`{name}` belongs to {}",
                either(owners.iter().copied()).replace(" or ", " and ")
            );
            mistake.label(format!("not a key of {}", first.title)).help(help)
        } else {
            unknown_key(name, first.title, known())
        };
        reader.report(key.span(), mistake);
    }
}

/// After `[step.env]`, `timeout = "5m"` is a variable of the environment, and TOML has nothing
/// against it.
fn warn_of_swallowed_keys(
    reader: &mut Reader<'_>,
    family: &Family,
    kind: &'static Section,
    table: &DeTable<'_>,
) {
    let Some(node) = table.get("env") else { return };
    let DeValue::Table(env) = node.get_ref() else { return };
    if !reader.source.slice(&node.span()).starts_with('[') {
        return;
    }
    for (key, value) in env {
        let name: &str = key.get_ref();
        if kind.key(name).is_some()
            && matches!(value.get_ref(), DeValue::String(_) | DeValue::Integer(_))
        {
            let noun = family.noun;
            let mistake = Mistake::new(format!("`{name}` is taken as an environment variable"))
                .label(format!("stands after `[{noun}.env]`"));
            let help = format!(
                "if the {noun}'s `{name}` is meant, put it above `[{noun}.env]`, or write \
                    `env.NAME = …` instead of the table"
            );
            reader.report(key.span(), mistake.help(help).warn());
        }
    }
}

/// Reports keys that are right by themselves and contradict each other. `on`: it will be run.
pub(crate) fn cross_check(
    reader: &mut Reader<'_>,
    cross_check: fn(&Fields, &mut Findings<'_>),
    fields: &Fields,
    on: bool,
) {
    let arch = reader.arch.to_owned();
    let mut findings = Findings { arch: &arch, on, list: vec![] };
    cross_check(fields, &mut findings);
    for (span, mistake) in findings.list {
        reader.report(span, mistake);
    }
}
