//! Layers: a directory to a tar and back, with whiteouts, owners, xattrs, times; and compression.
//!
//! What goes into a layer tar (image-spec, "layer.md"; POSIX pax for what ustar cannot say):
//!
//! ```text
//! etc/                     directories first, then what is in them; names sorted by bytes, level by level
//! etc/.wh..wh..opq         the directory hides everything that lower layers have in it; right after its directory
//! etc/.wh.motd             lower layers' etc/motd is gone
//! etc/passwd               uid, gid as numbers; no user names; mtime in whole seconds, at most the epoch; directories: the epoch
//! ```
//!
//! Extended attributes that are kept: `user.*`, `security.capability`, POSIX ACLs (as
//! `SCHILY.xattr.…`); everything else belongs to the host (labels, overlay's own marks). Reading is
//! strict: a tar that two programs could understand in two ways is refused.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

mod attribute;
mod compress;
mod contents;
mod decompress;
mod differences;
mod fault;
mod member;
mod merge;
mod metadata;
mod name;
mod once;
mod options;
mod pack;
mod read;
mod record;
mod sparse;
mod unpack;
mod verified;
mod write;

pub(crate) use attribute::{ACL, CAPABILITY, DEFAULT_ACL, is_kept, kept_of};
pub use compress::{Sink, compress, compress_with};
pub use decompress::{Ratio, decompress, decompress_as, decompress_foreign};
pub use differences::differences;
pub use member::{KnownFiles, MemberList};
pub use merge::{Merged, Node, NodeKind};
pub use name::compare;
pub use options::{Devices, DirOverSymlink, Options, Ownership};
pub use pack::{directory_meta, is_usual, pack, pack_over};
pub use read::{Entry, Kind, TarReader};
pub use unpack::{unpack, unpack_with};
pub use verified::{Unverified, verified};
pub use write::Builder;

/// The highest user or group id there is: the next one means "unchanged" (chown(2)). Whether a host
/// can give a file this owner is another matter.
pub const MAX_ID: u32 = u32::MAX - 1;
/// The latest time a tar header holds without extensions (the year 2242); epochs are clamped to it.
pub const MAX_TIME: i64 = 0o77_777_777_777;
/// Longest path of an entry in bytes (Linux' PATH_MAX without the NUL).
pub const MAX_PATH: usize = 4095;
/// Longest single name in bytes (Linux' NAME_MAX).
pub const MAX_NAME: usize = 255;
/// Longest value of an extended attribute in bytes (Linux' XATTR_SIZE_MAX).
pub const MAX_ATTRIBUTE: usize = 65_536;

/// How a layer blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// gzip in members of about 2 MiB (libdeflate level 3).
    #[default]
    Gzip,
    /// zstd level 3.
    Zstd,
    /// Not compressed.
    None,
}

/// What was written or read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// Tar entries; 0 after `pack` means: nothing changed, no layer needed.
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
    /// An overlay lower directory: whiteouts become character devices 0/0, opaque markers
    /// `user.overlay.opaque`. It sees nothing of the layers below: directories that the tar uses
    /// but does not mention become 0755 of root, and names through symlinks of lower layers become
    /// directories. A tar made by `pack` mentions all its directories, so both forms mean the same.
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

impl Default for Limits {
    /// More than any sensible image has, less than what fills a common disk unnoticed: 4 million
    /// entries, 256 GiB.
    fn default() -> Self {
        Self { entries: 4_000_000, bytes: 256 << 30 }
    }
}

