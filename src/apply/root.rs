//! The image root as the operations see it: every path is resolved by the kernel inside it, and
//! what is already right stays untouched.
//!
//! Looking is here, and making directories on the way; what is written into them is in `write`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::error::Error;
use super::spot::{Attr, Found, Spot, parts, split};
use crate::files::{self, Links, RootDir};
use crate::rootfs::accounts::Ids;
use crate::rootfs::resolve;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory held open in which all paths are resolved.
#[derive(Debug)]
pub struct Root {
    dir: RootDir,
    /// How people call it: `/`, or the directory an archive is unpacked into.
    shown: PathBuf,
    links: Links,
    mount: u64,
    pub(super) epoch: i64,
    own: Ids,
}

impl Root {
    /// Opens the directory `path` (in production `/` of the already pivoted process). What is made
    /// gets the time `epoch` (seconds since 1970) and, where no other is given, the owner this
    /// process runs as: root inside the namespace.
    pub fn open(path: &Path, epoch: i64) -> Result<Self, Error> {
        let fd = rustix::fs::open(path, DIRECTORY, Mode::empty())
            .map_err(|e| Error::system("open the root", path)(e.into()))?;
        let own = Ids {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        let mount = mount_of(fd.as_fd(), OsStr::new(""))?;
        let (shown, links) = (PathBuf::from("/"), Links::InRoot);
        Ok(Self { dir: RootDir::from_fd(fd, &shown, links), shown, links, mount, epoch, own })
    }

    /// The directory `path` of this root as a root of its own, which nothing can leave: not by
    /// `..`, not by a symlink. Made with `attr` if missing.
    pub(super) fn beneath(&self, path: &Path, attr: Attr) -> Result<Self, Error> {
        let fd = self.make_directories(path, Some(attr))?;
        // The real root cannot be left at all, and its absolute symlinks are good ones.
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
    pub(super) fn inside<'a>(&self, shown: &'a Path) -> &'a Path {
        shown.strip_prefix(&self.shown).unwrap_or(shown)
    }

    /// Opens an existing directory, following symlinks; `None` if there is nothing.
    pub(super) fn directory(&self, path: &Path) -> Result<Option<OwnedFd>, Error> {
        let inside: PathBuf = parts(path)?.into_iter().collect();
        match self.dir.open_dir(&inside) {
            Ok(fd) => Ok(Some(fd)),
            Err(e) if e.is_missing() => Ok(None),
            Err(files::Error::System { source, .. })
                if source.raw_os_error() == Some(Errno::NOTDIR.raw_os_error()) =>
            {
                Err(Error::in_the_way(
                    self.show(path),
                    "is not a directory, or lies in something that is none",
                ))
            }
            Err(files::Error::System { source, .. })
                if source.raw_os_error() == Some(Errno::LOOP.raw_os_error()) =>
            {
                Err(Error::in_the_way(self.show(path), "is a symlink that leads in a circle"))
            }
            Err(files::Error::Outside { link, .. }) => Err(Error::in_the_way(
                self.show(&link),
                "is a symlink out of the directory that the archive has to stay in",
            )),
            Err(e) => Err(e.into()),
        }
    }

    /// Opens the directory `path`, making what is missing: parents 0755 of [`Root::own`], the last
    /// one with `last`.
    pub(super) fn make_directories(
        &self,
        path: &Path,
        last: Option<Attr>,
    ) -> Result<OwnedFd, Error> {
        if let Some(fd) = self.directory(path)? {
            return Ok(fd);
        }
        let parts = parts(path)?;
        let mut at = PathBuf::new();
        let mut dir = self
            .directory(&at)?
            .ok_or_else(|| Error::system("open", self.show(&at))(Errno::NOENT.into()))?;
        for (n, part) in parts.iter().enumerate() {
            at.push(part);
            if let Some(next) = self.directory(&at)? {
                dir = next;
                continue;
            }
            let attr = last
                .filter(|_| n + 1 == parts.len())
                .unwrap_or(Attr { ids: self.own, mode: 0o755 });
            let spot =
                Spot { dir: std::rc::Rc::new(dir), name: part.into(), shown: self.show(&at) };
            dir = self.make_directory(&spot, attr)?;
        }
        Ok(dir)
    }

