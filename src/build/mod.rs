//! The hall: bake → gate → publish. The whole data flow of a build on one page:
//!
//! ```text
//! recipe.toml ─ recipe::read ──► Recipe            or every diagnostic at once, nothing touched
//! Recipe.base ─ base::pin ─────► Pinned            exact packages and digests; obeyed from, written to the lock
//! Recipe ─ plan::draw ─────────► Plan              steps as operations; pure
//! facts::gather ───────────────► key               published from the same key already? then we are done
//! Store::draft ────────────────► Draft             private corner; dropped = nothing happened
//! each step: sandbox runs its operations over an overlay → upper folder → layer::pack → draft (while the next step runs)
//! gate::check ─────────────────► Checked           the only thing that can be published
//! lock file written, then Checked::publish         blobs synced, one rename of index.json: the only moment anyone can see
//! ```

pub mod apply;
mod check;
mod chores;
mod config;
pub mod context;
pub mod error;
mod facts;
mod gate;
mod locking;
mod log;
pub mod new;
mod node;
mod pack;
mod packages;
mod pinned;
mod read;
mod site;
mod sweep;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::base::{self, debian};
use crate::digest::Digest;
use crate::event::{Event, Sink};
use crate::image::{self, Descriptor, Platform, Reference};
use crate::layer::{Blob, Compression};
use crate::plan::{self, Plan, lock::Lock};
use crate::recipe::{self, BaseKind, Recipe};
use crate::sandbox::{Action, Call, Cancel, Host, Job, Overlay, Session};
use crate::step::Lowered;
use crate::store::{self, Draft, Published, Store};

pub use check::check;
pub use chores::CHORES;
pub use locking::LockMode;
pub use read::{read, text};

use config::Made;
use error::Error;
use facts::Facts;
use locking::Locking;
use log::StepLog;
use node::Trouble;
use site::Site;

/// Annotation of a published version in `index.json`: the key of the build that made it ([`plan::key`]).
pub const KEY_ANNOTATION: &str = "bake.build-key";

/// What a build works with.
pub struct Hall<'a> {
    /// Where images go.
    pub store: &'a Store,
    /// What this machine can do.
    pub host: &'a Host,
    /// Ends the build from outside.
    pub cancel: &'a Cancel,
    /// Who is told.
    pub sink: &'a Sink,
}

/// What a person asks for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The recipe.
    pub recipe: PathBuf,
    /// What it is read with.
    pub inputs: recipe::Inputs,
    /// How the lock file is treated.
    pub lock: LockMode,
    /// `SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
    /// `--debian-mirror`.
    pub mirror: Option<String>,
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

/// Bakes one recipe and publishes the image; on any error nothing is published.
pub fn bake(hall: &Hall<'_>, request: &Request) -> Result<Baked, Error> {
    let start = Instant::now();
    sweep::dead_builds(hall)?;
    let locking = Locking::open(&request.recipe, request.lock)?;
    let ready = prepare(hall, request, &locking)?;
    let (name, version) = (ready.recipe.image.name.clone(), ready.recipe.image.version.clone());
    let done = |digest, already| {
        let took = start.elapsed();
        let image = ready.plan.image.clone();
        (hall.sink)(Event::Published { image: image.clone(), digest, already });
        Baked { image, name: name.clone(), version: version.clone(), digest, already, took }
    };
    if let Some(digest) = published_already(hall.store, request, &ready)? {
        return Ok(done(digest, true));
    }
    let mut work = Work::start(hall, &ready)?;
    let made = match work.run(hall, &ready, &locking, ready.plan.nodes.len()) {
        Ok(made) => made,
        Err(error) => {
            work.clear(hall);
            return Err(error);
        }
    };
    let published = work.finish(hall, &ready, &locking, &made);
    work.clear(hall);
    let (digest, already) = published?;
    Ok(done(digest, already))
}

