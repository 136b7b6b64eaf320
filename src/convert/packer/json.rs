//! JSON with the lines of its values: each value is kept as its text, and where that begins in the
//! template is where it stands.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::node::{Block, Kind, Lines, Node, Piece};
use crate::convert::fault::Fault;

/// How deep values may be nested; Packer's own templates need five.
const DEPTH: usize = 64;

/// The entries of an object in their order; names may come twice.
struct Entries<'t>(Vec<(Cow<'t, str>, &'t RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = vec![];
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    found.push((Cow::Owned(name), value));
                }
                Ok(Entries(found))
            }
        }
        from.deserialize_map(Each)
    }
}

/// Reads a text of JSON.
///
/// # Errors
/// The first mistake, with its line.
pub(super) fn read(lines: &Lines<'_>) -> Result<Node, Fault> {
    let whole: &RawValue = serde_json::from_str(lines.text).map_err(|error| {
        let line = u32::try_from(error.line()).unwrap_or(1).max(1);
        let text = error.to_string();
        let message = text.split(" at line ").next().unwrap_or(&text).to_owned();
        Fault::new(line, message)
    })?;
    value(whole, lines, 0)
}

/// Returns where the text of a value stands.
fn start(raw: &RawValue, lines: &Lines<'_>) -> usize {
    (raw.get().as_ptr() as usize).saturating_sub(lines.text.as_ptr() as usize)
}

fn value(raw: &RawValue, lines: &Lines<'_>, depth: usize) -> Result<Node, Fault> {
    let text = raw.get();
    let line = lines.of(start(raw, lines));
    let wrong = |error: serde_json::Error| Fault::new(line, error.to_string());
    if depth > DEPTH {
        return Err(Fault::new(line, format!("values are nested deeper than {DEPTH}")));
    }
    let kind = match text.bytes().next() {
        Some(b'{') => {
            let entries: Entries<'_> = serde_json::from_str(text).map_err(wrong)?;
            let mut found: Vec<(String, Node)> = vec![];
            for (name, raw) in entries.0 {
                let node = value(raw, lines, depth + 1)?;
                // What comes last counts, as Go reads it; of comments there may be several.
                if !name.starts_with('_') {
                    found.retain(|(other, _)| *other != name);
                }
                found.push((name.into_owned(), node));
            }
            Kind::Object(found)
        }
        Some(b'[') => {
            let entries: Vec<&RawValue> = serde_json::from_str(text).map_err(wrong)?;
            let nodes = entries.into_iter().map(|raw| value(raw, lines, depth + 1));
            Kind::List(nodes.collect::<Result<_, _>>()?)
        }
        Some(b'"') => Kind::Text(vec![Piece::Plain(serde_json::from_str(text).map_err(wrong)?)]),
        Some(b't') => Kind::Bool(true),
        Some(b'f') => Kind::Bool(false),
        Some(b'n') => Kind::Null,
        _ => Kind::Number(text.to_owned()),
    };
    Ok(Node::new(line, kind))
}

/// Applies `change` to every text in a value.
pub(super) fn map(node: Node, change: &dyn Fn(&str, u32) -> Node) -> Node {
    let line = node.line;
    let kind = match node.kind {
        Kind::Text(pieces) => match pieces.as_slice() {
            [Piece::Plain(text)] => return change(text, line),
            _ => Kind::Text(pieces),
        },
        Kind::List(nodes) => Kind::List(nodes.into_iter().map(|one| map(one, change)).collect()),
        Kind::Object(entries) => {
            Kind::Object(entries.into_iter().map(|(name, one)| (name, map(one, change))).collect())
        }
        kind => kind,
    };
    Node { line, kind }
}

/// Returns a block of the entries of an object, `_comment`s above it.
pub(super) fn block(kind: &str, node: &Node) -> Block {
    let mut made = Block { line: node.line, kind: kind.to_owned(), ..Block::default() };
    if let Kind::Object(entries) = &node.kind {
        for (name, value) in entries {
            match name.starts_with('_') {
                true => made.comments.extend(value.as_plain()),
                false => made.entries.push(super::node::Entry {
                    line: value.line,
                    name: name.clone(),
                    value: value.clone(),
                }),
            }
        }
    }
    made
}
