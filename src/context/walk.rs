//! Everything below one directory of the context, looked at once: each directory is opened and
//! listed once, each name looked at in its open directory, on all cores. No symlink is followed.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::gitignore::Gitignore;
use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::error::Error;
use super::ignore::{excluded, is_git};
use super::list::{Listing, What};
use super::tree::{Tree, special};
use crate::files::{self, FileStamp};
use crate::threads;

/// Names of one directory that one thread looks at in one go.
const SHARE: usize = 512;

/// How modes come about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Modes(pub(super) Option<u32>);

impl Modes {
    pub(super) fn directory(self) -> u32 {
        // x where r is; set-id bits are for programs.
        self.0.map_or(0o755, |mode| (mode & 0o777) | ((mode & 0o444) >> 2))
    }

    pub(super) fn file(self, stat: &Stat) -> u32 {
        self.0.unwrap_or(if stat.st_mode & 0o100 != 0 { 0o755 } else { 0o644 })
    }
}

/// What stands behind one name.
enum Seen {
    Directory,
    Link(Vec<u8>),
    File(FileStamp, u32),
}

/// A directory that was looked at: what it holds, sorted by name. Half a million names that each
/// have an allocation of their own would be most of what a build needs, so they stand in one
/// text.
#[derive(Default)]
struct Looked {
    /// Path below the top.
    below: PathBuf,
    names: Vec<u8>,
    /// Each with the length of its name.
    seen: Vec<(usize, Seen)>,
    /// Index of its first subdirectory among the directories of the next level.
    next: usize,
}

impl Looked {
    fn directories(&self) -> impl Iterator<Item = PathBuf> {
        let mut start = 0;
        self.seen.iter().filter_map(move |(length, seen)| {
            let name = &self.names[start..start + length];
            start += length;
            matches!(seen, Seen::Directory).then(|| self.below.join(OsStr::from_bytes(name)))
        })
    }
}

/// Adds the directory `top` of the context, and all that is in it, as the place "".
pub(super) fn walk(
    context: &Tree,
    top: &Path,
    exclude: &Gitignore,
    modes: Modes,
    listing: &mut Listing,
) -> Result<(), Error> {
    let open = context.dir.open_dir(top).map_err(|e| context.explain(top, e))?;
    let walk = Walk { context, top, open, exclude, modes };
    let mut levels: Vec<Vec<Looked>> = vec![];
    let mut directories = vec![PathBuf::new()];
    while !directories.is_empty() {
        let looked: Vec<Result<Looked, Error>> = threads::in_pool(|| {
            directories.into_par_iter().map(|below| walk.look(below)).collect()
        });
        // Of several errors always the same one is reported.
        let mut looked = looked.into_iter().collect::<Result<Vec<_>, _>>()?;
        directories = vec![];
        for one in &mut looked {
            one.next = directories.len();
            directories.extend(one.directories());
        }
        levels.push(looked);
    }
    let itself = listing.add_directory(top.to_owned(), PathBuf::new())?;
    listing.add(itself, super::list::Text::default(), modes.directory(), What::Directory);
    listing.rows.reserve_exact(levels.iter().flatten().map(|looked| looked.seen.len()).sum());
    // In order: a directory, then all that is in it, before the next name beside it. Each is let go
    // as soon as it is listed.
    let mut stack = vec![Open::new(std::mem::take(&mut levels[0][0]), 0, itself)];
    while let Some(open) = stack.last_mut() {
        let Some((length, seen)) = open.seen.next() else {
            stack.pop();
            continue;
        };
        let text = listing.add_text(&open.names[open.at..open.at + length])?;
        open.at += length;
        match seen {
            Seen::File(mark, mode) => {
                listing.add(open.index, text, mode, What::File { mark, content: 0 })
            }
            Seen::Link(target) => {
                let target = listing.add_text(&target)?;
                listing.add(open.index, text, 0o777, What::Link(target));
            }
            Seen::Directory => {
                listing.add(open.index, text, modes.directory(), What::Directory);
                let level = open.level + 1;
                let looked = std::mem::take(&mut levels[level][open.next]);
                open.next += 1;
                let index = listing.add_directory(top.join(&looked.below), looked.below.clone())?;
                stack.push(Open::new(looked, level, index));
            }
        }
    }
    Ok(())
}

/// A directory on the way down: what is left of it.
struct Open {
    seen: std::vec::IntoIter<(usize, Seen)>,
    names: Vec<u8>,
    /// Where the next name begins.
    at: usize,
    level: usize,
    /// Its index in the listing.
    index: u32,
    /// Index of its next subdirectory among the directories of the next level.
    next: usize,
}

