//! A tar or a folder of the context as base. A folder is turned into a canonical tar on the way:
//! sorted, owners relative to the folder's owner (who is root in the image), times set by us, so
//! that two checkouts of one tree are one base.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::{Error, PinnedPath};
use crate::archive::JobContext;
use crate::digest::{Digest, HashReader, HashWriter};
use crate::event::chain;
use crate::files::{self, Links, Mark, Moment, RootDir};
use crate::layer;
use crate::sandbox::{Action, Call, CallIo, Job, Network};

/// How the note begins of what a tar looked like when it was read, and which digest it had.
const NOTE: &str = "bake tar 1";

/// Returns the digest of a tar (its bytes) or a folder (its tree, but for times). Of a tar that
/// looks as it did when it was read last, the digest is the one noted in the folder `cache` then:
/// whoever unpacks it reads and compares every byte.
pub(super) fn digest(path: &Path, cache: &Path) -> Result<Digest, Error> {
    let meta = fs::metadata(path).map_err(Error::file("read", path))?;
    if meta.is_dir() {
        return tree(path).map_err(Error::file("read", path));
    }
    let when = SystemTime::now();
    let file = File::open(path).map_err(Error::file("read", path))?;
    let look = |file: &File| {
        rustix::fs::fstat(file)
            .map(|stat| Mark::of(&stat))
            .map_err(|e| Error::file("read", path)(e.into()))
    };
    let mark = look(&file)?;
    // What is no regular file may give something else each time.
    let note = path
        .canonicalize()
        .ok()
        .filter(|_| meta.is_file())
        .map(|path| Digest::of(path.as_os_str().as_bytes()).hex());
    let note = note.map(|name| cache.join("path").join(name));
    if let Some(known) = note.as_deref().and_then(|note| noted(note, &mark)) {
        return Ok(known);
    }
    let mut reader = HashReader::new(file);
    copy(&mut reader, &mut io::sink()).map_err(Error::file("read", path))?;
    let (file, digest, _) = reader.finish();
    if let Some(note) = note
        && mark.settled(when)
        && look(&file)? == mark
    {
        // Without it the next build takes longer.
        let _ = write_note(&note, &format!("{} {digest}\n", words(&mark)));
    }
    Ok(digest)
}

fn noted(note: &Path, mark: &Mark) -> Option<Digest> {
    let file = File::open(note).ok()?;
    let mut text = String::new();
    (&file).take(1 << 10).read_to_string(&mut text).ok()?;
    let digest = text.strip_prefix(&words(mark))?.trim().parse().ok()?;
    files::mark_used(&file);
    Some(digest)
}

fn words(mark: &Mark) -> String {
    let Mark { device, inode, size, modified, changed } = *mark;
    let time = |Moment { seconds, nanos }: Moment| format!("{seconds}.{nanos}");
    format!("{NOTE} {device} {inode} {size} {} {}", time(modified), time(changed))
}

fn write_note(note: &Path, text: &str) -> Result<(), files::Error> {
    let fail = |source| files::system("write", note, source);
    let folder = note.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(fail)?;
    let mut aside = files::Aside::new(folder)?;
    aside.write_all(text.as_bytes()).map_err(fail)?;
    aside.keep_unsynced(note, 0o600).map(|_| ())
}

fn tree(folder: &Path) -> io::Result<Digest> {
    let mut writer = HashWriter::new(io::sink());
    stream(folder, 0, &mut writer)?;
    Ok(writer.finish().1)
}

/// Returns where the base is. Symlinks may lead to it, but not out of the context.
pub(super) fn held(context: &Path, path: &Path) -> Result<PathBuf, Error> {
    let full = context.join(path);
    if path == Path::new(".") {
        return Ok(full);
    }
    match RootDir::open(context, Links::Beneath).and_then(|dir| dir.stat(path)) {
        Ok(_) => Ok(full),
        Err(files::Error::Outside { link, .. }) => {
            Err(Error::Outside { path: path.to_owned(), link })
        }
        Err(error) => Err(Error::File {
            doing: "read",
            path: full,
            source: io::Error::new(error.kind(), error),
        }),
    }
}

