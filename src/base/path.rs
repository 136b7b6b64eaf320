//! A tar or a directory of the context as a base: named by its digest, and unpacked in the sandbox.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::Value;

use super::{Error, PinnedPath, cannot, directory};
use crate::archive::{Action, Call, ImageForm, Job, JobContext, Reply};
use crate::digest::{Digest, HashReader};
use crate::files::{self, FileStamp, FileTime, Links, RootDir};
use crate::layer;
use crate::recipe::Modes;
use crate::sandbox::CallError;
use crate::threads;

/// How the note begins of what a tar looked like when it was read, and which digest it had.
const NOTE: &str = "bake tar 1";

/// Returns the digest of a tar (its bytes) or a directory (its tree, but for times). Of a tar that
/// looks as it did when it was read last, the digest is the one noted in the directory `cache`
/// then: whoever unpacks it reads and compares every byte.
pub(super) fn digest(path: &Path, modes: Modes, cache: &Path) -> Result<Digest, Error> {
    let meta = fs::metadata(path).map_err(cannot("read", path))?;
    if meta.is_dir() {
        return directory::digest(path, modes).map_err(cannot("read", path));
    }
    let when = SystemTime::now();
    let file = File::open(path).map_err(cannot("read", path))?;
    let look = |file: &File| {
        rustix::fs::fstat(file)
            .map(|stat| FileStamp::of(&stat))
            .map_err(|e| cannot("read", path)(e.into()))
    };
    let stamp = look(&file)?;
    // What is no regular file may give something else each time.
    let note = path
        .canonicalize()
        .ok()
        .filter(|_| meta.is_file())
        .map(|path| Digest::of(path.as_os_str().as_bytes()).hex());
    let note = note.map(|name| cache.join("path").join(name));
    if let Some(known) = note.as_deref().and_then(|note| noted(note, &stamp)) {
        return Ok(known);
    }
    let mut reader = HashReader::new(file);
    copy(&mut reader, &mut io::sink()).map_err(cannot("read", path))?;
    let (file, digest, _) = reader.finish();
    if let Some(note) = note
        && stamp.settled(when)
        && look(&file)? == stamp
    {
        // Without it the next build takes longer.
        let _ = write_note(&note, &format!("{} {digest}\n", words(&stamp)));
    }
    Ok(digest)
}

fn noted(note: &Path, stamp: &FileStamp) -> Option<Digest> {
    let file = File::open(note).ok()?;
    let mut text = String::new();
    (&file).take(1 << 10).read_to_string(&mut text).ok()?;
    let digest = text.strip_prefix(&words(stamp))?.trim().parse().ok()?;
    files::mark_used(&file);
    Some(digest)
}

fn words(stamp: &FileStamp) -> String {
    let FileStamp { device, inode, size, modified, changed } = *stamp;
    let time = |FileTime { seconds, nanos }: FileTime| format!("{seconds}.{nanos}");
    format!("{NOTE} {device} {inode} {size} {} {}", time(modified), time(changed))
}

fn write_note(note: &Path, text: &str) -> Result<(), files::Error> {
    let fail = |source| files::system("write", note, source);
    let directory = note.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(fail)?;
    let mut aside = files::Aside::new(directory)?;
    aside.write_all(text.as_bytes()).map_err(fail)?;
    aside.keep_unsynced(note, 0o600).map(|_| ())
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
        Err(error) => Err(cannot("read", &full)(io::Error::new(error.kind(), error))),
    }
}

/// Unpacks the base into `upper`, and checks on the way that it is still what was pinned.
pub(super) fn build(
    pin: &PinnedPath,
    epoch: i64,
    context: &Path,
    upper: &Path,
    jobs: &JobContext<'_>,
) -> Result<(), Error> {
    let path = held(context, &pin.path)?;
    let is_directory = fs::metadata(&path).map_err(cannot("read", &path))?.is_dir();
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| cannot("read", &path)(e.into()))?;
    let inside = jobs.inside(upper)?;
    std::thread::scope(|scope| {
        let path = &path;
        let pump = threads::scoped(scope, move || -> io::Result<Digest> {
            let mut pipe = io::BufWriter::with_capacity(1 << 16, File::from(writer));
            let digest = if is_directory {
                directory::write(path, pin.modes, epoch, &mut pipe)?
            } else {
                let mut reader = HashReader::new(File::open(path)?);
                copy(&mut reader, &mut pipe)?;
                reader.finish().1
            };
            pipe.flush()?;
            Ok(digest)
        })
        .map_err(cannot("start a thread for", path))?;
        let call = Call::UnpackArchive { into: inside, archive: reader.into() };
        let job = Job::bare(Action::call(call));
        let ended =
            jobs.run(&format!("unpacking {}", pin.path.display()), job, &mut |_| {}, &mut |_| {});
        let found =
            pump.join().unwrap_or_else(|_| Err(io::Error::other("the reading thread died")));
        match (ended, found) {
            // The reader went away first: its reason is the better one.
            (Err(error), Err(broken)) if broken.kind() == io::ErrorKind::BrokenPipe => {
                Err(error.into())
            }
            (_, Err(source)) => Err(cannot("read", path)(source)),
            (Err(error), Ok(_)) => Err(error.into()),
            (Ok(_), Ok(found)) if found != pin.sha256 => {
                Err(Error::Changed { path: path.clone(), expected: pin.sha256, found })
            }
            (Ok(replies), Ok(_)) => match replies.into_iter().next().flatten() {
                Some(Reply::Archive(Some(what))) => {
                    Err(Error::ImageAsRoot { path: path.clone(), what })
                }
                _ => Ok(()),
            },
        }
    })
}

