//! The hash tree by which the kernel checks each block of a read-only file system as it is read.
//!
//! The format is that of the kernel's dm-verity, version 1 (Documentation/admin-guide/device-mapper/
//! verity.rst), with the superblock of cryptsetup's `veritysetup`:
//!
//! ```text
//! superblock (4096) │ top level (one block) │ … │ lowest level: a hash for each block of data
//! ```
//! Blocks are 4096 bytes, hashes SHA-256 over the salt and the block. The root hash is the hash of
//! the top block.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::error::{Error, doing};

/// Bytes of a block, of data and of hashes.
pub const BLOCK: u64 = 4096;

/// Bytes of a SHA-256.
const HASH: usize = 32;

/// Hashes of a block.
const PER_BLOCK: usize = BLOCK as usize / HASH;

/// Blocks of data that are read at once: 4 MiB, shared among the threads.
const BATCH: u64 = 1024;

/// Writes the hash tree of the first `size` bytes of `data` (a multiple of [`BLOCK`], and not
/// none) to `out`; returns the root hash.
///
/// # Errors
/// What reading and writing fails with; [`io::ErrorKind::InvalidInput`] for another size.
pub fn write(
    data: &File,
    size: u64,
    id: Uuid,
    salt: &[u8; HASH],
    out: &mut dyn Write,
) -> Result<[u8; HASH], Error> {
    if size == 0 || !size.is_multiple_of(BLOCK) {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "not a number of whole blocks");
        return Err(doing("hash a file system")(source));
    }
    let hash = |block: &[u8]| -> [u8; HASH] {
        Sha256::new().chain_update(salt).chain_update(block).finalize().into()
    };
    let blocks = size / BLOCK;
    let mut hashes = Vec::with_capacity(usize::try_from(blocks).unwrap_or(0));
    let mut buffer = vec![0; usize::try_from(BATCH * BLOCK).unwrap_or(0)];
    let mut at = 0;
    while at < size {
        let n = usize::try_from((size - at).min(BATCH * BLOCK)).unwrap_or(buffer.len());
        data.read_exact_at(&mut buffer[..n], at).map_err(doing("read a file system"))?;
        hashes.par_extend(buffer[..n].par_chunks(BLOCK as usize).map(hash));
        at += n as u64;
    }
    // From the data up: each level is the hashes of the one below, in whole blocks.
    let mut levels = vec![];
    while hashes.len() > 1 {
        let mut level: Vec<u8> = hashes.concat();
        level.resize(hashes.len().div_ceil(PER_BLOCK) * BLOCK as usize, 0);
        hashes = level.par_chunks(BLOCK as usize).map(hash).collect();
        levels.push(level);
    }
    let write = doing("write a hash tree");
    out.write_all(&superblock(blocks, id, salt)).map_err(&write)?;
    for level in levels.iter().rev() {
        out.write_all(level).map_err(&write)?;
    }
    Ok(hashes[0])
}

/// Returns the number of bytes that [`write`] writes for `size` bytes of data.
#[must_use]
pub fn size(size: u64) -> u64 {
    let mut level = size.div_ceil(BLOCK);
    let mut blocks = 1;
    while level > 1 {
        level = level.div_ceil(PER_BLOCK as u64);
        blocks += level;
    }
    blocks * BLOCK
}

/// What `veritysetup` reads the parameters from (`struct verity_sb` of cryptsetup), in a block of
/// its own.
fn superblock(blocks: u64, id: Uuid, salt: &[u8; HASH]) -> Vec<u8> {
    let mut out = Vec::with_capacity(BLOCK as usize);
    out.extend(b"verity\0\0");
    out.extend(1_u32.to_le_bytes()); // version of the superblock
    out.extend(1_u32.to_le_bytes()); // the salt comes before the block
    out.extend(id.as_bytes());
    out.extend(b"sha256");
    out.resize(64, 0); // the name of the hash has 32 bytes
    for size in [BLOCK, BLOCK] {
        out.extend(u32::try_from(size).unwrap_or(0).to_le_bytes());
    }
    out.extend(blocks.to_le_bytes());
    out.extend(u16::try_from(salt.len()).unwrap_or(0).to_le_bytes());
    out.extend([0; 6]);
    out.extend(salt);
    out.resize(BLOCK as usize, 0);
    out
}
