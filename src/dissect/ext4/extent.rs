//! Where the blocks of a file are.

use std::sync::Arc;

use super::inode::Stored;
use super::superblock::{Super, WHAT};
use crate::dissect::bytes::{Bytes, read};
use crate::dissect::error::{Error, damaged};
use crate::dissect::record::Record;

const MAGIC: u16 = 0xf30a;

/// Deepest tree (`EXT4_MAX_EXTENT_DEPTH`).
const DEPTH: u16 = 5;

/// Most nodes of a tree: of a file of 16 TiB in pieces of 256 KiB.
const NODES: usize = 200_000;

/// Most blocks of an extent; of one with more by so many, nothing is written yet.
const MOST: u16 = 32_768;

/// Blocks one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// The first one, counted in the file.
    pub(super) first: u64,
    pub(super) count: u64,
    /// The first one, counted in the file system.
    pub(super) place: u64,
    /// Else they read as zeros.
    pub(super) written: bool,
}

impl Extent {
    /// The block of the file behind it.
    pub(super) fn end(&self) -> u64 {
        self.first + self.count
    }
}

/// Returns the extents of a file in their order, none of them beyond the end of the file system.
pub(super) fn of_file(
    bytes: &Arc<dyn Bytes>,
    head: &Super,
    file: &Stored,
) -> Result<Vec<Extent>, Error> {
    let mut found: Vec<Extent> = vec![];
    // Nodes still to be looked at, the next one last; and how deep each must be.
    let mut nodes = vec![(file.extents()?.to_vec(), None)];
    let mut seen = 0;
    while let Some((node, depth)) = nodes.pop() {
        seen += 1;
        let record = Record::new("the extents of a file of the ext4", &node);
        let (entries, own) = (record.le16(2)?, record.le16(6)?);
        if record.le16(0)? != MAGIC || own > DEPTH || depth.is_some_and(|depth| depth != own) {
            return Err(damaged(WHAT, "the extents of a file are none"));
        }
        let mut below = vec![];
        for at in (1..=usize::from(entries)).map(|n| n * 12) {
            if own > 0 {
                let block = u64::from(record.le32(at + 4)?) | u64::from(record.le16(at + 8)?) << 32;
                below.push(block);
                continue;
            }
            let (first, count) = (u64::from(record.le32(at)?), record.le16(at + 4)?);
            let high = u64::from(record.le16(at + 6)?);
            let place = high << 32 | u64::from(record.le32(at + 8)?);
            let written = count <= MOST;
            let count = u64::from(if written { count } else { count - MOST });
            let end = place + count;
            let after = found.last().map_or(0, Extent::end);
            if count == 0 || first < after || end > head.blocks {
                return Err(damaged(WHAT, "the extents of a file lie over each other, or nowhere"));
            }
            found.push(Extent { first, count, place, written });
        }
        if seen + nodes.len() + below.len() > NODES {
            return Err(damaged(WHAT, "the extents of a file do not end"));
        }
        for block in below.into_iter().rev() {
            let size = usize::try_from(head.block).unwrap_or(0);
            let node = read(&**bytes, block.saturating_mul(head.block), size)?;
            nodes.push((node, Some(own - 1)));
        }
    }
    Ok(found)
}
