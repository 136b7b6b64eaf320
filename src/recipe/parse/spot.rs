//! Places inside a TOML string: from an offset in the text it means to the bytes of the recipe that
//! say it.

use std::ops::Range;

/// Returns the byte range, inside `raw`, of the part `wanted` of `meant`.
///
/// `raw` is the string as the recipe has it, quotes included; `meant` is what TOML makes of it.
/// `None` where the two cannot be walked side by side; the caller then points at the whole string.
pub(crate) fn inside(raw: &str, meant: &str, wanted: Range<usize>) -> Option<Range<usize>> {
    let (quotes, escapes) = ["\"\"\"", "'''", "\"", "'"]
        .into_iter()
        .find(|q| raw.starts_with(q))
        .map(|q| (q.len(), q.starts_with('"')))?;
    let end = raw.len().checked_sub(quotes)?;
    let mut at = quotes;
    if quotes == 3 {
        // A line end right after the opening quotes is not part of the string.
        at += ["\r\n", "\n"].into_iter().find(|nl| raw[at..].starts_with(nl)).map_or(0, str::len);
    }
    let mut start = None;
    for (offset, c) in meant.char_indices().chain([(meant.len(), '\0')]) {
        if escapes {
            at += continuation(raw.get(at..end)?);
        }
        if start.is_none() && offset >= wanted.start {
            start = Some(at);
        }
        if offset >= wanted.end {
            return Some(start?..at.min(end));
        }
        let rest = raw.get(at..end)?;
        at += match rest.chars().next()? {
            '\\' if escapes => escape(rest),
            '\r' if c == '\n' => 2,
            found if found == c => c.len_utf8(),
            _ => return None,
        };
    }
    None
}

/// Length of a backslash at the end of a line with all the white space after it.
fn continuation(rest: &str) -> usize {
    let Some(after) = rest.strip_prefix('\\') else { return 0 };
    let blank = after.trim_start_matches([' ', '\t']);
    if !blank.starts_with(['\n', '\r']) {
        return 0;
    }
    rest.len() - blank.trim_start_matches([' ', '\t', '\n', '\r']).len()
}

/// Length of one escape.
fn escape(rest: &str) -> usize {
    let digits = match rest.as_bytes().get(1) {
        Some(b'x') => 2,
        Some(b'u') => 4,
        Some(b'U') => 8,
        _ => 0,
    };
    2 + digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, part: &str, expected: Option<&str>) {
        let table: toml::Table = toml::from_str(&format!("k = {raw}")).unwrap();
        let meant = table["k"].as_str().unwrap();
        let at = meant.find(part).unwrap();
        let found = inside(raw, meant, at..at + part.len());
        assert_eq!(found.map(|r| &raw[r]), expected, "{raw}");
    }

    #[test]
    fn parts_are_found_behind_escapes_and_line_ends() {
        check("'a {{ b }}'", "{{ b }}", Some("{{ b }}"));
        check(r#""\t\u00e9{{ b }}""#, "{{ b }}", Some("{{ b }}"));
        check(r#""a\"b{{ b }}\n""#, "\"b{{", Some(r#"\"b{{"#));
        check("\"\"\"\r\nx\r\n{{ b }}\r\n\"\"\"", "{{ b }}", Some("{{ b }}"));
        check("\"\"\"\nx \\\n   {{ b }}\"\"\"", "{{ b }}", Some("{{ b }}"));
        check("'''\nä {{ b }}\n'''", "{{ b }}", Some("{{ b }}"));
        check("'{{ b }}'", "}}", Some("}}"));
        check("''", "", Some(""));
    }

    #[test]
    fn what_does_not_fit_is_given_up() {
        assert_eq!(inside("'abc'", "xyz", 0..3), None);
        assert_eq!(inside("", "", 0..0), None);
        assert_eq!(inside("'", "a", 0..1), None);
        assert_eq!(inside("a", "a", 0..1), None);
    }
}
