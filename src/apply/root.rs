//! The image root as the operations see it: every path is resolved by the kernel inside it, and
//! what is already right stays untouched.
//!
//! An operation runs over an overlay, where any change of a file or a folder's entries copies it up
//! into the new layer. So each function here looks first and acts only on a difference.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, StatxFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::error::Error;
use crate::files::{self, Links, RootDir};
use crate::rootfs::accounts::Ids;
use crate::rootfs::resolve;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const CHUNK: usize = 64 * 1024;

/// Owner and permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attr {
    pub(super) ids: Ids,
    /// Permission bits, special bits included.
    pub(super) mode: u32,
}

/// A folder held open in which all paths are resolved.
#[derive(Debug)]
pub struct Root {
    dir: RootDir,
    /// How people call it: `/`, or the folder an archive is unpacked into.
    shown: PathBuf,
    links: Links,
    mount: u64,
    epoch: i64,
    own: Ids,
}

/// A name in a folder held open.
#[derive(Debug)]
pub(super) struct Spot {
    dir: std::rc::Rc<OwnedFd>,
    name: OsString,
    /// Image path, for messages.
    pub(super) shown: PathBuf,
}

/// What stands at a [`Spot`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) kind: FileType,
    pub(super) attr: Attr,
    pub(super) links: u32,
}

impl Root {
    /// Opens the folder `path` (in production `/` of the already pivoted process). What is made
    /// gets the time `epoch` (seconds since 1970) and, where nothing else is said, the owner this
    /// process runs as: root inside the namespace.
    pub fn open(path: &Path, epoch: i64) -> Result<Self, Error> {
        let fd = rustix::fs::open(path, FOLDER, Mode::empty())
            .map_err(|e| Error::system("open the root", path)(e.into()))?;
        let own = Ids {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        let mount = mount_of(fd.as_fd(), OsStr::new(""))?;
        let (shown, links) = (PathBuf::from("/"), Links::InRoot);
        Ok(Self { dir: RootDir::from_fd(fd, &shown, links), shown, links, mount, epoch, own })
    }

    /// The folder `path` of this root as a root of its own, which nothing can leave: not by `..`,
    /// not by a link. Made with `attr` if missing.
    pub(super) fn beneath(&self, path: &Path, attr: Attr) -> Result<Self, Error> {
        let fd = self.make_folders(path, Some(attr))?;
        // The real root cannot be left at all, and its absolute links are good ones.
        let links = if parts(path)?.is_empty() { self.links } else { Links::Beneath };
        let mount = mount_of(fd.as_fd(), OsStr::new(""))?;
        if mount != self.mount {
            return Err(Error::Fleeting { path: path.to_owned(), mount: path.to_owned() });
        }
        Ok(Self {
            dir: RootDir::from_fd(fd, path, links),
            shown: path.to_owned(),
            links,
            mount,
            epoch: self.epoch,
            own: self.own,
        })
    }

    /// Who owns what the recipe says nothing about.
    pub(super) fn own(&self) -> Ids {
        self.own
    }

    /// Time of everything made, seconds since 1970.
    pub(super) fn epoch(&self) -> i64 {
        self.epoch
    }

    /// `path` (absolute or relative to this root) as people know it.
    fn show(&self, path: &Path) -> PathBuf {
        self.shown.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A shown path as this root resolves it.
    fn inside<'a>(&self, shown: &'a Path) -> &'a Path {
        shown.strip_prefix(&self.shown).unwrap_or(shown)
    }

    /// Opens an existing folder, following links; `None` if there is nothing.
    pub(super) fn folder(&self, path: &Path) -> Result<Option<OwnedFd>, Error> {
        let inside: PathBuf = parts(path)?.into_iter().collect();
        match self.dir.open_dir(&inside) {
            Ok(fd) => Ok(Some(fd)),
            Err(e) if e.is_missing() => Ok(None),
            Err(files::Error::System { source, .. })
                if source.raw_os_error() == Some(Errno::NOTDIR.raw_os_error()) =>
            {
                Err(Error::in_the_way(
                    self.show(path),
                    "is not a folder, or lies in something that is none",
                ))
            }
            Err(files::Error::System { source, .. })
                if source.raw_os_error() == Some(Errno::LOOP.raw_os_error()) =>
            {
                Err(Error::in_the_way(self.show(path), "is a symlink that leads in a circle"))
            }
            Err(files::Error::Outside { link, .. }) => Err(Error::in_the_way(
                self.show(&link),
                "is a symlink out of the folder that the archive has to stay in",
            )),
            Err(e) => Err(e.into()),
        }
    }

