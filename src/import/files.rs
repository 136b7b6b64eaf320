//! The files in which another tool keeps an image: a directory, or a tar that is read where it
//! lies.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use super::error::Error;
use crate::files::{Links, RootDir, open_regular};
use crate::layer::{Ratio, decompress_foreign};

/// Most entries of an archive: a layer each, with room.
const MOST: usize = 100_000;

/// Most symlinks and hard links followed to one file.
const HOPS: usize = 8;

/// The files in which another tool keeps an image.
pub(super) struct Files {
    path: PathBuf,
    kept: Kept,
}

enum Kept {
    Directory(RootDir),
    /// A plain tar, and what is where in it.
    Archive(File, BTreeMap<PathBuf, Entry>),
}

/// An entry of an archive.
enum Entry {
    /// A file: where its bytes begin, and how many there are.
    File(u64, u64),
    /// Stands for another.
    Link(PathBuf),
}

impl Files {
    /// Opens the directory or archive `path`; one that is compressed is decompressed into the
    /// directory `scratch`.
    pub(super) fn open(path: &Path, scratch: &Path) -> Result<Self, Error> {
        let fail = |source| Error::Read { path: path.to_owned(), source };
        if path.metadata().map_err(fail)?.is_dir() {
            let kept = Kept::Directory(RootDir::open(path, Links::Beneath)?);
            return Ok(Self { path: path.to_owned(), kept });
        }
        let mut file = open_regular(path).map_err(fail)?;
        let here = |kept| Self { path: path.to_owned(), kept };
        if !is_tar(&file).map_err(fail)? {
            let mut plain = tempfile::tempfile_in(scratch)
                .map_err(|source| Error::Read { path: scratch.to_owned(), source })?;
            let opened = decompress_foreign(Box::new(file), Ratio::default());
            let copied = opened
                .map_err(io::Error::other)
                .and_then(|mut from| io::copy(&mut from, &mut plain));
            copied.and_then(|_| plain.rewind()).map_err(fail)?;
            file = plain;
        }
        let whole = is_tar(&file).map_err(fail)?;
        let mut opened = here(Kept::Archive(file, BTreeMap::new()));
        if !whole {
            return Err(opened.wrong("is no tar"));
        }
        opened.list().map_err(fail)?;
        Ok(opened)
    }

    /// Notes where everything is in the archive.
    fn list(&mut self) -> io::Result<()> {
        let Kept::Archive(file, entries) = &mut self.kept else { return Ok(()) };
        file.rewind()?;
        let mut tar = tar::Archive::new(BufReader::with_capacity(64 << 10, &*file));
        for entry in tar.entries_with_seek()? {
            let entry = entry?;
            if entries.len() == MOST {
                return Err(io::Error::other(format!("more than {MOST} entries")));
            }
            let Some(name) = plain(&entry.path()?) else {
                return Err(io::Error::other(format!(
                    "an entry leads out of it: {:?}",
                    entry.path()?
                )));
            };
            let kind = entry.header().entry_type();
            let what = if kind.is_file() {
                Entry::File(entry.raw_file_position(), entry.size())
            } else if kind.is_hard_link() || kind.is_symlink() {
                let to = entry.link_name()?.unwrap_or_default().into_owned();
                let above = name.parent().filter(|_| kind.is_symlink()).unwrap_or(Path::new(""));
                match plain(&above.join(to)) {
                    Some(to) => Entry::Link(to),
                    None => {
                        return Err(io::Error::other(format!(
                            "{} leads out of it",
                            name.display()
                        )));
                    }
                }
            } else {
                continue;
            };
            entries.insert(name, what);
        }
        Ok(())
    }

    /// Returns the error of an image that is not what it must be.
    pub(super) fn wrong(&self, why: impl Into<String>) -> Error {
        Error::Wrong { path: self.path.clone(), why: why.into() }
    }

    /// Returns the error where it is not clear which image is meant.
    pub(super) fn which(&self, wanted: Option<&str>, names: Vec<String>) -> Error {
        Error::Which { path: self.path.clone(), wanted: wanted.map(str::to_owned), names }
    }

    /// Whether it is an OCI layout; else it is an archive of Docker's.
    ///
    /// # Errors
    /// Where it is neither.
    pub(super) fn is_oci(&self) -> Result<bool, Error> {
        if self.has("index.json")? {
            return Ok(true);
        }
        if self.has("manifest.json")? {
            return Ok(false);
        }
        Err(self.wrong("has neither an index.json (OCI) nor a manifest.json (Docker)"))
    }

    /// Whether there is such a file.
    pub(super) fn has(&self, name: &str) -> Result<bool, Error> {
        match &self.kept {
            Kept::Directory(dir) => Ok(dir.find(Path::new(name))?.is_some()),
            Kept::Archive(_, entries) => Ok(entries.contains_key(Path::new(name))),
        }
    }

    /// Opens a file; it can be read once, from its start.
    pub(super) fn reader(&self, name: &str) -> Result<Box<dyn Read + Send>, Error> {
        let missing = || self.wrong(format!("has no {name}"));
        match &self.kept {
            Kept::Directory(dir) => {
                let path = plain(Path::new(name)).ok_or_else(missing)?;
                if dir.find(&path)?.is_none() {
                    return Err(missing());
                }
                Ok(Box::new(dir.open_file(&path)?))
            }
            Kept::Archive(file, entries) => {
                let mut at = plain(Path::new(name)).ok_or_else(missing)?;
                for _ in 0..HOPS {
                    match entries.get(&at).ok_or_else(missing)? {
                        Entry::Link(to) => at.clone_from(to),
                        Entry::File(from, size) => {
                            let file = file.try_clone();
                            let file = file.map_err(|source| Error::Read {
                                path: self.path.clone(),
                                source,
                            })?;
                            return Ok(Box::new(Part { file, at: *from, end: from + size }));
                        }
                    }
                }
                Err(self.wrong(format!("has {name} as a symlink to itself")))
            }
        }
    }

    /// Reads a file of at most `most` bytes.
    pub(super) fn small(&self, name: &str, most: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![];
        let read = self.reader(name)?.take(most + 1).read_to_end(&mut bytes);
        read.map_err(|source| Error::Read { path: self.path.join(name), source })?;
        if bytes.len() as u64 > most {
            return Err(self.wrong(format!("has a {name} of more than {most} bytes")));
        }
        Ok(bytes)
    }

    /// Its path, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A file of an archive.
struct Part {
    file: File,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let most = buf.len().min(left);
        let n = self.file.read_at(&mut buf[..most], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Whether a file begins as a tar does (POSIX ustar, "magic").
fn is_tar(file: &File) -> io::Result<bool> {
    let mut magic = [0; 5];
    Ok(file.read_at(&mut magic, 257)? == magic.len() && &magic == b"ustar")
}

/// Returns a path without `.`, and with `..` resolved; `None` where it leads out.
fn plain(path: &Path) -> Option<PathBuf> {
    let mut out: Vec<&OsStr> = vec![];
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop()?;
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(out.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(plain(Path::new(path)), expected.map(PathBuf::from), "{path}");
        };
        check("blobs/sha256/ab", Some("blobs/sha256/ab"));
        check("./a/../b", Some("b"));
        check("../a", None);
        check("a/../../b", None);
        check("/etc/passwd", None);
    }
}
