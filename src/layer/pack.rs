//! A directory to a layer tar: an overlay upper directory, or a plain tree, walked by descriptors
//! from inside the user namespace, where owners, ACLs and file capabilities read as the image sees
//! them. Memory does not grow with the tree, but for names of hard-linked files.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::{Builder, Error, MAX_PATH, Metadata, Packed, Wrong, attribute, name, show};

/// Directories kept open at once; those above are opened again on the way back.
const OPEN: usize = 128;

/// Writes the directory `dir` (an overlay upper directory, or a tree), seen from inside the user
/// namespace, as a layer tar: same tree, same bytes.
///
/// An entry `./` is written only where the top directory is not 0755 of root, or has attributes or
/// the opaque mark. Sockets are left out, they mean nothing without their process; devices other
/// than whiteouts are refused.
pub fn pack(dir: &Path, epoch: i64, out: &mut dyn Write) -> Result<Packed, Error> {
    pack_with(dir, epoch, false, out)
}

/// As [`pack`], over layers that together have the looks of the directory `below` as their top:
/// `./` is written also where that one is unusual, so that each layer by itself says what the top
/// is from there on, even if it is usual again.
pub fn pack_over(
    dir: &Path,
    epoch: i64,
    below: &Path,
    out: &mut dyn Write,
) -> Result<Packed, Error> {
    let usual = is_usual(&directory_meta(open_top(below)?, below)?);
    pack_with(dir, epoch, !usual, out)
}

fn pack_with(dir: &Path, epoch: i64, top: bool, out: &mut dyn Write) -> Result<Packed, Error> {
    let mut walk =
        Walk { tar: Builder::new(out, epoch), linked: HashMap::new(), root: open_top(dir)? };
    walk.all(top)?;
    walk.tar.finish().map(|(_, packed)| packed)
}

fn open_top(dir: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty())
        .map_err(|e| system("open the directory", dir.as_os_str().as_bytes(), e))
}

/// Whether a top directory is as unpackers make it where a layer says nothing of it: 0755, root's.
pub fn is_usual(top: &Metadata) -> bool {
    (top.mode, top.uid, top.gid) == (0o755, 0, 0) && top.xattrs.is_empty()
}

/// Returns the metadata that [`pack`] would give the open directory `fd`; `path` is for messages.
/// Its time is left out: directories get the epoch.
pub fn directory_meta(fd: impl AsFd, path: &Path) -> Result<Metadata, Error> {
    let path = path.as_os_str().as_bytes();
    let stat = rustix::fs::fstat(&fd).map_err(|e| system("look at", path, e))?;
    Ok(Metadata { mtime: 0, ..meta(&stat, attributes(&fd, path)?.kept) })
}

struct Walk<W: Write> {
    tar: Builder<W>,
    /// First name of each file that has several.
    linked: HashMap<(u64, u64), Vec<u8>>,
    root: OwnedFd,
}

/// A directory on the way down.
struct Level {
    /// `None`: closed to save descriptors.
    fd: Option<OwnedFd>,
    path: Vec<u8>,
    /// Names still to come, last first.
    left: Vec<Name>,
}

struct Name {
    name: Vec<u8>,
    whiteout: bool,
}

impl<W: Write> Walk<W> {
    /// Writes everything; with `top` the top directory in any case.
    fn all(&mut self, top: bool) -> Result<(), Error> {
        let root =
            rustix::io::fcntl_dupfd_cloexec(&self.root, 3).map_err(|e| system("open", b".", e))?;
        let stat = rustix::fs::fstat(&root).map_err(|e| system("look at", b".", e))?;
        let found = attributes(&root, b"./")?;
        let meta = meta(&stat, found.kept);
        if top || !is_usual(&meta) || found.opaque {
            self.tar.dir(b"", &meta)?;
            if found.opaque {
                self.tar.opaque(b"")?;
            }
        }
        let mut stack = vec![Level { left: names(&root, b".")?, fd: Some(root), path: vec![] }];
        while let Some(level) = stack.last_mut() {
            let Some(Name { name, whiteout }) = level.left.pop() else {
                stack.pop();
                continue;
            };
            let path = name::join(&level.path, &name);
            if path.len() > MAX_PATH {
                return Err(wrong(&path, Wrong::TooLong));
            }
            let fd = match &mut level.fd {
                Some(fd) => fd,
                closed => closed.insert(self.reopen(&level.path)?),
            };
            if let Some(below) = self.one(fd, &name, &path, whiteout)? {
                let depth = stack.len();
                if depth >= OPEN {
                    stack[depth - OPEN].fd = None;
                }
                stack.push(Level { left: names(&below, &path)?, fd: Some(below), path });
            }
        }
        Ok(())
    }

