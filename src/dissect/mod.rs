//! Disks read: the format of the file, the partition table, the file systems in it. What makes them
//! is the room `disk`.
//!
//! ```text
//! file ─► image (raw, qcow2, VHD) ─► table ─┬─► tree: erofs, ext4 ─► names, contents
//!                                           ├─► verity: is each block what its hash says
//!                                           └─► fat ─► program: kernel, command line, initrd
//! ```
//! A disk comes from a machine that may not be one's own any more. Nothing of it is mounted, no
//! kernel and no program sees it, and nothing it says is believed: each number is checked before it
//! is used, every list ends, and what takes memory has a limit.

mod bytes;
mod erofs;
mod error;
mod ext4;
mod fat;
mod image;
mod program;
mod qcow2;
mod record;
mod table;
mod tree;
mod verity;
mod volume;

pub use bytes::{Bytes, Part};
pub use error::Error;
pub use fat::{BootFile, Chain, boot_files};
pub use image::{Image, open};
pub use program::{Section, sections};
pub use table::{Partition, Table, read_table};
pub use tree::{FileSystem, Inode, Kind, Named};
pub use verity::{Checked, check_root};
pub use volume::{file_system, whole};
