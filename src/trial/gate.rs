//! The gate: only what passed it can be published. The promise "tests gate" is a fact of the types:
//! `publish` takes [`Checked`] only, and only [`booted`] makes one, of what [`check`] has examined.
//! Between the two the image's outputs are made: what is booted are the bytes that are delivered.
//!
//! ```text
//! no tests            ► tested: none
//! tested elsewhere    ► tested: yes    the statements that say so are kept with the image
//! --no-test           ► tested: no     the tests are kept with the image; `bake test` runs them later
//! every test passed   ► tested: yes    the tests and a statement are kept with the image
//! a test failed       ► nothing at all
//! ```
//! What is kept speaks about the image and is no part of it (`list`), so the image's digest is the
//! same each time.

use std::path::{Path, PathBuf};

use super::error::Error;
use super::image::{Layers, unpacked};
use super::list::{self, Tests};
use super::machine::{Boots, Machines};
use super::startable::{self, Configured};
use super::test::{Failed, Trial, run};
use crate::attest::{Passed, TestRun};
use crate::digest::Digest;
use crate::event::Event;
use crate::image::{self, Config, Descriptor, ImageConfig, Manifest, Platform, Reference};
use crate::job::{self, JobContext, Session};
use crate::store::{
    Placement, Published, Staging, Store, TESTED_ANNOTATION, TESTS_ANNOTATION, UNTESTED, Version,
};

/// A finished image in its staging, or in the store, not yet looked at.
pub(crate) struct Finished<'a, 'i> {
    pub(crate) staging: &'a Staging,
    pub(crate) reference: Reference,
    /// Names the image; its annotations become those of the entry.
    pub(crate) descriptor: Descriptor,
    pub(crate) manifest: &'i Manifest,
    pub(crate) config: &'i ImageConfig,
    pub(crate) tests: &'i Tests,
    /// Artifacts in the staging that say that its tests passed elsewhere.
    pub(crate) attested: Vec<Descriptor>,
    /// What else is stated about it: the bytes of an in-toto statement.
    pub(crate) stated: Option<Vec<u8>>,
    pub(crate) context: &'i JobContext<'i>,
    /// Directory of this run's logs.
    pub(crate) logs: &'i Path,
    /// The recipe, where there is one.
    pub(crate) recipe: Option<&'i Path>,
    /// Its `[config]`, where the image is made from it just now.
    pub(crate) configured: Option<Configured<'i>>,
}

/// Where programs of the image can run.
struct Place<'a> {
    session: &'a Session,
    layers: Layers,
}

/// An image that passed those tests that look at containers.
pub(crate) struct Examined<'a> {
    staging: &'a Staging,
    version: Version,
    owed: Option<Owed>,
}

/// The tests that an image has still to pass, as a machine.
struct Owed {
    tests: Tests,
    digest: Digest,
    /// Those that passed, with their numbers, from 1.
    passed: Vec<(usize, Passed)>,
    config: Config,
    logs: PathBuf,
    recipe: Option<PathBuf>,
}

/// An image that passed the gate.
pub(crate) struct Checked<'a> {
    staging: &'a Staging,
    version: Version,
}

