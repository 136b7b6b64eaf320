//! What a step or a test is called where it has no name: one short line.

use std::path::PathBuf;

/// Longest label, in characters.
const MAX_LABEL: usize = 60;

/// Returns the first line that does something, with `…` where more follow.
pub(crate) fn first_line(text: &str) -> String {
    let mut lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = lines.next().unwrap_or_default().trim_end_matches('\\').trim_end();
    if lines.next().is_some() { format!("{first} …") } else { first.to_owned() }
}

/// Returns a text on one line, without control characters, cut where it is too long.
pub(crate) fn short(text: &str) -> String {
    let line = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    if line.chars().count() <= MAX_LABEL {
        return line;
    }
    let cut: String = line.chars().take(MAX_LABEL - 1).collect();
    let cut = cut.trim_end_matches(['…', ' ']);
    format!("{cut}…")
}

/// Returns paths on one line.
pub(crate) fn paths(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_one_short_line() {
        assert_eq!(first_line("\n# comment\n  npm ci \\\n  && x\n"), "npm ci …");
        assert_eq!(short("a\u{1b}[2Jb\tc"), "a [2Jb c");
        assert_eq!(short(&"ä".repeat(500)).chars().count(), MAX_LABEL);
    }
}
