//! Inodes, and the extents that say where the blocks of a file are.

use super::attribute::INLINE;
use super::checksum::crc32c;
use super::geometry::{BLOCK, INODE, Run};

/// Kinds of files, in the mode.
pub(super) const S_FIFO: u16 = 0x1000;
pub(super) const S_DIR: u16 = 0x4000;
pub(super) const S_FILE: u16 = 0x8000;
pub(super) const S_LINK: u16 = 0xa000;

/// Flag: its blocks are in extents.
const EXTENTS: u32 = 0x8_0000;

/// Bytes of the fields behind the first 128.
pub(super) const EXTRA: u16 = 32;

/// Bytes for extents, or for a short target of a symlink.
pub(super) const BODY: usize = 60;

/// Extents in an inode, and in a block of them.
const IN_INODE: usize = 4;
const IN_LEAF: usize = 340;

/// Most runs of a file.
pub(super) const MOST_RUNS: usize = IN_INODE * IN_LEAF;

/// The first and the last second that there is a place for.
pub const TIMES: std::ops::RangeInclusive<i64> = -0x8000_0000..=0x3_7fff_ffff;

/// What is known of a file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Inode<'a> {
    /// Permissions and kind.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970.
    pub(super) time: i64,
    pub(super) links: u16,
    pub(super) size: u64,
    /// All of its blocks: contents, extents, attributes.
    pub(super) blocks: u64,
    /// Where its attributes are that have a block; 0 for none.
    pub(super) attributes: u64,
    /// Attributes behind the fields.
    pub(super) inline: &'a [u8],
    pub(super) body: Body<'a>,
}

/// Where the contents are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body<'a> {
    /// In these blocks; with those that extents need themselves.
    Runs(&'a [Run], &'a [u64]),
    /// Here: the target of a symlink.
    Target(&'a [u8]),
}

impl Default for Body<'_> {
    fn default() -> Self {
        Self::Target(&[])
    }
}

/// Returns what the checksums of all that belongs to an inode go on from.
pub(super) fn seed(volume: u32, number: u32) -> u32 {
    // And its generation, 0.
    crc32c(crc32c(volume, &number.to_le_bytes()), &[0; 4])
}

/// Returns how many blocks the extents of so many runs need.
pub(super) fn leaves(runs: usize) -> usize {
    if runs <= IN_INODE { 0 } else { runs.div_ceil(IN_LEAF) }
}

/// Returns the blocks of extents, where they are not in the inode.
pub(super) fn leaf_blocks(runs: &[Run], seed: u32) -> Vec<Vec<u8>> {
    let mut first = 0;
    let one = |some: &[Run]| {
        let mut block = header(some.len(), IN_LEAF, 0);
        block.extend(extents(some, &mut first));
        block.resize(BLOCK as usize - 4, 0);
        block.extend(crc32c(seed, &block).to_le_bytes());
        block
    };
    if leaves(runs.len()) == 0 { vec![] } else { runs.chunks(IN_LEAF).map(one).collect() }
}

fn header(entries: usize, most: usize, depth: u16) -> Vec<u8> {
    let words = [0xf30a, entries as u16, most as u16, depth, 0, 0];
    words.into_iter().flat_map(u16::to_le_bytes).collect()
}

/// `first`: the block of the file that comes next.
fn extents(runs: &[Run], first: &mut u64) -> Vec<u8> {
    let mut out = vec![];
    for run in runs {
        out.extend((*first as u32).to_le_bytes());
        out.extend((run.blocks as u16).to_le_bytes());
        out.extend(((run.start >> 32) as u16).to_le_bytes());
        out.extend((run.start as u32).to_le_bytes());
        *first += run.blocks;
    }
    out
}

fn tree(runs: &[Run], leaves: &[u64]) -> Vec<u8> {
    if leaves.is_empty() {
        return [header(runs.len(), IN_INODE, 0), extents(runs, &mut 0)].concat();
    }
    let mut out = header(leaves.len(), IN_INODE, 1);
    let mut first = 0;
    for (at, some) in leaves.iter().zip(runs.chunks(IN_LEAF)) {
        out.extend((first as u32).to_le_bytes());
        out.extend((*at as u32).to_le_bytes());
        out.extend(((at >> 32) as u16).to_le_bytes());
        out.extend([0, 0]);
        first += some.iter().map(|run| run.blocks).sum::<u64>();
    }
    out
}

