//! Advisory locks (flock) on files. A lock lives as long as its open file: a process that dies by
//! any means lets go of it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::error::{Error, system};

/// A held lock; dropped = released. The file itself is never removed by this type.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock file `path` (made if missing) for this holder alone, waiting as long as it
    /// takes.
    pub fn exclusive(path: &Path) -> Result<Self, Error> {
        Self::take(path, FlockOperation::LockExclusive)
            .map(|lock| lock.expect("a blocking lock ends with the lock"))
    }

    /// Takes the lock file `path` together with other sharers, waiting as long as it takes.
    pub fn shared(path: &Path) -> Result<Self, Error> {
        Self::take(path, FlockOperation::LockShared)
            .map(|lock| lock.expect("a blocking lock ends with the lock"))
    }

    /// Takes the lock file `path` alone, or returns `None` where somebody else holds it.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>, Error> {
        Self::take(path, FlockOperation::NonBlockingLockExclusive)
    }

    /// Takes the lock file `path` together with other sharers, or returns `None` where somebody
    /// holds it alone.
    pub fn try_shared(path: &Path) -> Result<Option<Self>, Error> {
        Self::take(path, FlockOperation::NonBlockingLockShared)
    }

    /// Lets others share it from now on; nobody can take it alone in between.
    pub fn share(self) -> Result<Self, Error> {
        // flock(2) converts an existing lock; alone is ours, so sharing never has to wait.
        rustix::fs::flock(&self.file, FlockOperation::LockShared)
            .map_err(|e| system("share the lock", Path::new("it"), e))?;
        Ok(self)
    }

    /// The open file, to be handed to a child that is to hold the lock too.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn take(path: &Path, how: FlockOperation) -> Result<Option<Self>, Error> {
        loop {
            let file = open(path)?;
            match rustix::fs::flock(&file, how) {
                Ok(()) => {}
                Err(Errno::INTR) => continue,
                // EWOULDBLOCK is the same number.
                Err(Errno::AGAIN) => return Ok(None),
                Err(e) => return Err(system("lock", path, e)),
            }
            // Who waited may now hold a file that its former owner has removed: a lock on a name
            // nobody else will ever see.
            let held = rustix::fs::fstat(&file).map_err(|e| system("look at", path, e))?;
            match rustix::fs::lstat(path) {
                Ok(named) if (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino) => {
                    return Ok(Some(Self { file }));
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(e) => return Err(system("look at", path, e)),
            }
        }
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Opens the lock file, never through a link: a lock file is a fixed name in a directory that
/// others may be able to write to.
fn open(path: &Path) -> Result<File, Error> {
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK;
    let made =
        rustix::fs::open(path, flags | OFlags::RDWR | OFlags::CREATE, Mode::from_raw_mode(0o644));
    let fd = match made {
        // A reader of somebody else's store: flock needs no right to write, only an open file.
        Err(denied @ (Errno::ACCESS | Errno::ROFS | Errno::PERM)) => {
            match rustix::fs::open(path, flags | OFlags::RDONLY, Mode::empty()) {
                // That it cannot be made is the trouble, not that it is missing.
                Err(Errno::NOENT) => Err(denied),
                other => other,
            }
        }
        other => other,
    };
    fd.map(File::from).map_err(|e| system("open the lock file", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_or_many_together() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lock");
        let first = Lock::shared(&path).expect("lock");
        let second = Lock::try_shared(&path).expect("lock").expect("shared");
        assert!(Lock::try_exclusive(&path).expect("lock").is_none());
        drop((first, second));
        let alone = Lock::exclusive(&path).expect("lock");
        assert!(Lock::try_shared(&path).expect("lock").is_none());
        drop(alone);
        assert!(Lock::try_exclusive(&path).expect("lock").is_some());
    }

    #[test]
    fn a_lock_on_a_removed_file_is_not_a_lock() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("lock");
        let owner = Lock::exclusive(&path).expect("lock");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| Lock::exclusive(&path).expect("lock"));
            std::fs::remove_file(&path).expect("remove");
            drop(owner);
            let held = waiter.join().expect("no panic");
            assert!(Lock::try_exclusive(&path).expect("lock").is_none(), "the name is locked");
            drop(held);
        });
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        std::os::unix::fs::symlink("target", dir.path().join("lock")).expect("symlink");
        Lock::exclusive(&dir.path().join("lock")).expect_err("a symlink");
        assert!(!dir.path().join("target").exists());
    }
}
