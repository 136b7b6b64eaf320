//! What roots give: layers, with what an image says of them.

use std::path::PathBuf;
use std::sync::Arc;

use crate::digest::Digest;
use crate::image::History;
use crate::layer::{Blob, Compression};

/// One step as the image remembers it.
pub(super) struct Made {
    /// Its layer, unless it changed nothing.
    pub(super) layer: Option<Blob>,
    /// Its key, where all that it was made from has a name.
    pub(super) key: Option<Digest>,
}

/// What a root gave: its layers, the lowest first.
#[derive(Debug)]
pub(super) struct Artifact {
    pub(super) layers: Vec<ArtifactLayer>,
    /// What an image says of how they were made; of a stage nothing.
    pub(super) history: Vec<History>,
}

/// A layer of an artifact, and where its blob is as long as the run lasts.
#[derive(Debug)]
pub(super) struct ArtifactLayer {
    pub(super) blob: Blob,
    pub(super) compression: Compression,
    /// It came with an image of the store, which somebody else may have made.
    pub(super) foreign: bool,
    pub(super) path: PathBuf,
}

impl Artifact {
    /// Returns the layers by content: what names the whole.
    pub(super) fn chain(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.blob.diff_id).collect()
    }
}

/// What a root gave: what it stands on, and what its own nodes made, the base first.
pub(super) struct Built {
    pub(super) below: Option<Arc<Artifact>>,
    pub(super) made: Vec<Made>,
}

impl Built {
    /// Returns the layers that the root stands on by content.
    pub(super) fn chain_below(&self) -> Vec<Digest> {
        self.below.as_ref().map_or_else(Vec::new, |below| below.chain())
    }

    /// Returns how many layers there are in all.
    pub(super) fn layers(&self) -> usize {
        self.chain_below().len() + self.made.iter().filter(|one| one.layer.is_some()).count()
    }
}