/// Runs a recipe as far as needed to know everything the lock file pins, writes it, and throws the rest away. Returns the lock
/// file's path and whether it changed.
pub fn lock(hall: &Hall<'_>, request: &Request) -> Result<(PathBuf, bool), Error> {
    sweep::dead_builds(hall)?;
    let locking = Locking::open(&request.recipe, request.lock)?;
    let ready = prepare(hall, request, &locking)?;
    let steps = if ready.facts.complete { 0 } else { ready.plan.steps_to_lock() };
    let pins = if ready.facts.complete {
        locking.lock().cloned().unwrap_or_default()
    } else if steps == 0 {
        ready.pins.clone()
    } else {
        let mut work = Work::start(hall, &ready)?;
        let made = work.run(hall, &ready, &locking, steps);
        work.clear(hall);
        made?;
        work.pins
    };
    let wrote = locking.write(&pins)?;
    Ok((locking.path().to_owned(), wrote))
}

/// A recipe that is read, pinned and planned: everything known before anything runs.
struct Ready {
    recipe: Recipe,
    recipe_path: PathBuf,
    context: context::Context,
    context_dir: PathBuf,
    source: debian::Source,
    base: base::Pinned,
    plan: Plan,
    epoch: i64,
    facts: Facts,
    platform: Platform,
    /// What is pinned before anything runs.
    pins: Lock,
}

fn prepare(hall: &Hall<'_>, request: &Request, locking: &Locking) -> Result<Ready, Error> {
    let platform = Platform::host();
    let mut inputs = request.inputs.clone();
    let mut recipe = check::check(&request.recipe, &inputs)?;
    let folder = request.recipe.parent().unwrap_or(Path::new(""));
    let context_dir = folder.join(&recipe.image.context);
    let fail = |source: context::Error| Error::Context { recipe: request.recipe.clone(), source };
    let context =
        context::Context::open(&context_dir, &check::left_out(&request.recipe, &context_dir, Some(hall.store.dir()))).map_err(fail)?;
    let source = source(hall, request)?;
    let base = pin(hall, &source, request, &recipe, locking, &context_dir, &platform)?;
    let date = base.date();
    let epoch: i64 = request.epoch.or(recipe.image.epoch).or(locking.epoch().filter(|_| date.is_some())).or(date).unwrap_or(0);
    if epoch > jiff::Timestamp::now().as_second() {
        // Only times after the epoch are set to it: with none after it, what is written now keeps the time it was written.
        let message = format!("the epoch {epoch} is in the future: two builds may differ in the times of their files");
        (hall.sink)(Event::Warning { message, hint: Some("set SOURCE_DATE_EPOCH or `[image] epoch` to a time in the past".to_owned()) });
    }
    if recipe.uses_epoch {
        inputs.epoch = epoch;
        recipe = read::read(&request.recipe, &inputs)?;
    }
    let plan = plan::draw(&recipe);
    let facts = facts::gather(&recipe, &plan, &base, &context, locking, epoch, &platform, &request.recipe)?;
    let pins = facts::pins(&base);
    Ok(Ready { recipe, recipe_path: request.recipe.clone(), context, context_dir, source, base, plan, epoch, facts, platform, pins })
}

/// Looks whether this very build is published under its version. Something else under that version is an error, before any step runs.
fn published_already(store: &Store, request: &Request, ready: &Ready) -> Result<Option<Digest>, Error> {
    if request.lock == LockMode::Update || !ready.facts.complete {
        return Ok(None);
    }
    let wanted = (&ready.recipe.image.name, Some(&ready.recipe.image.version));
    let versions = store.versions()?;
    let Some(found) = versions.iter().find(|one| (&one.reference.name, one.reference.version.as_ref()) == wanted) else {
        return Ok(None);
    };
    let digest = found.manifest.digest;
    match found.manifest.annotations.get(KEY_ANNOTATION) {
        Some(key) if *key == ready.facts.key.to_string() => Ok(whole(store, &digest).then_some(digest)),
        Some(_) => Err(taken(ready, &digest, true)),
        None => Ok(None),
    }
}

/// Whether everything that a manifest names is there (by name: `bake verify` reads it all).
fn whole(store: &Store, manifest: &Digest) -> bool {
    let Ok(bytes) = store.read_blob(manifest) else { return false };
    image::Manifest::parse(&bytes).is_ok_and(|manifest| manifest.descriptors().all(|one| store.has(&one.digest)))
}

