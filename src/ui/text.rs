//! Text for people: sizes, times, colours, and the escaping of whatever came from outside.

use std::time::Duration;

/// Returns `text` with control characters made visible, so that no escape sequence reaches a
/// terminal. Tabs become spaces; colour sequences (CSI … m) are dropped, as they carry no content;
/// of text redrawn with carriage returns the last state stays.
pub fn clean(text: &str) -> String {
    let text = text.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.peek() == Some(&'[') => {
                let rest: String =
                    chars.clone().skip(1).take_while(|c| c.is_ascii_digit() || *c == ';').collect();
                let end = chars.clone().nth(1 + rest.len());
                if end == Some('m') {
                    chars.nth(1 + rest.len());
                } else {
                    out.push_str("\\u{1b}");
                }
            }
            '\t' => out.push_str("    "),
            // Format characters can turn text around (bidi overrides) or hide it.
            c if c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                    | '\u{2066}'..='\u{2069}' | '\u{feff}') =>
            {
                out.extend(c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}

/// Returns bytes as `38.2 MB` (powers of 1000, as disks and registries count).
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Returns a duration as `0.3s`, `12.1s`, `3m05s`, `1h02m`.
pub fn took(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", time.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// The few styles in use.
#[derive(Debug, Clone, Copy)]
pub enum Style {
    /// What failed.
    Bad,
    /// What is done.
    Good,
    /// What to look at.
    Warn,
    /// Names.
    Bold,
    /// Details.
    Dim,
    /// Hints and places.
    Blue,
}

/// Returns `text` in `style`, or as it is without colour. `text` must be clean.
pub fn paint(text: &str, style: Style, color: bool) -> String {
    if !color {
        return text.to_owned();
    }
    let code = match style {
        Style::Bad => "1;31",
        Style::Good => "32",
        Style::Warn => "1;33",
        Style::Bold => "1",
        Style::Dim => "2",
        Style::Blue => "1;34",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// Returns an RFC 3339 time in UTC without its fraction: people read the rest.
pub fn to_the_second(at: &str) -> String {
    at.split_once('.').map_or_else(|| at.to_owned(), |(seconds, _)| format!("{seconds}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_reaches_the_terminal() {
        assert_eq!(clean("\u{1b}[31mred\u{1b}[0m"), "red");
        assert_eq!(clean("\u{1b}[2Jwiped"), "\\u{1b}[2Jwiped");
        assert_eq!(clean("\u{1b}]0;title\u{7}"), "\\u{1b}]0;title\\u{7}");
        assert_eq!(clean("a\tb"), "a    b");
        assert_eq!(clean("10%\r50%\r100%\r"), "100%");
        assert_eq!(clean("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(clean("\u{1b}["), "\\u{1b}[");
    }

    #[test]
    fn sizes_and_times() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (38_200_000, "38.2 MB"),
            (999_999_999, "1.0 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (ms, text) in [(0, "0.0s"), (59_900, "59.9s"), (185_000, "3m05s"), (3_725_000, "1h02m")]
        {
            assert_eq!(took(Duration::from_millis(ms)), text);
        }
    }
}
