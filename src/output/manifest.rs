//! `manifest`: the names of the root file system as an mtree(5) text, small enough to lie on every
//! machine for `bake drift`.

use std::io::Write;

use super::error::Error;
use super::source::Image;
use crate::image::ANNOTATION_DRIFT_IGNORE;
use crate::layer;
use crate::tree::{self, Reader, Subject};

pub(super) fn write(image: &Image<'_>, out: &mut dyn Write) -> Result<(), Error> {
    let mut reader = Reader::new();
    for (descriptor, diff_id) in image.layers() {
        image.tar(descriptor, diff_id, |tar| {
            reader.layer(tar).map_err(|source| Error::Layer { digest: descriptor.digest, source })
        })?;
    }
    let reference = image.source.reference;
    let ignore = match image.manifest.annotations.get(ANNOTATION_DRIFT_IGNORE) {
        Some(text) => serde_json::from_str(text).map_err(|error| Error::NotAnImage {
            why: format!("its annotation {ANNOTATION_DRIFT_IGNORE} is no list: {error}"),
        })?,
        None => vec![],
    };
    let subject = Subject {
        name: reference.name.clone(),
        version: reference.version.clone().unwrap_or_default(),
        digest: image.source.manifest.digest,
        volumes: image.config.config.volumes.iter().cloned().collect(),
        ignore,
    };
    let failed =
        |source| Error::Write { format: "manifest", source: layer::Error::Write { source } };
    tree::write(&subject, &reader, out).map_err(failed)
}
