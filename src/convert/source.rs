//! The lines of a Dockerfile: directives, comments, lines that go on, here-documents. What an
//! instruction means is up to others.

use super::fault::Fault;

/// A here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heredoc {
    /// The word that ends it; a `COPY` to a directory calls the file so.
    pub(super) name: String,
    /// Whether variables in it are put in by a `COPY`.
    pub(super) expand: bool,
    /// What stands in it, line feeds included.
    pub(super) content: String,
}

/// An instruction as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it begins, from 1.
    pub(super) number: u32,
    /// The comments above it and between its lines, without `#`.
    pub(super) comments: Vec<String>,
    /// Its lines, without what says that they go on.
    pub(super) pieces: Vec<String>,
    /// What follows it.
    pub(super) heredocs: Vec<Heredoc>,
    /// The same with the words that begin and end it, as a shell reads it.
    pub(super) tail: String,
}

impl Line {
    /// Returns the instruction in one line.
    pub(super) fn text(&self) -> String {
        self.pieces.concat()
    }
}

/// All instructions.
#[derive(Debug)]
pub(super) struct Source {
    /// The character by which lines go on.
    pub(super) escape: char,
    pub(super) lines: Vec<Line>,
    /// Comments behind the last instruction.
    pub(super) trailing: Vec<String>,
}

/// Splits a Dockerfile into its instructions.
///
/// # Errors
/// A here-document that does not end, a directive that is none.
pub(super) fn read(text: &str) -> Result<Source, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let physical: Vec<&str> = text.split_inclusive('\n').collect();
    let bare = |at: usize| physical[at].trim_end_matches(['\n', '\r']);
    let (escape, mut at) = directives(&physical)?;
    let mut source = Source { escape, lines: vec![], trailing: vec![] };
    while at < physical.len() {
        let line = bare(at).trim_start();
        if let Some(comment) = line.strip_prefix('#') {
            source.trailing.push(comment.trim().to_owned());
            at += 1;
            continue;
        }
        if line.is_empty() {
            at += 1;
            continue;
        }
        let number = number(at);
        let comments = std::mem::take(&mut source.trailing);
        let (heredocs, tail) = (vec![], String::new());
        let mut one = Line { number, comments, pieces: vec![], heredocs, tail };
        while at < physical.len() {
            let line = bare(at);
            at += 1;
            let trimmed = line.trim_start();
            if !one.pieces.is_empty() {
                if let Some(comment) = trimmed.strip_prefix('#') {
                    one.comments.push(comment.trim().to_owned());
                    continue;
                }
                if trimmed.is_empty() {
                    continue;
                }
            }
            let line = if one.pieces.is_empty() { trimmed } else { line };
            match goes_on(line, escape) {
                Some(line) => one.pieces.push(line.to_owned()),
                None => {
                    one.pieces.push(line.to_owned());
                    break;
                }
            }
        }
        for (name, expand, chomp) in openings(&one.text(), escape) {
            at = heredoc(&physical, at, &mut one, (name, expand, chomp))?;
        }
        source.lines.push(one);
    }
    Ok(source)
}

fn number(at: usize) -> u32 {
    u32::try_from(at + 1).unwrap_or(u32::MAX)
}

/// Reads `# escape=` and the like at the top; returns the escape character and the first line that
/// is none of them.
fn directives(physical: &[&str]) -> Result<(char, usize), Fault> {
    let mut escape = '\\';
    for (at, line) in physical.iter().enumerate() {
        let Some((key, value)) =
            line.trim_start().strip_prefix('#').and_then(|comment| comment.split_once('='))
        else {
            return Ok((escape, at));
        };
        match key.trim().to_ascii_lowercase().as_str() {
            "syntax" | "check" => {}
            "escape" => {
                escape = match value.trim() {
                    "\\" => '\\',
                    "`" => '`',
                    other => {
                        let message = format!("{other:?} cannot be the escape character");
                        return Err(Fault::new(number(at), message)
                            .help("write `# escape=\\` or ``# escape=` ``"));
                    }
                }
            }
            _ => return Ok((escape, at)),
        }
    }
    Ok((escape, physical.len()))
}

/// Returns a line without the character by which it goes on, if it does.
fn goes_on(line: &str, escape: char) -> Option<&str> {
    let line = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!line.ends_with(escape)).then_some(line)
}

