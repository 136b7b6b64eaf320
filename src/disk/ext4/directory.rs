//! The blocks of directories: names one behind the other, and a checksum at the end of each block.

use super::checksum::crc32c;
use super::geometry::BLOCK;

/// Most bytes of a name.
pub(super) const LONGEST: usize = 255;

/// Bytes of an entry before its name.
const HEAD: usize = 8;

/// Bytes of the entry at the end of a block that holds its checksum.
const TAIL: usize = 12;

/// The kind of that entry.
const TAIL_KIND: u8 = 0xde;

const ROOM: usize = BLOCK as usize - TAIL;

/// What an entry says of a file, besides its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct To {
    pub(super) inode: u32,
    pub(super) kind: u8,
}

pub(super) const FILE: u8 = 1;
pub(super) const DIR: u8 = 2;
pub(super) const FIFO: u8 = 5;
pub(super) const SYMLINK: u8 = 7;

fn bytes(name: &[u8]) -> usize {
    (HEAD + name.len()).next_multiple_of(4)
}

/// Returns how many blocks a directory with these names has, of which `.` and `..` are the first.
pub(super) fn blocks<'a>(names: impl Iterator<Item = &'a [u8]>) -> u64 {
    let (mut blocks, mut used) = (1, 0);
    for name in names {
        if used + bytes(name) > ROOM {
            (blocks, used) = (blocks + 1, 0);
        }
        used += bytes(name);
    }
    blocks
}

/// Returns the blocks of a directory, with checksums that go on from `seed`, its inode's.
pub(super) fn write<'a>(
    entries: impl Iterator<Item = (&'a [u8], To)>,
    blocks: u64,
    seed: u32,
) -> Vec<u8> {
    let mut out: Vec<u8> = vec![];
    let (mut used, mut last) = (0, None);
    for (name, to) in entries {
        if used + bytes(name) > ROOM {
            end(&mut out, used, last, seed);
            used = 0;
        }
        last = Some(out.len());
        out.extend(to.inode.to_le_bytes());
        out.extend((bytes(name) as u16).to_le_bytes());
        out.extend([name.len() as u8, to.kind]);
        out.extend(name);
        out.resize(out.len().next_multiple_of(4), 0);
        used += bytes(name);
    }
    end(&mut out, used, last, seed);
    while (out.len() as u64) < blocks * BLOCK {
        end(&mut out, 0, None, seed);
    }
    out
}

/// Fills up a block: its last entry reaches up to the tail.
fn end(out: &mut Vec<u8>, used: usize, last: Option<usize>, seed: u32) {
    let start = out.len() - used;
    // A block without a name has an entry of no file.
    let last = last.unwrap_or(start);
    out.resize(start + ROOM, 0);
    let reach = (start + ROOM - last) as u16;
    out[last + 4..last + 6].copy_from_slice(&reach.to_le_bytes());
    let sum = crc32c(seed, &out[start..]);
    out.extend([0, 0, 0, 0, TAIL as u8, 0, 0, TAIL_KIND]);
    out.extend(sum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_as_they_are_written() {
        for (count, length) in [(0, 1), (1, 255), (15, 255), (16, 255), (340, 4), (5000, 17)] {
            let names: Vec<Vec<u8>> = (0..count).map(|_| vec![b'n'; length]).collect();
            let blocks = blocks(names.iter().map(Vec::as_slice));
            let to = To { inode: 12, kind: FILE };
            let bytes = write(names.iter().map(|name| (&name[..], to)), blocks, 7);
            assert_eq!(bytes.len() as u64, blocks * BLOCK, "{count} of {length}");
            // The entries of each block reach from one to the next up to its end.
            let (mut found, mut at) = (0, 0);
            while at < bytes.len() {
                let reach = u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]);
                found += usize::from(bytes[at] == 12);
                at += usize::from(reach);
            }
            assert_eq!((found, at), (count, bytes.len()), "{count} of {length}");
        }
    }
}