fn taken(ready: &Ready, have: &Digest, early: bool) -> Error {
    Error::VersionTaken { image: ready.plan.image.clone(), have: have.to_string(), recipe: ready.recipe_path.clone(), early }
}

/// The layer being packed, and whose it is.
type Packing<'scope> = (usize, thread::ScopedJoinHandle<'scope, Result<Option<Blob>, Error>>);

/// A build in flight: its corner of the store, its user namespace, its logs.
struct Work {
    draft: Draft,
    session: Session,
    logs: PathBuf,
    pins: Lock,
}

impl Work {
    fn start(hall: &Hall<'_>, ready: &Ready) -> Result<Self, Error> {
        let layers = hall.store.cache("layers")?;
        let draft = hall.store.draft()?;
        let session = Session::open(hall.host, &layers, draft.dir())?;
        let logs = hall.store.logs(draft.id())?;
        Ok(Self { draft, session, logs, pins: ready.pins.clone() })
    }

    /// Makes the base and runs the first `steps` steps. Returns what each left, the base first.
    fn run(&mut self, hall: &Hall<'_>, ready: &Ready, locking: &Locking, steps: usize) -> Result<Vec<Made>, Error> {
        (hall.sink)(Event::Started { image: ready.plan.image.clone(), steps: ready.plan.nodes.len(), logs: self.logs.clone() });
        let (session, draft) = (&self.session, &self.draft);
        let workshop = base::Workshop { source: &ready.source, session, scratch: draft.dir(), cancel: hall.cancel, sink: hall.sink };
        let site = Site {
            session,
            context: &ready.context,
            vars: &ready.recipe.vars,
            cancel: hall.cancel,
            sink: hall.sink,
            epoch: ready.epoch,
            workshop: &workshop,
            base: &ready.recipe.base,
            context_dir: &ready.context_dir,
            locking,
            pins: Mutex::new(std::mem::take(&mut self.pins)),
            facts: &ready.facts,
            plan: &ready.plan,
        };
        let how = compression(ready.recipe.image.compression);
        let mut lower: Vec<PathBuf> = vec![];
        let mut made: Vec<Made> = vec![];
        let logs = &self.logs;
        let result = thread::scope(|scope| {
            // While a step runs, the layer of the one before is packed; at most one is under way, as packing uses every core.
            let mut packing: Option<Packing<'_>> = None;
            let collect = |packing: &mut Option<Packing<'_>>, made: &mut Vec<Made>| {
                let Some((index, handle)) = packing.take() else { return Ok(()) };
                made[index].layer = handle
                    .join()
                    .map_err(|_| Error::Chore { what: "pack a layer".to_owned(), why: "the packer panicked".to_owned() })??;
                Ok::<(), Error>(())
            };
            for index in 0..=steps {
                if hall.cancel.fired() {
                    return Err(Error::Interrupted);
                }
                let node = index.checked_sub(1).map(|at| &ready.plan.nodes[at]);
                let label = node.map_or(&ready.plan.base, |node| &node.label).clone();
                let line = node.map_or(ready.plan.base_line, |node| node.line);
                (hall.sink)(Event::StepStarted { index, label: label.clone(), line });
                let start = Instant::now();
                let at = draft.dir().join(format!("step-{index}"));
                let mut log = StepLog::start(logs, index, &label, hall.sink)?;
                let ended = match node {
                    None => base_upper(&site, ready, &at, &mut log),
                    Some(node) => node::run(&site, index, node, &lower, &at, &mut log).map(|ran| ran.upper),
                };
                let log_path = log.path().to_owned();
                let tail = log.finish();
                let upper = ended.map_err(|trouble| failed(hall, ready, index, node, trouble, tail, log_path))?;
                let by = node.map_or_else(|| format!("base {}", ready.plan.base), |node| node.label.clone());
                made.push(Made { by, layer: None });
                let took = start.elapsed();
                collect(&mut packing, &mut made)?;
                let sink = Sink::clone(hall.sink);
                let done = move |blob: Option<&Blob>| {
                    let size = blob.map_or(0, |blob| blob.tar_size);
                    sink(Event::StepDone { index, took, layer: blob.map(|blob| blob.digest), size, cached: false });
                };
                if pack::untouched(&upper)? {
                    done(None);
                } else {
                    lower.insert(0, upper.clone());
                    let epoch = ready.epoch;
                    let handle = scope.spawn(move || {
                        let blob = pack::pack(session, draft, &upper, epoch, how, &label, hall.cancel)?;
                        done(blob.as_ref());
                        Ok(blob)
                    });
                    packing = Some((index, handle));
                }
            }
            if steps == ready.plan.nodes.len() {
                let at = draft.dir().join("identity");
                let upper = identity_upper(&site, ready, &lower, &at)?;
                collect(&mut packing, &mut made)?;
                let layer = pack::pack(session, draft, &upper, ready.epoch, how, "the identity", hall.cancel)?;
                made.push(Made { by: "identity".to_owned(), layer });
            }
            collect(&mut packing, &mut made)
        });
        self.pins = site.pins.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        result?;
        let layers = made.iter().filter(|one| one.layer.is_some()).count();
        if layers > 127 {
            let message = format!("the image has {layers} layers; Docker and containerd start at most 127");
            let hint = Some("join `run` steps that belong together".to_owned());
            (hall.sink)(Event::Warning { message, hint });
        }
        Ok(made)
    }

    /// Writes config and manifest, passes the gate, writes the lock file, publishes.
    fn finish(&mut self, hall: &Hall<'_>, ready: &Ready, locking: &Locking, made: &[Made]) -> Result<(Digest, bool), Error> {
        let Ready { recipe, plan, epoch, platform, .. } = ready;
        let how = compression(recipe.image.compression);
        let config = config::config(recipe, &plan.base, *epoch, platform, made).to_json();
        let config = self.draft.put(&config)?;
        let manifest = config::manifest(recipe, *epoch, config, made, how).to_json();
        let (digest, size) = self.draft.put(&manifest)?;
        let image = &recipe.image;
        let reference = Reference::new(&image.name, &image.version)
            .map_err(|error| Error::Chore { what: format!("name the image {}", plan.image), why: error.to_string() })?;
        // With the lock as it is now: what the next run of the same recipe will see.
        let key = facts::key_with(&ready.facts, &self.pins);
        let manifest = Descriptor::new(image::MEDIA_MANIFEST, digest, size)
            .with_platform(platform.clone())
            .with_annotation(KEY_ANNOTATION, key.to_string());
        let checked = gate::check(gate::Finished { draft: &self.draft, reference, manifest })?;
        if hall.cancel.fired() {
            return Err(Error::Interrupted);
        }
        locking.write(&self.pins)?;
        match checked.publish(hall.store) {
            Ok(Published::New) => Ok((digest, false)),
            Ok(Published::Already) => Ok((digest, true)),
            Err(Error::Store(store::Error::VersionTaken { have, .. })) => Err(taken(ready, &have, false)),
            Err(error) => Err(error),
        }
    }

    /// Removes the scratch folder. What cannot be removed now is swept by the next run.
    fn clear(&mut self, hall: &Hall<'_>) {
        sweep::clear(hall, &self.draft, &self.session);
    }
}

