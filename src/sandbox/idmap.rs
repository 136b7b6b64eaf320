//! Directories of the host, cloned as detached mounts that show on-disk ids as the session's ids.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::{fs, io};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use rustix::thread::UnshareFlags;

use super::plan::{Below, Doing, Fault, JobPlan};
use super::sys::{self, Forked};

/// The host directories of a job, as detached mounts.
#[derive(Debug)]
pub(super) struct Sources {
    /// Without an image: the layers directory. Of an image job: the directory that holds upper and
    /// work.
    pub(super) first: OwnedFd,
    /// Without an image: the scratch directory. Of an image job: the lower layers.
    pub(super) rest: Vec<OwnedFd>,
    /// The extra mounts: directories, or single files.
    pub(super) mounts: Vec<OwnedFd>,
}

/// How a directory's ids are shown.
#[derive(Clone, Copy)]
enum Ids<'a> {
    /// As they are on disk.
    Plain,
    /// Through the session's map.
    Session(BorrowedFd<'a>),
}

/// Opens every host directory of `plan`. As root this happens before the user namespace is entered
/// (only the host's root may map mounts), otherwise after the mount namespace is made (mounts of
/// another one cannot be cloned).
pub(super) fn open(plan: &JobPlan, userns: BorrowedFd<'_>) -> Result<Sources, Fault> {
    let layers = directory(&plan.layers.path())?;
    let scratch = directory(&plan.scratch.path())?;
    let image_ids = if plan.idmap.is_some() { Ids::Session(userns) } else { Ids::Plain };
    let below = |place: &Below, read_only| {
        let (base, named) =
            if place.in_scratch { (&scratch, &plan.scratch) } else { (&layers, &plan.layers) };
        let inner = beneath(base.as_fd(), &place.path.path())?;
        tree(inner.as_fd(), &named.path().join(place.path.path()), read_only, image_ids)
    };
    let (first, rest) = match &plan.root {
        Some(root) => {
            let parent = Below { in_scratch: true, path: root.parent.clone() };
            (
                below(&parent, false)?,
                root.lower.iter().map(|lower| below(lower, true)).collect::<Result<Vec<_>, _>>()?,
            )
        }
        None => (
            tree(layers.as_fd(), &plan.layers.path(), false, image_ids)?,
            vec![tree(scratch.as_fd(), &plan.scratch.path(), false, image_ids)?],
        ),
    };
    let mounts = plan.mounts.iter().map(|mount| {
        let path = mount.from.path();
        let dir = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .doing(|| format!("open {}", path.display()))?;
        match plan.idmap {
            Some(base) if mount.mine => {
                let map = one_line_map(dir.as_fd(), &path, base)?;
                tree(dir.as_fd(), &path, mount.read_only, Ids::Session(map.as_fd()))
            }
            _ => tree(dir.as_fd(), &path, mount.read_only, image_ids),
        }
    });
    Ok(Sources { first, rest, mounts: mounts.collect::<Result<Vec<_>, _>>()? })
}

fn directory(path: &Path) -> Result<OwnedFd, Fault> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing(|| format!("open the directory {}", path.display()))
}

/// Opens a directory below another, following no link: what lies there may have been made by a
/// step.
pub(super) fn beneath(base: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Fault> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(
        base,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
    .doing(|| format!("open the directory {}", path.display()))
}

fn tree(dir: BorrowedFd<'_>, path: &Path, read_only: bool, ids: Ids<'_>) -> Result<OwnedFd, Fault> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let (mount, recursive) = match rustix::mount::open_tree(dir, "", flags) {
        // Inside a user namespace, what is mounted below may not be uncovered: then it has to come
        // along.
        Err(Errno::INVAL) if matches!(ids, Ids::Plain) => {
            (rustix::mount::open_tree(dir, "", flags | OpenTreeFlags::AT_RECURSIVE), true)
        }
        other => (other, false),
    };
    let mount = mount.map_err(|error| {
        let fault = Fault::new(format!("clone the mount of {}", path.display()), error);
        if error == Errno::PERM { fault.hint(NESTED) } else { fault }
    })?;
    let mut set = MountAttrFlags::MOUNT_ATTR_NODEV;
    if read_only {
        set |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    let map = match ids {
        Ids::Plain => None,
        Ids::Session(userns) => Some(userns),
    };
    sys::mount_setattr(mount.as_fd(), set.bits().into(), recursive, map).map_err(|error| {
        let errno = error.raw_os_error();
        let fault = Fault::new(format!("map the ids of {}", path.display()), error);
        match errno {
            _ if map.is_none() => fault,
            Some(libc::EPERM) => fault.hint(NESTED),
            Some(libc::EINVAL | libc::EOPNOTSUPP) => fault.hint(
                "put it on ext4, xfs, btrfs or tmpfs: this file system does not support idmapped \
                    mounts (inside a container: use a volume, \
                 not the container's own overlay; a mount that is already idmapped does not work \
                 either)",
            ),
            Some(libc::ENOSYS) => fault.hint("bake needs Linux 5.19 or newer when run as root"),
            _ => fault,
        }
    })?;
    Ok(mount)
}

const NESTED: &str = "this root may not map ids: inside a container, run bake as an unprivileged \
    user with subordinate ids, or give the \
                      container full rights (for example `docker run --privileged`)";

/// A user namespace that serves as a map only: the owner of `dir` on disk becomes host id `base`,
/// which is root in the session.
fn one_line_map(dir: BorrowedFd<'_>, path: &Path, base: u32) -> Result<OwnedFd, Fault> {
    let stat = rustix::fs::fstat(dir).doing(|| format!("look at {}", path.display()))?;
    let what = || format!("make an id map for {}", path.display());
    let (child_end, parent_end) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .doing(what)?;
    match sys::fork().doing(what)? {
        Forked::Child => {
            drop(parent_end);
            let ready: u8 = sys::unshare(UnshareFlags::NEWUSER).is_ok().into();
            let mut byte = [0];
            let sent = rustix::io::write(&child_end, &[ready]);
            let ended = rustix::io::read(&child_end, &mut byte);
            sys::exit_now(i32::from(sent.is_err() || ended.is_err()))
        }
        Forked::Parent(child) => {
            drop(child_end);
            let make = || -> io::Result<OwnedFd> {
                let mut ready = [0];
                if rustix::io::read(&parent_end, &mut ready)? != 1 || ready[0] != 1 {
                    return Err(io::Error::other("no user namespace"));
                }
                let proc = format!("/proc/{}", child.as_raw_nonzero());
                fs::write(format!("{proc}/uid_map"), format!("{} {base} 1", stat.st_uid))?;
                fs::write(format!("{proc}/gid_map"), format!("{} {base} 1", stat.st_gid))?;
                Ok(rustix::fs::openat(
                    CWD,
                    format!("{proc}/ns/user"),
                    OFlags::RDONLY | OFlags::CLOEXEC,
                    Mode::empty(),
                )?)
            };
            let made = make().doing(what);
            drop(parent_end);
            rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty())
                .doing(what)?;
            made
        }
    }
}
