//! Files and directories that are made aside and then are there whole, or never were.
//!
//! ```text
//! being written   no name at all (O_TMPFILE, open(2)); where a file system has no such files, as below
//! being kept      DIR/.bake-aside-<16 characters>, locked (flock, shared) ─ sync ─ rename to its name ─ sync DIR
//! ```
//! A name aside is made at random and never one that exists, so that it is nobody else's file. What
//! a process leaves that is killed between the naming and the rename has lost its lock: whoever
//! writes in that directory next removes it, and nothing that is still locked.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::hash::BuildHasher;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::dir::{dir_names, parent, sync_dir};
use super::error::{Error, system};
use super::remove::remove_tree;
use super::rename::{Replace, rename};

const PREFIX: &str = ".bake-aside-";
/// Hexadecimal digits behind the prefix.
const DIGITS: usize = 16;

/// Whether `name` is one that this module makes. Who finds it does not know by the name alone
/// whether its writer lives: see [`is_abandoned`].
pub fn is_aside(name: &OsStr) -> bool {
    name.as_encoded_bytes().strip_prefix(PREFIX.as_bytes()).is_some_and(|rest| {
        rest.len() == DIGITS && rest.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Writes the file `path` with exactly the permission bits `mode`: after this it is there whole,
/// and stays over a power loss; before and in between the old one is, or none.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let mut aside = Aside::new(parent(path))?;
    aside.write_all(bytes).map_err(|e| system("write", path, e))?;
    aside.keep(path, mode)
}

/// As [`write_whole`], but a power loss may take it back: for what can be made again.
pub fn write_soon(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let mut aside = Aside::new(parent(path))?;
    aside.write_all(bytes).map_err(|e| system("write", path, e))?;
    aside.keep_unsynced(path, mode)
}

/// Gives the file `from` one more name `to`, in one step; a file that has the name loses it.
/// Nothing is synced.
pub fn link(from: &Path, to: &Path) -> Result<(), Error> {
    let dir = parent(to);
    sweep_once(dir);
    let failed = |e: Errno| system("link to", to, e);
    let link = |to: &Path| rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty());
    match link(to) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST) => {}
        Err(e) => return Err(failed(e)),
    }
    let file = File::open(from).map_err(|e| system("open", from, e))?;
    lock(&file);
    // Where both are names of one file already the rename does nothing, and the name aside goes by
    // being dropped.
    let name = Name::make(dir, |name| link(name)).map_err(failed)?;
    rename(&name.0, to, Replace::Yes)
}

/// A file being written; dropped = gone.
#[derive(Debug)]
pub struct Aside {
    file: File,
    /// The name aside, where it has one.
    name: Option<Name>,
    dir: PathBuf,
}

