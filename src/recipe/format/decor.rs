//! Comments and blank lines: read from what stands around keys and values, and written again.

use toml_edit::{InlineTable, Key, RawString, Value};

pub(super) fn push_beside(text: &mut String, comment: Option<&str>) {
    if let Some(comment) = comment {
        text.push_str("  ");
        text.push_str(comment);
    }
    text.push('\n');
}

/// Writes comment lines, blank ones among them single; `first`: no blank line at the start.
pub(super) fn push_comments(text: &mut String, lines: &[String], first: bool) {
    let mut blank = first;
    for line in lines {
        if !line.is_empty() || !blank {
            text.push_str(line);
            text.push('\n');
        }
        blank = line.is_empty();
    }
}

/// Returns the comment lines of what stands before something; empty ones are blank lines.
pub(super) fn comments(raw: &RawString) -> Vec<String> {
    let text = raw.as_str().unwrap_or_default();
    let mut lines: Vec<String> = text.split('\n').map(|line| line.trim().to_owned()).collect();
    // What follows the last line end is the indent of the thing itself, or a comment that ends the
    // file.
    if lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// Returns the comment at the end of a line.
pub(super) fn beside(raw: &RawString) -> Option<String> {
    let comment = raw.as_str()?.trim();
    comment.starts_with('#').then(|| comment.to_owned())
}

/// Splits what stands between two entries: the comment beside the first, and the lines above the
/// second.
pub(super) fn around(raw: &RawString) -> (Option<String>, Vec<String>) {
    let text = raw.as_str().unwrap_or_default();
    let mut parts = text.split('\n').map(|line| line.trim().to_owned());
    let beside = parts.next().filter(|line| !line.is_empty());
    (beside, parts.filter(|line| !line.is_empty()).collect())
}

/// Returns what stands around the dots and the `=` of an entry, where an inline table may hold line
/// ends and comments too.
pub(super) fn between<'t>(path: &[&'t Key], value: &'t Value) -> Vec<&'t RawString> {
    let dots = path.iter().flat_map(|key| {
        [key.dotted_decor().prefix(), key.dotted_decor().suffix(), key.leaf_decor().suffix()]
    });
    dots.chain([value.decor().prefix()]).flatten().collect()
}

/// Returns what stands between an inline table's entries: white space, line ends, comments.
pub(super) fn decors(table: &InlineTable) -> Vec<&RawString> {
    let mut all = vec![table.trailing()];
    for (path, value) in table.get_values() {
        all.extend(path.last().and_then(|key| key.leaf_decor().prefix()));
        all.extend(between(&path, value));
        all.extend(value.decor().suffix());
    }
    all
}

pub(super) fn has_newline(raw: &RawString) -> bool {
    raw.as_str().is_some_and(|text| text.contains('\n'))
}
