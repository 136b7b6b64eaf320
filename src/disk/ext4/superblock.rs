//! The superblock, which says all that a kernel must know, and that of the journal.

use uuid::Uuid;

use super::checksum::{START, crc32c};
use super::geometry::{BLOCK, FLEX, GROUP, Geometry, INODE};
use super::inode::{BODY, EXTRA};

/// Where it lies in the first block; in copies, at the start.
pub(super) const PLACE: usize = 1024;

const BYTES: usize = 1024;

/// `has_journal ext_attr dir_index`
const COMPATIBLE: u32 = 0x4 | 0x8 | 0x20;

/// `filetype extent 64bit flex_bg`
const INCOMPATIBLE: u32 = 0x2 | 0x40 | 0x80 | 0x200;

/// `sparse_super large_file huge_file dir_nlink extra_isize metadata_csum`
const READ_ONLY: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400;

/// The first inode that is not for ext4 itself: `lost+found`.
pub(super) const FIRST: u32 = 11;

/// The inode of the journal.
pub(super) const JOURNAL: u32 = 8;

/// What the superblock says besides where things are.
#[derive(Debug)]
pub(super) struct Super<'a> {
    pub(super) id: Uuid,
    pub(super) label: &'a str,
    pub(super) time: i64,
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u64,
    /// A second copy of where the journal is, and its bytes.
    pub(super) journal: ([u8; BODY], u64),
}

impl Super<'_> {
    /// Returns the superblock of a group.
    pub(super) fn write(&self, geometry: &Geometry, group: u64) -> Vec<u8> {
        let mut out = vec![0; BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        let low = |number: u64| (number as u32).to_le_bytes();
        let seconds = low(self.time.clamp(0, i64::from(u32::MAX)) as u64);
        put(0x00, &low(geometry.inodes()));
        put(0x04, &low(geometry.blocks));
        put(0x0c, &low(self.free_blocks));
        put(0x10, &low(self.free_inodes));
        // The logarithm of a block's bytes, less 10; of a cluster's.
        put(0x18, &low(u64::from(BLOCK.ilog2() - 10)));
        put(0x1c, &low(u64::from(BLOCK.ilog2() - 10)));
        put(0x20, &low(GROUP));
        put(0x24, &low(GROUP));
        put(0x28, &low(geometry.inodes_of_group));
        put(0x30, &seconds);
        // It is never checked because it was mounted often.
        put(0x36, &[0xff, 0xff]);
        put(0x38, &[0x53, 0xef]);
        // Clean; errors are passed over; its inodes have a size of their own.
        put(0x3a, &[1, 0, 1, 0]);
        put(0x40, &seconds);
        put(0x4c, &low(1));
        put(0x54, &low(u64::from(FIRST)));
        put(0x58, &(INODE as u16).to_le_bytes());
        put(0x5a, &(group as u16).to_le_bytes());
        put(0x5c, &COMPATIBLE.to_le_bytes());
        put(0x60, &INCOMPATIBLE.to_le_bytes());
        put(0x64, &READ_ONLY.to_le_bytes());
        put(0x68, self.id.as_bytes());
        put(0x78, self.label.as_bytes());
        put(0xe0, &low(u64::from(JOURNAL)));
        // What names of directories are hashed with: half of MD4, bytes taken as signed.
        put(0xec, self.id.as_bytes());
        put(0xfc, &[1]);
        put(0x160, &low(1));
        put(0xfd, &[1]);
        put(0xfe, &(super::geometry::DESCRIPTOR as u16).to_le_bytes());
        // Attributes and access control lists are on.
        put(0x100, &low(0xc));
        put(0x108, &seconds);
        let (body, bytes) = &self.journal;
        put(0x10c, body);
        put(0x10c + BODY, &low(bytes >> 32));
        put(0x10c + BODY + 4, &low(*bytes));
        put(0x150, &low(geometry.blocks >> 32));
        put(0x158, &low(self.free_blocks >> 32));
        put(0x15c, &EXTRA.to_le_bytes());
        put(0x15e, &EXTRA.to_le_bytes());
        put(0x174, &[FLEX as u8, 1]);
        let sum = crc32c(START, &out[..BYTES - 4]);
        out[BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        out
    }
}

/// Returns the superblock of an empty journal.
pub(super) fn journal(id: Uuid, blocks: u64) -> Vec<u8> {
    let mut out = vec![0; BLOCK as usize];
    let high = |number: u64| (number as u32).to_be_bytes();
    // Of the second version; the first block behind it, the first transaction, nothing to do.
    for (at, number) in
        [(0x00, 0xc03b_3998), (0x04, 4), (0x0c, BLOCK), (0x10, blocks), (0x14, 1), (0x18, 1)]
    {
        out[at..at + 4].copy_from_slice(&high(number));
    }
    out[0x30..0x40].copy_from_slice(id.as_bytes());
    out[0x40..0x44].copy_from_slice(&high(1));
    out
}
