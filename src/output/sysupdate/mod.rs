//! A source for systemd-sysupdate(8): versioned files in a directory that any web server serves,
//! and `SHA256SUMS`, which says which of them there are.
//!
//! ```text
//! DIR/
//!   web_1.0.0.tar web_2.0.0.tar
//!   SHA256SUMS                  a line a file, sorted: the truth
//! ```
//! Of a machine that updates itself in place a version is three files (partitions.rs).
//!
//! A version's file is there whole before `SHA256SUMS` names it, and one that goes is removed after
//! it does not. What a killed run left is removed by the next one: what is called as the files of an
//! image that is exported belongs to bake. Other files, and what `SHA256SUMS` says of them, stay.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use self::name::{Name, New};
use self::sums::{SUMS, Sums};
use super::error::{Error, system};
use super::filesystem::Tools;
use super::options::{Exported, Format, Options, Remark, Source};
use super::place::{NewDir, NewFile};
use crate::digest::{Digest, HashWriter};
use crate::files::{create_dirs, write_whole};

mod name;
mod partitions;
mod sums;
mod version;

pub(super) use name::version;

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

/// Adds versions to the source `dir`, each as one file of `format`, or as partitions, and keeps the
/// newest `keep` of each image.
///
/// # Errors
/// Where a version has a name or content that the source cannot have, or something in `dir` cannot
/// be read or written. What was a source before is one still.
pub fn update(
    sources: &[(Source<'_>, Options)],
    format: Format,
    dir: &Path,
    keep: Option<usize>,
    tools: Option<&dyn Tools>,
) -> Result<Updated, Error> {
    add(sources, format, (dir, dir), keep, tools)
}

/// The same; people know the directory as `shown`.
fn add(
    sources: &[(Source<'_>, Options)],
    format: Format,
    (dir, shown): (&Path, &Path),
    keep: Option<usize>,
    tools: Option<&dyn Tools>,
) -> Result<Updated, Error> {
    if format.is_dir() && format != Format::Partitions {
        return Err(Error::NotAFile { format: format.name() });
    }
    let names: Vec<Name> =
        sources.iter().map(|(source, _)| Name::of(source, format)).collect::<Result<_, _>>()?;
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
    for ((source, options), name) in sources.iter().zip(&names) {
        let (made, remarks) = make(source, name, dir, options, tools)?;
        for other in name.others(&sums, &made) {
            if !options.force {
                return Err(Error::Listed { path: shown.join(other) });
            }
            sums.remove(&other);
        }
        for New { file, place, digest, bytes } in made {
            // Its bytes are read again: clients compare them with the list. A file that no list
            // names is of a run that was killed, and replaced.
            if sums.get(&file) != Some(digest) || !has(&dir.join(&file), digest)? {
                place.keep()?;
            }
            sums.set(file.clone(), digest);
            done.bytes += bytes;
            done.files.push(file);
        }
        done.remarks.extend(remarks);
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

/// Fills a directory that becomes `dest`, a source of partitions: with what is listed there now,
/// and with this version.
pub(super) fn dir(
    source: &Source<'_>,
    dest: &Path,
    options: &Options,
    tools: &dyn Tools,
) -> Result<(NewDir, Exported), Error> {
    let place = NewDir::new(dest, options.force)?;
    let (root, mut sums) = (place.root(), Sums::read(&dest.join(SUMS))?);
    for file in sums.files().map(str::to_owned).collect::<Vec<_>>() {
        let (from, to) = (dest.join(&file), root.join(&file));
        // A name more, where the file system gives one.
        match fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => sums.remove(&file),
            Err(e) => return Err(system("keep", &from, e)),
        }
    }
    write_whole(&root.join(SUMS), sums.text().as_bytes(), 0o644)?;
    // A version that is listed with other content may be on machines already.
    let (source, own) = (Source { ..*source }, Options { force: false, ..options.clone() });
    let places = (root, dest);
    let done = add(&[(source, own)], Format::Partitions, places, options.keep, Some(tools))?;
    let Updated { bytes, remarks, .. } = done;
    Ok((place, Exported { bytes, digest: None, remarks }))
}

/// Makes a version's files aside; returns also what the format has no place for.
fn make(
    source: &Source<'_>,
    name: &Name,
    dir: &Path,
    options: &Options,
    tools: Option<&dyn Tools>,
) -> Result<(Vec<New>, Vec<Remark>), Error> {
    if name.format == Format::Partitions {
        return partitions::make(source, name, dir, options, tools);
    }
    let file = name.file(name.format.name());
    let place = NewFile::new(&dir.join(&file), true)?;
    let Exported { bytes, digest, remarks } =
        super::fill(source, name.format, options, tools, &place)?;
    let digest = digest.expect("a file has one");
    Ok((vec![New { file, place, digest, bytes }], remarks))
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
