//! Room on the disk that is kept for removing: on a full disk a removal still has to write the
//! index without the version, before it can free anything.
//!
//! The file `reserve` in the store's directory holds nothing. It is given up while a removal is at
//! work, and made again afterwards, or by the next one who opens the store to write.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, Mode, OFlags};

use super::{Store, disk};

/// Bytes that are kept at least.
const LEAST: u64 = 1 << 20;

impl Store {
    /// Gives the reserve up until what this returns is dropped. `collect` and `remove` do so by
    /// themselves; for whoever prepares a collection and needs room for that.
    pub fn release_reserve(&self) -> Released<'_> {
        let _ = fs::remove_file(self.reserve_path());
        Released { store: self }
    }

    /// Makes the reserve unless it is there. That there is no room for it is no reason to fail.
    pub(super) fn keep_reserve(&self) {
        // The index as it is, as it will be, and the journal.
        let index = fs::metadata(self.dir().join("index.json")).map_or(0, |found| found.len());
        let wanted = LEAST.max(index.saturating_mul(2));
        let path = self.reserve_path();
        if fs::symlink_metadata(&path).is_ok_and(|found| found.len() >= wanted) {
            return;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(fd) = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR) else { return };
        let file = File::from(fd);
        let _ = file.set_permissions(Permissions::from_mode(disk::PUBLIC_FILE));
        if rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, wanted).is_err() {
            let _ = fs::remove_file(&path);
        }
    }

    fn reserve_path(&self) -> PathBuf {
        self.dir().join("reserve")
    }
}

/// The reserve is given up; dropped = it is made again.
#[derive(Debug)]
pub struct Released<'a> {
    store: &'a Store,
}

impl Drop for Released<'_> {
    fn drop(&mut self) {
        self.store.keep_reserve();
    }
}
