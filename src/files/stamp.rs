//! How a file looks from outside: what shows that it is still the one that was read before.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::Stat;

/// Two changes within one tick of a file system's clock leave the same stamp. The coarsest tick in
/// use is that of FAT.
const TICK: Duration = Duration::from_secs(2);

/// What changes when a file is written to or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileStamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// When its bytes changed.
    pub(crate) modified: FileTime,
    /// When anything about it changed; no program can set it.
    pub(crate) changed: FileTime,
}

/// Seconds and nanoseconds since 1970, without the four bytes that a pair would leave unused: of a
/// listing they would be a tenth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(Rust, packed(4))]
pub(crate) struct FileTime {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

impl FileStamp {
    pub(crate) fn of(stat: &Stat) -> Self {
        let nanos = |n: u64| u32::try_from(n).unwrap_or(0);
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: FileTime { seconds: stat.st_mtime, nanos: nanos(stat.st_mtime_nsec) },
            changed: FileTime { seconds: stat.st_ctime, nanos: nanos(stat.st_ctime_nsec) },
        }
    }

    /// Whether nothing points to other bytes: all but the time of change, which also moves when a
    /// hard link or a mode is made.
    pub(crate) fn same_bytes(&self, other: &Self) -> bool {
        Self { changed: other.changed, ..*self } == *other
    }

    /// Whether a file that looked like this and was read at `when` or later would look otherwise
    /// after any further change.
    pub(crate) fn settled(&self, when: SystemTime) -> bool {
        let old = |FileTime { seconds, nanos }: FileTime| match u64::try_from(seconds) {
            Ok(seconds) => UNIX_EPOCH
                .checked_add(Duration::new(seconds, nanos) + TICK)
                .is_some_and(|at| at <= when),
            // Before 1970.
            Err(_) => true,
        };
        old(self.modified) && old(self.changed)
    }
}
