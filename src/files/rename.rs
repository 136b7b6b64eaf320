//! Renames that say what happens to the file that has the new name.

use std::fs;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::error::{Error, system};
use super::remove::remove_tree;

/// What a rename does where its new name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// It fails, with `AlreadyExists`.
    No,
    /// The file that has the name loses it.
    Yes,
    /// Both change their names.
    Exchange,
}

/// Renames `from` to `to`, which are on one file system, in one step.
///
/// # Errors
/// Where something is at `to` and must stay, the error's kind is `AlreadyExists`.
pub fn rename(from: &Path, to: &Path, replace: Replace) -> Result<(), Error> {
    let flags = match replace {
        Replace::No => RenameFlags::NOREPLACE,
        Replace::Yes => RenameFlags::empty(),
        Replace::Exchange => RenameFlags::EXCHANGE,
    };
    let failed = |e: Errno| system("rename to", to, e);
    match rustix::fs::renameat_with(CWD, from, CWD, to, flags) {
        Ok(()) => Ok(()),
        // A file system that cannot do it in one step: looked at, then done.
        Err(Errno::INVAL | Errno::NOSYS) if replace != Replace::Yes => {
            if replace == Replace::No && fs::symlink_metadata(to).is_ok() {
                return Err(failed(Errno::EXIST));
            }
            // A file is replaced by the rename itself.
            if replace == Replace::Exchange && to.symlink_metadata().is_ok_and(|at| at.is_dir()) {
                remove_tree(to)?;
            }
            fs::rename(from, to).map_err(|e| system("rename to", to, e))
        }
        Err(e) => Err(failed(e)),
    }
}
