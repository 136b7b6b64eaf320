//! Images from elsewhere that builds stand on. Nothing here is published, and all of it can be had
//! again.
//!
//! ```text
//! cache/images/<64 hex>    a manifest and its config, as they came, by the digest of the manifest;
//!                          atime = last use; as long as it is here, gc keeps the layers it names
//! cache/blobs/<64 hex>     the layers, among the blobs of steps
//! cache/checked/<64 hex>   of a layer: which tar it was found to be, and how its file looked then
//! ```

use std::fs;

use serde::{Deserialize, Serialize};

use super::cache::{Seal, StepCache, seal};
use super::disk;
use super::error::{Error, reading, writing};
use super::{SMALL, Staging};
use crate::digest::Digest;
use crate::files::system;

/// Format of a record.
const VERSION: u32 = 1;

/// Room of the manifests and configs.
const IMAGES: &str = "images";

/// Room of what layers were found to be.
const CHECKED: &str = "checked";

/// A manifest and its config, as they came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedImage {
    v: u32,
    /// The manifest's media type, as what named it says.
    pub media_type: String,
    /// The manifest.
    pub manifest: String,
    /// The config that it names.
    pub config: String,
}

/// What a layer was found to be.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Checked {
    diff_id: Digest,
    seal: Seal,
}

impl CachedImage {
    /// Makes a record of texts that have been checked.
    #[must_use]
    pub fn new(media_type: String, manifest: String, config: String) -> Self {
        Self { v: VERSION, media_type, manifest, config }
    }
}

impl StepCache {
    /// Returns the image of this manifest; one that is damaged is not there.
    pub fn image(&self, digest: &Digest) -> Option<CachedImage> {
        let bytes = self.record(IMAGES, digest)?;
        let image: CachedImage = serde_json::from_slice(&bytes).ok()?;
        if image.v != VERSION || Digest::of(&image.manifest) != *digest {
            return None;
        }
        self.mark_used(&self.dir.join(IMAGES).join(digest.hex()));
        Some(image)
    }

    /// Keeps an image, and with it the layers that it names.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn keep_image(&self, image: &CachedImage) -> Result<(), Error> {
        let bytes = serde_json::to_vec(image).expect("plain data always has a JSON form");
        if bytes.len() as u64 > SMALL {
            // gc could not read what it names.
            return Ok(());
        }
        self.write_record(IMAGES, &Digest::of(&image.manifest), &bytes)
    }

    /// Puts the layer `digest` into `staging` where it is here, and known to be the tar `diff_id`;
    /// returns whether it is.
    ///
    /// # Errors
    /// Where it cannot be read, or the staging directory not be written.
    pub fn layer(
        &self,
        digest: &Digest,
        size: u64,
        diff_id: &Digest,
        staging: &Staging,
    ) -> Result<bool, Error> {
        let path = self.blob_path(digest);
        let Some((file, found)) = disk::open(&path).map_err(reading)? else { return Ok(false) };
        let seal = seal(&file.metadata().map_err(|e| reading(system("look at", &path, e)))?);
        let noted = self.record(CHECKED, digest);
        let noted = noted.and_then(|bytes| serde_json::from_slice::<Checked>(&bytes).ok());
        if found != size || noted != Some(Checked { diff_id: *diff_id, seal }) {
            return Ok(false);
        }
        match staging.adopt(&path, digest) {
            Ok(()) => {}
            // Removed since we looked.
            Err(e) if e.is_missing() => return Ok(false),
            Err(e) => return Err(e),
        }
        self.mark_used(&self.dir.join(CHECKED).join(digest.hex()));
        Ok(true)
    }

    /// Keeps a layer of `staging` that was found to be the tar `diff_id`. It is synced first.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn keep_layer(
        &self,
        digest: &Digest,
        diff_id: &Digest,
        staging: &Staging,
    ) -> Result<(), Error> {
        let (from, to) = (staging.path(digest), self.blob_path(digest));
        disk::sync_file(&from).map_err(writing)?;
        // Replaces what is there: it may be damaged.
        disk::link(&from, &to).map_err(writing)?;
        let meta = fs::metadata(&to).map_err(|e| writing(system("look at", &to, e)))?;
        let checked = Checked { diff_id: *diff_id, seal: seal(&meta) };
        let bytes = serde_json::to_vec(&checked).expect("plain data always has a JSON form");
        self.write_record(CHECKED, digest, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn what_is_kept_is_found_as_long_as_it_is_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let (cache, staging) = (store.step_cache().unwrap(), store.staging().unwrap());
        let image = CachedImage::new("m".to_owned(), "{}".to_owned(), "{ }".to_owned());
        let digest = Digest::of("{}");
        assert_eq!(cache.image(&digest), None);
        cache.keep_image(&image).unwrap();
        assert_eq!(cache.image(&digest), Some(image));
        let path = cache.dir.join(IMAGES).join(digest.hex());
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"{}\"", "\"{ }\"")).unwrap();
        assert_eq!(cache.image(&digest), None, "another manifest under its name");

        let (layer, size) = staging.put(b"layer").unwrap();
        let tar = Digest::of("tar");
        cache.keep_layer(&layer, &tar, &staging).unwrap();
        let other = store.staging().unwrap();
        assert!(cache.layer(&layer, size, &tar, &other).unwrap());
        assert!(other.path(&layer).exists());
        for (size, tar) in [(size + 1, tar), (size, Digest::of("another"))] {
            assert!(!cache.layer(&layer, size, &tar, &other).unwrap());
        }
        fs::remove_file(cache.blob_path(&layer)).unwrap();
        fs::write(cache.blob_path(&layer), b"LAYER").unwrap();
        assert!(!cache.layer(&layer, size, &tar, &other).unwrap());
    }
}