    fn reopen(&self, path: &[u8]) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let held = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let name = if path.is_empty() { b"." } else { path };
        rustix::fs::openat2(&self.root, name, flags, Mode::empty(), held)
            .map_err(|e| system("open the directory", path, e))
    }

    /// Writes one entry; a directory is returned, opened.
    fn one(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        path: &[u8],
        whiteout: bool,
    ) -> Result<Option<OwnedFd>, Error> {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| system("look at", path, e))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if whiteout != (kind == FileType::CharacterDevice) {
            return Err(wrong(path, Wrong::Changed));
        }
        if name.starts_with(name::WHITEOUT) {
            return Err(wrong(path, Wrong::Whiteout));
        }
        match kind {
            FileType::CharacterDevice if stat.st_rdev == 0 => self.tar.whiteout(path)?,
            FileType::CharacterDevice | FileType::BlockDevice => {
                return Err(wrong(path, Wrong::Device));
            }
            FileType::Directory => {
                let fd = open(dir, name, path, OFlags::DIRECTORY)?;
                same(&stat, &fd, path)?;
                let found = attributes(&fd, path)?;
                self.tar.dir(path, &meta(&stat, found.kept))?;
                if found.opaque {
                    self.tar.opaque(path)?;
                }
                return Ok(Some(fd));
            }
            FileType::RegularFile => self.file(dir, name, path, &stat)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, vec![])
                    .map_err(|e| system("read the symlink", path, e))?;
                self.tar.symlink(path, &meta(&stat, Default::default()), target.to_bytes())?;
            }
            FileType::Fifo => self.tar.fifo(path, &meta(&stat, Default::default()))?,
            // Left behind by a daemon; only the process that made it could answer.
            FileType::Socket => {}
            _ => return Err(wrong(path, Wrong::Device)),
        }
        Ok(None)
    }

    fn file(&mut self, dir: &OwnedFd, name: &[u8], path: &[u8], stat: &Stat) -> Result<(), Error> {
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
                return self.tar.link(path, &meta(stat, Default::default()), &first.clone());
            }
            self.linked.insert((stat.st_dev, stat.st_ino), path.to_owned());
        }
        let fd = open(dir, name, path, OFlags::NONBLOCK | OFlags::NOCTTY)?;
        same(stat, &fd, path)?;
        let found = attributes(&fd, path)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut file = File::from(fd);
        if size > 0 {
            self.tar.file(path, &meta(stat, found.kept), size, &mut file)?;
        } else {
            self.tar.file(path, &meta(stat, found.kept), 0, &mut file as &mut dyn Read)?;
        }
        // Written to in place while it was read: half of the old and half of the new is neither.
        let after = rustix::fs::fstat(&file).map_err(|e| system("look at", path, e))?;
        if (after.st_size, after.st_mtime, after.st_mtime_nsec)
            != (stat.st_size, stat.st_mtime, stat.st_mtime_nsec)
        {
            return Err(wrong(path, Wrong::Changed));
        }
        Ok(())
    }
}

/// Returns the names in a directory in reverse order of the entries that they will become.
fn names(dir: &OwnedFd, path: &[u8]) -> Result<Vec<Name>, Error> {
    let mut names = vec![];
    for entry in rustix::fs::Dir::read_from(dir).map_err(|e| system("list", path, e))? {
        let entry = entry.map_err(|e| system("list", path, e))?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            // Some file systems do not say.
            FileType::Unknown => {
                let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
                FileType::from_raw_mode(
                    stat.map_err(|e| system("look at", &name::join(path, name), e))?.st_mode,
                )
            }
            kind => kind,
        };
        names.push(Name { name: name.to_owned(), whiteout: kind == FileType::CharacterDevice });
    }
    // A whiteout stands where its entry's name `.wh.x` belongs, so that the names in the tar are
    // sorted.
    let key = |n: &Name| -> (Vec<u8>, bool) {
        let shown = if n.whiteout { [name::WHITEOUT, &n.name].concat() } else { n.name.clone() };
        (shown, n.whiteout)
    };
    names.sort_by_cached_key(|n| std::cmp::Reverse(key(n)));
    Ok(names)
}

fn open(dir: &OwnedFd, name: &[u8], path: &[u8], flags: OFlags) -> Result<OwnedFd, Error> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(|e| system("open", path, e))
}

/// Makes sure that what was opened is what was looked at.
fn same(stat: &Stat, fd: &OwnedFd, path: &[u8]) -> Result<(), Error> {
    let opened = rustix::fs::fstat(fd).map_err(|e| system("look at", path, e))?;
    let identity = |s: &Stat| (s.st_dev, s.st_ino, s.st_mode, s.st_uid, s.st_gid, s.st_size);
    if identity(&opened) == identity(stat) { Ok(()) } else { Err(wrong(path, Wrong::Changed)) }
}

fn meta(stat: &Stat, xattrs: std::collections::BTreeMap<Vec<u8>, Vec<u8>>) -> Metadata {
    Metadata {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime,
        xattrs,
    }
}

fn attributes(fd: impl AsFd, path: &[u8]) -> Result<attribute::Found, Error> {
    attribute::read(fd).map_err(|e| match e {
        attribute::Failure::System(e) => system("read the attributes of", path, e),
        attribute::Failure::Wrong(why) => wrong(path, why),
    })
}

fn wrong(path: &[u8], why: Wrong) -> Error {
    Error::Pack { path: show(path), why }
}

fn system(what: &'static str, path: &[u8], e: Errno) -> Error {
    Error::System { what, path: Path::new(OsStr::from_bytes(path)).to_owned(), source: e.into() }
}
