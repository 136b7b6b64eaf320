//! The names of an image, and what has been found of them: on a living root, or on a disk.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::rule::Rules;
use crate::inspect::change::{Change, Inside};
use crate::tree::{self, Kind, Node, Tree, What, differences};

/// What has been come upon.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) changes: Vec<Change>,
    /// Directories below which nothing is known.
    pub(super) blind: Vec<Vec<u8>>,
    /// What is mounted where the image has nothing.
    pub(super) mounts: Vec<Vec<u8>>,
    /// What could not be read, and why.
    pub(super) unreadable: Vec<(Vec<u8>, io::Error)>,
    /// Names compared so far.
    pub(super) compared: u64,
}

/// A comparison under way.
pub(super) struct Comparison<'a> {
    pub(super) tree: &'a Tree,
    pub(super) rules: &'a Rules,
    /// List everything in an added or removed directory, name by name.
    pub(super) all: bool,
    found: Mutex<Found>,
    /// By place in the tree: it was met.
    met: Vec<AtomicBool>,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(tree: &'a Tree, rules: &'a Rules, all: bool) -> Self {
        let met = (0..tree.len()).map(|_| AtomicBool::new(false)).collect();
        Self { tree, rules, all, found: Mutex::default(), met }
    }

    /// Returns what has been found.
    pub(super) fn end(self) -> Found {
        self.found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been found so far.
    pub(super) fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a name of the image is there.
    pub(super) fn meet(&self, place: usize) {
        self.met[place].store(true, Ordering::Relaxed);
    }

    /// Notes that nothing is known of a name, nor of what is in it.
    pub(super) fn lost(&self, path: &[u8], error: impl Into<io::Error>) {
        let mut found = self.found();
        found.blind.push(path.to_owned());
        found.unreadable.push((path.to_owned(), error.into()));
    }

    /// Compares what is there with what should be, and remembers the outcome.
    pub(super) fn compare(&self, place: usize, node: Node) {
        let (path, expected) = self.tree.at(place);
        let what = differences(expected, &node);
        let mut found = self.found();
        found.compared += 1;
        if what.contains(&What::Kind) {
            // What was in the directory went with it.
            found.blind.push(path.to_owned());
        }
        if !what.is_empty() {
            found.changes.push(Change::changed(path, what, expected.clone(), node));
        }
    }

    /// Remembers that a name did not hold still.
    pub(super) fn unstable(&self, path: &[u8], expected: Option<usize>) {
        let mut found = self.found();
        found.blind.push(path.to_owned());
        if let Some(place) = expected {
            self.meet(place);
            let node = self.tree.at(place).1.clone();
            found.changes.push(Change::changed(path, vec![What::Unstable], node.clone(), node));
        }
    }

    /// Reports the names of the image that were not met: the outermost ones, or, when asked for
    /// all, each.
    pub(super) fn missing(&self) {
        let mut blind = std::mem::take(&mut self.found().blind);
        blind.sort_unstable_by(|a, b| tree::order(a, b));
        let blind = |path: &[u8]| {
            let mut here = path;
            loop {
                if blind.binary_search_by(|known| tree::order(known, here)).is_ok() {
                    return true;
                }
                if here.is_empty() {
                    return false;
                }
                here = tree::parent(here);
            }
        };
        let mut changes: Vec<Change> = vec![];
        for (place, (path, node)) in self.tree.iter().enumerate() {
            if self.met[place].load(Ordering::Relaxed) {
                continue;
            }
            let size = match &node.kind {
                Kind::File { size, .. } => *size,
                _ => 0,
            };
            if !self.all
                && let Some(last) = changes.last_mut()
                && let Some(inside) = &mut last.inside
                && tree::below(path, &last.path)
            {
                inside.names += 1;
                inside.bytes = inside.bytes.saturating_add(size);
                continue;
            }
            if blind(path) || self.rules.leaves_out_deep(path, node.kind == Kind::Dir) {
                continue;
            }
            let mut change = Change::removed(path, node.clone());
            if node.kind == Kind::Dir && !self.all {
                change.inside = Some(Inside::default());
            }
            changes.push(change);
        }
        self.found().changes.append(&mut changes);
    }
}