/// Recognises a tree that is an image by the files at its top.
fn image_form(root: &Path) -> Option<ImageForm> {
    let is_file = |name: &str| fs::symlink_metadata(root.join(name)).is_ok_and(|m| m.is_file());
    if is_file("oci-layout") && is_file("index.json") {
        return Some(ImageForm::Oci);
    }
    if !is_file("manifest.json") {
        return None;
    }
    let mut text = vec![];
    let file = File::open(root.join("manifest.json")).ok()?;
    file.take(1 << 20).read_to_end(&mut text).ok()?;
    let list: Vec<serde_json::Map<String, Value>> = serde_json::from_slice(&text).ok()?;
    let image = |one: &serde_json::Map<String, Value>| {
        one.contains_key("Config") && one.contains_key("Layers")
    };
    (!list.is_empty() && list.iter().all(image)).then_some(ImageForm::Docker)
}

/// Unpacks a (perhaps compressed) tar into the directory `into`, and says what the tree is, if it
/// is an image and no root file system. Runs inside.
pub(super) fn unpack(into: &Path, archive: File) -> Result<Option<ImageForm>, CallError> {
    let failed = |error: layer::Error| CallError::of(&error);
    let mut tar =
        layer::decompress_foreign(Box::new(archive), layer::Ratio::default()).map_err(failed)?;
    let options = layer::Options {
        // Tars of whole systems often hold a /dev.
        devices: layer::Devices::Skip,
        ..layer::Options::layer(layer::Form::Tree)
    };
    layer::unpack_with(&mut *tar, into, &options).map_err(failed)?;
    // Bytes after the end of the archive must be read, or the writer sees a broken pipe.
    copy(&mut *tar, &mut io::sink()).map_err(|error| CallError::of(&error))?;
    Ok(image_form(into))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_that_looks_as_before_is_not_read_again() {
        let (dir, cache) = (
            tempfile::tempdir().expect("a temporary directory"),
            tempfile::tempdir().expect("a temporary directory"),
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
        let found = || super::digest(&path, Modes::Checkout, cache.path()).expect("readable");
        let notes = || fs::read_dir(cache.path().join("path")).map_or(0, Iterator::count);
        set("one", SystemTime::now());
        assert_eq!(
            (found(), notes()),
            (Digest::of("one"), 0),
            "it may still change without a trace"
        );
        // As if it had been read long after it was written: a note that says something else shows
        // whether it is believed.
        let stamp = |path: &Path| FileStamp::of(&rustix::fs::stat(path).expect("there"));
        let note = cache
            .path()
            .join("path")
            .join(Digest::of(path.canonicalize().expect("there").as_os_str().as_bytes()).hex());
        let lie = || {
            write_note(&note, &format!("{} {}\n", words(&stamp(&path)), Digest::of("lie")))
                .expect("writable")
        };
        lie();
        assert_eq!(found(), Digest::of("lie"));
        let old = fs::metadata(&path).expect("there").modified().expect("a time");
        for text in ["two", "three"] {
            lie();
            // Same time, and once the same size: the time of change shows it, as soon as its clock
            // has moved on.
            let before = stamp(&path);
            while stamp(&path) == before {
                set(text, old);
            }
            assert_eq!(found(), Digest::of(text));
        }
        for damaged in [
            "",
            "bake tar 2 1 1 1 1.1 1.1 sha256:00\n",
            &words(&stamp(&path)),
            &format!("{} sha256:zz", words(&stamp(&path))),
        ] {
            fs::write(&note, damaged).expect("writable");
            assert_eq!(found(), Digest::of("three"), "{damaged:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = super::digest(
            Path::new("/nonexistent/base.tar"),
            Modes::Checkout,
            Path::new("/nonexistent"),
        )
        .expect_err("missing");
        assert_eq!(error.to_string(), "cannot read /nonexistent/base.tar");
    }
}
