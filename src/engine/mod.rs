//! From recipes to published images. The way of a build:
//!
//! ```text
//! order ────► which recipes, each behind what it stands on
//! prepare ──► Roots: read, pinned (find), planned, keyed (facts); published from the same key already? then done
//! many ─────► one thread a root (pool): stages, images, recipes that others stand on
//! run ──────► node by node: in the cache? its layer : node, direct or base carry it out in the sandbox
//!             ─► upper directory ─► packed beside the next node ─► staging directory and cache
//! finish ───► config, manifest, gate ─► Checked: the only thing that can be published
//! many ─────► lock files written, then publish: one rename of index.json, all images or none
//! ```

mod collect;
mod each;
pub mod error;
pub mod explain;
mod find;
mod finish;
mod keeper;
mod locking;
mod lookup;
mod names;
mod order;
mod pool;
mod prepare;
mod publish;
mod published;
mod record;
mod request;
mod roots;
mod run;
mod schedule;
mod settle;
mod shell;
mod stack;
mod stored;
mod work;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::delivery;
use crate::event::Event;
use crate::executor::Root;
use crate::job::{JobContext, dead_builds};
use crate::plan::lock::Lock;

pub use collect::collect;
pub use error::Failed;
pub use locking::LockMode;
pub use order::{Bases, Ordered, order};
pub use published::KEY_ANNOTATION;
pub use request::{Baked, NetworkOptions, NoCache, Request};
pub use shell::shell;

use error::Error;
use locking::Locking;
use pool::Pool;
use schedule::Prepared;

/// Bakes recipes, at most `jobs` nodes at once, and publishes their images together; on any error
/// nothing is published.
///
/// # Errors
/// The recipe that failed, and why.
pub fn bake(job: &JobContext<'_>, requests: &[Request], jobs: usize) -> Result<Vec<Baked>, Failed> {
    dead_builds(job).map_err(|error| Failed {
        recipe: requests.first().map(|one| one.recipe.clone()).unwrap_or_default(),
        error: error.into(),
    })?;
    let stop = AtomicBool::new(false);
    let prepared = schedule::prepared(job, requests, jobs, &stop)?;
    outputs_have_places(job, &prepared)?;
    let pool = Pool::new(prepared.iter().map(|one| one.roots.0.len()).sum(), jobs);
    let all = |one: &Prepared| one.roots.main().plan.nodes.len();
    let ran = schedule::run(job, &prepared, &pool, &stop, all)?;
    let published = publish::publish(job, &prepared, &ran);
    ran.iter().for_each(|one| one.work.build.clear());
    let published = published?;
    let wanted = prepared.iter().enumerate().filter(|(_, one)| one.wanted);
    let baked = wanted.zip(published).map(|((at, one), (digest, already, outputs))| {
        let Root { plan, recipe, .. } = one.roots.main();
        let (image, name) = (plan.image.clone(), recipe.image.name.clone());
        let version = recipe.image.version.clone();
        (job.sink)(Event::Published { image: image.clone(), digest, already });
        let ran = ran.iter().find(|ran| ran.main && ran.recipe == at);
        let took = one.took + ran.map_or(Duration::ZERO, |ran| ran.took);
        Baked { image, name, version, digest, already, took, outputs }
    });
    Ok(baked.collect())
}

/// Makes sure that every output of the run has a place of its own.
fn outputs_have_places(job: &JobContext<'_>, prepared: &[Prepared]) -> Result<(), Failed> {
    let all = prepared.iter().map(|one| (one.request.recipe.as_path(), &one.outputs[..]));
    let first = || prepared.first().map(|one| one.request.recipe.clone()).unwrap_or_default();
    let fail = |error| Failed { recipe: first(), error };
    let found = delivery::check(job.store, &all.collect::<Vec<_>>()).map_err(|e| fail(e.into()))?;
    if found.is_empty() { Ok(()) } else { Err(fail(Error::Recipe(found))) }
}

/// Runs a recipe as far as needed to know everything the lock file pins, writes it, and throws the
/// rest away. Returns the lock file's path and whether it changed.
///
/// # Errors
/// As [`bake`].
pub fn lock(job: &JobContext<'_>, request: &Request) -> Result<(PathBuf, bool), Error> {
    dead_builds(job)?;
    let locking = Locking::open(&request.recipe, request.lock)?;
    let roots = schedule::prepare_one(job, request, &locking)?;
    let pins = if roots.known() {
        roots.needed(locking.lock().unwrap_or(&Lock::default()))
    } else {
        let steps = |one: &Prepared| {
            let plan = &one.roots.main().plan;
            plan.steps_to_lock().min(plan.nodes.len())
        };
        schedule::part(job, request, steps, |prepared, ran| {
            Ok(publish::pins(prepared.len() - 1, prepared, ran))
        })?
    };
    let wrote = locking.write(&pins)?.is_some();
    Ok((locking.path().to_owned(), wrote))
}
