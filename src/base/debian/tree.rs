//! Writes the data archives of packages into a root, several at once, each path resolved inside
//! that root.
//!
//! A directory entry that meets a symlink to a directory keeps the symlink (dpkg does; `dpkg-deb
//! -x` does not: Debian bug 989602), so that packages which still ship `/bin/…` land in `/usr/bin`.
//! Directories get owner, mode and time at the very end, by a rule that does not depend on the
//! order in which packages arrived.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use md5::Digest as _;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};

use super::filter::Filter;

/// A directory as a package has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directory {
    /// Without leading or trailing slash; empty for the root itself.
    pub path: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
}

/// What one data archive held.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Lines of dpkg's `.list`.
    pub list: Vec<u8>,
    /// Conffile path as in `conffiles` → md5 in hex.
    pub conffiles: BTreeMap<String, String>,
    /// Directories in archive order.
    pub directories: Vec<Directory>,
    /// Entries written.
    pub entries: u64,
    /// Bytes of files written.
    pub bytes: u64,
}

/// A root that is being filled. `Sync`: several threads may write at once.
pub(super) struct Root {
    fd: OwnedFd,
}

impl Root {
    /// Opens the directory `path`.
    pub(super) fn open(path: &std::path::Path) -> io::Result<Self> {
        Ok(Self {
            fd: rustix::fs::open(
                path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?,
        })
    }

    /// Opens a directory, with every symlink on the way resolved inside the root.
    fn directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat2(
            &self.fd,
            path,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )?)
    }

    /// Makes a directory and its parents (0755 for now), if they are not there.
    pub(super) fn make_directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        match self.directory(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_empty() => {}
            outcome => return outcome,
        }
        let (parent, name) = split(path);
        let parent = self.make_directory(parent)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        self.directory(path)
    }

    /// Makes the merged-/usr links before anything is unpacked, as both suites expect.
    pub(super) fn merge_usr(&self) -> io::Result<()> {
        for name in ["bin", "sbin", "lib", "lib64"] {
            self.make_directory(format!("usr/{name}").as_bytes())?;
            rustix::fs::symlinkat(format!("usr/{name}"), &self.fd, name)?;
            owned(self.fd.as_fd(), name.as_bytes(), 0, 0)?;
        }
        Ok(())
    }

    /// Writes a small file of our own: 0:0, this mode, this time, whatever the umask.
    pub(super) fn write(&self, path: &str, bytes: &[u8], mode: u32, mtime: i64) -> io::Result<()> {
        let (parent, name) = split(path.as_bytes());
        let parent = self.make_directory(parent)?;
        let mut file = create(parent.as_fd(), name)?;
        file.write_all(bytes)?;
        finish(&file, 0, 0, mode, mtime)
    }

    /// Unpacks one data archive. `conffiles`: paths as in the control archive.
    pub(super) fn unpack(
        &self,
        archive: &mut tar::Archive<&mut dyn Read>,
        conffiles: &HashSet<String>,
        filter: &Filter,
        stop: &dyn Fn() -> bool,
    ) -> io::Result<Held> {
        let mut held = Held::default();
        // Archives are in tree order: nearly every entry has the parent of the one before.
        let mut last: Option<(Vec<u8>, OwnedFd)> = None;
        let mut skipped: HashSet<Vec<u8>> = HashSet::new();
        let mut buffer = vec![0; 1 << 17];
        for entry in archive.entries()? {
            if stop() {
                return Err(io::Error::other("stopped"));
            }
            let mut entry = entry?;
            let path = clean(&entry.path_bytes())?;
            held.list.push(b'/');
            held.list.extend_from_slice(if path.is_empty() { b"." } else { &path });
            held.list.push(b'\n');
            let header = entry.header();
            let kind = header.entry_type();
            let (mode, mtime) =
                (header.mode()? & 0o7777, i64::try_from(header.mtime()?).unwrap_or(0));
            let id = |n: u64| {
                u32::try_from(n)
                    .ok()
                    .filter(|n| *n < 65_535)
                    .ok_or_else(|| wrong(&path, "has an owner above 65534"))
            };
            let (uid, gid) = (id(header.uid()?)?, id(header.gid()?)?);
            if filter.skips(&path, kind.is_dir() || kind.is_symlink()) {
                skipped.insert(path);
                continue;
            }
            held.entries += 1;
            if kind.is_dir() {
                self.make_directory(&path).map_err(|e| at(&path, e))?;
                held.directories.push(Directory { path, mode, uid, gid });
                continue;
            }
            let (parent_path, name) = split(&path);
            if name.is_empty() {
                return Err(wrong(&path, "is the root, but no directory"));
            }
            if last.as_ref().is_none_or(|(p, _)| p != parent_path) {
                last = Some((
                    parent_path.to_vec(),
                    self.make_directory(parent_path).map_err(|e| at(&path, e))?,
                ));
            }
            let parent = last.as_ref().map(|(_, fd)| fd.as_fd()).expect("set just above");
            let written = match kind {
                tar::EntryType::Regular | tar::EntryType::Continuous => {
                    let shown = format!("/{}", String::from_utf8_lossy(&path));
                    let mut sum = conffiles.contains(&shown).then(md5::Md5::new);
                    let outcome = regular(
                        parent,
                        name,
                        &mut entry,
                        &mut buffer,
                        sum.as_mut(),
                        (uid, gid, mode, mtime),
                    );
                    held.bytes += outcome.as_ref().copied().unwrap_or(0);
                    if let Some(sum) = sum {
                        held.conffiles.insert(shown, hex(&sum.finalize()));
                    }
                    outcome.map(|_| ())
                }
                tar::EntryType::Symlink => symlink(parent, name, &entry, (uid, gid, mtime)),
                tar::EntryType::Link => {
                    let target = clean(
                        &entry.link_name_bytes().ok_or_else(|| wrong(&path, "links to nothing"))?,
                    )?;
                    if skipped.contains(&target) {
                        Ok(())
                    } else {
                        self.hard_link(parent, name, &target)
                    }
                }
                tar::EntryType::Fifo => fifo(parent, name, (uid, gid, mode, mtime)),
                _ => return Err(wrong(&path, "is of a kind that packages do not have")),
            };
            written.map_err(|e| at(&path, e))?;
        }
        Ok(held)
    }

    fn hard_link(&self, parent: BorrowedFd<'_>, name: &[u8], target: &[u8]) -> io::Result<()> {
        let (from, from_name) = split(target);
        let from = self.directory(from)?;
        Ok(rustix::fs::linkat(&from, from_name, parent, name, AtFlags::empty())?)
    }

    /// Gives the directories owner, mode and time: the first in `directories` that names a
    /// directory decides.
    pub(super) fn settle(
        &self,
        directories: &mut dyn Iterator<Item = &Directory>,
        mtime: i64,
    ) -> io::Result<()> {
        let mut seen: HashMap<(u64, u64), ()> = HashMap::new();
        for directory in directories {
            let (parent, name) = split(&directory.path);
            // Where the path itself is a symlink, its target is somebody else's directory.
            if !name.is_empty() {
                let stat =
                    rustix::fs::statat(&self.directory(parent)?, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    continue;
                }
            }
            let fd = self.directory(&directory.path)?;
            let stat = rustix::fs::fstat(&fd)?;
            if seen.insert((stat.st_dev, stat.st_ino), ()).is_some() {
                continue;
            }
            let fd = rustix::fs::openat(
                &fd,
                ".",
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            finish(&File::from(fd), directory.uid, directory.gid, directory.mode, mtime)
                .map_err(|e| at(&directory.path, e))?;
        }
        Ok(())
    }
}

