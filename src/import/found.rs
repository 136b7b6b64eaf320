//! An image in somebody else's files or registry: what is known of it before its layers are read.

use super::error::Error;
use crate::digest::Digest;
use crate::image::{Descriptor, ImageConfig, Manifest, Platform, judge_config};
use crate::layer::Compression;
use crate::plan::config::media_type;
use crate::trial::compression;

/// An image that was found.
pub(super) struct Found {
    /// Its manifest; Docker's archive has none.
    pub(super) manifest: Option<FoundManifest>,
    pub(super) config_bytes: Vec<u8>,
    pub(super) config: ImageConfig,
    /// The lowest first.
    pub(super) layers: Vec<Layer>,
}

/// The manifest of an image that was found.
pub(super) struct FoundManifest {
    pub(super) manifest: Manifest,
    /// As they came: what its digest is of.
    pub(super) bytes: Vec<u8>,
    /// Of the form that bake writes: it is published as it is.
    pub(super) ours: bool,
}

/// A layer that is to be copied.
pub(super) struct Layer {
    /// Where it is.
    pub(super) path: String,
    /// What its manifest says of it: digest and size; Docker's archive says nothing.
    pub(super) expected: Option<(Digest, u64)>,
    /// How it is compressed, by its media type; Docker's archive does not say.
    pub(super) how: Option<Compression>,
    /// What the config says of its tar.
    pub(super) diff_id: Digest,
}

impl Layer {
    /// Returns how a manifest names it, where that is known.
    pub(super) fn descriptor(&self) -> Option<Descriptor> {
        let ((digest, size), how) = (self.expected?, self.how?);
        Some(Descriptor::new(media_type(how), digest, size))
    }

    /// Takes note of what it was found to be.
    pub(super) fn is(&mut self, found: &Descriptor) {
        self.expected = Some((found.digest, found.size));
        self.how = compression(&found.media_type);
    }
}

/// What keeps the small blobs of images: manifests, indexes and configs.
pub(super) trait SmallBlobs {
    /// Returns the bytes of a blob, which are those that the descriptor names.
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error>;

    /// Returns the error of an image that is not what it must be.
    fn wrong(&self, why: String) -> Error;
}

/// Reads the config of an image with `layers` layers.
pub(super) fn config(
    descriptor: &Descriptor,
    bytes: &[u8],
    layers: usize,
) -> Result<ImageConfig, String> {
    let judged = judge_config(descriptor, bytes, layers).strict(descriptor);
    judged.map_err(|flawed| format!("is not what it says: {flawed}"))
}

/// Returns what an image runs on.
pub(super) fn platform(config: &ImageConfig) -> Platform {
    Platform {
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        variant: config.variant.clone(),
    }
}

/// Whether what is for `one` is for `other` as well.
pub(super) fn same_platform(one: &Platform, other: &Platform) -> bool {
    (&one.os, &one.architecture) == (&other.os, &other.architecture)
        && (one.variant.is_none() || other.variant.is_none() || one.variant == other.variant)
}
