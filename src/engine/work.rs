//! A root of a run: what it is built with, and the other roots that it waits for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::Error;
use super::pool::{Permit, Pool};
use super::request::Request;
use crate::event::Event;
use crate::executor::{Build, NodeFailure, Start, Trouble};
use crate::job;
use crate::layer::{Blob, Compression};
use crate::plan::artifact::{Artifact, ArtifactLayer, Built};
use crate::recipe::BaseKind;

/// A root of a run.
pub(super) struct Work<'a> {
    pub(super) build: Build<'a>,
    pub(super) request: &'a Request,
    /// Set when another root of the same run has failed.
    pub(super) stop: &'a AtomicBool,
    /// The roots of the run, this one's number, and those that it may use.
    pub(super) pool: &'a Pool,
    pub(super) number: usize,
    pub(super) others: Others,
}

/// Numbers of other roots of a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Others {
    /// The stages of the same recipe, by name.
    pub(super) stages: BTreeMap<String, usize>,
    /// The images of other recipes that this one stands on, by path.
    pub(super) recipes: BTreeMap<PathBuf, usize>,
}

impl Work<'_> {
    /// Makes sure that neither the person nor a failure elsewhere has ended the run.
    pub(super) fn go_on(&self) -> Result<(), Error> {
        if self.build.job.cancel.fired() {
            return Err(job::Error::Interrupted.into());
        }
        if self.stop.load(Ordering::Relaxed) { Err(Error::OtherFailed) } else { Ok(()) }
    }

    /// Waits until a node may run.
    pub(super) fn permit(&self) -> Result<Permit<'_>, Error> {
        self.pool.permit(self.stop, self.build.job.cancel)
    }

    fn root(&self, number: usize) -> Result<Arc<Artifact>, Error> {
        self.pool.wait(number, self.stop, self.build.job.cancel)
    }

    /// Returns what the stage `name` gave; waits for it.
    fn stage(&self, name: &str) -> Result<Arc<Artifact>, Error> {
        let number = self.others.stages.get(name).ok_or_else(|| job::Error::Failed {
            what: format!("use the stage {name}"),
            why: "it is not part of this run".to_owned(),
        })?;
        self.root(*number)
    }

    /// Returns the layers that this root stands on, where it does not make its base; waits for
    /// them.
    pub(super) fn below(&self) -> Result<Option<Arc<Artifact>>, Error> {
        let recipe = match &self.build.root.recipe.base.kind {
            BaseKind::Recipe(path) => self.others.recipes.get(path),
            _ => None,
        };
        match (&self.build.root.start, recipe) {
            (Start::Made(_), _) => Ok(None),
            (Start::Stage { name, .. }, _) => self.stage(name).map(Some),
            (Start::Image(_), Some(number)) => self.root(*number).map(Some),
            (Start::Image(image), None) => {
                let Build { job, root, staging, .. } = &self.build;
                if let Some(elsewhere) = &image.elsewhere {
                    let fetched = elsewhere.fetch(job, staging, "base");
                    fetched
                        .map_err(|why| Error::base_import(&root.plan, &root.recipe_path, why))?;
                }
                let layer = |(blob, compression): &(Blob, Compression)| ArtifactLayer {
                    path: match image.elsewhere {
                        Some(_) => staging.path(&blob.digest),
                        None => job.store.blob_path(&blob.digest),
                    },
                    blob: blob.clone(),
                    compression: *compression,
                    foreign: true,
                };
                let layers = image.layers.iter().map(layer).collect();
                Ok(Some(Arc::new(Artifact { layers, history: image.history.clone() })))
            }
        }
    }

    /// Waits for the stages of which step `index` wants something, and names what it gets.
    pub(super) fn await_wanted(&self, index: usize) -> Result<(), Error> {
        let (build, facts) = (&self.build, &self.build.root.facts);
        if !facts.waits(index) {
            return Ok(());
        }
        for stage in facts.wanted(index).iter().flatten().filter_map(|one| one.stage.as_deref()) {
            build.give_stage(stage, self.stage(stage)?);
        }
        build.name_wanted(index).map_err(|trouble| self.failed(index, trouble.into()))
    }

    /// Reports that the root is begun; of a stage its steps are enough.
    pub(super) fn started(&self, steps: usize) {
        let Build { job, root, logs, .. } = &self.build;
        if root.stage.is_none() {
            (job.sink)(Event::Started {
                image: root.plan.image.clone(),
                steps,
                logs: logs.clone(),
            });
        }
    }

    /// Hands what this root gave, or that it failed, to those that wait for it.
    pub(super) fn give(&self, built: Option<&Built>) {
        let artifact = built.map(|built| {
            let staging = &self.build.staging;
            let below = built.below.iter().flat_map(|below| &below.layers);
            let below = below.map(|layer| ArtifactLayer {
                blob: layer.blob.clone(),
                compression: layer.compression,
                foreign: layer.foreign,
                path: staging.path(&layer.blob.digest),
            });
            let own = built.made.iter().filter_map(|one| one.layer.as_ref());
            let own = own.map(|blob| ArtifactLayer {
                blob: blob.clone(),
                compression: self.build.compression(),
                foreign: false,
                path: staging.path(&blob.digest),
            });
            let root = self.build.root;
            let history = match &root.stage {
                Some(_) => vec![],
                None => {
                    let entries = root.skeleton.entries(root.epoch, built);
                    entries.into_iter().map(|(entry, _)| entry).collect()
                }
            };
            Artifact { layers: below.chain(own).collect(), history }
        });
        self.pool.set(self.number, artifact);
    }

    /// Turns the failure of node `index` into the error that ends the build.
    pub(super) fn failed(&self, index: usize, failed: NodeFailure) -> Error {
        match failed.trouble {
            Trouble::Step(_) | Trouble::Base(_) if self.build.job.cancel.fired() => {
                job::Error::Interrupted.into()
            }
            _ => Error::of(self.build.root, index, failed),
        }
    }
}
