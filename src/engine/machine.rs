//! A stored image as a machine: its manifest and config read, its layers unpacked, to be tested or
//! run.

mod publish;
pub(super) mod run;

use std::path::PathBuf;

use super::call::Session;
use super::error::Error;
use super::{Hall, pack};
use crate::digest::Digest;
use crate::image::{self, Descriptor, Image, ImageConfig, Kind, Manifest, Platform};
use crate::layer::Compression;
use crate::sandbox::{Host, Rung};
use crate::store::{Draft, Store, Tree};

/// Reads manifest and config of a stored image; of an index those of this machine's image.
pub(super) fn read(store: &Store, named: &Descriptor) -> Result<(Manifest, ImageConfig), Error> {
    let descriptor = match image::kind(&named.media_type) {
        Kind::Index => {
            let host = Platform::host();
            let fits = |one: &&Descriptor| {
                one.platform
                    .as_ref()
                    .is_some_and(|p| (&p.os, &p.architecture) == (&host.os, &host.architecture))
            };
            let index = store.image_index(named)?;
            index.manifests.iter().find(fits).cloned().ok_or_else(|| Error::Chore {
                what: format!("read the image {}", named.digest),
                why: format!("it has none for {host}"),
            })?
        }
        _ => named.clone(),
    };
    let Image { manifest, config, .. } = store.image(&descriptor)?;
    Ok((manifest, config))
}

/// The layers of an image, unpacked.
pub(super) struct Layers {
    /// Their folders, topmost first.
    pub(super) lower: Vec<PathBuf>,
    /// Hold those folders that are shared.
    _trees: Vec<Tree>,
}

/// Unpacks the layers of an image, unless the cache has them.
pub(super) fn unpacked(
    hall: &Hall<'_>,
    session: &Session,
    draft: &Draft,
    manifest: &Manifest,
    config: &ImageConfig,
) -> Result<Layers, Error> {
    let cache = hall.store.step_cache()?;
    let mut layers = Layers { lower: vec![], _trees: vec![] };
    for (n, layer) in manifest.layers.iter().enumerate() {
        if hall.cancel.fired() {
            return Err(Error::Interrupted);
        }
        let fail =
            |why: String| Error::Chore { what: format!("unpack the layer {}", layer.digest), why };
        let how = compression(&layer.media_type)
            .ok_or_else(|| fail(format!("its media type is {:?}", layer.media_type)))?;
        let diff_id = config
            .rootfs
            .diff_ids
            .get(n)
            .ok_or_else(|| fail("the config does not list it".to_owned()))?;
        let name = tree_name(hall.host.get()?, &layer.digest, diff_id);
        let mut tree = cache.tree(&name)?;
        let mut folder = None;
        if tree.is_none() {
            let drafted = draft.path(&layer.digest);
            let blob = if drafted.is_file() {
                drafted
            } else {
                // Of the size that the manifest says.
                hall.store.blob_of(layer)?;
                hall.store.blob_path(&layer.digest)
            };
            let at = draft.dir().join(format!("machine-{n}"));
            let into = at.join("u");
            // Only of layers of bake's own it is known that the tar is the one that the config
            // says.
            let digest = &layer.digest;
            let known = Some(diff_id);
            pack::unpack_layer(session, draft, &blob, digest, known, how, &into, hall.cancel)?;
            folder = Some(into);
        }
        layers.lower.insert(
            0,
            tree.as_ref().map_or_else(|| folder.unwrap_or_default(), |tree| tree.path.clone()),
        );
        layers._trees.extend(tree.take());
    }
    Ok(layers)
}

/// Returns the name of an unpacked layer in the cache: owners on disk are not the same for every
/// way to map ids.
pub(super) fn tree_name(host: &Host, digest: &Digest, diff_id: &Digest) -> String {
    let map = match &host.rung {
        Rung::Root => "root".to_owned(),
        Rung::Subids { uids, gids } => {
            format!("{}-{}-{}", rustix::process::geteuid().as_raw(), uids.0, gids.0)
        }
    };
    // Both: another image may say of the same blob that it is another tar, or the other way round.
    format!("{}-{}-{map}", digest.hex(), diff_id.short())
}

fn compression(media_type: &str) -> Option<Compression> {
    match media_type {
        image::MEDIA_LAYER_GZIP | image::MEDIA_DOCKER_LAYER_GZIP => Some(Compression::Gzip),
        image::MEDIA_LAYER_ZSTD => Some(Compression::Zstd),
        image::MEDIA_LAYER | image::MEDIA_DOCKER_LAYER => Some(Compression::None),
        _ => None,
    }
}
