//! What lies in a directory: when it was used, and what room it takes.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::files::{self, system};
use crate::store::error::{Error, reading};

/// Returns the bytes on the disk below `dir` and of itself, as far as this process may look.
pub(super) fn weigh(dir: &Path) -> u64 {
    let own = fs::symlink_metadata(dir).map_or(0, |meta| meta.blocks() * 512);
    files::weigh(dir).0.saturating_add(own)
}

/// Returns the time that a file would be stamped with now: a little behind the finer clock.
pub(super) fn file_clock() -> SystemTime {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    let (seconds, nanos) =
        (u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)
}

/// A name in a directory and what is there.
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) name: OsString,
    pub(super) metadata: Metadata,
}

impl Entry {
    pub(super) fn modified(&self) -> SystemTime {
        self.metadata.modified().unwrap_or_else(|_| SystemTime::now())
    }

    /// When it was written or used last.
    pub(super) fn used(&self) -> SystemTime {
        files::last_used(&self.metadata)
    }

    /// When it was written, linked or moved last: no tool sets that back.
    pub(super) fn changed(&self) -> SystemTime {
        let seconds = u64::try_from(self.metadata.ctime()).unwrap_or(0);
        SystemTime::UNIX_EPOCH
            + Duration::new(seconds, u32::try_from(self.metadata.ctime_nsec()).unwrap_or(0))
    }

    /// Device and inode, and how many names it has.
    pub(super) fn inode(&self) -> ((u64, u64), u64) {
        ((self.metadata.dev(), self.metadata.ino()), self.metadata.nlink())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.metadata.blocks() * 512
    }
}

/// Returns what is in a directory, sorted; nothing where there is none. What goes away meanwhile
/// was never there.
pub(super) fn entries(dir: &Path) -> Result<Vec<Entry>, Error> {
    let list = match fs::read_dir(dir) {
        Ok(list) => list,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(vec![]);
        }
        Err(e) => return Err(reading(system("list", dir, e))),
    };
    let mut found = vec![];
    for entry in list {
        let entry = entry.map_err(|e| reading(system("list", dir, e)))?;
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            Ok(metadata) => found.push(Entry { name: entry.file_name(), path, metadata }),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(reading(system("look at", &path, e))),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
