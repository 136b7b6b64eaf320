//! Which image of several a name stands for.

use serde::Serialize;

use crate::digest::Digest;
use crate::image::{Descriptor, Kind, Platform, kind};
use crate::store::{Error, Store};

/// An image of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its manifest.
    pub digest: Digest,
    /// What it runs on, where the index says so.
    pub platform: Option<Platform>,
}

/// Finds the image manifest to be shown, and what else there is beside it.
pub(super) fn pick(store: &Store, named: &Descriptor) -> Result<(Descriptor, Vec<Member>), Error> {
    if kind(&named.media_type) != Kind::Index {
        return Ok((named.clone(), vec![]));
    }
    let index = store.image_index(named)?;
    let images: Vec<&Descriptor> =
        index.manifests.iter().filter(|entry| kind(&entry.media_type) == Kind::Manifest).collect();
    let members = images
        .iter()
        .map(|entry| Member { digest: entry.digest, platform: entry.platform.clone() })
        .collect();
    let host = Platform::host();
    let fits = |entry: &&&Descriptor| {
        entry
            .platform
            .as_ref()
            .is_some_and(|p| (&p.os, &p.architecture) == (&host.os, &host.architecture))
    };
    match images.iter().find(fits).or(images.first()) {
        Some(entry) => Ok(((*entry).clone(), members)),
        None => Err(Error::Damaged {
            path: store.blob_path(&named.digest),
            why: "the index has no image".to_owned(),
        }),
    }
}
