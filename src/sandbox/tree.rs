//! Removes a whole tree from inside the user namespace, whatever its names, modes, depth and links.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

/// Deeper folders are first moved up, so that open descriptors stay few however deep the tree is.
const DEEP: usize = 64;

/// Opens a folder without following a link at its end.
pub(super) fn open_dir(at: BorrowedFd<'_>, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(
        at,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Removes everything in the folder `top`, not the folder itself. Never follows a link, never
/// leaves the file system's tree.
pub(super) fn remove_children(top: BorrowedFd<'_>) -> io::Result<()> {
    let mut moved = 0_u64;
    loop {
        let before = moved;
        empty(top, top, 0, &mut moved)?;
        if moved == before {
            return Ok(());
        }
    }
}

/// Removes `name` in `dir`, file or tree; what is not there is fine.
pub(super) fn remove(dir: BorrowedFd<'_>, name: &std::path::Path) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(rustix::io::Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    remove_children(open_dir(dir, name)?.as_fd())?;
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// The entries of a folder.
fn entries(dir: BorrowedFd<'_>) -> io::Result<VecDeque<(CString, FileType)>> {
    let mut found = VecDeque::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            found.push_back((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(found)
}

fn empty(
    top: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    depth: usize,
    moved: &mut u64,
) -> io::Result<()> {
    for (name, kind) in entries(dir)? {
        if kind != FileType::Directory {
            match rustix::fs::unlinkat(dir, &name, AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => continue,
                // Some file systems do not tell the kind while listing.
                Err(rustix::io::Errno::ISDIR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match rustix::fs::unlinkat(dir, &name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => continue,
            Err(rustix::io::Errno::NOTEMPTY | rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        if depth == DEEP {
            loop {
                *moved += 1;
                match rustix::fs::renameat_with(
                    dir,
                    &name,
                    top,
                    format!(".deep-{moved}"),
                    rustix::fs::RenameFlags::NOREPLACE,
                ) {
                    Err(rustix::io::Errno::EXIST) => {}
                    done => break done?,
                }
            }
            continue;
        }
        empty(top, open_dir(dir, &name)?.as_fd(), depth + 1, moved)?;
        rustix::fs::unlinkat(dir, &name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn removes_deep_trees_and_follows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (gone, kept) = (dir.path().join("gone"), dir.path().join("kept"));
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        fs::create_dir(&gone).unwrap();
        std::os::unix::fs::symlink(&kept, gone.join("link")).unwrap();
        // Deeper than a path may be long, made the only way that is possible.
        let mut at = open_dir(rustix::fs::CWD, &gone).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "ab", Mode::RWXU).unwrap();
            rustix::fs::openat(&at, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
            at = open_dir(at.as_fd(), "ab").unwrap();
        }
        let top = open_dir(rustix::fs::CWD, dir.path()).unwrap();
        remove(top.as_fd(), std::path::Path::new("gone")).unwrap();
        remove(top.as_fd(), std::path::Path::new("gone")).unwrap();
        assert!(!gone.exists());
        assert!(kept.join("file").exists());
    }
}
