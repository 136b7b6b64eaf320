//! Keys and values as text.

use toml_edit::{Array, InlineTable, Key, RawString, Value};

use super::decor::{around, between, has_newline, push_beside};

/// Longer lists are written one entry a line.
pub(super) const WIDTH: usize = 120;

/// Returns a key as TOML writes it: bare where it can be.
pub(super) fn key_text(key: &Key) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.get().is_empty() && key.get().chars().all(bare) {
        return key.get().to_owned();
    }
    let default = key.default_repr();
    default.as_raw().as_str().map_or_else(|| key.display_repr().into_owned(), str::to_owned)
}

/// Returns a value as text; `column` is where it starts. Comments inside that have no place any
/// more go to `hoisted`.
pub(super) fn value_text(value: &Value, column: usize, hoisted: &mut Vec<String>) -> String {
    match value {
        Value::String(string) => string_text(string.value(), &string.display_repr()),
        Value::Datetime(time) => time.value().to_string(),
        Value::Integer(number) => number.display_repr().into_owned(),
        Value::Float(number) => number.display_repr().into_owned(),
        Value::Boolean(yes) => yes.value().to_string(),
        Value::Array(list) => array_text(list, column, hoisted),
        Value::InlineTable(table) => inline_text(table, hoisted),
    }
}

/// Returns a string: text of several lines between `'''`, everything else as it was written.
fn string_text(text: &str, written: &str) -> String {
    let several = text.trim_end_matches('\n').contains('\n')
        || written.starts_with("'''")
        || written.starts_with("\"\"\"") && text.contains('\n');
    let literal = !text.contains("'''")
        && !text.ends_with('\'')
        && !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
    // Lines joined by a backslash have no other way to be written that is as easy to read.
    let continued = written.starts_with("\"\"\"")
        && written.lines().any(|line| line.trim_end().ends_with('\\'));
    let newer = written.starts_with('"') && (written.contains("\\e") || written.contains("\\x"));
    if several && literal && !continued {
        return format!("'''\n{text}'''");
    }
    if newer {
        // Escapes that TOML 1.0 does not know.
        return Value::from(text).to_string();
    }
    written.to_owned()
}

fn array_text(list: &Array, column: usize, hoisted: &mut Vec<String>) -> String {
    let mut entries: Vec<(Vec<String>, String, Option<String>)> = vec![];
    let mut broken = has_newline(list.trailing());
    let mut loose = vec![];
    for value in list.iter() {
        let prefix = value.decor().prefix();
        broken |=
            prefix.is_some_and(has_newline) || value.decor().suffix().is_some_and(has_newline);
        let (beside_last, above) = prefix.map(around).unwrap_or_default();
        match (entries.last_mut(), beside_last) {
            (_, None) => {}
            (Some((_, _, beside @ None)), Some(comment)) => *beside = Some(comment),
            (_, Some(comment)) => loose.push(comment),
        }
        let mut inner = vec![];
        let text = value_text(value, column, &mut inner);
        let (beside, after) = value.decor().suffix().map(around).unwrap_or_default();
        let above = loose.drain(..).chain(above).chain(inner).collect();
        loose.extend(after);
        entries.push((above, text, beside));
    }
    let (beside_last, after) = around(list.trailing());
    match (entries.last_mut(), beside_last) {
        (_, None) => {}
        (Some((_, _, beside @ None)), Some(comment)) => *beside = Some(comment),
        (_, Some(comment)) => loose.push(comment),
    }
    loose.extend(after);
    if entries.is_empty() {
        hoisted.append(&mut loose);
        return "[]".into();
    }
    let commented = !loose.is_empty()
        || entries.iter().any(|(above, _, beside)| !above.is_empty() || beside.is_some());
    let flat = format!(
        "[{}]",
        entries.iter().map(|(_, text, _)| text.as_str()).collect::<Vec<_>>().join(", ")
    );
    let wide = !flat.contains('\n') && column + flat.chars().count() > WIDTH && entries.len() > 1;
    if !broken && !commented && !wide {
        return flat;
    }
    let mut text = String::from("[\n");
    for (above, entry, beside) in entries {
        for comment in above {
            text.push_str(&format!("    {comment}\n"));
        }
        text.push_str(&format!("    {entry},"));
        push_beside(&mut text, beside.as_deref());
    }
    for comment in loose {
        text.push_str(&format!("    {comment}\n"));
    }
    text.push(']');
    text
}

pub(super) fn inline_text(table: &InlineTable, hoisted: &mut Vec<String>) -> String {
    let mut parts = vec![];
    let keep = |raw: Option<&RawString>, hoisted: &mut Vec<String>| {
        let (beside, above) = raw.map(around).unwrap_or_default();
        hoisted.extend(beside.into_iter().chain(above));
    };
    for (path, value) in table.get_values() {
        keep(path.last().and_then(|key| key.leaf_decor().prefix()), hoisted);
        for raw in between(&path, value) {
            keep(Some(raw), hoisted);
        }
        let name = path.iter().map(|key| key_text(key)).collect::<Vec<_>>().join(".");
        let mut inner = vec![];
        parts.push(format!("{name} = {}", value_text(value, 0, &mut inner)));
        hoisted.append(&mut inner);
        keep(value.decor().suffix(), hoisted);
    }
    keep(Some(table.trailing()), hoisted);
    if parts.is_empty() { "{}".into() } else { format!("{{ {} }}", parts.join(", ")) }
}

pub(super) fn inline_width(path: &[&Key], table: &InlineTable) -> usize {
    let name: usize = path.iter().map(|key| key.get().len() + 1).sum();
    name + 2 + inline_text(table, &mut vec![]).chars().count()
}
