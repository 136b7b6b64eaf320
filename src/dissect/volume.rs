//! Which file system is in a partition.

use std::sync::Arc;

use super::bytes::{Bytes, Part};
use super::error::{Error, foreign};
use super::tree::FileSystem;
use super::{erofs, ext4};

/// Returns the whole of a disk, where it is a file system and has no partitions.
///
/// # Errors
/// None that can be.
pub fn whole(disk: &Arc<dyn Bytes>) -> Result<Part, Error> {
    Part::new("the disk", disk, 0, disk.size())
}

/// Opens the file system in a partition.
///
/// # Errors
/// [`Error::Foreign`] where it is none that is read; as [`FileSystem::inode`].
pub fn file_system(part: &Part) -> Result<Box<dyn FileSystem>, Error> {
    let bytes: Arc<dyn Bytes> = Arc::new(part.clone());
    let mark = |at: u64, mark: &[u8]| {
        let mut found = [0; 8];
        let found = &mut found[..mark.len()];
        bytes.read_at(at, found).is_ok() && *found == *mark
    };
    if mark(1024, &erofs::MAGIC.to_le_bytes()) {
        return Ok(Box::new(erofs::Erofs::open(bytes)?));
    }
    if mark(1024 + 0x38, &ext4::MAGIC.to_le_bytes()) {
        return Ok(Box::new(ext4::Ext4::open(bytes)?));
    }
    for (at, known, name) in [
        (0, &b"hsqs"[..], "squashfs"),
        (0, b"XFSB", "xfs"),
        (0x1_0040, b"_BHRfS_M", "btrfs"),
        (0, b"LUKS\xba\xbe", "LUKS, encrypted"),
    ] {
        if mark(at, known) {
            return Err(foreign("the root's file system", name));
        }
    }
    Err(foreign("the root's file system", "neither erofs nor ext4"))
}
