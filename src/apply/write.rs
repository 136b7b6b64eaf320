//! What operations write into the image root; what is already right stays untouched.
//!
//! An operation runs over an overlay, where any change of a file or a directory's entries copies it
//! up into the new layer. So each function here looks first and acts only on a difference.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::error::Error;
use super::root::Root;
use super::spot::{Attr, Spot};
use super::way::{
    directory_in_the_way, link_over_directory, link_to_directory_in_the_way, owner_error,
};
use crate::rootfs::accounts::Ids;

const CHUNK: usize = 64 * 1024;

impl Root {
    /// Puts a file with the bytes of `from` there, replacing a file or symlink; one that already is
    /// so stays untouched.
    pub(super) fn put_file(
        &self,
        spot: &Spot,
        attr: Attr,
        from: &mut dyn Read,
    ) -> Result<u64, Error> {
        self.stays(spot)?;
        let mut same = 0_u64;
        let mut buf = vec![0; CHUNK];
        let mut pending =
            fill(from, &mut buf).map_err(Error::system("read the content of", &spot.shown))?;
        let mut old = self.old_file(spot, attr)?;
        // As long as the file that is there agrees nothing is written; at the first difference what
        // agreed is taken over from it.
        if let Some(file) = &mut old {
            let mut theirs = vec![0; CHUNK];
            loop {
                let n = fill(file, &mut theirs[..pending.max(1)])
                    .map_err(Error::system("read", &spot.shown))?;
                if theirs[..n] != buf[..pending] {
                    break;
                }
                if pending == 0 {
                    self.settle(file.as_fd(), attr, &spot.shown)?;
                    return Ok(same);
                }
                same += pending as u64;
                pending = fill(from, &mut buf)
                    .map_err(Error::system("read the content of", &spot.shown))?;
            }
        }
        let doing = "write";
        let (aside, mut out) = Aside::file(spot)?;
        if let Some(mut file) = old.filter(|_| same > 0) {
            file.rewind().map_err(Error::system("read", &spot.shown))?;
            io::copy(&mut file.take(same), &mut out).map_err(Error::system(doing, &spot.shown))?;
        }
        out.write_all(&buf[..pending]).map_err(Error::system(doing, &spot.shown))?;
        let more = io::copy(from, &mut out).map_err(Error::system(doing, &spot.shown))?;
        self.settle(out.as_fd(), attr, &spot.shown)?;
        self.stamp(out.as_fd(), &spot.shown)?;
        aside.into_place()?;
        self.stamp(spot.dir.as_fd(), &spot.shown)?;
        Ok(same + pending as u64 + more)
    }

    /// The file to compare with, if there is one that may stay.
    fn old_file(&self, spot: &Spot, attr: Attr) -> Result<Option<File>, Error> {
        let Some(found) = self.look(spot)? else { return Ok(None) };
        self.no_directory(spot, found.kind)?;
        // Changing one name of several would change the others, too.
        if found.kind != FileType::RegularFile || (found.links > 1 && found.attr != attr) {
            return Ok(None);
        }
        self.open_file(spot)
    }

    /// Refuses to put a file or symlink where a directory, or a symlink to one, is.
    pub(super) fn no_directory(&self, spot: &Spot, kind: FileType) -> Result<(), Error> {
        if kind == FileType::Directory {
            return Err(directory_in_the_way(&spot.shown));
        }
        if kind == FileType::Symlink && self.is_directory(self.inside(&spot.shown)) {
            return Err(link_to_directory_in_the_way(&spot.shown));
        }
        Ok(())
    }

