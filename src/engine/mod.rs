//! The hall: bake → gate → publish. The whole data flow of a build on one page:
//!
//! ```text
//! recipe.toml ─ recipe::read ──► Recipe            or every diagnostic at once, nothing touched
//! Recipe.base ─ base::pin ─────► Pinned            exact packages and digests; obeyed from, written to the lock
//! Recipe ─ plan::draw ─────────► Plan              steps as operations; pure
//! facts::gather ───────────────► key               published from the same key already? then we are done
//! Store::draft ────────────────► Staging             private corner; dropped = nothing happened
//! each step (run.rs): in the cache? its layer : sandbox runs its operations over an overlay → upper folder
//!                                → layer::pack → draft and cache, while the next step runs
//! gate::check ─────────────────► Checked           the only thing that can be published
//! lock files written, then publish (many.rs)       blobs synced, one rename of index.json: the only moment anyone can see
//! ```

pub mod check;
mod collect;
mod config;
pub mod direct;
pub mod error;
pub mod explain;
mod facts;
#[cfg(test)]
mod facts_keys;
mod locking;
mod many;
pub mod new;
mod node;
mod packages;
mod paranoid;
mod pinned;
mod read;
mod record;
mod run;
mod shell;
mod site;
mod work;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use crate::archive::{self, Options, Source};
use crate::base;
use crate::context::Context;
use crate::digest::Digest;
use crate::event::{Event, Sink, chain};
use crate::image::{self, Descriptor, Platform, Reference};
use crate::job::{JobContext, dead_builds};
use crate::layer::Compression;
use crate::plan::lock::Lock;
use crate::plan::{self, Plan};
use crate::recipe::{self, BaseKind, Recipe};
use crate::step;
use crate::store::{STEP_KEYS_ANNOTATION, Store, Version, step_keys};
use crate::trial::{self, Checked, Tests};

pub use check::{Looked, check, look_over};
pub use collect::collect;
pub use locking::LockMode;
pub use many::Failed;
pub use read::{read, text};
pub use shell::shell;

use config::{Made, Skeleton};
use error::Error;
use facts::Facts;
use locking::Locking;
use run::Run;
use work::Work;

/// Annotation of a published version in `index.json`: the key of the build that made it
/// ([`plan::key`]).
pub const KEY_ANNOTATION: &str = "bake.build-key";

/// What a person asks for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The recipe.
    pub recipe: PathBuf,
    /// What it is read with.
    pub inputs: recipe::Inputs,
    /// What [`look_over`] made of it, where that was asked already.
    pub checked: Option<Looked>,
    /// How the lock file is treated.
    pub lock: LockMode,
    /// `SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
    /// `--debian-mirror`.
    pub mirror: Option<String>,
    /// `--network-timeout`: how long a server may be silent.
    pub network_timeout: Option<Duration>,
    /// `--no-cache`.
    pub no_cache: NoCache,
    /// `--paranoid`: run cached steps again and compare.
    pub paranoid: bool,
    /// `--no-test`: publish without running the tests.
    pub no_test: bool,
    /// `--on-failure=shell`: let the person at the terminal look into the step that fails.
    pub shell_on_failure: bool,
}

/// Which steps run although they are cached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NoCache {
    /// None.
    #[default]
    No,
    /// All.
    All,
    /// Those of these numbers or names; `base` is the base.
    Steps(Vec<String>),
}

/// A published image.
#[derive(Debug, Clone)]
pub struct Baked {
    /// `name:version`.
    pub image: String,
    /// Image name.
    pub name: String,
    /// Image version.
    pub version: String,
    /// The manifest's digest.
    pub digest: Digest,
    /// It was published already, with this very content.
    pub already: bool,
    /// How long the build took.
    pub took: Duration,
}

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
    let ready = prepare(hall, request, &locking)?;
    let steps = if ready.facts.complete() { 0 } else { ready.plan.steps_to_lock() };
    let pins = if ready.facts.complete() {
        ready.facts.needed(&ready.pins, locking.lock().unwrap_or(&Lock::default()))
    } else if steps == 0 {
        ready.pins.clone()
    } else {
        let stop = AtomicBool::new(false);
        let work = Work::start(hall, hall.sink, &ready, &locking, request, &stop)?;
        let made = work.run(steps.min(ready.plan.nodes.len()), false);
        work.clear();
        made?;
        work.known_pins_of_this_build()
    };
    let wrote = locking.write(&pins)?.is_some();
    Ok((locking.path().to_owned(), wrote))
}

