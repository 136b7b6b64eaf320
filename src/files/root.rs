//! Paths held inside a directory by the kernel (`openat2`, Linux 5.6): no text is checked, so no
//! symlink can be swapped in between.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::dir::{dir_names, openat2};
use super::error::{Error, system};
use super::remove::remove_at;

/// What symlinks on the way mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// The directory is `/`: absolute symlinks and `..` stay inside, as for a process that lives in
    /// that root.
    InRoot,
    /// Symlinks may not leave the directory: an absolute one, or one with too many `..`, is
    /// [`Error::Outside`].
    Beneath,
    /// No symlink is followed, on the way or at the end: a path is exactly the names it is written
    /// with.
    Never,
}

/// A directory that no path given to it can leave. Every `path` below is relative to it; a leading
/// `/` means the directory itself with [`Links::InRoot`] and is an error with [`Links::Beneath`].
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
    path: PathBuf,
    links: Links,
}

impl RootDir {
    /// Opens the directory `path` (symlinks in `path` itself are the caller's business and
    /// followed).
    pub fn open(path: &Path, links: Links) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|e| system("open the directory", path, e))?;
        Ok(Self { fd, path: path.to_owned(), links })
    }

    /// Holds paths inside the open directory `fd`; `path` is for messages.
    pub fn from_fd(fd: OwnedFd, path: &Path, links: Links) -> Self {
        Self { fd, path: path.to_owned(), links }
    }

    /// The directory's own path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens `path` with `flags`; the general form of the others.
    pub fn open_at(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Error> {
        let held = match self.links {
            Links::InRoot => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            Links::Beneath => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
            Links::Never => {
                ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS
            }
        };
        let name = if path == Path::new("") { OsStr::new(".") } else { path.as_os_str() };
        openat2(self.fd.as_fd(), name, flags, mode, held).map_err(|e| self.explain(path, e))
    }

    /// Opens the directory `path`.
    pub fn open_dir(&self, path: &Path) -> Result<OwnedFd, Error> {
        self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// Opens the regular file `path` to read.
    pub fn open_file(&self, path: &Path) -> Result<File, Error> {
        // NONBLOCK: opening a fifo that lies there must not wait for a writer.
        let fd =
            self.open_at(path, OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK, Mode::empty())?;
        let file = File::from(fd);
        let meta = file.metadata().map_err(|e| self.failed("look at", path, e))?;
        if meta.is_file() {
            return Ok(file);
        }
        Err(Error::Kind {
            path: self.path.join(path),
            found: kind_name(&meta),
            wanted: "a regular file",
        })
    }

    /// Reads the regular file `path` of at most `limit` bytes.
    pub fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
        let file = self.open_file(path)?;
        let mut bytes = vec![];
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|e| self.failed("read", path, e))?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLong { path: self.path.join(path), limit });
        }
        Ok(bytes)
    }

    /// Looks at what `path` leads to, through a symlink at its end too.
    pub fn stat(&self, path: &Path) -> Result<Metadata, Error> {
        self.look(path, OFlags::PATH)
    }

    /// Looks at `path` itself: a symlink at its end is the answer.
    pub fn lstat(&self, path: &Path) -> Result<Metadata, Error> {
        self.look(path, OFlags::PATH | OFlags::NOFOLLOW)
    }

    /// As [`RootDir::lstat`]; `None` where nothing is.
    pub fn find(&self, path: &Path) -> Result<Option<Metadata>, Error> {
        match self.lstat(path) {
            Ok(meta) => Ok(Some(meta)),
            Err(e) if e.is_missing() || e.kind() == std::io::ErrorKind::NotADirectory => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn look(&self, path: &Path, flags: OFlags) -> Result<Metadata, Error> {
        let file = File::from(self.open_at(path, flags, Mode::empty())?);
        file.metadata().map_err(|e| self.failed("look at", path, e))
    }

    /// Returns where the symlink `path` points, as written.
    pub fn read_link(&self, path: &Path) -> Result<PathBuf, Error> {
        let fd = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        let target = rustix::fs::readlinkat(&fd, "", vec![])
            .map_err(|e| self.failed("read the symlink", path, e))?;
        Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
    }

    /// Returns the names in the directory `path`, sorted by their bytes.
    pub fn list(&self, path: &Path) -> Result<Vec<OsString>, Error> {
        dir_names(self.open_dir(path)?).map_err(|e| self.failed("list", path, e))
    }

    /// Opens the directory that holds `path`, following symlinks on the way (not at the end), and
    /// returns the last name: what an `*at` call with `NOFOLLOW` needs.
    pub fn parent<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr), Error> {
        let name = self
            .plain(path)?
            .last()
            .copied()
            .ok_or_else(|| Error::Path { path: path.to_owned() })?;
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok((self.open_dir(parent)?, name))
    }

    /// The names of `path`; one with `..` could mean two places once symlinks are followed, so it
    /// is refused.
    fn plain<'a>(&self, path: &'a Path) -> Result<Vec<&'a OsStr>, Error> {
        let mut names = vec![];
        for part in path.components() {
            match part {
                Component::Normal(name) => names.push(name),
                Component::CurDir => {}
                Component::RootDir if self.links == Links::InRoot => {}
                _ => return Err(Error::Path { path: path.to_owned() }),
            }
        }
        Ok(names)
    }

    /// Makes the directory `path` and those above it where missing, with exactly `mode` and the
    /// caller's ids; returns the paths that were made, outermost first.
    pub fn mkdir_p(&self, path: &Path, mode: u32) -> Result<Vec<PathBuf>, Error> {
        let mut made = vec![];
        let mut here = PathBuf::new();
        // Almost always most of it is there: one call shows that.
        if self.open_at(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).is_ok() {
            return Ok(made);
        }
        for name in self.plain(path)? {
            let above = here.clone();
            here.push(name);
            match self.open_at(&here, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
                Ok(_) => continue,
                Err(e) if e.is_missing() => {}
                Err(e) => return Err(e),
            }
            let parent = self.open_dir(&above)?;
            // EEXIST here is a symlink that leads nowhere: where the directory would have to be
            // made is not ours to guess.
            rustix::fs::mkdirat(&parent, name, Mode::RWXU)
                .map_err(|e| self.failed("make the directory", &here, e))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let dir = rustix::fs::openat(&parent, name, flags, Mode::empty())
                .map_err(|e| self.failed("open", &here, e))?;
            rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode))
                .map_err(|e| self.failed("set the mode of", &here, e))?;
            made.push(here.clone());
        }
        Ok(made)
    }

    /// Makes the new file `path` with exactly `mode`; whatever is there already, a symlink
    /// included, is an error.
    pub fn create(&self, path: &Path, mode: u32) -> Result<File, Error> {
        let (parent, name) = self.parent(path)?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&parent, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|e| self.failed("create", path, e))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))
            .map_err(|e| self.failed("set the mode of", path, e))?;
        Ok(File::from(fd))
    }

    /// Makes the symlink `path` that points to `target`, which is not looked at.
    pub fn symlink(&self, target: &Path, path: &Path) -> Result<(), Error> {
        let (parent, name) = self.parent(path)?;
        rustix::fs::symlinkat(target, &parent, name)
            .map_err(|e| self.failed("make the symlink", path, e))
    }

    /// Gives `path` itself (a symlink is not followed) an owner.
    pub fn chown(&self, path: &Path, uid: u32, gid: u32) -> Result<(), Error> {
        let fd = self.open_at(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::chownat(&fd, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
            .map_err(|e| self.failed("change the owner of", path, e))
    }

    /// Renames `from` to `to`, replacing a file there.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        let (old, old_name) = self.parent(from)?;
        let (new, new_name) = self.parent(to)?;
        rustix::fs::renameat(&old, old_name, &new, new_name)
            .map_err(|e| self.failed("rename to", to, e))
    }

    /// Removes `path` and everything below it, symlinks themselves and not what they lead to; what
    /// is not there is fine.
    pub fn remove(&self, path: &Path) -> Result<(), Error> {
        match self.parent(path) {
            Ok((parent, name)) => remove_at(parent.as_fd(), name, &self.path.join(path)),
            Err(e) if e.is_missing() => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn failed(&self, what: &'static str, path: &Path, source: impl Into<std::io::Error>) -> Error {
        // `join` with an absolute path would throw the root away.
        let shown = path.strip_prefix("/").unwrap_or(path);
        system(what, &self.path.join(shown), source)
    }

    /// Turns "cross-device link", which is all the kernel says, into the name of the symlink
    /// that leads out.
    fn explain(&self, path: &Path, error: Errno) -> Error {
        if error != Errno::XDEV || self.links != Links::Beneath {
            return self.failed("open", path, error);
        }
        let mut here = PathBuf::new();
        for part in path.components() {
            here.push(part);
            let is_link = openat2(
                self.fd.as_fd(),
                &here,
                OFlags::PATH | OFlags::NOFOLLOW,
                Mode::empty(),
                ResolveFlags::BENEATH,
            )
            .and_then(|fd| rustix::fs::fstat(&fd))
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink());
            let followed =
                openat2(self.fd.as_fd(), &here, OFlags::PATH, Mode::empty(), ResolveFlags::BENEATH);
            if is_link && followed.is_err_and(|e| e == Errno::XDEV) {
                return Error::Outside {
                    path: path.to_owned(),
                    link: here,
                    root: self.path.clone(),
                };
            }
        }
        Error::Path { path: path.to_owned() }
    }
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Names the kind of a file for people.
pub(super) fn kind_name(meta: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = meta.file_type();
    if kind.is_dir() {
        "a directory"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_fifo() {
        "a fifo"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_file() {
        "a regular file"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::fs::symlink;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("root/d/e")).expect("mkdir");
        fs::write(dir.path().join("root/d/f"), "inside").expect("write");
        fs::write(dir.path().join("f"), "outside").expect("write");
        for (target, link) in
            [("/d", "abs"), ("../..", "d/up"), ("d", "rel"), ("f", "d/same"), ("/nowhere", "gone")]
        {
            symlink(target, dir.path().join("root").join(link)).expect("symlink");
        }
        dir
    }

    #[test]
    fn a_root_cannot_be_left() {
        let dir = tree();
        let root = RootDir::open(&dir.path().join("root"), Links::InRoot).expect("open");
        for path in ["d/f", "/d/f", "abs/f", "rel/f", "d/up/d/f", "../../d/f", "rel/same"] {
            assert_eq!(root.read(Path::new(path), 100).expect(path), b"inside", "{path}");
        }
        assert!(root.read(Path::new("f"), 100).expect_err("not inside").is_missing());
        assert_eq!(root.read_link(Path::new("abs")).expect("a symlink"), Path::new("/d"));
        assert_eq!(root.list(Path::new("abs")).expect("a directory"), ["e", "f", "same", "up"]);
        assert_eq!(root.list(Path::new("")).expect("the root").len(), 4);
    }

    #[test]
    fn a_link_out_of_the_directories_is_named() {
        let dir = tree();
        let root = RootDir::open(&dir.path().join("root"), Links::Beneath).expect("open");
        assert_eq!(root.read(Path::new("rel/same"), 100).expect("inside"), b"inside");
        let message = |path: &str| root.open_file(Path::new(path)).expect_err(path).to_string();
        assert!(
            message("abs/f").contains("the symbolic link abs leads out of"),
            "{}",
            message("abs/f")
        );
        assert!(
            message("rel/up/f").contains("the symbolic link rel/up leads out of"),
            "{}",
            message("rel/up/f")
        );
        assert!(message("../f").contains("not a path inside"), "{}", message("../f"));
        assert!(message("/d/f").contains("not a path inside"), "{}", message("/d/f"));
        assert!(message("d").contains("it is a directory"), "{}", message("d"));
    }

    #[test]
    fn writes_stay_inside_and_follow_nothing_at_the_end() {
        let dir = tree();
        let root = RootDir::open(&dir.path().join("root"), Links::InRoot).expect("open");
        let made = root.mkdir_p(Path::new("/abs/x/y"), 0o750).expect("mkdir");
        assert_eq!(made, [Path::new("abs/x"), Path::new("abs/x/y")]);
        assert_eq!(root.lstat(Path::new("d/x/y")).expect("stat").mode() & 0o7777, 0o750);
        root.create(Path::new("d/x/new"), 0o4755).expect("create");
        assert_eq!(root.lstat(Path::new("d/x/new")).expect("stat").mode() & 0o7777, 0o4755);
        root.create(Path::new("gone"), 0o644).expect_err("a symlink is there");
        root.mkdir_p(Path::new("gone/x"), 0o755).expect_err("a symlink to nowhere");
        root.create(Path::new("d/../z"), 0o644).expect_err("two dots");
        root.remove(Path::new("abs")).expect("remove the symlink");
        assert!(root.find(Path::new("abs")).expect("find").is_none());
        root.remove(Path::new("rel/x")).expect("remove a tree through a symlink");
        root.remove(Path::new("no/such/thing")).expect("nothing there is fine");
        assert!(root.find(Path::new("d/x")).expect("find").is_none());
        assert!(root.find(Path::new("d/f")).expect("find").is_some());
        assert!(
            root.read(Path::new("d/f"), 3)
                .expect_err("too long")
                .to_string()
                .contains("more than 3 bytes")
        );
    }

    #[test]
    fn a_fifo_is_not_waited_for() {
        let dir = tree();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("root/p"),
            rustix::fs::FileType::Fifo,
            Mode::RWXU,
            0,
        )
        .expect("fifo");
        let root = RootDir::open(&dir.path().join("root"), Links::Beneath).expect("open");
        assert!(
            root.open_file(Path::new("p"))
                .expect_err("a fifo")
                .to_string()
                .contains("it is a fifo")
        );
    }
}
