//! A directory of the context as a base, written as a canonical tar: sorted names, owners relative
//! to the directory's owner (who is root in the image), one time everywhere, and modes that do not
//! depend on the umask of whoever checked the directory out. Two checkouts of one tree are one
//! base.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::digest::{Digest, HashReader, Hasher};
use crate::event::chain;
use crate::layer;
use crate::recipe::Modes;

/// setuid, setgid, sticky.
const SPECIAL: u32 = 0o7000;

/// Names the directory: its paths, kinds, modes, owners, attributes and contents, whatever their
/// times.
pub(super) fn digest(directory: &Path, modes: Modes) -> io::Result<Digest> {
    write(directory, modes, 0, &mut io::sink())
}

/// Writes the directory as a canonical tar in which everything has the time `mtime`. Returns what
/// names the very bytes that were written, as [`digest`] does: each file is opened once.
pub(super) fn write(
    directory: &Path,
    modes: Modes,
    mtime: i64,
    out: &mut dyn Write,
) -> io::Result<Digest> {
    let top = fs::metadata(directory)?;
    let mut all = Hasher::new();
    let mut links: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut tar = layer::Builder::new(out, mtime);
    for name in names(directory)? {
        let path = directory.join(OsStr::from_bytes(&name));
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let file = fs::symlink_metadata(&path).map_err(named)?;
        let kind = file.file_type();
        let meta = layer::Metadata {
            mode: mode(&file, modes).map_err(named)?,
            uid: owner(file.uid(), top.uid()).map_err(named)?,
            gid: owner(file.gid(), top.gid()).map_err(named)?,
            mtime,
            xattrs: attributes(&path).map_err(named)?,
        };
        let (what, content): (&[u8], Vec<u8>);
        let written = if kind.is_dir() {
            (what, content) = (b"directory", vec![]);
            tar.dir(&name, &meta)
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(named)?.into_os_string().into_vec();
            (what, content) = (b"symlink", target);
            tar.symlink(&name, &meta, &content)
        } else if kind.is_fifo() {
            (what, content) = (b"fifo", vec![]);
            tar.fifo(&name, &meta)
        } else if kind.is_socket() {
            continue;
        } else if !kind.is_file() {
            return Err(named(refused("a base directory cannot hold devices")));
        } else if let Some(first) = links.get(&(file.dev(), file.ino())) {
            (what, content) = (b"link", first.clone());
            tar.link(&name, &meta, first)
        } else {
            if file.nlink() > 1 {
                links.insert((file.dev(), file.ino()), name.clone());
            }
            let mut bytes = HashReader::new(File::open(&path).map_err(named)?);
            let written = tar.file(&name, &meta, file.len(), &mut bytes);
            (what, content) = (b"file", bytes.finish().1.as_bytes().to_vec());
            written
        };
        written.map_err(|error| unwrapped(error, &path))?;
        for field in [&name[..], what, &content] {
            add(&mut all, field);
        }
        for number in [meta.mode, meta.uid, meta.gid] {
            all.update(&number.to_be_bytes());
        }
        all.update(&(meta.xattrs.len() as u64).to_be_bytes());
        meta.xattrs.iter().flat_map(|(name, value)| [name, value]).for_each(|f| add(&mut all, f));
    }
    tar.finish().map_err(|error| unwrapped(error, directory))?;
    Ok(all.finish())
}

/// Adds a field with its length, so that no two lists of fields are the same bytes.
fn add(all: &mut Hasher, field: &[u8]) {
    all.update(&(field.len() as u64).to_be_bytes());
    all.update(field);
}

/// Returns the paths of everything below the directory, in the order of a layer.
fn names(directory: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut names = vec![];
    for entry in walkdir::WalkDir::new(directory).min_depth(1) {
        let entry = entry.map_err(io::Error::from)?;
        let below = entry.path().strip_prefix(directory).map_err(io::Error::other)?;
        names.push(below.as_os_str().as_bytes().to_vec());
    }
    names.sort_by(|a, b| layer::compare(a, b));
    Ok(names)
}

/// Returns the mode in the image. A version control system records whether a file is executable and
/// nothing else; what the umask has made of the other bits is nobody's intention. Bits that no
/// checkout sets would be lost, which must not happen unsaid.
fn mode(file: &Metadata, modes: Modes) -> io::Result<u32> {
    let (kind, bits) = (file.file_type(), file.mode() & 0o7777);
    if kind.is_symlink() {
        return Ok(0o777);
    }
    if modes == Modes::Kept {
        return Ok(bits);
    }
    // A directory made in one that is setgid is so, too: no more intended than the umask.
    let special = bits & if kind.is_dir() { 0o1000 } else { SPECIAL };
    if special != 0 {
        let what = match special {
            0o1000 => "sticky",
            special if special & 0o4000 != 0 => "setuid",
            _ => "setgid",
        };
        return Err(refused(&format!(
            "it is {what}, which no checkout can hold; `modes = \"kept\"` in [base] takes all \
                modes as they are"
        )));
    }
    Ok(if kind.is_dir() || bits & 0o100 != 0 { 0o755 } else { 0o644 })
}

/// The directory's owner is root in the image. In a directory of root's, others keep their ids;
/// else nobody else may own anything.
fn owner(id: u32, top: u32) -> io::Result<u32> {
    match id {
        _ if id == top => Ok(0),
        _ if top == 0 => Ok(id),
        _ => Err(refused("it belongs to somebody else than the directory")),
    }
}

