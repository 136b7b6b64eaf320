//! What the roots of a run give: layers, with what an image says of them.

use std::path::PathBuf;
use std::sync::Arc;

use crate::digest::Digest;
use crate::image::History;
use crate::layer::{Blob, Compression};

/// One node as the image remembers it.
#[derive(Debug)]
pub struct Made {
    /// Its layer, unless it changed nothing.
    pub layer: Option<Blob>,
    /// Its key, where all that it was made from has a name.
    pub key: Option<Digest>,
}

/// What a root gave: its layers, the lowest first.
#[derive(Debug)]
pub struct Artifact {
    /// The lowest first.
    pub layers: Vec<ArtifactLayer>,
    /// What an image says of how they were made; of a stage nothing.
    pub history: Vec<History>,
}

/// A layer of an artifact, and where its blob is as long as the run lasts.
#[derive(Debug)]
pub struct ArtifactLayer {
    /// Its name and sizes.
    pub blob: Blob,
    /// Of the blob.
    pub compression: Compression,
    /// It came with an image of the store, which somebody else may have made.
    pub foreign: bool,
    /// Where its blob is.
    pub path: PathBuf,
}

impl Artifact {
    /// Returns the layers by content: what names the whole.
    pub fn chain(&self) -> Vec<Digest> {
        self.layers.iter().map(|layer| layer.blob.diff_id).collect()
    }
}

/// What a root gave: what it stands on, and what its own nodes made, the base first.
#[derive(Debug)]
pub struct Built {
    /// What it stands on, where it does not make its base.
    pub below: Option<Arc<Artifact>>,
    /// What each node left, the base first.
    pub made: Vec<Made>,
}

impl Built {
    /// Returns the layers that the root stands on by content.
    pub fn chain_below(&self) -> Vec<Digest> {
        self.below.as_ref().map_or_else(Vec::new, |below| below.chain())
    }

    /// Returns how many layers there are in all.
    pub fn layers(&self) -> usize {
        self.chain_below().len() + self.made.iter().filter(|one| one.layer.is_some()).count()
    }
}
