//! Two trees, name by name.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::inspect::change::{Change, How, Inside};
use crate::tree::{self, Kind, Tree, What, differences};

/// A name that differs, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// What differs.
    #[serde(flatten)]
    pub change: Change,
    /// The package it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
}

/// Returns all that differs, in the order of names.
pub(super) fn compare(before: &Tree, after: &Tree) -> Vec<Change> {
    let mut changes = vec![];
    let (mut left, mut right) = (before.iter().peekable(), after.iter().peekable());
    // By group number: the first name that both trees have.
    let (mut old_first, mut new_first) = (BTreeMap::new(), BTreeMap::new());
    loop {
        let order = match (left.peek(), right.peek()) {
            (Some((old, _)), Some((new, _))) => tree::order(old, new),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (None, None) => return changes,
        };
        let removed = if order.is_le() { left.next() } else { None };
        let added = if order.is_ge() { right.next() } else { None };
        match (removed, added) {
            (Some((path, old)), Some((_, new))) => {
                let mut what = differences(old, new);
                let both_files =
                    matches!((&old.kind, &new.kind), (Kind::File { .. }, Kind::File { .. }));
                let first = |known: &mut BTreeMap<u64, Vec<u8>>, group: Option<u64>| match group {
                    Some(group) => known.entry(group).or_insert_with(|| path.to_owned()).clone(),
                    None => path.to_owned(),
                };
                if both_files
                    && first(&mut old_first, old.group) != first(&mut new_first, new.group)
                {
                    what.push(What::HardLink);
                }
                if !what.is_empty() {
                    changes.push(Change::changed(path, what, old.clone(), new.clone()));
                }
            }
            (Some((path, old)), None) => changes.push(Change::removed(path, old.clone())),
            (None, Some((path, new))) => changes.push(Change::added(path, new.clone())),
            (None, None) => return changes,
        }
    }
}

/// Makes one of a directory that came or went and what did so in it.
pub(super) fn fold(changes: Vec<FileChange>) -> Vec<FileChange> {
    let mut folded: Vec<FileChange> = vec![];
    // The last directory of each kind: what is in it follows it, but not at once.
    let mut open: BTreeMap<How, usize> = BTreeMap::new();
    for mut one in changes {
        let node = one.change.after.as_ref().or(one.change.before.as_ref());
        let (is_directory, bytes) = match node.map(|node| &node.kind) {
            Some(Kind::Dir) => (true, 0),
            Some(Kind::File { size, .. }) => (false, *size),
            _ => (false, 0),
        };
        if let Some(last) = open.get(&one.change.how).map(|at| &mut folded[*at])
            && one.change.how != How::Changed
            && tree::below(&one.change.path, &last.change.path)
        {
            let inside = last.change.inside.get_or_insert_default();
            inside.names += 1;
            inside.bytes = inside.bytes.saturating_add(bytes);
            continue;
        }
        if is_directory && one.change.how != How::Changed {
            one.change.inside = Some(Inside::default());
            open.insert(one.change.how, folded.len());
        }
        folded.push(one);
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::layer::Metadata;
    use crate::tree::Node;

    /// `path/` is a directory, `path=text` a file, `path=text@n` one of a group.
    fn tree(names: &[&str]) -> Tree {
        let parse = |text: &&str| {
            let (kind, group) = match text.split_once('=') {
                None => (Kind::Dir, None),
                Some((_, text)) => {
                    let (text, group) = text.split_once('@').unwrap_or((text, ""));
                    (
                        Kind::File { size: text.len() as u64, digest: Some(Digest::of(text)) },
                        group.parse().ok(),
                    )
                }
            };
            let path = text.split('=').next().unwrap_or_default().trim_end_matches('/');
            (path.as_bytes().to_vec(), Node { kind, meta: Metadata::default(), group })
        };
        Tree::new(names.iter().map(parse).collect())
    }

    fn lines(changes: &[Change]) -> Vec<String> {
        let line = |change: &Change| {
            let what: Vec<&str> = change.what.iter().map(What::name).collect();
            let inside = change.inside.map_or(String::new(), |inside| format!("+{}", inside.names));
            format!(
                "{:?} {} {}{inside}",
                change.how,
                String::from_utf8_lossy(&change.path),
                what.join(",")
            )
        };
        changes.iter().map(line).collect()
    }

    #[test]
    fn every_name_is_met_once() {
        let old = tree(&["a/", "a/x=1", "a/y=1", "b=1", "c/", "c/z=1"]);
        let new = tree(&["a/", "a/x=2", "aa=1", "b/", "c/", "c/z=1", "d=1"]);
        assert_eq!(
            lines(&compare(&old, &new)),
            ["Changed a/x content", "Removed a/y ", "Added aa ", "Changed b kind", "Added d "]
        );
        assert_eq!(compare(&old, &old), []);
    }

    #[test]
    fn hard_links_are_compared_among_common_names() {
        let old = tree(&["a=1@1", "b=1@1", "c=1@1"]);
        assert_eq!(
            lines(&compare(&old, &tree(&["a=1", "b=1@7", "c=1@7"]))),
            ["Changed b hard-link", "Changed c hard-link"]
        );
        assert_eq!(lines(&compare(&old, &tree(&["b=1@3", "c=1@3"]))), ["Removed a "]);
    }

    #[test]
    fn directories_that_came_or_went_are_one() {
        let old = tree(&["a/", "a/x=1", "gone/", "gone/deep/", "gone/deep/x=12"]);
        let new = tree(&["a/", "a/n/", "a/n/1=1", "a/n/2=1", "a/x=2", "a/y=1"]);
        let own = |change| FileChange { change, package: None };
        let folded = fold(compare(&old, &new).into_iter().map(own).collect());
        let changes: Vec<Change> = folded.into_iter().map(|one| one.change).collect();
        assert_eq!(
            lines(&changes),
            ["Added a/n +2", "Changed a/x content", "Added a/y ", "Removed gone +2"]
        );
    }
}
