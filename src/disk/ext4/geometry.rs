//! Where what lies in a file system: the parts of its groups, and blocks for files between them.

/// Bytes of a block.
pub(super) const BLOCK: u64 = 4096;

/// Blocks of a group: as many as one block has bits.
pub(super) const GROUP: u64 = 8 * BLOCK;

/// Bytes of an inode.
pub(super) const INODE: u64 = 256;

/// Bytes of a group's descriptor.
pub(super) const DESCRIPTOR: u64 = 64;

/// Groups whose bitmaps and tables lie together (`flex_bg`), as a power of two.
pub(super) const FLEX: u32 = 4;

/// Most blocks of a run: what an extent holds.
pub(super) const RUN: u64 = 32_768;

/// Blocks one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) blocks: u64,
}

impl Run {
    fn end(self) -> u64 {
        self.start + self.blocks
    }
}

/// Where the parts of a group lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) block_bits: u64,
    pub(super) inode_bits: u64,
    pub(super) table: u64,
}

/// A file system of so many blocks and inodes.
#[derive(Debug)]
pub(super) struct Geometry {
    pub(super) blocks: u64,
    pub(super) inodes_of_group: u64,
    pub(super) groups: Vec<Group>,
    /// What is not for files, in order.
    reserved: Vec<Run>,
    /// All blocks before this one are in use.
    next: u64,
}

impl Geometry {
    /// Lays out a file system in so many bytes, with at least so many inodes; none where its own
    /// parts do not fit in.
    pub(super) fn new(bytes: u64, inodes: u64) -> Option<Self> {
        let mut blocks = bytes / BLOCK;
        loop {
            let count = blocks.div_ceil(GROUP);
            let laid = Self::of(blocks, count, inodes)?;
            let last = blocks - (count - 1) * GROUP;
            // A last group of few blocks is left out, as its own parts are all that it would hold.
            if count == 1 || last >= laid.head(count - 1) + laid.parts() + 50 {
                return laid.fits().then_some(laid);
            }
            blocks -= last;
        }
    }

    fn of(blocks: u64, count: u64, inodes: u64) -> Option<Self> {
        // A whole block of inodes.
        let of_block = BLOCK / INODE;
        let inodes_of_group = inodes.div_ceil(count.max(1)).next_multiple_of(of_block);
        if count == 0 || inodes_of_group > GROUP || blocks > u64::from(u32::MAX) * 16 {
            return None;
        }
        let none = Group { block_bits: 0, inode_bits: 0, table: 0 };
        let groups = vec![none; usize::try_from(count).ok()?];
        let mut this = Self { blocks, inodes_of_group, groups, reserved: vec![], next: 0 };
        let heads = (0..count).map(|group| (group * GROUP, this.head(group)));
        let heads = heads.filter(|(_, blocks)| *blocks > 0);
        let heads: Vec<Run> = heads.map(|(start, blocks)| Run { start, blocks }).collect();
        this.reserved.extend(&heads);
        for first in (0..this.groups.len()).step_by(1 << FLEX) {
            let last = this.groups.len().min(first + (1 << FLEX));
            let mut at = first as u64 * GROUP;
            for group in first..last {
                this.groups[group].block_bits = this.whole(&heads, &mut at, 1);
            }
            for group in first..last {
                this.groups[group].inode_bits = this.whole(&heads, &mut at, 1);
            }
            for group in first..last {
                let blocks = this.table_blocks();
                this.groups[group].table = this.whole(&heads, &mut at, blocks);
            }
        }
        this.reserved.sort_by_key(|run| run.start);
        Some(this)
    }

    /// Reserves a run of blocks at `at` or the first place behind it where they all fit in.
    fn whole(&mut self, heads: &[Run], at: &mut u64, blocks: u64) -> u64 {
        let in_way = |at: u64| heads.iter().find(|run| run.start < at + blocks && at < run.end());
        while let Some(run) = in_way(*at) {
            *at = run.end();
        }
        let start = *at;
        *at += blocks;
        self.reserved.push(Run { start, blocks });
        start
    }

    fn fits(&self) -> bool {
        self.reserved.iter().all(|run| run.end() <= self.blocks)
    }

    /// Blocks of superblock and descriptors at the start of a group, if it has them
    /// (`sparse_super`).
    pub(super) fn head(&self, group: u64) -> u64 {
        if has_super(group) { 1 + self.descriptor_blocks() } else { 0 }
    }

