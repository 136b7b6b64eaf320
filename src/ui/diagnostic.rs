//! Draws mistakes: what, where, the line with a caret, and what to do.
//!
//! Recipes, vars files and command lines may come from anywhere, so nothing of theirs reaches the
//! terminal as it is: control and direction characters are replaced by visible ones first, and long
//! lines and spans are cut to what a person can read.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use crate::recipe::Diagnostic;

/// A span of more lines is drawn at its first line only.
const MAX_LINES: usize = 6;

/// Characters of a line before and after the span that are drawn at most.
const MAX_CONTEXT: usize = 200;

/// Characters of a span that are drawn at most.
const MAX_SPAN: usize = 400;

/// Returns the mistakes as text: one paragraph each, a line end at the end of all.
#[must_use]
pub fn render(diags: &[Diagnostic], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let drawn: Vec<String> = diags.iter().map(|d| draw(d, &renderer)).collect();
    let mut text = drawn.join("\n\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn draw(diagnostic: &Diagnostic, renderer: &Renderer) -> String {
    let level = if diagnostic.warning { Level::WARNING } else { Level::ERROR };
    let excerpt = excerpt(diagnostic);
    let mut annotation = AnnotationKind::Primary.span(excerpt.span);
    if let Some(label) = &diagnostic.label {
        annotation = annotation.label(visible(label));
    }
    let (path, line) = (visible(&diagnostic.file.to_string_lossy()), diagnostic.line as usize);
    let snippet = Snippet::source(excerpt.text).line_start(line).annotation(annotation);
    let title = level.primary_title(visible(&diagnostic.message));
    let mut group = match excerpt.whole {
        true => title.element(snippet.path(path)),
        // Counting columns in the excerpt would give the wrong one.
        false => title
            .element(Origin::path(path).line(line).char_column(diagnostic.column as usize))
            .element(snippet),
    };
    for help in diagnostic.help.iter().flat_map(|help| help.lines()) {
        group = group.element(Level::HELP.message(visible(help)));
    }
    renderer.render(&[group])
}

struct Excerpt {
    text: String,
    span: Range<usize>,
    /// It starts where its line does.
    whole: bool,
}

/// Cuts the lines of the span out of the source, made visible.
fn excerpt(diagnostic: &Diagnostic) -> Excerpt {
    let source: &str = &diagnostic.source;
    // Not trusted to fit: whoever made the diagnostic may be wrong, and drawing it must not make
    // things worse.
    let start = source.floor_char_boundary(diagnostic.span.start.min(source.len()));
    let mut end = source.floor_char_boundary(diagnostic.span.end.clamp(start, source.len()));
    if source[start..end].matches('\n').count() >= MAX_LINES {
        end = start + source[start..end].find('\n').unwrap_or(end - start);
    }
    end = after(source, start, MAX_SPAN, end);
    let line_start = source[..start].rfind('\n').map_or(0, |n| n + 1);
    let line_end = source[end..].find('\n').map_or(source.len(), |n| end + n);
    let from = source[line_start..start]
        .char_indices()
        .rev()
        .nth(MAX_CONTEXT)
        .map_or(line_start, |(n, _)| line_start + n);
    let to = after(source, end, MAX_CONTEXT, line_end);

    let mut text = visible_source(&source[from..start]);
    let span_start = text.len();
    text.push_str(&visible_source(&source[start..end]));
    let span_end = text.len();
    text.push_str(&visible_source(&source[end..to]));
    Excerpt { text, span: span_start..span_end, whole: from == line_start }
}

/// Returns the offset `count` characters after `at`, but not behind `limit`.
fn after(text: &str, at: usize, count: usize, limit: usize) -> usize {
    text[at..limit].char_indices().nth(count).map_or(limit, |(n, _)| at + n)
}

fn visible_source(text: &str) -> String {
    let mut seen = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => seen.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
            c => seen.push(shown(c)),
        }
    }
    // The carriage return of a line whose end was cut off.
    if seen.ends_with('␍') {
        seen.pop();
    }
    seen
}

/// Returns a text as one line without anything a terminal would obey.
fn visible(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\n' | '\t') { ' ' } else { shown(c) }).collect()
}

/// Returns a visible stand-in for what is invisible or changes how the rest is read.
fn shown(c: char) -> char {
    match c {
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\u{7f}' => '␡',
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => '\u{fffd}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;

    fn diagnostic(source: &str, span: Range<usize>) -> Diagnostic {
        let line = source[..span.start].matches('\n').count() as u32 + 1;
        Diagnostic {
            file: PathBuf::from("web.toml"),
            source: Arc::from(source),
            span,
            line,
            column: 1,
            message: "unknown key \"comand\"".into(),
            label: Some("did you mean \"command\"?".into()),
            help: Some("one\ntwo".into()),
            warning: false,
        }
    }

    #[test]
    fn a_mistake_is_drawn() {
        let text = render(&[diagnostic("a = 1\ncomand = 2\n", 6..12)], false);
        let expected = "error: unknown key \"comand\"
 --> web.toml:2:1
  |
2 | comand = 2
  | ^^^^^^ did you mean \"command\"?
  |
  = help: one
  = help: two
";
        assert_eq!(text, expected);
    }

    #[test]
    fn columns_are_ours() {
        let text = render(&[diagnostic("\tä\u{1b}\tx = 1", 5..6)], false);
        assert!(text.contains("web.toml:1:5"), "{text}");
    }

    #[test]
    fn nothing_a_terminal_obeys_gets_out() {
        let mut hostile = diagnostic(
            "x = \"\u{1b}[2J\u{9b}31m\u{202e}\r\u{8}\u{7}\" # \u{1b}]0;t\u{7}\r\n",
            4..8,
        );
        hostile.message = "a\u{1b}[31m\nb".into();
        hostile.label = Some("\u{1b}c\u{9d}".into());
        hostile.help = Some("\u{1b}P".into());
        hostile.file = PathBuf::from("\u{1b}[1m\nweb.toml");
        let text = render(&[hostile.clone(), hostile], false);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert!(!text.contains('\u{202e}'));
        assert!(text.contains("␛[2J"));
    }

    #[test]
    fn any_span_is_drawn() {
        let source = "ä\tö\r\n\u{0}x = '''\na\nb\nc\nd\ne\nf\ng'''\n";
        for start in 0..source.len() + 3 {
            for end in [start, start + 1, start + 5, source.len() + 9] {
                let mut any = diagnostic(source, 0..0);
                any.span = start..end;
                assert!(render(&[any], false).starts_with("error: "));
            }
        }
        let mut empty = diagnostic("", 0..0);
        empty.label = None;
        empty.help = None;
        assert!(render(&[empty], true).contains("unknown key"));
        assert_eq!(render(&[], true), "");
    }

    #[test]
    fn long_lines_are_cut() {
        let source = "x".repeat(10_000_000);
        let text = render(
            &[diagnostic(&source, 5_000_000..5_000_004), diagnostic(&source, 0..10_000_000)],
            false,
        );
        assert!(text.len() < 3000, "{}", text.len());
    }
}
