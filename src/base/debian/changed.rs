//! What a step changed in a root, found by patterns, and removed.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A tree to be tidied.
#[derive(Clone, Copy)]
pub(super) struct Tree<'a> {
    pub(super) root: &'a Path,
    /// Only what is also here is looked at: an upper directory over which `root` is mounted.
    pub(super) changes: Option<&'a Path>,
}

impl Tree<'_> {
    /// Returns where what the step changed in the directory `path` (relative to the root, symlinks
    /// on the way followed) can be looked at; `None` if the root has no such directory.
    pub(super) fn looked(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let directory = self.root.join(path);
        // Where a directory really is, links on the way followed, is a matter of the whole tree.
        let real = match directory.canonicalize() {
            Ok(real) => real,
            Err(error) if absent(&error) => return Ok(None),
            Err(error) => return Err(named(&directory, &error)),
        };
        Ok(Some(match self.changes {
            None => real,
            Some(changes) => changes.join(real.strip_prefix(self.root).map_err(io::Error::other)?),
        }))
    }
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Returns the paths in `tree.root` that fit `pattern` and that the step changed, sorted. A `*`
/// stands for anything within the last part of the pattern.
pub(super) fn find(tree: &Tree<'_>, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let path = tree.root.join(pattern);
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Ok(vec![]);
    };
    let Some(looked) = tree.looked(directory.strip_prefix(tree.root).map_err(io::Error::other)?)?
    else {
        return Ok(vec![]);
    };
    let pieces: Vec<&str> = name.split('*').collect();
    if pieces.len() == 1 {
        return Ok(if fs::symlink_metadata(looked.join(name)).is_ok_and(|meta| !deleted(&meta)) {
            vec![path]
        } else {
            vec![]
        });
    }
    let entries = match fs::read_dir(&looked) {
        Ok(entries) => entries,
        Err(error) if absent(&error) => return Ok(vec![]),
        Err(error) => return Err(named(directory, &error)),
    };
    let mut found = vec![];
    for entry in entries {
        let entry = entry.map_err(|e| named(directory, &e))?;
        if entry.file_name().to_str().is_some_and(|n| matches(n, &pieces))
            && !deleted(&entry.metadata().map_err(|e| named(directory, &e))?)
        {
            found.push(directory.join(entry.file_name()));
        }
    }
    found.sort();
    Ok(found)
}

/// Whether this is overlayfs's whiteout for what a step deleted.
pub(super) fn deleted(meta: &fs::Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn matches(name: &str, pieces: &[&str]) -> bool {
    let (Some(first), Some(last)) = (pieces.first(), pieces.last()) else { return false };
    let Some(mut rest) =
        name.strip_prefix(first).filter(|r| r.len() >= last.len() && r.ends_with(last))
    else {
        return false;
    };
    rest = &rest[..rest.len() - last.len()];
    pieces[1..pieces.len() - 1].iter().all(|piece| match rest.find(piece) {
        Some(at) => {
            rest = &rest[at + piece.len()..];
            true
        }
        None => false,
    })
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    let directory = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    if directory { fs::remove_dir_all(path) } else { fs::remove_file(path) }
        .map_err(|e| named(path, &e))
}

pub(super) fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot tidy {}: {error}", path.display()))
}
