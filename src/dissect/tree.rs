//! What every file system is to its reader: files by number, and the names in directories.

use std::collections::BTreeMap;
use std::ops::Range;

use super::error::{Error, damaged};

/// Longest target of a symlink (`PATH_MAX`).
pub(super) const MOST_TARGET: u64 = 4096;

/// Most bytes of one directory: room for some ten million names.
pub(super) const MOST_DIRECTORY: u64 = 512 << 20;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symlink.
    Symlink,
    /// A fifo.
    Fifo,
    /// A socket.
    Socket,
    /// A character or block device.
    Device,
}

impl Kind {
    /// Returns what the type in a mode stands for (inode(7)).
    pub(super) fn of_mode(what: &'static str, mode: u16) -> Result<Self, Error> {
        Ok(match mode >> 12 {
            0x1 => Self::Fifo,
            0x2 | 0x6 => Self::Device,
            0x4 => Self::Dir,
            0x8 => Self::File,
            0xa => Self::Symlink,
            0xc => Self::Socket,
            _ => return Err(damaged(what, format!("a file of mode {mode:o}"))),
        })
    }
}

/// What is known of a file besides its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// As above.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// How many names it has.
    pub links: u32,
    /// Seconds since 1970.
    pub mtime: i64,
}

/// A name in a directory, and the number of the file.
pub type Named = (Vec<u8>, u64);

/// A file system that is read. Whatever it is asked, it needs memory for one directory at most,
/// and ends.
pub trait FileSystem: Send + Sync {
    /// Returns how the kernel calls it.
    fn name(&self) -> &'static str;

    /// Returns a remark on how it was read, if there is one.
    fn remark(&self) -> Option<String>;

    /// Returns the number of the top directory.
    fn top(&self) -> u64;

    /// Returns what is known of a file.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Foreign`]; what reading fails with.
    fn inode(&self, number: u64) -> Result<Inode, Error>;

    /// Returns the names in a directory, without `.` and `..`, as they come.
    ///
    /// # Errors
    /// As [`FileSystem::inode`].
    fn list(&self, number: u64) -> Result<Vec<Named>, Error>;

    /// Returns where a symlink leads.
    ///
    /// # Errors
    /// As [`FileSystem::inode`].
    fn target(&self, number: u64) -> Result<Vec<u8>, Error>;

    /// Returns the extended attributes of a file, as listxattr(2) and getxattr(2) would.
    ///
    /// # Errors
    /// As [`FileSystem::inode`].
    fn attributes(&self, number: u64) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error>;

    /// Hands the contents of a regular file to `take`, piece by piece.
    ///
    /// # Errors
    /// As [`FileSystem::inode`].
    fn read(&self, number: u64, take: &mut dyn FnMut(&[u8])) -> Result<(), Error>;

    /// Returns which bytes of the file system a file takes, its inode not always among them.
    ///
    /// # Errors
    /// As [`FileSystem::inode`].
    fn places(&self, number: u64) -> Result<Vec<Range<u64>>, Error>;
}
