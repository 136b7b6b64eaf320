//! What goes into a file system.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::geometry::BLOCK;
use super::{directory, inode};

/// What goes into a file system.
#[derive(Debug)]
pub struct Volume<'a> {
    /// Its identifier, of which also the hashes of names are made.
    pub id: Uuid,
    /// Its label: at most 16 bytes.
    pub label: &'a str,
    /// When it was made, in seconds since 1970.
    pub time: i64,
    /// Its bytes; none: what its files need, and some room to work in.
    pub size: Option<u64>,
    /// All files; the first is the top directory.
    pub nodes: Vec<Node<'a>>,
}

/// A file of any kind.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    /// Its permissions.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When it was changed, in seconds since 1970; all its times are this one.
    pub mtime: i64,
    /// Its attributes by their whole names, as of getxattr(2).
    pub xattrs: &'a BTreeMap<Vec<u8>, Vec<u8>>,
    /// What it is.
    pub kind: Kind<'a>,
}

/// What a file is.
#[derive(Debug, Clone)]
pub enum Kind<'a> {
    /// A directory: its names in order, and which nodes they are of.
    Dir(Vec<(&'a [u8], usize)>),
    /// A regular file.
    File {
        /// Its bytes.
        size: u64,
        /// Where its contents begin, for whoever reads them.
        contents: u64,
    },
    /// A symlink to this target.
    Symlink(&'a [u8]),
    /// A fifo.
    Fifo,
}

impl Kind<'_> {
    pub(super) fn mode(&self) -> u16 {
        match self {
            Self::Dir(_) => inode::S_DIR,
            Self::File { .. } => inode::S_FILE,
            Self::Symlink(_) => inode::S_LINK,
            Self::Fifo => inode::S_FIFO,
        }
    }

    pub(super) fn of_entry(&self) -> u8 {
        match self {
            Self::Dir(_) => directory::DIR,
            Self::File { .. } => directory::FILE,
            Self::Symlink(_) => directory::SYMLINK,
            Self::Fifo => directory::FIFO,
        }
    }

    pub(super) fn size(&self, blocks: u64) -> u64 {
        match self {
            Self::Dir(_) => blocks * BLOCK,
            Self::File { size, .. } => *size,
            Self::Symlink(target) => target.len() as u64,
            Self::Fifo => 0,
        }
    }
}
