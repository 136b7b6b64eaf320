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
use crate::image::{Platform, Reference};
use crate::job::{self, JobContext, clear, dead_builds};
use crate::sandbox;
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

/// Runs the tests of a stored image again, those that were kept with it; of an index those of each
/// of its images. Where all pass this is recorded, and an image that was untested is tested from
/// then on.
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
    let mut version = context.store.resolve(reference)?;
    let exactly = version.reference.clone();
    let (mut count, mut last) = (0, None);
    for part in context.store.parts(&version)? {
        let tests = Tests::of_image(context.store, &part.manifest.digest)?;
        let Some(tests) = tests.filter(|tests| !tests.list.is_empty()) else { continue };
        count += tests.list.len();
        let platform = part.manifest.platform.unwrap_or_else(Platform::host);
        last = Some(stored(context, &version, &platform, &tests, false, None, machines)?);
        // With what was recorded just now.
        version = context.store.resolve(&exactly)?;
    }
    let image = version.reference.to_string();
    match last {
        None => Err(Error::NoTests { image }),
        Some((digest, logs)) => {
            Ok(Tested { image, digest, tests: count, took: begun.elapsed(), logs })
        }
    }
}

/// Takes a stored image through the gate, of an index the one for `platform`, and records the
/// outcome. Returns the digest of the version and the directory of the logs.
pub(crate) fn stored(
    context: &JobContext<'_>,
    version: &Version,
    platform: &Platform,
    tests: &Tests,
    leave_out: bool,
    recipe: Option<&Path>,
    machines: &dyn Machines,
) -> Result<(Digest, PathBuf), Error> {
    let parts = context.store.parts(version)?;
    let place = match parts.as_slice() {
        [_] => 0,
        all => {
            let wanted = context.store.for_platform(&version.manifest, Some(platform))?;
            all.iter().position(|one| one.manifest.digest == wanted.digest).unwrap_or(0)
        }
    };
    let (manifest, config) = read(context.store, &parts[place].manifest, None)?;
    if !leave_out {
        sandbox::can_run(&config.architecture).map_err(job::Error::from)?;
    }
    let staging = context.store.staging()?;
    let logs = context.store.logs(staging.id())?;
    let mut session = None;
    let outcome = (|| {
        let opened = context.session_for(staging.dir(), &config.architecture)?;
        let session = session.insert(opened);
        let Version { reference, manifest: descriptor, .. } = parts[place].clone();
        let (manifest, config) = (&manifest, &config);
        let (staging, logs) = (&staging, logs.as_path());
        let finished = Finished {
            staging,
            reference,
            descriptor,
            manifest,
            config,
            tests,
            attested: vec![],
            stated: None,
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
        let bundle = checked.among(context.store, parts, place)?;
        // Where another tool has made the index, what is noted of its images has no place.
        if bundle.version().manifest.digest == version.manifest.digest {
            publish(context.store, &[bundle], &[])?;
        }
        Ok(version.manifest.digest)
    })();
    clear(context.sink, &staging, session.as_ref());
    outcome.map(|digest| (digest, logs))
}
