//! Writing the file system from front to back.

use std::io::{self, Write};

use super::checksum::{START, crc32c};
use super::directory::To;
use super::geometry::{BLOCK, DESCRIPTOR, GROUP, INODE, Run};
use super::inode::{Body, Inode};
use super::place::Layout;
use super::superblock::{FIRST, JOURNAL, Super};
use super::volume::Kind;
use super::{attribute, directory, geometry, inode, place, superblock};
use crate::disk::error::{Error, doing};

/// Bytes that are copied at once.
const CHUNK: u64 = 1 << 20;

/// What lies in some blocks.
enum Piece {
    Bytes(Vec<u8>),
    /// The inodes of a group.
    Inodes(usize),
    /// A part of the contents of a node, from this block of it on.
    Contents(usize, u64, Run),
}

impl Layout<'_> {
    /// Returns the bytes of the file system.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.geometry.blocks * BLOCK
    }

    /// Writes it; `read` fills a buffer with contents, from a place on.
    ///
    /// # Errors
    /// What reading and writing fails with.
    pub fn write(
        &self,
        out: &mut dyn Write,
        read: &dyn Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> Result<(), Error> {
        let failed = doing("write the ext4");
        let zeros = vec![0; CHUNK as usize];
        let mut at = 0;
        let skip = |out: &mut dyn Write, bytes: u64| {
            let mut left = bytes;
            while left > 0 {
                let some = left.min(CHUNK);
                out.write_all(&zeros[..some as usize])?;
                left -= some;
            }
            Ok(())
        };
        for (block, piece) in self.pieces() {
            skip(out, block * BLOCK - at).map_err(&failed)?;
            let bytes = self.piece(piece, out, read).map_err(&failed)?;
            at = block * BLOCK + bytes;
        }
        skip(out, self.bytes() - at).map_err(&failed)
    }

    /// Writes a piece; returns its bytes.
    fn piece(
        &self,
        piece: Piece,
        out: &mut dyn Write,
        read: &dyn Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<u64> {
        let bytes = match piece {
            Piece::Bytes(bytes) => bytes,
            Piece::Inodes(group) => self.inodes(group),
            Piece::Contents(node, from, run) => match &self.volume.nodes[node].kind {
                Kind::File { size, contents } => {
                    let end = (*size).min((from + run.blocks) * BLOCK);
                    let mut buffer = vec![0; CHUNK.min(run.blocks * BLOCK) as usize];
                    let mut at = from * BLOCK;
                    while at < end {
                        let some = (end - at).min(CHUNK);
                        let buffer = &mut buffer[..some.next_multiple_of(BLOCK) as usize];
                        let (wanted, padding) = buffer.split_at_mut(some as usize);
                        read(contents + at, wanted)?;
                        padding.fill(0);
                        out.write_all(buffer)?;
                        at += some;
                    }
                    return Ok(run.blocks * BLOCK);
                }
                Kind::Dir(_) => {
                    let all = self.directory(node);
                    all[(from * BLOCK) as usize..][..(run.blocks * BLOCK) as usize].to_vec()
                }
                Kind::Symlink(target) => {
                    let mut block = target.to_vec();
                    block.resize(BLOCK as usize, 0);
                    block
                }
                Kind::Fifo => vec![],
            },
        };
        out.write_all(&bytes)?;
        Ok(bytes.len() as u64)
    }

    /// All that is written, in the order of its blocks.
    fn pieces(&self) -> Vec<(u64, Piece)> {
        let mut pieces = self.groups();
        for (node, placed) in self.placed.iter().enumerate() {
            let mut from = 0;
            for run in &placed.runs {
                pieces.push((run.start, Piece::Contents(node, from, *run)));
                from += run.blocks;
            }
            let seed = self.inode_seed(placed.number);
            let leaves = inode::leaf_blocks(&placed.runs, seed);
            let leaves = placed.leaves.iter().zip(leaves);
            pieces.extend(leaves.map(|(at, leaf)| (*at, Piece::Bytes(leaf))));
            if let Some(block) = &placed.stored.block {
                let mut block = block.clone();
                attribute::seal(&mut block, placed.attributes, self.seed());
                pieces.push((placed.attributes, Piece::Bytes(block)));
            }
        }
        let (journal, blocks) = (&self.journal.runs, self.journal.blocks());
        let start = journal.first().map_or(0, |run| run.start);
        pieces.push((start, Piece::Bytes(superblock::journal(self.volume.id, blocks))));
        pieces.sort_by_key(|(block, _)| *block);
        pieces
    }

    /// Superblocks, descriptors, bits and inodes of all groups.
    fn groups(&self) -> Vec<(u64, Piece)> {
        let (geometry, seed) = (&self.geometry, self.seed());
        let of_group = geometry.inodes_of_group;
        let used = u64::from(self.last());
        let mut dirs = vec![0_u64; geometry.groups.len()];
        for (node, placed) in self.volume.nodes.iter().zip(&self.placed) {
            let group = u64::from(placed.number - 1) / of_group;
            dirs[group as usize] += u64::from(matches!(node.kind, Kind::Dir(_)));
        }
        let (mut pieces, mut descriptors, mut free_blocks) = (vec![], vec![], 0);
        for (n, group) in geometry.groups.iter().enumerate() {
            let (blocks, free) = geometry.block_bits(n);
            free_blocks += free;
            let used = used.saturating_sub(n as u64 * of_group).min(of_group);
            let mut inodes = vec![0; BLOCK as usize];
            (0..used).chain(of_group..GROUP).for_each(|bit| geometry::set(&mut inodes, bit));
            let sums = [crc32c(seed, &blocks), crc32c(seed, &inodes[..(of_group / 8) as usize])];
            let counts = [free, of_group - used, dirs[n], of_group - used];
            descriptors.extend(descriptor(seed, n, group, counts, sums));
            pieces.push((group.block_bits, Piece::Bytes(blocks)));
            pieces.push((group.inode_bits, Piece::Bytes(inodes)));
            pieces.push((group.table, Piece::Inodes(n)));
        }
        let journal = self.journal_inode();
        let whole = Super {
            id: self.volume.id,
            label: self.volume.label,
            time: self.volume.time,
            free_blocks,
            free_inodes: geometry.inodes() - used,
            journal: (journal.body(), journal.size),
        };
        descriptors.resize(descriptors.len().next_multiple_of(BLOCK as usize), 0);
        for group in (0..geometry.groups.len() as u64).filter(|n| geometry.head(*n) > 0) {
            let before = if group == 0 { superblock::PLACE } else { 0 };
            let mut bytes = [vec![0; before], whole.write(geometry, group)].concat();
            bytes.resize(BLOCK as usize, 0);
            bytes.extend(&descriptors);
            pieces.push((group * GROUP, Piece::Bytes(bytes)));
        }
        pieces
    }

    /// The inodes of a group as they lie on the disk.
    fn inodes(&self, group: usize) -> Vec<u8> {
        let mut out = vec![0; (self.geometry.table_blocks() * BLOCK) as usize];
        let first = group as u64 * self.geometry.inodes_of_group + 1;
        for (number, place) in (first..).zip(out.chunks_exact_mut(INODE as usize)) {
            let number = number as u32;
            if number > self.last() {
                break;
            }
            let inode = match number {
                JOURNAL => self.journal_inode(),
                _ => match self.node_of(number) {
                    Some(node) => self.inode(node),
                    None => continue,
                },
            };
            inode.write(self.seed(), number, place);
        }
        out
    }

    fn inode(&self, node: usize) -> Inode<'_> {
        let (placed, node) = (&self.placed[node], &self.volume.nodes[node]);
        let body = match &node.kind {
            Kind::Symlink(target) if placed.runs.is_empty() => Body::Target(target),
            Kind::Fifo => Body::Target(&[]),
            _ => Body::Runs(&placed.runs, &placed.leaves),
        };
        Inode {
            mode: node.mode as u16 & 0o7777 | node.kind.mode(),
            uid: node.uid,
            gid: node.gid,
            time: node.mtime,
            links: placed.links,
            size: node.kind.size(placed.blocks()),
            blocks: placed.blocks()
                + placed.leaves.len() as u64
                + u64::from(placed.stored.block.is_some()),
            attributes: placed.attributes,
            inline: &placed.stored.inline,
            body,
        }
    }

    fn journal_inode(&self) -> Inode<'_> {
        let blocks = self.journal.blocks();
        Inode {
            mode: inode::S_FILE | 0o600,
            time: self.volume.time,
            links: 1,
            size: blocks * BLOCK,
            blocks: blocks + self.journal.leaves.len() as u64,
            body: Body::Runs(&self.journal.runs, &self.journal.leaves),
            ..Inode::default()
        }
    }

    /// The blocks of a directory.
    fn directory(&self, node: usize) -> Vec<u8> {
        let placed = &self.placed[node];
        let to = |node: usize| To {
            inode: self.placed[node].number,
            kind: self.volume.nodes[node].kind.of_entry(),
        };
        let Kind::Dir(names) = &self.volume.nodes[node].kind else { return vec![] };
        let own = [(&b"."[..], to(node)), (b"..", to(placed.parent))];
        let names = names.iter().map(|(name, node)| (*name, to(*node)));
        let seed = self.inode_seed(placed.number);
        directory::write(own.into_iter().chain(names), placed.blocks(), seed)
    }

    /// What checksums go on from.
    fn seed(&self) -> u32 {
        crc32c(START, self.volume.id.as_bytes())
    }

    fn inode_seed(&self, number: u32) -> u32 {
        inode::seed(self.seed(), number)
    }

    /// The last inode that is in use; all up to it are.
    fn last(&self) -> u32 {
        // The first two nodes are elsewhere: the top directory, and `lost+found`.
        FIRST + (self.placed.len() - 2) as u32
    }

    fn node_of(&self, number: u32) -> Option<usize> {
        place::node_of(number, place::lost_found(&self.volume.nodes)?)
    }
}

