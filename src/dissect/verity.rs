//! The hash tree of a root, checked as the kernel would (see `disk/verity.rs` for the format): each
//! block of data against its hash, each block of hashes against that above it.

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::bytes::{Bytes, read};
use super::error::{Error, damaged, foreign};
use super::record::Record;
use crate::disk::verity::BLOCK;

const WHAT: &str = "the hash tree of the root";

/// Bytes of a SHA-256, and hashes of a block.
const HASH: usize = 32;
const PER_BLOCK: u64 = BLOCK / HASH as u64;

/// Blocks of hashes whose blocks of data are read at once: 4 MiB of these.
const BATCH: u64 = 8;

/// Blocks that are named where many are wrong.
const NAMED: usize = 64;

/// What a hash tree says, and where the data is not what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// How many blocks of data it is of.
    pub blocks: u64,
    /// The hash of its top block.
    pub root_hash: [u8; HASH],
    /// What comes before each block that is hashed.
    pub salt: Vec<u8>,
    /// Blocks of data that are wrong, the first of them.
    pub wrong: Vec<u64>,
    /// How many are.
    pub wrong_count: u64,
    /// How many blocks of the tree itself are.
    pub wrong_hashes: u64,
}

/// Checks a root against its hash tree, every block of it.
///
/// # Errors
/// [`Error::Damaged`] where it is no hash tree, or one of more data than there is,
/// [`Error::Foreign`] for another form than bake writes; what reading fails with.
pub fn check_root(data: &dyn Bytes, tree: &dyn Bytes) -> Result<Checked, Error> {
    let all = read(tree, 0, 512)?;
    let head = Record::new(WHAT, &all);
    if head.slice(0, 8)? != b"verity\0\0" {
        return Err(damaged(WHAT, "there is none"));
    }
    let name = head.slice(32, 32)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let sizes = [head.le32(64)?, head.le32(68)?];
    if (head.le32(8)?, head.le32(12)?, name) != (1, 1, b"sha256")
        || sizes.iter().any(|size| u64::from(*size) != BLOCK)
    {
        return Err(foreign(WHAT, "another form than SHA-256 over blocks of 4096 bytes"));
    }
    let (blocks, salt) = (head.le64(72)?, head.slice(88, head.le16(80)?.min(256).into())?.to_vec());
    if blocks == 0 || blocks.checked_mul(BLOCK).is_none_or(|size| size > data.size()) {
        return Err(damaged(WHAT, format!("it is of {blocks} blocks")));
    }
    // How many blocks each level has, the data first.
    let mut levels = vec![blocks];
    while let Some(last) = levels.last().filter(|last| **last > 1) {
        levels.push(last.div_ceil(PER_BLOCK));
    }
    let mut checked = Checked {
        blocks,
        root_hash: [0; HASH],
        salt,
        wrong: vec![],
        wrong_count: 0,
        wrong_hashes: 0,
    };
    // The top level comes first, right behind the superblock.
    let place = |level: usize| BLOCK * (1 + levels[level + 1..].iter().sum::<u64>());
    for (n, count) in levels[..levels.len() - 1].iter().enumerate() {
        let (lower, from): (&dyn Bytes, u64) = if n == 0 { (data, 0) } else { (tree, place(n)) };
        let wrong = level(lower, from, *count, (tree, place(n + 1)), &checked.salt)?;
        if n == 0 {
            checked.wrong_count = wrong.1;
            checked.wrong = wrong.0;
        } else {
            checked.wrong_hashes += wrong.1;
        }
    }
    let top = match levels.len() {
        1 => read(data, 0, BLOCK as usize)?,
        _ => read(tree, BLOCK, BLOCK as usize)?,
    };
    checked.root_hash = hash(&checked.salt, &top);
    Ok(checked)
}

fn hash(salt: &[u8], block: &[u8]) -> [u8; HASH] {
    Sha256::new().chain_update(salt).chain_update(block).finalize().into()
}

/// Checks the blocks of one level against the hashes of the one above; returns the first that are
/// wrong, and how many are.
fn level(
    lower: &dyn Bytes,
    from: u64,
    count: u64,
    (upper, above): (&dyn Bytes, u64),
    salt: &[u8],
) -> Result<(Vec<u64>, u64), Error> {
    let (mut named, mut wrong) = (vec![], 0);
    let mut done = 0;
    while done < count {
        let now = (count - done).min(BATCH * PER_BLOCK);
        let size = |blocks: u64| usize::try_from(blocks * BLOCK).unwrap_or(usize::MAX);
        let data = read(lower, from + done * BLOCK, size(now))?;
        let hashes = above + done / PER_BLOCK * BLOCK;
        let hashes = read(upper, hashes, size(now.div_ceil(PER_BLOCK)))?;
        let blocks = data.par_chunks(BLOCK as usize).zip(hashes.par_chunks(HASH)).enumerate();
        let bad: Vec<usize> = blocks
            .filter(|(_, (block, should))| hash(salt, block)[..] != **should)
            .map(|(n, _)| n)
            .collect();
        wrong += bad.len() as u64;
        let room = NAMED.saturating_sub(named.len());
        named.extend(bad.into_iter().take(room).map(|n| done + n as u64));
        done += now;
    }
    Ok((named, wrong))
}
