//! A file that is written beside its place and appears there whole, or never: without a name until
//! then, so that not even a killed process leaves anything. Not flushed to disk: what is cached is
//! checked whenever it is used.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

pub(super) enum Aside {
    Unnamed(File),
    /// Where the file system knows no unnamed files.
    Named(tempfile::NamedTempFile),
}

impl Aside {
    /// Starts a file in the folder `dir`, which must be on the file system of its later place.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        match rustix::fs::open(
            dir,
            OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o644),
        ) {
            Ok(fd) => Ok(Self::Unnamed(File::from(fd))),
            Err(_) => Ok(Self::Named(tempfile::Builder::new().prefix("aside-").tempfile_in(dir)?)),
        }
    }

    /// Where to write.
    pub(super) fn file(&mut self) -> &mut File {
        match self {
            Self::Unnamed(file) => file,
            Self::Named(file) => file.as_file_mut(),
        }
    }

    /// Gives the file (0644) its name; what has it already is replaced. `dir`: as in
    /// [`Aside::new`].
    pub(super) fn keep(mut self, dir: &Path, path: &Path) -> io::Result<()> {
        self.file().set_permissions(fs::Permissions::from_mode(0o644))?;
        let mut file = match self {
            Self::Named(file) => return file.persist(path).map(|_| ()).map_err(|e| e.error),
            Self::Unnamed(file) => file,
        };
        let own = format!("/proc/self/fd/{}", file.as_raw_fd());
        match rustix::fs::linkat(CWD, own, CWD, path, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) => Ok(()),
            // What is there may be damaged: it is replaced, by way of a name of our own.
            Err(rustix::io::Errno::EXIST) => {
                let own = format!("/proc/self/fd/{}", file.as_raw_fd());
                let dir = tempfile::Builder::new().prefix("aside-").tempdir_in(dir)?;
                let beside = dir.path().join("file");
                rustix::fs::linkat(CWD, own, CWD, &beside, AtFlags::SYMLINK_FOLLOW)?;
                fs::rename(beside, path)
            }
            // No /proc, or a file system that knows unnamed files only half.
            Err(_) => {
                let mut named = tempfile::Builder::new().prefix("aside-").tempfile_in(dir)?;
                file.rewind()?;
                io::copy(&mut file, &mut named)?;
                named.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
                named.persist(path).map(|_| ()).map_err(|e| e.error)
            }
        }
    }

    /// The file without a name, from its start: gone when closed.
    pub(super) fn into_file(self) -> io::Result<File> {
        let mut file = match self {
            Self::Unnamed(file) => file,
            Self::Named(file) => file.into_file(),
        };
        file.rewind()?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn it_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let count = || fs::read_dir(dir.path()).expect("there").count();
        let mut aside = Aside::new(dir.path()).expect("writable");
        aside.file().write_all(b"text").expect("writable");
        drop(aside);
        assert_eq!(count(), 0);
        fs::write(dir.path().join("name"), b"damaged").expect("writable");
        for _ in 0..2 {
            let mut aside = Aside::new(dir.path()).expect("writable");
            aside.file().write_all(b"text").expect("writable");
            aside.keep(dir.path(), &dir.path().join("name")).expect("writable");
        }
        assert_eq!(fs::read(dir.path().join("name")).expect("there"), b"text");
        assert_eq!(count(), 1);
        assert_eq!(
            fs::metadata(dir.path().join("name")).expect("there").permissions().mode() & 0o777,
            0o644
        );
    }
}
