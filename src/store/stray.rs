//! What lies in the store and belongs to nothing. Harmless, but it takes room, and it may be the
//! trace of something that matters.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::error::{Error, reading};
use super::{Store, reach};
use crate::digest::Digest;
use crate::files::{Lock, is_aside, system};

/// What may stand in the store's directory.
const KNOWN: &[&str] = &[
    "oci-layout",
    "index.json",
    "blobs",
    "bake.json",
    "lock",
    "reserve",
    "publish.json",
    "channels",
    "revoked",
    "cache",
    "scratch",
    "logs",
    "lost+found",
];

/// A file that belongs to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The file.
    pub path: PathBuf,
    /// What is odd about it.
    pub why: &'static str,
}

impl Store {
    /// Returns what lies in the store and belongs to nothing: blobs that no entry needs, files
    /// nobody writes.
    pub fn strays(&self) -> Result<Vec<Stray>, Error> {
        find(self)
    }
}

/// Looks through the store's own directory and `blobs/sha256`. While a writer is at work the
/// unreferenced blobs are not reported: they may be about to be named.
pub(super) fn find(store: &Store) -> Result<Vec<Stray>, Error> {
    let lock_path = store.lock_path();
    // Never makes the lock file: looking must leave no trace.
    let lock =
        if lock_path.exists() { Lock::try_shared(&lock_path).map_err(reading)? } else { None };
    let still = lock.is_some() || !lock_path.exists();
    let mut strays = vec![];
    for name in names(store.dir())? {
        let path = store.dir().join(&name);
        if still && (name == "publish.json" || is_aside(name.as_ref())) {
            strays
                .push(Stray { path, why: "left by a writer that died; the next build repairs it" });
        } else if !KNOWN.contains(&name.as_str()) && !is_aside(name.as_ref()) {
            strays.push(Stray { path, why: "not part of a store" });
        }
    }
    let (_, index) = store.index()?;
    let reach = reach::all(store, &index);
    for name in names(&store.blobs())? {
        let path = store.blobs().join(&name);
        // Upper-case digits would be a second name for one content.
        match Digest::from_hex(&name).ok().filter(|digest| digest.hex() == name) {
            None => strays.push(Stray { path, why: "not named like a blob" }),
            Some(digest) if still && reach.complete() && !reach.blobs.contains(&digest) => {
                strays.push(Stray { path, why: "no image needs this blob" });
            }
            Some(_) => {}
        }
    }
    Ok(strays)
}

/// Returns the sorted names in a directory; none where the directory is not there.
fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let mut names = vec![];
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(names),
        Err(e) => return Err(reading(system("list", dir, e))),
    };
    for entry in entries {
        names.push(
            entry
                .map_err(|e| reading(system("list", dir, e)))?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort_unstable();
    Ok(names)
}
