//! The few disk effects that a publish is made of, each a point where a test can make the disk fail
//! or the process die.
//!
//! In a build that is no test the points are nothing.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::files::{self, system};

/// Permission bits of directories and files that anyone may read; set whatever the umask says, so
/// that a store that several people read does not depend on who wrote last.
pub(super) const PUBLIC_DIR: u32 = 0o755;
/// As [`PUBLIC_DIR`], for files.
pub(super) const PUBLIC_FILE: u32 = 0o644;
/// Permission bits of directories with unpacked roots and logs: a root holds setuid programs, and
/// nobody else may start them.
pub(super) const PRIVATE_DIR: u32 = 0o700;

/// Renames a file within the store's file system; the directories are not synced.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), files::Error> {
    fault::point(to)?;
    fs::rename(from, to).map_err(|e| system("rename to", to, e))
}

/// Renames a file or directory within one directory, of whatever file system; it is not synced.
pub(super) fn rename_as(
    from: &Path,
    to: &Path,
    replace: files::Replace,
) -> Result<(), files::Error> {
    fault::point(to)?;
    files::rename(from, to, replace)
}

/// Removes a file or a directory with all that is in it; what is not there is fine.
pub(super) fn remove_any(path: &Path) -> Result<(), files::Error> {
    fault::point(path)?;
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(system("look at", path, e)),
        Ok(_) => files::remove_tree(path),
    }
}

/// Gives a file one more name within the store's file system, replacing what has it; nothing is
/// synced.
pub(super) fn link(from: &Path, to: &Path) -> Result<(), files::Error> {
    fault::point(to)?;
    files::link(from, to)
}

/// Removes a file; what is not there is fine.
pub(super) fn remove(path: &Path) -> Result<(), files::Error> {
    fault::point(path)?;
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(system("remove", path, e)),
        _ => Ok(()),
    }
}

/// Flushes the names in a directory.
pub(super) fn sync_dir(dir: &Path) -> Result<(), files::Error> {
    fault::point(dir)?;
    files::sync_dir(dir)
}

/// Flushes a file's bytes.
pub(super) fn sync_file(path: &Path) -> Result<(), files::Error> {
    fault::point(path)?;
    files::sync_file(path)
}

/// Writes a file that anyone may read, whole or not at all, durably.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), files::Error> {
    fault::point(path)?;
    files::write_whole(path, bytes, PUBLIC_FILE)?;
    // A file can have its new name already when the sync of its directory fails.
    fault::point(path)
}

/// Writes a file that anyone may read, whole or not at all, but not durably: for what can be made
/// again.
pub(super) fn write_soon(path: &Path, bytes: &[u8]) -> Result<(), files::Error> {
    fault::point(path)?;
    files::write_soon(path, bytes, PUBLIC_FILE)
}

/// Gives a directory exactly `mode`.
pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), files::Error> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|e| system("set the mode of", path, e))
}

/// Makes the first `good` bytes of a file, followed by `bytes`, all there is in it, durably; the
/// file is made where missing, its name is not flushed. After an error it is as long as `good`, or
/// the next append makes it so.
pub(super) fn append(path: &Path, good: u64, bytes: &[u8]) -> Result<(), files::Error> {
    fault::point(path)?;
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::CLOEXEC
        | OFlags::NOFOLLOW
        | OFlags::NOCTTY
        | OFlags::NONBLOCK;
    let mode = Mode::from_raw_mode(PUBLIC_FILE);
    let file =
        File::from(rustix::fs::open(path, flags, mode).map_err(|e| system("open", path, e))?);
    let write = || {
        let fail = |e| system("write", path, e);
        file.set_permissions(Permissions::from_mode(PUBLIC_FILE)).map_err(fail)?;
        file.set_len(good).map_err(fail)?;
        file.write_all_at(bytes, good).map_err(fail)?;
        fault::point(path)?;
        file.sync_all().map_err(|e| system("sync", path, e))
    };
    write().inspect_err(|_| {
        // What was written and not flushed must not be taken for done; a reader knows a torn line
        // anyway.
        let _ = file.set_len(good);
    })
}

