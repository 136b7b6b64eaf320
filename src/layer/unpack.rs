//! A layer tar to a directory. Nothing outside the directory can be reached: symlinks in names are
//! followed by hand inside it, and every file is made by a call on the descriptor of its own
//! directory, which was opened by the kernel without following any symlink.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::contents::fill;
use super::fault::{refused, way};
use super::metadata::{dress, forget, owner_error, system, times};
use super::once::{Once, Seen};
use super::options::{Devices, DirOverSymlink, Options, Ownership};
use super::{
    Entry, Error, Form, Kind, Limits, Metadata, Packed, TarReader, Wrong, attribute, name, show,
};
use crate::files::remove_at;
use crate::rootfs::{attributes, resolve};

/// Unpacks the tar `tar` (uncompressed) into the directory `dir`, refusing whatever cannot be one
/// clear tree.
///
/// The source is read to its end. With an error the directory holds a part of the tar: it must be
/// thrown away.
pub fn unpack(
    tar: &mut dyn Read,
    dir: &Path,
    form: Form,
    limits: &Limits,
) -> Result<Packed, Error> {
    unpack_with(tar, dir, &Options { limits: limits.clone(), ..Options::layer(form) })
}

/// As [`unpack`], with all the options.
pub fn unpack_with(tar: &mut dyn Read, dir: &Path, options: &Options) -> Result<Packed, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(dir, flags, Mode::empty())
        .map_err(|e| system("open the directory", dir.as_os_str().as_bytes(), e))?;
    if options.form == Form::Overlay {
        // The top directory of the topmost layer is the root that a step sees; the caller's umask
        // has no say in it.
        rustix::fs::fchmod(&root, Mode::from_raw_mode(0o755))
            .map_err(|e| system("set the mode of", b".", e))?;
    }
    let mut work = Work {
        root,
        options,
        parents: HashMap::new(),
        once: Once::default(),
        directories: BTreeMap::new(),
        buffer: vec![0; 128 << 10],
    };
    let mut reader = TarReader::new(tar, &options.limits);
    while let Some(entry) = reader.next()? {
        work.one(&entry, &mut reader)?;
    }
    work.close()?;
    Ok(reader.counted())
}

/// A directory in use.
struct Parent {
    fd: OwnedFd,
    /// Its path without symlinks.
    path: Vec<u8>,
    /// New files in it start with an ACL that they must lose.
    default_acl: bool,
}

struct Work<'a> {
    root: OwnedFd,
    options: &'a Options,
    /// Open directories by their path in the tar; emptied when it grows, or when anything was
    /// removed: only then can a path lead elsewhere.
    parents: HashMap<Vec<u8>, Rc<Parent>>,
    once: Once,
    /// Directories get their modes, owners and times when nothing will be put into them any more;
    /// `None`: only passed through.
    directories: BTreeMap<Vec<u8>, Option<Metadata>>,
    buffer: Vec<u8>,
}

