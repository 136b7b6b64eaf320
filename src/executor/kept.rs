//! Directories that steps keep between builds: named, held while the step runs, shown to it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::build::{Build, held};
use super::error::{StepFailure, Trouble};
use super::prepared::Prepared;
use crate::apply;
use crate::event::{Event, chain};
use crate::job::{self, Action, Call, make_dir};
use crate::sandbox::{Mount, Owners};
use crate::step::{Cache, Op, Sharing};
use crate::store::{KeptName, Use};

impl Prepared {
    /// Adds what the programs of an operation see that is kept between builds, and holds it.
    /// `scratch`: a directory of the step.
    pub(super) fn keep(
        &mut self,
        build: &Build<'_>,
        op: &Op,
        scratch: &Path,
    ) -> Result<(), Trouble> {
        let (caches, user) = op.caches();
        let mut named: Vec<(KeptName, &Cache)> =
            caches.iter().map(|one| (named(build, one, user), one)).collect();
        // All builds take them in one order, so that no two wait for each other.
        named.sort_by_key(|(name, _)| name.id());
        for (name, cache) in named {
            // The scripts of one step see the same.
            let at = PathBuf::from(&cache.at);
            if self
                .mounts
                .iter()
                .any(|mount| mount.at == at && self.kept.iter().any(|kept| kept.data == mount.from))
            {
                continue;
            }
            if build.forget_caches {
                let from = make_dir(&scratch.join(format!("cache-{}", self.mounts.len())))?;
                self.show(at, from, user)?;
                continue;
            }
            let how = match cache.sharing {
                Sharing::Shared => Use::Shared,
                Sharing::Locked => Use::Alone,
                Sharing::Private => Use::Instance,
            };
            if how == Use::Alone && self.kept.iter().any(|kept| kept.id == name.id()) {
                let why = format!("the cache `{}` is used twice by one step, and alone", name.name);
                return Err(Trouble::Step(StepFailure::prepared(why, vec![])));
            }
            let mut waits = || {
                let message =
                    format!("waiting for the cache `{}`: another step uses it", name.name);
                (build.job.sink)(Event::Note { message });
            };
            let stop = || build.job.cancel.fired();
            let kept = build.job.store.keep_dir(&name, how, &stop, &mut waits);
            let kept = kept.map_err(job::Error::from)?.ok_or(job::Error::Interrupted)?;
            self.show(at, kept.data.clone(), user)?;
            held(&build.used).insert(kept.id.clone());
            self.kept.push(kept);
        }
        Ok(())
    }

    /// Shows the directory `from` at `at`, where it belongs to `user`.
    fn show(&mut self, at: PathBuf, from: PathBuf, user: &str) -> Result<(), job::Error> {
        self.place_in_mounts(&at)?;
        let (read_only, owners) = (false, Owners::Image);
        self.mounts.push(Mount { from, at: at.clone(), read_only, owners });
        let owner = user.to_owned();
        self.actions.push(Action::call(Call::Apply(apply::Call::Own { at, owner })));
        Ok(())
    }

    /// Makes the mount point of `at` in what is mounted above it.
    fn place_in_mounts(&self, at: &Path) -> Result<(), job::Error> {
        for mount in &self.mounts {
            let Ok(below) = at.strip_prefix(&mount.at) else { continue };
            let path = mount.from.join(below);
            fs::create_dir_all(&path).map_err(|source| job::Error::File {
                verb: "make",
                path,
                source,
            })?;
        }
        Ok(())
    }
}

/// Returns what names a directory that a step keeps: its own name, or its image and path. Programs
/// of another processor, and of another user, have another.
fn named(build: &Build<'_>, cache: &Cache, user: &str) -> KeptName {
    let name = match &cache.id {
        Some(id) => id.clone(),
        None => format!("{}:{}", build.root.recipe.image.name, cache.at),
    };
    let platform = build.root.platform.to_string();
    KeptName { name, platform, user: user.to_owned(), instance: 0 }
}

impl Build<'_> {
    /// Measures what its steps have used of the kept directories, and removes those that were not
    /// used for the longest time where all together take more than they may.
    pub(super) fn limit_kept(&self) {
        let used: BTreeSet<String> = std::mem::take(&mut *held(&self.used));
        let Some(session) = self.session_if_any().filter(|_| !used.is_empty()) else { return };
        if self.job.cancel.fired() {
            return;
        }
        if let Err(error) = job::limit_kept(&self.job, session, &self.staging, &used) {
            let message =
                format!("the caches of steps were not measured: {}", chain(&error).join(": "));
            (self.job.sink)(Event::Warning { message, hint: None });
        }
    }
}
