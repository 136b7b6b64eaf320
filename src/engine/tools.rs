//! The programs that make file systems and boot machines: which are meant, and how the images with
//! them are baked.

use super::error::Error;
use super::request::{NetworkOptions, Request};
use super::schedule::Prepared;
use crate::event::Event;
use crate::files;
use crate::image::{Platform, Reference};
use crate::job::{self, JobContext};
use crate::plan::lock::LockedToolbox;
use crate::recipe::Inputs;
use crate::store::{self, Version};
use crate::toolbox::Suite;

/// Finds an image with programs in the store.
pub(crate) fn find(job: &JobContext<'_>, suite: &Suite) -> Result<Option<Version>, Error> {
    let reference: Reference = suite.image.parse().expect("the name of a version");
    match job.store.resolve(&reference) {
        Err(store::Error::NotFound { .. }) => Ok(None),
        found => Ok(Some(found?)),
    }
}

/// Makes sure that the lock file of a recipe means this toolbox, and has it pinned otherwise.
pub(super) fn pin(one: &mut Prepared, toolbox: &Version) -> Result<(), Error> {
    let digest = toolbox.manifest.digest;
    match one.locking.lock().and_then(|lock| lock.toolbox.as_ref()) {
        Some(pinned) if pinned.digest != digest => {
            let path = one.locking.path().to_owned();
            return Err(Error::OtherToolbox { path, pinned: pinned.digest, found: digest });
        }
        None if one.locking.locked() => return Err(one.locking.missing("the toolbox")),
        _ => {}
    }
    one.toolbox = Some(locked(toolbox));
    Ok(())
}

/// Returns what a lock file says of a toolbox.
pub(super) fn locked(toolbox: &Version) -> LockedToolbox {
    LockedToolbox { image: toolbox.reference.to_string(), digest: toolbox.manifest.digest }
}

/// Returns the request that bakes it; writes down its recipe.
pub(super) fn request(
    job: &JobContext<'_>,
    network: &NetworkOptions,
    suite: &Suite,
) -> Result<Request, Error> {
    let Suite { image, recipe: text, what, name } = suite;
    let message = format!("{image}, the programs that {what}, is baked once");
    (job.sink)(Event::Note { message });
    let recipe = job.store.cache(name)?.join("recipe.toml");
    files::write_whole(&recipe, text.as_bytes(), 0o644).map_err(|error| {
        let what = "write the recipe of the toolbox".to_owned();
        job::Error::Failed { what, why: error.to_string() }
    })?;
    let inputs = Inputs { platforms: vec![Platform::host()], ..Inputs::default() };
    Ok(Request { recipe, inputs, network: network.clone(), ..Request::default() })
}
