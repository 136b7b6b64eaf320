//! A stored image to be tested or run: its manifest and config read, its layers unpacked.

use std::path::PathBuf;

use crate::digest::Digest;
use crate::image::{self, Descriptor, Image, ImageConfig, Manifest, Platform};
use crate::job::{Error, JobContext, LayerBlob, Session, unpack_layer};
use crate::layer::Compression;
use crate::sandbox::{Host, IdMode};
use crate::store::{Staging, Store, UnpackedLayer};

/// Reads manifest and config of a stored image; of an index those of the image for `platform`, else
/// for this machine.
pub(crate) fn read(
    store: &Store,
    named: &Descriptor,
    platform: Option<&Platform>,
) -> Result<(Manifest, ImageConfig), Error> {
    let descriptor = store.for_platform(named, platform)?;
    let Image { manifest, config, .. } = store.image(&descriptor)?;
    Ok((manifest, config))
}

/// The layers of an image, unpacked.
pub(crate) struct Layers {
    /// Their directories, topmost first.
    pub(crate) lower: Vec<PathBuf>,
    /// Hold those directories that are shared.
    _trees: Vec<UnpackedLayer>,
}

/// Unpacks the layers of an image, unless the cache has them.
pub(crate) fn unpacked(
    context: &JobContext<'_>,
    session: &Session,
    staging: &Staging,
    manifest: &Manifest,
    config: &ImageConfig,
) -> Result<Layers, Error> {
    let cache = context.store.step_cache()?;
    let mut layers = Layers { lower: vec![], _trees: vec![] };
    for (n, layer) in manifest.layers.iter().enumerate() {
        if context.cancel.fired() {
            return Err(Error::Interrupted);
        }
        let fail =
            |why: String| Error::Failed { what: format!("unpack the layer {}", layer.digest), why };
        let how = compression(&layer.media_type)
            .ok_or_else(|| fail(format!("its media type is {:?}", layer.media_type)))?;
        let diff_id = config
            .rootfs
            .diff_ids
            .get(n)
            .ok_or_else(|| fail("the config does not list it".to_owned()))?;
        let name = tree_name(context.host.get()?, &layer.digest, diff_id);
        let mut tree = cache.unpacked(&name)?;
        let mut directory = None;
        if tree.is_none() {
            let staged = staging.path(&layer.digest);
            let blob = if staged.is_file() {
                staged
            } else {
                // Of the size in the manifest.
                context.store.blob_of(layer)?;
                context.store.blob_path(&layer.digest)
            };
            let at = staging.dir().join(format!("layer-{n}"));
            let into = at.join("u");
            // Only of layers of bake's own it is known that the tar is the one that the config
            // says.
            let (path, digest) = (blob.as_path(), &layer.digest);
            let blob = LayerBlob { path, digest, diff_id: Some(diff_id), how };
            unpack_layer(session, staging, &blob, &into, context.cancel)?;
            directory = Some(into);
        }
        layers.lower.insert(
            0,
            tree.as_ref().map_or_else(|| directory.unwrap_or_default(), |tree| tree.path.clone()),
        );
        layers._trees.extend(tree.take());
    }
    Ok(layers)
}

/// Returns the name of an unpacked layer in the cache: owners on disk are not the same for every
/// way to map ids.
pub(crate) fn tree_name(host: &Host, digest: &Digest, diff_id: &Digest) -> String {
    let map = match &host.id_mode {
        IdMode::Root => "root".to_owned(),
        IdMode::Subids { uids, gids } => {
            format!("{}-{}-{}", rustix::process::geteuid().as_raw(), uids.0, gids.0)
        }
    };
    // Both: another image may claim of the same blob that it is another tar, or the other way
    // round.
    format!("{}-{}-{map}", digest.hex(), diff_id.short())
}

pub(crate) fn compression(media_type: &str) -> Option<Compression> {
    match media_type {
        image::MEDIA_LAYER_GZIP | image::MEDIA_DOCKER_LAYER_GZIP => Some(Compression::Gzip),
        image::MEDIA_LAYER_ZSTD => Some(Compression::Zstd),
        image::MEDIA_LAYER | image::MEDIA_DOCKER_LAYER => Some(Compression::None),
        _ => None,
    }
}