impl Aside {
    /// Begins a file on the file system of the directory `dir`; nobody else can read it until it is
    /// kept.
    pub fn new(dir: &Path) -> Result<Self, Error> {
        sweep_once(dir);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => Ok(Self { file: File::from(fd), name: None, dir: dir.to_owned() }),
            // The file system knows no files without names; or the reason holds for any file, and
            // is the same again.
            Err(_) => Self::named(dir),
        }
    }

    fn named(dir: &Path) -> Result<Self, Error> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let mut file = None;
            let name = Name::make(dir, |name| {
                file = Some(rustix::fs::open(name, flags, Mode::RUSR | Mode::WUSR)?);
                Ok(())
            })
            .map_err(|e| system("make a file in", dir, e))?;
            let file = File::from(file.expect("made with its name"));
            lock(&file);
            // Before it was locked somebody may have taken it for a dead one.
            if name.is_of(&file) {
                return Ok(Self { file, name: Some(name), dir: dir.to_owned() });
            }
        }
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives it up for a file without a name, read from its start and gone when closed.
    pub fn into_file(self) -> Result<File, Error> {
        let mut file = self.file;
        file.rewind().map_err(|e| system("read a file in", &self.dir, e))?;
        Ok(file)
    }

    /// Syncs it under a name aside, with its permission bits, for somebody else to give it its own:
    /// it must be renamed before this is dropped.
    pub fn ready(&mut self, mode: u32) -> Result<&Path, Error> {
        let dir = self.dir.clone();
        self.prepare(&dir, mode, true).map(|name| name.0.as_path())
    }

    /// Syncs it and gives it its name `path` (on the same file system) and permission bits,
    /// replacing what is there, durably.
    pub fn keep(self, path: &Path, mode: u32) -> Result<(), Error> {
        self.finish(path, mode, true, Replace::Yes)
    }

    /// As [`Aside::keep`], but what is at `path` stays.
    ///
    /// # Errors
    /// Where something is at `path`, the error's kind is `AlreadyExists`.
    pub fn keep_new(self, path: &Path, mode: u32) -> Result<(), Error> {
        self.finish(path, mode, true, Replace::No)
    }

    /// Gives it its name `path` as [`Aside::keep`] does, but without waiting for the disk: for what
    /// can be made again and is checked when it is read. After a power loss the name may stand for
    /// anything.
    pub fn keep_unsynced(self, path: &Path, mode: u32) -> Result<(), Error> {
        self.finish(path, mode, false, Replace::Yes)
    }

    fn finish(
        mut self,
        path: &Path,
        mode: u32,
        durable: bool,
        replace: Replace,
    ) -> Result<(), Error> {
        rename(&self.prepare(path, mode, durable)?.0, path, replace)?;
        if durable { sync_dir(parent(path)) } else { Ok(()) }
    }

    /// Gives it a name aside, its permission bits, and where asked its place on the disk.
    pub(super) fn prepare(
        &mut self,
        path: &Path,
        mode: u32,
        durable: bool,
    ) -> Result<&Name, Error> {
        self.ensure_name().map_err(|e| system("write", path, e))?;
        // Not by open(2), where the umask would have a say.
        self.file
            .set_permissions(Permissions::from_mode(mode))
            .map_err(|e| system("set the mode of", path, e))?;
        if durable {
            self.file.sync_all().map_err(|e| system("sync", path, e))?;
        }
        Ok(self.name.as_ref().expect("it was just given one"))
    }

    fn ensure_name(&mut self) -> io::Result<()> {
        if self.name.is_some() {
            return Ok(());
        }
        lock(&self.file);
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let linked = Name::make(&self.dir, |name| {
            rustix::fs::linkat(CWD, &own, CWD, name, AtFlags::SYMLINK_FOLLOW)
        });
        match linked {
            Ok(name) => self.name = Some(name),
            Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => return Err(e.into()),
            // No /proc, or a file system that knows unnamed files only half.
            Err(_) => {
                let mut named = Self::named(&self.dir)?;
                self.file.rewind()?;
                io::copy(&mut self.file, &mut named.file)?;
                *self = named;
            }
        }
        Ok(())
    }
}

