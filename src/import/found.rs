//! An image in somebody else's files: what is known of it before its layers are read.

use super::Error;
use super::files::Files;
use crate::digest::Digest;
use crate::image::{Descriptor, ImageConfig, Manifest, judge_config};
use crate::layer::Compression;

/// An image that was found.
pub(super) struct Found {
    /// Its manifest and the bytes of it, where they are kept as they are.
    pub(super) manifest: Option<(Manifest, Vec<u8>)>,
    pub(super) config_bytes: Vec<u8>,
    pub(super) config: ImageConfig,
    /// The lowest first.
    pub(super) layers: Vec<Layer>,
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

/// Reads the config of an image with `layers` layers.
pub(super) fn config(
    files: &Files,
    descriptor: &Descriptor,
    bytes: &[u8],
    layers: usize,
) -> Result<ImageConfig, Error> {
    let judged = judge_config(descriptor, bytes, layers).strict(descriptor);
    judged.map_err(|flawed| files.wrong(format!("is not what it says: {flawed}")))
}
