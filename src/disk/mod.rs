//! Bootable disks, byte by byte: the parts that need neither root nor a tool.
//!
//! ```text
//! kernel, initrd, command line ─► uki ─► fat (the boot partition) ─┐
//! root file system ─┬──────────────────────────────────────────────┼─► table ─► the disk
//!                   └─► verity (its hash tree) ────────────────────┘
//! ```
//! Where a hypervisor starts the kernel by itself there is no boot partition.
//! The same parts give the same bytes: identifiers and times come from the caller.

mod content;
mod error;
pub mod ext4;
pub mod fat;
pub mod hypervisor;
pub mod initrd;
pub mod machine;
pub mod table;
pub mod uki;
pub mod verity;
mod vmlinux;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub use content::{Content, Sparse};
pub use error::Error;
pub use vmlinux::vmlinux;

/// Returns an identifier that is derived from these bytes (RFC 9562, version 8).
#[must_use]
pub fn identifier(of: &[&[u8]]) -> Uuid {
    let hash: [u8; 32] = Sha256::digest(of.concat()).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