impl Write for Aside {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A directory being filled, for nobody else's eyes (mode 0700); dropped = gone with all that is
/// still in it.
#[derive(Debug)]
pub struct AsideDir {
    /// Held until all of it is gone.
    _locked: File,
    path: PathBuf,
}

impl AsideDir {
    /// Begins a directory in `dir`.
    pub fn new(dir: &Path) -> Result<Self, Error> {
        sweep_once(dir);
        let failed = |e: Errno| system("make a directory in", dir, e);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let name =
                Name::make(dir, |name| rustix::fs::mkdir(name, Mode::RWXU)).map_err(failed)?;
            let locked = match rustix::fs::open(&name.0, flags, Mode::empty()) {
                Ok(fd) => File::from(fd),
                Err(Errno::NOENT) => continue,
                Err(e) => {
                    let _ = fs::remove_dir(&name.0);
                    return Err(failed(e));
                }
            };
            lock(&locked);
            if name.is_of(&locked) {
                return Ok(Self { _locked: locked, path: name.0.clone() });
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AsideDir {
    fn drop(&mut self) {
        // What cannot be removed now has no lock any more, and is swept by the next writer.
        let _ = remove_tree(&self.path);
    }
}

/// A name aside of a file; dropped = removed, unless the file was renamed.
#[derive(Debug)]
pub(super) struct Name(pub(super) PathBuf);

impl Name {
    /// Finds a name in `dir` that nothing has, by trying to `make` it.
    pub(super) fn make(
        dir: &Path,
        mut make: impl FnMut(&Path) -> Result<(), Errno>,
    ) -> Result<Self, Errno> {
        loop {
            // The keys are the system's random numbers, and others in each new state.
            let name = format!("{PREFIX}{:016x}", RandomState::new().hash_one(0));
            let path = dir.join(name);
            match make(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(Errno::EXIST | Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Whether this is a name of the open file `file`.
    fn is_of(&self, file: impl AsFd) -> bool {
        is_named(&self.0, file)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn is_named(path: &Path, file: impl AsFd) -> bool {
    match (rustix::fs::lstat(path), rustix::fs::fstat(file)) {
        (Ok(named), Ok(open)) => (named.st_dev, named.st_ino) == (open.st_dev, open.st_ino),
        _ => false,
    }
}

/// Marks a file as one whose writer lives. Where the file system has no locks nobody can take it
/// for dead either.
pub(super) fn lock(file: &File) {
    while rustix::fs::flock(file, FlockOperation::LockShared) == Err(Errno::INTR) {}
}

/// Removes from `dir` what dead writers left there aside; what cannot be removed stays.
pub fn sweep(dir: &Path) {
    let Ok(open) = File::open(dir) else { return };
    for name in dir_names(&open).unwrap_or_default() {
        if is_aside(&name)
            && let path = dir.join(&name)
            && let Some(_held) = abandoned(&path)
        {
            let _ = remove_tree(&path);
        }
    }
}

/// Whether `path`, a name aside, is of a writer that is dead.
pub fn is_abandoned(path: &Path) -> bool {
    abandoned(path).is_some()
}

/// Locks what a dead writer left at `path`; `None` where its writer lives, or another user made it.
fn abandoned(path: &Path) -> Option<File> {
    let stat = rustix::fs::lstat(path).ok()?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !matches!(kind, FileType::RegularFile | FileType::Directory)
        || stat.st_uid != rustix::process::geteuid().as_raw()
    {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    is_named(path, &file).then_some(file)
}

/// Sweeps a directory unless this process has done so: what dies beside it is the next one's.
fn sweep_once(dir: &Path) {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let new = SWEPT.lock().unwrap_or_else(PoisonError::into_inner).insert(dir.to_owned());
    if new {
        sweep(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .expect("list")
            .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_written_file_is_whole_and_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f");
        write_whole(&path, b"one", 0o644).expect("write");
        write_whole(&path, b"two", 0o4751).expect("write over");
        assert_eq!(fs::read(&path).expect("read"), b"two");
        assert_eq!(fs::metadata(&path).expect("stat").permissions().mode() & 0o7777, 0o4751);
        let mut aside = Aside::named(dir.path()).expect("a file system without unnamed files");
        aside.write_all(b"three").expect("write");
        assert_eq!(names(dir.path()).len(), 2);
        let error = aside.keep_new(&path, 0o644).expect_err("it is there");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("read"), b"two");
        assert_eq!(names(dir.path()), ["f"]);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("f")).expect("mkdir");
        let error = write_whole(&dir.path().join("f"), b"x", 0o644).expect_err("a directory");
        assert!(error.to_string().starts_with("cannot rename to "), "{error}");
        drop(Aside::new(dir.path()).expect("begin"));
        drop(AsideDir::new(dir.path()).expect("begin"));
        assert_eq!(names(dir.path()), ["f"]);
        let error = write_whole(&dir.path().join("no/f"), b"x", 0o644).expect_err("no directory");
        assert!(error.is_missing());
    }

    #[test]
    fn one_more_name_replaces_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        fs::write(&one, "new").expect("write");
        fs::write(&two, "old").expect("write");
        for _ in 0..2 {
            link(&one, &two).expect("link");
            assert_eq!(fs::read(&two).expect("read"), b"new");
            assert_eq!(names(dir.path()), ["one", "two"]);
        }
    }

    /// C6
    #[test]
    fn what_dead_writers_left_is_swept_and_what_living_ones_write_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let living = Aside::named(dir.path()).expect("begin");
        let filled = AsideDir::new(dir.path()).expect("begin");
        fs::write(filled.path().join("half"), "half").expect("write");
        // Names of other people, one of them as close as it gets.
        for name in [".bake-aside-mine", ".bake-aside-0123456789ABCDEF", "f.partial"] {
            fs::write(dir.path().join(name), "mine").expect("write");
        }
        let before = names(dir.path());
        fs::write(dir.path().join(".bake-aside-0123456789abcdef"), "half").expect("write");
        fs::create_dir_all(dir.path().join(".bake-aside-00000000000000d1/root")).expect("mkdir");
        sweep(dir.path());
        assert_eq!(names(dir.path()), before);
        drop((living, filled));
        assert_eq!(names(dir.path()).len(), 3);
    }
}
