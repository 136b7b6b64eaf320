//! The few things that building a root is made of: directories, memory file systems, and mounts put
//! in their places.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags};

use super::plan::{Doing, Fault};
use super::sys;
use crate::files::open_dir;

pub(super) fn times_of(dir: BorrowedFd<'_>) -> io::Result<rustix::fs::Timestamps> {
    let stat = rustix::fs::fstat(dir)?;
    let last_modification =
        rustix::fs::Timespec { tv_sec: stat.st_mtime as i64, tv_nsec: stat.st_mtime_nsec as _ };
    Ok(rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification,
    })
}

pub(super) fn mkdir(path: &Path, mode: u32) -> Result<(), Fault> {
    rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(mode))
        .doing(|| format!("make the directory {}", path.display()))
}

/// Makes `place` and the directories above it in the root, through no symlink, and opens it.
pub(super) fn mkdir_all(place: &Path) -> Result<OwnedFd, Fault> {
    let mut at = open_dir(CWD, "r").doing(|| "open the root".into())?;
    for part in place {
        match rustix::fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => {
                return Err(Fault::new(format!("make the directory /{}", place.display()), error));
            }
        }
        at = open_dir(at.as_fd(), part).map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP | libc::ENOTDIR) => {
                Fault::image(format!("/{} lies behind a symlink", place.display()))
            }
            _ => Fault::new(format!("open the directory /{}", place.display()), error),
        })?;
    }
    Ok(at)
}

/// Opens something below the staging tmpfs, through no symlink: one of the image could lead
/// anywhere, above all one of /proc.
fn open_path(path: &Path, more: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
    rustix::fs::openat2(
        CWD,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
}

pub(super) fn dir_path(path: &Path) -> Result<OwnedFd, Fault> {
    open_path(path, OFlags::DIRECTORY).doing(|| format!("open the directory {}", path.display()))
}

pub(super) fn tmpfs(at: &Path, options: &str, more: MountFlags) -> Result<(), Fault> {
    let options = std::ffi::CString::new(options).expect("options hold no NUL");
    rustix::mount::mount(
        "tmpfs",
        at,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV | more,
        options.as_c_str(),
    )
    .doing(|| format!("mount a tmpfs on {}", at.display()))
}

/// Clones the mount of what lies at `path`.
pub(super) fn clone(path: &Path, set: MountAttrFlags) -> Result<OwnedFd, Fault> {
    let what = || format!("clone the mount of {}", path.display());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let place = open_path(path, OFlags::empty()).doing(what)?;
    let mount = rustix::mount::open_tree(&place, "", flags).doing(what)?;
    sys::mount_setattr(mount.as_fd(), set.bits().into(), false, None).doing(what)?;
    Ok(mount)
}

/// Clones the mount of what lies at `path`, a name of our own, with what is set for it.
pub(super) fn again(path: &Path) -> Result<OwnedFd, Fault> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, path, flags)
        .doing(|| format!("clone the mount of {}", path.display()))
}

/// Puts a detached mount at `at`, which is no symlink.
pub(super) fn attach(mount: BorrowedFd<'_>, at: &Path) -> Result<(), Fault> {
    let what = || format!("mount on {}", at.display());
    let to = open_path(at, OFlags::empty()).doing(what)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", &to, "", flags).doing(what)
}
