//! Directories that steps keep between builds: measured and read inside the user namespace, where
//! their files belong to somebody.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::call::{Action, Call, Job, Reply, Session};
use super::context::JobContext;
use super::error::Error;
use super::reply::{reply, unexpected};
use crate::event::Event;
use crate::sandbox::{Mount, Owners};
use crate::store::{Kept, Staging, Store};

/// Where a job sees all of them.
const ALL: &str = "/mounts";

/// Returns what shows all of them to a job, at [`ALL`].
pub(super) fn mount(store: &Store) -> Result<Mount, Error> {
    let (from, at) = (store.kept_dir()?, PathBuf::from(ALL));
    Ok(Mount { from, at, read_only: false, owners: Owners::Image })
}

/// Returns where a job sees one of them.
pub(super) fn data(id: &str) -> PathBuf {
    Path::new(ALL).join(id).join("data")
}

/// Returns where one goes that is to be removed: into the staging, with which it is gone.
fn leaving(staging: &Staging, kept: &Kept) -> PathBuf {
    staging.dir().join(format!("cache-{}", kept.id))
}

/// Measures those called `ids` on the disk, and notes it.
///
/// # Errors
/// Where the job cannot be run.
fn measure_kept(
    context: &JobContext<'_>,
    session: &Session,
    ids: &BTreeSet<String>,
) -> Result<(), Error> {
    let dirs = ids.iter().map(|id| data(id)).collect();
    let job = Job {
        mounts: vec![mount(context.store)?],
        ..Job::bare(Action::call(Call::Weigh { dirs }))
    };
    let what = "measure the caches of steps";
    let sizes = match reply(session.run(job, context.cancel, &mut |_| {})?, what)? {
        Reply::Weighed(sizes) => sizes,
        other => return Err(unexpected(what, &other)),
    };
    for (id, (bytes, entries)) in ids.iter().zip(sizes) {
        context.store.note_kept(id, bytes, entries)?;
    }
    Ok(())
}

/// Measures those called `used` on the disk, and moves those that were not used for the longest
/// time into the directory of `staging`, from where they are removed with it, until all together
/// take no more than they may.
///
/// # Errors
/// Where they cannot be measured or moved.
pub(crate) fn limit_kept(
    context: &JobContext<'_>,
    session: &Session,
    staging: &Staging,
    used: &BTreeSet<String>,
) -> Result<(), Error> {
    measure_kept(context, session, used)?;
    let limit = context.store.kept_limit();
    let all = context.store.kept()?;
    let size = |kept: &Kept| kept.bytes.unwrap_or(0);
    let mut sum: u64 = all.iter().map(size).sum();
    for kept in all.iter().rev().filter(|kept| size(kept) > 0) {
        if sum <= limit {
            break;
        }
        let to = leaving(staging, kept);
        if !context.store.take_kept(&kept.id, &to)? {
            continue;
        }
        sum -= size(kept);
        let (name, bytes) = (&kept.name.name, size(kept));
        let message = format!(
            "removed the cache `{name}` of {} MB: all caches of steps together may take {} MB",
            bytes / 1_000_000,
            limit / 1_000_000
        );
        let hint = used.contains(&kept.id).then(|| "bake cache limit SIZE allows more".to_owned());
        (context.sink)(match hint {
            // The next build of this recipe begins without it.
            Some(_) => Event::Warning { message, hint },
            None => Event::Note { message },
        });
    }
    Ok(())
}

/// Which of some kept directories went.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    /// Those that went.
    pub(crate) done: Vec<Kept>,
    /// Those that a step uses.
    pub(crate) in_use: Vec<Kept>,
}

/// Removes these kept directories but those that a step uses.
///
/// # Errors
/// Where one cannot be removed. What is in the staging then is swept by the next run.
pub(crate) fn remove_kept(context: &JobContext<'_>, kept: Vec<Kept>) -> Result<Removed, Error> {
    let _room = context.store.release_reserve();
    let staging = context.store.staging()?;
    let mut removed = Removed::default();
    for one in kept {
        let to = leaving(&staging, &one);
        match context.store.take_kept(&one.id, &to)? {
            true => removed.done.push(one),
            false => removed.in_use.push(one),
        }
    }
    if !removed.done.is_empty() {
        let session = context.session(staging.dir())?;
        for one in &removed.done {
            session.remove_tree(&leaving(&staging, one))?;
        }
    }
    staging.discard()?;
    Ok(removed)
}
