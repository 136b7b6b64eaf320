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

/// Finds the image manifest to be shown, and what else there is beside it: of an index the one for
/// `wanted`, else for this machine, else its first.
pub(super) fn pick(
    store: &Store,
    named: &Descriptor,
    wanted: Option<&Platform>,
) -> Result<(Descriptor, Vec<Member>), Error> {
    if kind(&named.media_type) != Kind::Index {
        return Ok((store.for_platform(named, wanted)?, vec![]));
    }
    let index = store.image_index(named)?;
    let images: Vec<&Descriptor> =
        index.manifests.iter().filter(|entry| kind(&entry.media_type) == Kind::Manifest).collect();
    let members = images
        .iter()
        .map(|entry| Member { digest: entry.digest, platform: entry.platform.clone() })
        .collect();
    match (store.for_platform(named, wanted), images.first()) {
        (Ok(found), _) => Ok((found, members)),
        (Err(Error::NoPlatform { .. }), Some(first)) if wanted.is_none() => {
            Ok(((*first).clone(), members))
        }
        (Err(Error::NoPlatform { .. }), None) => Err(Error::Damaged {
            path: store.blob_path(&named.digest),
            why: "the index has no image".to_owned(),
        }),
        (Err(error), _) => Err(error),
    }
}
