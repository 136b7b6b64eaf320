//! What is in the way of an operation, in words.

use std::path::Path;

use rustix::io::Errno;

use super::error::Error;
use crate::rootfs::accounts::Ids;

/// A file cannot take the place of the directory `shown`.
pub(super) fn directory_in_the_way(shown: &Path) -> Error {
    let path = shown.display();
    let why = format!(
        "is a directory and a file cannot take its place; write \"{path}/\" to put the file into \
            it, or remove it first"
    );
    Error::in_the_way(shown, why)
}

/// A file does not take the place of the symlink `shown`, as it leads to a directory.
pub(super) fn link_to_directory_in_the_way(shown: &Path) -> Error {
    let path = shown.display();
    let why = format!(
        "is a symlink to a directory; write \"{path}/\" to put the file into that directory, or \
            remove the symlink first"
    );
    Error::in_the_way(shown, why)
}

/// A symlink does not take the place of the directory `shown`.
pub(super) fn link_over_directory(shown: &Path) -> Error {
    Error::in_the_way(
        shown,
        "is a directory and a symlink never replaces one; remove it in a `remove` step first",
    )
}

/// No image may have this owner.
pub(super) fn outside_the_ids(path: &Path, ids: Ids) -> Error {
    let why = format!(
        "owner {}:{} is outside the ids that this host gives to the sandbox",
        ids.uid, ids.gid
    );
    Error::refused(path.display().to_string(), why)
}

/// An owner could not be set.
pub(super) fn owner_error(path: &Path, ids: Ids, e: Errno) -> Error {
    if e == Errno::INVAL {
        return outside_the_ids(path, ids);
    }
    Error::system("set the owner of", path)(e.into())
}
