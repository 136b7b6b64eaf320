//! A stored image as a machine: its manifest and config read, its layers unpacked, to be tested or
//! run.

mod publish;
pub(super) mod run;

use std::path::PathBuf;

use super::error::Error;
use super::{Hall, pack};
use crate::digest::Digest;
use crate::event::chain;
use crate::image::{self, Descriptor, ImageConfig, Kind, Manifest, Platform};
use crate::layer::Compression;
use crate::sandbox::{Host, Rung, Session};
use crate::store::{Draft, Store, Tree};

/// Reads manifest and config of a stored image; of an index those of this machine's image.
pub(super) fn read(store: &Store, named: &Descriptor) -> Result<(Manifest, ImageConfig), Error> {
    let broken = |error: &dyn std::error::Error| Error::Chore {
        what: format!("read the image {}", named.digest),
        why: chain(error).join(": "),
    };
    let descriptor = match image::kind(&named.media_type) {
        Kind::Index => {
            let index = image::Index::parse(&store.read_blob(&named.digest)?)
                .map_err(|error| broken(&error))?;
            let host = Platform::host();
            let fits = |one: &&Descriptor| {
                one.platform
                    .as_ref()
                    .is_some_and(|p| (&p.os, &p.architecture) == (&host.os, &host.architecture))
            };
            index.manifests.iter().find(fits).cloned().ok_or_else(|| Error::Chore {
                what: format!("read the image {}", named.digest),
                why: format!("it has none for {host}"),
            })?
        }
        _ => named.clone(),
    };
    let manifest =
        Manifest::parse(&store.read_blob(&descriptor.digest)?).map_err(|error| broken(&error))?;
    let config = ImageConfig::parse(&store.read_blob(&manifest.config.digest)?)
        .map_err(|error| broken(&error))?;
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
        let name = tree_name(hall.host.get()?, diff_id);
        let mut tree = cache.tree(&name)?;
        let mut folder = None;
        if tree.is_none() {
            let drafted = draft.path(&layer.digest);
            let blob =
                if drafted.is_file() { drafted } else { hall.store.blob_path(&layer.digest) };
            let at = draft.dir().join(format!("machine-{n}"));
            let into = at.join("u");
            // The name in the cache stands for the content, and only layers of bake's own are known
            // to have the content they claim: checked as a blob, not as a tar. So what is unpacked
            // here stays here.
            pack::unpack_layer(session, draft, &blob, &layer.digest, how, &into, hall.cancel)?;
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
pub(super) fn tree_name(host: &Host, diff_id: &Digest) -> String {
    let map = match &host.rung {
        Rung::Root => "root".to_owned(),
        Rung::Subids { uids, gids } => {
            format!("{}-{}-{}", rustix::process::geteuid().as_raw(), uids.0, gids.0)
        }
    };
    format!("{}-{map}", diff_id.hex())
}

fn compression(media_type: &str) -> Option<Compression> {
    match media_type {
        image::MEDIA_LAYER_GZIP | image::MEDIA_DOCKER_LAYER_GZIP => Some(Compression::Gzip),
        image::MEDIA_LAYER_ZSTD => Some(Compression::Zstd),
        image::MEDIA_LAYER | image::MEDIA_DOCKER_LAYER => Some(Compression::None),
        _ => None,
    }
}