/// A recipe that is read, pinned and planned: everything known before anything runs.
struct Ready {
    recipe: Recipe,
    recipe_path: PathBuf,
    context: Context,
    context_dir: PathBuf,
    source: Source,
    base: base::Pinned,
    plan: Plan,
    epoch: i64,
    facts: Facts,
    skeleton: Skeleton,
    platform: Platform,
    /// What is pinned before anything runs.
    pins: Lock,
    tests: Tests,
}

fn prepare(hall: &JobContext<'_>, request: &Request, locking: &Locking) -> Result<Ready, Error> {
    let platform = Platform::host();
    let mut inputs = request.inputs.clone();
    let looked =
        request.checked.clone().map_or_else(|| check::look_over(&request.recipe, &inputs), Ok)?;
    let (mut recipe, text) = (looked.recipe, looked.text);
    let folder = request.recipe.parent().unwrap_or(Path::new(""));
    let context_dir = folder.join(&recipe.image.context);
    let store = check::below(hall.store.dir(), &context_dir)
        .map(|path| (path, "bake itself: it is the store".to_owned()));
    let context = looked
        .context
        .for_build(store, hall.store.cache("stat")?)
        .map_err(|source| Error::Context { recipe: request.recipe.clone(), source })?;
    let source = source(hall, request)?;
    let base = pin(hall, &source, request, &recipe, locking, &context_dir, &platform)?;
    let date = base.date();
    let epoch: i64 = request
        .epoch
        .or(recipe.image.epoch)
        .or(locking.epoch().filter(|_| date.is_some()))
        .or(date)
        .unwrap_or(0);
    if epoch > jiff::Timestamp::now().as_second() {
        // Only times after the epoch are set to it: with none after it, what is written now keeps
        // the time it was written.
        let message = format!(
            "the epoch {epoch} is in the future: two builds may differ in the times of their files"
        );
        (hall.sink)(Event::Warning {
            message,
            hint: Some("set SOURCE_DATE_EPOCH or `[image] epoch` to a time in the past".to_owned()),
        });
    }
    if recipe.uses_epoch {
        inputs.epoch = epoch;
        recipe = read::parse(&text, &request.recipe, &inputs)?;
    }
    let plan = plan::draw(&recipe);
    if let NoCache::Steps(names) = &request.no_cache {
        let labels: Vec<String> = std::iter::once(plan.base.clone())
            .chain(plan.nodes.iter().map(|node| node.label.clone()))
            .collect();
        let known = |name: &&String| {
            !labels.iter().enumerate().any(|(index, label)| run::names_step(name, index, label))
        };
        if let Some(name) = names.iter().find(known) {
            return Err(Error::NoStep {
                name: name.clone(),
                steps: labels,
                recipe: request.recipe.clone(),
            });
        }
    }
    let path = &request.recipe;
    let skeleton = Skeleton::draw(&recipe, &plan, epoch, &platform);
    let sources = facts::Sources {
        recipe: &recipe,
        plan: &plan,
        base: &base,
        context: &context,
        locking,
        epoch,
        platform: &platform,
        skeleton: &skeleton,
        path,
    };
    let facts = facts::gather(&sources)?;
    let pins = facts::pins(&base);
    locking.must_do(
        &facts.missing,
        &facts.needed(&pins, locking.lock().unwrap_or(&Lock::default())),
    )?;
    for test in &recipe.tests_off {
        let test = step::lower_test(test);
        (hall.sink)(Event::Note {
            message: format!("the test on line {} is off by its `when`: {}", test.line, test.label),
        });
    }
    let tests = Tests::of_recipe(&recipe, |file, most| context.read(file, most))
        .map_err(|found| trial::unreadable(&request.recipe, found))?;
    let recipe_path = request.recipe.clone();
    Ok(Ready {
        recipe,
        recipe_path,
        context,
        context_dir,
        source,
        base,
        plan,
        epoch,
        facts,
        skeleton,
        platform,
        pins,
        tests,
    })
}

