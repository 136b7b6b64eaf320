//! `oci-archive`: a tar of an OCI image layout that holds one image, its blobs as they are stored.

use std::collections::BTreeMap;
use std::io::Write;

use super::error::Error;
use super::source::Image;
use crate::image::{ANNOTATION_REF_NAME, Index};
use crate::layer::{Builder, Metadata};

pub(super) fn write(image: &Image<'_>, out: &mut dyn Write) -> Result<(), Error> {
    let failed = |source| Error::Write { format: "oci-archive", source };
    let mut descriptor = image.source.manifest.clone();
    // Annotations of the store's own index are not the image's.
    descriptor.annotations = match &image.source.reference.version {
        Some(_) => BTreeMap::from([(ANNOTATION_REF_NAME.to_owned(), named(image))]),
        None => BTreeMap::new(),
    };
    let index = Index { manifests: vec![descriptor], ..Index::default() };
    let mut blobs = BTreeMap::new();
    for blob in image.manifest.layers.iter().chain([&image.manifest.config, image.source.manifest])
    {
        blobs.insert(blob.digest.hex(), blob);
    }
    let (dir, file) = (
        Metadata { mode: 0o755, ..Metadata::default() },
        Metadata { mode: 0o644, ..Metadata::default() },
    );
    let mut tar = Builder::new(out, 0);
    tar.dir(b"blobs", &dir).map_err(failed)?;
    tar.dir(b"blobs/sha256", &dir).map_err(failed)?;
    for (hex, blob) in blobs {
        let path = format!("blobs/sha256/{hex}");
        image.raw(blob, |bytes| {
            tar.file(path.as_bytes(), &file, blob.size, bytes).map_err(failed)
        })?;
    }
    let index = index.to_json();
    tar.file(b"index.json", &file, index.len() as u64, &mut &index[..]).map_err(failed)?;
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
    tar.file(b"oci-layout", &file, layout.len() as u64, &mut &layout[..]).map_err(failed)?;
    tar.finish().map(|_| ()).map_err(failed)
}

/// The name in the archive: `name:version`, without the digest that may stand behind it.
pub(super) fn named(image: &Image<'_>) -> String {
    let reference = image.source.reference;
    format!("{}:{}", reference.name, reference.version.as_deref().unwrap_or_default())
}
