//! Garbage: what could go, and its removal. Looking and removing are one plan, made twice: to be
//! reported, and to be carried out.
//!
//! | what | goes when |
//! |---|---|
//! | a version | a rule says so, and no channel points at it or would after a step back |
//! | what speaks about a version | its version goes |
//! | a published blob | no entry of the index needs it, nor has a tool that knows no lock just put it there |
//! | a cache entry, record, download | it was not used for a while |
//! | a blob of the cache | no entry that stays names it |
//! | an unpacked layer | it was not used for a while, and nobody holds it |
//! | the staging directory of a build | the build is dead |
//! | logs | they are old |
//!
//! A build that runs at the same time needs no list of what it uses: its blobs are links in its own
//! staging directory, the unpacked layers it stands on are held by flock, and what it has used
//! since it began is younger than any rule allows to go.
//!
//! The cache goes first, without any lock: that needs no room, so it works on a full disk. Then,
//! under the writers' lock, versions leave the index, and blobs are renamed out of `blobs/`; their
//! bytes are freed when the lock is free again, so that no build waits for it.
//!
//! Killed anywhere, this leaves a right store: versions leave by one rename of the index, as in a
//! removal, and all else may go in any order.

use std::fs;
use std::io::ErrorKind;

use self::entry::weigh;
use self::plan::{CachePlan, Tally, Times, VersionPlan, unpacked_layers};
use super::error::{Error, writing};
use super::remove;
use super::{Staging, Store, Version, disk};
use crate::files::{self, Lock, remove_tree};

mod entry;
mod plan;
mod rules;

pub use rules::{Amount, Garbage, Kind, Rules};

/// Where in a staging directory blobs wait for their end.
const GONE: &str = "gone";

impl Store {
    /// Returns what [`Store::collect`] would remove now.
    pub fn garbage(&self, rules: &Rules) -> Result<Garbage, Error> {
        let times = Times::of(self, rules, None)?;
        let mut tally = Tally::default();
        let cache = CachePlan::make(self, &times)?;
        let versions = VersionPlan::make(self, &self.index()?.1, rules, &times)?;
        cache.files.iter().chain(&versions.blobs).for_each(|file| tally.file(file));
        cache.logs.iter().for_each(|(_, bytes)| tally.add(Kind::Logs, 1, *bytes));
        for layer in unpacked_layers(self, &times)? {
            tally.add(Kind::Layers, 1, weigh(&layer.path));
        }
        for dir in Staging::abandoned(&self.scratch())? {
            tally.add(Kind::Scratch, 1, weigh(&dir));
        }
        tally.add(Kind::Versions, versions.removal.versions.len() as u64, 0);
        Ok(tally.garbage(versions.removal.versions, versions.notes))
    }

    /// Removes what the rules say, and returns what went. Unpacked layers, whose files may belong
    /// to ids that only exist inside the user namespace, are moved into the directory of `staging`,
    /// as `layer-…`, to be removed from there; without one they stay. Staging directories of dead
    /// builds are not looked at: see [`Store::dead_stagings`].
    ///
    /// # Errors
    /// [`Error::Collect`] with what went, where something else could not be removed.
    pub fn collect(&self, rules: &Rules, staging: Option<&Staging>) -> Result<Garbage, Error> {
        self.to_write()?;
        let _room = self.release_reserve();
        let own = if staging.is_none() { Some(self.staging()?) } else { None };
        let corner = staging.or(own.as_ref()).expect("one of both");
        let times = Times::of(self, rules, Some(corner))?;
        let mut collection = Collection::default();
        let mut versions = vec![];
        let ended = collection.cache(self, &times, staging).and_then(|()| {
            versions = collection.versions(self, rules, &times, corner)?;
            Ok(())
        });
        let gone = corner.corner().join(GONE);
        let freed = remove_tree(&gone).map_err(writing);
        let failed = ended.and(freed).err().or(collection.failed.take());
        let removed = collection.tally.garbage(versions, collection.notes);
        match failed {
            None => Ok(removed),
            Some(source) => {
                Err(Error::Collect { removed: Box::new(removed), source: Box::new(source) })
            }
        }
    }
}

/// A collection at work.
#[derive(Default)]
struct Collection {
    tally: Tally,
    notes: Vec<String>,
    /// The first thing that could not be removed.
    failed: Option<Error>,
}

impl Collection {
    /// Counts what went; what did not is no reason to leave the rest.
    fn note<T>(&mut self, removed: Result<T, files::Error>) -> Option<T> {
        removed.map_err(|error| self.failed.get_or_insert(writing(error))).ok()
    }

    fn cache(
        &mut self,
        store: &Store,
        times: &Times,
        staging: Option<&Staging>,
    ) -> Result<(), Error> {
        let plan = CachePlan::make(store, times)?;
        for file in &plan.files {
            // Somebody may hold it by now.
            let held =
                if file.is_lock { Lock::try_exclusive(&file.path).map(Some) } else { Ok(None) };
            let Some(held) = self.note(held) else { continue };
            if matches!(held, Some(None)) {
                continue;
            }
            if self.note(disk::remove(&file.path)).is_some() {
                self.tally.file(file);
            }
        }
        for (dir, bytes) in &plan.logs {
            if self.note(remove_tree(dir)).is_some() {
                self.tally.add(Kind::Logs, 1, *bytes);
            }
        }
        for layer in staging.map_or(Ok(vec![]), |_| unpacked_layers(store, times))? {
            let Some(staging) = staging else { break };
            let to = staging.dir().join(format!("layer-{}", layer.name));
            if let Err(error) = disk::rename(&layer.path, &to) {
                // A user may not move directories whose root a step gave to someone else.
                let why = std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), ToString::to_string);
                let name = &layer.name;
                self.notes
                    .push(format!("the unpacked layer {name} stays: it cannot be moved ({why})"));
                continue;
            }
            self.tally.add(Kind::Layers, 1, weigh(&to));
            // Under its lock: whoever waits for it makes a new one.
            self.note(disk::remove(&layer.note));
        }
        Ok(())
    }

    /// Takes versions out of the index, and blobs out of `blobs/`; returns the versions.
    fn versions(
        &mut self,
        store: &Store,
        rules: &Rules,
        times: &Times,
        corner: &Staging,
    ) -> Result<Vec<Version>, Error> {
        let _lock = store.lock_repaired()?;
        let (before, index) = store.index()?;
        self.tally.look_again();
        let plan = VersionPlan::make(store, &index, rules, times)?;
        self.notes.extend(plan.notes);
        if plan.removal.versions.is_empty() && plan.blobs.is_empty() {
            return Ok(vec![]);
        }
        let gone = corner.corner().join(GONE);
        disk::make_dir(&gone, disk::PRIVATE_DIR).map_err(writing)?;
        if !plan.removal.versions.is_empty() {
            remove::carry_out(store, &before, &plan.removal, Some(&gone))?;
            self.tally.add(Kind::Versions, plan.removal.versions.len() as u64, 0);
        }
        for file in &plan.blobs {
            let to = gone.join(file.path.file_name().unwrap_or_default());
            let moved = match disk::rename(&file.path, &to) {
                // The removal has taken it already.
                Err(e) if e.kind() == ErrorKind::NotFound && fs::symlink_metadata(&to).is_ok() => {
                    Ok(())
                }
                other => other,
            };
            if self.note(moved).is_some() {
                self.tally.file(file);
            }
        }
        Ok(plan.removal.versions)
    }
}
