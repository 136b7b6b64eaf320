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
pub mod direct;
pub mod error;
pub mod explain;
mod find;
mod finish;
mod locking;
mod many;
mod node;
mod order;
mod packages;
mod pool;
mod prepare;
mod record;
mod request;
mod roots;
mod run;
mod shell;
mod site;
mod start;
mod stored;
mod wanted;
mod work;

use std::path::PathBuf;

use crate::job::{JobContext, dead_builds};
use crate::plan::lock::Lock;

pub use collect::collect;
pub use error::Failed;
pub use finish::KEY_ANNOTATION;
pub use locking::LockMode;
pub use order::{Ordered, order};
pub use request::{Baked, NetworkOptions, NoCache, Request};
pub use shell::shell;

use error::Error;
use locking::Locking;

/// Bakes recipes, at most `jobs` at once, and publishes their images together; on any error nothing
/// is published.
pub fn bake(
    hall: &JobContext<'_>,
    requests: &[Request],
    jobs: usize,
) -> Result<Vec<Baked>, Failed> {
    let fail = |error| Failed {
        recipe: requests.first().map(|one| one.recipe.clone()).unwrap_or_default(),
        error,
    };
    dead_builds(hall).map_err(|error| fail(error.into()))?;
    many::bake(hall, requests, jobs)
}

/// Runs a recipe as far as needed to know everything the lock file pins, writes it, and throws the
/// rest away. Returns the lock file's path and whether it changed.
pub fn lock(hall: &JobContext<'_>, request: &Request) -> Result<(PathBuf, bool), Error> {
    dead_builds(hall)?;
    let locking = Locking::open(&request.recipe, request.lock)?;
    let roots = many::prepare_one(hall, request, &locking)?;
    let pins = if roots.complete() {
        roots.needed(locking.lock().unwrap_or(&Lock::default()))
    } else {
        many::lock(hall, request)?
    };
    let wrote = locking.write(&pins)?.is_some();
    Ok((locking.path().to_owned(), wrote))
}
