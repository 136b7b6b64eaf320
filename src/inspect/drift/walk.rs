//! A living root, directory by directory, against the names of an image. Many threads; every
//! directory and file is opened by its whole path from the root, without following a symlink, so
//! that nothing has to be kept open and nothing can be swapped in.
//!
//! What changes meanwhile is reported as such: a name that is gone between two looks is looked for
//! again, a file that does not hold still is [`What::Unstable`]. What may not be read is
//! remembered, and is never taken for equal.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::Scope;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::look::{self, Seen};
use super::rule::Rules;
use super::shift::Shift;
use crate::files::{RootDir, dir_names};
use crate::inspect::change::{Change, Inside};
use crate::tree::{self, Kind, Node, Tree, What, differences};

/// What the walk has come upon.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) changes: Vec<Change>,
    /// Regular files of the image that are there: place in the tree, and what the kernel reports of
    /// them.
    pub(super) files: Vec<(usize, Seen)>,
    /// Directories below which nothing is known.
    pub(super) blind: Vec<Vec<u8>>,
    /// What is mounted where the image has nothing.
    pub(super) mounts: Vec<Vec<u8>>,
    /// What could not be read, and why.
    pub(super) unreadable: Vec<(Vec<u8>, Errno)>,
    /// Names compared so far, but for the files.
    pub(super) compared: u64,
}

/// A walk under way.
pub(super) struct Walk<'a> {
    pub(super) root: &'a RootDir,
    pub(super) tree: &'a Tree,
    pub(super) rules: &'a Rules,
    /// How much higher ids are than in the image.
    pub(super) shift: Shift,
    /// List everything in an added or removed directory, name by name.
    pub(super) all: bool,
    pub(super) found: Mutex<Found>,
    /// By place in the tree: it was met.
    pub(super) met: Vec<AtomicBool>,
}

impl<'a> Walk<'a> {
    pub(super) fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meet(&self, place: usize) {
        self.met[place].store(true, Ordering::Relaxed);
    }

    fn lost(&self, path: &[u8], errno: Errno) {
        let mut found = self.found();
        found.blind.push(path.to_owned());
        found.unreadable.push((path.to_owned(), errno));
    }

    /// Compares the directory `path` and what is in it, in tasks of `scope`.
    pub(super) fn directory<'s>(&'s self, path: Vec<u8>, scope: &Scope<'s>) {
        let expected = self.tree.find(&path);
        let fd = match look::open(self.root, &path, true) {
            Ok(fd) => fd,
            // It was a directory a moment ago.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                return self.unstable(&path, expected);
            }
            Err(errno) => return self.lost(&path, errno),
        };
        let names = match dir_names(&fd) {
            Ok(names) => names,
            Err(error) => {
                return self.lost(&path, Errno::from_io_error(&error).unwrap_or(Errno::IO));
            }
        };
        if let Some(place) = expected {
            self.meet(place);
            let compared = Seen::at(&fd, OsStr::new("")).and_then(|seen| {
                let mut node = seen.node(self.shift);
                look::attributes(&fd, &mut node, self.shift).map(|()| node)
            });
            match compared {
                Ok(node) => self.compare(place, node),
                Err(errno) => self.found().unreadable.push((path.clone(), errno)),
            }
        }
        for name in names {
            let below = tree::join(&path, name.as_bytes());
            match Seen::at(&fd, &name) {
                Ok(seen) => self.name(below, &name, &fd, seen, scope),
                // Gone again: as if it had never been there. If the image has it, it is missing.
                Err(Errno::NOENT) => {}
                Err(errno) => self.lost(&below, errno),
            }
        }
    }

    fn name<'s>(
        &'s self,
        path: Vec<u8>,
        name: &OsStr,
        directory: &std::os::fd::OwnedFd,
        seen: Seen,
        scope: &Scope<'s>,
    ) {
        let is_directory = seen.kind == FileType::Directory;
        if self.rules.leaves_out(&path, is_directory) {
            return;
        }
        let expected = self.tree.find(&path);
        // A mount hides what the image has there, and is compared with it; one over nothing is not
        // the image's business.
        let over_nothing = match expected {
            Some(_) => is_directory && !self.tree.has_inside(&path),
            None => true,
        };
        if seen.mounted && over_nothing {
            if let Some(place) = expected {
                self.meet(place);
            }
            self.found().mounts.push(path);
            return;
        }
        let mut node = seen.node(self.shift);
        if let Kind::Symlink(target) = &mut node.kind {
            match rustix::fs::readlinkat(directory, name, vec![]) {
                Ok(text) => *target = text.into_bytes(),
                Err(_) => return self.unstable(&path, expected),
            }
        }
        let Some(place) = expected else {
            let mut change = Change::added(&path, node);
            if is_directory && self.all {
                let next = path.clone();
                scope.spawn(move |scope| self.directory(next, scope));
            } else if is_directory {
                change.inside = Some(self.inside(&path));
            }
            self.found().changes.push(change);
            return;
        };
        self.meet(place);
        match (&self.tree.at(place).1.kind, &node.kind) {
            (Kind::Dir, Kind::Dir) => scope.spawn(move |scope| self.directory(path, scope)),
            (Kind::File { .. }, Kind::File { .. }) => self.found().files.push((place, seen)),
            _ => self.compare(place, node),
        }
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

    /// Counts what is in a directory that the image does not have; what cannot be read there is not
    /// counted.
    fn inside(&self, path: &[u8]) -> Inside {
        let mut inside = Inside::default();
        let mut left = vec![path.to_owned()];
        while let Some(path) = left.pop() {
            let Ok(fd) = look::open(self.root, &path, true) else { continue };
            let Ok(names) = dir_names(&fd) else { continue };
            for name in names {
                let below = tree::join(&path, name.as_bytes());
                let Ok(seen) = Seen::at(&fd, &name) else { continue };
                let directory = seen.kind == FileType::Directory;
                if seen.mounted || self.rules.leaves_out(&below, directory) {
                    continue;
                }
                inside.names += 1;
                match seen.kind {
                    FileType::Directory => left.push(below),
                    FileType::RegularFile => {
                        inside.bytes = inside.bytes.saturating_add(seen.stamp.size)
                    }
                    _ => {}
                }
            }
        }
        inside
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

    /// A path for the file calls.
    pub(super) fn os(path: &[u8]) -> &Path {
        Path::new(OsStr::from_bytes(path))
    }
}
