//! How one name differs from another.

use serde::{Serialize, Serializer};

use super::{Kind, Node};
use crate::layer::{ACL, CAPABILITY, DEFAULT_ACL};

/// One way in which a name is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// It is of another kind; nothing else is compared then.
    Kind,
    /// Its bytes.
    Content,
    /// Where a symlink points.
    Target,
    /// Permission bits.
    Mode,
    /// User or group.
    Owner,
    /// File capabilities.
    Capability,
    /// A POSIX ACL.
    Acl,
    /// The extended attribute of this full name.
    Attribute(Vec<u8>),
    /// Which other names are the same file.
    HardLink,
    /// It did not stay the same while it was read.
    Unstable,
}

impl What {
    /// One word for it, the same in text and JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Content => "content",
            Self::Target => "target",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Capability => "capability",
            Self::Acl => "acl",
            Self::Attribute(_) => "xattr",
            Self::HardLink => "hard-link",
            Self::Unstable => "unstable",
        }
    }
}

impl Serialize for What {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Says in which ways `after` is not `before`; hard links are left to the caller, who knows both
/// trees. Contents that were not read are taken to be the same where their sizes are.
pub fn differences(before: &Node, after: &Node) -> Vec<What> {
    let mut found = vec![];
    match (&before.kind, &after.kind) {
        (Kind::File { size, digest }, Kind::File { size: new_size, digest: new_digest }) => {
            let read = digest.is_some() && new_digest.is_some();
            if size != new_size || (read && digest != new_digest) {
                found.push(What::Content);
            }
        }
        (Kind::Symlink(old), Kind::Symlink(new)) => {
            if old != new {
                found.push(What::Target);
            }
        }
        (old, new) if old == new => {}
        _ => return vec![What::Kind],
    }
    let (old, new) = (&before.meta, &after.meta);
    // The mode of a symlink means nothing, and no two file systems agree on it.
    if old.mode != new.mode && !matches!(before.kind, Kind::Symlink(_)) {
        found.push(What::Mode);
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        found.push(What::Owner);
    }
    let mut names: Vec<&Vec<u8>> = old.xattrs.keys().chain(new.xattrs.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names.into_iter().filter(|name| old.xattrs.get(*name) != new.xattrs.get(*name)) {
        found.push(match &name[..] {
            CAPABILITY => What::Capability,
            ACL | DEFAULT_ACL => What::Acl,
            _ => What::Attribute(name.clone()),
        });
    }
    // Two attributes of one kind are one difference.
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::digest::Digest;
    use crate::layer::Metadata;

    fn file(size: u64, text: &str) -> Node {
        let meta = Metadata { mode: 0o644, ..Metadata::default() };
        Node { kind: Kind::File { size, digest: Some(Digest::of(text)) }, meta, group: None }
    }

    #[test]
    fn each_difference_is_named_and_nothing_else() {
        let old = file(3, "abc");
        let changed = |change: &dyn Fn(&mut Node)| {
            let mut new = old.clone();
            change(&mut new);
            differences(&old, &new)
        };
        assert_eq!(changed(&|_| {}), []);
        assert_eq!(changed(&|node| node.kind = file(3, "abd").kind), [What::Content]);
        assert_eq!(
            changed(&|node| node.kind = Kind::File { size: 4, digest: None }),
            [What::Content]
        );
        assert_eq!(changed(&|node| node.kind = Kind::File { size: 3, digest: None }), []);
        assert_eq!(changed(&|node| node.meta.mode = 0o4644), [What::Mode]);
        assert_eq!(changed(&|node| node.meta.gid = 1), [What::Owner]);
        assert_eq!(changed(&|node| node.meta.mtime = 1), []);
        assert_eq!(changed(&|node| node.kind = Kind::Dir), [What::Kind]);
        let attributes = |names: &[&str]| {
            names
                .iter()
                .map(|name| (name.as_bytes().to_vec(), b"x".to_vec()))
                .collect::<BTreeMap<_, _>>()
        };
        assert_eq!(
            changed(&|node| node.meta.xattrs = attributes(&["security.capability"])),
            [What::Capability]
        );
        assert_eq!(
            changed(&|node| node.meta.xattrs =
                attributes(&["system.posix_acl_access", "system.posix_acl_default", "user.a"])),
            [What::Acl, What::Attribute(b"user.a".to_vec())]
        );
    }

    #[test]
    fn the_mode_of_a_link_is_nothing() {
        let link = |mode, target: &str| Node {
            kind: Kind::Symlink(target.as_bytes().to_vec()),
            meta: Metadata { mode, ..Metadata::default() },
            group: None,
        };
        assert_eq!(differences(&link(0o777, "a"), &link(0o755, "a")), []);
        assert_eq!(differences(&link(0o777, "a"), &link(0o755, "b")), [What::Target]);
    }
}
