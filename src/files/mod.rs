//! Disk effects that are whole or absent: atomic writes, locks, directory syncs, paths held inside
//! a root.
//!
//! Nothing here knows what the files mean. What a reader of a directory can see after a crash, at
//! any moment: the old file or the new one under its name, and perhaps one beside it that nobody
//! names ([`is_aside`]), which the next writer removes.

use std::fs::{File, FileTimes, Metadata};
use std::time::SystemTime;

use rustix::fs::Mode;

mod aside;
mod dir;
mod error;
mod lock;
mod regular;
mod remove;
mod rename;
mod rewrite;
mod root;
mod stamp;
mod weigh;

pub use aside::{Aside, AsideDir, is_abandoned, is_aside, link, sweep, write_soon, write_whole};
pub(crate) use dir::openat2;
pub use dir::{create_dirs, dir_names, open_dir, parent, sync_dir, sync_file};
pub use error::Error;
pub(crate) use error::system;
pub use lock::Lock;
pub(crate) use regular::open_regular;
pub use remove::{remove_at, remove_tree};
pub use rename::{Replace, rename};
pub use rewrite::{Replaced, rewrite};
pub use root::{Links, RootDir};
pub(crate) use stamp::{FileStamp, FileTime};
pub use weigh::weigh;

/// Notes on a cached file that it is used now, for whoever frees what nobody uses: as its time of
/// access, set whatever the mount's options are. Never as its time of change: links to it are read
/// by programs that take another time for another content (apt forgets a list whose time moved
/// while it worked). That it cannot be set is no reason to fail.
pub fn mark_used(file: &File) {
    let _ = file.set_times(FileTimes::new().set_accessed(SystemTime::now()));
}

/// Returns the permission bits that this process gives to nobody (umask(2)), as /proc says: to ask
/// the system call is to change them for all threads.
pub fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let octal = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    octal.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o022)
}

/// Makes sure that no file this process makes can be written to by others than its owner, unless
/// its mode is set on purpose. To be called while there is one thread.
pub fn tighten_umask() {
    let others = Mode::WGRP | Mode::WOTH;
    let before = rustix::process::umask(others);
    rustix::process::umask(before | others);
}

/// Returns when a cached file was written or used last (see [`mark_used`]).
pub fn last_used(metadata: &Metadata) -> SystemTime {
    let modified = metadata.modified().unwrap_or_else(|_| SystemTime::now());
    metadata.accessed().map_or(modified, |accessed| accessed.max(modified))
}