fn compression(how: recipe::Compression) -> Compression {
    match how {
        recipe::Compression::Gzip => Compression::Gzip,
        recipe::Compression::Zstd => Compression::Zstd,
        recipe::Compression::None => Compression::None,
    }
}

/// Makes the base in a fresh upper folder.
fn base_upper(site: &Site<'_>, ready: &Ready, at: &Path, log: &mut StepLog) -> Result<PathBuf, Trouble> {
    let upper = pack::make_dir(&at.join("u"))?;
    let work = pack::fresh_work(at)?;
    let mut hear = |line: base::Line<'_>| log.line(line.stderr, line.text);
    base::build(&ready.base, ready.epoch, &ready.context_dir, &upper, &work, site.workshop, &mut hear).map_err(|error| match error {
        base::Error::Cancelled => Trouble::Build(Error::Interrupted),
        base::Error::Sandbox(error) => Trouble::Build(Error::Sandbox(error)),
        error => Trouble::Base(error),
    })?;
    Ok(upper)
}

/// Writes the identity files over the last step.
fn identity_upper(site: &Site<'_>, ready: &Ready, lower: &[PathBuf], at: &Path) -> Result<PathBuf, Error> {
    let upper = pack::make_dir(&at.join("u"))?;
    let identity = image::Identity {
        v: 1,
        name: ready.recipe.image.name.clone(),
        version: ready.recipe.image.version.clone(),
        base: ready.plan.base.clone(),
        created: image::rfc3339(ready.epoch),
    };
    let args = json!({ "identity": identity, "epoch": ready.epoch });
    let overlay = Overlay { lower: lower.to_vec(), upper: upper.clone(), work: pack::fresh_work(at)? };
    let job = Job { root: Some(overlay), ..pack::chore(Action::Call(Call { name: "build.identity", args, fds: vec![] })) };
    pack::value_of(site.session.run(job, site.cancel, &mut |_| {})?, "write the identity of the image")?;
    Ok(upper)
}

