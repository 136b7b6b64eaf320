//! An account file as lines of fields; whatever is not changed stays byte for byte.

use std::collections::BTreeSet;

/// The lines of `/etc/passwd`, `group`, `shadow` or `gshadow`.
#[derive(Debug, Default)]
pub struct Table {
    lines: Vec<Vec<u8>>,
    changed: bool,
}

impl Table {
    /// Takes a file apart.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut lines: Vec<Vec<u8>> = bytes.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        if lines.last().is_some_and(Vec::is_empty) {
            lines.pop();
        }
        Self { lines, changed: false }
    }

    /// The file again.
    pub fn bytes(&self) -> Vec<u8> {
        self.lines.iter().flat_map(|l| l.iter().copied().chain([b'\n'])).collect()
    }

    /// Whether anything was set or added.
    pub fn changed(&self) -> bool {
        self.changed
    }

    /// How many lines there are.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Index of the line of `name`.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.lines.iter().position(|l| first(l) == name.as_bytes())
    }

    /// Field `n` of line `line`, empty where there is none.
    pub fn field(&self, line: usize, n: usize) -> String {
        self.lines
            .get(line)
            .and_then(|l| l.split(|b| *b == b':').nth(n))
            .map(|f| String::from_utf8_lossy(f).into_owned())
            .unwrap_or_default()
    }

    /// Field `n` of line `line` as a number.
    pub fn number(&self, line: usize, n: usize) -> Option<u32> {
        number(&self.field(line, n))
    }

    /// Sets field `n` of line `line`, unless it already is so.
    pub fn set(&mut self, line: usize, n: usize, value: &str) {
        let Some(l) = self.lines.get_mut(line) else { return };
        let mut fields: Vec<&[u8]> = l.split(|b| *b == b':').collect();
        if fields.get(n).copied() == Some(value.as_bytes()) {
            return;
        }
        while fields.len() <= n {
            fields.push(b"");
        }
        fields[n] = value.as_bytes();
        *l = fields.join(&b':');
        self.changed = true;
    }

    /// Adds `member` to the comma list in field `n`, unless it is in it.
    pub fn add_member(&mut self, line: usize, n: usize, member: &str) {
        let list = self.field(line, n);
        if list.split(',').any(|m| m == member) {
            return;
        }
        let list = if list.is_empty() { member.to_owned() } else { format!("{list},{member}") };
        self.set(line, n, &list);
    }

    /// Adds a line at the end.
    pub fn push(&mut self, line: &str) {
        self.lines.push(line.as_bytes().to_vec());
        self.changed = true;
    }

    /// Names of all lines that are entries.
    pub fn names(&self) -> Vec<String> {
        self.lines
            .iter()
            .map(|l| first(l))
            .filter(|n| !n.is_empty() && !n.starts_with(b"#"))
            .map(|n| String::from_utf8_lossy(n).into_owned())
            .collect()
    }

    /// Who has the number `id` in field `n`.
    pub fn holder(&self, n: usize, id: u32) -> Option<String> {
        (0..self.lines.len()).find(|l| self.number(*l, n) == Some(id)).map(|l| self.field(l, 0))
    }

    /// Lines whose field `n` is the number `id`.
    pub fn lines_with(&self, n: usize, id: u32) -> Vec<usize> {
        (0..self.lines.len()).filter(|l| self.number(*l, n) == Some(id)).collect()
    }

    /// All numbers in field `n`.
    pub fn numbers(&self, n: usize) -> BTreeSet<u32> {
        (0..self.lines.len()).filter_map(|l| self.number(l, n)).collect()
    }
}

/// Reads an id: digits only (`parse` alone would take a leading plus), below 2³² - 1, which
/// chown(2) and setresuid(2) take for "unchanged".
#[must_use]
pub fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id != u32::MAX)
}

fn first(line: &[u8]) -> &[u8] {
    line.split(|b| *b == b':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays_byte_for_byte() {
        let text = b"root:x:0:0:root:/root:/bin/sh\n# a comment\n\n+nis\nodd:\xff\xfe:1\nbin:x:2:2";
        let mut table = Table::parse(text);
        assert_eq!(table.bytes(), [&text[..], b"\n"].concat());
        assert!(!table.changed());
        table.set(0, 6, "/bin/sh");
        assert!(!table.changed());
        table.set(5, 6, "/bin/false");
        assert!(table.changed());
        assert_eq!(
            table.bytes(),
            b"root:x:0:0:root:/root:/bin/sh\n# a \
            comment\n\n+nis\nodd:\xff\xfe:1\nbin:x:2:2:::/bin/false\n"
        );
    }

    #[test]
    fn members_are_added_once() {
        let mut table = Table::parse(b"adm:x:4:\nsudo:x:27:ann\n");
        table.add_member(0, 3, "bob");
        table.add_member(1, 3, "bob");
        table.add_member(1, 3, "bob");
        assert_eq!(table.bytes(), b"adm:x:4:bob\nsudo:x:27:ann,bob\n");
    }
}
