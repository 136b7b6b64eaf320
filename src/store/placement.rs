//! Files and directories outside of the store that appear together with what is published: outputs.
//!
//! ```text
//! DIR/.bake-aside-<16 hex>[/root]    made: whole and flushed; swept where its writer is dead
//! DIR/.bake-output-<16 hex>          waiting: named by the journal, and left alone by every sweep
//! DIR/NAME                           in place; what it replaces then is the one that waits
//! ```
//! All three lie in one directory, so that each move is a rename. An inode keeps its number when it
//! is renamed: by that alone a later writer knows how far a dead one came. Where that writer was
//! published it goes on ([`finish`]), else it goes back ([`undo`]); both may die and be begun again.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk;
use super::error::{Error, reading};
use crate::files::{self, Replace, parent, system};

/// What names of waiting outputs begin with; 16 hexadecimal digits follow.
const PREFIX: &str = ".bake-output-";

/// A file or directory that is whole, and the place where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Where it was made.
    made: PathBuf,
    /// Where it waits.
    waiting: PathBuf,
    /// Where it belongs.
    path: PathBuf,
    inode: u64,
}

impl Placement {
    /// Plans to put `made`, which lies flushed in the directory of `path` or in one of that, at
    /// `path`. Both are absolute and text.
    ///
    /// # Errors
    /// Where `made` is not there.
    pub fn new(made: &Path, path: &Path) -> Result<Self, files::Error> {
        let name = format!("{PREFIX}{:016x}", RandomState::new().hash_one(0));
        let inode = fs::symlink_metadata(made).map_err(|e| system("look at", made, e))?.ino();
        let waiting = parent(path).join(name);
        Ok(Self { made: made.to_owned(), waiting, path: path.to_owned(), inode })
    }

    /// Whether this very file or directory is there.
    fn is_at(&self, path: &Path) -> Result<bool, files::Error> {
        Ok(inode(path)? == Some(self.inode))
    }

    fn find(&self) -> Result<Option<&Path>, files::Error> {
        for path in [&self.path, &self.waiting, &self.made] {
            if self.is_at(path)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Takes the place; what has it waits from now on.
    fn take_place(&self) -> Result<(), files::Error> {
        let taken = inode(&self.path)?.is_some();
        let how = if taken { Replace::Exchange } else { Replace::No };
        disk::rename_as(&self.waiting, &self.path, how)
    }

    /// Makes sure that a journal names nothing but what bake itself names so.
    fn is_plausible(&self) -> bool {
        let digits = |name: &OsStr| {
            let rest = name.as_encoded_bytes().strip_prefix(PREFIX.as_bytes());
            rest.is_some_and(|rest| rest.len() == 16 && rest.iter().all(u8::is_ascii_hexdigit))
        };
        let made = match self.made.file_name() {
            Some(name) if name == "root" => parent(&self.made),
            _ => &self.made,
        };
        let dir = parent(&self.path);
        self.waiting.file_name().is_some_and(digits)
            && made.file_name().is_some_and(files::is_aside)
            && parent(&self.waiting) == dir
            && parent(made) == dir
            && self.path.is_absolute()
    }
}

/// Moves all out of the way of a sweep, durably.
pub(super) fn set_aside(all: &[Placement]) -> Result<(), files::Error> {
    for one in all {
        disk::rename_as(&one.made, &one.waiting, Replace::No)?;
    }
    sync(all)
}

/// Puts all in their places, durably.
pub(super) fn place(all: &[Placement]) -> Result<(), files::Error> {
    all.iter().try_for_each(Placement::take_place)?;
    sync(all)
}

/// Removes what was replaced.
pub(super) fn remove_replaced(all: &[Placement]) -> Result<(), files::Error> {
    all.iter().try_for_each(|one| disk::remove_any(&one.waiting))
}

/// Whether all are still somewhere.
pub(super) fn complete(all: &[Placement]) -> bool {
    all.iter().all(|one| matches!(one.find(), Ok(Some(_))))
}

/// Puts those in their places that are not there yet. One whose directory is gone has none.
pub(super) fn finish(all: &[Placement]) -> Result<(), files::Error> {
    for one in all.iter().filter(|one| one.is_plausible()) {
        match one.find()? {
            Some(path) if path == one.path => {}
            Some(path) if path == one.waiting => one.take_place()?,
            Some(_) => {
                disk::rename_as(&one.made, &one.waiting, Replace::No)?;
                one.take_place()?;
            }
            None => continue,
        }
        sync(std::slice::from_ref(one))?;
        disk::remove_any(&one.waiting)?;
    }
    Ok(())
}

/// Removes all, and puts what they replaced in its place again.
pub(super) fn undo(all: &[Placement]) -> Result<(), files::Error> {
    for one in all.iter().filter(|one| one.is_plausible()) {
        if one.is_at(&one.path)? {
            let replaced = inode(&one.waiting)?.is_some();
            let how = if replaced { Replace::Exchange } else { Replace::No };
            disk::rename_as(&one.path, &one.waiting, how)?;
            sync(std::slice::from_ref(one))?;
        }
        for path in [&one.waiting, &one.made] {
            if one.is_at(path)? {
                disk::remove_any(path)?;
            }
        }
    }
    Ok(())
}

/// Refuses what another user's journal says of files outside of the store: who can write into a
/// store must not be able to have others rename and remove what they cannot.
pub(super) fn check_writer(journal: &Path) -> Result<(), Error> {
    let writer =
        fs::symlink_metadata(journal).map_err(|e| reading(system("look at", journal, e)))?;
    let own = rustix::process::geteuid().as_raw();
    if writer.uid() == own {
        return Ok(());
    }
    let why = format!(
        "the user with the id {} was putting outputs in their places: let that user's bake go on",
        writer.uid()
    );
    Err(Error::Damaged { path: journal.to_owned(), why })
}

/// Returns the inode at a path; none where nothing is, or its directory is gone.
fn inode(path: &Path) -> Result<Option<u64>, files::Error> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found.ino())),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound) => Ok(None),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(system("look at", path, e)),
    }
}

fn sync(all: &[Placement]) -> Result<(), files::Error> {
    let dirs: BTreeSet<&Path> = all.iter().map(|one| parent(&one.path)).collect();
    dirs.into_iter().try_for_each(disk::sync_dir)
}
