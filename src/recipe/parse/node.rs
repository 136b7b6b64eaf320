//! A value of the TOML text: its place, its type, and the mistakes of a wrong type or key.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::spot;
use crate::recipe::keys;
use crate::schema::{Check, Mistake, Section, Shape, Source, either, near, quote};

/// A spanned value.
pub(crate) type Node<'a> = toml::Spanned<DeValue<'a>>;

/// Returns the span of a value; of a string, without its quotes.
pub(crate) fn string_inside(source: &Source, node: &Node<'_>) -> Range<usize> {
    match node.get_ref() {
        DeValue::String(text) if !text.is_empty() => place_inside(source, node, 0..text.len()),
        _ => node.span(),
    }
}

/// Returns the bytes of the recipe that say a part of a string.
pub(crate) fn place_inside(source: &Source, node: &Node<'_>, part: Range<usize>) -> Range<usize> {
    let span = node.span();
    let text = node.get_ref().as_str().unwrap_or_default();
    match spot::inside(source.slice(&span), text, part) {
        Some(place) => span.start + place.start..span.start + place.end,
        None => span,
    }
}

/// Whether a key of the table is a misspelling of this one, and reported as such.
pub(crate) fn misspelt(section: &Section, name: &str, table: &DeTable<'_>) -> bool {
    let known = || section.keys.iter().map(|k| k.name);
    table.keys().any(|key| {
        section.key(key.get_ref()).is_none() && near(key.get_ref(), known()) == Some(name)
    })
}

pub(crate) fn map_mistake(map: &str, key: &str, written: &str, found: &DeValue<'_>) -> Mistake {
    let mistake = Mistake::new(format!(
        "expected a string or an integer for \"{map}.{key}\", found {}",
        type_name(found)
    ));
    match found {
        DeValue::Boolean(_) => {
            let mistake = mistake.label("booleans are refused here");
            match map == "env" && keys::kinds().any(|kind| kind.key(key).is_some()) {
                true => mistake.help(format!(
                    "`{key}` is a key of the step, but after `[step.env]` every line is an \
                        environment variable: write `env.NAME = …` in the step, or put `{key}` \
                        above `[step.env]`"
                )),
                false => mistake.help(format!(
                    "write the text that is meant: {key} \
                    = \"{written}\""
                )),
            }
        }
        DeValue::Float(_) | DeValue::Datetime(_) => {
            mistake.help(format!("write it in quotes: {key} = \"{written}\""))
        }
        _ => mistake,
    }
}

/// Returns what TOML calls a value, with its article.
pub(crate) fn type_name(value: &DeValue<'_>) -> &'static str {
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

pub(crate) fn wanted(shape: Shape) -> &'static str {
    match shape {
        Shape::Text(_) | Shape::Choice(_) | Shape::Stage => "a string",
        Shape::Targets(targets) => match wanted(targets.one) {
            "a string" => "a string or a table",
            _ => "a string, a list or a table",
        },
        Shape::List(_) => "a list of strings",
        Shape::OneOrMany(_) | Shape::Command | Shape::Shell => "a string or a list of strings",
        Shape::Boolean | Shape::Yes => "a boolean",
        Shape::Integer(..) => "an integer",
        Shape::Map(_)
        | Shape::Lists(..)
        | Shape::Vars
        | Shape::Data
        | Shape::Table(_)
        | Shape::Mounts => "a table",
        Shape::Ports | Shape::Caches => "a list",
        Shape::From => "a string or a table",
        Shape::Sha256 => "a string or a table by architecture",
        Shape::Start => "`true`, a string, a list or a table",
        Shape::Network => "a boolean, \"host\" or a list of hosts",
    }
}

/// The mistake of a value of a wrong type.
pub(crate) fn wrong_type(name: &str, wanted: &str, found: &DeValue<'_>) -> Mistake {
    Mistake::new(format!("expected {wanted} for \"{name}\", found {}", type_name(found)))
        .label(format!("expected {wanted}"))
}

/// The mistake of a text that is no network.
pub(crate) fn not_a_network(name: &str, text: &str) -> Mistake {
    let mistake = Mistake::new(format!("unknown {name} {}", quote(text))).suggest(text, ["host"]);
    mistake.help(match text {
        "true" | "false" => format!("write {name} = {text}"),
        _ if Check::Reachable.test(text).is_ok() => format!("write {name} = [{}]", quote(text)),
        _ => "it is `true`, `false`, \"host\", or a list of hosts".to_owned(),
    })
}

pub(crate) fn wrong_entry(name: &str, wanted: &str, found: &DeValue<'_>) -> Mistake {
    Mistake::new(format!("expected {wanted} in \"{name}\", found {}", type_name(found)))
        .label(format!("expected {wanted}"))
}

/// The mistake of a key that a place does not have.
pub(crate) fn unknown_key<'k>(
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

/// The mistake of a key that says something of one target beside a table of targets.
pub(crate) fn beside_targets(name: &str, targets: &str) -> Mistake {
    Mistake::new(format!("`{name}` beside a table of targets"))
        .label(format!("`{targets}` says it for each of them"))
        .help(format!("leave it out, or write `{targets}` without a table"))
}

/// The mistake of something that only a later version has.
pub(crate) fn later(what: &str) -> Mistake {
    Mistake::new(format!("unknown key: {what}"))
        .label("not built yet")
        .help("this version of bake does not have it yet")
}