/// Everything about a file but its name and contents.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Metadata {
    /// The twelve permission bits.
    pub mode: u32,
    /// Owner, at most [`MAX_ID`].
    pub uid: u32,
    /// Group, at most [`MAX_ID`].
    pub gid: u32,
    /// Modification time, seconds since 1970.
    pub mtime: i64,
    /// Extended attributes by full name; of the kinds a layer keeps.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Why a layer could not be packed or unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source of a tar or blob failed.
    #[error("cannot read the layer")]
    Read {
        /// Why.
        source: io::Error,
    },
    /// The place a tar or blob goes to failed.
    #[error("cannot write the layer")]
    Write {
        /// Why.
        source: io::Error,
    },
    /// The compressed bytes are damaged or of an unknown kind.
    #[error("cannot decompress the layer: {why}")]
    Compressed {
        /// What is wrong.
        why: String,
    },
    /// The tar as a whole is not one that can be trusted to mean one thing.
    #[error("cannot read the tar: {why}")]
    Tar {
        /// What is wrong.
        why: Wrong,
    },
    /// One entry of a tar is refused.
    #[error("cannot unpack the tar entry {entry:?}: {why}")]
    Entry {
        /// Its name; bytes that are not UTF-8 are replaced.
        entry: String,
        /// What is wrong with it.
        why: Wrong,
    },
    /// A file of the tree cannot be put into a layer.
    #[error("cannot pack {path:?}: {why}")]
    Pack {
        /// Its path inside the tree; bytes that are not UTF-8 are replaced.
        path: String,
        /// What is wrong with it.
        why: Wrong,
    },
    /// A system call failed.
    #[error("cannot {what} {}", path.display())]
    System {
        /// What was being done, as the verb before the path.
        what: &'static str,
        /// To which file inside the tree.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// An effect on the disk failed.
    #[error(transparent)]
    Files(#[from] crate::files::Error),
}

/// What can be wrong with an entry, or with a tar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Wrong {
    /// Ends early.
    #[error("it ends in the middle")]
    Truncated,
    /// The block is no tar header.
    #[error("not a tar, or damaged (header checksum)")]
    Checksum,
    /// Something other than zeros after the end mark.
    #[error("there is more after its end mark")]
    Trailing,
    /// A number that is none.
    #[error("its {0} is not a number")]
    Number(&'static str),
    /// The name has `..`.
    #[error("its name contains `..`")]
    DotDot,
    /// The name begins with a slash.
    #[error("its name is absolute")]
    Absolute,
    /// The name or link target is empty, or has a zero byte.
    #[error("its name or link target is empty or has a zero byte")]
    Empty,
    /// The name, a part of it, or a link target is too long.
    #[error("its name or link target is too long")]
    TooLong,
    /// A name that only a whiteout may have, or a whiteout of nothing.
    #[error("names beginning with `.wh.` are reserved for whiteouts of one named file")]
    Whiteout,
    /// A file whose name ends like a directory's.
    #[error("it is not a directory, but its name ends in `/`")]
    Slash,
    /// Twice the same name.
    #[error("the tar has this name twice")]
    Duplicate,
    /// A file is also used as a directory, or changed and deleted at once.
    #[error("the tar uses this name in two ways")]
    Conflict,
    /// A device.
    #[error("it is a device")]
    Device,
    /// An unknown or unsupported type of entry.
    #[error("entries of type {:?} are not supported", char::from(*.0))]
    Type(u8),
    /// A sparse file whose map is damaged, or of an unknown format.
    #[error("its map of a sparse file is wrong, or of a format that is not supported")]
    Sparse,
    /// Sizes that disagree, or a size where there can be none.
    #[error("its size is given in two ways that differ")]
    Size,
    /// Malformed or contradictory extended headers.
    #[error("its extended header is wrong: {0}")]
    Extended(&'static str),
    /// A hard link to nothing, or to what cannot be linked.
    #[error("it is a hard link to {0:?}, which is not an earlier file of the tree")]
    Target(String),
    /// An owner that the user namespace of this process does not have.
    #[error("its owner {uid}:{gid} is outside the ids that this host gives to the sandbox")]
    Unmapped {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// An id that no file can have.
    #[error("its {what} {id} is above {MAX_ID}")]
    Id {
        /// "owner" or "group".
        what: &'static str,
        /// The id.
        id: u64,
    },
    /// An extended attribute that cannot be kept as it is.
    #[error("its extended attribute {0:?} cannot be kept")]
    Attribute(String),
    /// A parent that is no directory, or a chain of symlinks without end.
    #[error("a directory on its way is a file, or a symlink without end")]
    Way,
    /// Grew, shrank or was replaced while it was read.
    #[error("it changed while it was read")]
    Changed,
    /// Entries out of order, or repeated.
    #[error("entries must be added once each, in order")]
    Order,
    /// An attribute that overlayfs would obey instead of showing it.
    #[error(
        "the attribute {0} belongs to the overlay file system of a host and can be in no image"
    )]
    Reserved(String),
    /// Overlay marks that mean the contents are elsewhere.
    #[error(
        "it has a mark of overlayfs that hides or replaces contents (redirect, metacopy, whiteout)"
    )]
    Overlay,
    /// More entries than allowed.
    #[error("more than {0} entries")]
    Entries(u64),
    /// More bytes than allowed.
    #[error("more than {0} bytes of files")]
    Bytes(u64),
}

/// Shows the bytes of a name to people.
pub(crate) fn show(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
