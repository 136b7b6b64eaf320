//! What can be seen of a shell command without running it: its simple commands, and whether it can
//! need the network.

/// A simple command: its words, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Simple {
    /// Its words, without quotes.
    pub(super) words: Vec<String>,
    /// Whether it is no more than its words: no variables, no redirections.
    pub(super) plain: bool,
    /// What follows it: `&&`, `;`, a line feed, `|`, …; empty at the end.
    pub(super) separator: String,
    /// Where the next one begins, in bytes.
    pub(super) end: usize,
}

/// Splits a command into simple ones. What is more than a list of them (loops, functions,
/// substitutions, subshells) comes out as words that are no names of programs, or not plain.
pub(super) fn simple_commands(text: &str) -> Vec<Simple> {
    let mut found = vec![];
    let mut now = Now::default();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match (now.quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => now.quote = None,
            (None, '\'' | '"') => {
                now.quote = Some(c);
                now.started = true;
            }
            (Some('\''), _) => now.word.push(c),
            (_, '\\') => {
                let next = chars.next().map(|(_, c)| c);
                now.word.extend(next.filter(|c| *c != '\n'));
                now.started |= next.is_some_and(|c| c != '\n');
            }
            (_, '$' | '`') => {
                now.complex = true;
                now.word.push(c);
            }
            (Some(_), _) => now.word.push(c),
            (None, ';' | '&' | '|' | '\n') => {
                let mut separator = c.to_string();
                if c != '\n'
                    && let Some((_, next)) = chars.next_if(|(_, next)| *next == c)
                {
                    separator.push(next);
                }
                found.extend(now.finish(separator, at));
                if let Some(last) = found.last_mut() {
                    last.end = chars.peek().map_or(text.len(), |(at, _)| *at);
                }
            }
            (None, '#') if now.word.is_empty() && !now.started => {
                while chars.next_if(|(_, c)| *c != '\n').is_some() {}
            }
            (None, '<' | '>' | '(' | ')' | '{' | '}' | '*' | '?' | '[' | '~') => {
                now.complex |= !"*?[~".contains(c);
                now.globs |= "*?[~".contains(c);
                now.word.push(c);
            }
            (None, c) if c.is_whitespace() => now.end_word(),
            (None, c) => now.word.push(c),
        }
    }
    // A quote that is never closed is no list of commands.
    now.complex |= now.quote.is_some();
    found.extend(now.finish(String::new(), text.len()));
    found
}

/// The command that is being read.
#[derive(Default)]
struct Now {
    words: Vec<String>,
    word: String,
    /// The word has begun, if only with a quote.
    started: bool,
    quote: Option<char>,
    complex: bool,
    globs: bool,
}

impl Now {
    fn end_word(&mut self) {
        if self.started || !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
        self.started = false;
    }

    fn finish(&mut self, separator: String, end: usize) -> Option<Simple> {
        self.end_word();
        let now = std::mem::take(self);
        self.quote = now.quote;
        if now.words.is_empty() {
            return None;
        }
        Some(Simple { words: now.words, plain: !now.complex, separator, end })
    }
}

/// Programs that never ask the network for anything.
const LOCAL: &[&str] = &[
    ":",
    "[",
    "a2dismod",
    "a2dissite",
    "a2enconf",
    "a2enmod",
    "a2ensite",
    "addgroup",
    "adduser",
    "awk",
    "basename",
    "cat",
    "cd",
    "chgrp",
    "chmod",
    "chown",
    "chpasswd",
    "cp",
    "cut",
    "date",
    "dirname",
    "echo",
    "egrep",
    "exit",
    "export",
    "false",
    "fc-cache",
    "file",
    "getent",
    "grep",
    "groupadd",
    "groupdel",
    "groupmod",
    "gunzip",
    "gzip",
    "head",
    "id",
    "install",
    "ldconfig",
    "ln",
    "locale-gen",
    "ls",
    "md5sum",
    "mkdir",
    "mktemp",
    "mv",
    "printf",
    "pwd",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "set",
    "setcap",
    "sha1sum",
    "sha256sum",
    "sha512sum",
    "sleep",
    "sort",
    "stat",
    "strip",
    "sync",
    "tail",
    "tar",
    "tee",
    "test",
    "touch",
    "tr",
    "true",
    "umask",
    "uname",
    "uniq",
    "unlink",
    "unset",
    "unxz",
    "unzip",
    "update-alternatives",
    "update-ca-certificates",
    "useradd",
    "userdel",
    "usermod",
    "visudo",
    "wc",
    "which",
    "xz",
    "zip",
    "groups",
    "passwd",
    "dpkg-divert",
];

