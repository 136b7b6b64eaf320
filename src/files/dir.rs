//! Directories: what holds a path, the names in it, and their place on the disk.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::error::{Error, system};

/// Returns the directory that holds `path`; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}

/// `openat2` that is not bothered by signals, or by renames elsewhere in the tree (EAGAIN, see
/// openat2(2)).
pub(crate) fn openat2(
    dir: BorrowedFd<'_>,
    path: impl AsRef<OsStr>,
    flags: OFlags,
    mode: Mode,
    held: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let mut races = 0;
    loop {
        match rustix::fs::openat2(dir, path.as_ref(), flags | OFlags::CLOEXEC, mode, held) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if races < 1000 => races += 1,
            other => return other,
        }
    }
}

/// Opens the directory `name` in `at`, not through a symlink at its end.
pub fn open_dir(at: impl AsFd, name: impl rustix::path::Arg) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, name, flags, Mode::empty())?)
}

/// Returns the names in an open directory (without `.` and `..`), sorted by their bytes.
pub fn dir_names(dir: impl AsFd) -> std::io::Result<Vec<OsString>> {
    let mut names = vec![];
    for entry in rustix::fs::Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_owned();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Makes the directory `path` and those above it where missing, each with exactly the permission
/// bits `mode`, and flushes their names to the disk.
pub fn create_dirs(path: &Path, mode: u32) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    let above = parent(path);
    if above != path {
        create_dirs(above, mode)?;
    }
    match std::fs::create_dir(path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        Err(e) => return Err(system("make the directory", path, e)),
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|e| system("set the mode of", path, e))?;
    sync_dir(above)
}

/// Flushes the names in the directory `dir` to the disk.
pub fn sync_dir(dir: &Path) -> Result<(), Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::empty())
        .map_err(|e| system("open the directory", dir, e))?;
    loop {
        match rustix::fs::fsync(&fd) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            // Some network and FUSE file systems have no fsync for directories; they cannot promise
            // more than they do.
            Err(Errno::INVAL | Errno::NOTSUP) => return Ok(()),
            Err(e) => return Err(system("sync the directory", dir, e)),
        }
    }
}

/// Flushes the bytes of the file `path` to the disk.
pub fn sync_file(path: &Path) -> Result<(), Error> {
    let file = File::open(path).map_err(|e| system("open", path, e))?;
    file.sync_all().map_err(|e| system("sync", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_path() {
        for (path, dir) in [("a", "."), ("a/b", "a"), ("/a", "/"), ("/", "/"), ("./a", ".")] {
            assert_eq!(parent(Path::new(path)), Path::new(dir), "{path}");
        }
    }
}
