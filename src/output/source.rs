//! The image being exported: its manifest and config, and its blobs, verified as they pass.

use std::fs::File;
use std::io::Read;

use super::error::Error;
use super::options::Source;
use crate::digest::{Digest, HashReader};
use crate::image::{self, Descriptor, ImageConfig, Index, Kind, Manifest, kind};
use crate::layer;

/// Manifests and configs above this are refused (as registries do at 4 MiB).
const MAX_DOCUMENT: u64 = 16 << 20;

/// An image whose manifest and config are read and fit together.
pub(super) struct Image<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) manifest: Manifest,
    pub(super) config_bytes: Vec<u8>,
    pub(super) config: ImageConfig,
}

impl<'a> Image<'a> {
    pub(super) fn open(source: &'a Source<'a>) -> Result<Self, Error> {
        let image::Image { manifest, config_bytes, config } =
            image::Image::read(source.manifest, |blob| document(source, blob))?;
        Ok(Self { source, manifest, config_bytes, config })
    }

    /// Layers with the digests of their tars, lowest first.
    pub(super) fn layers(&self) -> impl Iterator<Item = (&Descriptor, Digest)> {
        self.manifest.layers.iter().zip(self.config.rootfs.diff_ids.iter().copied())
    }

    /// Hands a layer to `take` as a tar; then says whether both the tar and the blob were what
    /// their names say.
    pub(super) fn tar<T>(
        &self,
        blob: &Descriptor,
        diff_id: Digest,
        take: impl FnOnce(&mut dyn Read) -> Result<T, Error>,
    ) -> Result<T, Error> {
        layer::verified(open(self.source, blob)?, blob.digest, diff_id, take)
    }
}

/// Hands a blob to `take` as it is stored, which must read all of it; then says whether it was what
/// its name says.
pub(super) fn raw<T>(
    source: &Source<'_>,
    blob: &Descriptor,
    take: impl FnOnce(&mut dyn Read) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut reader = HashReader::new(open(source, blob)?);
    let taken = take(&mut reader)?;
    let (_, digest, bytes) = reader.finish();
    check(blob, digest, bytes)?;
    Ok(taken)
}

/// Returns the images of an index, or the one image.
///
/// # Errors
/// Where the index is not one of images alone.
pub(super) fn manifests(source: &Source<'_>) -> Result<Vec<Descriptor>, Error> {
    if kind(&source.manifest.media_type) != Kind::Index {
        return Ok(vec![source.manifest.clone()]);
    }
    let bytes = document(source, source.manifest)?;
    let index = Index::parse(&bytes).map_err(|error| Error::Corrupt {
        digest: source.manifest.digest,
        what: format!("it is no index: {error}"),
    })?;
    Ok(index.manifests)
}

fn open(source: &Source<'_>, blob: &Descriptor) -> Result<File, Error> {
    let failed = |source| Error::Blob { digest: blob.digest, source };
    let file = (source.blob)(&blob.digest).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if size != blob.size {
        return Err(Error::Corrupt {
            digest: blob.digest,
            what: format!("it has {size} bytes, not {}", blob.size),
        });
    }
    Ok(file)
}

fn check(blob: &Descriptor, found: Digest, bytes: u64) -> Result<(), Error> {
    if found == blob.digest && bytes == blob.size {
        return Ok(());
    }
    Err(Error::Corrupt { digest: blob.digest, what: format!("its bytes are {found}") })
}

fn document(source: &Source<'_>, blob: &Descriptor) -> Result<Vec<u8>, Error> {
    if blob.size > MAX_DOCUMENT {
        return Err(Error::Corrupt {
            digest: blob.digest,
            what: format!("{} bytes are too many for a manifest or config", blob.size),
        });
    }
    let mut bytes = vec![];
    let file = open(source, blob)?;
    file.take(MAX_DOCUMENT)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::Blob { digest: blob.digest, source })?;
    Ok(bytes)
}
