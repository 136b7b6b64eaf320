//! Disk effects that are whole or absent: atomic writes, locks, folder syncs, paths held inside a
//! root.
//!
//! Nothing here knows what the files mean. What a reader of a folder can see after a crash, at any
//! moment: the old file or the new one under its name, and perhaps a stray [`ASIDE`]`…` file beside
//! it that nobody names (the owner of the folder sweeps it).

use std::ffi::OsStr;
use std::fs::{File, FileTimes, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

mod lock;
mod mark;
mod remove;
mod rewrite;
mod root;

pub use lock::Lock;
pub(crate) use mark::{Mark, Moment};
pub use remove::{remove_at, remove_tree};
pub use rewrite::rewrite;
pub(crate) use root::openat2;
pub use root::{Links, RootDir, dir_names, open_dir};

/// How names of files being written aside begin. Such a file is never the truth: whoever owns the
/// folder may remove it when no writer lives.
pub const ASIDE: &str = ".bake-aside-";

/// Notes on a cached file that it is used now, for whoever frees what nobody uses: as its time of
/// access, set whatever the mount's options are. Never as its time of change: links to it are read
/// by programs that take another time for another content (apt forgets a list whose time moved
/// while it worked). That it cannot be set is no reason to fail.
pub fn mark_used(file: &File) {
    let _ = file.set_times(FileTimes::new().set_accessed(SystemTime::now()));
}

/// Why a disk effect did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("cannot {what} {}", path.display())]
    System {
        /// What was being done, as the verb before the path ("open", "rename to").
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A symbolic link leads out of the folder that must not be left.
    #[error("cannot use {}: the symbolic link {} leads out of {}", path.display(), link.display(), root.display())]
    Outside {
        /// The path asked for, relative to the root.
        path: PathBuf,
        /// The link on the way, relative to the root.
        link: PathBuf,
        /// The folder.
        root: PathBuf,
    },
    /// Something of another kind stands where a file or folder is needed.
    #[error("cannot use {}: it is {found}, not {wanted}", path.display())]
    Kind {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: &'static str,
        /// What was needed.
        wanted: &'static str,
    },
    /// A path that has no place inside a folder: empty, or with `..`.
    #[error("cannot use {}: not a path inside a folder", path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// A file is longer than its reader is ready to hold.
    #[error("cannot read {}: more than {limit} bytes", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Bytes allowed.
        limit: u64,
    },
}

impl Error {
    /// Returns the kind of the system error, or `InvalidInput` where there was none.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::System { source, .. } => source.kind(),
            _ => io::ErrorKind::InvalidInput,
        }
    }

    /// Whether the file or a folder on its way does not exist.
    pub fn is_missing(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Makes an [`Error::System`] out of any system error.
pub(crate) fn system(what: &'static str, path: &Path, source: impl Into<io::Error>) -> Error {
    Error::System { what, path: path.to_owned(), source: source.into() }
}

/// Returns the folder that holds `path`; `.` for a bare name.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}

/// Flushes the names in the folder `dir` to the disk.
pub fn sync_dir(dir: &Path) -> Result<(), Error> {
    use rustix::fs::OFlags;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, rustix::fs::Mode::empty())
        .map_err(|e| system("open the folder", dir, e))?;
    loop {
        match rustix::fs::fsync(&fd) {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            // Some network and FUSE file systems have no fsync for folders; they cannot promise
            // more than they do.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOTSUP) => return Ok(()),
            Err(e) => return Err(system("sync the folder", dir, e)),
        }
    }
}

/// Flushes the bytes of the file `path` to the disk.
pub fn sync_file(path: &Path) -> Result<(), Error> {
    let file = File::open(path).map_err(|e| system("open", path, e))?;
    file.sync_all().map_err(|e| system("sync", path, e))
}