/// `counts`: free blocks, free inodes, directories, inodes that were never used; `sums`: of the
/// bits of blocks and of inodes.
fn descriptor(
    seed: u32,
    n: usize,
    group: &geometry::Group,
    counts: [u64; 4],
    sums: [u32; 2],
) -> Vec<u8> {
    /// The inodes behind those in use are zeros.
    const ZEROED: u16 = 4;
    let mut out = vec![0; DESCRIPTOR as usize];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    let places = [group.block_bits, group.inode_bits, group.table];
    for (n, place) in places.into_iter().enumerate() {
        put(n * 4, &(place as u32).to_le_bytes());
        put(0x20 + n * 4, &((place >> 32) as u32).to_le_bytes());
    }
    let [blocks, inodes, dirs, unused] = counts;
    let halves =
        [(0x0c, 0x2c, blocks), (0x0e, 0x2e, inodes), (0x10, 0x30, dirs), (0x1c, 0x32, unused)];
    for (low, high, count) in halves {
        put(low, &(count as u16).to_le_bytes());
        put(high, &((count >> 16) as u16).to_le_bytes());
    }
    put(0x12, &ZEROED.to_le_bytes());
    for (low, high, sum) in [(0x18, 0x38, sums[0]), (0x1a, 0x3a, sums[1])] {
        put(low, &(sum as u16).to_le_bytes());
        put(high, &((sum >> 16) as u16).to_le_bytes());
    }
    let sum = crc32c(crc32c(seed, &(n as u32).to_le_bytes()), &out);
    out[0x1e..0x20].copy_from_slice(&(sum as u16).to_le_bytes());
    out
}
