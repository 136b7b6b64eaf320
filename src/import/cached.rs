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

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::docker;
use super::error::Error;
use super::files::Files;
use super::found::{Found, FoundManifest, Layer, platform as platform_of, same_platform};
use super::layer::Copier;
use super::oci;
use super::remote::{self, Remote};
use crate::digest::Digest;
use crate::event::Event;
use crate::image::{self, Descriptor, ImageConfig, Manifest, Platform, RemoteName};
use crate::job::{self, JobContext};
use crate::layer::{Blob, Compression};
use crate::registry::{self, Options, Repository};
use crate::store::{CachedImage, Staging, StepCache};

/// Where an image comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Files of another tool.
    Files {
        /// The directory or archive.
        path: PathBuf,
        /// Which image, where there are several.
        named: Option<String>,
    },
    /// A registry.
    Registry {
        /// What the image is called there.
        name: RemoteName,
        /// How it is spoken to.
        options: Box<Options>,
    },
}

impl Origin {
    /// Names it within a run.
    fn name(&self) -> String {
        match self {
            Self::Files { path, named } => format!("{} {named:?}", path.display()),
            Self::Registry { name, .. } => name.to_string(),
        }
    }

    /// Returns what it is called in messages.
    fn shown(&self) -> PathBuf {
        match self {
            Self::Files { path, .. } => path.clone(),
            Self::Registry { name, .. } => name.to_string().into(),
        }
    }
}

/// What images of a run were found to be: however often one is named, and wherever, it is looked
/// up once. Cheap to clone; the clones know the same.
#[derive(Debug, Clone, Default)]
pub struct Resolved(Arc<Mutex<BTreeMap<String, Digest>>>);

impl Resolved {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Digest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An image from elsewhere.
pub struct Image {
    origin: Origin,
    /// Where it comes from a registry: asked for everything, so that who asks says so once.
    pub(super) repository: Option<Repository>,
    /// Of its manifest: what names it.
    pub digest: Digest,
    pub(super) manifest: FoundManifest,
    pub(super) config_bytes: Vec<u8>,
    /// What it says of how it is run, and of what it was made.
    pub config: ImageConfig,
    layers: Vec<Layer>,
}

impl Image {
    /// Finds the image for `platform` that `origin` means: the `pinned` one, if there is such, else
    /// what it was `resolved` to first.
    ///
    /// # Errors
    /// Where there is none, it is not what it says, or is for another platform.
    pub fn find_once(
        job: &JobContext<'_>,
        origin: Origin,
        platform: &Platform,
        pinned: Option<&Digest>,
        resolved: &Resolved,
    ) -> Result<Self, Error> {
        if pinned.is_some() {
            return Self::find(job, origin, platform, pinned);
        }
        let name = format!("{} {platform}", origin.name());
        let before = resolved.all().get(&name).copied();
        let image = Self::find(job, origin.clone(), platform, before.as_ref())?;
        let first = *resolved.all().entry(name).or_insert(image.digest);
        match first == image.digest {
            true => Ok(image),
            // Another thread was faster, and the name has moved since.
            false => Self::find(job, origin, platform, Some(&first)),
        }
    }

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
        let cached = pinned.and_then(|digest| Self::in_cache(&cache, &origin, digest));
        let repository = match &origin {
            Origin::Files { .. } => None,
            Origin::Registry { name, options } => Some(repository(job, name, options)),
        };
        let keep = cached.is_none();
        let image = match cached {
            Some(image) => {
                image.warn_of_another(job, platform);
                Self { repository, ..image }
            }
            None => match (&origin, repository) {
                (Origin::Files { path, named }, _) => {
                    let named = named.as_deref();
                    let found = Self::in_files(job, &cache, path, named, platform, pinned)?;
                    Self::of(origin, found)
                }
                (Origin::Registry { name, .. }, repository) => {
                    let repository = repository.expect("made above, of this origin");
                    let wanted = pinned.map_or_else(|| name.wanted(), Digest::to_string);
                    let remote = Remote::open(repository.clone(), &wanted);
                    let remote = remote.map_err(|error| match (error, pinned) {
                        (Error::Registry(registry::Error::NotFound { .. }), Some(pinned)) => {
                            Error::Gone { path: origin.shown(), pinned: *pinned }
                        }
                        (error, _) => error,
                    })?;
                    let found = oci::image(&remote, remote.first(), platform)?;
                    Self { repository: Some(repository), ..Self::of(origin, found) }
                }
            },
        };
        if let Some(pinned) = pinned.filter(|pinned| **pinned != image.digest) {
            return Err(Error::Gone { path: image.origin.shown(), pinned: *pinned });
        }
        let found = platform_of(&image.config);
        if !same_platform(&found, platform) {
            let (path, wanted) = (image.origin.shown(), platform.clone());
            return Err(Error::Platform { path, found, wanted });
        }
        if keep {
            image.keep(&cache)?;
        }
        Ok(image)
    }

