//! One changed name as a line for people; `diff` and `drift` write it alike.

use crate::inspect::{Change, How};
use crate::tree::{self, Kind, Node, What};
use crate::ui::text::size;

/// Returns `changed /etc/motd  content (3 B → 5 B), mode 0644 → 0600`; nothing in it acts on a
/// terminal.
pub(super) fn line(change: &Change) -> String {
    let how = match change.how {
        How::Added => "added",
        How::Removed => "removed",
        How::Changed => "changed",
    };
    let node = change.after.as_ref().or(change.before.as_ref());
    let slash = if node.is_some_and(|node| node.kind == Kind::Dir) && !change.path.is_empty() {
        "/"
    } else {
        ""
    };
    format!("{how:<8} {}{slash}  {}", tree::shown(&change.path), detail(change))
        .trim_end()
        .to_owned()
}

fn detail(change: &Change) -> String {
    if let Some(inside) = change.inside {
        return match inside.names {
            0 => "empty".to_owned(),
            1 => format!("1 name in it, {}", size(inside.bytes)),
            names => format!("{names} names in it, {}", size(inside.bytes)),
        };
    }
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => change
            .what
            .iter()
            .map(|what| difference(what, before, after))
            .collect::<Vec<_>>()
            .join(", "),
        (Some(node), None) | (None, Some(node)) => alone(node),
        (None, None) => String::new(),
    }
}

fn alone(node: &Node) -> String {
    match &node.kind {
        Kind::File { size: bytes, .. } => size(*bytes),
        Kind::Symlink(target) => format!("symlink to {}", target_text(target)),
        Kind::Dir => String::new(),
        other => other.name().to_owned(),
    }
}

fn difference(what: &What, before: &Node, after: &Node) -> String {
    let attribute = |node: &Node, name: &[u8]| {
        node.meta.xattrs.get(name).map_or("none".to_owned(), |value| tree::describe(name, value))
    };
    let from_to = |word: &str, name: &[u8]| {
        format!("{word} {} → {}", attribute(before, name), attribute(after, name))
    };
    match (what, &before.kind, &after.kind) {
        (What::Kind, old, new) => format!("{} → {}", old.name(), new.name()),
        (What::Content, Kind::File { size: old, .. }, Kind::File { size: new, .. })
            if old != new =>
        {
            format!("content ({} → {})", size(*old), size(*new))
        }
        (What::Target, Kind::Symlink(old), Kind::Symlink(new)) => {
            format!("target {} → {}", target_text(old), target_text(new))
        }
        (What::Mode, ..) => format!("mode {:04o} → {:04o}", before.meta.mode, after.meta.mode),
        (What::Owner, ..) => format!(
            "owner {}:{} → {}:{}",
            before.meta.uid, before.meta.gid, after.meta.uid, after.meta.gid
        ),
        (What::Capability, ..) => from_to("capability", b"security.capability"),
        (What::Attribute(name), ..) => from_to(&format!("xattr {}", bare(name)), name),
        (What::HardLink, ..) => "hard links".to_owned(),
        (What::Unstable, ..) => "changed while it was read".to_owned(),
        (other, ..) => other.name().to_owned(),
    }
}

/// A name without the slash of [`tree::shown`].
fn bare(name: &[u8]) -> String {
    tree::shown(name)[1..].to_owned()
}

fn target_text(target: &[u8]) -> String {
    if target.is_empty() { "nothing".to_owned() } else { bare(target) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Metadata;

    fn node(kind: Kind, mode: u32) -> Node {
        Node { kind, meta: Metadata { mode, ..Metadata::default() }, group: None }
    }

    #[test]
    fn lines_for_people() {
        let file = |size, mode| node(Kind::File { size, digest: None }, mode);
        let mut cap = file(3, 0o755);
        cap.meta.xattrs.insert(
            b"security.capability".to_vec(),
            vec![1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        );
        let mut other = file(5, 0o600);
        (other.meta.uid, other.meta.gid) = (33, 7);
        let what = vec![What::Content, What::Mode, What::Owner, What::Capability];
        assert_eq!(
            line(&Change::changed(b"bin/ping", what, cap, other)),
            "changed  /bin/ping  content (3 B → 5 B), mode 0755 → 0600, owner 0:0 → 33:7, \
                capability cap_net_raw=ep → none"
        );
        let link = |target: &str| node(Kind::Symlink(target.as_bytes().to_vec()), 0o777);
        assert_eq!(
            line(&Change::changed(b"l", vec![What::Target], link("/a"), link("b\u{1b}"))),
            "changed  /l  target /a → b\\u{1b}"
        );
        assert_eq!(
            line(&Change::changed(b"l", vec![What::Kind], link("/a"), node(Kind::Dir, 0))),
            "changed  /l/  symlink → directory"
        );
        assert_eq!(
            line(&Change::added(b"x\n\x1b[2J\xff", file(0, 0))),
            "added    /x\\u{a}\\u{1b}[2J\\xff  0 B"
        );
        assert_eq!(line(&Change::removed(b"d", node(Kind::Dir, 0))), "removed  /d/");
    }
}