impl Work<'_> {
    fn one(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), Error> {
        let refuse = |why| Err(refused(&entry.path, why));
        if matches!(entry.kind, Kind::Dir) {
            return self.dir(entry);
        }
        if matches!(entry.kind, Kind::Opaque) {
            return self.opaque(entry);
        }
        if matches!(entry.kind, Kind::Device) {
            return match self.options.devices {
                Devices::Refuse => refuse(Wrong::Device),
                Devices::Skip => Ok(()),
            };
        }
        let (directory, last) = name::split(&entry.path);
        if matches!(entry.kind, Kind::Whiteout) && self.options.form == Form::Tree {
            return self.delete(entry, directory, last);
        }
        if matches!(entry.kind, Kind::Symlink(_) | Kind::Fifo)
            && let Some(name) = entry.meta.xattrs.keys().next()
        {
            return refuse(Wrong::Attribute(show(name)));
        }
        let parent = self.parent(directory, entry)?;
        let path = name::join(&parent.path, last);
        let what = match &entry.kind {
            Kind::File | Kind::Link(_) => Seen::File,
            Kind::Whiteout => Seen::Whiteout,
            _ => Seen::Other,
        };
        if let Kind::Link(target) = &entry.kind {
            // Before the claim: a name that links to itself has nothing to link to.
            let from = self.target(&path, entry, target)?;
            self.once.claim(&path, what).map_err(|why| refused(&entry.path, why))?;
            return self.fresh(&parent, last, entry, "link", |dir| {
                rustix::fs::linkat(&from.0, from.1, dir, last, AtFlags::empty())
            });
        }
        self.once.claim(&path, what).map_err(|why| refused(&entry.path, why))?;
        match &entry.kind {
            Kind::File => self.file(&parent, last, entry, data),
            Kind::Symlink(target) => {
                self.fresh(&parent, last, entry, "make the symlink", |dir| {
                    rustix::fs::symlinkat(&**target, dir, last)
                })?;
                self.finish_special(&parent, last, entry, None)
            }
            Kind::Fifo => {
                self.fresh(&parent, last, entry, "make the fifo", |dir| {
                    rustix::fs::mknodat(dir, last, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                })?;
                self.finish_special(&parent, last, entry, Some(entry.meta.mode))
            }
            Kind::Whiteout => self.fresh(&parent, last, entry, "make the whiteout", |dir| {
                rustix::fs::mknodat(dir, last, FileType::CharacterDevice, Mode::empty(), 0)
            }),
            Kind::Link(_) | Kind::Dir | Kind::Opaque | Kind::Device => unreachable!("done above"),
        }
    }

    fn file(
        &mut self,
        parent: &Parent,
        last: &[u8],
        entry: &Entry,
        data: &mut dyn Read,
    ) -> Result<(), Error> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.fresh(parent, last, entry, "create", |dir| {
            rustix::fs::openat(dir, last, flags, Mode::RUSR | Mode::WUSR)
        })?;
        let mut file = std::fs::File::from(fd);
        fill(&mut file, entry, data, &mut self.buffer)?;
        if parent.default_acl {
            forget(rustix::fs::fremovexattr(&file, attribute::ACL))
                .map_err(|e| system("clear the ACL of", &entry.path, e))?;
        }
        dress(&file, &entry.path, &entry.meta, self.options.owners)
    }

    /// Finds the file that the hard link `path` is another name of: its open directory and its name
    /// there.
    fn target<'t>(
        &self,
        path: &[u8],
        entry: &Entry,
        target: &'t [u8],
    ) -> Result<(OwnedFd, &'t [u8]), Error> {
        let missing = || refused(&entry.path, Wrong::Target(show(target)));
        let (directory, last) = name::split(target);
        let directory = self.resolve(directory, entry)?;
        let found = name::join(&directory, last);
        let earlier = match self.once.get(&found) {
            Some(seen) => matches!(seen, Seen::File | Seen::Other),
            // A file that an earlier layer put into the same tree will do as well.
            None => self.options.form == Form::Tree,
        };
        if !earlier || last.is_empty() || found == path {
            return Err(missing());
        }
        let dir = self.open(&directory).map_err(|_| missing())?;
        let stat =
            rustix::fs::statat(&dir, last, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| missing())?;
        // link(2): any file may have several names, symlinks too, but no directory. A whiteout of
        // the form for overlay is not a file of the tree.
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Symlink | FileType::Fifo => Ok((dir, last)),
            _ => Err(missing()),
        }
    }

    /// Owner, mode and time of what cannot be opened.
    fn finish_special(
        &self,
        parent: &Parent,
        last: &[u8],
        entry: &Entry,
        mode: Option<u32>,
    ) -> Result<(), Error> {
        let (meta, path) = (&entry.meta, &entry.path);
        if self.options.owners == Ownership::Kept {
            let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
            rustix::fs::chownat(&parent.fd, last, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| owner_error(path, meta, e))?;
        }
        if let Some(mode) = mode {
            // Follows symlinks, but what was made a moment ago is none.
            rustix::fs::chmodat(&parent.fd, last, Mode::from_raw_mode(mode), AtFlags::empty())
                .map_err(|e| system("set the mode of", path, e))?;
        }
        rustix::fs::utimensat(&parent.fd, last, &times(meta), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| system("set the time of", path, e))
    }

    fn dir(&mut self, entry: &Entry) -> Result<(), Error> {
        let (directory, last) = name::split(&entry.path);
        if entry.path.is_empty() {
            self.directories.insert(vec![], Some(entry.meta.clone()));
            return Ok(());
        }
        let parent = self.parent(directory, entry)?;
        let mut path = name::join(&parent.path, last);
        if self.options.links == DirOverSymlink::Follow {
            let followed = self.resolve(&path, entry)?;
            if followed != path && self.open(&followed).is_ok() {
                path = followed;
            }
        }
        self.once.claim(&path, Seen::Dir).map_err(|why| refused(&entry.path, why))?;
        match self.open(&path) {
            Ok(_) => {}
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                self.fresh(&parent, last, entry, "make the directory", |dir| {
                    rustix::fs::mkdirat(dir, last, Mode::RWXU)
                })?;
            }
            Err(e) => return Err(system("open the directory", &entry.path, e)),
        }
        self.directories.insert(path, Some(entry.meta.clone()));
        Ok(())
    }

    fn opaque(&mut self, entry: &Entry) -> Result<(), Error> {
        // The mark is in the directory, so the directory is there.
        let parent = self.parent(&entry.path, entry)?;
        if self.options.form == Form::Overlay {
            let set =
                rustix::fs::fsetxattr(&parent.fd, attributes::OPAQUE, b"y", XattrFlags::empty());
            return set.map_err(|e| system("mark as opaque", &entry.path, e));
        }
        self.empty(&parent.fd, &parent.path)?;
        self.parents.clear();
        Ok(())
    }

    /// Removes from a directory what this tar did not put there.
    fn empty(&self, dir: &OwnedFd, path: &[u8]) -> Result<(), Error> {
        let mut left = vec![(
            path.to_owned(),
            rustix::io::fcntl_dupfd_cloexec(dir, 3).map_err(|e| system("open", path, e))?,
        )];
        while let Some((path, dir)) = left.pop() {
            for name in crate::files::dir_names(&dir).map_err(|e| system("list", &path, e))? {
                let child = name::join(&path, name.as_bytes());
                match self.once.get(&child) {
                    None => remove_at(dir.as_fd(), &name, Path::new(OsStr::from_bytes(&child)))?,
                    Some(Seen::Dir | Seen::Passed) => {
                        let flags =
                            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                        let fd = rustix::fs::openat(&dir, &name, flags, Mode::empty())
                            .map_err(|e| system("open", &child, e))?;
                        left.push((child, fd));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }

    fn delete(&mut self, entry: &Entry, directory: &[u8], last: &[u8]) -> Result<(), Error> {
        let directory = self.resolve(directory, entry)?;
        let path = name::join(&directory, last);
        self.once.claim(&path, Seen::Whiteout).map_err(|why| refused(&entry.path, why))?;
        match self.open(&directory) {
            Ok(dir) => remove_at(
                dir.as_fd(),
                OsStr::from_bytes(last),
                Path::new(OsStr::from_bytes(&entry.path)),
            )?,
            Err(Errno::NOENT) => {}
            Err(e) => return Err(way(&entry.path, e)),
        }
        self.parents.clear();
        Ok(())
    }

    /// Makes `last` by `make`, after removing what an earlier layer left there.
    fn fresh<T>(
        &mut self,
        parent: &Parent,
        last: &[u8],
        entry: &Entry,
        what: &'static str,
        make: impl Fn(&OwnedFd) -> Result<T, Errno>,
    ) -> Result<T, Error> {
        match make(&parent.fd) {
            Err(Errno::EXIST) => {
                remove_at(
                    parent.fd.as_fd(),
                    OsStr::from_bytes(last),
                    Path::new(OsStr::from_bytes(&entry.path)),
                )?;
                self.parents.clear();
                make(&parent.fd).map_err(|e| system(what, &entry.path, e))
            }
            other => other.map_err(|e| system(what, &entry.path, e)),
        }
    }

    /// Returns the open directory `directory`, through symlinks and made where missing.
    fn parent(&mut self, directory: &[u8], entry: &Entry) -> Result<Rc<Parent>, Error> {
        if let Some(parent) = self.parents.get(directory) {
            return Ok(parent.clone());
        }
        let (path, fd) = match self.open(directory) {
            Ok(fd) => (directory.to_owned(), fd),
            Err(Errno::LOOP | Errno::NOENT | Errno::NOTDIR) => {
                let path = self.resolve(directory, entry)?;
                let fd = self.make(&path, entry)?;
                (path, fd)
            }
            Err(e) => return Err(way(&entry.path, e)),
        };
        // Something in it is about to be made.
        self.once.pass(&path).map_err(|why| refused(&entry.path, why))?;
        let default_acl = match rustix::fs::fgetxattr_query(&fd, attribute::DEFAULT_ACL) {
            Ok(size) => size > 0,
            Err(Errno::NODATA | Errno::NOTSUP) => false,
            Err(e) => return Err(system("read the ACL of", directory, e)),
        };
        let parent = Rc::new(Parent { fd, path, default_acl });
        if self.parents.len() >= 64 {
            self.parents.clear();
        }
        self.parents.insert(directory.to_owned(), parent.clone());
        Ok(parent)
    }

    /// Opens a directory by a path in which nothing is a symlink.
    fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat2(
            &self.root,
            path,
            flags,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )
    }

    /// Makes the missing directories of a path without links: a tar need not mention them.
    fn make(&mut self, path: &[u8], entry: &Entry) -> Result<OwnedFd, Error> {
        let mut here = vec![];
        let mut fd = self.open(b"").map_err(|e| way(&entry.path, e))?;
        for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
            here = name::join(&here, part);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            fd = match rustix::fs::openat(&fd, part, flags, Mode::empty()) {
                Err(Errno::NOENT) => {
                    if self.once.get(&here) == Some(Seen::Whiteout) {
                        return Err(refused(&entry.path, Wrong::Conflict));
                    }
                    rustix::fs::mkdirat(&fd, part, Mode::RWXU)
                        .map_err(|e| system("make the directory", &here, e))?;
                    self.directories.entry(here.clone()).or_insert(None);
                    rustix::fs::openat(&fd, part, flags, Mode::empty())
                        .map_err(|e| system("open the directory", &here, e))?
                }
                other => other.map_err(|e| way(&entry.path, e))?,
            };
        }
        Ok(fd)
    }

    /// Follows the symlinks in `path` by hand, inside the root; what does not exist yet is taken as
    /// it stands.
    fn resolve(&self, path: &[u8], entry: &Entry) -> Result<Vec<u8>, Error> {
        let symlink = |at: &[u8]| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let held = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            match rustix::fs::openat2(&self.root, at, flags, Mode::empty(), held) {
                // An O_PATH descriptor of the symlink itself, if it is one.
                Ok(fd) => match rustix::fs::readlinkat(&fd, "", vec![]) {
                    Ok(target) => Ok(Some(target.into_bytes())),
                    Err(Errno::NOENT | Errno::INVAL) => Ok(None),
                    Err(e) => Err(way(&entry.path, e)),
                },
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
                Err(e) => Err(way(&entry.path, e)),
            }
        };
        resolve::path(path, symlink).map_err(|error| match error {
            resolve::Error::TooManySymlinks => refused(&entry.path, Wrong::Way),
            resolve::Error::Look(error) => error,
        })
    }

    /// Gives all directories what had to wait.
    fn close(&mut self) -> Result<(), Error> {
        let none = BTreeMap::new();
        // Deepest first: once a directory has its mode, what is in it may be out of reach for
        // anyone but root.
        for (path, meta) in std::mem::take(&mut self.directories).into_iter().rev() {
            let fd = match self.open(&path) {
                Ok(fd) => fd,
                // A whiteout further down took it away.
                Err(Errno::NOENT) => continue,
                Err(e) => return Err(system("open the directory", &path, e)),
            };
            let given = meta.as_ref().map_or(&none, |meta| &meta.xattrs);
            for key in
                attribute::list(&fd).map_err(|e| system("read the attributes of", &path, e))?
            {
                let internal =
                    self.options.form == Form::Overlay && key == attributes::OPAQUE.as_bytes();
                // Inherited from a default ACL, or of an earlier layer's directory: the entry says
                // what there is.
                if attribute::is_kept(&key) && !internal && !given.contains_key(&key) {
                    forget(rustix::fs::fremovexattr(&fd, &*key))
                        .map_err(|e| system("remove an attribute of", &path, e))?;
                }
            }
            match &meta {
                Some(meta) => dress(&fd, &path, meta, self.options.owners)?,
                None => {
                    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))
                        .map_err(|e| system("set the mode of", &path, e))?;
                    rustix::fs::futimens(&fd, &times(&Metadata::default()))
                        .map_err(|e| system("set the time of", &path, e))?;
                }
            }
        }
        Ok(())
    }
}