/// Unpacks the base into `upper`, and checks on the way that it is still what was pinned.
pub(super) fn build(
    pin: &PinnedPath,
    epoch: i64,
    context: &Path,
    upper: &Path,
    shop: &JobContext<'_>,
) -> Result<(), Error> {
    let path = held(context, &pin.path)?;
    let folder = fs::metadata(&path).map_err(Error::file("read", &path))?.is_dir();
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| Error::file("read", &path)(e.into()))?;
    let inside = shop.inside(upper)?;
    std::thread::scope(|scope| {
        let path = &path;
        let pump = scope.spawn(move || -> io::Result<Digest> {
            let mut pipe = io::BufWriter::with_capacity(1 << 16, File::from(writer));
            let digest = if folder {
                stream(path, epoch, &mut pipe)?;
                // Once more: the stream above has other times in it, and the folder may have
                // changed since it was pinned.
                tree(path)?
            } else {
                let mut reader = HashReader::new(File::open(path)?);
                copy(&mut reader, &mut pipe)?;
                reader.finish().1
            };
            pipe.flush()?;
            Ok(digest)
        });
        let call = Call { name: "base.unpack", args: json!({ "into": inside }), fds: vec![reader] };
        let job = Job {
            root: None,
            mounts: vec![],
            files: vec![],
            hostname: "bake".to_owned(),
            network: Network::None,
            actions: vec![Action::Call(call)],
        };
        let ended =
            shop.run(&format!("unpacking {}", pin.path.display()), job, &mut |_| {}, &mut |_| {});
        let found =
            pump.join().unwrap_or_else(|_| Err(io::Error::other("the reading thread died")));
        match (ended, found) {
            // The reader went away first: its reason is the better one.
            (Err(error), Err(broken)) if broken.kind() == io::ErrorKind::BrokenPipe => {
                Err(error.into())
            }
            (_, Err(source)) => Err(Error::File { doing: "read", path: path.clone(), source }),
            (Err(error), Ok(_)) => Err(error.into()),
            (Ok(_), Ok(found)) if found != pin.sha256 => {
                Err(Error::Changed { path: path.clone(), expected: pin.sha256, found })
            }
            (Ok(_), Ok(_)) => Ok(()),
        }
    })
}

/// The chore `base.unpack`: unpacks the (perhaps compressed) tar in the first file into the folder
/// `into`.
pub(super) fn chore(io: CallIo<'_>) -> Result<Value, String> {
    let into: PathBuf =
        serde_json::from_value(io.args["into"].clone()).map_err(|e| e.to_string())?;
    let file = io.fds.into_iter().next().ok_or("no file was handed over")?;
    let mut tar =
        layer::decompress_foreign(Box::new(file), layer::Ratio::default()).map_err(told)?;
    // Tars of whole systems often hold a /dev.
    let options = layer::Options {
        devices: layer::Devices::Skip,
        ..layer::Options::layer(layer::Form::Tree)
    };
    let packed = layer::unpack_with(&mut *tar, &into, &options).map_err(told)?;
    // Bytes after the end of the archive must be read, or the writer sees a broken pipe.
    copy(&mut *tar, &mut io::sink()).map_err(|e| e.to_string())?;
    serde_json::to_value(packed).map_err(|e| e.to_string())
}

fn told(error: impl std::error::Error) -> String {
    chain(&error).join(": ")
}

fn copy(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            n => to.write_all(&buffer[..n])?,
        }
    }
}

/// Writes the folder as a tar with the time `mtime` everywhere. With 0 it is the folder's canonical
/// form, whose sha256 names it.
fn stream(folder: &Path, mtime: i64, out: &mut dyn Write) -> io::Result<()> {
    let top = fs::metadata(folder)?;
    let mut names = vec![];
    for entry in walkdir::WalkDir::new(folder).min_depth(1) {
        let entry = entry.map_err(io::Error::from)?;
        names.push(
            entry
                .path()
                .strip_prefix(folder)
                .map_err(io::Error::other)?
                .as_os_str()
                .as_bytes()
                .to_vec(),
        );
    }
    names.sort_by(|a, b| layer::compare(a, b));
    let mut links: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut tar = layer::Builder::new(out, mtime);
    for name in names {
        let path = folder.join(OsStr::from_bytes(&name));
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
        let refused = |what: &str| named(io::Error::new(io::ErrorKind::InvalidInput, what));
        let file = fs::symlink_metadata(&path).map_err(named)?;
        let kind = file.file_type();
        let meta = layer::Meta {
            mode: if kind.is_symlink() { 0o777 } else { file.mode() & 0o7777 },
            uid: owner(file.uid(), top.uid()).map_err(named)?,
            gid: owner(file.gid(), top.gid()).map_err(named)?,
            mtime,
            xattrs: xattrs(&path).map_err(named)?,
        };
        let written = if kind.is_dir() {
            tar.dir(&name, &meta)
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(named)?;
            tar.symlink(&name, &meta, target.as_os_str().as_bytes())
        } else if kind.is_fifo() {
            tar.fifo(&name, &meta)
        } else if kind.is_socket() {
            continue;
        } else if !kind.is_file() {
            return Err(refused("a base folder cannot hold devices"));
        } else if let Some(first) = links.get(&(file.dev(), file.ino())) {
            tar.link(&name, &meta, first)
        } else {
            if file.nlink() > 1 {
                links.insert((file.dev(), file.ino()), name.clone());
            }
            tar.file(&name, &meta, file.len(), &mut File::open(&path).map_err(named)?)
        };
        written.map_err(|error| unwrapped(error, &path))?;
    }
    tar.finish().map_err(|error| unwrapped(error, folder))?;
    Ok(())
}

/// A broken pipe must be told from a folder that cannot be read.
fn unwrapped(error: layer::Error, path: &Path) -> io::Error {
    let kind = std::error::Error::source(&error)
        .and_then(|s| s.downcast_ref::<io::Error>())
        .map_or(io::ErrorKind::Other, io::Error::kind);
    io::Error::new(kind, format!("{}: {}", path.display(), told(error)))
}

