//! `bake gc`: what the store can free by itself, and what must be removed inside the user
//! namespace.

use std::fs;

use super::error::Error;
use crate::job::{self, JobContext, dead_builds};
use crate::store::{Garbage, Rules};

/// Removes what the rules say, and the scratch of builds that died. Returns what the store has
/// freed.
pub fn collect(job: &JobContext<'_>, rules: &Rules) -> Result<Garbage, Error> {
    // On a full disk there is no room for a directory either.
    let _room = job.store.release_reserve();
    dead_builds(job)?;
    let staging = job.store.staging()?;
    // Dying from here on leaves what was moved into the staging to the next run, as the scratch of
    // a dead build.
    let collected = job.store.collect(rules, Some(&staging));
    let entries = fs::read_dir(staging.dir()).map_err(|source| job::Error::File {
        verb: "read",
        path: staging.dir().to_owned(),
        source,
    })?;
    let moved: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"layer-"))
        .collect();
    if !moved.is_empty() {
        let session = job.session(staging.dir())?;
        for tree in moved {
            session.remove_tree(&tree.path())?;
        }
    }
    staging.discard()?;
    Ok(collected?)
}