    /// Returns the image of this manifest, where the cache has it whole.
    fn in_cache(cache: &StepCache, origin: &Origin, digest: &Digest) -> Option<Self> {
        let CachedImage { media_type, manifest, config, .. } = cache.image(digest)?;
        let descriptor = Descriptor::new(media_type, *digest, manifest.len() as u64);
        // Checked as if it had come just now: nothing of the cache is believed.
        let why = |why: String| Error::Wrong { path: origin.shown(), why };
        let config = |_: &Descriptor| Ok(config.clone().into_bytes());
        let found = oci::manifest(&descriptor, manifest.into_bytes(), &config, &why).ok()?;
        found.manifest.is_some().then(|| Self::of(origin.clone(), found))
    }

    /// Makes it of what was found; of Docker's archive with the manifest that bake writes.
    fn of(origin: Origin, found: Found) -> Self {
        let Found { manifest, config_bytes, config, layers } = found;
        let manifest = manifest.unwrap_or_else(|| {
            let made = layers.iter().filter_map(Layer::descriptor).collect();
            let size = config_bytes.len() as u64;
            let named = Descriptor::new(image::MEDIA_CONFIG, Digest::of(&config_bytes), size);
            let manifest = Manifest::new(named, made);
            FoundManifest { bytes: manifest.to_json(), manifest, ours: true }
        });
        let digest = Digest::of(&manifest.bytes);
        let repository = None;
        Self { origin, repository, digest, manifest, config_bytes, config, layers }
    }

    /// Finds it in the files that keep it.
    fn in_files(
        job: &JobContext<'_>,
        cache: &StepCache,
        path: &Path,
        named: Option<&str>,
        platform: &Platform,
        pinned: Option<&Digest>,
    ) -> Result<Found, Error> {
        let staging = job.store.staging()?;
        let files = Files::open(path, staging.dir())?;
        if !files.is_oci()? {
            let mut found = docker::find(&files, named)?;
            // What its manifest says is known when its layers have been read.
            let copier = Copier::new(job, &staging, path, "base", found.layers.iter());
            let copy = |layer: &Layer| copier.copy(layer, files.reader(&layer.path)?);
            let made = found.layers.iter().map(copy).collect::<Result<Vec<_>, _>>()?;
            drop(copier);
            for (layer, made) in found.layers.iter_mut().zip(made) {
                cache.keep_layer(&made.digest, &layer.diff_id, &staging)?;
                layer.is(&made);
            }
            return Ok(found);
        }
        let Some(pinned) = pinned else { return oci::find(&files, named, platform) };
        match oci::by_digest(&files, pinned)? {
            Some(descriptor) => oci::image(&files, &descriptor, platform),
            None => Err(Error::Gone { path: path.to_owned(), pinned: *pinned }),
        }
    }

    /// Keeps manifest and config in the cache.
    fn keep(&self, cache: &StepCache) -> Result<(), Error> {
        let (manifest, config) = (self.manifest.bytes.clone(), self.config_bytes.clone());
        // Both are JSON.
        let (Ok(text), Ok(config)) = (String::from_utf8(manifest), String::from_utf8(config))
        else {
            return Ok(());
        };
        let media_type = self.manifest.manifest.media_type.clone().unwrap_or_default();
        Ok(cache.keep_image(&CachedImage::new(media_type, text, config))?)
    }

