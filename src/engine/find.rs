//! What exactly a root starts from: as the lock file says, else as the world says now.

use std::path::Path;

use super::error::Error;
use super::locking::Locking;
use super::request::Request;
use super::roots::Below;
use super::stored;
use crate::archive::{self, Source};
use crate::base;
use crate::digest::Digest;
use crate::executor::{Start, StartImage};
use crate::image::{Platform, epoch_of};
use crate::import;
use crate::job::{self, JobContext};
use crate::plan;
use crate::plan::lock::LockedBase;
use crate::recipe::{BaseKind, Oci, OciSource, Recipe};
use crate::step::called;

/// What the start of a root is found with.
pub(super) struct From<'a> {
    pub(super) job: &'a JobContext<'a>,
    pub(super) source: &'a Source,
    pub(super) request: &'a Request,
    pub(super) locking: &'a Locking,
    pub(super) context: &'a Path,
    pub(super) platform: &'a Platform,
    /// The recipes of this run that it may stand on.
    pub(super) below: &'a Below<'a>,
}

impl From<'_> {
    /// Decides what exactly a root starts from. `recipe` has the root's base; `keys` are those of
    /// the stages before it.
    pub(super) fn start(
        &self,
        recipe: &Recipe,
        stage: Option<&str>,
        keys: &[(String, Digest)],
    ) -> Result<Start, Error> {
        match &recipe.base.kind {
            BaseKind::Stage(name) => {
                // Before the stages are planned only its kind counts.
                let key = keys.iter().find(|(one, _)| one == name).map(|(_, key)| *key);
                Ok(Start::Stage { name: name.clone(), key: key.unwrap_or(Digest::of(name)) })
            }
            BaseKind::Image(reference) => {
                let pinned = match self.locking.base(stage) {
                    Some(LockedBase::Image { image, digest })
                        if *image == reference.to_string() =>
                    {
                        Some(digest)
                    }
                    _ => None,
                };
                if self.locking.locked() && pinned.is_none() {
                    return Err(self.locking.missing(&base_of(stage)));
                }
                stored::read(self.job.store, reference, pinned, self.platform)
                    .map(|image| Start::Image(Box::new(image)))
                    .map_err(|why| self.failed(recipe, why))
            }
            BaseKind::Recipe(path) => {
                let below = self.below.get(path.as_path()).ok_or_else(|| job::Error::Failed {
                    what: "use another recipe as base".to_owned(),
                    why: "it is not part of this run".to_owned(),
                })?;
                let main = below.main();
                Ok(Start::Image(Box::new(StartImage {
                    locked: None,
                    key: main.facts.key,
                    epoch: main.epoch,
                    config: main.skeleton.inherited(),
                    history: vec![],
                    layers: vec![],
                    elsewhere: None,
                })))
            }
            BaseKind::Oci(oci) => self.elsewhere(recipe, stage, oci),
            _ => self.pin(recipe, stage).map(Start::Made),
        }
    }

    /// Finds an image that another tool keeps: the one that the lock file pins, else the one that
    /// is meant now.
    fn elsewhere(&self, recipe: &Recipe, stage: Option<&str>, oci: &Oci) -> Result<Start, Error> {
        let pinned = match self.locking.base(stage) {
            Some(LockedBase::Oci { oci: from, named, arch, digest })
                if (from, named) == (&oci.from, &oci.named)
                    && *arch == self.platform.processor() =>
            {
                Some(digest)
            }
            _ => None,
        };
        if self.locking.locked() && pinned.is_none() {
            return Err(self.locking.missing(&base_of(stage)));
        }
        let origin = match &oci.source {
            OciSource::Path(path) => {
                import::Origin::Files { path: self.context.join(path), named: oci.named.clone() }
            }
            OciSource::Registry(name) => {
                let options = Box::new(self.request.network.registry.clone());
                import::Origin::Registry { name: name.clone(), options }
            }
        };
        let resolved = &self.request.network.resolved;
        let image = import::Image::find_once(self.job, origin, self.platform, pinned, resolved)
            .map_err(|source| {
                Error::base_import(&plan::draw(recipe), &self.request.recipe, source)
            })?;
        Ok(Start::Image(Box::new(StartImage {
            locked: Some(LockedBase::Oci {
                oci: oci.from.clone(),
                named: oci.named.clone(),
                arch: self.platform.processor(),
                digest: image.digest,
            }),
            key: image.digest,
            epoch: image.config.created.as_deref().and_then(epoch_of).unwrap_or(0),
            config: image.config.config.clone(),
            history: image.config.history.clone(),
            layers: image.layers(),
            elsewhere: Some(image),
        })))
    }

    fn failed(&self, recipe: &Recipe, why: Vec<String>) -> Error {
        Error::BaseImage {
            base: plan::draw(recipe).base,
            recipe: self.request.recipe.clone(),
            line: recipe.base.line,
            why,
        }
    }

    /// Decides what exactly a base that is made is: as the lock file says, else as the world says
    /// now.
    fn pin(&self, recipe: &Recipe, stage: Option<&str>) -> Result<base::Pinned, Error> {
        let Self { job, source, request, locking, context, platform, .. } = *self;
        let locked = match locking.base(stage) {
            Some(locked) => {
                base::lock::from_lock(locked, &recipe.base.kind).map_err(|why| Error::Lock {
                    path: locking.path().to_owned(),
                    source: plan::lock::Error::Syntax(why),
                })?
            }
            None => None,
        };
        let arch = platform.processor();
        let locked = locked.filter(|pin| pin.fits(&recipe.base, &arch));
        if locking.locked() && locked.is_none() && matches!(recipe.base.kind, BaseKind::Debian(_)) {
            return Err(locking.missing(&base_of(stage)));
        }
        base::pin(&recipe.base, &arch, context, locked.as_ref(), source).map_err(|source| {
            match source {
                base::Error::Archive(archive::Error::Cancelled) => job::Error::Interrupted.into(),
                _ if job.cancel.fired() => job::Error::Interrupted.into(),
                source => {
                    let base = plan::draw(recipe).base;
                    Error::Base {
                        base,
                        recipe: request.recipe.clone(),
                        line: recipe.base.line,
                        source,
                        tail: vec![],
                        log: None,
                    }
                }
            }
        })
    }
}

/// Returns what people call the base of a root.
fn base_of(stage: Option<&str>) -> String {
    match stage {
        None => "the base".to_owned(),
        Some(image) if image.contains(' ') => called(image),
        Some(stage) => format!("the base of {}", called(stage)),
    }
}
