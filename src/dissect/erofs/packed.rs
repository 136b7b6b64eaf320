//! Packed files (kernel, fs/erofs/zmap.c): the contents in pieces of one size, "logical clusters",
//! for each of which a list says whether a run of packed blocks begins in it, where it begins, and
//! where the blocks are.
//!
//! ```text
//! behind the inode, at a multiple of 8:   header (8)  list
//!   a list of whole entries (8 bytes), behind 8 more      kind, where in the cluster, block │ distance
//!   or a compact one: packs of 2 entries in 8 bytes and of 16 in 32; the block of a pack at its end
//! ```

use std::ops::Range;

use super::inode::{Stored, WHAT};
use crate::dissect::bytes::{Bytes, read};
use crate::dissect::error::{Error, damaged, foreign};
use crate::dissect::record::Record;

const RECORD: &str = "the list of a packed file of the erofs";

/// Most bytes of a run, unpacked and packed (`Z_EROFS_PCLUSTER_MAX_DSIZE`, `…_MAX_SIZE`).
const MOST_PLAIN: u64 = 12 << 20;
const MOST_PACKED: u64 = 1 << 20;

/// In the header: packs of 16 are used; runs of several blocks, of the first and the second way to
/// pack; blocks that are not packed begin where they do in the file.
const PACKS_OF_16: u16 = 0x1;
const SEVERAL: [u16; 2] = [0x2, 0x4];
const INTERLACED: u16 = 0x10;

/// Of the header: the last run is behind the list; the end of the file is in another file.
const ELSEWHERE: u16 = 0x8 | 0x20;

/// In a distance: it is the number of blocks of the run instead.
const BLOCKS: u32 = 0x800;

/// In an entry: only a part of the run belongs here.
const PARTIAL: u16 = 0x8000;

/// What the list says of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cluster {
    /// A run begins in it: where, at which block, and how it is packed.
    Head { from: u64, block: u64, how: How },
    /// None does; with the number of blocks of the run that began in the one before, if it is
    /// here.
    Inside { blocks: Option<u64> },
}

/// How a run is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// Not at all.
    Plain,
    /// In the first or the second of two ways.
    Way(usize),
}

/// A run of packed blocks.
struct Run {
    /// Which bytes of the file it is.
    plain: Range<u64>,
    /// Where it is.
    packed: Range<u64>,
    how: How,
}

/// The list of a file.
struct List {
    bytes: Vec<u8>,
    /// Bytes of a cluster as a power of two, and of a block.
    bits: u32,
    block: u64,
    count: u64,
    compact: bool,
    /// Of a compact list: entries of four bytes before those of two, and how many of these.
    first: u64,
    twos: u64,
    advise: u16,
    ways: [u8; 2],
}

impl List {
    fn read(bytes: &dyn Bytes, block: u64, file: &Stored, compact: bool) -> Result<Self, Error> {
        let start = file.end.next_multiple_of(8);
        let all = read(bytes, start, 8)?;
        let head = Record::new(RECORD, &all);
        let (advise, ways, form) = (head.le16(4)?, head.byte(6)?, head.byte(7)?);
        if advise & ELSEWHERE != 0 || form & 0x80 != 0 {
            return Err(foreign(WHAT, "a file whose end is with others (ztailpacking, fragments)"));
        }
        let bits = block.ilog2() + u32::from(form & 0xf);
        if bits > 20 {
            return Err(damaged(RECORD, format!("clusters of 2^{bits} bytes")));
        }
        let count = file.inode.size.div_ceil(1 << bits);
        let start = start + 8;
        let first = ((32 - start % 32) / 4) & 7;
        let twos = match advise & PACKS_OF_16 != 0 && first < count {
            true => (count - first) / 16 * 16,
            false => 0,
        };
        let (start, size) = if compact {
            if bits > if twos > 0 { 12 } else { 14 } {
                return Err(foreign(WHAT, format!("a compact list for clusters of 2^{bits}")));
            }
            // Packs of 2 are 8 bytes: of the last one both halves are there.
            let fours = (count - twos).next_multiple_of(2);
            (start, fours.saturating_mul(4).saturating_add(twos * 2))
        } else {
            (start + 8, count.saturating_mul(8))
        };
        if size > bytes.size() {
            return Err(damaged(WHAT, format!("a file of {} bytes", file.inode.size)));
        }
        let list = read(bytes, start, usize::try_from(size).unwrap_or(usize::MAX))?;
        let ways = [ways & 0xf, ways >> 4];
        Ok(Self { bytes: list, bits, block, count, compact, first, twos, advise, ways })
    }

