//! One name of a living root: what it is now, without waiting for it and without following
//! anything.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::shift::Shift;
use crate::digest::{Digest, Hasher};
use crate::files::RootDir;
use crate::layer::{Metadata, kept_of};
use crate::tree::{Kind, Node, shrink};

/// What distinguishes a file from its earlier states, within one comparison and, in a stat cache,
/// from day to day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, u32),
    /// Changes with contents, mode, owner and attributes, and cannot be set.
    pub(super) ctime: (i64, u32),
}

/// What the kernel says about one name.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) stamp: Stamp,
    pub(super) kind: FileType,
    /// Another file system is mounted here.
    pub(super) mounted: bool,
    links: u32,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Seen {
    /// Looks at `name` in an open directory, or, where it is empty, at what `at` itself is.
    pub(super) fn at(at: impl AsFd, name: &OsStr) -> Result<Self, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
        rustix::fs::statx(at, name, flags, StatxFlags::BASIC_STATS).map(|stat| Self::of(&stat))
    }

    fn of(stat: &Statx) -> Self {
        let stamp = Stamp {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            size: stat.stx_size,
            mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        };
        Self {
            stamp,
            kind: FileType::from_raw_mode(stat.stx_mode.into()),
            // Linux 5.8; before that a mount looks like any directory, and is compared.
            mounted: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
            links: stat.stx_nlink,
            mode: u32::from(stat.stx_mode) & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
        }
    }

    /// Its identity, if it has several names.
    pub(super) fn shared(&self) -> Option<((u32, u32), u64)> {
        (self.links > 1).then_some((self.stamp.device, self.stamp.inode))
    }

    /// Makes a node of it, with ids in the image's own numbers; a symlink's target and a file's
    /// digest are the caller's to add.
    pub(super) fn node(&self, shift: Shift) -> Node {
        let kind = match self.kind {
            FileType::RegularFile => Kind::File { size: self.stamp.size, digest: None },
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Symlink(vec![]),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            _ => Kind::Device,
        };
        let (uid, gid) = (shift.inside(self.uid), shift.inside(self.gid));
        Node {
            kind,
            meta: Metadata {
                mode: self.mode,
                uid,
                gid,
                mtime: self.stamp.mtime.0,
                ..Metadata::default()
            },
            group: None,
        }
    }
}

/// Reads the attributes of an open file into a node.
pub(super) fn attributes(fd: impl AsFd, node: &mut Node, shift: Shift) -> Result<(), Errno> {
    node.meta.xattrs = kept_of(fd)?
        .into_iter()
        .map(|(name, value)| {
            let value = shrink(&name, value, shift.by);
            (name, value)
        })
        .collect();
    Ok(())
}

/// Opens a regular file or directory by its path; never waits (a fifo may have taken its place),
/// never follows a symlink.
pub(super) fn open(root: &RootDir, path: &[u8], directory: bool) -> Result<OwnedFd, Errno> {
    let kind = if directory { OFlags::DIRECTORY } else { OFlags::NONBLOCK | OFlags::NOCTTY };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | kind;
    let name = Path::new(OsStr::from_bytes(path));
    let errno = |error: crate::files::Error| match &error {
        crate::files::Error::System { source, .. } => {
            Errno::from_io_error(source).unwrap_or(Errno::IO)
        }
        _ => Errno::LOOP,
    };
    // A look should leave no trace; only the owner of a file and root may ask for that.
    match root.open_at(name, flags | OFlags::NOATIME, Mode::empty()).map_err(errno) {
        Err(Errno::PERM) => root.open_at(name, flags, Mode::empty()).map_err(errno),
        other => other,
    }
}

/// Hashes an open file that should have `size` bytes; `None` where it has more or fewer. `report`
/// is called with the bytes read on the way.
pub(super) fn hash(
    file: &mut File,
    size: u64,
    buffer: &mut Vec<u8>,
    report: &dyn Fn(u64),
) -> std::io::Result<Option<Digest>> {
    buffer.resize(256 << 10, 0);
    let mut hasher = Hasher::new();
    let mut bytes = 0;
    loop {
        let n = match file.read(buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        bytes += n as u64;
        // One that grows while it is read would never end.
        if bytes > size {
            return Ok(None);
        }
        hasher.update(&buffer[..n]);
        report(n as u64);
    }
    Ok((bytes == size).then(|| hasher.finish()))
}