/// Returns file capabilities and the attributes of programs. ACLs are left out: a checkout has
/// those of the directory it was made in.
fn attributes(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let names = match xattr::list(path) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(found),
        Err(error) => return Err(error),
    };
    for name in names.filter(|n| n == "security.capability" || n.as_bytes().starts_with(b"user.")) {
        if let Some(value) = xattr::get(path, &name)? {
            found.insert(name.as_bytes().to_vec(), value);
        }
    }
    Ok(found)
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// Keeps the kind of the error below: a broken pipe has another meaning than a directory that
/// cannot be read.
fn unwrapped(error: layer::Error, path: &Path) -> io::Error {
    let kind = std::error::Error::source(&error)
        .and_then(|s| s.downcast_ref::<io::Error>())
        .map_or(io::ErrorKind::Other, io::Error::kind);
    io::Error::new(kind, format!("{}: {}", path.display(), chain(&error).join(": ")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("below")).expect("writable");
            fs::write(&path, text).expect("writable");
            set_mode(&path, 0o644).expect("ours");
        };
        write("etc/conf", "text");
        write(&format!("deep/{}/{}", "x".repeat(90), "y".repeat(90)), "long");
        fs::hard_link(dir.path().join("etc/conf"), dir.path().join("etc/hard"))
            .expect("one file system");
        std::os::unix::fs::symlink("conf", dir.path().join("etc/soft")).expect("writable");
        dir
    }

    fn changed(change: &dyn Fn(&Path) -> io::Result<()>, modes: Modes) -> Digest {
        let tree = tree();
        change(tree.path()).expect("ours");
        digest(tree.path(), modes).expect("readable")
    }

    #[test]
    fn a_directory_is_its_tree_and_not_its_times() {
        let before = changed(&|_| Ok(()), Modes::Checkout);
        let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        let aged = |p: &Path| File::open(p.join("etc/conf"))?.set_times(old);
        assert_eq!(changed(&aged, Modes::Checkout), before);
        for change in [
            &(|p: &Path| fs::write(p.join("etc/conf"), "TEXT")) as &dyn Fn(&Path) -> io::Result<()>,
            &|p| set_mode(&p.join("etc/conf"), 0o755),
            &|p| fs::rename(p.join("etc/soft"), p.join("etc/softer")),
            &|p| fs::remove_file(p.join("etc/hard")),
            &|p| fs::create_dir(p.join("new")),
        ] {
            assert_ne!(changed(change, Modes::Checkout), before);
        }
    }

    /// A4
    #[test]
    fn the_umask_of_a_checkout_does_not_count() {
        let before = changed(&|_| Ok(()), Modes::Checkout);
        let masked = |p: &Path| {
            set_mode(&p.join("etc/conf"), 0o640)?;
            set_mode(&p.join("deep"), 0o2750)
        };
        assert_eq!(changed(&masked, Modes::Checkout), before);
        assert_ne!(changed(&masked, Modes::Kept), changed(&|_| Ok(()), Modes::Kept));
        for (mode, what) in [(0o4755, "setuid"), (0o2755, "setgid")] {
            let tree = tree();
            set_mode(&tree.path().join("etc/conf"), mode).expect("ours");
            let error = digest(tree.path(), Modes::Checkout).expect_err("refused").to_string();
            assert!(error.contains("etc/conf: it is ") && error.contains(what), "{error}");
            digest(tree.path(), Modes::Kept).expect("kept");
        }
        let tree = tree();
        set_mode(&tree.path().join("etc"), 0o1777).expect("ours");
        assert!(digest(tree.path(), Modes::Checkout).is_err(), "a sticky directory");
    }

    /// A1
    #[test]
    fn what_is_named_is_what_was_written() {
        /// Edits a file as soon as something is written, before its turn.
        struct Editing<'a>(&'a Path);
        impl Write for Editing<'_> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                fs::write(self.0, "TEXT")?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let dir = tree();
        // More than is held back before it is written.
        fs::write(dir.path().join("a"), vec![0; 4 << 20]).expect("ours");
        let before = digest(dir.path(), Modes::Checkout).expect("readable");
        let path = dir.path().join("etc/conf");
        let during = write(dir.path(), Modes::Checkout, 7, &mut Editing(&path)).expect("readable");
        // Put back before anybody looks again, and yet noticed.
        fs::write(&path, "text").expect("ours");
        assert_ne!(during, before);
        assert_eq!(digest(dir.path(), Modes::Checkout).expect("readable"), before);
        assert_eq!(
            write(dir.path(), Modes::Checkout, 7, &mut io::sink()).expect("readable"),
            before
        );
    }

    #[test]
    fn others_read_it_as_a_tar() {
        let dir = tree();
        let mut bytes = vec![];
        write(dir.path(), Modes::Checkout, 7, &mut bytes).expect("readable");
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut names = vec![];
        for entry in archive.entries().expect("a tar") {
            let entry = entry.expect("a tar");
            let header = entry.header();
            assert_eq!((header.mtime().ok(), header.uid().ok()), (Some(7), Some(0)));
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            names.push((header.entry_type(), name));
        }
        let long = format!("deep/{}/{}", "x".repeat(90), "y".repeat(90));
        assert!(names.contains(&(tar::EntryType::Regular, long)), "{names:?}");
        assert!(names.contains(&(tar::EntryType::Link, "etc/hard".to_owned())), "{names:?}");
    }
}