    /// Opens the folder `path`, making what is missing: parents 0755 of [`Root::own`], the last one
    /// with `last`.
    pub(super) fn make_folders(&self, path: &Path, last: Option<Attr>) -> Result<OwnedFd, Error> {
        if let Some(fd) = self.folder(path)? {
            return Ok(fd);
        }
        let parts = parts(path)?;
        let mut at = PathBuf::new();
        let mut dir = self
            .folder(&at)?
            .ok_or_else(|| Error::system("open", self.show(&at))(Errno::NOENT.into()))?;
        for (n, part) in parts.iter().enumerate() {
            at.push(part);
            if let Some(next) = self.folder(&at)? {
                dir = next;
                continue;
            }
            let attr = last
                .filter(|_| n + 1 == parts.len())
                .unwrap_or(Attr { ids: self.own, mode: 0o755 });
            let spot =
                Spot { dir: std::rc::Rc::new(dir), name: part.into(), shown: self.show(&at) };
            dir = self.make_folder(&spot, attr)?;
        }
        Ok(dir)
    }

    /// Makes a folder where nothing is.
    pub(super) fn make_folder(&self, spot: &Spot, attr: Attr) -> Result<OwnedFd, Error> {
        self.stays(spot)?;
        match rustix::fs::mkdirat(&*spot.dir, &spot.name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return Err(Error::in_the_way(
                    &spot.shown,
                    "is a symlink to nowhere; remove it in a `remove` step first",
                ));
            }
            Err(e) => return Err(Error::system("make the folder", &spot.shown)(e.into())),
        }
        let doing = "make the folder";
        let fd =
            rustix::fs::openat(&*spot.dir, &spot.name, FOLDER | OFlags::NOFOLLOW, Mode::empty())
                .map_err(|e| Error::system(doing, &spot.shown)(e.into()))?;
        self.settle(fd.as_fd(), attr, &spot.shown)?;
        self.stamp(fd.as_fd(), &spot.shown)?;
        self.stamp(spot.dir.as_fd(), &spot.shown)?;
        Ok(fd)
    }

    /// The place of `path`: its folder (links followed) and last name. `None` if the folder is
    /// missing.
    pub(super) fn spot(&self, path: &Path) -> Result<Option<Spot>, Error> {
        let (parent, name) = split(path)?;
        Ok(self.folder(&parent)?.map(|dir| Spot {
            dir: std::rc::Rc::new(dir),
            name,
            shown: self.show(path),
        }))
    }

    /// As [`Root::spot`], making missing folders.
    pub(super) fn make_spot(&self, path: &Path) -> Result<Spot, Error> {
        let (parent, name) = split(path)?;
        let dir = self.make_folders(&parent, None)?;
        Ok(Spot { dir: std::rc::Rc::new(dir), name, shown: self.show(path) })
    }

    /// The place that `path` finally names, links followed in the root; `None` if a folder on the
    /// way is missing.
    pub(super) fn final_spot(&self, path: &Path) -> Result<Option<Spot>, Error> {
        let inside: PathBuf = parts(path)?.into_iter().collect();
        let symlink = |at: &[u8]| -> Result<Option<Vec<u8>>, Error> {
            let Some(spot) = self.spot(Path::new(OsStr::from_bytes(at)))? else { return Ok(None) };
            match self.look(&spot)? {
                Some(found) if found.kind == FileType::Symlink => {
                    self.read_link(&spot).map(|target| Some(target.into_vec()))
                }
                _ => Ok(None),
            }
        };
        match resolve::path(inside.as_os_str().as_bytes(), symlink) {
            Ok(real) => self.spot(Path::new(OsStr::from_bytes(&real))),
            Err(resolve::Error::Look(error)) => Err(error),
            Err(resolve::Error::TooManySymlinks) => {
                Err(Error::in_the_way(self.show(path), "is a symlink that leads in a circle"))
            }
        }
    }

    /// What stands there, a link not followed.
    pub(super) fn look(&self, spot: &Spot) -> Result<Option<Found>, Error> {
        match rustix::fs::statat(&*spot.dir, &spot.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(s) => Ok(Some(Found {
                kind: FileType::from_raw_mode(s.st_mode),
                attr: Attr { ids: Ids { uid: s.st_uid, gid: s.st_gid }, mode: s.st_mode & 0o7777 },
                links: u32::try_from(s.st_nlink).unwrap_or(u32::MAX),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::system("look at", &spot.shown)(e.into())),
        }
    }

    /// What `path` names with the last link not followed.
    pub(super) fn look_at(&self, path: &Path) -> Result<Option<Found>, Error> {
        match self.spot(path)? {
            Some(spot) => self.look(&spot),
            None => Ok(None),
        }
    }

    /// Whether `path` is a folder or a link to one.
    pub(super) fn is_folder(&self, path: &Path) -> bool {
        matches!(self.folder(path), Ok(Some(_)))
    }

    /// Target of a symlink.
    pub(super) fn read_link(&self, spot: &Spot) -> Result<OsString, Error> {
        let target = rustix::fs::readlinkat(&*spot.dir, &spot.name, vec![])
            .map_err(|e| Error::system("read the link", &spot.shown)(e.into()))?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Names in a folder, sorted by bytes; empty if it is not there.
    pub(super) fn names(&self, path: &Path) -> Result<Vec<OsString>, Error> {
        match self.folder(path)? {
            Some(fd) => files::dir_names(fd).map_err(Error::system("list", self.show(path))),
            None => Ok(vec![]),
        }
    }

    /// Opens a regular file for reading, without following a link in its last place; `None` if
    /// there is none.
    pub(super) fn open_file(&self, spot: &Spot) -> Result<Option<File>, Error> {
        match self.look(spot)? {
            Some(found) if found.kind == FileType::RegularFile => {}
            Some(_) => return Err(Error::in_the_way(&spot.shown, "is not a file")),
            None => return Ok(None),
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&*spot.dir, &spot.name, flags, Mode::empty())
            .map_err(|e| Error::system("open", &spot.shown)(e.into()))?;
        Ok(Some(File::from(fd)))
    }

    /// The bytes of the file `path`, links followed in the root; `None` if there is none. At most
    /// `limit` bytes.
    pub(super) fn read(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(spot) = self.final_spot(path)? else { return Ok(None) };
        let Some(file) = self.open_file(&spot)? else { return Ok(None) };
        let mut bytes = vec![];
        file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::system("read", &spot.shown))?;
        if bytes.len() as u64 > limit {
            return Err(Error::refused(
                spot.shown.display().to_string(),
                format!("is larger than {limit} bytes"),
            ));
        }
        Ok(Some(bytes))
    }

    /// Puts a file with the bytes of `from` there, replacing a file or link; one that already is so
    /// stays untouched.
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
        self.no_folder(spot, found.kind)?;
        // Changing one name of several would change the others, too.
        if found.kind != FileType::RegularFile || (found.links > 1 && found.attr != attr) {
            return Ok(None);
        }
        self.open_file(spot)
    }

    /// Refuses to put a file or link where a folder, or a link to one, is.
    pub(super) fn no_folder(&self, spot: &Spot, kind: FileType) -> Result<(), Error> {
        if kind == FileType::Directory {
            return Err(folder_in_the_way(&spot.shown));
        }
        if kind == FileType::Symlink && self.is_folder(self.inside(&spot.shown)) {
            return Err(link_to_folder_in_the_way(&spot.shown));
        }
        Ok(())
    }

    /// Makes a symlink there, replacing a file or link, never a folder.
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
                return Err(link_over_folder(&spot.shown));
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

    /// Makes `spot` another name of the file at `original`, replacing a file or link.
    pub(super) fn put_hard_link(&self, spot: &Spot, original: &Spot) -> Result<(), Error> {
        self.stays(spot)?;
        if let Some(found) = self.look(spot)? {
            self.no_folder(spot, found.kind)?;
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

    /// Brings owner and mode of an open file or folder to `attr`.
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

    /// Gives what is at `spot`, a link not followed, another owner.
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

    /// Sets the time of an open file or folder.
    pub(super) fn stamp(&self, fd: BorrowedFd<'_>, shown: &Path) -> Result<(), Error> {
        rustix::fs::futimens(fd, &self.times())
            .map_err(|e| Error::system("set the time of", shown)(e.into()))
    }

    /// Removes a name that is not a folder.
    pub(super) fn unlink(&self, spot: &Spot) -> Result<(), Error> {
        rustix::fs::unlinkat(&*spot.dir, &spot.name, AtFlags::empty())
            .map_err(|e| Error::system("remove", &spot.shown)(e.into()))?;
        self.stamp(spot.dir.as_fd(), &spot.shown)
    }

    /// Removes an empty folder; one that is not empty stays.
    pub(super) fn unlink_folder(&self, spot: &Spot) -> Result<(), Error> {
        match rustix::fs::unlinkat(&*spot.dir, &spot.name, AtFlags::REMOVEDIR) {
            Ok(()) => self.stamp(spot.dir.as_fd(), &spot.shown),
            Err(Errno::NOTEMPTY) => Ok(()),
            Err(e) => Err(Error::system("remove the folder", &spot.shown)(e.into())),
        }
    }

    /// Whether `spot` (what is there, else its folder) is on another mount than the image.
    pub(super) fn is_fleeting(&self, spot: &Spot) -> Result<bool, Error> {
        if mount_of(spot.dir.as_fd(), OsStr::new(""))? != self.mount {
            return Ok(true);
        }
        match mount_of(spot.dir.as_fd(), &spot.name) {
            Ok(mount) => Ok(mount != self.mount),
            Err(Error::System { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    /// Refuses places that are not part of the image.
    pub(super) fn stays(&self, spot: &Spot) -> Result<(), Error> {
        if !self.is_fleeting(spot)? {
            return Ok(());
        }
        // The topmost folder on the way is what people know: /tmp, /run.
        let mut mount = spot.shown.clone();
        while let Some(parent) = mount.parent().filter(|p| p.parent().is_some()) {
            match self.folder(self.inside(parent))? {
                Some(fd) if mount_of(fd.as_fd(), OsStr::new(""))? != self.mount => {
                    mount = parent.to_owned()
                }
                _ => break,
            }
        }
        Err(Error::Fleeting { path: spot.shown.clone(), mount })
    }

    fn times(&self) -> Timestamps {
        let time = Timespec { tv_sec: self.epoch, tv_nsec: 0 };
        Timestamps { last_access: time, last_modification: time }
    }
}

impl Spot {
    /// A name in the folder `dir`, whose image path is `shown`.
    pub(super) fn within(dir: &std::rc::Rc<OwnedFd>, shown: &Path, name: &OsStr) -> Self {
        Self { dir: dir.clone(), name: name.to_owned(), shown: shown.join(name) }
    }

    /// The last name.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// The folder the name is in.
    pub(super) fn folder(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
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
            // The operation has failed already, and a failed step's whole upper folder is thrown
            // away.
            let _ = rustix::fs::unlinkat(&*self.spot.dir, &self.name, AtFlags::empty());
        }
    }
}

/// A file cannot take the place of the folder `shown`.
pub(super) fn folder_in_the_way(shown: &Path) -> Error {
    let path = shown.display();
    let why = format!(
        "is a folder and a file cannot take its place; write \"{path}/\" to put the file into it, or remove it first"
    );
    Error::in_the_way(shown, why)
}

/// A file does not take the place of the link `shown`, as it leads to a folder.
pub(super) fn link_to_folder_in_the_way(shown: &Path) -> Error {
    let path = shown.display();
    let why = format!(
        "is a symlink to a folder; write \"{path}/\" to put the file into that folder, or remove the link first"
    );
    Error::in_the_way(shown, why)
}

/// A symlink does not take the place of the folder `shown`.
pub(super) fn link_over_folder(shown: &Path) -> Error {
    Error::in_the_way(
        shown,
        "is a folder and a symlink never replaces one; remove it in a `remove` step first",
    )
}

/// The plain components of an image path.
pub(super) fn parts(path: &Path) -> Result<Vec<&OsStr>, Error> {
    let mut parts = vec![];
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(part) if part.as_bytes().contains(&0) => {
                return Err(Error::BadPath { path: path.to_owned(), why: "contains a zero byte" });
            }
            Component::Normal(part) => parts.push(part),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::BadPath {
                    path: path.to_owned(),
                    why: "contains `..`; write the path without it",
                });
            }
        }
    }
    Ok(parts)
}

fn split(path: &Path) -> Result<(PathBuf, OsString), Error> {
    let mut parts = parts(path)?;
    let name = parts.pop().ok_or_else(|| Error::BadPath {
        path: path.to_owned(),
        why: "names the root folder itself",
    })?;
    Ok((parts.iter().collect(), name.to_owned()))
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

fn mount_of(dir: BorrowedFd<'_>, name: &OsStr) -> Result<u64, Error> {
    let flags = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
    rustix::fs::statx(dir, name, flags | AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID)
        .map(|s| s.stx_mnt_id)
        .map_err(|e| Error::system("look at", name)(e.into()))
}

fn uid(ids: Ids) -> Uid {
    Uid::from_raw(ids.uid)
}

fn gid(ids: Ids) -> Gid {
    Gid::from_raw(ids.gid)
}

/// No image may have this owner.
pub(super) fn outside_the_ids(path: &Path, ids: Ids) -> Error {
    let why = format!(
        "owner {}:{} is outside the ids that this host gives to the sandbox",
        ids.uid, ids.gid
    );
    Error::refused(path.display().to_string(), why)
}

fn owner_error(path: &Path, ids: Ids, e: Errno) -> Error {
    if e == Errno::INVAL {
        return outside_the_ids(path, ids);
    }
    Error::system("set the owner of", path)(e.into())
}