    /// Notes that a layout has another image by now than the one that is used. Only what costs
    /// nothing is looked at.
    fn warn_of_another(&self, job: &JobContext<'_>, platform: &Platform) {
        let Origin::Files { path, named } = &self.origin else { return };
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
        let blob = |layer: &Layer| {
            let (digest, size) = layer.expected?;
            let blob = Blob { diff_id: layer.diff_id, digest, size, tar_size: 0 };
            Some((blob, layer.how?))
        };
        // All of both are known by now.
        self.layers.iter().filter_map(blob).collect()
    }

    /// Returns how a manifest of ours names its layers, the lowest first.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = Descriptor> {
        self.layers.iter().filter_map(Layer::descriptor)
    }

    /// Puts all its layers into `staging`, each checked: those that the cache does not have come
    /// from the published blobs, or from where the image comes from. `task`: what is done, for the
    /// display of progress.
    ///
    /// # Errors
    /// Where one cannot be had, or is not what the image says of it.
    pub fn fetch(
        &self,
        job: &JobContext<'_>,
        staging: &Staging,
        task: &'static str,
    ) -> Result<(), Error> {
        let cache = job.store.step_cache()?;
        if self.missing(&cache, staging)?.is_empty() {
            return Ok(());
        }
        // Others that stand on it wait, and find what this one has fetched.
        let stop = || job.cancel.fired();
        let name = Digest::of(format!("image {}", self.digest));
        let Some((_lock, _)) = cache.lock(&name, &stop)? else {
            return Err(job::Error::Interrupted.into());
        };
        let missing = self.missing(&cache, staging)?;
        let shown = self.origin.shown();
        let layers = missing.iter().map(|(_, layer, _)| *layer);
        let copier = Copier::new(job, staging, &shown, task, layers);
        let known = |layer: &Layer, blob: &Descriptor| {
            take_of_store(job, &cache, &copier, layer, &blob.digest)
        };
        let keep = |layer: &Layer, blob: &Descriptor| {
            Ok(cache.keep_layer(&blob.digest, &layer.diff_id, staging)?)
        };
        match &self.origin {
            Origin::Files { path, named } => {
                let mut files: Option<(Files, Vec<String>)> = None;
                for (at, layer, blob) in &missing {
                    if !known(layer, blob)? {
                        let (files, paths) = match &files {
                            Some(files) => files,
                            None => files.insert(self.open(path, named.as_deref(), staging)?),
                        };
                        let path = paths.get(*at).unwrap_or(&layer.path);
                        copier.copy(layer, files.reader(path)?)?;
                    }
                    keep(layer, blob)?;
                }
                Ok(())
            }
            Origin::Registry { .. } => {
                let repository = self.repository.as_ref().expect("it has one that came from one");
                let layers: Vec<_> =
                    missing.iter().map(|(_, layer, blob)| (*layer, blob)).collect();
                remote::fetch(repository, &copier, &layers, &known, &keep)
            }
        }
    }

    /// Returns the layers that the cache does not have, each once; the others are in `staging`
    /// then.
    fn missing(
        &self,
        cache: &StepCache,
        staging: &Staging,
    ) -> Result<Vec<(usize, &Layer, Descriptor)>, Error> {
        let (mut missing, mut seen) = (vec![], BTreeSet::new());
        for (at, layer) in self.layers.iter().enumerate() {
            let Some(blob) = layer.descriptor() else { continue };
            if seen.insert((blob.digest, layer.diff_id))
                && !cache.layer(&blob.digest, blob.size, &layer.diff_id, staging)?
            {
                missing.push((at, layer, blob));
            }
        }
        Ok(missing)
    }

    /// Opens the files that keep it; returns also where in them its layers are.
    fn open(
        &self,
        path: &Path,
        named: Option<&str>,
        staging: &Staging,
    ) -> Result<(Files, Vec<String>), Error> {
        let files = Files::open(path, staging.dir())?;
        let layers = match files.is_oci()? {
            true => return Ok((files, vec![])),
            false => docker::find(&files, named)?.layers,
        };
        Ok((files, layers.into_iter().map(|layer| layer.path).collect()))
    }
}

/// Makes the repository of an image; the end of the job ends what is asked of it.
fn repository(job: &JobContext<'_>, name: &RemoteName, options: &Options) -> Repository {
    let cancel = job.cancel.clone();
    Repository::new(name, &Options { stop: Arc::new(move || cancel.fired()), ..options.clone() })
}

/// Takes a layer that is in the store already, where it is what it must be.
fn take_of_store(
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