    fn descriptor_blocks(&self) -> u64 {
        (self.groups.len() as u64 * DESCRIPTOR).div_ceil(BLOCK)
    }

    pub(super) fn table_blocks(&self) -> u64 {
        self.inodes_of_group * INODE / BLOCK
    }

    /// Blocks of the other parts of a group.
    fn parts(&self) -> u64 {
        2 + self.table_blocks()
    }

    pub(super) fn inodes(&self) -> u64 {
        self.inodes_of_group * self.groups.len() as u64
    }

    /// Blocks that are for files, and those of them that are left.
    pub(super) fn free(&self) -> u64 {
        let reserved = self.reserved.iter().filter(|run| run.end() > self.next);
        let reserved: u64 = reserved.map(|run| run.blocks).sum();
        (self.blocks - self.next).saturating_sub(reserved)
    }

    /// Takes blocks for a file, the lowest ones; none where there are too few.
    pub(super) fn take(&mut self, mut blocks: u64) -> Option<Vec<Run>> {
        let mut runs: Vec<Run> = vec![];
        let mut ahead = self.reserved.partition_point(|run| run.end() <= self.next);
        while blocks > 0 {
            let reserved = self.reserved.get(ahead);
            let end = reserved.map_or(self.blocks, |run| run.start);
            let some = (end - self.next).min(blocks).min(RUN);
            if some == 0 {
                self.next = reserved?.end();
                ahead += 1;
                continue;
            }
            runs.push(Run { start: self.next, blocks: some });
            self.next += some;
            blocks -= some;
        }
        Some(runs)
    }

    /// Returns the bits of a group's blocks, and how many of them are free.
    pub(super) fn block_bits(&self, group: usize) -> (Vec<u8>, u64) {
        let start = group as u64 * GROUP;
        let mut bits = vec![0; BLOCK as usize];
        let mut mark = |from: u64, to: u64| {
            let (from, to) = (from.max(start), to.min(start + GROUP));
            (from..to).for_each(|block| set(&mut bits, block - start));
        };
        mark(0, self.next);
        self.reserved.iter().for_each(|run| mark(run.start, run.end()));
        // What is behind the end of the file system.
        mark(self.blocks, u64::MAX);
        let used: u64 = bits.iter().map(|byte| u64::from(byte.count_ones())).sum();
        (bits, GROUP - used)
    }
}

/// Whether a group has a superblock: the first two, and the powers of 3, 5 and 7.
pub(super) fn has_super(group: u64) -> bool {
    let power = |of: u64| {
        let mut left = group;
        while left > 1 && left.is_multiple_of(of) {
            left /= of;
        }
        left == 1
    };
    group == 0 || [3, 5, 7].into_iter().any(power)
}

pub(super) fn set(bits: &mut [u8], at: u64) {
    bits[(at / 8) as usize] |= 1 << (at % 8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_with_superblocks() {
        let found: Vec<u64> = (0..130).filter(|group| has_super(*group)).collect();
        assert_eq!(found, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }

    /// Of many sizes: no two parts share a block, and files get all that is left.
    #[test]
    fn nothing_lies_upon_anything_else() {
        let mut seen = 0;
        for mib in [1, 4, 8, 127, 128, 129, 130, 300, 1000, 2049, 5000] {
            let Some(mut geometry) = Geometry::new(mib << 20, mib * 64 + 100) else { continue };
            seen += 1;
            let reserved = geometry.reserved.clone();
            for pair in reserved.windows(2) {
                assert!(pair[0].end() <= pair[1].start, "{mib}: {pair:?}");
            }
            let free = geometry.free();
            let mut runs = geometry.take(3).expect("three blocks");
            runs.extend(geometry.take(free - 3).expect("all that is left"));
            assert_eq!(geometry.free(), 0, "{mib}");
            assert_eq!(geometry.take(1), None, "{mib}");
            let all: u64 = runs.iter().chain(&reserved).map(|run| run.blocks).sum();
            assert_eq!(all, geometry.blocks, "{mib}");
            for run in runs {
                let apart = |other: &Run| run.end() <= other.start || other.end() <= run.start;
                assert!(reserved.iter().all(apart), "{mib}: {run:?}");
            }
            let groups = 0..geometry.groups.len();
            assert!(groups.into_iter().all(|group| geometry.block_bits(group).1 == 0), "{mib}");
        }
        assert!(seen >= 9, "{seen}");
    }
}
