//! Bootable disks, byte by byte: the parts that need neither root nor a tool.
//!
//! ```text
//! kernel, initrd, command line ─► uki ─► fat (the boot partition) ─┐
//! root file system ─┬──────────────────────────────────────────────┼─► table ─► the disk
//!                   └─► verity (its hash tree) ────────────────────┘
//! ```
//! The same parts give the same bytes: identifiers and times come from the caller.

mod content;
mod error;
pub mod fat;
pub mod initrd;
pub mod machine;
pub mod table;
pub mod uki;
pub mod verity;

pub use content::{Content, Sparse};
pub use error::Error;