/// A second as two fields: the lower 32 bits, and those above them where a newer kernel looks.
fn time(seconds: i64) -> (u32, u32) {
    let seconds = seconds.clamp(*TIMES.start(), *TIMES.end());
    let low = seconds as i32;
    (low as u32, ((seconds - i64::from(low)) >> 32) as u32 & 3)
}

impl Inode<'_> {
    /// The part of the inode for extents or a short target.
    pub(super) fn body(&self) -> [u8; BODY] {
        let bytes = match self.body {
            Body::Runs(runs, leaves) => tree(runs, leaves),
            Body::Target(bytes) => bytes.to_vec(),
        };
        let mut body = [0; BODY];
        body[..bytes.len()].copy_from_slice(&bytes);
        body
    }

    /// Writes the inode as it lies in its table.
    pub(super) fn write(&self, volume: u32, number: u32, out: &mut [u8]) {
        let out = &mut out[..INODE as usize];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        let half =
            |number: u32| ((number as u16).to_le_bytes(), ((number >> 16) as u16).to_le_bytes());
        let word = |number: u64| (number as u32).to_le_bytes();
        let ((uid, uid_high), (gid, gid_high)) = (half(self.uid), half(self.gid));
        let (seconds, above) = time(self.time);
        // In units of 512 bytes.
        let sectors = self.blocks * (BLOCK / 512);
        let flags = if matches!(self.body, Body::Runs(..)) { EXTENTS } else { 0 };
        put(0x00, &self.mode.to_le_bytes());
        put(0x02, &uid);
        put(0x04, &word(self.size));
        for (at, more) in [(0x08, 0x8c), (0x0c, 0x84), (0x10, 0x88), (0x90, 0x94)] {
            put(at, &seconds.to_le_bytes());
            put(more, &above.to_le_bytes());
        }
        put(0x18, &gid);
        put(0x1a, &self.links.to_le_bytes());
        put(0x1c, &word(sectors));
        put(0x20, &flags.to_le_bytes());
        put(0x28, &self.body());
        put(0x68, &word(self.attributes));
        put(0x6c, &word(self.size >> 32));
        put(0x74, &((sectors >> 32) as u16).to_le_bytes());
        put(0x76, &((self.attributes >> 32) as u16).to_le_bytes());
        put(0x78, &uid_high);
        put(0x7a, &gid_high);
        put(0x80, &EXTRA.to_le_bytes());
        put(INODE as usize - INLINE, self.inline);
        let sum = crc32c(seed(volume, number), out);
        let (low, high) = half(sum);
        out[0x7c..0x7e].copy_from_slice(&low);
        out[0x82..0x84].copy_from_slice(&high);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_up_to_the_end_have_a_place() {
        for (seconds, fields) in [
            (0, (0, 0)),
            (-1, (u32::MAX, 0)),
            (0x7fff_ffff, (0x7fff_ffff, 0)),
            (0x8000_0000, (0x8000_0000, 1)),
            (0x1_0000_0000, (0, 1)),
            (0x3_7fff_ffff, (0x7fff_ffff, 3)),
            (i64::MAX, (0x7fff_ffff, 3)),
        ] {
            assert_eq!(time(seconds), fields, "{seconds}");
        }
    }

    #[test]
    fn many_runs_have_blocks_of_extents() {
        let run = |n: usize| Run { start: 10 + 3 * n as u64, blocks: 2 };
        for (count, blocks) in [(0, 0), (4, 0), (5, 1), (340, 1), (341, 2), (MOST_RUNS, 4)] {
            let runs: Vec<Run> = (0..count).map(run).collect();
            let leaves = leaf_blocks(&runs, 7);
            assert_eq!((leaves.len(), super::leaves(count)), (blocks, blocks), "{count}");
            assert!(leaves.iter().all(|leaf| leaf.len() as u64 == BLOCK));
            let at: Vec<u64> = (0..blocks as u64).collect();
            assert!(tree(&runs, &at).len() <= BODY, "{count}");
        }
    }
}