    /// Makes a directory where nothing is.
    pub(super) fn make_directory(&self, spot: &Spot, attr: Attr) -> Result<OwnedFd, Error> {
        self.stays(spot)?;
        match rustix::fs::mkdirat(&*spot.dir, &spot.name, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                return Err(Error::in_the_way(
                    &spot.shown,
                    "is a symlink to nowhere; remove it in a `remove` step first",
                ));
            }
            Err(e) => return Err(Error::system("make the directory", &spot.shown)(e.into())),
        }
        let doing = "make the directory";
        let fd =
            rustix::fs::openat(&*spot.dir, &spot.name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
                .map_err(|e| Error::system(doing, &spot.shown)(e.into()))?;
        self.settle(fd.as_fd(), attr, &spot.shown)?;
        self.stamp(fd.as_fd(), &spot.shown)?;
        self.stamp(spot.dir.as_fd(), &spot.shown)?;
        Ok(fd)
    }

    /// The place of `path`: its directory (symlinks followed) and last name. `None` if the
    /// directory is missing.
    pub(super) fn spot(&self, path: &Path) -> Result<Option<Spot>, Error> {
        let (parent, name) = split(path)?;
        Ok(self.directory(&parent)?.map(|dir| Spot {
            dir: std::rc::Rc::new(dir),
            name,
            shown: self.show(path),
        }))
    }

    /// As [`Root::spot`], making missing directories.
    pub(super) fn make_spot(&self, path: &Path) -> Result<Spot, Error> {
        let (parent, name) = split(path)?;
        let dir = self.make_directories(&parent, None)?;
        Ok(Spot { dir: std::rc::Rc::new(dir), name, shown: self.show(path) })
    }

    /// The place that `path` finally names, symlinks followed in the root; `None` if a directory on
    /// the way is missing.
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

    /// What stands there, a symlink not followed.
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

    /// What `path` names with the last symlink not followed.
    pub(super) fn look_at(&self, path: &Path) -> Result<Option<Found>, Error> {
        match self.spot(path)? {
            Some(spot) => self.look(&spot),
            None => Ok(None),
        }
    }

    /// Whether `path` is a directory or a symlink to one.
    pub(super) fn is_directory(&self, path: &Path) -> bool {
        matches!(self.directory(path), Ok(Some(_)))
    }

    /// Target of a symlink.
    pub(super) fn read_link(&self, spot: &Spot) -> Result<OsString, Error> {
        let target = rustix::fs::readlinkat(&*spot.dir, &spot.name, vec![])
            .map_err(|e| Error::system("read the symlink", &spot.shown)(e.into()))?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Names in a directory, sorted by bytes; empty if it is not there.
    pub(super) fn names(&self, path: &Path) -> Result<Vec<OsString>, Error> {
        match self.directory(path)? {
            Some(fd) => files::dir_names(fd).map_err(Error::system("list", self.show(path))),
            None => Ok(vec![]),
        }
    }

    /// Opens a regular file for reading, without following a symlink in its last place; `None` if
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

    /// The bytes of the file `path`, symlinks followed in the root; `None` if there is none. At
    /// most `limit` bytes.
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

    /// Whether `spot` (what is there, else its directory) is on another mount than the image.
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
        // The topmost directory on the way is what people know: /tmp, /run.
        let mut mount = spot.shown.clone();
        while let Some(parent) = mount.parent().filter(|p| p.parent().is_some()) {
            match self.directory(self.inside(parent))? {
                Some(fd) if mount_of(fd.as_fd(), OsStr::new(""))? != self.mount => {
                    mount = parent.to_owned()
                }
                _ => break,
            }
        }
        Err(Error::Fleeting { path: spot.shown.clone(), mount })
    }
}

fn mount_of(dir: BorrowedFd<'_>, name: &OsStr) -> Result<u64, Error> {
    let flags = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
    rustix::fs::statx(dir, name, flags | AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID)
        .map(|s| s.stx_mnt_id)
        .map_err(|e| Error::system("look at", name)(e.into()))
}
