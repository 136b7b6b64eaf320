//! After a step: the times in its upper directory become those that its layer will say, so that a
//! later step sees the same whether this one ran just now or comes from the cache (compilers note
//! the times of their sources, and so put them into images).

use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT};

use super::call::{Action, Call, Job, Session};
use super::directory::inside;
use super::error::Error;
use super::reply::reply;
use crate::layer::MAX_TIME;
use crate::sandbox::{CallError, Cancel};
use crate::store::Staging;

/// Sets the times below the upper directory `upper` (in the staging): of directories to the epoch,
/// of everything else to the earlier of its own and the epoch, in whole seconds, as
/// [`layer::pack`](crate::layer::pack) writes them.
pub(crate) fn settle(
    session: &Session,
    staging: &Staging,
    upper: &Path,
    epoch: i64,
    cancel: &Cancel,
) -> Result<(), Error> {
    let call = Call::Settle { dir: inside(staging, upper)?, epoch };
    let ended = session.run(Job::bare(Action::call(call)), cancel, &mut |_| {})?;
    reply(ended, "set the times of what a step made").map(|_| ())
}

/// The call itself; runs inside, where every file is ours.
pub(super) fn times(dir: PathBuf, epoch: i64) -> Result<(), CallError> {
    walk(dir, epoch.clamp(0, MAX_TIME))
        .map_err(|(path, error)| CallError::system("set the times of", &path, &error))
}

fn walk(root: PathBuf, epoch: i64) -> Result<(), (PathBuf, io::Error)> {
    // Directories after what is in them; nobody else changes this tree any more, so its paths are
    // what they are.
    let mut directories = vec![root];
    let mut at = 0;
    while let Some(dir) = directories.get(at).cloned() {
        at += 1;
        for entry in fs::read_dir(&dir).map_err(|error| (dir.clone(), error))? {
            let entry = entry.map_err(|error| (dir.clone(), error))?;
            let path = entry.path();
            if entry.file_type().map_err(|error| (path.clone(), error))?.is_dir() {
                directories.push(path);
                continue;
            }
            let stat = rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| (path.clone(), error.into()))?;
            let wanted = stat.st_mtime.clamp(0, epoch);
            if (stat.st_mtime, stat.st_mtime_nsec) != (wanted, 0) {
                set(&path, wanted)?;
            }
        }
    }
    directories.iter().rev().try_for_each(|dir| set(dir, epoch))
}

fn set(path: &Path, seconds: i64) -> Result<(), (PathBuf, io::Error)> {
    let kept = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times = Timestamps {
        last_access: kept,
        last_modification: Timespec { tv_sec: seconds, tv_nsec: 0 },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|error| (path.to_owned(), error.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn nothing_is_later_than_the_epoch() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("u");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/new"), "x").unwrap();
        fs::write(root.join("a/b/old"), "x").unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::new(5, 700);
        fs::File::options()
            .write(true)
            .open(root.join("a/b/old"))
            .unwrap()
            .set_modified(old)
            .unwrap();
        std::os::unix::fs::symlink("/nowhere", root.join("a/link")).unwrap();
        walk(root.clone(), 1000).unwrap();
        let time = |name: &str| {
            let meta = fs::symlink_metadata(root.join(name)).unwrap();
            (meta.mtime(), meta.mtime_nsec())
        };
        for (name, expected) in [
            ("", 1000),
            ("a", 1000),
            ("a/b", 1000),
            ("a/new", 1000),
            ("a/link", 1000),
            ("a/b/old", 5),
        ] {
            assert_eq!(time(name), (expected, 0), "{name}");
        }
    }
}
