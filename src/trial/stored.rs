//! The tests of a stored image, run again: `bake test`, and what a recipe's tests have become since
//! its image was published.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::Error;
use super::gate::{Finished, booted, check, publish};
use super::image::read;
use super::list::Tests;
use super::machine::Machines;
use crate::digest::Digest;
use crate::image::Reference;
use crate::job::{self, JobContext, clear, dead_builds};
use crate::store::Version;

/// What a run of a stored image's tests gave.
#[derive(Debug, Clone)]
pub struct Tested {
    /// `name:version`.
    pub image: String,
    /// The manifest's digest.
    pub digest: Digest,
    /// How many tests passed: all there are.
    pub tests: usize,
    /// How long they took.
    pub took: Duration,
    /// Directory of the logs.
    pub logs: PathBuf,
}

/// Runs the tests of a stored image again, those that were kept with it. Where all pass this is
/// recorded, and an image that was untested is tested from then on.
///
/// # Errors
/// [`Error::Test`] where one fails: then nothing is recorded, and the image stays what it was. An
/// image without tests is an error.
pub(crate) fn test(
    context: &JobContext<'_>,
    reference: &Reference,
    machines: &dyn Machines,
) -> Result<Tested, Error> {
    dead_builds(context)?;
    let begun = Instant::now();
    let version = context.store.resolve(reference)?;
    let tests = Tests::of_image(context.store, &version.manifest.digest)?
        .filter(|tests| !tests.list.is_empty());
    let Some(tests) = tests else {
        return Err(Error::NoTests { image: version.reference.to_string() });
    };
    let count = tests.list.len();
    let (digest, logs) = stored(context, version.clone(), &tests, false, None, machines)?;
    Ok(Tested {
        image: version.reference.to_string(),
        digest,
        tests: count,
        took: begun.elapsed(),
        logs,
    })
}

/// Takes a stored image through the gate and records the outcome. Returns its digest and the
/// directory of the logs.
pub(crate) fn stored(
    context: &JobContext<'_>,
    version: Version,
    tests: &Tests,
    leave_out: bool,
    recipe: Option<&Path>,
    machines: &dyn Machines,
) -> Result<(Digest, PathBuf), Error> {
    let (manifest, config) = read(context.store, &version.manifest, None)?;
    let staging = context.store.staging()?;
    let logs = context.store.logs(staging.id())?;
    let mut session = None;
    let outcome = (|| {
        let opened = context.session_for(staging.dir(), &config.architecture)?;
        let session = session.insert(opened);
        let Version { reference, manifest: descriptor, .. } = version;
        let (manifest, config) = (&manifest, &config);
        let (staging, logs) = (&staging, logs.as_path());
        let finished = Finished {
            staging,
            reference,
            descriptor,
            manifest,
            config,
            tests,
            context,
            logs,
            recipe,
            configured: None,
        };
        let checked = check(finished, leave_out, || Ok(session))?;
        let checked = booted(context, checked, machines)?;
        if context.cancel.fired() {
            return Err(job::Error::Interrupted.into());
        }
        let digest = checked.digest();
        publish(context.store, vec![checked], &[])?;
        Ok(digest)
    })();
    clear(context.sink, &staging, session.as_ref());
    outcome.map(|digest| (digest, logs))
}