/// Runs those tests against the finished image that look at containers, unless they are to be left
/// out. `session` is asked only where one has to be run.
pub(crate) fn check<'a, 's>(
    finished: Finished<'a, '_>,
    leave_out: bool,
    session: impl FnOnce() -> Result<&'s Session, job::Error>,
) -> Result<Examined<'a>, Error> {
    let Finished { staging, tests, context, .. } = finished;
    let question = finished.configured.zip(startable::question(&finished.config.config));
    let runs = !leave_out && tests.list.iter().any(|test| test.boot.is_none());
    let place = if question.is_some() || runs {
        let session = session()?;
        let layers = unpacked(context, session, staging, finished.manifest, finished.config)?;
        Some(Place { session, layers })
    } else {
        None
    };
    if let (Some((configured, question)), Some(place)) = (question, &place) {
        let Place { session, layers } = place;
        startable::check(context, session, &layers.lower, staging.dir(), question, configured)?;
    }
    let mut owed = None;
    let mut referrers = vec![tests.keep(staging, &finished.descriptor)?];
    if let Some(statement) = &finished.stated {
        referrers.push(list::state(staging, &finished.descriptor, statement)?);
    }
    let tested = match tests.digest() {
        None if !finished.attested.is_empty() => {
            referrers.extend(finished.attested.iter().cloned());
            "yes"
        }
        None => "none",
        Some(_) if leave_out && passed_before(&finished) => "yes",
        Some(_) if leave_out => {
            let count = if tests.list.len() == 1 {
                "its test was".to_owned()
            } else {
                format!("its {} tests were", tests.list.len())
            };
            let reference = &finished.reference;
            let message = format!("{reference} is published untested: {count} not run");
            (context.sink)(Event::Warning {
                message,
                hint: Some(format!("`bake test {reference}` runs what was left out")),
            });
            UNTESTED
        }
        Some(digest) => {
            let passed = pass(&finished, place.as_ref())?;
            let Finished { config, logs, recipe, .. } = &finished;
            let (config, logs) = (config.config.clone(), logs.to_path_buf());
            let recipe = recipe.map(Path::to_owned);
            owed = Some(Owed { tests: tests.clone(), digest, passed, config, logs, recipe });
            "yes"
        }
    };
    let list = tests.digest().map_or_else(|| "none".to_owned(), |digest| digest.to_string());
    let Finished { reference, descriptor, .. } = finished;
    let descriptor = descriptor
        .with_annotation(TESTED_ANNOTATION, tested)
        .with_annotation(TESTS_ANNOTATION, list);
    let version = Version { reference, manifest: descriptor, referrers };
    Ok(Examined { staging, version, owed })
}

/// Runs the tests of an examined image that look at it as a machine, and states that all have
/// passed.
pub(crate) fn booted<'a>(
    context: &JobContext<'_>,
    examined: Examined<'a>,
    machines: &dyn Machines,
) -> Result<Checked<'a>, Error> {
    let Examined { staging, mut version, owed } = examined;
    let Some(Owed { tests, digest, mut passed, config, logs, recipe }) = owed else {
        return Ok(Checked { staging, version });
    };
    let numbered = (1..).zip(&tests.list);
    let boots = Boots {
        tests: numbered.filter(|(_, test)| test.boot.is_some()).collect(),
        total: tests.list.len(),
        scripts: &tests.scripts,
        config: &config,
        logs: &logs,
        recipe: recipe.as_deref(),
    };
    passed.extend(boots.run(context, (&version, staging), machines)?);
    passed.sort_by_key(|(index, _)| *index);
    let passed = passed.into_iter().map(|(_, passed)| passed).collect();
    let finished = image::rfc3339(jiff::Timestamp::now().as_second());
    let run =
        TestRun { bake: env!("CARGO_PKG_VERSION").to_owned(), finished, tests: digest, passed };
    let name = version.reference.to_string();
    version.referrers.push(list::attest(staging, &name, &version.manifest, &run)?);
    Ok(Checked { staging, version })
}

/// Whether this very image is published already and has passed these very tests.
fn passed_before(finished: &Finished<'_, '_>) -> bool {
    let Finished { context, reference, descriptor, tests, .. } = finished;
    // A store that cannot be read is reported by the publish.
    let there = context.store.resolve(reference).and_then(|version| {
        let platform = descriptor.platform.clone().unwrap_or_else(Platform::host);
        context.store.part(&version, &platform)
    });
    there.is_ok_and(|found| {
        found.is_some_and(|version| {
            version.manifest.digest == descriptor.digest && is_tested(&version.manifest, tests)
        })
    })
}

/// Runs every test that looks at a container; the first that fails ends it. Returns them with their
/// numbers.
fn pass(
    finished: &Finished<'_, '_>,
    place: Option<&Place<'_>>,
) -> Result<Vec<(usize, Passed)>, Error> {
    let Finished { staging, config, tests, context, logs, recipe, .. } = finished;
    let Some(Place { session, layers }) = place else { return Ok(vec![]) };
    let (lower, scratch, scripts) = (&layers.lower, staging.dir(), &tests.scripts);
    let config = &config.config;
    let trial = Trial { context, session, lower, scratch, logs, config, scripts };
    let mut passed = vec![];
    for (at, test) in tests.list.iter().enumerate() {
        if test.boot.is_some() {
            continue;
        }
        if context.cancel.fired() {
            return Err(job::Error::Interrupted.into());
        }
        let (index, total) = (at + 1, tests.list.len());
        (context.sink)(Event::TestStarted {
            index,
            total,
            label: test.label.clone(),
            line: test.line,
        });
        match run(&trial, index, test)? {
            Ok(one) => passed.push((index, one)),
            Err(Failed { why, tail, log }) => {
                return Err(Error::Test {
                    place: format!("test {index} of {total}"),
                    label: test.label.clone(),
                    recipe: recipe.map(Path::to_owned),
                    line: (test.line > 0).then_some(test.line),
                    why,
                    tail,
                    hints: vec![],
                    log,
                });
            }
        }
    }
    Ok(passed)
}