/// Renames `from` to `to` (replacing a file there) and makes that last: both must be on one file
/// system. The file's own bytes must have been synced before.
pub fn replace(from: &Path, to: &Path) -> Result<(), Error> {
    std::fs::rename(from, to).map_err(|e| system("rename to", to, e))?;
    sync_dir(folder(to))?;
    if folder(from) != folder(to) {
        sync_dir(folder(from))?;
    }
    Ok(())
}

/// Writes the file `path` with exactly the permission bits `mode`: after this it is there whole,
/// and stays over a power loss; before and in between the old one is, or none.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let mut aside = Aside::new(folder(path))?;
    aside.write_all(bytes).map_err(|e| system("write", path, e))?;
    aside.keep(path, mode)
}

/// As [`write_whole`], but a power loss may take it back: for what can be made again.
pub fn write_soon(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let mut aside = Aside::new(folder(path))?;
    aside.write_all(bytes).map_err(|e| system("write", path, e))?;
    aside
        .file()
        .set_permissions(Permissions::from_mode(mode))
        .map_err(|e| system("set the mode of", path, e))?;
    aside.file.persist(path).map_err(|e| system("rename to", path, e.error))?;
    Ok(())
}

/// A file being written aside, in the folder where it will live. `Write`; dropped = gone.
#[derive(Debug)]
pub struct Aside {
    file: tempfile::NamedTempFile,
}

impl Aside {
    /// Begins a file in `dir`; nobody else can read it until it is kept.
    pub fn new(dir: &Path) -> Result<Self, Error> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(ASIDE).permissions(Permissions::from_mode(0o600));
        let file = builder.tempfile_in(dir).map_err(|e| system("make a file in", dir, e))?;
        Ok(Self { file })
    }

    /// Where it is being written.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The open file.
    pub fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Gives it its name `path` as [`Aside::keep`] does, but without waiting for the disk: for what
    /// can be made again and is checked when it is read. After a power loss the name may stand for
    /// anything.
    pub fn keep_unsynced(self, path: &Path, mode: u32) -> Result<(), Error> {
        self.file()
            .set_permissions(Permissions::from_mode(mode))
            .map_err(|e| system("set the mode of", path, e))?;
        self.file.persist(path).map_err(|e| system("rename to", path, e.error))?;
        Ok(())
    }

    /// Syncs it and gives it its name `path` (on the same file system) and permission bits,
    /// replacing what is there, durably.
    pub fn keep(self, path: &Path, mode: u32) -> Result<(), Error> {
        // Not `path`'s mode through open(2): the umask would have a say.
        self.file()
            .set_permissions(Permissions::from_mode(mode))
            .map_err(|e| system("set the mode of", path, e))?;
        self.file().sync_all().map_err(|e| system("sync", path, e))?;
        self.file.persist(path).map_err(|e| system("rename to", path, e.error))?;
        sync_dir(folder(path))
    }
}

impl Write for Aside {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.as_file_mut().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether `name` is of a file that was being written aside.
pub fn is_aside(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(ASIDE.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_is_whole_and_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("f");
        write_whole(&path, b"one", 0o644).expect("write");
        write_whole(&path, b"two", 0o4751).expect("write over");
        assert_eq!(std::fs::read(&path).expect("read"), b"two");
        assert_eq!(std::fs::metadata(&path).expect("stat").permissions().mode() & 0o7777, 0o4751);
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("f")).expect("mkdir");
        let error = write_whole(&dir.path().join("f"), b"x", 0o644).expect_err("a folder is there");
        assert!(error.to_string().starts_with("cannot rename to "), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1);
        assert!(
            write_whole(&dir.path().join("no/f"), b"x", 0o644).expect_err("no folder").is_missing()
        );
    }

    #[test]
    fn the_folder_of_a_path() {
        for (path, dir) in [("a", "."), ("a/b", "a"), ("/a", "/"), ("/", "/"), ("./a", ".")] {
            assert_eq!(folder(Path::new(path)), Path::new(dir), "{path}");
        }
    }
}
