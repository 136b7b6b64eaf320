//! Layers: a folder to a tar and back, with whiteouts, owners, xattrs, times; and compression.

use std::io::{Read, Write};
use std::path::Path;

use crate::digest::Digest;

/// How a layer blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// gzip in 1 MiB members (libdeflate level 5).
    #[default]
    Gzip,
    /// zstd level 3.
    Zstd,
    /// Not compressed.
    None,
}

/// What [`pack`] wrote.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Packed {
    /// Tar entries; 0 means: nothing changed, no layer needed.
    pub entries: u64,
    /// Bytes of the tar.
    pub bytes: u64,
}

/// A finished layer blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// sha256 of the uncompressed tar.
    pub diff_id: Digest,
    /// sha256 of the compressed bytes.
    pub digest: Digest,
    /// Compressed bytes.
    pub size: u64,
    /// Uncompressed bytes.
    pub tar_size: u64,
}

/// What an unpacked tar becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An overlay lower folder: whiteouts become character devices 0/0, opaque markers `user.overlay.opaque`.
    Overlay,
    /// A plain tree: whiteouts delete what earlier layers put there.
    Tree,
}

/// Bounds against bombs.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Entries.
    pub entries: u64,
    /// Bytes of all file contents.
    pub bytes: u64,
}

/// Why a layer could not be packed or unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {}

/// Writes the folder `dir` (an overlay upper folder, or a tree), seen from inside the user namespace, as a layer tar: same tree, same bytes.
pub fn pack(dir: &Path, epoch: i64, out: &mut dyn Write) -> Result<Packed, Error> {
    let _ = (dir, epoch, out);
    todo!()
}

/// Unpacks the tar `tar` (uncompressed) into the folder `dir`, refusing whatever cannot be one clear tree.
pub fn unpack(tar: &mut dyn Read, dir: &Path, form: Form, limits: &Limits) -> Result<Packed, Error> {
    let _ = (tar, dir, form, limits);
    todo!()
}

/// Compresses `tar` into `out` on up to `threads` threads, naming both sides. Bytes do not depend on `threads`.
pub fn compress(tar: &mut dyn Read, out: &mut dyn Write, how: Compression, threads: usize) -> Result<Blob, Error> {
    let _ = (tar, out, how, threads);
    todo!()
}

/// Reads any of gzip (all members), zstd, xz or plain tar, told by its first bytes.
pub fn decompress<'a>(from: Box<dyn Read + Send + 'a>) -> Result<Box<dyn Read + Send + 'a>, Error> {
    let _ = from;
    todo!()
}