/// Makes a directory with exactly `mode`, unless it is there; returns whether it was made.
pub(super) fn make_dir(path: &Path, mode: u32) -> Result<bool, files::Error> {
    fault::point(path)?;
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => return Ok(false),
        Err(e) => return Err(system("make the directory", path, e)),
    }
    set_mode(path, mode)?;
    Ok(true)
}

/// Opens a regular file to read: no symlink is followed, no fifo waited for; `None` where nothing
/// is.
pub(super) fn open(path: &Path) -> Result<Option<(File, u64)>, files::Error> {
    let flags =
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK;
    // The time of access of what is cached is the time of its last use, and to look is not to use.
    // Only the owner of a file may read it without leaving that trace (open(2)).
    let quiet = rustix::fs::open(path, flags | OFlags::NOATIME, Mode::empty());
    let opened = match quiet {
        Err(rustix::io::Errno::PERM) => rustix::fs::open(path, flags, Mode::empty()),
        other => other,
    };
    let file = match opened {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(rustix::io::Errno::LOOP) => {
            return Err(files::Error::Kind {
                path: path.to_owned(),
                found: "a symbolic link",
                wanted: "a regular file",
            });
        }
        Err(e) => return Err(system("open", path, e)),
    };
    let meta = file.metadata().map_err(|e| system("look at", path, e))?;
    if !meta.is_file() {
        return Err(files::Error::Kind {
            path: path.to_owned(),
            found: "something else",
            wanted: "a regular file",
        });
    }
    Ok(Some((file, meta.len())))
}

/// Reads a regular file of at most `limit` bytes; `None` where nothing is.
pub(super) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, files::Error> {
    let Some((file, _)) = open(path)? else { return Ok(None) };
    let mut bytes = vec![];
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| system("read", path, e))?;
    if bytes.len() as u64 > limit {
        return Err(files::Error::TooLong { path: path.to_owned(), limit });
    }
    Ok(Some(bytes))
}

#[cfg(not(test))]
mod fault {
    use std::path::Path;

    use crate::files;

    #[expect(clippy::unnecessary_wraps, reason = "in tests it can fail")]
    pub(super) fn point(_path: &Path) -> Result<(), files::Error> {
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod fault {
    //! What the points do in tests: count, and at a chosen one kill the process or fail.

    use std::cell::Cell;
    use std::path::Path;

    use crate::files;
    use crate::files::system;

    /// What happens at a point.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub(in super::super) enum Fault {
        /// Nothing.
        None,
        /// SIGKILL at point `.0`.
        Kill(usize),
        /// The error `.1` at point `.0`, once.
        Once(usize, rustix::io::Errno),
        /// The error `.1` at point `.0` and all later ones.
        Dead(usize, rustix::io::Errno),
    }

    thread_local! {
        static PLAN: Cell<(Fault, usize)> = const { Cell::new((Fault::None, 0)) };
    }

    /// Sets what this thread's next points do; returns how many it has passed since the last call.
    pub(in super::super) fn plan(fault: Fault) -> usize {
        PLAN.replace((fault, 0)).1
    }

    pub(super) fn point(path: &Path) -> Result<(), files::Error> {
        let (fault, here) = PLAN.get();
        PLAN.set((fault, here + 1));
        match fault {
            Fault::Kill(n) if n == here => {
                rustix::process::kill_process(
                    rustix::process::getpid(),
                    rustix::process::Signal::KILL,
                )
                .expect("a signal to oneself");
                loop {
                    std::thread::park();
                }
            }
            Fault::Once(n, e) if n == here => Err(system("touch", path, e)),
            Fault::Dead(n, e) if n <= here => Err(system("touch", path, e)),
            _ => Ok(()),
        }
    }
}
