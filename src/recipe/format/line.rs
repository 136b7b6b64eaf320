//! Lines and blocks: a key with its value and the comments at it, a table with its header.

use toml_edit::{InlineTable, Key, Table, Value};

use super::decor::{
    around, beside, between, comments, decors, has_newline, push_beside, push_comments,
};
use super::value::{WIDTH, inline_width, key_text, value_text};

/// A line of a table, with the comments above it.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) above: Vec<String>,
    /// First key, for the order.
    pub(super) first: String,
    /// `key = value`.
    pub(super) text: String,
    /// Comment at its end.
    pub(super) beside: Option<String>,
}

/// A table with its header, or the top of the file.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) above: Vec<String>,
    pub(super) header: Option<String>,
    pub(super) beside: Option<String>,
    pub(super) lines: Vec<Line>,
}

/// Returns the direct lines of a table, sorted; `maps` are the keys whose inline tables are written
/// as dotted keys.
pub(super) fn lines(table: &Table, maps: &[&str], order: &[&str]) -> Vec<Line> {
    let mut lines = vec![];
    for (path, value) in table.get_values() {
        lines.extend(line(&path, value, maps));
    }
    lines.sort_by_key(|line| {
        order.iter().position(|known| *known == line.first).unwrap_or(order.len())
    });
    lines
}

/// Returns a key with its value; several lines where an inline table is better written as dotted
/// keys.
pub(super) fn line(path: &[&Key], value: &Value, maps: &[&str]) -> Vec<Line> {
    let first = path.first().map(|key| key.get().to_owned()).unwrap_or_default();
    let mut above =
        path.last().and_then(|key| key.leaf_decor().prefix()).map(comments).unwrap_or_default();
    let beside = value.decor().suffix().and_then(beside);
    if let Value::InlineTable(table) = value
        && !table.is_empty()
        && (path.len() == 1 && maps.contains(&first.as_str())
            || has_comments(table)
            || has_line_ends(table) && inline_width(path, table) > WIDTH)
    {
        let mut lines = expand(path, table);
        if let (Some(comment), [only]) = (&beside, lines.as_mut_slice())
            && only.beside.is_none()
        {
            only.beside = Some(comment.clone());
        } else {
            above.extend(beside);
        }
        if let Some(line) = lines.first_mut() {
            above.append(&mut line.above);
            line.above = above;
        }
        return lines;
    }
    let mut hoisted = vec![];
    let name = path.iter().map(|key| key_text(key)).collect::<Vec<_>>().join(".");
    let text = format!("{name} = {}", value_text(value, name.len() + 3, &mut hoisted));
    above.extend(hoisted);
    vec![Line { above, first, text, beside }]
}

/// Writes an inline table as dotted keys.
fn expand(path: &[&Key], table: &InlineTable) -> Vec<Line> {
    let first = path.first().map(|key| key.get().to_owned()).unwrap_or_default();
    let mut lines: Vec<Line> = vec![];
    let mut loose = vec![];
    for (inner, value) in table.get_values() {
        let (beside_last, above) =
            inner.last().and_then(|key| key.leaf_decor().prefix()).map(around).unwrap_or_default();
        attach(&mut lines, &mut loose, beside_last);
        let full: Vec<&Key> = path.iter().copied().chain(inner.iter().copied()).collect();
        let mut hoisted: Vec<String> = between(&inner, value)
            .into_iter()
            .flat_map(|raw| {
                let (beside, above) = around(raw);
                beside.into_iter().chain(above)
            })
            .collect();
        let name = full.iter().map(|key| key_text(key)).collect::<Vec<_>>().join(".");
        let text = format!("{name} = {}", value_text(value, name.len() + 3, &mut hoisted));
        let (beside, after) = value.decor().suffix().map(around).unwrap_or_default();
        let above = loose
            .drain(..)
            .chain(above)
            .chain(hoisted)
            .filter(|line: &String| !line.is_empty())
            .collect();
        loose.extend(after);
        lines.push(Line { above, first: first.clone(), text, beside });
    }
    let (beside_last, after) = around(table.trailing());
    attach(&mut lines, &mut loose, beside_last);
    if let Some(line) = lines.last_mut() {
        line.above.extend(loose.into_iter().chain(after).filter(|line| !line.is_empty()));
    }
    lines
}

/// Puts a comment at the end of the last line, or above the next one where there is none yet.
fn attach(lines: &mut [Line], loose: &mut Vec<String>, comment: Option<String>) {
    match (lines.last_mut(), comment) {
        (_, None) => {}
        (Some(line), Some(comment)) if line.beside.is_none() => line.beside = Some(comment),
        (_, Some(comment)) => loose.push(comment),
    }
}

/// Returns the lines of a `[step.env]` table as dotted keys, its own comments above the first.
pub(super) fn dotted(path: &[&Key], table: &Table) -> Vec<Line> {
    let mut above = table.decor().prefix().map(comments).unwrap_or_default();
    above.extend(table.decor().suffix().and_then(beside));
    let mut lines = vec![];
    for (inner, value) in table.get_values() {
        let full: Vec<&Key> = path.iter().copied().chain(inner).collect();
        lines.extend(line(&full, value, &[]));
    }
    if lines.is_empty() {
        let first = path.first().map(|key| key.get().to_owned()).unwrap_or_default();
        lines.push(Line { text: format!("{first} = {{}}"), first, ..Line::default() });
    }
    if let Some(line) = lines.first_mut() {
        above.append(&mut line.above);
        // A blank line set the table apart; among the keys of a step it would tear it in two.
        above.retain(|line| !line.is_empty());
        line.above = above;
    }
    lines
}

pub(super) fn push_block(text: &mut String, block: &Block) {
    if !text.is_empty() && !text.ends_with("\n\n") {
        text.push('\n');
    }
    if let Some(header) = &block.header {
        push_comments(text, &block.above, true);
        text.push_str(header);
        push_beside(text, block.beside.as_deref());
    }
    for (n, line) in block.lines.iter().enumerate() {
        push_comments(text, &line.above, n == 0);
        text.push_str(&line.text);
        push_beside(text, line.beside.as_deref());
    }
}

fn has_comments(table: &InlineTable) -> bool {
    decors(table).into_iter().any(|raw| raw.as_str().is_some_and(|text| text.contains('#')))
}

fn has_line_ends(table: &InlineTable) -> bool {
    decors(table).into_iter().any(has_newline)
}
