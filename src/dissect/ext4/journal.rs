//! The journal of an ext4 that was not unmounted (jbd2; kernel, Documentation/filesystems/ext4,
//! "Journal"): what was promised to be on the disk, and is in the journal only.
//!
//! ```text
//! superblock │ descriptor, blocks …, commit │ descriptor, blocks …, revoked, commit │ …
//! ```
//! Nothing is written: each block that the kernel would copy to its place is read where it is in
//! the journal. A transaction without its end does not count.

use std::collections::BTreeMap;
use std::sync::Arc;

use crc::{CRC_32_ISCSI, Crc};

use super::extent::Extent;
use super::superblock::{Super, WHAT};
use crate::dissect::bytes::{Bytes, read, within};
use crate::dissect::error::{Error, damaged, foreign};
use crate::dissect::record::Record;

const MAGIC: u32 = 0xc03b_3998;

/// Kinds of blocks.
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKED: u32 = 5;

/// Features: blocks have 64 bits; checksums of the second and third form; changes that are no
/// blocks.
const WIDE: u32 = 0x2;
const CHECKSUMS_2: u32 = 0x8;
const CHECKSUMS_3: u32 = 0x10;
const FAST: u32 = 0x20;
const KNOWN: u32 = 0x1 | WIDE | 0x4 | CHECKSUMS_2 | CHECKSUMS_3;

/// Flags of a block in a descriptor: it begins with [`MAGIC`], which is left out; the identifier is
/// that of the one before; the last one.
const ESCAPED: u32 = 1;
const SAME: u32 = 2;
const LAST: u32 = 8;

/// A file system with blocks that are elsewhere than they belong.
struct Replayed {
    bytes: Arc<dyn Bytes>,
    block: u64,
    /// By block: where it is read, and whether it was escaped.
    moved: BTreeMap<u64, (u64, bool)>,
}

impl Bytes for Replayed {
    fn size(&self) -> u64 {
        self.bytes.size()
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), Error> {
        if !within(self.size(), at, buffer.len()) {
            return Err(damaged(WHAT, "something lies beyond its end"));
        }
        self.bytes.read_at(at, buffer)?;
        let end = at + buffer.len() as u64;
        for (block, (place, escaped)) in self.moved.range(at / self.block..end.div_ceil(self.block))
        {
            let mut whole = read(&*self.bytes, place * self.block, self.block as usize)?;
            if *escaped {
                whole[..4].copy_from_slice(&MAGIC.to_be_bytes());
            }
            let start = block * self.block;
            let (from, upto) = (start.max(at), (start + self.block).min(end));
            let range = |from_zero: u64| (from - from_zero) as usize..(upto - from_zero) as usize;
            buffer[range(at)].copy_from_slice(&whole[range(start)]);
        }
        Ok(())
    }
}

/// The journal as a ring of blocks.
struct Ring<'a> {
    bytes: &'a dyn Bytes,
    block: u64,
    /// Where each of its blocks is in the file system.
    places: Vec<u64>,
    first: u64,
    features: u32,
    seed: u32,
}

/// Returns the file system as it would be with its journal written back, and how many blocks of it
/// are elsewhere.
pub(super) fn replay(
    bytes: Arc<dyn Bytes>,
    head: &Super,
    journal: &[Extent],
) -> Result<(Arc<dyn Bytes>, usize), Error> {
    let places: Vec<u64> =
        journal.iter().flat_map(|one| one.place..one.place + one.count).collect();
    let mut ring =
        Ring { bytes: &*bytes, block: head.block, places, first: 1, features: 0, seed: 0 };
    let all = ring.read(0)?;
    let record = Record::new("the journal of the ext4", &all);
    let kind = record.be32(4)?;
    if record.be32(0)? != MAGIC
        || !matches!(kind, 3 | 4)
        || u64::from(record.be32(12)?) != head.block
    {
        return Err(damaged(WHAT, "its journal is none"));
    }
    let (length, first) = (u64::from(record.be32(16)?), u64::from(record.be32(20)?));
    if length > ring.places.len() as u64 || first == 0 || first >= length {
        return Err(damaged(WHAT, "its journal is shorter than it says"));
    }
    ring.places.truncate(usize::try_from(length).unwrap_or(0));
    ring.first = first;
    if kind == 4 {
        ring.features = record.be32(0x28)?;
        ring.seed = crc(!0, record.slice(0x30, 16)?);
    }
    if ring.features & FAST != 0 {
        return Err(foreign(WHAT, "its journal has fast commits; mount and unmount it once"));
    }
    if ring.features & !KNOWN != 0 {
        return Err(foreign(WHAT, format!("its journal has features {:#x}", ring.features)));
    }
    let (sequence, start) = (record.be32(24)?, u64::from(record.be32(28)?));
    let moved = if start == 0 { BTreeMap::new() } else { ring.walk(start, sequence)? };
    let count = moved.len();
    if count == 0 {
        return Ok((bytes, 0));
    }
    let block = head.block;
    Ok((Arc::new(Replayed { bytes, block, moved }), count))
}

