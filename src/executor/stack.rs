//! The layers of a root while it is built, each a blob, a directory, or both: a blob is unpacked
//! only when a later node needs its directory.

use std::path::{Path, PathBuf};

use super::build::Build;
use super::copy::apart;
use crate::job::Error;
use crate::layer::{Blob, Compression};
use crate::plan::artifact::Artifact;
use crate::store::{self, Layer, UnpackedLayer};

/// The layers so far, the lowest first.
#[derive(Default)]
pub(crate) struct Stack(Vec<Layered>);

/// One layer of the stack.
struct Layered {
    /// Node that made it.
    index: usize,
    /// Its blob, which is in the staging directory, and how it is compressed; none while it is
    /// being packed.
    blob: Option<(Blob, Compression)>,
    /// Bake has not made it.
    foreign: bool,
    /// Where it is unpacked, if it is.
    directory: Option<PathBuf>,
    /// Where everything is that it introduces, if that is known: who looks elsewhere need not have
    /// it unpacked.
    touches: Option<Vec<String>>,
    /// Holds the directory, where it is one of the cache.
    _tree: Option<UnpackedLayer>,
}

impl Stack {
    /// Puts the layers of an artifact on it, which are in the staging directory by now.
    pub(crate) fn stand_on(&mut self, below: &Artifact) {
        self.0.extend(below.layers.iter().map(|layer| Layered {
            index: 0,
            blob: Some((layer.blob.clone(), layer.compression)),
            foreign: layer.foreign,
            directory: None,
            touches: None,
            _tree: None,
        }));
    }

    /// Puts a layer on it that is a blob of the staging directory.
    pub(crate) fn push_blob(
        &mut self,
        index: usize,
        blob: (Blob, Compression),
        touches: Option<Vec<String>>,
    ) {
        let blob = Some(blob);
        self.0.push(Layered { index, blob, foreign: false, directory: None, touches, _tree: None });
    }

    /// Puts a layer on it that is a directory, and is being packed.
    pub(crate) fn push_directory(&mut self, index: usize, directory: PathBuf) {
        let directory = Some(directory);
        self.0.push(Layered {
            index,
            blob: None,
            foreign: false,
            directory,
            touches: None,
            _tree: None,
        });
    }

    /// Takes off what node `index` put on it: nothing was in it.
    pub(crate) fn remove(&mut self, index: usize) {
        self.0.retain(|layered| layered.index != index);
    }

    /// Returns the directories of all layers that have one, topmost first.
    pub(crate) fn directories(&self) -> Vec<PathBuf> {
        self.0.iter().rev().filter_map(|layered| layered.directory.clone()).collect()
    }

    /// Returns the directories of all layers, topmost first; those that are only blobs are
    /// unpacked, but for those that are known to have nothing to do with the image paths
    /// `interest`.
    pub(crate) fn lower(
        &mut self,
        build: &Build<'_>,
        interest: Option<&[&str]>,
    ) -> Result<Vec<PathBuf>, Error> {
        for at in 0..self.0.len() {
            let touches = self.0[at].touches.as_ref().zip(interest);
            if !touches.is_some_and(|(touches, interest)| apart(touches, interest)) {
                self.unpack(build, at)?;
            }
        }
        Ok(self.directories())
    }

    /// Unpacks the layers of which nobody knows where they are; returns the directories, topmost
    /// first, and where the layers are that have none.
    pub(crate) fn lower_or_touches(
        &mut self,
        build: &Build<'_>,
    ) -> Result<(Vec<PathBuf>, Vec<String>), Error> {
        let mut unseen = vec![];
        for at in 0..self.0.len() {
            match &self.0[at].touches {
                Some(touches) if self.0[at].directory.is_none() => unseen.extend(touches.clone()),
                _ => self.unpack(build, at)?,
            }
        }
        Ok((self.directories(), unseen))
    }

    /// Makes sure that layer `at` has its directory.
    fn unpack(&mut self, build: &Build<'_>, at: usize) -> Result<(), Error> {
        let layered = &mut self.0[at];
        let Some((blob, how)) = layered.blob.as_ref().filter(|_| layered.directory.is_none())
        else {
            return Ok(());
        };
        let own = build.staging.dir().join(format!("layer-{at}"));
        let (directory, tree) = build.unpacked(blob, *how, layered.foreign, &own)?;
        (layered.directory, layered._tree) = (Some(directory), tree);
        Ok(())
    }

    /// Moves the directory of node `index`, whose layer is `layer`, to where others find it.
    pub(crate) fn keep(
        &mut self,
        build: &Build<'_>,
        index: usize,
        layer: &Layer,
    ) -> Result<Result<(), store::Error>, Error> {
        let own = |path: &&PathBuf| path.starts_with(build.staging.dir());
        let found = self.0.iter_mut().find(|layered| layered.index == index);
        let Some(layered) = found else { return Ok(Ok(())) };
        let Some(directory) = layered.directory.as_ref().filter(own) else { return Ok(Ok(())) };
        let removed: &Path = &build.staging.dir().join(format!("removed-{index}"));
        let name = build.tree_name(&layer.digest, &layer.diff_id)?;
        match build.cache.keep_unpacked(&name, directory, removed) {
            Ok(Some(tree)) => {
                (layered.directory, layered._tree) = (Some(tree.path.clone()), Some(tree));
                Ok(Ok(()))
            }
            Ok(None) => Ok(Ok(())),
            Err(error) => Ok(Err(error)),
        }
    }
}