impl Examined<'_> {
    /// Returns what will be published.
    pub(crate) fn version(&self) -> &Version {
        &self.version
    }
}

/// What becomes one version: an image, or one for each of several platforms.
pub(crate) struct Joined<'a> {
    stagings: Vec<&'a Staging>,
    version: Version,
}

/// The same of images that passed the gate: what can be published.
pub(crate) struct Bundle<'a>(Joined<'a>);

impl<'a> Joined<'a> {
    /// Returns where its blobs are that the store has not yet.
    pub(crate) fn stagings(&self) -> &[&'a Staging] {
        &self.stagings
    }

    /// Returns what will be published.
    pub(crate) fn version(&self) -> &Version {
        &self.version
    }
}

impl Bundle<'_> {
    /// Returns what will be published.
    pub(crate) fn version(&self) -> &Version {
        &self.0.version
    }
}

impl<'a> Checked<'a> {
    /// Makes a version of it and of the images that are published with it already: `parts`, of
    /// which it is number `place`.
    pub(super) fn among(
        self,
        store: &Store,
        mut parts: Vec<Version>,
        place: usize,
    ) -> Result<Bundle<'a>, Error> {
        parts[place] = self.version;
        let version = store.join(self.staging, &parts)?;
        Ok(Bundle(Joined { stagings: vec![self.staging], version }))
    }
}

/// Makes one version of images with one name, each for a platform of its own.
pub(crate) fn joined<'a>(
    store: &Store,
    examined: &[&Examined<'a>],
) -> Result<Vec<Joined<'a>>, Error> {
    join(store, &examined.iter().map(|one| (one.staging, &one.version)).collect::<Vec<_>>())
}

/// As [`joined`], of images that passed the gate.
pub(crate) fn bundles<'a>(
    store: &Store,
    checked: &[Checked<'a>],
) -> Result<Vec<Bundle<'a>>, Error> {
    let all = checked.iter().map(|one| (one.staging, &one.version)).collect::<Vec<_>>();
    Ok(join(store, &all)?.into_iter().map(Bundle).collect())
}

fn join<'a>(store: &Store, all: &[(&'a Staging, &Version)]) -> Result<Vec<Joined<'a>>, Error> {
    let mut names: Vec<&Reference> = vec![];
    for (_, version) in all {
        if !names.contains(&&version.reference) {
            names.push(&version.reference);
        }
    }
    let one = |name: &Reference| {
        let parts = all.iter().filter(|(_, version)| version.reference == *name);
        let (stagings, versions): (Vec<&Staging>, Vec<Version>) =
            parts.map(|(staging, version)| (*staging, (*version).clone())).unzip();
        Ok(Joined { version: store.join(stagings[0], &versions)?, stagings })
    };
    names.into_iter().map(one).collect()
}

/// Publishes images together, and puts outputs in their places with them: the only point at which
/// anyone can see them. Returns for each image whether it is new.
pub(crate) fn publish(
    store: &Store,
    bundles: &[Bundle<'_>],
    outputs: &[Placement],
) -> Result<Vec<Published>, Error> {
    let mut all: Vec<(&Staging, &[Version])> = vec![];
    for Bundle(Joined { stagings, version }) in bundles {
        let mut versions = std::slice::from_ref(version);
        for staging in stagings {
            all.push((staging, versions));
            versions = &[];
        }
    }
    Ok(store.publish_with(&all, outputs)?)
}

/// Whether what is published has passed these very tests, or has none as these are none.
pub(crate) fn is_tested(published: &Descriptor, tests: &Tests) -> bool {
    let noted = |name: &str| published.annotations.get(name).map(String::as_str);
    match tests.digest() {
        None => matches!(noted(TESTS_ANNOTATION), None | Some("none")),
        Some(digest) => {
            noted(TESTS_ANNOTATION) == Some(&digest.to_string())
                && noted(TESTED_ANNOTATION) == Some("yes")
        }
    }
}
