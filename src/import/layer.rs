//! A layer copied into the store: hashed on the way, and then read as strictly as when it is
//! unpacked.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::check::Check;
use super::error::Error;
use super::found::Layer;
use crate::digest::Hasher;
use crate::event::Event;
use crate::image::{Descriptor, wrong_size};
use crate::job::{self, JobContext};
use crate::layer::Compression;
use crate::plan::config::media_type;
use crate::store::{NewBlob, Staging};

/// Largest layer of which the size is not known before.
const MOST: u64 = 256 << 30;

/// Bytes that are read at once.
const BUFFER: usize = 1 << 20;

/// Copies layers, side by side if need be.
pub(super) struct Copier<'a> {
    job: &'a JobContext<'a>,
    staging: &'a Staging,
    /// Where they come from, for messages.
    origin: &'a Path,
    /// What is done, for the display of progress.
    task: &'static str,
    /// Bytes copied so far, and in all, where that is known.
    done: AtomicU64,
    total: Option<u64>,
}

impl<'a> Copier<'a> {
    pub(super) fn new<'l>(
        job: &'a JobContext<'a>,
        staging: &'a Staging,
        origin: &'a Path,
        task: &'static str,
        layers: impl Iterator<Item = &'l Layer>,
    ) -> Self {
        let total = layers.map(|layer| layer.expected.map(|(_, size)| size)).sum();
        Self { job, staging, origin, task, done: AtomicU64::new(0), total }
    }

    /// Copies a layer as it is, from the bytes that `from` gives; returns how a manifest names it.
    ///
    /// # Errors
    /// Where it is not what the image says of it.
    pub(super) fn copy(
        &self,
        layer: &Layer,
        mut from: Box<dyn Read + Send>,
    ) -> Result<Descriptor, Error> {
        let mut arriving = self.begin(layer, Some(Hasher::new()))?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = from
                .read(&mut buffer)
                .map_err(|source| Error::Read { path: self.origin.join(&layer.path), source })?;
            if n == 0 {
                return arriving.finish();
            }
            arriving.take(&buffer[..n])?;
        }
    }

    /// Begins to take the bytes of a layer from somebody who compares their digest with the one
    /// that the image says: nobody need do that twice.
    pub(super) fn arriving<'c>(&'c self, layer: &'c Layer) -> Result<Arriving<'c>, Error> {
        self.begin(layer, None)
    }

    fn begin<'c>(
        &'c self,
        layer: &'c Layer,
        hasher: Option<Hasher>,
    ) -> Result<Arriving<'c>, Error> {
        let blob = self.staging.blob()?;
        let plain = layer.how == Some(Compression::None);
        let check = Check::start(plain, self.job.cancel.clone())?;
        Ok(Arriving { copier: self, layer, blob, hasher, check, size: 0, start: vec![] })
    }
}

impl Drop for Copier<'_> {
    fn drop(&mut self) {
        (self.job.sink)(Event::ProgressEnd { task: self.task });
    }
}

/// A layer whose bytes arrive.
pub(super) struct Arriving<'c> {
    copier: &'c Copier<'c>,
    layer: &'c Layer,
    blob: NewBlob,
    /// Nothing where the bytes come from somebody who hashes them.
    hasher: Option<Hasher>,
    check: Check,
    size: u64,
    /// Its first bytes: how it is compressed.
    start: Vec<u8>,
}

impl Arriving<'_> {
    /// Takes more bytes.
    ///
    /// # Errors
    /// Where they are more than there should be, and where the person has ended it.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Copier { job, staging, origin, task, done, total } = self.copier;
        if job.cancel.fired() {
            return Err(job::Error::Interrupted.into());
        }
        self.size += bytes.len() as u64;
        match self.layer.expected {
            Some((_, expected)) if self.size > expected => {
                let why = format!("has more than the {expected} bytes that its descriptor says");
                return Err(wrong(origin, self.layer, &why));
            }
            None if self.size > MOST => {
                return Err(wrong(origin, self.layer, &format!("has more than {MOST} bytes")));
            }
            _ => {}
        }
        self.check.take(bytes);
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.blob.write_all(bytes).map_err(|source| job::Error::File {
            verb: "write in",
            path: staging.dir().to_owned(),
            source,
        })?;
        self.start.extend(bytes.iter().take(4_usize.saturating_sub(self.start.len())));
        let n = bytes.len() as u64;
        (job.sink)(Event::Progress {
            task,
            what: self.layer.path.clone(),
            done: done.fetch_add(n, Ordering::Relaxed) + n,
            total: *total,
            bytes: true,
        });
        Ok(())
    }

    /// Keeps the layer, all bytes of which are there; returns how a manifest names it.
    ///
    /// # Errors
    /// Where it is not what the image says of it.
    pub(super) fn finish(self) -> Result<Descriptor, Error> {
        let Self { copier, layer, blob, hasher, check, size, start } = self;
        let wrong = |why: String| wrong(copier.origin, layer, &why);
        let hashed = hasher.map(Hasher::finish);
        let named = layer.expected.map(|(digest, _)| digest);
        let digest = hashed.or(named).expect("hashed here, or compared with what is named");
        if let Some((expected, expected_size)) = layer.expected {
            if size != expected_size {
                return Err(wrong(wrong_size(size, expected_size)));
            }
            if digest != expected {
                return Err(wrong(format!("is corrupt: its bytes are {digest}")));
            }
        }
        let how = sniffed(&start).map_err(|why| wrong(why.to_owned()))?;
        if layer.how.is_some_and(|named| named != how) {
            return Err(wrong("is not compressed as its media type says".to_owned()));
        }
        let found = check.end();
        if copier.job.cancel.fired() {
            return Err(job::Error::Interrupted.into());
        }
        let found = found.map_err(|why| wrong(format!("cannot be unpacked: {why}")))?;
        let found = found.unwrap_or(digest);
        if found != layer.diff_id {
            let named = &layer.diff_id;
            return Err(wrong(format!("is the tar {found}, and the config says {named}")));
        }
        blob.keep(&digest)?;
        Ok(Descriptor::new(media_type(how), digest, size))
    }
}

fn wrong(origin: &Path, layer: &Layer, why: &str) -> Error {
    Error::Wrong { path: origin.to_owned(), why: format!("has a layer {} that {why}", layer.path) }
}

/// Returns how bytes that begin with `start` are compressed (RFC 1952, RFC 8878).
fn sniffed(start: &[u8]) -> Result<Compression, &'static str> {
    match start {
        [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Ok(Compression::Zstd),
        [0xfd, b'7', b'z', b'X'] => Err("is compressed with xz, as no layer may be"),
        [b'B', b'Z', b'h', _] => Err("is compressed with bzip2, as no layer may be"),
        _ => Ok(Compression::None),
    }
}