fn regular(
    parent: BorrowedFd<'_>,
    name: &[u8],
    entry: &mut dyn Read,
    buffer: &mut [u8],
    mut sum: Option<&mut md5::Md5>,
    (uid, gid, mode, mtime): (u32, u32, u32, i64),
) -> io::Result<u64> {
    let mut file = create(parent, name)?;
    let mut size = 0;
    loop {
        let n = entry.read(buffer)?;
        if n == 0 {
            break;
        }
        if let Some(sum) = sum.as_mut() {
            sum.update(&buffer[..n]);
        }
        file.write_all(&buffer[..n])?;
        size += n as u64;
    }
    finish(&file, uid, gid, mode, mtime)?;
    Ok(size)
}

fn symlink<R: Read>(
    parent: BorrowedFd<'_>,
    name: &[u8],
    entry: &tar::Entry<'_, R>,
    (uid, gid, mtime): (u32, u32, i64),
) -> io::Result<()> {
    let target = entry
        .link_name_bytes()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it points nowhere"))?;
    if let Err(error) = rustix::fs::symlinkat(&*target, parent, name) {
        // base-files of trixie ships the very links that `merge_usr` made.
        let same = error == rustix::io::Errno::EXIST
            && rustix::fs::readlinkat(parent, name, vec![]).is_ok_and(|t| t.as_bytes() == &*target);
        if !same {
            return Err(error.into());
        }
    }
    owned(parent, name, uid, gid)?;
    Ok(rustix::fs::utimensat(parent, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn fifo(
    parent: BorrowedFd<'_>,
    name: &[u8],
    (uid, gid, mode, mtime): (u32, u32, u32, i64),
) -> io::Result<()> {
    rustix::fs::mknodat(parent, name, FileType::Fifo, Mode::from_raw_mode(mode), 0)?;
    owned(parent, name, uid, gid)?;
    rustix::fs::chmodat(parent, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
    Ok(rustix::fs::utimensat(parent, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Two packages with the same file would make the result depend on who came first: that is an
/// error, not a race.
fn create(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600)) {
        Ok(fd) => Ok(File::from(fd)),
        Err(rustix::io::Errno::EXIST) => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "another package has the same file"))
        }
        Err(error) => Err(error.into()),
    }
}

fn finish(file: &File, uid: u32, gid: u32, mode: u32, mtime: i64) -> io::Result<()> {
    // Owner first: a change of owner clears setuid.
    rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?;
    Ok(rustix::fs::futimens(file, &times(mtime))?)
}

fn owned(parent: BorrowedFd<'_>, name: &[u8], uid: u32, gid: u32) -> io::Result<()> {
    Ok(rustix::fs::chownat(
        parent,
        name,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// `./usr/bin/` → `usr/bin`. Names that climb, or are empty inside, are refused.
fn clean(raw: &[u8]) -> io::Result<Vec<u8>> {
    let mut parts = vec![];
    for part in raw.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(wrong(raw, "climbs out of the root")),
            part if part.contains(&0) || part.contains(&b'\n') => {
                return Err(wrong(raw, "has a name that dpkg cannot record"));
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn wrong(path: &[u8], what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{:?} {what}", String::from_utf8_lossy(path)),
    )
}

fn at(path: &[u8], error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("/{}: {error}", String::from_utf8_lossy(path)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    /// Entries as `(type, path, link or text)`; owners are ours, so that no test needs root.
    fn archive(entries: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let mut builder = tar::Builder::new(vec![]);
        for (kind, path, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(if kind.is_dir() { 0o755 } else { 0o640 });
            header.set_uid(uid.into());
            header.set_gid(gid.into());
            header.set_mtime(1000);
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            let body: &[u8] = if *kind == tar::EntryType::Regular { text.as_bytes() } else { b"" };
            if body.is_empty() {
                header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
            }
            header.set_size(body.len() as u64);
            header.set_cksum();
            builder.append(&header, body).expect("memory");
        }
        builder.into_inner().expect("memory")
    }

    fn unpack(
        root: &std::path::Path,
        entries: &[(tar::EntryType, &str, &str)],
    ) -> io::Result<Held> {
        let bytes = archive(entries);
        let mut reader = &bytes[..];
        let mut archive = tar::Archive::new(&mut reader as &mut dyn Read);
        let conffiles = HashSet::from(["/etc/conf".to_owned()]);
        Root::open(root)?.unpack(&mut archive, &conffiles, &Filter::none(), &|| false)
    }

    use tar::EntryType as T;

    #[test]
    fn trees_come_out_as_packed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let held = unpack(
            dir.path(),
            &[
                (T::Directory, "./", ""),
                (T::Directory, "./etc/", ""),
                (T::Regular, "./etc/conf", "text"),
                (T::Link, "./etc/hard", "./etc/conf"),
                (T::Symlink, "./etc/soft", "/etc/conf"),
                (T::Regular, "./new/parent/file", "x"),
                (T::Fifo, "./pipe", ""),
            ],
        )
        .expect("well-formed");
        assert_eq!(
            String::from_utf8_lossy(&held.list),
            "/.\n/etc\n/etc/conf\n/etc/hard\n/etc/soft\n/new/parent/file\n/pipe\n"
        );
        assert_eq!(held.conffiles["/etc/conf"], "1cb251ec0d568de6a929b520c4aed8d1");
        let meta = dir.path().join("etc/hard").metadata().expect("there");
        assert_eq!((meta.nlink(), meta.mode() & 0o7777, meta.mtime()), (2, 0o640, 1000));
        assert_eq!(
            std::fs::read_link(dir.path().join("etc/soft")).expect("there").to_str(),
            Some("/etc/conf")
        );
        assert_eq!((held.entries, held.bytes), (7, 5));
    }

    #[test]
    fn a_symlink_to_a_directory_is_kept() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir_all(dir.path().join("usr/bin")).expect("writable");
        std::os::unix::fs::symlink("usr/bin", dir.path().join("bin")).expect("writable");
        unpack(
            dir.path(),
            &[
                (T::Directory, "./bin/", ""),
                (T::Regular, "./bin/sh", "x"),
                (T::Symlink, "./bin", "usr/bin"),
            ],
        )
        .expect("as packages do");
        assert!(dir.path().join("bin").is_symlink() && dir.path().join("usr/bin/sh").is_file());
    }

    #[test]
    fn nothing_leaves_the_root() {
        let outside = tempfile::tempdir().expect("a temporary directory");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let away = outside.path().to_str().expect("ASCII").to_owned();
        // An absolute link is resolved inside the root: there is no such directory there.
        let _ =
            unpack(dir.path(), &[(T::Symlink, "./out", &away), (T::Regular, "./out/file", "x")]);
        let _ = unpack(
            dir.path(),
            &[
                (T::Symlink, "./up", "../../../../../../../tmp"),
                (T::Regular, "./up/file-of-a-hostile-package", "x"),
            ],
        );
        assert_eq!(std::fs::read_dir(outside.path()).expect("there").count(), 0);
        assert!(!std::path::Path::new("/tmp/file-of-a-hostile-package").exists());
        for entries in [
            &[(T::Regular, "./../file", "x")][..],
            &[(T::Regular, "../file", "x")],
            &[(T::Link, "./a", "../../etc/passwd")],
            &[(T::Link, "./a", "./missing")],
            &[(T::Char, "./null", "")],
            &[(T::Block, "./disk", "")],
            &[(T::Regular, "./twice", "x"), (T::Regular, "./twice", "y")],
            &[(T::Symlink, "./l", "target"), (T::Regular, "./l", "through")],
            &[(T::Regular, "./new\nline", "x")],
            &[(T::Regular, "./", "x")],
        ] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            assert!(unpack(dir.path(), entries).is_err(), "{entries:?}");
        }
    }

    #[test]
    fn the_first_word_on_a_directory_stands() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = Root::open(dir.path()).expect("there");
        root.make_directory(b"a/b").expect("writable");
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let directory = |mode| Directory { path: b"a/b".to_vec(), mode, uid, gid };
        root.settle(&mut [directory(0o1777), directory(0o700)].iter(), 77).expect("ours");
        let meta = dir.path().join("a/b").metadata().expect("there");
        assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o1777, 77));
    }
}
