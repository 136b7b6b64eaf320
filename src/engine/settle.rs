//! Packing what a node left beside the next one, and moving its directory to where others find it.

use std::path::PathBuf;

use super::error::Error;
use super::keeper::{Keeper, Packing, Pending, layer_of};
use super::run::Run;
use crate::executor::{Node, keep_listings};
use crate::job::{self, no_thread};
use crate::layer;
use crate::store::{self, Layer};
use crate::threads;

impl<'scope, 'env> Run<'scope, 'env> {
    /// Begins to pack the directory `upper` that node `index` left over `below`.
    pub(super) fn pack(
        &mut self,
        index: usize,
        upper: PathBuf,
        below: Option<PathBuf>,
        keeper: Keeper<'env>,
    ) -> Result<(), Error> {
        let build = self.build;
        let (session, epoch) = (build.session()?, build.root.epoch);
        job::settle(session, &build.staging, &upper, epoch, build.job.cancel)?;
        self.stack.push_directory(index, upper.clone());
        let (label, _) = build.root.label(index);
        let pack = move || {
            let blob = build.pack(index, &upper, below.as_deref(), &label)?;
            let unkept = keeper.keep(blob.as_ref(), None);
            Ok((blob, unkept))
        };
        let handle = threads::scoped(self.scope, pack).map_err(no_thread)?;
        self.packing = Some(Packing { index, handle });
        Ok(())
    }

    /// Takes note of why the cache could not keep something.
    pub(super) fn kept(&mut self, unkept: Option<store::Error>) {
        if let Some(error) = unkept {
            self.broken(&error);
        }
    }

    /// Waits for the layer that is being packed, moves its directory to where others find it, and
    /// lets them go on.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        if let Some(Packing { index, handle }) = self.packing.take() {
            let packed = handle.join().map_err(|_| {
                let what = "pack a layer".to_owned();
                job::Error::Failed { what, why: "the packer panicked".to_owned() }.into()
            });
            let (blob, unkept) = match packed.flatten() {
                Ok(packed) => packed,
                Err(failed) => {
                    self.pending = None;
                    return Err(self.work.failed(index, failed));
                }
            };
            self.kept(unkept);
            if blob.is_none() {
                self.stack.remove(index);
            }
            self.made[index].layer = blob;
        }
        self.pending.take().map_or(Ok(()), |pending| self.settle_one(pending))
    }

    fn settle_one(&mut self, pending: Pending) -> Result<(), Error> {
        let Pending { index, table, expected } = pending;
        let build = self.build;
        let Some(table) = table else { return Ok(()) };
        let layer = self.made[index].layer.as_ref().map(layer_of);
        if let Some(expected) = expected
            && expected.map(|layer| layer.diff_id) != layer.map(|layer| layer.diff_id)
        {
            return Err(self.unreproducible(index, expected, layer));
        }
        self.record.set(index, &table, build.staging.id(), &self.at);
        if let Node::Step(step) = build.root.node(index) {
            keep_listings(&build.cache, &build.root.context, &step.ops, &table);
        }
        build.keep_reached(index, &table.key());
        if let Some(layer) = &layer
            && let Err(error) = self.stack.keep(build, index, layer)?
        {
            self.broken(&error);
        }
        Ok(())
    }

    fn unreproducible(&self, index: usize, expected: Option<Layer>, now: Option<Layer>) -> Error {
        let build = self.build;
        let (label, line) = build.root.label(index);
        let paths = match (expected, now) {
            (Some(before), Some(now)) => {
                let open = |path: PathBuf| job::open(&path);
                let found = open(build.cache.blob_path(&before.digest)).and_then(|before| {
                    let now = open(build.staging.path(&now.digest))?;
                    let fail = |source| job::Error::Layer { label: label.clone(), source };
                    layer::differences(before, now, build.compression()).map_err(fail)
                });
                match found {
                    Ok(paths) => paths,
                    Err(error) => return error.into(),
                }
            }
            (Some(_), None) => vec!["it changed something before, and nothing now".to_owned()],
            _ => vec!["it changed nothing before".to_owned()],
        };
        let (place, recipe) = (build.root.place(index), build.root.recipe_path.clone());
        let part = build.root.part(index);
        Error::Unreproducible { place, label, recipe, line, part, paths }
    }
}