impl Ring<'_> {
    fn read(&self, at: u64) -> Result<Vec<u8>, Error> {
        let place = usize::try_from(at).ok().and_then(|at| self.places.get(at));
        let place = place.ok_or_else(|| damaged(WHAT, "its journal leads out of itself"))?;
        read(self.bytes, place * self.block, self.block as usize)
    }

    fn next(&self, at: u64) -> u64 {
        if at + 1 >= self.places.len() as u64 { self.first } else { at + 1 }
    }

    fn checksums(&self) -> bool {
        self.features & (CHECKSUMS_2 | CHECKSUMS_3) != 0
    }

    /// Whether the checksum at a place of a block is right.
    fn right(&self, block: &[u8], at: usize) -> bool {
        let Some(found) = block.get(at..at + 4) else { return false };
        let mut plain = block.to_vec();
        plain[at..at + 4].fill(0);
        !self.checksums() || found == crc(self.seed, &plain).to_be_bytes()
    }

    /// Goes through all transactions that are whole; returns which blocks are where.
    fn walk(&self, start: u64, sequence: u32) -> Result<BTreeMap<u64, (u64, bool)>, Error> {
        let mut moved: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
        // What a transaction holds counts when its end is there.
        let mut waiting: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
        let mut revoked: Vec<u64> = vec![];
        let (mut at, mut sequence) = (start, sequence);
        // As many blocks as the ring has: then it has been around.
        for _ in 0..self.places.len() {
            let block = self.read(at)?;
            let record = Record::new("the journal of the ext4", &block);
            if record.be32(0)? != MAGIC || record.be32(8)? != sequence {
                break;
            }
            match record.be32(4)? {
                DESCRIPTOR => {
                    if !self.right(&block, block.len() - 4) {
                        break;
                    }
                    for (target, flags, sum) in self.tags(record, block.len())? {
                        at = self.next(at);
                        let place = self.places.get(usize::try_from(at).unwrap_or(usize::MAX));
                        let place = *place.ok_or_else(|| damaged(WHAT, "its journal ends"))?;
                        if self.features & CHECKSUMS_3 != 0 {
                            let seed = crc(self.seed, &sequence.to_be_bytes());
                            if crc(seed, &self.read(at)?) != sum {
                                return Err(damaged(WHAT, "a block in its journal is another"));
                            }
                        }
                        waiting.insert(target, (place, flags & ESCAPED != 0));
                    }
                }
                COMMIT => {
                    if !self.right(&block, 16) {
                        break;
                    }
                    // What is given up in a transaction does not come from it or one before.
                    for block in std::mem::take(&mut revoked) {
                        moved.remove(&block);
                        waiting.remove(&block);
                    }
                    moved.append(&mut waiting);
                    sequence = sequence.wrapping_add(1);
                }
                REVOKED => {
                    if !self.right(&block, block.len() - 4) {
                        break;
                    }
                    let end = (record.be32(12)? as usize).min(block.len());
                    let wide = self.features & WIDE != 0;
                    let mut place = 16;
                    while place + if wide { 8 } else { 4 } <= end {
                        revoked.push(match wide {
                            true => record.be64(place)?,
                            false => record.be32(place)?.into(),
                        });
                        place += if wide { 8 } else { 4 };
                    }
                }
                _ => break,
            }
            at = self.next(at);
        }
        Ok(moved)
    }

    /// Returns the blocks that follow a descriptor: where each belongs, its flags, its checksum.
    fn tags(&self, record: Record<'_>, size: usize) -> Result<Vec<(u64, u32, u32)>, Error> {
        let third = self.features & CHECKSUMS_3 != 0;
        let wide = self.features & WIDE != 0;
        let bytes = match (third, self.features & CHECKSUMS_2 != 0, wide) {
            (true, ..) => 16,
            (_, true, true) => 14,
            (_, true, false) => 10,
            (_, false, true) => 12,
            (_, false, false) => 8,
        };
        let end = size - if self.checksums() { 4 } else { 0 };
        let (mut found, mut at) = (vec![], 12);
        while at + bytes <= end {
            let flags = if third { record.be32(at + 4)? } else { record.be16(at + 6)?.into() };
            let high = if wide { record.be32(at + 8)? } else { 0 };
            let sum = if third { record.be32(at + 12)? } else { 0 };
            found.push((u64::from(record.be32(at)?) | u64::from(high) << 32, flags, sum));
            at += bytes + if flags & SAME != 0 { 0 } else { 16 };
            if flags & LAST != 0 {
                break;
            }
        }
        Ok(found)
    }
}

/// CRC-32C as ext4 uses it: without the inversions before and after.
fn crc(before: u32, bytes: &[u8]) -> u32 {
    let crc = Crc::<u32>::new(&CRC_32_ISCSI);
    // The crate inverts what it begins with, and its bits are the other way round.
    let mut digest = crc.digest_with_initial(before.reverse_bits());
    digest.update(bytes);
    !digest.finalize()
}
