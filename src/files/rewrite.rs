//! Rewriting a file that belongs to a person, not to bake: recipes, lock files, drawings.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD};

use super::aside::{Aside, Name, lock};
use super::dir::{parent, sync_dir};
use super::error::{Error, system};
use super::rename::{Replace, rename};
use super::root::kind_name;

/// Symlinks that are followed at most, as in the kernel.
const SYMLINKS: usize = 40;

/// Writes a person's file `path`, whole or not at all, as [`write_whole`](super::write_whole) does.
///
/// A symlink stays one: what it leads to is written. A file that is there keeps its permission
/// bits and, as far as this process may say so, its owner; a new one gets `mode`. A hard link is
/// broken: the other names keep the old content, as with any program that never leaves half a file.
///
/// # Errors
///
/// Anything that is no regular file (a device, a fifo, a directory) is not replaced.
pub fn rewrite(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let (path, aside, mode) = written(path, bytes, mode)?;
    aside.keep(&path, mode)
}

/// Writes aside what is to become the file that `path` leads to: returns where that is, the file,
/// and its permission bits.
fn written(path: &Path, bytes: &[u8], mode: u32) -> Result<(PathBuf, Aside, u32), Error> {
    let (path, found) = follow(path)?;
    let mut aside = Aside::new(parent(&path))?;
    aside.write_all(bytes).map_err(|e| system("write", &path, e))?;
    let Some(found) = found else { return Ok((path, aside, mode)) };
    let (uid, gid) =
        (rustix::fs::Uid::from_raw(found.uid()), rustix::fs::Gid::from_raw(found.gid()));
    // Only root can give a file away, and others only to a group of theirs: it then is theirs, as
    // any file that they write.
    if rustix::fs::fchown(aside.file(), Some(uid), Some(gid)).is_err() {
        let _ = rustix::fs::fchown(aside.file(), None, Some(gid));
    }
    Ok((path, aside, found.permissions().mode() & 0o777))
}

/// A file that was replaced, and can still become what it was. Dropped = it stays replaced.
#[derive(Debug)]
pub struct Replaced {
    path: PathBuf,
    /// The one before, under a name aside; held by its lock.
    before: Option<(Name, File)>,
}

impl Replaced {
    /// Writes a person's file `path` as [`rewrite`] does, and keeps what was there for a while.
    ///
    /// # Errors
    ///
    /// As for [`rewrite`].
    pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<Self, Error> {
        let (path, mut aside, mode) = written(path, bytes, mode)?;
        let (path, dir) = (path.as_path(), parent(&path));
        // By a second name, so that going back needs no room on the disk.
        let before = match File::open(path) {
            Ok(file) => {
                lock(&file);
                let link = |name: &Path| rustix::fs::linkat(CWD, path, CWD, name, AtFlags::empty());
                let name = Name::make(dir, link).map_err(|e| system("link", path, e))?;
                Some((name, file))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(system("open", path, e)),
        };
        rename(&aside.prepare(path, mode, true)?.0, path, Replace::Yes)?;
        sync_dir(dir)?;
        Ok(Self { path: path.to_owned(), before })
    }

    /// Makes it what it was.
    pub fn undo(self) -> Result<(), Error> {
        match &self.before {
            Some((name, _)) => rename(&name.0, &self.path, Replace::Yes)?,
            None => fs::remove_file(&self.path).map_err(|e| system("remove", &self.path, e))?,
        }
        sync_dir(parent(&self.path))
    }
}

/// Returns where `path` leads, and the regular file that is there, if there is anything.
fn follow(path: &Path) -> Result<(PathBuf, Option<Metadata>), Error> {
    let mut path = path.to_owned();
    for _ in 0..SYMLINKS {
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((path, None)),
            Err(e) => return Err(system("look at", &path, e)),
        };
        if found.is_file() {
            return Ok((path, Some(found)));
        }
        if !found.is_symlink() {
            let found = kind_name(&found);
            return Err(Error::Kind { path, found, wanted: "a regular file" });
        }
        let target = fs::read_link(&path).map_err(|e| system("read the symlink", &path, e))?;
        path = parent(&path).join(target);
    }
    Err(system("follow", &path, rustix::io::Errno::LOOP))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// B3
    #[test]
    fn a_persons_file_stays_what_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d")).expect("mkdir");
        fs::write(at("d/real"), "old").expect("write");
        fs::set_permissions(at("d/real"), PermissionsExt::from_mode(0o600)).expect("chmod");
        symlink("d/middle", at("link")).expect("symlink");
        symlink("real", at("d/middle")).expect("symlink");
        rewrite(&at("link"), b"new", 0o644).expect("rewritten");
        assert_eq!(fs::read(at("d/real")).expect("read"), b"new");
        assert_eq!(fs::metadata(at("d/real")).expect("stat").mode() & 0o777, 0o600);
        assert!(fs::symlink_metadata(at("link")).expect("stat").is_symlink());
        assert!(fs::symlink_metadata(at("d/middle")).expect("stat").is_symlink());
        assert_eq!(fs::read_dir(at("d")).expect("list").count(), 2);
    }

    #[test]
    fn a_symlink_to_nothing_yet_leads_to_the_new_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        symlink("real", at("link")).expect("symlink");
        rewrite(&at("link"), b"new", 0o640).expect("written");
        assert_eq!(fs::read(at("real")).expect("read"), b"new");
        assert_eq!(fs::metadata(at("real")).expect("stat").mode() & 0o777, 0o640);
    }

    #[test]
    fn what_is_no_regular_file_is_not_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d")).expect("mkdir");
        symlink("loop", at("loop")).expect("symlink");
        symlink("/dev/null", at("null")).expect("symlink");
        for (name, why) in [("d", "a directory"), ("null", "a device"), ("loop", "cannot follow")] {
            let error = rewrite(&at(name), b"x", 0o644).expect_err(name).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_replaced_file_can_be_what_it_was() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("f");
        Replaced::write(&path, b"one", 0o644).expect("write").undo().expect("undo");
        assert_eq!(names(dir.path()), Vec::<String>::new());
        drop(Replaced::write(&path, b"one", 0o600).expect("write"));
        let replaced = Replaced::write(&path, b"two", 0o644).expect("write");
        assert_eq!(fs::read(&path).expect("read"), b"two");
        crate::files::sweep(dir.path());
        replaced.undo().expect("undo");
        assert_eq!(fs::read(&path).expect("read"), b"one");
        assert_eq!(fs::metadata(&path).expect("stat").permissions().mode() & 0o7777, 0o600);
        assert_eq!(names(dir.path()), ["f"]);
    }

    fn names(dir: &Path) -> Vec<String> {
        let list = fs::read_dir(dir).expect("list");
        list.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect()
    }
}
