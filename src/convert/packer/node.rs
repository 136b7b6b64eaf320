//! A template as it was read: blocks, and the expressions in them. All three notations come out
//! as this.

/// An expression, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Its line, from 1.
    pub(super) line: u32,
    pub(super) kind: Kind,
}

/// What an expression is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    Text(Vec<Piece>),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
    /// `var.x`, `local.x`, `source.name`.
    Path(Vec<String>),
    Call(String, Vec<Node>),
    /// Condition, then, else.
    If(Box<[Node; 3]>),
    /// Whether both are the same, or not the same.
    Same(Box<[Node; 2]>, bool),
    Not(Box<Node>),
    /// An element of a list or an object.
    Element(Box<[Node; 2]>),
    /// Anything else, as it is written.
    Other(String),
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Plain(String),
    /// `${…}`.
    Expression(Node),
}

impl Node {
    pub(super) fn new(line: u32, kind: Kind) -> Self {
        Self { line, kind }
    }

    /// Makes a text without expressions.
    pub(super) fn plain(line: u32, text: impl Into<String>) -> Self {
        Self::new(line, Kind::Text(vec![Piece::Plain(text.into())]))
    }

    /// Returns a text as it is written, where it is one without expressions.
    pub(super) fn as_plain(&self) -> Option<String> {
        let Kind::Text(pieces) = &self.kind else { return None };
        let mut out = String::new();
        for piece in pieces {
            let Piece::Plain(text) = piece else { return None };
            out.push_str(text);
        }
        Some(out)
    }
}

/// A key of a block with what it is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) line: u32,
    pub(super) name: String,
    pub(super) value: Node,
}

/// A block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) line: u32,
    /// What stands above it, without what makes it a comment.
    pub(super) comments: Vec<String>,
    pub(super) kind: String,
    pub(super) labels: Vec<String>,
    pub(super) entries: Vec<Entry>,
    pub(super) blocks: Vec<Block>,
}

impl Block {
    /// Returns what a key is set to.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| entry.name == name).map(|entry| &entry.value)
    }

    /// Returns its blocks of a kind.
    pub(super) fn all<'b>(&'b self, kind: &'b str) -> impl Iterator<Item = &'b Block> {
        self.blocks.iter().filter(move |block| block.kind == kind)
    }

    /// Returns a label, empty where it has none.
    pub(super) fn label(&self, at: usize) -> &str {
        self.labels.get(at).map_or("", String::as_str)
    }

    /// Sets keys: what others say of a block in one case.
    pub(super) fn set(&mut self, name: &str, value: Node) {
        self.entries.retain(|entry| entry.name != name);
        self.entries.push(Entry { line: value.line, name: name.to_owned(), value });
    }
}

/// The lines of a text.
pub(super) struct Lines<'t> {
    pub(super) text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let feeds = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(feeds.map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// Returns the line of a byte, from 1.
    pub(super) fn of(&self, at: usize) -> u32 {
        u32::try_from(self.starts.partition_point(|start| *start <= at)).unwrap_or(u32::MAX)
    }

    fn line(&self, number: usize) -> &'t str {
        let Some(start) = number.checked_sub(1).and_then(|at| self.starts.get(at)) else {
            return "";
        };
        self.text[*start..].lines().next().unwrap_or("")
    }

    /// Returns the comments right above a line.
    pub(super) fn above(&self, line: u32) -> Vec<String> {
        let mut found = vec![];
        let mut at = line as usize;
        while at > 1 {
            at -= 1;
            let text = self.line(at).trim();
            let Some(rest) = text.strip_prefix('#').or_else(|| text.strip_prefix("//")) else {
                break;
            };
            found.push(rest.strip_prefix(' ').unwrap_or(rest).to_owned());
        }
        found.reverse();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_know_their_comments() {
        let lines = Lines::new("x\n# a\n// b\ny\n");
        assert_eq!((lines.of(0), lines.of(2), lines.of(12)), (1, 2, 4));
        assert_eq!(lines.above(4), ["a", "b"]);
        assert!(lines.above(1).is_empty() && lines.above(99).is_empty());
    }
}
