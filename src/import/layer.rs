//! A layer copied into the store: hashed on the way, and then read as strictly as when it is
//! unpacked.

use std::io::{self, Read, Write};

use super::error::Error;
use super::files::Files;
use super::found::Layer;
use crate::digest::{HashReader, Hasher};
use crate::event::Event;
use crate::image::{Descriptor, wrong_size};
use crate::job::{self, JobContext};
use crate::layer::{Compression, Limits, Ratio, TarReader, decompress_foreign};
use crate::plan::config::media_type;
use crate::store::Staging;

/// Largest layer of which the size is not known before.
const MOST: u64 = 256 << 30;

/// Copies layers, one after the other.
pub(super) struct Copier<'a> {
    job: &'a JobContext<'a>,
    staging: &'a Staging,
    files: &'a Files,
    /// Bytes copied so far, and in all, where that is known.
    done: u64,
    total: Option<u64>,
}

impl<'a> Copier<'a> {
    pub(super) fn new(
        job: &'a JobContext<'a>,
        staging: &'a Staging,
        files: &'a Files,
        layers: &[Layer],
    ) -> Self {
        let total = layers.iter().map(|layer| layer.expected.map(|(_, size)| size)).sum();
        Self { job, staging, files, done: 0, total }
    }

    /// Copies a layer as it is; returns how a manifest names it.
    ///
    /// # Errors
    /// Where it is not what the image says of it.
    pub(super) fn copy(&mut self, layer: &Layer) -> Result<Descriptor, Error> {
        let wrong =
            |why: String| self.files.wrong(format!("has a layer {} that {why}", layer.path));
        let read = |source| Error::Read { path: self.files.path().join(&layer.path), source };
        let most = layer.expected.map_or(MOST, |(_, size)| size);
        let mut from = self.files.reader(&layer.path)?.take(most.saturating_add(1));
        let mut blob = self.staging.blob()?;
        let (mut hasher, mut size, mut start) = (Hasher::new(), 0_u64, vec![]);
        let mut buffer = vec![0; 1 << 20];
        loop {
            if self.job.cancel.fired() {
                return Err(job::Error::Interrupted.into());
            }
            let n = from.read(&mut buffer).map_err(read)?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            let dir = || self.staging.dir().to_owned();
            let put = blob.write_all(&buffer[..n]);
            put.map_err(|source| job::Error::File { verb: "write in", path: dir(), source })?;
            start.extend(buffer[..n].iter().take(4_usize.saturating_sub(start.len())));
            size += n as u64;
            (self.job.sink)(Event::Progress {
                task: "import",
                what: layer.path.clone(),
                done: self.done + size,
                total: self.total,
                bytes: true,
            });
        }
        self.done += size;
        let digest = hasher.finish();
        if let Some((expected, expected_size)) = layer.expected {
            if size != expected_size {
                return Err(wrong(wrong_size(size, expected_size)));
            }
            if digest != expected {
                return Err(wrong(format!("is corrupt: its bytes are {digest}")));
            }
        } else if size > MOST {
            return Err(wrong(format!("has more than {MOST} bytes")));
        }
        let how = sniffed(&start);
        if layer.how.is_some_and(|named| named != how) {
            return Err(wrong("is not compressed as its media type says".to_owned()));
        }
        blob.keep(&digest)?;
        let file = self.staging.open(&digest)?;
        let file = file.ok_or_else(|| wrong("is gone".to_owned()))?;
        let unreadable =
            |error: &dyn std::error::Error| wrong(format!("cannot be unpacked: {error}"));
        let tar = decompress_foreign(Box::new(file), Ratio::default());
        let mut tar = HashReader::new(tar.map_err(|error| unreadable(&error))?);
        {
            let mut reader = TarReader::new(&mut tar, &Limits::default());
            while reader.next().map_err(|error| unreadable(&error))?.is_some() {
                if self.job.cancel.fired() {
                    return Err(job::Error::Interrupted.into());
                }
            }
        }
        io::copy(&mut tar, &mut io::sink()).map_err(|error| unreadable(&error))?;
        let found = tar.finish().1;
        if found != layer.diff_id {
            let named = &layer.diff_id;
            return Err(wrong(format!("is the tar {found}, and the config says {named}")));
        }
        Ok(Descriptor::new(media_type(how), digest, size))
    }
}

impl Drop for Copier<'_> {
    fn drop(&mut self) {
        (self.job.sink)(Event::ProgressEnd { task: "import" });
    }
}

/// Returns how bytes that begin with `start` are compressed (RFC 1952, RFC 8878).
fn sniffed(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Compression::Zstd,
        _ => Compression::None,
    }
}
