//! Numbers and blocks for all files, and how large a file system for them has to be.

use std::collections::{BTreeMap, HashMap};

use super::attribute::{self, Stored, Unfit};
use super::geometry::{BLOCK, Geometry, RUN, Run};
use super::superblock::FIRST;
use super::volume::{Kind, Node, Volume};
use super::{directory, inode};
use crate::disk::error::Error;

const MIB: u64 = 1 << 20;

const LOST_FOUND: &[u8] = b"lost+found";

/// The inode of the top directory.
const TOP: u32 = 2;

/// Most names of a file.
const MOST_LINKS: u64 = 65_000;

/// Blocks of `lost+found`, for what a check finds: it must not look for room then.
const LOST_FOUND_BLOCKS: u64 = 4;

/// Bytes of a file system for each inode, where it has room for files that come later; as mke2fs.
const BYTES_AN_INODE: u64 = 16 << 10;

/// A file system of which everything has its place.
#[derive(Debug)]
pub struct Layout<'a> {
    pub(super) volume: Volume<'a>,
    pub(super) geometry: Geometry,
    /// Of each node.
    pub(super) placed: Vec<Placed>,
    pub(super) journal: Placed,
}

/// Where a node is.
#[derive(Debug, Default)]
pub(super) struct Placed {
    pub(super) number: u32,
    pub(super) links: u16,
    /// Of a directory: the node that it is in.
    pub(super) parent: usize,
    pub(super) stored: Stored,
    /// The block of its attributes; 0 for none.
    pub(super) attributes: u64,
    pub(super) runs: Vec<Run>,
    /// Blocks of extents.
    pub(super) leaves: Vec<u64>,
}

impl Placed {
    /// Blocks of its contents.
    pub(super) fn blocks(&self) -> u64 {
        self.runs.iter().map(|run| run.blocks).sum()
    }

    /// Takes blocks for the contents, and for their extents.
    fn take(&mut self, geometry: &mut Geometry, blocks: u64) -> Option<()> {
        self.runs = geometry.take(blocks)?;
        let leaves = geometry.take(inode::leaves(self.runs.len()) as u64)?;
        let all = leaves.into_iter().flat_map(|run| run.start..run.start + run.blocks);
        self.leaves = all.collect();
        Some(())
    }
}