    fn cluster(&self, n: u64) -> Result<Cluster, Error> {
        if self.compact { self.of_pack(n) } else { self.whole(n) }
    }

    fn whole(&self, n: u64) -> Result<Cluster, Error> {
        let record = Record::new(RECORD, &self.bytes);
        let at = usize::try_from(n * 8).unwrap_or(usize::MAX - 8);
        let (kind, from) = (record.le16(at)?, u64::from(record.le16(at + 2)?));
        if kind & PARTIAL != 0 {
            return Err(foreign(WHAT, "a run that several files have in part (dedupe)"));
        }
        let how = match kind & 3 {
            0 => How::Plain,
            1 => How::Way(0),
            3 => How::Way(1),
            _ => {
                let distance = u32::from(record.le16(at + 4)?);
                let blocks = (distance & BLOCKS != 0).then(|| u64::from(distance & !BLOCKS));
                return Ok(Cluster::Inside { blocks });
            }
        };
        Ok(Cluster::Head { from, block: record.le32(at + 4)?.into(), how })
    }

    /// As `unpack_compacted_index` of the kernel.
    fn of_pack(&self, n: u64) -> Result<Cluster, Error> {
        let corrupt = || damaged(RECORD, "distances that lead nowhere");
        // Where the pack begins, how many entries it has, and which of them it is.
        let (start, entries, place) = if n < self.first {
            (n / 2 * 8, 2, n % 2)
        } else if n < self.first + self.twos {
            let n = n - self.first;
            (self.first * 4 + n / 16 * 32, 16, n % 16)
        } else {
            let n = n - self.first - self.twos;
            (self.first * 4 + self.twos * 2 + n / 2 * 8, 2, n % 2)
        };
        let size = if entries == 2 { 8 } else { 32 };
        let all = Record::new(RECORD, &self.bytes);
        let pack = all.slice(usize::try_from(start).unwrap_or(usize::MAX), size)?;
        // The low bits are a place or a distance, the two above them the kind.
        let low = self.bits.max(12);
        let width = (size - 4) * 8 / entries;
        let entry = |n: usize| -> Result<(u32, u32), Error> {
            let at = width * n;
            let mut word = [0; 4];
            let from = &pack[at / 8..];
            let have = from.len().min(4);
            word[..have].copy_from_slice(&from[..have]);
            let value = u32::from_le_bytes(word) >> (at & 7);
            Ok((value & ((1 << low) - 1), value >> low & 3))
        };
        let place = usize::try_from(place).unwrap_or(0);
        let (value, kind) = entry(place)?;
        let how = match kind {
            0 => How::Plain,
            1 => How::Way(0),
            3 => How::Way(1),
            _ => {
                let blocks = (value & BLOCKS != 0).then(|| u64::from(value & !BLOCKS));
                return Ok(Cluster::Inside { blocks });
            }
        };
        // The pack says where its first run is; how many blocks lie between is counted.
        let several = self.advise & SEVERAL[0] != 0;
        let (mut at, mut blocks) = (i64::try_from(place).unwrap_or(0), u64::from(!several));
        while at > 0 {
            at -= 1;
            let (value, kind) = entry(usize::try_from(at).map_err(|_| corrupt())?)?;
            let inside = kind == 2;
            if !several {
                at -= if inside { i64::from(value) } else { 0 };
                blocks += u64::from(at >= 0);
            } else if inside && value & BLOCKS != 0 {
                at -= 1;
                blocks += u64::from(value & !BLOCKS);
            } else if inside {
                if value <= 1 {
                    return Err(corrupt());
                }
                at -= i64::from(value) - 2;
            } else {
                blocks += 1;
            }
        }
        let base = Record::new(RECORD, pack).le32(size - 4)?;
        let block = u64::from(base.wrapping_add(u32::try_from(blocks).map_err(|_| corrupt())?));
        Ok(Cluster::Head { from: value.into(), block, how })
    }

