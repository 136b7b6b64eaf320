//! An image of the store as base: found, checked, and its config and layers read.

use super::error::Error;
use crate::digest::Digest;
use crate::event::chain;
use crate::executor::StartImage;
use crate::image::{self, Kind, Platform, Reference, kind};
use crate::job;
use crate::layer::{Blob, Compression};
use crate::plan::artifact::{Artifact, ArtifactLayer};
use crate::plan::lock::LockedBase;
use crate::store::{self, Store, Version};
use crate::trial;

/// Reads the image `reference` as a base for `platform`; with `pinned` the one of this digest.
///
/// # Errors
/// Why it cannot be used, from the outside in: it is not there, revoked, for another platform, or
/// its blobs are not what its manifest says.
pub(super) fn read(
    store: &Store,
    reference: &Reference,
    pinned: Option<&Digest>,
    platform: &Platform,
) -> Result<StartImage, Vec<String>> {
    let version = match pinned {
        None => store.resolve(reference).map_err(|error| chain(&error))?,
        Some(digest) => {
            by_digest(store, digest).map_err(|error| chain(&error))?.ok_or_else(|| {
                vec![
                    format!("the lock file pins {digest}, which is no longer in the store"),
                    "`bake lock --update` takes what the name means now".to_owned(),
                ]
            })?
        }
    };
    store.check_not_revoked(&version).map_err(|error| chain(&error))?;
    let wanted = (kind(&version.manifest.media_type) == Kind::Index).then_some(platform);
    let (manifest, config) =
        trial::read(store, &version.manifest, wanted).map_err(|error| chain(&error))?;
    let there = (config.os.as_str(), config.architecture.as_str());
    if there != (platform.os.as_str(), platform.architecture.as_str()) {
        return Err(vec![format!(
            "it is for {}/{}, and this build is for {platform}",
            there.0, there.1
        )]);
    }
    let cache = store.step_cache().map_err(|error| chain(&error))?;
    let mut layers = vec![];
    for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        store.blob_of(layer).map_err(|error| chain(&error))?;
        // It need not be unpacked to become part of another image.
        let path = store.blob_path(&layer.digest);
        let found = cache.other_content(&path, &layer.digest).map_err(|error| chain(&error))?;
        if let Some(found) = found {
            return Err(vec![
                format!("the blob {} holds {found}", layer.digest),
                "it is damaged; `bake verify` names all that have it".to_owned(),
            ]);
        }
        let how = trial::compression(&layer.media_type).ok_or_else(|| {
            vec![format!("the media type of its layer {} is {:?}", layer.digest, layer.media_type)]
        })?;
        let blob = Blob { diff_id: *diff_id, digest: layer.digest, size: layer.size, tar_size: 0 };
        layers.push((blob, how));
    }
    if layers.len() != config.rootfs.diff_ids.len() || layers.len() != manifest.layers.len() {
        return Err(vec!["its config and its manifest disagree about its layers".to_owned()]);
    }
    let epoch = config.created.as_deref().and_then(image::epoch_of).unwrap_or(0);
    Ok(StartImage {
        locked: Some(LockedBase::Image {
            image: reference.to_string(),
            digest: version.manifest.digest,
        }),
        key: version.manifest.digest,
        epoch,
        config: config.config,
        history: config.history,
        layers,
        elsewhere: None,
    })
}

/// Returns a published version as what it gives to those that stand on it.
///
/// # Errors
/// Where its blobs are not what its manifest says.
pub(crate) fn artifact(
    store: &Store,
    version: &Version,
    platform: &Platform,
) -> Result<Artifact, Error> {
    let by = Reference { digest: Some(version.manifest.digest), ..version.reference.clone() };
    let image = read(store, &by, Some(&version.manifest.digest), platform);
    let image = image.map_err(|why| job::Error::Failed {
        what: format!("use {} as base", version.reference),
        why: why.join(": "),
    })?;
    let layer = |(blob, compression): (Blob, Compression)| ArtifactLayer {
        path: store.blob_path(&blob.digest),
        blob,
        compression,
        foreign: true,
    };
    let layers = image.layers.into_iter().map(layer).collect();
    Ok(Artifact { layers, history: image.history })
}

fn by_digest(store: &Store, digest: &Digest) -> Result<Option<Version>, store::Error> {
    Ok(store.versions()?.into_iter().find(|version| version.manifest.digest == *digest))
}
