//! `docker-archive`: what `docker save` writes and every `docker load` reads: `manifest.json`, the
//! config, and layers as plain tars, because older readers know no compression there.

use std::collections::{BTreeMap, btree_map};
use std::io::{self, Write};

use serde::Serialize;

use super::error::Error;
use super::oci::named;
use super::source::Image;
use crate::layer::{Builder, Metadata};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

pub(super) fn write(image: &Image<'_>, out: &mut dyn Write) -> Result<(), Error> {
    let failed = |source| Error::Write { format: "docker-archive", source };
    let config = format!("{}.json", image.manifest.config.digest.hex());
    let listed = Listed {
        config: config.clone(),
        repo_tags: image.source.reference.version.iter().map(|_| named(image.source)).collect(),
        layers: image.layers().map(|(_, diff_id)| format!("{}.tar", diff_id.hex())).collect(),
    };
    let listed = serde_json::to_vec(&[listed]).expect("strings only");
    // A tar says sizes before contents, so each layer is decompressed twice; the alternative is
    // room for all of them on the disk.
    let mut layers = BTreeMap::new();
    for (layer, diff_id) in image.layers() {
        let name = format!("{}.tar", diff_id.hex());
        // Two layers may be the same tar.
        if let btree_map::Entry::Vacant(new) = layers.entry(name) {
            let copy = |tar: &mut dyn io::Read| {
                io::copy(tar, &mut io::sink())
                    .map_err(|source| Error::Blob { digest: layer.digest, source })
            };
            new.insert(Some((layer, diff_id, image.tar(layer, diff_id, copy)?)));
        }
    }
    layers.insert(config, None);
    let meta = Metadata { mode: 0o644, ..Metadata::default() };
    let mut tar = Builder::new(out, 0);
    for (name, layer) in layers {
        match layer {
            Some((layer, diff_id, size)) => {
                image.tar(layer, diff_id, |bytes| {
                    tar.file(name.as_bytes(), &meta, size, bytes).map_err(failed)
                })?;
            }
            None => {
                let mut bytes = &image.config_bytes[..];
                tar.file(name.as_bytes(), &meta, image.config_bytes.len() as u64, &mut bytes)
                    .map_err(failed)?;
            }
        }
    }
    tar.file(b"manifest.json", &meta, listed.len() as u64, &mut &listed[..]).map_err(failed)?;
    tar.finish().map(|_| ()).map_err(failed)
}
