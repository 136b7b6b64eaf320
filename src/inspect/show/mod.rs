//! One image in full: how it runs, what it is made of, how it came about.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::attest::{self, NetworkTrace, TestRun};
use crate::digest::Digest;
use crate::image::{Config, Descriptor, Image, ImageConfig, Manifest, Platform, Reference};
use crate::inspect::member::{Member, pick};
use crate::store::{
    Error, PUBLISHED_ANNOTATION, STEP_KEYS_ANNOTATION, Store, TESTED_ANNOTATION, read_step_keys,
};

mod size;

pub use size::{DirectorySize, PackageSize, Sizes, sizes};

/// Everything that is shown of one image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Details {
    /// `name:version`.
    pub reference: Reference,
    /// Digest that the version names: of the manifest, or of the index of several.
    pub digest: Digest,
    /// Digest of the manifest shown; another than `digest` only where that is an index.
    pub manifest: Digest,
    /// Media type of the manifest shown.
    pub media_type: String,
    /// Digest of the config: the image's id for Docker.
    pub config_digest: Digest,
    /// What it runs on.
    pub platform: Platform,
    /// When it was published, RFC 3339; `None` where bake did not publish it.
    pub published: Option<String>,
    /// When its content is from, RFC 3339: the same for the same content.
    pub created: Option<String>,
    /// Who made it, where somebody says so.
    pub author: Option<String>,
    /// Bytes of the manifest, the config and the layers as stored.
    pub size: u64,
    /// How it runs: user, ports, env, entrypoint, cmd, volumes, labels, …
    pub config: Config,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Whether its tests passed: `yes`, `no` where they were left out, `none` where it has none;
    /// unknown for images of other tools.
    pub tested: Option<String>,
    /// The last run of its tests that is recorded.
    pub test_run: Option<TestRun>,
    /// What its steps reached over the network, where that is known.
    pub network: Option<NetworkTrace>,
    /// Its layers, lowest first.
    pub layers: Vec<LayerRow>,
    /// How it came about, oldest first.
    pub history: Vec<StepRow>,
    /// Where the version names an index: the images in it.
    pub members: Vec<Member>,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerRow {
    /// sha256 of the stored bytes.
    pub digest: Digest,
    /// sha256 of the uncompressed tar, as the config says.
    pub diff_id: Option<Digest>,
    /// Stored bytes.
    pub size: u64,
    /// Media type.
    pub media_type: String,
    /// What made it, as the history says.
    pub created_by: Option<String>,
}

/// A step of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepRow {
    /// When, RFC 3339.
    pub created: Option<String>,
    /// By what command.
    pub created_by: String,
    /// A word on it.
    pub comment: String,
    /// Which layer it made: a place in [`Details::layers`].
    pub layer: Option<usize>,
    /// The first digits of the key of the step, where the image was built in this store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Shows one image. Of an index the image for `platform`, else for this machine, else its first.
pub fn show(
    store: &Store,
    reference: &Reference,
    platform: Option<&Platform>,
) -> Result<Details, Error> {
    let version = store.resolve(reference)?;
    let (descriptor, members) = pick(store, &version.manifest, platform)?;
    let Image { manifest, config, .. } = store.image(&descriptor)?;
    let (layers, mut history) = relate(&manifest, &config);
    // What holds of an index does not hold of the images in it.
    if let Some(keys) = version
        .manifest
        .annotations
        .get(STEP_KEYS_ANNOTATION)
        .filter(|_| descriptor.digest == version.manifest.digest)
    {
        history.iter_mut().zip(read_step_keys(keys)).for_each(|(row, key)| row.key = key);
    }
    let blobs = [&descriptor, &manifest.config].into_iter().chain(&manifest.layers);
    let tested = version.manifest.annotations.get(TESTED_ANNOTATION).cloned();
    Ok(Details {
        published: version.manifest.annotations.get(PUBLISHED_ANNOTATION).cloned(),
        tested,
        test_run: last(store, &descriptor.digest, attest::test_run)?,
        network: last(store, &descriptor.digest, attest::network_trace)?,
        reference: version.reference,
        digest: version.manifest.digest,
        manifest: descriptor.digest,
        size: blobs.fold(0, |sum, blob| sum.saturating_add(blob.size)),
        media_type: descriptor.media_type,
        config_digest: manifest.config.digest,
        platform: config.platform(),
        created: config.created,
        author: config.author,
        config: config.config,
        annotations: manifest.annotations,
        layers,
        history,
        members,
    })
}

/// Finds the last statement about an image that `parse` can read. What is no such one, or cannot be
/// read, is none: `verify` reports it.
fn last<T>(
    store: &Store,
    image: &Digest,
    parse: fn(&[u8], &Digest) -> Option<T>,
) -> Result<Option<T>, Error> {
    let read = |artifact: &Descriptor| {
        let manifest = store.manifest(artifact).ok()?;
        parse(&store.read_blob(&manifest.layers.first()?.digest).ok()?, image)
    };
    let referrers = store.referrers(image)?;
    Ok(referrers
        .iter()
        .rev()
        .filter(|one| one.artifact_type.as_deref() == Some(attest::MEDIA_IN_TOTO))
        .find_map(read))
}

/// Says which step made which layer: the steps that are not empty, one to one, as far as both go.
fn relate(manifest: &Manifest, config: &ImageConfig) -> (Vec<LayerRow>, Vec<StepRow>) {
    let mut layers: Vec<LayerRow> = vec![];
    for (n, layer) in manifest.layers.iter().enumerate() {
        layers.push(LayerRow {
            digest: layer.digest,
            diff_id: config.rootfs.diff_ids.get(n).copied(),
            size: layer.size,
            media_type: layer.media_type.clone(),
            created_by: None,
        });
    }
    let mut next = 0..layers.len();
    let mut history = vec![];
    for entry in &config.history {
        let layer = if entry.empty_layer { None } else { next.next() };
        if let Some(layer) = layer {
            layers[layer].created_by = Some(entry.created_by.clone());
        }
        history.push(StepRow {
            created: entry.created.clone(),
            created_by: entry.created_by.clone(),
            comment: entry.comment.clone(),
            layer,
            key: None,
        });
    }
    (layers, history)
}
