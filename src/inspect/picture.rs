//! The root file system of a stored image, name by name, and the manifest file that says the same
//! without a store.

use std::io::BufRead;
use std::path::Path;

use super::error::Error;
use super::member::pick;
use crate::image::{ANNOTATION_DRIFT_IGNORE, Image, ImageConfig, Manifest, Platform, Reference};
use crate::layer::{self, Unverified};
use crate::store::{Store, Version};
use crate::tree::{self, Reader, Subject, Tree};

/// Names at which a manifest file is refused: as many as layers may have.
const MAX_NAMES: usize = 4_000_000;

/// An image whose manifest and config are read and fit together.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) version: Version,
    pub(super) manifest: Manifest,
    pub(super) config: ImageConfig,
}

impl Opened {
    /// Finds an image; of an index the one for `platform`, else for this machine, else its first.
    pub(super) fn find(
        store: &Store,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<Self, Error> {
        let version = store.resolve(reference)?;
        let (descriptor, _) = pick(store, &version.manifest, platform)?;
        let Image { manifest, config, .. } = store.image(&descriptor)?;
        Ok(Self { version, manifest, config })
    }

    /// Puts its layer number `at` on top of what `reader` has.
    pub(super) fn read_layer(
        &self,
        store: &Store,
        at: usize,
        reader: &mut Reader,
    ) -> Result<(), Error> {
        let blob = &self.manifest.layers[at];
        let digest = blob.digest;
        layer::verified(store.blob_of(blob)?, digest, self.config.rootfs.diff_ids[at], |tar| {
            reader.layer(tar).map_err(|source| Error::Layer(Unverified::Layer { digest, source }))
        })
    }

    fn subject(&self) -> Result<Subject, Error> {
        let Reference { name, version, .. } = &self.version.reference;
        let ignore = match self.manifest.annotations.get(ANNOTATION_DRIFT_IGNORE) {
            Some(text) => serde_json::from_str(text).map_err(|error| Error::NotAnImage {
                image: self.version.reference.to_string(),
                why: format!("its annotation {ANNOTATION_DRIFT_IGNORE} is no list: {error}"),
            })?,
            None => vec![],
        };
        Ok(Subject {
            name: name.clone(),
            version: version.clone().unwrap_or_default(),
            digest: self.version.manifest.digest,
            volumes: self.config.config.volumes.iter().cloned().collect(),
            ignore,
        })
    }
}

/// What a machine is compared with: which image, and what it is made of.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Which image.
    pub subject: Subject,
    /// Its root file system.
    pub tree: Tree,
}

impl Picture {
    /// Reads a stored image, every layer once and verified; of an index the one for `platform`,
    /// else for this machine.
    pub fn of(
        store: &Store,
        reference: &Reference,
        platform: Option<&Platform>,
    ) -> Result<Self, Error> {
        let image = Opened::find(store, reference, platform)?;
        let subject = image.subject()?;
        let mut reader = Reader::new();
        for at in 0..image.manifest.layers.len() {
            image.read_layer(store, at, &mut reader)?;
        }
        Ok(Self { subject, tree: reader.tree() })
    }

    /// Reads a manifest that `bake export --format manifest` has written; `path` is for messages.
    pub fn read(from: &mut dyn BufRead, path: &Path) -> Result<Self, Error> {
        let (subject, tree) = tree::read(from, MAX_NAMES)
            .map_err(|source| Error::Manifest { path: path.to_owned(), source })?;
        Ok(Self { subject, tree })
    }
}
