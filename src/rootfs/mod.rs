//! What every reader of a root file system has to agree on: where a path leads inside it, which ids
//! a user or group of it has, and which extended attributes are overlayfs's own.
//!
//! Nothing here opens a file: whoever asks says how a symlink or an account file is read (from a
//! disk, from a stack of layers, from the names of a tar archive), so that all of them follow one
//! rule.

pub mod accounts;
pub mod attributes;
pub mod resolve;
pub mod table;

/// `PATH` of every program that has no other: Debian's and Docker's default.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