impl Open {
    fn new(looked: Looked, level: usize, index: u32) -> Self {
        Self {
            seen: looked.seen.into_iter(),
            names: looked.names,
            at: 0,
            level,
            index,
            next: looked.next,
        }
    }
}

struct Walk<'a> {
    context: &'a Tree,
    top: &'a Path,
    open: OwnedFd,
    exclude: &'a Gitignore,
    modes: Modes,
}

impl Walk<'_> {
    fn look(&self, below: PathBuf) -> Result<Looked, Error> {
        let path =
            if below.as_os_str().is_empty() { self.top.to_owned() } else { self.top.join(&below) };
        let fd = self.directory(&below, &path)?;
        let mut names = vec![];
        for entry in rustix::fs::Dir::read_from(&fd).map_err(|e| self.failed("list", &path, e))? {
            let entry = entry.map_err(|e| self.failed("list", &path, e))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push((name.to_owned(), entry.file_type()));
            }
        }
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let plain = self.exclude.is_empty() && self.context.is_plain(&path);
        let one = |(name, kind)| self.one(&fd, &path, name, kind, plain);
        let seen: Vec<_> = if names.len() <= SHARE {
            names.into_iter().map(one).collect()
        } else {
            names.into_par_iter().with_min_len(SHARE).map(one).collect()
        };
        let mut looked =
            Looked { below, seen: Vec::with_capacity(seen.len()), ..Looked::default() };
        for one in seen {
            if let Some((name, seen)) = one? {
                looked.names.extend(&name);
                looked.seen.push((name.len(), seen));
            }
        }
        Ok(looked)
    }

    /// Opens a directory by a path without links: one put there in the meantime is not followed.
    fn directory(&self, below: &Path, path: &Path) -> Result<OwnedFd, Error> {
        if below.as_os_str().is_empty() {
            return rustix::io::fcntl_dupfd_cloexec(&self.open, 3)
                .map_err(|e| self.failed("open", path, e));
        }
        let held = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match files::openat2(
            self.open.as_fd(),
            below,
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
            held,
        ) {
            Ok(fd) => Ok(fd),
            // Whatever goes between listing and looking was being changed; taking half of it would
            // be a guess.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                Err(Error::Changed { path: path.to_owned() })
            }
            Err(e) => Err(self.failed("open", path, e)),
        }
    }

    /// Looks at one name; `None` where it is left out.
    fn one(
        &self,
        dir: &OwnedFd,
        directory: &Path,
        name: Vec<u8>,
        kind: FileType,
        plain: bool,
    ) -> Result<Option<(Vec<u8>, Seen)>, Error> {
        let path = || directory.join(OsStr::from_bytes(&name));
        let mut stat = None;
        let mut kind = kind;
        // A directory needs no more looking at; some file systems do not say what is one.
        if kind != FileType::Directory {
            let found = rustix::fs::statat(dir, &*name, AtFlags::SYMLINK_NOFOLLOW).map_err(
                |e| match e {
                    Errno::NOENT => Error::Changed { path: path() },
                    e => self.failed("look at", &path(), e),
                },
            )?;
            kind = FileType::from_raw_mode(found.st_mode);
            stat = Some(found);
        }
        if !plain || is_git(&name) {
            let (path, is_dir) = (path(), kind == FileType::Directory);
            if excluded(self.exclude, &path, is_dir).is_some()
                || self.context.leaves_out(&path, is_dir).is_some()
            {
                return Ok(None);
            }
        }
        let seen = match (kind, stat) {
            (FileType::RegularFile, Some(stat)) => {
                Seen::File(FileStamp::of(&stat), self.modes.file(&stat))
            }
            (FileType::Symlink, _) => match rustix::fs::readlinkat(dir, &*name, vec![]) {
                Ok(target) => Seen::Link(target.into_bytes()),
                Err(Errno::NOENT | Errno::INVAL) => return Err(Error::Changed { path: path() }),
                Err(e) => return Err(self.failed("read the symlink", &path(), e)),
            },
            (FileType::Directory, _) => Seen::Directory,
            _ => return Err(Error::Special { path: path(), kind: special(kind) }),
        };
        Ok(Some((name, seen)))
    }

    fn failed(&self, what: &'static str, path: &Path, e: Errno) -> Error {
        self.context.explain(path, files::system(what, &self.context.dir.path().join(path), e))
    }
}