/// Which node is `lost+found`.
pub(super) fn lost_found(nodes: &[Node<'_>]) -> Option<usize> {
    let Kind::Dir(names) = &nodes.first()?.kind else { return None };
    names.iter().find(|(name, _)| *name == LOST_FOUND).map(|(_, node)| *node)
}

/// The node of an inode: after `lost+found` come all in their order.
pub(super) fn node_of(number: u32, lost_found: usize) -> Option<usize> {
    match number {
        TOP => Some(0),
        FIRST => Some(lost_found),
        ..=FIRST => None,
        _ => {
            let node = (number - FIRST) as usize;
            Some(node + usize::from(node >= lost_found))
        }
    }
}

fn number_of(node: usize, lost_found: usize) -> u32 {
    match node {
        0 => TOP,
        _ if node == lost_found => FIRST,
        _ => FIRST + (node - usize::from(node > lost_found)) as u32,
    }
}

/// Returns how many runs so many blocks have at the most: each is as long as an extent holds, or
/// ends where a group begins.
fn most_runs(blocks: u64) -> usize {
    match blocks / RUN {
        0 => 1,
        whole => 2 * whole as usize + 4,
    }
}

fn unfit(node: usize, why: &'static str) -> Error {
    Error::Unfit { node, why }
}

/// What the files need.
struct Needs {
    /// Blocks of each.
    blocks: Vec<u64>,
    stored: HashMap<usize, Stored>,
    /// Blocks of the journal.
    journal: u64,
    /// Blocks of all together.
    all: u64,
    /// Inodes, those that ext4 keeps for itself among them.
    inodes: u64,
}

impl Needs {
    fn of(nodes: &[Node<'_>], lost_found: usize) -> Result<Self, Error> {
        let (mut blocks, mut stored, mut others) = (vec![], HashMap::new(), 0);
        for (n, node) in nodes.iter().enumerate() {
            let of_node = match &node.kind {
                Kind::Dir(names) => {
                    if names.iter().any(|(name, _)| name.len() > directory::LONGEST) {
                        return Err(unfit(n, "a name in it is longer than 255 bytes"));
                    }
                    let own = [&b"."[..], b".."].into_iter();
                    let needed = directory::blocks(own.chain(names.iter().map(|(name, _)| *name)));
                    needed.max(if n == lost_found { LOST_FOUND_BLOCKS } else { 0 })
                }
                Kind::File { size, .. } => size.div_ceil(BLOCK),
                Kind::Symlink(target) if target.len() as u64 >= BLOCK => {
                    return Err(unfit(n, "its target is longer than a block"));
                }
                Kind::Symlink(target) => u64::from(target.len() >= inode::BODY),
                Kind::Fifo => 0,
            };
            if of_node > u64::from(u32::MAX) {
                return Err(unfit(n, "it is larger than 16 TiB"));
            }
            others += inode::leaves(most_runs(of_node)) as u64;
            blocks.push(of_node);
            if !node.xattrs.is_empty() {
                let one = attribute::store(node.xattrs).map_err(|why| match why {
                    Unfit::Many => unfit(n, "its attributes take more than a block"),
                    Unfit::List => unfit(n, "its access control list is none"),
                })?;
                others += u64::from(one.block.is_some());
                stored.insert(n, one);
            }
        }
        let contents: u64 = blocks.iter().sum();
        let journal = match contents * BLOCK {
            0..0x800_0000 => 4 * MIB,
            0x800_0000..0x4000_0000 => 16 * MIB,
            _ => 64 * MIB,
        } / BLOCK;
        let inodes = u64::from(FIRST) + nodes.len() as u64;
        Ok(Self { blocks, stored, journal, all: contents + others + journal, inodes })
    }

    /// Inodes, with some for what comes later.
    fn with_spare(&self) -> u64 {
        self.inodes + self.inodes / 10 + 256
    }

    fn geometry(&self, bytes: u64, inodes: u64) -> Option<Geometry> {
        Geometry::new(bytes, inodes).filter(|geometry| geometry.free() >= self.all)
    }

    /// The fewest bytes, in MiB, that all of it fits in.
    fn least(&self) -> u64 {
        let mut bytes = (self.all * BLOCK).next_multiple_of(MIB);
        loop {
            match Geometry::new(bytes, self.with_spare()).map(|geometry| geometry.free()) {
                Some(free) if free >= self.all => return bytes,
                Some(free) => bytes += ((self.all - free) * BLOCK).next_multiple_of(MIB),
                None => bytes += MIB,
            }
        }
    }
}

impl<'a> Layout<'a> {
    /// Gives everything its place.
    ///
    /// # Errors
    /// [`Error::TooSmall`] where the size that was asked for is, [`Error::Unfit`] for a file that
    /// ext4 cannot hold.
    ///
    /// # Panics
    /// Where the first node is no directory.
    pub fn new(mut volume: Volume<'a>) -> Result<Self, Error> {
        let found = with_lost_found(&mut volume)?;
        let needs = Needs::of(&volume.nodes, found)?;
        let least = needs.least();
        let comfortable = (least + least / 20 + 8 * MIB).next_multiple_of(MIB);
        let size = volume.size.unwrap_or(comfortable);
        let too_small = || Error::TooSmall { what: "the files", size, needed: least };
        let many = needs.with_spare().max(size / BYTES_AN_INODE);
        let mut geometry = needs
            .geometry(size, many)
            .or_else(|| needs.geometry(size, needs.with_spare()))
            .ok_or_else(too_small)?;

        let mut journal = Placed::default();
        journal.take(&mut geometry, needs.journal).ok_or_else(too_small)?;
        let mut placed: Vec<Placed> = vec![];
        let mut stored = needs.stored;
        for (n, blocks) in needs.blocks.iter().enumerate() {
            let mut one = Placed { number: number_of(n, found), ..Placed::default() };
            one.stored = stored.remove(&n).unwrap_or_default();
            if one.stored.block.is_some() {
                one.attributes = geometry.take(1).ok_or_else(too_small)?[0].start;
            }
            one.take(&mut geometry, *blocks).ok_or_else(too_small)?;
            if one.runs.len() > inode::MOST_RUNS {
                return Err(unfit(n, "it is too large"));
            }
            placed.push(one);
        }
        let links = links(&volume.nodes, &mut placed);
        for (n, (links, node)) in links.into_iter().zip(&volume.nodes).enumerate() {
            placed[n].links = match node.kind {
                // Of more it does not keep count (`dir_nlink`).
                Kind::Dir(_) if links >= MOST_LINKS => 1,
                _ if links > MOST_LINKS => return Err(unfit(n, "it has more than 65000 names")),
                _ => links as u16,
            };
        }
        Ok(Self { volume, geometry, placed, journal })
    }
}

/// Makes sure that there is a `lost+found`; returns its node.
fn with_lost_found(volume: &mut Volume<'_>) -> Result<usize, Error> {
    static NONE: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    if let Some(found) = lost_found(&volume.nodes) {
        return match volume.nodes[found].kind {
            Kind::Dir(_) => Ok(found),
            _ => Err(unfit(found, "an ext4 has a directory of that name")),
        };
    }
    let own = volume.nodes.len();
    let kind = Kind::Dir(vec![]);
    let (mode, mtime) = (0o700, volume.time);
    volume.nodes.push(Node { mode, uid: 0, gid: 0, mtime, xattrs: &NONE, kind });
    let Kind::Dir(names) = &mut volume.nodes[0].kind else {
        panic!("the first node is the top directory")
    };
    let at = names.partition_point(|(name, _)| *name < LOST_FOUND);
    names.insert(at, (LOST_FOUND, own));
    Ok(own)
}

/// Counts the names of all nodes, and says of directories which they are in.
fn links(nodes: &[Node<'_>], placed: &mut [Placed]) -> Vec<u64> {
    let mut links = vec![0; nodes.len()];
    // The top directory is in itself.
    links[0] += 1;
    for (n, node) in nodes.iter().enumerate() {
        let Kind::Dir(names) = &node.kind else { continue };
        links[n] += 1;
        for (_, inside) in names {
            links[*inside] += 1;
            if matches!(nodes[*inside].kind, Kind::Dir(_)) {
                links[n] += 1;
                placed[*inside].parent = n;
            }
        }
    }
    links
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_inode_has_a_node_of_its_own() {
        for lost_found in [1, 3, 9] {
            let mut seen = vec![];
            for node in 0..10 {
                let number = number_of(node, lost_found);
                assert_eq!(node_of(number, lost_found), Some(node), "{lost_found}");
                seen.push(number);
            }
            seen.sort_unstable();
            assert_eq!(seen, [2, 11, 12, 13, 14, 15, 16, 17, 18, 19], "{lost_found}");
            assert_eq!(node_of(8, lost_found), None);
        }
    }
}
