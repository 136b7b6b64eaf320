//! A source for systemd-sysupdate(8): versioned files in a directory that any web server serves,
//! and `SHA256SUMS`, which says which of them there are.
//!
//! ```text
//! DIR/
//!   web_1.0.0.tar web_2.0.0.tar
//!   SHA256SUMS                  a line a file, sorted: the truth
//! ```
//! A version's file is there whole before `SHA256SUMS` names it, and one that goes is removed after
//! it does not. What a killed run left is removed by the next one: `NAME_VERSION.EXTENSION` of an
//! image that is exported belongs to bake. Other files, and what `SHA256SUMS` says of them, stay.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use self::sums::{SUMS, Sums};
use super::error::{Error, system};
use super::filesystem::Tools;
use super::options::{Exported, Format, Options, Remark, Source};
use super::place::NewFile;
use crate::digest::{Digest, HashWriter};
use crate::files::{create_dirs, write_whole};

mod sums;
mod version;

/// A source after an export into it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Updated {
    /// The files of the exported versions, as they are called there.
    pub files: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
    /// Files of older versions that have gone.
    pub removed: Vec<String>,
    /// What the person should know of them.
    pub remarks: Vec<Remark>,
}

/// Adds versions to the source `dir`, each as a file of `format`, and keeps the newest `keep` of
/// each image.
///
/// # Errors
/// Where a version has a name or content that the source cannot have, or something in `dir` cannot
/// be read or written. What was a source before is one still.
pub fn update(
    sources: &[Source<'_>],
    format: Format,
    dir: &Path,
    keep: Option<usize>,
    options: &Options,
    tools: Option<&dyn Tools>,
) -> Result<Updated, Error> {
    if format.is_dir() {
        return Err(Error::NotAFile { format: format.name() });
    }
    let names: Vec<Name> =
        sources.iter().map(|source| Name::of(source, format)).collect::<Result<_, _>>()?;
    create_dirs(dir, 0o755)?;
    // Held until the end: of two that write one waits.
    let lock = File::open(dir).map_err(|e| system("open the directory", dir, e))?;
    while let Err(e) = rustix::fs::flock(&lock, FlockOperation::LockExclusive) {
        if e != rustix::io::Errno::INTR {
            return Err(system("lock the directory", dir, e));
        }
    }
    let mut sums = Sums::read(&dir.join(SUMS))?;
    let mut done = Updated::default();
    for (source, name) in sources.iter().zip(&names) {
        let file = name.file();
        let (path, listed) = (dir.join(&file), sums.get(&file));
        let (digest, put) = put(source, format, &path, listed, options, tools)?;
        sums.set(file.clone(), digest);
        done.bytes += put.bytes;
        done.remarks.extend(put.remarks);
        done.files.push(file);
    }
    for name in &names {
        for old in name.passed(&sums, keep) {
            sums.remove(&old);
        }
    }
    write_whole(&dir.join(SUMS), sums.text().as_bytes(), 0o644)?;
    for name in &names {
        done.removed.extend(sweep(dir, name, &sums)?);
    }
    Ok(done)
}

/// Makes a version's file; one that is there already stays as it is.
fn put(
    source: &Source<'_>,
    format: Format,
    path: &Path,
    listed: Option<Digest>,
    options: &Options,
    tools: Option<&dyn Tools>,
) -> Result<(Digest, Exported), Error> {
    // A file that no list names is of a run that was killed, and replaced.
    let new = NewFile::new(path, true)?;
    let done = super::fill(source, format, options, tools, &new)?;
    let digest = done.digest.expect("a file has one");
    match listed {
        // Its bytes are read again: clients compare them with the list.
        Some(listed) if listed == digest && has(path, digest)? => {}
        Some(listed) if listed != digest && !options.force => {
            return Err(Error::Exists { path: path.to_owned() });
        }
        _ => new.keep()?,
    }
    Ok((digest, done))
}

fn has(path: &Path, digest: Digest) -> Result<bool, Error> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(system("open", path, e)),
    };
    let mut hash = HashWriter::new(io::sink());
    io::copy(&mut file, &mut hash).map_err(|e| system("read", path, e))?;
    Ok(hash.finish().1 == digest)
}

/// What a version's file is called.
struct Name {
    /// The image's, with `_` for each `/`.
    image: String,
    version: String,
    extension: &'static str,
}

impl Name {
    fn of(source: &Source<'_>, format: Format) -> Result<Self, Error> {
        let reference = source.reference;
        let version = reference.version.clone().unwrap_or_default();
        // What sysupdate.d(5) takes as a version (`@v`); a `_` is where the name ends.
        let good = |b: u8| b.is_ascii_alphanumeric() || b".-+,".contains(&b);
        if version.is_empty() || !version.bytes().all(good) {
            return Err(Error::Version { reference: reference.to_string() });
        }
        Ok(Self { image: reference.name.replace('/', "_"), version, extension: format.name() })
    }

    fn file(&self) -> String {
        format!("{}_{}.{}", self.image, self.version, self.extension)
    }

    /// Returns the version of a file of the same image and format.
    fn version_of<'f>(&self, file: &'f str) -> Option<&'f str> {
        let (image, rest) = file.rsplit_once('_')?;
        let version = rest.strip_suffix(self.extension)?.strip_suffix('.')?;
        (image == self.image && !version.is_empty()).then_some(version)
    }

    /// Returns the listed files that are older than the newest `keep`.
    fn passed(&self, sums: &Sums, keep: Option<usize>) -> Vec<String> {
        let versions = |file: &&str| self.version_of(file).is_some();
        let mut all: Vec<&str> = sums.files().filter(versions).collect();
        all.sort_by(|a, b| {
            version::compare(self.version_of(b).unwrap_or(""), self.version_of(a).unwrap_or(""))
        });
        all.into_iter().skip(keep.unwrap_or(usize::MAX)).map(str::to_owned).collect()
    }
}

/// Removes the files of an image that no list names; returns what they were called.
fn sweep(dir: &Path, name: &Name, sums: &Sums) -> Result<Vec<String>, Error> {
    let failed = |e| system("read the directory", dir, e);
    let mut removed = vec![];
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(file) = entry.file_name().into_string() else { continue };
        let regular = entry.file_type().is_ok_and(|kind| kind.is_file());
        if regular && name.version_of(&file).is_some() && sums.get(&file).is_none() {
            let path: PathBuf = dir.join(&file);
            fs::remove_file(&path).map_err(|e| system("remove", &path, e))?;
            removed.push(file);
        }
    }
    removed.sort();
    Ok(removed)
}