    /// Hands the runs of a file of `size` bytes on, in their order.
    fn runs(&self, size: u64, take: &mut dyn FnMut(Run) -> Result<(), Error>) -> Result<(), Error> {
        let mut open: Option<(u64, u64, How, u64)> = None;
        for n in 0..self.count {
            match self.cluster(n)? {
                Cluster::Inside { blocks } => {
                    let Some((.., held)) = &mut open else {
                        return Err(damaged(RECORD, "it begins in the middle"));
                    };
                    *held = blocks.unwrap_or(*held);
                }
                Cluster::Head { from, block, how } => {
                    let at = (n << self.bits) + from;
                    if n == 0 && from != 0 || from >> self.bits != 0 {
                        return Err(damaged(RECORD, "a run begins outside of its cluster"));
                    }
                    // The last one may say no more than where the contents end.
                    let next = (at < size).then_some((at, block, how, 0));
                    if let Some(one) = std::mem::replace(&mut open, next) {
                        take(self.run(one, at.min(size))?)?;
                    }
                    if next.is_none() {
                        break;
                    }
                }
            }
        }
        match open {
            Some(one) => take(self.run(one, size)?),
            None => Ok(()),
        }
    }

    fn run(&self, (at, block, how, blocks): (u64, u64, How, u64), end: u64) -> Result<Run, Error> {
        // Where nothing says how many, it is one cluster, which is a block as a rule.
        let way = if how == How::Way(1) { 1 } else { 0 };
        let packed = match blocks {
            0 => 1 << self.bits,
            _ if self.advise & SEVERAL[way] == 0 => {
                return Err(damaged(RECORD, "a run of several blocks, which it has not"));
            }
            some => some * self.block,
        };
        if end <= at || end - at > MOST_PLAIN || packed > MOST_PACKED {
            return Err(damaged(RECORD, format!("a run of {packed} bytes from {at} to {end}")));
        }
        let start = block * self.block;
        Ok(Run { plain: at..end, packed: start..start + packed, how })
    }

    fn unpack(&self, run: &Run, packed: &[u8]) -> Result<Vec<u8>, Error> {
        let size = usize::try_from(run.plain.end - run.plain.start).unwrap_or(usize::MAX);
        let way = match run.how {
            How::Way(way) => self.ways[way],
            How::Plain => {
                let short = || damaged(WHAT, "a block that is not packed is too short");
                let mut plain = packed.to_vec();
                if self.advise & INTERLACED != 0 {
                    let from = usize::try_from(run.plain.start % self.block).unwrap_or(0);
                    plain.rotate_left(from.min(packed.len()));
                }
                plain.truncate(size);
                return if plain.len() == size { Ok(plain) } else { Err(short()) };
            }
        };
        // Zeros come first, so that it ends with its block.
        let zeros = packed.iter().take_while(|byte| **byte == 0).count();
        let packed = &packed[zeros..];
        let mut plain = vec![0; size];
        let made = match way {
            0 => lz4_flex::block::decompress_into(packed, &mut plain).map_err(|e| e.to_string()),
            3 => zstd::bulk::decompress_to_buffer(packed, &mut plain).map_err(|e| e.to_string()),
            1 => return Err(foreign(WHAT, "a file packed with LZMA")),
            2 => return Err(foreign(WHAT, "a file packed with DEFLATE")),
            other => return Err(foreign(WHAT, format!("a file packed in way {other}"))),
        };
        match made {
            Ok(made) if made == size => Ok(plain),
            Ok(_) => Err(damaged(WHAT, "packed blocks that are too short")),
            Err(why) => Err(damaged(WHAT, format!("packed blocks: {why}"))),
        }
    }
}

/// Hands the contents of a packed file on.
pub(super) fn read_file(
    bytes: &dyn Bytes,
    block: u64,
    file: &Stored,
    compact: bool,
    take: &mut dyn FnMut(&[u8]),
) -> Result<(), Error> {
    let list = List::read(bytes, block, file, compact)?;
    list.runs(file.inode.size, &mut |run| {
        let size = usize::try_from(run.packed.end - run.packed.start).unwrap_or(usize::MAX);
        take(&list.unpack(&run, &read(bytes, run.packed.start, size)?)?);
        Ok(())
    })
}

/// Returns where the packed blocks of a file are.
pub(super) fn places(
    bytes: &dyn Bytes,
    block: u64,
    file: &Stored,
    compact: bool,
) -> Result<Vec<Range<u64>>, Error> {
    let list = List::read(bytes, block, file, compact)?;
    let mut found = vec![];
    list.runs(file.inode.size, &mut |run| {
        found.push(run.packed);
        Ok(())
    })?;
    Ok(found)
}
