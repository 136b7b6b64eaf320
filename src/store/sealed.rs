//! Published blobs that are to be part of another image: what is in them is looked at once, and
//! again only where the file is no longer as it was then.

use std::io;
use std::path::Path;

use super::cache::{Seal, StepCache, seal};
use super::disk;
use super::error::{Error, reading};
use crate::digest::{Digest, HashReader};
use crate::files::system;

/// Room of the cache in which it stands how a blob looked when it was read.
const ROOM: &str = "sealed";

impl StepCache {
    /// Reads the published blob `digest`, which lies at `path`, unless it looks as it did when it
    /// was read last; returns what it holds where that is something else.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn other_content(&self, path: &Path, digest: &Digest) -> Result<Option<Digest>, Error> {
        let not_there = || reading(system("open", path, io::Error::from(io::ErrorKind::NotFound)));
        let (file, _) = disk::open(path).map_err(reading)?.ok_or_else(not_there)?;
        let now = seal(&file.metadata().map_err(|e| reading(system("look at", path, e)))?);
        let noted = self.record(ROOM, digest);
        if noted.and_then(|bytes| serde_json::from_slice::<Seal>(&bytes).ok()) == Some(now) {
            return Ok(None);
        }
        let mut reader = HashReader::new(file);
        io::copy(&mut reader, &mut io::sink()).map_err(|e| reading(system("read", path, e)))?;
        let found = reader.finish().1;
        if found != *digest {
            return Ok(Some(found));
        }
        let bytes = serde_json::to_vec(&now).expect("plain data always has a JSON form");
        // Only saves the next one from reading it again.
        let _ = self.write_record(ROOM, digest, &bytes);
        Ok(None)
    }
}
