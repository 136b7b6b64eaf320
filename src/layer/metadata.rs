//! What a file of a tar is besides its contents: owner, mode, attributes, time.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::options::Ownership;
use super::{Error, Metadata, Wrong, attribute, show};

/// An owner could not be set: it may be that the user namespace does not have it.
pub(super) fn owner_error(path: &[u8], meta: &Metadata, error: Errno) -> Error {
    if error == Errno::INVAL {
        let why = Wrong::Unmapped { uid: meta.uid, gid: meta.gid };
        return Error::Entry { entry: show(path), why };
    }
    system("change the owner of", path, error)
}

/// Gives an open file or directory its owner, mode, attributes and time, in the one order in which
/// none undoes another: chown(2) clears setuid bits and capabilities, and any change but the
/// last would touch the time.
pub(super) fn dress(
    fd: impl AsFd,
    path: &[u8],
    meta: &Metadata,
    owners: Ownership,
) -> Result<(), Error> {
    let mut mode = meta.mode;
    if owners == Ownership::Kept {
        let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        rustix::fs::fchown(&fd, Some(uid), Some(gid)).map_err(|e| owner_error(path, meta, e))?;
    } else {
        mode &= 0o1777;
    }
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))
        .map_err(|e| system("set the mode of", path, e))?;
    for (key, value) in &meta.xattrs {
        if owners == Ownership::Dropped && key == attribute::CAPABILITY {
            continue;
        }
        rustix::fs::fsetxattr(&fd, &**key, value, XattrFlags::empty())
            .map_err(|e| system("set an attribute of", path, e))?;
    }
    rustix::fs::futimens(&fd, &times(meta)).map_err(|e| system("set the time of", path, e))
}

/// What is not there need not be removed.
pub(super) fn forget(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        other => other,
    }
}

/// Returns the times of a file as the tar has them.
pub(super) fn times(meta: &Metadata) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// An error of a system call for the entry `path`.
pub(super) fn system(what: &'static str, path: &[u8], e: impl Into<io::Error>) -> Error {
    Error::System { what, path: Path::new(OsStr::from_bytes(path)).to_owned(), source: e.into() }
}