/// Returns the here-documents that an instruction opens: name, whether variables are put in,
/// whether tabs in front go away.
fn openings(text: &str, escape: char) -> Vec<(String, bool, bool)> {
    let mut keywords = text.split_whitespace().map(str::to_ascii_uppercase);
    let mut keyword = keywords.next().unwrap_or_default();
    if keyword == "ONBUILD" {
        keyword = keywords.next().unwrap_or_default();
    }
    if !["RUN", "COPY", "ADD"].contains(&keyword.as_str()) {
        return vec![];
    }
    shell_words(text, escape).iter().filter_map(|word| opening(word)).collect()
}

/// Reads `<<EOF`, `<<-EOF`, `3<<"EOF"`.
fn opening(word: &str) -> Option<(String, bool, bool)> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.contains('<') {
        return None;
    }
    let name: String = rest.chars().filter(|c| !"'\"\\".contains(*c)).collect();
    let quoted = name.len() != rest.len();
    let fits = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    (!name.is_empty() && name.chars().all(fits)).then_some((name, !quoted, chomp))
}

/// Splits at white space outside of quotes; the quotes stay.
fn shell_words(text: &str, escape: char) -> Vec<String> {
    let (mut words, mut word, mut quote) = (vec![], String::new(), None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        word.push(c);
        if c == escape && quote != Some('\'') {
            word.extend(chars.next());
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

/// Reads the content of a here-document that starts at the line `at`; returns the line behind it.
fn heredoc(
    physical: &[&str],
    mut at: usize,
    one: &mut Line,
    (name, expand, chomp): (String, bool, bool),
) -> Result<usize, Fault> {
    let mut content = String::new();
    while at < physical.len() {
        let line = physical[at];
        at += 1;
        let line = if chomp { line.trim_start_matches('\t') } else { line };
        if line.trim_end_matches(['\n', '\r']) == name {
            one.tail.push_str(&format!("{content}{name}\n"));
            one.heredocs.push(Heredoc { name, expand, content });
            return Ok(at);
        }
        content.push_str(line);
    }
    let fault = Fault::new(one.number, format!("the here-document `{name}` does not end"));
    Err(fault.help(format!("a line with nothing but `{name}` ends it")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(u32, String)> {
        read(text).unwrap().lines.iter().map(|line| (line.number, line.text())).collect()
    }

    #[test]
    fn lines_go_on() {
        assert_eq!(
            texts("FROM a\nRUN x \\\n  # why\n\n  && y\n"),
            [(1, "FROM a".to_owned()), (2, "RUN x   && y".to_owned())]
        );
        let source = read("# one\nRUN x \\\n  # two\n  y\n# three\n").unwrap();
        assert_eq!(source.lines[0].comments, ["one", "two"]);
        assert_eq!(source.trailing, ["three"]);
        assert_eq!(texts("RUN a\\  \n b"), [(1, "RUN a b".to_owned())]);
        assert_eq!(
            texts("RUN a\\\\\nRUN b"),
            [(1, "RUN a\\\\".to_owned()), (2, "RUN b".to_owned())]
        );
        assert_eq!(texts("RUN a \\"), [(1, "RUN a ".to_owned())]);
    }

    #[test]
    fn marks_line_ends_and_directives() {
        assert_eq!(
            texts("\u{feff}# syntax=docker/dockerfile:1\r\n# escape=`\r\nRUN a `\r\n b\r\n"),
            [(3, "RUN a  b".to_owned())]
        );
        // A comment ends the directives.
        assert_eq!(texts("# x\n# escape=`\nRUN a `\nRUN b").len(), 2);
        assert_eq!(read("# escape=x\n").unwrap_err().line, 1);
    }

    #[test]
    fn here_documents() {
        let source =
            read("RUN <<EOF\necho a\n\tEOF\nEOF\nRUN <<-'E' cat <<F\n\tx\n\tE\nf\nF\n").unwrap();
        let first = &source.lines[0];
        assert_eq!(first.heredocs[0].content, "echo a\n\tEOF\n");
        assert!(first.heredocs[0].expand);
        let second = &source.lines[1];
        assert_eq!(second.number, 5);
        assert_eq!(second.heredocs[0].content, "x\n");
        assert!(!second.heredocs[0].expand);
        assert_eq!(second.heredocs[1].content, "f\n");
        assert_eq!(second.tail, "x\nE\nf\nF\n");
        assert_eq!(texts("RUN cat <<<EOF\nRUN b").len(), 2);
        assert_eq!(texts("ENV a=<<EOF\nRUN b").len(), 2);
        let fault = read("FROM a\nCOPY <<EOF /x\nno end\n").unwrap_err();
        assert_eq!(
            (fault.line, fault.message.as_str()),
            (2, "the here-document `EOF` does not end")
        );
    }
}
