//! An image from elsewhere that builds stand on or take files from: its manifest and config are
//! read, checked and kept in the cache of the store under the manifest's digest; its layers come
//! when something needs them, each once.
//!
//! ```text
//! what the lock file pins ─► in the cache? ─────────────────────────► manifest, config
//!                            └ no: read where it comes from, checked ─┘    │ later, where a node runs
//! in the cache · among the published blobs · where it comes from ─► each layer, checked ─► staging
//! ```
//! Everything is named by content from the first look on, so that somebody who changes the files
//! meanwhile can make a build fail, and never make it another.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::docker;
use super::error::Error;
use super::files::Files;
use super::found::{Found, FoundManifest, Layer, platform as platform_of, same_platform};
use super::layer::Copier;
use super::oci;
use crate::digest::Digest;
use crate::event::Event;
use crate::image::{self, Descriptor, ImageConfig, Manifest, Platform};
use crate::job::{self, JobContext};
use crate::layer::{Blob, Compression};
use crate::store::{CachedImage, Staging, StepCache};

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The directory or archive.
    pub path: PathBuf,
    /// Which image, where there are several.
    pub named: Option<String>,
}

/// An image from elsewhere.
pub struct Image {
    origin: Origin,
    /// Of its manifest: what names it.
    pub digest: Digest,
    /// What it says of how it is run, and of what it was made.
    pub config: ImageConfig,
    layers: Vec<(Layer, Descriptor)>,
}

impl Image {
    /// Finds the image for `platform` that `origin` means: the `pinned` one, if there is such.
    ///
    /// # Errors
    /// Where there is none, it is not what it says, or is for another platform.
    pub fn find(
        job: &JobContext<'_>,
        origin: Origin,
        platform: &Platform,
        pinned: Option<&Digest>,
    ) -> Result<Self, Error> {
        let cache = job.store.step_cache()?;
        let image = match pinned.and_then(|digest| Self::in_cache(&cache, &origin, digest)) {
            Some(image) => {
                image.warn_of_another(job, platform);
                image
            }
            None => Self::in_files(job, &cache, origin, platform, pinned)?,
        };
        let found = platform_of(&image.config);
        if !same_platform(&found, platform) {
            let (path, wanted) = (image.origin.path, platform.clone());
            return Err(Error::Platform { path, found, wanted });
        }
        Ok(image)
    }

    /// Returns the image of this manifest, where the cache has it whole.
    fn in_cache(cache: &StepCache, origin: &Origin, digest: &Digest) -> Option<Self> {
        let CachedImage { media_type, manifest, config, .. } = cache.image(digest)?;
        let descriptor = Descriptor::new(media_type, *digest, manifest.len() as u64);
        // Checked as if it had come just now: nothing of the cache is believed.
        let why = |why: String| Error::Wrong { path: origin.path.clone(), why };
        let config = |_: &Descriptor| Ok(config.clone().into_bytes());
        let found = oci::manifest(&descriptor, manifest.into_bytes(), &config, &why).ok()?;
        let FoundManifest { manifest, .. } = found.manifest?;
        Some(Self::of(origin.clone(), *digest, manifest, found.config, found.layers))
    }

    fn of(
        origin: Origin,
        digest: Digest,
        manifest: Manifest,
        config: ImageConfig,
        layers: Vec<Layer>,
    ) -> Self {
        let layers = layers.into_iter().zip(manifest.layers).collect();
        Self { origin, digest, config, layers }
    }

    /// Reads it from the files that keep it.
    fn in_files(
        job: &JobContext<'_>,
        cache: &StepCache,
        origin: Origin,
        platform: &Platform,
        pinned: Option<&Digest>,
    ) -> Result<Self, Error> {
        let staging = job.store.staging()?;
        let files = Files::open(&origin.path, staging.dir())?;
        let gone =
            |pinned: &Digest| Err(Error::Gone { path: origin.path.clone(), pinned: *pinned });
        let named = origin.named.as_deref();
        let Found { manifest, config_bytes, config, layers } = match pinned {
            _ if !files.is_oci()? => docker::find(&files, named)?,
            None => oci::find(&files, named, platform)?,
            Some(pinned) => match oci::by_digest(&files, pinned)? {
                Some(descriptor) => oci::image(&files, &descriptor, platform)?,
                None => return gone(pinned),
            },
        };
        let (manifest, bytes, layers) = match manifest {
            Some(FoundManifest { manifest, bytes, .. }) => (manifest, bytes, layers),
            None => {
                // What its manifest says is known when its layers have been read.
                let origin = &origin.path;
                let copier = Copier::new(job, &staging, origin, "base", layers.iter());
                let copy = |layer: &Layer| copier.copy(layer, files.reader(&layer.path)?);
                let made = layers.iter().map(copy).collect::<Result<Vec<_>, _>>()?;
                for (layer, made) in layers.iter().zip(&made) {
                    cache.keep_layer(&made.digest, &layer.diff_id, &staging)?;
                }
                let size = config_bytes.len() as u64;
                let named = Digest::of(&config_bytes);
                let config = Descriptor::new(image::MEDIA_CONFIG, named, size);
                let manifest = Manifest::new(config, made);
                let bytes = manifest.to_json();
                (manifest, bytes, layers)
            }
        };
        let digest = Digest::of(&bytes);
        if let Some(pinned) = pinned.filter(|pinned| **pinned != digest) {
            return gone(pinned);
        }
        let layers = layers.into_iter().zip(&manifest.layers).map(|(layer, descriptor)| Layer {
            expected: Some((descriptor.digest, descriptor.size)),
            ..layer
        });
        let layers = layers.collect();
        // Both are JSON.
        if let (Ok(text), Ok(config)) = (String::from_utf8(bytes), String::from_utf8(config_bytes))
        {
            let media_type = manifest.media_type.clone().unwrap_or_default();
            cache.keep_image(&CachedImage::new(media_type, text, config))?;
        }
        Ok(Self::of(origin, digest, manifest, config, layers))
    }

