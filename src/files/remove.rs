//! Removing whole trees without following anything out of them: fd-relative, never through
//! symlinks, never into another mount.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::dir::{self, dir_names, openat2};
use super::error::{Error, system};

/// Deeper directories are moved up before they are emptied, so that a hostile tree can exhaust
/// neither descriptors nor path lengths.
const DEPTH: usize = 64;

/// Removes `path` and everything below it; what is not there is fine. Directories without
/// permission bits are given some first.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    let Some(name) = path.file_name() else {
        return Err(Error::Path { path: path.to_owned() });
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(dir::parent(path), flags, Mode::empty()) {
        Ok(parent) => remove_at(parent.as_fd(), name, path),
        Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(system("open the directory", dir::parent(path), e)),
    }
}

/// Removes the entry `name` of the open directory `parent` and everything below it; what is not
/// there is fine. `shown` is its path for messages.
pub fn remove_at(parent: BorrowedFd<'_>, name: &OsStr, shown: &Path) -> Result<(), Error> {
    if unlink(parent, name, shown)? {
        return Ok(());
    }
    let top = open(parent, name, shown)?;
    let mut moved = 0u64;
    // Directories that were moved up into `top` get their turn once the rest is gone.
    loop {
        let mut stack = vec![Level {
            left: names(&top, shown)?,
            dir: None,
            name: OsString::new(),
            shown: shown.to_owned(),
        }];
        let mut again = false;
        while let depth = stack.len()
            && let Some(level) = stack.last_mut()
        {
            let here = level.dir.as_ref().unwrap_or(&top);
            let Some(child) = level.left.pop() else {
                let done = stack.pop().expect("the level just seen");
                if let Some(above) = stack.last() {
                    let above = above.dir.as_ref().unwrap_or(&top);
                    rmdir(above.as_fd(), &done.name, &done.shown)?;
                }
                continue;
            };
            let path = level.shown.join(&child);
            if unlink(here.as_fd(), &child, &path)? {
                continue;
            }
            let dir = open(here.as_fd(), &child, &path)?;
            if depth < DEPTH {
                stack.push(Level {
                    left: names(&dir, &path)?,
                    dir: Some(dir),
                    name: child,
                    shown: path,
                });
                continue;
            }
            loop {
                let new = format!(".bake-removing-{moved}");
                moved += 1;
                match rustix::fs::renameat_with(
                    here,
                    &child,
                    &top,
                    &*new,
                    rustix::fs::RenameFlags::NOREPLACE,
                ) {
                    Ok(()) => break,
                    Err(Errno::EXIST) => {}
                    Err(e) => return Err(system("move up", &path, e)),
                }
            }
            again = true;
        }
        if !again {
            return rmdir(parent, name, shown);
        }
    }
}

struct Level {
    left: Vec<OsString>,
    dir: Option<OwnedFd>,
    name: OsString,
    shown: PathBuf,
}

fn names(dir: &OwnedFd, shown: &Path) -> Result<Vec<OsString>, Error> {
    dir_names(dir).map_err(|e| system("list", shown, e))
}

/// Unlinks what is not a directory; false: it is one.
fn unlink(parent: BorrowedFd<'_>, name: &OsStr, shown: &Path) -> Result<bool, Error> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        Err(e) => Err(system("remove", shown, e)),
    }
}

fn rmdir(parent: BorrowedFd<'_>, name: &OsStr, shown: &Path) -> Result<(), Error> {
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(system("remove the directory", shown, e)),
    }
}

/// Opens a directory for emptying: not through a symlink, not where something else is mounted.
fn open(parent: BorrowedFd<'_>, name: &OsStr, shown: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let held = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let try_open = |flags| openat2(parent, name, flags, Mode::empty(), held);
    let dir = match try_open(flags | OFlags::RDONLY) {
        Err(Errno::ACCESS) => {
            // overlayfs leaves `work/work` with mode 000; steps may leave anything. The detour
            // through /proc is the way to change the mode of exactly the directory that is held,
            // not of whatever its name means by then.
            let path = try_open(flags | OFlags::PATH)
                .map_err(|e| system("open the directory", shown, e))?;
            let link = format!("/proc/self/fd/{}", path.as_raw_fd());
            rustix::fs::chmod(&*link, Mode::RWXU)
                .map_err(|e| system("change the mode of", shown, e))?;
            try_open(flags | OFlags::RDONLY)
        }
        other => other,
    }
    .map_err(|e| system("open the directory", shown, e))?;
    let stat = rustix::fs::fstat(&dir).map_err(|e| system("look at", shown, e))?;
    if stat.st_mode & 0o700 != 0o700 {
        // Root needs no bits; for anyone else the removal that follows says what is wrong.
        let _ = rustix::fs::fchmod(&dir, Mode::RWXU);
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn closed_directories_and_links_are_removed_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).expect("mkdir");
        fs::write(tree.join("a/b/f"), "x").expect("write");
        fs::write(dir.path().join("kept"), "x").expect("write");
        std::os::unix::fs::symlink("..", tree.join("a/up")).expect("symlink");
        std::os::unix::fs::symlink(dir.path().join("kept"), tree.join("out")).expect("symlink");
        for closed in ["a/b", "a"] {
            fs::set_permissions(tree.join(closed), fs::Permissions::from_mode(0o000))
                .expect("chmod");
        }
        remove_tree(&tree).expect("remove");
        remove_tree(&tree).expect("nothing there is fine");
        remove_tree(&dir.path().join("no/such")).expect("nothing there is fine");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
        remove_tree(&dir.path().join("kept")).expect("a file");
        remove_tree(Path::new("/")).expect_err("never");
        remove_tree(&dir.path().join("..")).expect_err("never");
    }

    #[test]
    fn no_tree_is_too_deep() {
        let dir = tempfile::tempdir().expect("a directory");
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).expect("mkdir");
        let mut here = fs::File::open(&tree).expect("open");
        // Deeper than both the number of descriptors (1024) and PATH_MAX allow.
        for _ in 0..3000 {
            rustix::fs::mkdirat(&here, "deep", Mode::RWXU).expect("mkdir");
            here = fs::File::from(
                rustix::fs::openat(
                    &here,
                    "deep",
                    OFlags::DIRECTORY | OFlags::RDONLY,
                    Mode::empty(),
                )
                .expect("open"),
            );
        }
        remove_tree(&tree).expect("remove");
        assert!(!tree.exists());
    }
}
