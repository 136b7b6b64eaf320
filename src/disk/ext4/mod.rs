//! An ext4, written once and from front to back, with everything that it keeps of a file.
//!
//! ```text
//! group:  superblock, descriptors of all groups (of the first two, and of powers of 3, 5, 7)
//!         bits of blocks, bits of inodes, inodes (of 16 groups together, in the first one)
//!         journal, then the contents of files in the order of their names
//! ```
//! As the kernel's Documentation/filesystems/ext4 describes it, with the features of mke2fs that
//! every kernel since 4.0 mounts. It has no `resize_inode`: it grows by `meta_bg`, as kernel and
//! resize2fs do it by themselves. The same files give the same bytes.

mod attribute;
mod checksum;
mod directory;
mod geometry;
mod inode;
mod place;
mod superblock;
mod volume;
mod write;

pub use self::attribute::holds as holds_attribute;
pub use self::inode::TIMES;
pub use self::place::Layout;
pub use self::volume::{Kind, Node, Volume};
