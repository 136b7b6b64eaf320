//! What a `copy` step takes, named by content and handed over as a tar.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rayon::prelude::*;
use tar::EntryType;
use tar::Header;

use super::Context;
use super::Entry;
use super::Error;
use super::Kind;
use super::Mark;
use crate::digest::Digest;
use crate::digest::Hasher;

/// Name of the format below; changes when its meaning does.
const FORMAT: &[u8] = b"bake copy 1\n";

pub(super) fn digest(context: &Context, entries: &[Entry]) -> Result<Digest, Error> {
    let digests: Vec<Option<Digest>> = entries.par_iter().map(|entry| content(context, entry)).collect::<Result<_, _>>()?;
    Ok(combined(entries.iter().zip(digests)))
}

/// Digest of a file's bytes; `None` for what has none.
fn content(context: &Context, entry: &Entry) -> Result<Option<Digest>, Error> {
    let Kind::File { mark, .. } = &entry.kind else { return Ok(None) };
    if let Some((_, digest)) = known(context, &entry.source).filter(|(known, _)| known == mark) {
        return Ok(Some(digest));
    }
    let mut file = Watched::open(context, entry, *mark)?;
    io::copy(&mut file, &mut io::sink()).map_err(|source| Error::Content { path: entry.source.clone(), source })?;
    file.finish(context, entry).map(Some)
}

pub(super) fn stream(context: &Context, entries: &[Entry], out: impl Write) -> Result<Digest, Error> {
    let mut tar = tar::Builder::new(out);
    let mut digests = vec![];
    for entry in entries {
        let place = Path::new("to").join(&entry.place);
        let fail = |source| Error::Write { path: entry.source.clone(), source };
        let mut header = Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        digests.push(match &entry.kind {
            Kind::Folder => {
                header.set_entry_type(EntryType::Directory);
                tar.append_data(&mut header, place, io::empty()).map_err(fail)?;
                None
            }
            Kind::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                // The crate's own way of adding links writes `a//b` and `./a` as `a/b` and `a`; a target is copied as it is.
                let target = target.as_os_str().as_bytes();
                if header.set_link_name_literal(target).is_err() {
                    let mut long = Header::new_gnu();
                    long.set_path("././@LongLink").map_err(fail)?;
                    long.set_entry_type(EntryType::GNULongLink);
                    long.set_mode(0o644);
                    long.set_size(target.len() as u64 + 1);
                    long.set_cksum();
                    tar.append(&long, target.chain(&b"\0"[..])).map_err(fail)?;
                }
                tar.append_data(&mut header, place, io::empty()).map_err(fail)?;
                None
            }
            Kind::File { size, mark, .. } => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(*size);
                let mut file = Watched::open(context, entry, *mark)?;
                let appended = tar.append_data(&mut header, place, &mut file);
                if let Some(source) = file.failed.take() {
                    return Err(Error::Content { path: entry.source.clone(), source });
                }
                appended.map_err(fail)?;
                Some(file.finish(context, entry)?)
            }
        });
    }
    let mut out = tar.into_inner().map_err(|source| Error::Write { path: "the end".into(), source })?;
    out.flush().map_err(|source| Error::Write { path: "the end".into(), source })?;
    Ok(combined(entries.iter().zip(digests)))
}

/// Every field with its length, so that no two lists of entries have the same bytes.
fn combined<'a>(entries: impl Iterator<Item = (&'a Entry, Option<Digest>)>) -> Digest {
    let mut all = Hasher::new();
    all.update(FORMAT);
    let mut field = |bytes: &[u8]| {
        all.update(&(bytes.len() as u64).to_be_bytes());
        all.update(bytes);
    };
    for (entry, digest) in entries {
        field(entry.place.as_os_str().as_bytes());
        field(&entry.mode.to_be_bytes());
        match &entry.kind {
            Kind::Folder => field(b"folder"),
            Kind::Link(target) => {
                field(b"link");
                field(target.as_os_str().as_bytes());
            }
            Kind::File { .. } => {
                field(b"file");
                field(digest.as_ref().map_or(&[][..], |d| d.as_bytes()));
            }
        }
    }
    all.finish()
}

fn known(context: &Context, path: &Path) -> Option<(Mark, Digest)> {
    // Nothing can panic while the lock is held, and what is in the map is whole at any time.
    context.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(path).copied()
}

/// A file that is hashed while it is read, and watched for changes.
struct Watched {
    file: File,
    mark: Mark,
    hasher: Hasher,
    read: u64,
    failed: Option<io::Error>,
}

impl Watched {
    fn open(context: &Context, entry: &Entry, mark: Mark) -> Result<Self, Error> {
        let file = context.dir.open_file(&entry.source).map_err(|e| context.explain(&entry.source, e))?;
        let watched = Self { file, mark, hasher: Hasher::new(), read: 0, failed: None };
        watched.unchanged(entry)?;
        Ok(watched)
    }

    fn unchanged(&self, entry: &Entry) -> Result<(), Error> {
        let meta = self.file.metadata().map_err(|source| Error::Content { path: entry.source.clone(), source })?;
        match Mark::of(&meta) == self.mark {
            true => Ok(()),
            false => Err(Error::Changed { path: entry.source.clone() }),
        }
    }

    /// Digest of the whole file, once it is read and if it is what it was.
    fn finish(self, context: &Context, entry: &Entry) -> Result<Digest, Error> {
        self.unchanged(entry)?;
        let changed = || Error::Changed { path: entry.source.clone() };
        if self.read != self.mark.size {
            return Err(changed());
        }
        let digest = self.hasher.finish();
        let mut all = context.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match all.insert(entry.source.clone(), (self.mark, digest)) {
            // The step's key was made with other bytes.
            Some((_, before)) if before != digest => Err(changed()),
            _ => Ok(digest),
        }
    }
}

impl Read for Watched {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // Never more than the tar header says, or the stream would be out of step.
        let left = usize::try_from(self.mark.size - self.read).unwrap_or(usize::MAX).min(buf.len());
        match self.file.read(&mut buf[..left]) {
            Ok(n) => {
                self.hasher.update(&buf[..n]);
                self.read += n as u64;
                Ok(n)
            }
            Err(e) => {
                if e.kind() != io::ErrorKind::Interrupted {
                    self.failed = Some(io::Error::new(e.kind(), e.to_string()));
                }
                Err(e)
            }
        }
    }
}
