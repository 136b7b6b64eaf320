//! An image in a registry: its small blobs, and its layers, several at once.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::error::Error;
use super::found::{Layer, SmallBlobs};
use super::layer::{Arriving, Copier};
use super::oci;
use crate::image::{Descriptor, Kind, kind, wrong_size};
use crate::job;
use crate::registry::{self, Document, Repository};
use crate::threads;

/// Most layers that are fetched at once.
const AT_ONCE: usize = 4;

/// The small blobs of a repository.
pub(super) struct Remote {
    repository: Repository,
    /// The manifest or index that was read first: what a tag named then.
    first: Document,
}

impl Remote {
    /// Reads what `wanted`, a tag or a digest, names.
    ///
    /// # Errors
    /// Where it is not there, or not what the registry says of it.
    pub(super) fn open(repository: Repository, wanted: &str) -> Result<Self, Error> {
        let first = repository.manifest(wanted)?;
        Ok(Self { repository, first })
    }

    /// Returns what was read first.
    pub(super) fn first(&self) -> &Descriptor {
        &self.first.descriptor
    }
}

impl SmallBlobs for Remote {
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        if descriptor.digest == self.first.descriptor.digest {
            return Ok(self.first.bytes.clone());
        }
        let wrong =
            |why: String| self.wrong(format!("has a blob {} that {why}", descriptor.digest));
        if descriptor.size > oci::MOST {
            return Err(wrong(format!("has more than {} bytes", oci::MOST)));
        }
        if !matches!(kind(&descriptor.media_type), Kind::Manifest | Kind::Index) {
            let mut bytes = vec![];
            self.repository.blob(descriptor, &mut bytes, &mut |_| {})?;
            return Ok(bytes);
        }
        let found = self.repository.manifest(&descriptor.digest.to_string())?;
        if found.descriptor.size != descriptor.size {
            return Err(wrong(wrong_size(found.descriptor.size, descriptor.size)));
        }
        if found.descriptor.media_type != descriptor.media_type {
            let (is, named) = (found.descriptor.media_type, &descriptor.media_type);
            return Err(wrong(format!("is {is:?}, and is named as {named:?}")));
        }
        Ok(found.bytes)
    }

    fn wrong(&self, why: String) -> Error {
        Error::Wrong { path: PathBuf::from(self.repository.name().to_string()), why }
    }
}

/// Fetches `layers`, several at once, each checked; `keep` is called for each that is there, and
/// `known` first, which may know another way to get it.
///
/// # Errors
/// The first; the others end then.
pub(super) fn fetch(
    repository: &Repository,
    copier: &Copier<'_>,
    layers: &[(&Layer, &Descriptor)],
    known: &(dyn Fn(&Layer, &Descriptor) -> Result<bool, Error> + Sync),
    keep: &(dyn Fn(&Layer, &Descriptor) -> Result<(), Error> + Sync),
) -> Result<(), Error> {
    let (next, stop, failed) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(None));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let Some((layer, blob)) = layers.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            let one = || -> Result<(), Error> {
                if !known(layer, blob)? {
                    let mut into =
                        Into { arriving: copier.arriving(layer)?, stop: &stop, why: None };
                    let came = repository.blob(blob, &mut into, &mut |_| {});
                    match into.why {
                        Some(why) => return Err(why),
                        None => came?,
                    }
                    into.arriving.finish()?;
                }
                keep(layer, blob)
            };
            if let Err(error) = one() {
                // First of all, as the others fail because of it.
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                stop.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..AT_ONCE.min(layers.len()) {
            // Fewer threads do as well, and this one alone.
            if threads::scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Hands on what a registry sends, and keeps why it was not taken.
struct Into<'a> {
    arriving: Arriving<'a>,
    /// Another layer has failed.
    stop: &'a AtomicBool,
    why: Option<Error>,
}

impl Write for Into<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = match self.stop.load(Ordering::Relaxed) {
            true => Err(job::Error::Interrupted.into()),
            false => self.arriving.take(bytes),
        };
        match taken {
            Ok(()) => Ok(bytes.len()),
            Err(why) => {
                self.why = Some(why);
                Err(io::Error::other("it was not taken"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<registry::Error> for Error {
    fn from(error: registry::Error) -> Self {
        match error {
            registry::Error::Cancelled => job::Error::Interrupted.into(),
            error => Self::Registry(error),
        }
    }
}
