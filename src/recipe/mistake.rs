//! Mistakes: collected, placed (line and column), sorted, and never more than a screenful too many.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Diagnostic;

/// A hostile recipe can hold a million mistakes; nobody reads more than this many.
const MAX: usize = 100;

/// Longer names are not typing mistakes, and comparing them costs the product of their lengths.
const MAX_COMPARED: usize = 64;

/// A file with its line starts.
#[derive(Debug)]
pub(super) struct Source {
    file: PathBuf,
    text: Arc<str>,
    lines: Vec<usize>,
}

impl Source {
    /// Indexes the lines of a text.
    pub(super) fn new(file: &Path, text: &str) -> Source {
        let lines =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Source { file: file.to_path_buf(), text: Arc::from(text), lines }
    }

    /// Returns the text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the text of a span.
    pub(super) fn slice(&self, span: &Range<usize>) -> &str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// Returns the line of a byte offset, from 1.
    pub(super) fn line(&self, at: usize) -> u32 {
        u32::try_from(self.lines.partition_point(|start| *start <= at)).unwrap_or(u32::MAX)
    }

    /// Returns the line of a byte offset, from 1, and its column in characters, from 1.
    fn place(&self, at: usize) -> (u32, u32) {
        let line = self.line(at);
        let start = self.lines[line as usize - 1];
        let column = self.text[start..at].chars().count() + 1;
        (line, u32::try_from(column).unwrap_or(u32::MAX))
    }

    /// Returns the byte range of a line (from 1) without its end.
    pub(super) fn line_span(&self, line: usize) -> Range<usize> {
        let line = line.clamp(1, self.lines.len());
        let start = self.lines[line - 1];
        let rest = &self.text[start..];
        start..start + rest.find('\n').unwrap_or(rest.len())
    }

    /// Places a mistake. Spans are clamped into the text and onto character boundaries, so that
    /// nobody after this has to care.
    pub(super) fn diagnose(&self, span: Range<usize>, mistake: Mistake) -> Diagnostic {
        let start = floor(&self.text, span.start);
        let end = floor(&self.text, span.end.max(start)).max(start);
        let (line, column) = self.place(start);
        let Mistake { message, label, help, warning } = mistake;
        Diagnostic {
            file: self.file.clone(),
            source: self.text.clone(),
            span: start..end,
            line,
            column,
            message,
            label,
            help,
            warning,
        }
    }
}

fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

/// A mistake without its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    message: String,
    label: Option<String>,
    help: Option<String>,
    warning: bool,
}

impl Mistake {
    /// Starts an error.
    pub(super) fn new(message: impl Into<String>) -> Mistake {
        Mistake { message: message.into(), label: None, help: None, warning: false }
    }

    /// Adds what stands at the caret.
    pub(super) fn label(mut self, label: impl Into<String>) -> Mistake {
        self.label = Some(label.into());
        self
    }

    /// Adds what to do.
    pub(super) fn help(mut self, help: impl Into<String>) -> Mistake {
        self.help = Some(help.into());
        self
    }

    /// Adds the label `did you mean "x"?` where a candidate is near.
    pub(super) fn suggest<'a>(
        self,
        wrong: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Mistake {
        match near(wrong, candidates) {
            Some(right) => self.label(format!("did you mean {}?", quote(right))),
            None => self,
        }
    }

    /// Returns it as one line, for where there is no recipe to point into.
    pub(super) fn told(self) -> String {
        let parts = [Some(self.message), self.label, self.help];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// Whether it has a label.
    pub(super) fn has_label(&self) -> bool {
        self.label.is_some()
    }

    /// Makes it a warning.
    pub(super) fn warn(mut self) -> Mistake {
        self.warning = true;
        self
    }
}

/// All mistakes of one reading.
#[derive(Debug, Default)]
pub(super) struct Mistakes {
    list: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Mistakes {
    /// Adds one.
    pub(super) fn add(&mut self, source: &Source, span: Range<usize>, mistake: Mistake) {
        // Counted apart, so that no crowd of warnings keeps an error out.
        let count = if mistake.warning { &mut self.warnings } else { &mut self.errors };
        if *count < MAX {
            *count += 1;
            self.list.push(source.diagnose(span, mistake));
        }
    }

    /// Whether no more errors are taken.
    pub(super) fn full(&self) -> bool {
        self.errors >= MAX
    }

    /// Whether anything but warnings was added.
    pub(super) fn any_error(&self) -> bool {
        self.errors > 0
    }

    /// Returns them in the order of the files and of the text, doubles removed.
    pub(super) fn into_sorted(self) -> Vec<Diagnostic> {
        let mut files: Vec<PathBuf> = vec![];
        for diagnostic in &self.list {
            if !files.contains(&diagnostic.file) {
                files.push(diagnostic.file.clone());
            }
        }
        let mut list = self.list;
        list.sort_by_key(|d| (files.iter().position(|f| *f == d.file), d.span.start, d.span.end));
        list.dedup();
        list
    }
}

/// Returns the candidate that was most likely meant, if one is near enough.
pub(super) fn near<'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if wrong.len() > MAX_COMPARED {
        return None;
    }
    let low = wrong.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .filter(|c| *c != wrong && c.len() <= MAX_COMPARED)
        .map(|c| (strsim::damerau_levenshtein(&low, &c.to_lowercase()), c))
        // One slip in a short word, two in a longer one, a third only in a long one: more is
        // another word.
        .filter(|(distance, c)| {
            *distance <= low.chars().count().max(c.chars().count()).div_ceil(4).min(3)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

/// Quotes a text of the recipe for a message: one line, at most 80 characters.
pub(super) fn quote(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// Joins words as people do: `a, b or c`.
pub(super) fn either<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|w| format!("`{w}`")).collect();
    match words.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_characters() {
        let source = Source::new(Path::new("x"), "a\näöü = 1\n");
        let place = |at| {
            let d = source.diagnose(at..at, Mistake::new("m"));
            (d.line, d.column, d.span)
        };
        assert_eq!(place(0), (1, 1, 0..0));
        assert_eq!(place(4), (2, 2, 4..4));
        assert_eq!(place(5), (2, 2, 4..4), "inside a character");
        assert_eq!(place(999).0, 3);
        assert_eq!(source.line_span(2), 2..12);
    }

    #[test]
    fn only_near_words_are_suggested() {
        let words = ["name", "when", "run", "network", "timeout", "to"];
        assert_eq!(near("nmae", words), Some("name"));
        assert_eq!(near("time-out", words), Some("timeout"));
        assert_eq!(near("Network", words), Some("network"));
        assert_eq!(near("foo", words), None);
        assert_eq!(near("x", words), None);
        assert_eq!(near(&"n".repeat(10_000_000), words), None);
    }
}
