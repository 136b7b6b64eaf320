//! What is in the store, one row a version.

use std::collections::BTreeMap;

use serde::Serialize;

use super::error::describe;
use crate::digest::Digest;
use crate::image::{Descriptor, ImageConfig, Kind, Platform, kind};
use crate::store::{Error, PUBLISHED_ANNOTATION, Store};

/// One version. What a damaged image does not say is `None`, and `problem` says why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Name, without the version.
    pub name: String,
    /// Version.
    pub version: String,
    /// The manifest's digest.
    pub digest: Option<Digest>,
    /// What it runs on; of an index the first of its platforms.
    pub platform: Option<Platform>,
    /// When it was published, RFC 3339; `None` where bake did not publish it.
    pub published: Option<String>,
    /// When it was made, RFC 3339, as its config says: the same for the same content, whenever it
    /// was built.
    pub created: Option<String>,
    /// Layers; of an index those of all its images, each counted once.
    pub layers: Option<usize>,
    /// Bytes of all its blobs, each counted once: what a pull of it costs. Versions share blobs, so
    /// rows do not add up.
    pub size: Option<u64>,
    /// Why something is missing here.
    pub problem: Option<String>,
}

/// What was found on the way through the manifests of one version.
#[derive(Default)]
struct Sum {
    blobs: BTreeMap<Digest, u64>,
    layers: BTreeMap<Digest, u64>,
    config: Option<ImageConfig>,
}

/// Lists all versions: by name, then in order of publication. A damaged image is a row like any
/// other.
pub fn list(store: &Store) -> Result<Vec<Row>, Error> {
    let mut rows = vec![];
    for version in store.versions()? {
        let mut sum = Sum::default();
        let problem = sum.add(store, &version.manifest).err().map(|error| describe(&error));
        let whole = problem.is_none();
        rows.push(Row {
            name: version.reference.name,
            version: version.reference.version.unwrap_or_default(),
            digest: Some(version.manifest.digest),
            published: version.manifest.annotations.get(PUBLISHED_ANNOTATION).cloned(),
            platform: sum.config.as_ref().map(ImageConfig::platform),
            created: sum.config.and_then(|config| config.created),
            layers: whole.then_some(sum.layers.len()),
            size: whole
                .then(|| sum.blobs.values().fold(0, |sum: u64, size| sum.saturating_add(*size))),
            problem,
        });
    }
    for (reference, flaw) in store.damaged_versions()? {
        rows.push(Row {
            name: reference.name,
            version: reference.version.unwrap_or_default(),
            digest: None,
            published: None,
            platform: None,
            created: None,
            layers: None,
            size: None,
            problem: Some(format!("its entry in index.json cannot be read: {flaw}")),
        });
    }
    // A stable sort keeps the order within a name.
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}

impl Sum {
    fn add(&mut self, store: &Store, descriptor: &Descriptor) -> Result<(), Error> {
        let mut todo = vec![descriptor.clone()];
        while let Some(next) = todo.pop() {
            if self.blobs.insert(next.digest, next.size).is_some() {
                continue;
            }
            match kind(&next.media_type) {
                Kind::Index => {
                    let mut members = store.image_index(&next)?.manifests;
                    // Last in, first out: the first of the list speaks for the row.
                    members.reverse();
                    todo.extend(members);
                }
                Kind::Manifest => {
                    let manifest = store.manifest(&next)?;
                    for layer in &manifest.layers {
                        self.blobs.insert(layer.digest, layer.size);
                        self.layers.insert(layer.digest, layer.size);
                    }
                    if self.config.is_none() && kind(&manifest.config.media_type) == Kind::Config {
                        self.config = Some(store.image(&next)?.config);
                    }
                    self.blobs.insert(manifest.config.digest, manifest.config.size);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
