//! Rewriting a file that belongs to a person, not to bake: recipes, lock files, drawings.

use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Aside, Error, folder, system};

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
    let (path, found) = follow(path)?;
    let path = path.as_path();
    let mut aside = Aside::new(folder(path))?;
    aside.write_all(bytes).map_err(|e| system("write", path, e))?;
    let Some(found) = found else { return aside.keep(path, mode) };
    let (uid, gid) =
        (rustix::fs::Uid::from_raw(found.uid()), rustix::fs::Gid::from_raw(found.gid()));
    // Only root can give a file away, and others only to a group of theirs: it then is theirs, as
    // any file that they write.
    if rustix::fs::fchown(aside.file(), Some(uid), Some(gid)).is_err() {
        let _ = rustix::fs::fchown(aside.file(), None, Some(gid));
    }
    aside.keep(path, found.permissions().mode() & 0o777)
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
            let found = super::root::kind_name(&found);
            return Err(Error::Kind { path, found, wanted: "a regular file" });
        }
        let target = fs::read_link(&path).map_err(|e| system("read the symlink", &path, e))?;
        path = folder(&path).join(target);
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
        for (name, why) in [("d", "a folder"), ("null", "a device"), ("loop", "cannot follow")] {
            let error = rewrite(&at(name), b"x", 0o644).expect_err(name).to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
