//! One name that is not the same on both sides, as data and as JSON.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::tree::{Kind, Node, What, describe};

/// What happened to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// It is there now.
    Added,
    /// It is gone.
    Removed,
    /// It is something else now.
    Changed,
}

/// What lies in a directory that was added or removed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Inside {
    /// Names, at any depth.
    pub names: u64,
    /// Bytes of its regular files.
    pub bytes: u64,
}

/// One name that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Clean path, without a leading slash; the top directory is empty.
    pub path: Vec<u8>,
    /// What happened.
    pub how: How,
    /// In which ways; empty unless changed.
    pub what: Vec<What>,
    /// What it was.
    pub before: Option<Node>,
    /// What it is.
    pub after: Option<Node>,
    /// Of a directory that was added or removed with all that is in it.
    pub inside: Option<Inside>,
}

impl Change {
    /// A name that is there now.
    pub fn added(path: &[u8], after: Node) -> Self {
        Self {
            path: path.to_owned(),
            how: How::Added,
            what: vec![],
            before: None,
            after: Some(after),
            inside: None,
        }
    }

    /// A name that is gone.
    pub fn removed(path: &[u8], before: Node) -> Self {
        Self {
            path: path.to_owned(),
            how: How::Removed,
            what: vec![],
            before: Some(before),
            after: None,
            inside: None,
        }
    }

    /// A name that is something else now.
    pub fn changed(path: &[u8], what: Vec<What>, before: Node, after: Node) -> Self {
        Self {
            path: path.to_owned(),
            how: How::Changed,
            what,
            before: Some(before),
            after: Some(after),
            inside: None,
        }
    }
}

impl Serialize for Change {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("path", &format!("/{}", String::from_utf8_lossy(&self.path)))?;
        if let Some(hex) = hex_unless_text(&self.path) {
            map.serialize_entry("path_hex", &hex)?;
        }
        map.serialize_entry("change", &self.how)?;
        if !self.what.is_empty() {
            map.serialize_entry("what", &self.what)?;
        }
        for (side, node) in [("before", &self.before), ("after", &self.after)] {
            if let Some(node) = node {
                map.serialize_entry(side, &Look::of(node))?;
            }
        }
        if let Some(inside) = &self.inside {
            map.serialize_entry("inside", inside)?;
        }
        map.end()
    }
}

/// The bytes of a name in hex where they are not UTF-8, so that JSON loses nothing.
pub(super) fn hex_unless_text(name: &[u8]) -> Option<String> {
    std::str::from_utf8(name)
        .is_err()
        .then(|| name.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A node as JSON.
#[derive(Serialize)]
struct Look {
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_hex: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
}

impl Look {
    fn of(node: &Node) -> Self {
        let (size, digest) = match &node.kind {
            Kind::File { size, digest } => (Some(*size), digest.map(|digest| digest.to_string())),
            _ => (None, None),
        };
        let target = match &node.kind {
            Kind::Symlink(target) => Some(target),
            _ => None,
        };
        let xattrs = node.meta.xattrs.iter().map(|(name, value)| {
            (String::from_utf8_lossy(name).into_owned(), describe(name, value))
        });
        Self {
            // The word of the reports' format, which must not change: see docs/json.md.
            kind: if node.kind == Kind::Dir { "folder" } else { node.kind.name() },
            mode: format!("{:04o}", node.meta.mode),
            uid: node.meta.uid,
            gid: node.meta.gid,
            size,
            digest,
            target: target.map(|target| String::from_utf8_lossy(target).into_owned()),
            target_hex: target.and_then(|target| hex_unless_text(target)),
            xattrs: xattrs.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Metadata;

    #[test]
    fn names_of_any_bytes_are_json() {
        let meta = Metadata { mode: 0o4755, uid: 33, ..Metadata::default() };
        let node = Node { kind: Kind::Symlink(b"\x1b\xff".to_vec()), meta, group: None };
        let change = Change::changed(
            b"a\n\xfe",
            vec![What::Target, What::Attribute(b"user.x".to_vec())],
            node.clone(),
            node,
        );
        let json = serde_json::to_value(&change).expect("JSON");
        assert_eq!(json["path"], "/a\n\u{fffd}");
        assert_eq!(json["path_hex"], "610afe");
        assert_eq!(json["what"], serde_json::json!(["target", "xattr"]));
        assert_eq!(
            json["after"],
            serde_json::json!({ "kind": "symlink", "mode": "4755", "uid": 33, "gid": 0,
                "target": "\u{1b}\u{fffd}", "target_hex": "1bff" })
        );
        assert!(
            serde_json::to_value(Change::removed(b"a", change.before.expect("there")))
                .expect("JSON")
                .get("path_hex")
                .is_none()
        );
    }
}
