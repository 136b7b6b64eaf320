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
use std::sync::{Mutex, PoisonError};

use rayon::Scope;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::comparison::Comparison;
use super::look::{self, Seen};
use super::shift::Shift;
use crate::files::{RootDir, dir_names};
use crate::inspect::change::{Change, Inside};
use crate::tree::{self, Kind};

/// A walk under way.
pub(super) struct Walk<'a> {
    pub(super) root: &'a RootDir,
    /// How much higher ids are than in the image.
    pub(super) shift: Shift,
    pub(super) names: Comparison<'a>,
    /// Regular files of the image that are there: place in the tree, and what the kernel reports of
    /// them.
    pub(super) files: Mutex<Vec<(usize, Seen)>>,
}

impl<'a> Walk<'a> {
    /// Compares the directory `path` and what is in it, in tasks of `scope`.
    pub(super) fn directory<'s>(&'s self, path: Vec<u8>, scope: &Scope<'s>) {
        let expected = self.names.tree.find(&path);
        let fd = match look::open(self.root, &path, true) {
            Ok(fd) => fd,
            // It was a directory a moment ago.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                return self.names.unstable(&path, expected);
            }
            Err(errno) => return self.names.lost(&path, errno),
        };
        let names = match dir_names(&fd) {
            Ok(names) => names,
            Err(error) => {
                return self.names.lost(&path, Errno::from_io_error(&error).unwrap_or(Errno::IO));
            }
        };
        if let Some(place) = expected {
            self.names.meet(place);
            let compared = Seen::at(&fd, OsStr::new("")).and_then(|seen| {
                let mut node = seen.node(self.shift);
                look::attributes(&fd, &mut node, self.shift).map(|()| node)
            });
            match compared {
                Ok(node) => self.names.compare(place, node),
                Err(errno) => self.names.found().unreadable.push((path.clone(), errno.into())),
            }
        }
        for name in names {
            let below = tree::join(&path, name.as_bytes());
            match Seen::at(&fd, &name) {
                Ok(seen) => self.name(below, &name, &fd, seen, scope),
                // Gone again: as if it had never been there. If the image has it, it is missing.
                Err(Errno::NOENT) => {}
                Err(errno) => self.names.lost(&below, errno),
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
        if self.names.rules.leaves_out(&path, is_directory) {
            return;
        }
        let expected = self.names.tree.find(&path);
        // A mount hides what the image has there, and is compared with it; one over nothing is not
        // the image's business.
        let over_nothing = match expected {
            Some(_) => is_directory && !self.names.tree.has_inside(&path),
            None => true,
        };
        if seen.mounted && over_nothing {
            if let Some(place) = expected {
                self.names.meet(place);
            }
            self.names.found().mounts.push(path);
            return;
        }
        let mut node = seen.node(self.shift);
        if let Kind::Symlink(target) = &mut node.kind {
            match rustix::fs::readlinkat(directory, name, vec![]) {
                Ok(text) => *target = text.into_bytes(),
                Err(_) => return self.names.unstable(&path, expected),
            }
        }
        let Some(place) = expected else {
            let mut change = Change::added(&path, node);
            if is_directory && self.names.all {
                let next = path.clone();
                scope.spawn(move |scope| self.directory(next, scope));
            } else if is_directory {
                change.inside = Some(self.inside(&path));
            }
            self.names.found().changes.push(change);
            return;
        };
        self.names.meet(place);
        match (&self.names.tree.at(place).1.kind, &node.kind) {
            (Kind::Dir, Kind::Dir) => scope.spawn(move |scope| self.directory(path, scope)),
            (Kind::File { .. }, Kind::File { .. }) => {
                self.files.lock().unwrap_or_else(PoisonError::into_inner).push((place, seen));
            }
            _ => self.names.compare(place, node),
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
                if seen.mounted || self.names.rules.leaves_out(&below, directory) {
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

    /// A path for the file calls.
    pub(super) fn os(path: &[u8]) -> &Path {
        Path::new(OsStr::from_bytes(path))
    }
}
