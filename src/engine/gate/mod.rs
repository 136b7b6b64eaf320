//! The gate: only what passed it can be published. The promise "tests gate" is a fact of the types:
//! `publish` takes [`Checked`] only, and only [`check`] makes one.
//!
//! ```text
//! no tests            ► tested: none
//! --no-test           ► tested: no     the tests are kept with the image; `bake test` runs them later
//! every test passed   ► tested: yes    the tests and a statement are kept with the image
//! a test failed       ► nothing at all
//! ```
//! What is kept speaks about the image and is no part of it (`list`), so the image's digest is the
//! same each time.

mod list;
mod log;
mod probe;
mod trial;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::call::Session;
use super::error::Error;
use super::{Hall, machine, sweep};
use crate::attest::TestRun;
use crate::digest::Digest;
use crate::event::{Event, Sink};
use crate::image::{self, Descriptor, ImageConfig, Manifest, Reference};
use crate::store::{Draft, Published, Store, TESTED_ANNOTATION, UNTESTED, Version};

pub(super) use list::Tests;
pub(super) use probe::look;
pub(super) use trial::environment;

use trial::Ground;

pub use crate::store::TESTS_ANNOTATION;

/// A finished image in its draft, or in the store, not yet looked at.
pub(super) struct Finished<'a, 'i> {
    pub(super) draft: &'a Draft,
    pub(super) reference: Reference,
    /// Names the image; its annotations become those of the entry.
    pub(super) descriptor: Descriptor,
    pub(super) manifest: &'i Manifest,
    pub(super) config: &'i ImageConfig,
    pub(super) tests: &'i Tests,
}

/// Where the tests of an image take place, and on whose behalf.
pub(super) struct Place<'a> {
    pub(super) hall: &'a Hall<'a>,
    /// Who is told.
    pub(super) sink: &'a Sink,
    pub(super) session: &'a Session,
    /// Folder of this run's logs.
    pub(super) logs: &'a Path,
    /// The recipe, where there is one.
    pub(super) recipe: Option<&'a Path>,
}

/// An image that passed the gate.
pub(super) struct Checked<'a> {
    draft: &'a Draft,
    version: Version,
}

/// Runs the tests against the finished image, unless they are to be left out. `place` is asked only
/// where one has to be run.
pub(super) fn check<'a, 'p>(
    finished: Finished<'a, '_>,
    leave_out: bool,
    sink: &Sink,
    place: impl FnOnce() -> Result<Place<'p>, Error>,
) -> Result<Checked<'a>, Error> {
    let Finished { draft, reference, descriptor, manifest, config, tests } = finished;
    let mut referrers = vec![tests.keep(draft, &descriptor)?];
    let tested = match tests.digest() {
        None => "none",
        Some(_) if leave_out => {
            let count = if tests.list.len() == 1 {
                "its test was".to_owned()
            } else {
                format!("its {} tests were", tests.list.len())
            };
            let message = format!("{reference} is published untested: {count} not run");
            sink(Event::Warning {
                message,
                hint: Some(format!("`bake test {reference}` runs what was left out")),
            });
            UNTESTED
        }
        Some(digest) => {
            let run = pass(&place()?, draft, manifest, config, tests, digest)?;
            referrers.push(list::attest(draft, &reference.to_string(), &descriptor, &run)?);
            "yes"
        }
    };
    let list = tests.digest().map_or_else(|| "none".to_owned(), |digest| digest.to_string());
    let descriptor = descriptor
        .with_annotation(TESTED_ANNOTATION, tested)
        .with_annotation(TESTS_ANNOTATION, list);
    Ok(Checked { draft, version: Version { reference, manifest: descriptor, referrers } })
}

/// Runs every test; the first that fails ends it.
fn pass(
    place: &Place<'_>,
    draft: &Draft,
    manifest: &Manifest,
    config: &ImageConfig,
    tests: &Tests,
    digest: Digest,
) -> Result<TestRun, Error> {
    let Place { hall, sink, session, logs, recipe } = place;
    let layers = machine::unpacked(hall, session, draft, manifest, config)?;
    let (lower, scratch) = (&layers.lower, draft.dir());
    let (cancel, scripts) = (hall.cancel, &tests.scripts);
    let ground =
        Ground { session, lower, scratch, cancel, sink, logs, config: &config.config, scripts };
    let mut passed = vec![];
    for (at, test) in tests.list.iter().enumerate() {
        if cancel.fired() {
            return Err(Error::Interrupted);
        }
        let (index, total) = (at + 1, tests.list.len());
        sink(Event::TestStarted { index, total, label: test.label.clone(), line: test.line });
        match trial::run(&ground, index, test)? {
            Ok(one) => passed.push(one),
            Err(trial::Failed { why, tail, log }) => {
                return Err(Error::Test {
                    place: format!("test {index} of {total}"),
                    label: test.label.clone(),
                    recipe: recipe.map(Path::to_owned),
                    line: (test.line > 0).then_some(test.line),
                    why,
                    tail,
                    log,
                });
            }
        }
    }
    let finished = image::rfc3339(jiff::Timestamp::now().as_second());
    Ok(TestRun { bake: env!("CARGO_PKG_VERSION").to_owned(), finished, tests: digest, passed })
}