    /// Makes a symlink there, replacing a file or symlink, never a directory.
    pub(super) fn put_link(&self, spot: &Spot, target: &OsStr, ids: Ids) -> Result<(), Error> {
        self.stays(spot)?;
        match self.look(spot)? {
            Some(found)
                if found.kind == FileType::Symlink
                    && found.attr.ids == ids
                    && self.read_link(spot)? == target =>
            {
                return Ok(());
            }
            Some(found) if found.kind == FileType::Directory => {
                return Err(link_over_directory(&spot.shown));
            }
            _ => {}
        }
        let aside = Aside::link(spot, target)?;
        let fail = |e: Errno| Error::system("make the symlink", &spot.shown)(e.into());
        let made =
            rustix::fs::statat(&*spot.dir, &aside.name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        if (made.st_uid, made.st_gid) != (ids.uid, ids.gid) {
            rustix::fs::chownat(
                &*spot.dir,
                &aside.name,
                Some(uid(ids)),
                Some(gid(ids)),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .map_err(|e| owner_error(&spot.shown, ids, e))?;
        }
        rustix::fs::utimensat(&*spot.dir, &aside.name, &self.times(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(fail)?;
        aside.into_place()?;
        self.stamp(spot.dir.as_fd(), &spot.shown)
    }

    /// Makes `spot` another name of the file at `original`, replacing a file or symlink.
    pub(super) fn put_hard_link(&self, spot: &Spot, original: &Spot) -> Result<(), Error> {
        self.stays(spot)?;
        if let Some(found) = self.look(spot)? {
            self.no_directory(spot, found.kind)?;
        }
        let (aside, ()) = Aside::made(spot, |name| {
            rustix::fs::linkat(&*original.dir, &original.name, &*spot.dir, name, AtFlags::empty())
        })?;
        let passing = aside.name.clone();
        aside.into_place()?;
        // Renaming one name of a file over another name of the same file does nothing and leaves
        // both.
        match rustix::fs::unlinkat(&*spot.dir, &passing, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(Error::system("put into place", &spot.shown)(e.into())),
        }
        self.stamp(spot.dir.as_fd(), &spot.shown)
    }

    /// Replaces the content of an account file or the like: same owner, mode and attributes as
    /// before, else `attr`.
    pub(super) fn rewrite(&self, path: &Path, bytes: &[u8], attr: Attr) -> Result<(), Error> {
        let spot = match self.final_spot(path)? {
            Some(spot) => spot,
            None => self.make_spot(path)?,
        };
        self.stays(&spot)?;
        let old = self.open_file(&spot)?;
        let attr = self.look(&spot)?.map_or(attr, |found| found.attr);
        let (aside, mut out) = Aside::file(&spot)?;
        out.write_all(bytes).map_err(Error::system("write", &spot.shown))?;
        self.settle(out.as_fd(), attr, &spot.shown)?;
        if let Some(old) = old {
            copy_xattrs(&old, &out)
                .map_err(Error::system("keep the attributes of", &spot.shown))?;
        }
        self.stamp(out.as_fd(), &spot.shown)?;
        aside.into_place()?;
        self.stamp(spot.dir.as_fd(), &spot.shown)
    }

    /// Adds bytes to an existing file, in place.
    pub(super) fn extend(&self, spot: &Spot, bytes: &[u8]) -> Result<(), Error> {
        self.stays(spot)?;
        let flags =
            OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fail = Error::system("append to", &spot.shown);
        let mut file = match rustix::fs::openat(&*spot.dir, &spot.name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(e) => return Err(fail(e.into())),
        };
        file.write_all(bytes).map_err(fail)?;
        self.stamp(file.as_fd(), &spot.shown)
    }

    /// Brings owner and mode of an open file or directory to `attr`.
    pub(super) fn settle(&self, fd: BorrowedFd<'_>, attr: Attr, shown: &Path) -> Result<(), Error> {
        let fail = |e: Errno| Error::system("set the mode of", shown)(e.into());
        let now = rustix::fs::fstat(fd).map_err(fail)?;
        let mut mode = now.st_mode & 0o7777;
        if (now.st_uid, now.st_gid) != (attr.ids.uid, attr.ids.gid) {
            rustix::fs::fchown(fd, Some(uid(attr.ids)), Some(gid(attr.ids)))
                .map_err(|e| owner_error(shown, attr.ids, e))?;
            // A change of owner may clear set-id bits.
            mode = rustix::fs::fstat(fd).map_err(fail)?.st_mode & 0o7777;
        }
        if mode != attr.mode {
            rustix::fs::fchmod(fd, Mode::from_raw_mode(attr.mode)).map_err(fail)?;
        }
        Ok(())
    }

    /// Brings owner and mode of an existing file to `attr`, where given.
    pub(super) fn settle_spot(
        &self,
        spot: &Spot,
        ids: Option<Ids>,
        mode: Option<u32>,
    ) -> Result<(), Error> {
        let (Some(found), Some(file)) = (self.look(spot)?, self.open_file(spot)?) else {
            return Ok(());
        };
        let attr =
            Attr { ids: ids.unwrap_or(found.attr.ids), mode: mode.unwrap_or(found.attr.mode) };
        self.settle(file.as_fd(), attr, &spot.shown)
    }

    /// Gives what is at `spot`, a symlink not followed, another owner.
    pub(super) fn give(&self, spot: &Spot, ids: Ids) -> Result<(), Error> {
        rustix::fs::chownat(
            &*spot.dir,
            &spot.name,
            Some(uid(ids)),
            Some(gid(ids)),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(|e| owner_error(&spot.shown, ids, e))
    }

    /// Sets the time of an open file or directory.
    pub(super) fn stamp(&self, fd: BorrowedFd<'_>, shown: &Path) -> Result<(), Error> {
        rustix::fs::futimens(fd, &self.times())
            .map_err(|e| Error::system("set the time of", shown)(e.into()))
    }

    /// Removes a name that is not a directory.
    pub(super) fn unlink(&self, spot: &Spot) -> Result<(), Error> {
        rustix::fs::unlinkat(&*spot.dir, &spot.name, AtFlags::empty())
            .map_err(|e| Error::system("remove", &spot.shown)(e.into()))?;
        self.stamp(spot.dir.as_fd(), &spot.shown)
    }

    /// Removes an empty directory; one that is not empty stays.
    pub(super) fn unlink_directory(&self, spot: &Spot) -> Result<(), Error> {
        match rustix::fs::unlinkat(&*spot.dir, &spot.name, AtFlags::REMOVEDIR) {
            Ok(()) => self.stamp(spot.dir.as_fd(), &spot.shown),
            Err(Errno::NOTEMPTY) => Ok(()),
            Err(e) => Err(Error::system("remove the directory", &spot.shown)(e.into())),
        }
    }

    fn times(&self) -> Timestamps {
        let time = Timespec { tv_sec: self.epoch, tv_nsec: 0 };
        Timestamps { last_access: time, last_modification: time }
    }
}

/// Something made under a passing name, renamed into place when whole, removed when dropped before
/// that.
struct Aside<'a> {
    spot: &'a Spot,
    name: OsString,
    placed: bool,
}

impl<'a> Aside<'a> {
    fn made<T>(
        spot: &'a Spot,
        make: impl Fn(&OsStr) -> rustix::io::Result<T>,
    ) -> Result<(Self, T), Error> {
        for n in 0_u32..1000 {
            let name = OsString::from(format!(".bake~{n}"));
            match make(&name) {
                Ok(made) => return Ok((Self { spot, name, placed: false }, made)),
                Err(Errno::EXIST) => {}
                Err(e) => return Err(Error::system("write", &spot.shown)(e.into())),
            }
        }
        Err(Error::system("write", &spot.shown)(Errno::EXIST.into()))
    }

    fn file(spot: &'a Spot) -> Result<(Self, File), Error> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (aside, fd) = Self::made(spot, |name| {
            rustix::fs::openat(&*spot.dir, name, flags, Mode::from_raw_mode(0o600))
        })?;
        Ok((aside, File::from(fd)))
    }

    fn link(spot: &'a Spot, target: &OsStr) -> Result<Self, Error> {
        Ok(Self::made(spot, |name| rustix::fs::symlinkat(target, &*spot.dir, name))?.0)
    }

    fn into_place(mut self) -> Result<(), Error> {
        rustix::fs::renameat(&*self.spot.dir, &self.name, &*self.spot.dir, &self.spot.name)
            .map_err(|e| Error::system("put into place", &self.spot.shown)(e.into()))?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        if !self.placed {
            // The operation has failed already, and a failed step's whole upper directory is thrown
            // away.
            let _ = rustix::fs::unlinkat(&*self.spot.dir, &self.name, AtFlags::empty());
        }
    }
}

/// Reads until `buf` is full or the end.
fn fill(from: &mut dyn Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buf.len() {
        match from.read(&mut buf[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}

fn copy_xattrs(from: &File, to: &File) -> io::Result<()> {
    use xattr::FileExt;
    let names = match from.list_xattr() {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::Unsupported => return Ok(()),
        Err(e) => return Err(e),
    };
    for name in names {
        // A label is the business of the system that runs the image; most kernels refuse to set one
        // from a namespace.
        if name == "security.selinux" {
            continue;
        }
        if let Some(value) = from.get_xattr(&name)? {
            to.set_xattr(&name, &value)?;
        }
    }
    Ok(())
}

fn uid(ids: Ids) -> Uid {
    Uid::from_raw(ids.uid)
}

fn gid(ids: Ids) -> Gid {
    Gid::from_raw(ids.gid)
}