/// Looks whether this very build is published under its version. Of another build only the layers
/// can tell whether it is the same content: the publish compares.
fn published_already(
    hall: &JobContext<'_>,
    request: &Request,
    ready: &Ready,
) -> Result<Option<Version>, Error> {
    if request.lock == LockMode::Update || !ready.facts.complete() {
        return Ok(None);
    }
    let wanted = (&ready.recipe.image.name, Some(&ready.recipe.image.version));
    let versions = hall.store.versions()?;
    let Some(found) =
        versions.iter().find(|one| (&one.reference.name, one.reference.version.as_ref()) == wanted)
    else {
        return Ok(None);
    };
    match found.manifest.annotations.get(KEY_ANNOTATION) {
        // Who asks for steps to run wants to see whether they still give this image; the publish
        // compares.
        Some(key) if *key == ready.facts.key.to_string() => {
            let asked = request.paranoid || request.no_cache != NoCache::No;
            let there = !asked && whole(hall.store, &found.manifest.digest);
            Ok(there.then(|| found.clone()))
        }
        Some(_) => {
            (hall.sink)(Event::Note {
                message: format!(
                    "{} is published already, baked of other inputs: this build is refused unless it gives the very same image",
                    ready.plan.image
                ),
            });
            Ok(None)
        }
        None => Ok(None),
    }
}

/// Makes sure that a published version has passed the tests as they are now written: the image need
/// not be made again for that.
fn tested(
    hall: &JobContext<'_>,
    request: &Request,
    ready: &Ready,
    version: &Version,
) -> Result<(), Error> {
    if trial::is_tested(&version.manifest, &ready.tests) {
        return Ok(());
    }
    trial::stored(hall, version.clone(), &ready.tests, request.no_test, Some(&request.recipe))?;
    Ok(())
}

/// Whether everything that a manifest names is there in its size (`bake verify` reads it all).
fn whole(store: &Store, manifest: &Digest) -> bool {
    let Ok(bytes) = store.read_blob(manifest) else { return false };
    image::Manifest::parse(&bytes)
        .is_ok_and(|manifest| manifest.descriptors().all(|one| store.blob_of(one).is_ok()))
}

fn taken(ready: &Ready, have: &Digest) -> Error {
    Error::VersionTaken {
        image: ready.plan.image.clone(),
        have: have.to_string(),
        recipe: ready.recipe_path.clone(),
    }
}

