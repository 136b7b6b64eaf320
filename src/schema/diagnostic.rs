//! Diagnostics: mistakes with their place (line and column), collected, sorted, and never more than
//! a screenful too many.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mistake::Mistake;

/// A hostile recipe can hold a million mistakes; nobody reads more than this many.
const MAX: usize = 100;

/// One mistake, ready to be drawn: where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file it is in, as the person wrote it.
    pub file: PathBuf,
    /// The file's whole text, for the excerpt.
    pub source: std::sync::Arc<str>,
    /// Byte range in `source`.
    pub span: std::ops::Range<usize>,
    /// Line of `span.start`, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// A lowercase fragment: `unknown key "comand"`.
    pub message: String,
    /// Written at the caret: `did you mean "command"?`.
    pub label: Option<String>,
    /// What to do.
    pub help: Option<String>,
    /// A warning does not stop anything.
    pub warning: bool,
}

impl Diagnostic {
    /// Returns its file and line, as compilers write them.
    #[must_use]
    pub fn at(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }

    /// Returns a mistake at the place of this one.
    pub(crate) fn saying(&self, mistake: Mistake) -> Diagnostic {
        let Mistake { message, label, help, warning } = mistake;
        Diagnostic { message, label, help, warning, ..self.clone() }
    }
}

/// A file with its line starts.
#[derive(Debug)]
pub(crate) struct Source {
    file: PathBuf,
    text: Arc<str>,
    lines: Vec<usize>,
}

impl Source {
    /// Indexes the lines of a text.
    pub(crate) fn new(file: &Path, text: &str) -> Source {
        let lines =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Source { file: file.to_path_buf(), text: Arc::from(text), lines }
    }

    /// Returns the path of the file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Returns the text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the text of a span.
    pub(crate) fn slice(&self, span: &Range<usize>) -> &str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// Returns the line of a byte offset, from 1.
    pub(crate) fn line(&self, at: usize) -> u32 {
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
    pub(crate) fn line_span(&self, line: usize) -> Range<usize> {
        let line = line.clamp(1, self.lines.len());
        let start = self.lines[line - 1];
        let rest = &self.text[start..];
        start..start + rest.find('\n').unwrap_or(rest.len())
    }

    /// Places a mistake. Spans are clamped into the text and onto character boundaries, so that
    /// nobody after this has to care.
    pub(crate) fn diagnose(&self, span: Range<usize>, mistake: Mistake) -> Diagnostic {
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

/// All mistakes of one reading.
#[derive(Debug, Default)]
pub(crate) struct Mistakes {
    list: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Mistakes {
    /// Adds one.
    pub(crate) fn add(&mut self, source: &Source, span: Range<usize>, mistake: Mistake) {
        if *self.count(mistake.warning) < MAX {
            self.add_placed(source.diagnose(span, mistake));
        }
    }

    /// Adds one that has its place.
    pub(crate) fn add_placed(&mut self, diagnostic: Diagnostic) {
        let count = self.count(diagnostic.warning);
        if *count < MAX {
            *count += 1;
            self.list.push(diagnostic);
        }
    }

    /// Counted apart, so that no crowd of warnings keeps an error out.
    fn count(&mut self, warning: bool) -> &mut usize {
        if warning { &mut self.warnings } else { &mut self.errors }
    }

    /// Whether no more errors are taken.
    pub(crate) fn full(&self) -> bool {
        self.errors >= MAX
    }

    /// Whether anything but warnings was added.
    pub(crate) fn any_error(&self) -> bool {
        self.errors > 0
    }

    /// Returns them in the order of the files and of the text, doubles removed.
    pub(crate) fn into_sorted(self) -> Vec<Diagnostic> {
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
}
