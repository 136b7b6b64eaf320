//! Hard links: which names are one file.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use super::comparison::Comparison;
use crate::inspect::change::{Change, How};
use crate::tree::{Node, What};

/// Finds names that are one file on one side only: each name's first fellow must be the same name
/// on both. `files`: the place of each name in the tree, by what its file is known if it has
/// several names, and what it is.
pub(super) fn names<I: Hash + Eq>(
    comparison: &Comparison<'_>,
    mut files: Vec<(usize, Option<I>, Node)>,
) {
    // Places are in the order of names.
    files.sort_unstable_by_key(|(place, ..)| *place);
    let (mut should, mut is) = (HashMap::new(), HashMap::new());
    let mut wrong: BTreeMap<usize, Node> = BTreeMap::new();
    for (place, file, node) in files {
        let expected = match comparison.tree.at(place).1.group {
            Some(group) => *should.entry(group).or_insert(place),
            None => place,
        };
        let found = match file {
            Some(file) => *is.entry(file).or_insert(place),
            None => place,
        };
        if expected != found {
            wrong.insert(place, node);
        }
    }
    if wrong.is_empty() {
        return;
    }
    let mut found = comparison.found();
    let known: HashMap<Vec<u8>, usize> =
        found.changes.iter().enumerate().map(|(at, change)| (change.path.clone(), at)).collect();
    for (place, mut node) in wrong {
        let (path, expected) = comparison.tree.at(place);
        match known.get(path).map(|at| &mut found.changes[*at]) {
            Some(change) if change.how == How::Changed => change.what.push(What::HardLink),
            Some(_) => {}
            None => {
                node.kind = expected.kind.clone();
                node.meta.xattrs = expected.meta.xattrs.clone();
                let what = vec![What::HardLink];
                found.changes.push(Change::changed(path, what, expected.clone(), node));
            }
        }
    }
}