    /// Notes that a layout has another image by now than the one that is used. Only what costs
    /// nothing is looked at.
    fn warn_of_another(&self, job: &JobContext<'_>, platform: &Platform) {
        let Origin { path, named } = &self.origin;
        let now = || -> Result<Option<Digest>, Error> {
            if !path.is_dir() {
                return Ok(None);
            }
            let files = Files::open(path, path)?;
            if !files.is_oci()? {
                return Ok(None);
            }
            let found = oci::find(&files, named.as_deref(), platform)?;
            Ok(found.manifest.map(|found| Digest::of(found.bytes)))
        };
        // What is there now is not what is used: that it cannot be read is of no account.
        if let Ok(Some(now)) = now()
            && now != self.digest
        {
            let (path, pinned) = (path.display(), self.digest);
            let message = format!(
                "{path} has {now} now; the lock file pins {pinned}, which is used: `bake lock \
                    --update` takes what is there"
            );
            (job.sink)(Event::Note { message });
        }
    }

    /// Returns its layers, the lowest first.
    #[must_use]
    pub fn layers(&self) -> Vec<(Blob, Compression)> {
        let blob = |(layer, descriptor): &(Layer, Descriptor)| {
            let Descriptor { digest, size, .. } = descriptor;
            let blob = Blob { diff_id: layer.diff_id, digest: *digest, size: *size, tar_size: 0 };
            // Every manifest that was read has types that are known.
            (blob, layer.how.unwrap_or(how(descriptor)))
        };
        self.layers.iter().map(blob).collect()
    }

    /// Puts all its layers into `staging`, each checked: those that the cache does not have come
    /// from the published blobs, or from where the image comes from.
    ///
    /// # Errors
    /// Where one cannot be had, or is not what the image says of it.
    pub fn fetch(&self, job: &JobContext<'_>, staging: &Staging) -> Result<(), Error> {
        let cache = job.store.step_cache()?;
        let missing = |cache: &StepCache| -> Result<Vec<usize>, Error> {
            let mut missing = vec![];
            for (at, (layer, Descriptor { digest, size, .. })) in self.layers.iter().enumerate() {
                if !cache.layer(digest, *size, &layer.diff_id, staging)? {
                    missing.push(at);
                }
            }
            Ok(missing)
        };
        if missing(&cache)?.is_empty() {
            return Ok(());
        }
        // Others that stand on it wait, and find what this one has fetched.
        let stop = || job.cancel.fired();
        let name = Digest::of(format!("image {}", self.digest));
        let Some((_lock, _)) = cache.lock(&name, &stop)? else {
            return Err(job::Error::Interrupted.into());
        };
        let missing = missing(&cache)?;
        let layers = missing.iter().map(|at| &self.layers[*at].0);
        let copier = Copier::new(job, staging, &self.origin.path, "base", layers);
        let mut files: Option<(Files, Vec<String>)> = None;
        for at in missing {
            let (layer, Descriptor { digest, .. }) = &self.layers[at];
            if !self.take_of_store(job, &cache, &copier, layer, digest)? {
                let (files, paths) = match &files {
                    Some(files) => files,
                    None => files.insert(self.open(staging)?),
                };
                let path = paths.get(at).unwrap_or(&layer.path);
                copier.copy(layer, files.reader(path)?)?;
            }
            cache.keep_layer(digest, &layer.diff_id, staging)?;
        }
        Ok(())
    }

    /// Takes a layer that is in the store already, where it is what it must be.
    fn take_of_store(
        &self,
        job: &JobContext<'_>,
        cache: &StepCache,
        copier: &Copier<'_>,
        layer: &Layer,
        digest: &Digest,
    ) -> Result<bool, Error> {
        for path in [cache.blob_path(digest), job.store.blob_path(digest)] {
            let Ok(file) = File::open(&path) else { continue };
            match copier.copy(layer, Box::new(file)) {
                Ok(_) => return Ok(true),
                Err(Error::Job(error)) => return Err(error.into()),
                // Damaged: there is another way to get it.
                Err(_) => {}
            }
        }
        Ok(false)
    }

    /// Opens the files that keep it; returns also where in them its layers are.
    fn open(&self, staging: &Staging) -> Result<(Files, Vec<String>), Error> {
        let files = Files::open(&self.origin.path, staging.dir())?;
        if files.is_oci()? {
            let paths = self.layers.iter().map(|(_, one)| oci::path(&one.digest)).collect();
            return Ok((files, paths));
        }
        let found = docker::find(&files, self.origin.named.as_deref())?;
        let paths = found.layers.into_iter().map(|layer| layer.path).collect();
        Ok((files, paths))
    }

    /// Where it comes from.
    #[must_use]
    pub fn origin(&self) -> &Path {
        &self.origin.path
    }
}

fn how(descriptor: &Descriptor) -> Compression {
    match descriptor.media_type.as_str() {
        image::MEDIA_LAYER_GZIP => Compression::Gzip,
        image::MEDIA_LAYER_ZSTD => Compression::Zstd,
        _ => Compression::None,
    }
}