impl Checked<'_> {
    /// Returns the manifest's digest.
    pub(super) fn digest(&self) -> Digest {
        self.version.manifest.digest
    }
}

/// Publishes images together: the one moment anyone can see them. Returns for each whether it is
/// new.
pub(super) fn publish(store: &Store, checked: Vec<Checked<'_>>) -> Result<Vec<Published>, Error> {
    let all: Vec<(&Draft, [Version; 1])> =
        checked.into_iter().map(|Checked { draft, version }| (draft, [version])).collect();
    let all: Vec<(&Draft, &[Version])> =
        all.iter().map(|(draft, versions)| (*draft, versions.as_slice())).collect();
    Ok(store.publish_all(&all)?)
}

/// Whether what is published has passed these very tests, or has none as these are none.
pub(super) fn is_tested(published: &Descriptor, tests: &Tests) -> bool {
    let said = |name: &str| published.annotations.get(name).map(String::as_str);
    match tests.digest() {
        None => matches!(said(TESTS_ANNOTATION), None | Some("none")),
        Some(digest) => {
            said(TESTS_ANNOTATION) == Some(&digest.to_string())
                && said(TESTED_ANNOTATION) == Some("yes")
        }
    }
}

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
    /// Folder of the logs.
    pub logs: PathBuf,
}

/// Runs the tests of a stored image again, those that were kept with it. Where all pass this is
/// recorded, and an image that was untested is tested from then on.
///
/// # Errors
/// [`Error::Test`] where one fails: then nothing is recorded, and the image stays what it was. An
/// image without tests is an error.
pub fn test(hall: &Hall<'_>, reference: &Reference) -> Result<Tested, Error> {
    sweep::dead_builds(hall)?;
    let begun = std::time::Instant::now();
    let version = hall.store.resolve(reference)?;
    let tests = Tests::of_image(hall.store, &version.manifest.digest)?
        .filter(|tests| !tests.list.is_empty());
    let Some(tests) = tests else {
        return Err(Error::NoTests { image: version.reference.to_string() });
    };
    let count = tests.list.len();
    let (digest, logs) = stored(hall, version.clone(), &tests, false, None)?;
    Ok(Tested {
        image: version.reference.to_string(),
        digest,
        tests: count,
        took: begun.elapsed(),
        logs,
    })
}

/// Takes a stored image through the gate and records the outcome. Returns its digest and the folder
/// of the logs.
pub(super) fn stored(
    hall: &Hall<'_>,
    version: Version,
    tests: &Tests,
    leave_out: bool,
    recipe: Option<&Path>,
) -> Result<(Digest, PathBuf), Error> {
    let (manifest, config) = machine::read(hall.store, &version.manifest)?;
    let draft = hall.store.draft()?;
    let logs = hall.store.logs(draft.id())?;
    let mut session = None;
    let outcome = (|| {
        let opened = Session::open(hall.host.get()?, &hall.store.cache("layers")?, draft.dir())?;
        let session = session.insert(opened);
        let Version { reference, manifest: descriptor, .. } = version;
        let (manifest, config) = (&manifest, &config);
        let finished = Finished { draft: &draft, reference, descriptor, manifest, config, tests };
        let checked = check(finished, leave_out, hall.sink, || {
            Ok(Place { hall, sink: hall.sink, session, logs: &logs, recipe })
        })?;
        if hall.cancel.fired() {
            return Err(Error::Interrupted);
        }
        let digest = checked.digest();
        publish(hall.store, vec![checked])?;
        Ok(digest)
    })();
    sweep::clear(hall.sink, &draft, session.as_ref());
    outcome.map(|digest| (digest, logs))
}

/// The error for a script of a test that cannot be read.
pub(super) fn unreadable(
    recipe: &Path,
    (test, why): (crate::step::LoweredTest, super::error::StepFailure),
) -> Error {
    Error::Test {
        place: "a test".to_owned(),
        label: test.label,
        recipe: Some(recipe.to_owned()),
        line: Some(test.line),
        why: why.reasons(),
        tail: vec![],
        log: PathBuf::new(),
    }
}
