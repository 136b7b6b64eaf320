//! Finds entries of a table, and reads lists of tables: steps, tests.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::node::{Node, type_name};
use super::reader::Reader;
use crate::recipe::keys;
use crate::schema::{Mistake, near};

/// Returns the place of a key and its value.
pub(crate) fn entry<'t, 'a>(
    table: &'t DeTable<'a>,
    name: &str,
) -> Option<(Range<usize>, &'t Node<'a>)> {
    table.get_key_value(name).map(|(key, node)| (key.span(), node))
}

/// Whether a top-level key is a misspelling of this one, and reported as such.
pub(crate) fn misspelt_table(name: &str, table: &DeTable<'_>) -> bool {
    table.keys().any(|key| {
        !keys::TOP.contains(&key.get_ref().as_ref())
            && near(key.get_ref(), keys::TOP.iter().copied()) == Some(name)
    })
}

/// Reads a list of tables; `path` is how its header is written, such as `step` or
/// `stage.build.step`. The entries that were wrong are not in what comes out.
pub(crate) fn list<T, R: IntoIterator<Item = T>>(
    reader: &mut Reader<'_>,
    table: &DeTable<'_>,
    noun: &str,
    path: &str,
    read: impl Fn(&mut Reader<'_>, Range<usize>, &DeTable<'_>) -> R,
) -> Option<Vec<T>> {
    let Some((key, node)) = entry(table, noun) else { return Some(vec![]) };
    let help = format!("every {noun} starts with double brackets: `[[{path}]]`");
    let list = match node.get_ref() {
        DeValue::Array(list) => list,
        DeValue::Table(_) => {
            let mistake = Mistake::new(format!("expected a list of {noun}s, found a table"))
                .label("one pair of brackets is missing");
            reader.report(key, mistake.help(help));
            return None;
        }
        other => {
            let mistake =
                Mistake::new(format!("expected a list of {noun}s, found {}", type_name(other)));
            reader.report(node.span(), mistake.help(help));
            return None;
        }
    };
    let mut found = vec![];
    for entry in list {
        match entry.get_ref() {
            DeValue::Table(table) => found.extend(read(reader, entry.span(), table)),
            other => reader.report(
                entry.span(),
                Mistake::new(format!("expected a {noun}, found {}", type_name(other))),
            ),
        }
    }
    Some(found)
}
