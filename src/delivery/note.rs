//! What is noted of outputs in the cache: how what lies at a path looked when it was written, and
//! what an output's key gave.
//!
//! ```text
//! cache/placed/<sha256 of the path>   {"v":1,"path":"/srv/web.tar","marks":[{"key":"sha256:…","inode":…,…}]}
//! cache/outputs/<key>                 {"v":1,"digest":"sha256:…","bytes":1234}
//! ```
//! A mark of what was made is noted before it is in place, beside that of what is there until then.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::Error;
use crate::digest::Digest;
use crate::files;
use crate::store::Store;

/// Longest note that is read.
const MOST: u64 = 1 << 20;

/// How what lies at a path looks from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Look {
    /// Of the output that it is.
    pub(super) key: Digest,
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Seconds and nanoseconds; of a directory none, as a rename may move them.
    pub(super) modified: (i64, i64),
    /// Of a directory: of the names in it, and how they look.
    pub(super) listing: Option<Digest>,
    /// sha256 of a file.
    pub(super) digest: Option<Digest>,
    /// What was written.
    pub(super) bytes: u64,
}

impl Look {
    /// Looks at what lies at `path`; `None` where nothing of the kind is.
    pub(super) fn of(path: &Path, key: Digest, dir: bool) -> Option<Self> {
        let found = fs::symlink_metadata(path).ok()?;
        let mark = |size, modified, listing| {
            let (inode, digest, bytes) = (found.ino(), None, 0);
            Some(Self { key, inode, size, modified, listing, digest, bytes })
        };
        match dir {
            true if found.is_dir() => mark(0, (0, 0), Some(listing(path)?)),
            false if found.is_file() => {
                mark(found.len(), (found.mtime(), found.mtime_nsec()), None)
            }
            _ => None,
        }
    }

    fn looks_like(&self, other: &Self) -> bool {
        Self { digest: other.digest, bytes: other.bytes, ..self.clone() } == *other
    }
}

/// What is noted of one path.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Note {
    v: u32,
    path: PathBuf,
    pub(super) marks: Vec<Look>,
}

impl Note {
    /// Returns the mark that is of the same output and looks the same.
    pub(super) fn same(&self, there: &Look) -> Option<&Look> {
        self.marks.iter().find(|mark| mark.looks_like(there))
    }

    /// Whether bake wrote what has this inode.
    pub(super) fn wrote(&self, inode: u64) -> bool {
        self.marks.iter().any(|mark| mark.inode == inode)
    }
}

#[derive(Serialize, Deserialize)]
struct Known {
    v: u32,
    digest: Digest,
    bytes: u64,
}

/// The notes of a store.
pub(super) struct Notes {
    placed: PathBuf,
    outputs: PathBuf,
}

impl Notes {
    pub(super) fn open(store: &Store) -> Result<Self, Error> {
        Ok(Self { placed: store.cache("placed")?, outputs: store.cache("outputs")? })
    }

    /// Returns what is noted of a path.
    pub(super) fn of(&self, path: &Path) -> Note {
        let note = read::<Note>(&self.placed_file(path));
        note.filter(|note| note.path == path).unwrap_or_default()
    }

    /// Notes what lies, or will lie, at a path.
    pub(super) fn write(&self, path: &Path, note: &Note) -> Result<(), Error> {
        let note = Note { v: 1, path: path.to_owned(), marks: note.marks.clone() };
        write(&self.placed_file(path), &note)
    }

    /// Returns digest and bytes of what a key gave.
    pub(super) fn known(&self, key: &Digest) -> Option<(Digest, u64)> {
        read::<Known>(&self.outputs.join(key.hex())).map(|known| (known.digest, known.bytes))
    }

    /// Notes what a key gave.
    pub(super) fn know(&self, key: &Digest, digest: Digest, bytes: u64) -> Result<(), Error> {
        write(&self.outputs.join(key.hex()), &Known { v: 1, digest, bytes })
    }

    fn placed_file(&self, path: &Path) -> PathBuf {
        self.placed.join(Digest::of(path.as_os_str().as_encoded_bytes()).hex())
    }
}

/// Reads a note; one that is missing, torn or of a later format is none.
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let file = File::open(path).ok()?;
    files::mark_used(&file);
    let mut bytes = vec![];
    file.take(MOST).read_to_end(&mut bytes).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    (value.get("v")? == 1).then(|| serde_json::from_value(value).ok())?
}

fn write(path: &Path, note: &impl Serialize) -> Result<(), Error> {
    let bytes = serde_json::to_vec(note).map_err(|e| {
        let source = std::io::Error::other(e);
        files::Error::System { what: "note", path: path.to_owned(), source }
    })?;
    Ok(files::write_soon(path, &bytes, 0o644)?)
}

/// Returns a digest of all names in a directory and of how they look.
fn listing(dir: &Path) -> Option<Digest> {
    let mut rows = vec![];
    for entry in walkdir::WalkDir::new(dir).sort_by_file_name() {
        let entry = entry.ok()?;
        let found = entry.metadata().ok()?;
        let name = entry.path().strip_prefix(dir).ok()?.as_os_str().as_encoded_bytes();
        rows.extend_from_slice(name);
        // The top itself was renamed.
        let times = if entry.depth() == 0 { String::new() } else { times(&found) };
        let (mode, uid, gid) = (found.mode(), found.uid(), found.gid());
        rows.extend_from_slice(format!("\0{mode:o} {uid} {gid} {times}\0").as_bytes());
    }
    Some(Digest::of(rows))
}

fn times(found: &Metadata) -> String {
    let size = if found.is_dir() { 0 } else { found.len() };
    format!("{} {size} {} {}", found.ino(), found.mtime(), found.mtime_nsec())
}