/// Makes the downloader of one build, with its cache in the store.
fn source(hall: &Hall<'_>, request: &Request) -> Result<debian::Source, Error> {
    let options = debian::Options { mirror: request.mirror.clone(), ..debian::Options::default() };
    let cancel = hall.cancel.clone();
    let stop = Arc::new(move || cancel.fired());
    let cache = hall.store.cache("packages")?;
    debian::Source::new(&cache, options, Sink::clone(hall.sink), stop)
        .map_err(|error| Error::Chore { what: format!("use the package cache {}", cache.display()), why: error::chain(&error).join(": ") })
}

/// Decides what exactly the base is: as the lock file says, else as the world says now.
fn pin(
    hall: &Hall<'_>,
    source: &debian::Source,
    request: &Request,
    recipe: &Recipe,
    locking: &Locking,
    context: &Path,
    platform: &Platform,
) -> Result<base::Pinned, Error> {
    let locked = match locking.base() {
        Some(locked) => pinned::from_lock(locked, &recipe.base.kind)
            .map_err(|why| Error::Lock { path: locking.path().to_owned(), source: plan::lock::Error::Syntax(why) })?,
        None => None,
    };
    let locked = locked.filter(|pin| pin.fits(&recipe.base, &platform.architecture));
    if locking.locked() && locked.is_none() && matches!(recipe.base.kind, BaseKind::Debian(_)) {
        return Err(locking.missing("the base".to_owned()));
    }
    base::pin(&recipe.base, &platform.architecture, context, locked.as_ref(), source).map_err(|source| match source {
        base::Error::Cancelled => Error::Interrupted,
        _ if hall.cancel.fired() => Error::Interrupted,
        source => {
            let base = plan::draw(recipe).base;
            Error::Base { base, recipe: request.recipe.clone(), line: recipe.base.line, source, tail: vec![], log: None }
        }
    })
}

/// Turns a step's trouble into the error that ends the build.
fn failed(
    hall: &Hall<'_>,
    ready: &Ready,
    index: usize,
    node: Option<&Lowered>,
    trouble: Trouble,
    tail: Vec<String>,
    log: PathBuf,
) -> Error {
    let why = match trouble {
        Trouble::Build(error) => return error,
        Trouble::Step(_) | Trouble::Base(_) if hall.cancel.fired() => return Error::Interrupted,
        Trouble::Base(source) => {
            let (recipe, base, line) = (ready.recipe_path.clone(), ready.plan.base.clone(), ready.plan.base_line);
            return Error::Base { base, recipe, line, source, tail, log: Some(log) };
        }
        Trouble::Step(why) => why,
    };
    let (label, line) = node.map_or((ready.plan.base.clone(), ready.plan.base_line), |node| (node.label.clone(), node.line));
    let place = format!("step {index} of {}", ready.plan.nodes.len());
    Error::Step { place, label, recipe: ready.recipe_path.clone(), line, why, tail, log: Some(log) }
}