/// The folder's owner is root in the image. In a folder of root's, others keep their ids; else
/// nobody else may own anything.
fn owner(id: u32, top: u32) -> io::Result<u32> {
    match id {
        _ if id == top => Ok(0),
        _ if top == 0 => Ok(id),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it belongs to somebody else than the folder",
        )),
    }
}

fn xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("below")).expect("writable");
            fs::write(&path, text).expect("writable");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("ours");
        };
        write("etc/conf", "text");
        write(&format!("deep/{}/{}", "x".repeat(90), "y".repeat(90)), "long");
        fs::hard_link(dir.path().join("etc/conf"), dir.path().join("etc/hard"))
            .expect("one file system");
        std::os::unix::fs::symlink("conf", dir.path().join("etc/soft")).expect("writable");
        dir
    }

    #[test]
    fn a_folder_is_its_tree_and_not_its_times() {
        let (one, two, cache) = (tree(), tree(), tempfile::tempdir().expect("a temporary folder"));
        let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        File::open(two.path().join("etc/conf")).expect("there").set_times(old).expect("ours");
        let digest = super::digest(one.path(), cache.path()).expect("readable");
        assert_eq!(super::digest(two.path(), cache.path()).expect("readable"), digest);
        for change in [
            &(|p: &Path| fs::write(p.join("etc/conf"), "TEXT")) as &dyn Fn(&Path) -> io::Result<()>,
            &|p| fs::set_permissions(p.join("etc/conf"), fs::Permissions::from_mode(0o600)),
            &|p| fs::rename(p.join("etc/soft"), p.join("etc/softer")),
            &|p| fs::remove_file(p.join("etc/hard")),
            &|p| fs::create_dir(p.join("new")),
        ] {
            let changed = tree();
            change(changed.path()).expect("ours");
            assert_ne!(super::digest(changed.path(), cache.path()).expect("readable"), digest);
        }
    }

    #[test]
    fn the_stream_is_a_tar_that_others_read() {
        let dir = tree();
        let mut bytes = vec![];
        stream(dir.path(), 7, &mut bytes).expect("readable");
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut names = vec![];
        for entry in archive.entries().expect("a tar") {
            let entry = entry.expect("a tar");
            assert_eq!(
                (entry.header().mtime().ok(), entry.header().uid().ok()),
                (Some(7), Some(0))
            );
            names.push((
                entry.header().entry_type(),
                String::from_utf8_lossy(&entry.path_bytes()).into_owned(),
            ));
        }
        let long = format!("deep/{}/{}", "x".repeat(90), "y".repeat(90));
        assert!(names.contains(&(tar::EntryType::Regular, long)), "{names:?}");
        assert!(names.contains(&(tar::EntryType::Link, "etc/hard".to_owned())), "{names:?}");
    }

    #[test]
    fn a_tar_that_looks_as_before_is_not_read_again() {
        let (dir, cache) = (
            tempfile::tempdir().expect("a temporary folder"),
            tempfile::tempdir().expect("a temporary folder"),
        );
        let path = dir.path().join("base.tar");
        let set = |text: &str, time: SystemTime| {
            fs::write(&path, text).expect("writable");
            File::options()
                .write(true)
                .open(&path)
                .expect("ours")
                .set_modified(time)
                .expect("ours");
        };
        let found = || super::digest(&path, cache.path()).expect("readable");
        let notes = || fs::read_dir(cache.path().join("path")).map_or(0, Iterator::count);
        set("one", SystemTime::now());
        assert_eq!(
            (found(), notes()),
            (Digest::of("one"), 0),
            "it may still change without a trace"
        );
        // As if it had been read long after it was written: a note that says something else shows
        // whether it is believed.
        let mark = |path: &Path| Mark::of(&rustix::fs::stat(path).expect("there"));
        let note = cache
            .path()
            .join("path")
            .join(Digest::of(path.canonicalize().expect("there").as_os_str().as_bytes()).hex());
        let lie = || {
            write_note(&note, &format!("{} {}\n", words(&mark(&path)), Digest::of("lie")))
                .expect("writable")
        };
        lie();
        assert_eq!(found(), Digest::of("lie"));
        let old = fs::metadata(&path).expect("there").modified().expect("a time");
        for text in ["two", "three"] {
            lie();
            // Same time, and once the same size: the time of change tells, as soon as its clock has
            // moved on.
            let before = mark(&path);
            while mark(&path) == before {
                set(text, old);
            }
            assert_eq!(found(), Digest::of(text));
        }
        for damaged in [
            "",
            "bake tar 2 1 1 1 1.1 1.1 sha256:00\n",
            &words(&mark(&path)),
            &format!("{} sha256:zz", words(&mark(&path))),
        ] {
            fs::write(&note, damaged).expect("writable");
            assert_eq!(found(), Digest::of("three"), "{damaged:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = super::digest(Path::new("/nonexistent/base.tar"), Path::new("/nonexistent"))
            .expect_err("missing");
        assert_eq!(error.to_string(), "cannot read /nonexistent/base.tar");
    }
}