impl Work<'_> {
    /// Makes the base and runs the first `steps` steps, and with `identity` what says which image
    /// this is. Returns what each left, the base first.
    fn run(&self, steps: usize, identity: bool) -> Result<Vec<Made>, Error> {
        let plan = &self.ready.plan;
        (self.sink)(Event::Started {
            image: plan.image.clone(),
            steps: plan.nodes.len(),
            logs: self.logs.clone(),
        });
        let made = thread::scope(|scope| Run::new(self, scope).all(steps, identity))?;
        let layers = made.iter().filter(|one| one.layer.is_some()).count();
        if layers > 127 {
            let message =
                format!("the image has {layers} layers; Docker and containerd start at most 127");
            let hint = Some("join `run` steps that belong together".to_owned());
            (self.sink)(Event::Warning { message, hint });
        }
        Ok(made)
    }

    /// Writes config and manifest, and passes the gate.
    fn finish(&self, made: &[Made]) -> Result<Checked<'_>, Error> {
        let Ready { recipe, plan, epoch, platform, skeleton, .. } = self.ready;
        let image_config = skeleton.config(*epoch, made);
        let config = self.draft.put(&image_config.to_json())?;
        let image_manifest = skeleton.manifest(config, made, self.compression());
        let (digest, size) = self.draft.put(&image_manifest.to_json())?;
        let image = &recipe.image;
        let reference = Reference::new(&image.name, &image.version).map_err(|error| {
            Error::Chore { what: format!("name the image {}", plan.image), why: error.to_string() }
        })?;
        // With the lock as it is now: what the next run of the same recipe will see.
        let key = self.ready.facts.key_with(&self.known_pins_of_this_build());
        let descriptor = Descriptor::new(image::MEDIA_MANIFEST, digest, size)
            .with_platform(platform.clone())
            .with_annotation(KEY_ANNOTATION, key.to_string())
            .with_annotation(STEP_KEYS_ANNOTATION, step_keys(made.iter().map(|one| one.key)));
        let (draft, tests) = (&self.draft, &self.ready.tests);
        let context = &JobContext { sink: self.sink, ..*self.hall };
        let finished = trial::Finished {
            draft,
            reference,
            descriptor,
            manifest: &image_manifest,
            config: &image_config,
            tests,
            context,
            logs: &self.logs,
            recipe: Some(&self.ready.recipe_path),
            said: Some(trial::Said {
                recipe: &self.ready.recipe_path,
                lines: &recipe.config.lines,
            }),
        };
        let checked = trial::check(finished, self.request.no_test, || self.session())?;
        if self.hall.cancel.fired() {
            return Err(Error::Interrupted);
        }
        Ok(checked)
    }
}

fn compression(how: recipe::Compression) -> Compression {
    match how {
        recipe::Compression::Gzip => Compression::Gzip,
        recipe::Compression::Zstd => Compression::Zstd,
        recipe::Compression::None => Compression::None,
    }
}

/// Returns what the image says of itself inside.
fn identity_of(recipe: &Recipe, plan: &Plan, epoch: i64) -> image::Identity {
    image::Identity {
        v: 1,
        name: recipe.image.name.clone(),
        version: recipe.image.version.clone(),
        base: plan.base.clone(),
        created: image::rfc3339(epoch),
    }
}

/// Makes the downloader of one build, with its cache in the store.
fn source(hall: &JobContext<'_>, request: &Request) -> Result<Source, Error> {
    let mut options = Options { mirror: request.mirror.clone(), ..Options::default() };
    options.limits.stall = request.network_timeout.unwrap_or(options.limits.stall);
    let cancel = hall.cancel.clone();
    let stop = Arc::new(move || cancel.fired());
    let cache = hall.store.cache("packages")?;
    Source::new(&cache, options, Sink::clone(hall.sink), stop).map_err(|error| Error::Chore {
        what: format!("use the package cache {}", cache.display()),
        why: chain(&error).join(": "),
    })
}

/// Decides what exactly the base is: as the lock file says, else as the world says now.
fn pin(
    hall: &JobContext<'_>,
    source: &Source,
    request: &Request,
    recipe: &Recipe,
    locking: &Locking,
    context: &Path,
    platform: &Platform,
) -> Result<base::Pinned, Error> {
    let locked = match locking.base() {
        Some(locked) => pinned::from_lock(locked, &recipe.base.kind).map_err(|why| {
            Error::Lock { path: locking.path().to_owned(), source: plan::lock::Error::Syntax(why) }
        })?,
        None => None,
    };
    let locked = locked.filter(|pin| pin.fits(&recipe.base, &platform.architecture));
    if locking.locked() && locked.is_none() && matches!(recipe.base.kind, BaseKind::Debian(_)) {
        return Err(locking.missing("the base"));
    }
    base::pin(&recipe.base, &platform.architecture, context, locked.as_ref(), source).map_err(
        |source| match source {
            base::Error::Archive(archive::Error::Cancelled) => Error::Interrupted,
            _ if hall.cancel.fired() => Error::Interrupted,
            source => {
                let base = plan::draw(recipe).base;
                Error::Base {
                    base,
                    recipe: request.recipe.clone(),
                    line: recipe.base.line,
                    source,
                    tail: vec![],
                    log: None,
                }
            }
        },
    )
}