/// Whether a command can need the network: anything but programs that are known not to.
pub(super) fn needs_network(text: &str) -> bool {
    if text.contains("$(") || text.contains('`') || text.contains("<(") {
        return true;
    }
    let local = |one: &Simple| {
        let mut words = one.words.iter().skip_while(|word| is_assignment(word));
        match words.next() {
            Some(word) => LOCAL.contains(&word.as_str()),
            None => true,
        }
    };
    !simple_commands(text).iter().all(local)
}

/// `A=b`.
pub(super) fn is_assignment(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else { return false };
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Joins the lines of a shell command as they are written, where a shell reads the same in them as
/// in one line: it does not between single quotes, and not behind a `#`.
pub(super) fn joined(pieces: &[String]) -> String {
    let whole = pieces.concat();
    let (mut quote, mut skip) = (None, false);
    let mut broken = false;
    for (n, piece) in pieces.iter().enumerate() {
        for c in piece.chars() {
            match c {
                _ if skip => skip = false,
                '\\' if quote != Some('\'') => skip = true,
                c if Some(c) == quote => quote = None,
                '\'' | '"' if quote.is_none() => quote = Some(c),
                _ => {}
            }
        }
        let last = n + 1 == pieces.len();
        broken |= !last && (quote == Some('\'') || skip);
    }
    if broken || whole.contains(" #") || whole.starts_with('#') {
        return whole;
    }
    let pieces = pieces.iter().map(|piece| piece.trim_end()).filter(|piece| !piece.is_empty());
    pieces.collect::<Vec<_>>().join(" \\\n")
}

/// Returns the paths below `/tmp` that a command names.
pub(super) fn temporary(text: &str) -> Vec<String> {
    let mut found = vec![];
    for (at, _) in text.match_indices("/tmp/") {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || "_-./".contains(c)) {
            continue;
        }
        let rest = &text[at + "/tmp/".len()..];
        let name: String =
            rest.chars().take_while(|c| c.is_alphanumeric() || "_.-".contains(*c)).collect();
        if !name.is_empty() && !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split() {
        let words = |text: &str| -> Vec<(String, bool, String)> {
            let one = |one: Simple| (one.words.join(" "), one.plain, one.separator);
            simple_commands(text).into_iter().map(one).collect()
        };
        assert_eq!(
            words("a 'b c' && d \"e\"; f\\ g | h\n# x\ni"),
            [
                ("a b c".into(), true, "&&".into()),
                ("d e".into(), true, ";".into()),
                ("f g".into(), true, "|".into()),
                ("h".into(), true, "\n".into()),
                ("i".into(), true, String::new()),
            ]
        );
        assert_eq!(words("a $b > c"), [("a $b > c".into(), false, String::new())]);
        assert_eq!(words("a 'b"), [("a b".into(), false, String::new())]);
        assert_eq!(words(" ; && \\\n"), []);
        let text = "a && b c";
        assert_eq!(&text[simple_commands(text)[0].end..], " b c");
    }

    #[test]
    fn only_known_programs_need_no_network() {
        for local in ["mkdir -p /a && chown x /a; rm -rf /b", "A=b useradd x", "echo a > /b", "A=b"]
        {
            assert!(!needs_network(local), "{local}");
        }
        for other in ["apt-get update", "mkdir a && make", "echo $(curl x)", "echo `x`", "./x"] {
            assert!(needs_network(other), "{other}");
        }
    }

    #[test]
    fn lines_stay_where_a_shell_reads_the_same() {
        let pieces = |text: &[&str]| text.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        assert_eq!(joined(&pieces(&["a ", "  && b"])), "a \\\n  && b");
        assert_eq!(joined(&pieces(&["echo 'a ", " b'"])), "echo 'a  b'");
        assert_eq!(joined(&pieces(&["a # c ", " b"])), "a # c  b");
        assert_eq!(joined(&pieces(&["only"])), "only");
    }

    #[test]
    fn temporary_files_are_found() {
        assert_eq!(
            temporary("cp /tmp/a.txt /var/tmp/b && rm /tmp/a.txt \"/tmp/c\" /tmp/"),
            ["a.txt", "c"]
        );
    }
}
