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
mod request;
mod roots;
mod run;
mod schedule;
mod settle;
mod several;
mod shell;
mod stored;
mod tools;
mod work;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use crate::boot::{Gate, Qemu, Ready};
use crate::delivery;
use crate::event::{Event, chain};
use crate::executor::Root;
use crate::job::{self, JobContext, dead_builds};
use crate::output::{Format, Tools};
use crate::plan::lock::Lock;
use crate::store::Version;
use crate::toolbox::{FILE_SYSTEMS, HostTools, MACHINES, Suite, Toolbox};

pub use collect::collect;
pub use error::Failed;
pub use order::{Bases, Ordered, order};
pub use published::KEY_ANNOTATION;
pub use request::{Baked, LockMode, NetworkOptions, NoCache, Request, ToolsFrom};
pub use shell::shell;

// What `explain` looks at, as a build does.
pub(crate) use locking::Locking;
pub(crate) use names::{known_steps, no_cache};
pub(crate) use prepare::prepare;
pub(crate) use published::published_already;
pub(crate) use roots::Roots;
pub(crate) use stored::artifact;
pub(crate) use tools::find as find_toolbox;

use error::Error;
use pool::Pool;
use schedule::Prepared;

/// Bakes recipes, at most `jobs` nodes at once, and publishes their images together; on any error
/// nothing is published.
///
/// # Errors
/// The recipe that failed, and why.
pub fn bake(job: &JobContext<'_>, requests: &[Request], jobs: usize) -> Result<Vec<Baked>, Failed> {
    let Some(first) = requests.first() else { return Ok(vec![]) };
    dead_builds(job).map_err(|error| first.failed(error.into()))?;
    let stop = AtomicBool::new(false);
    let mut prepared = schedule::prepared(job, requests, jobs, &stop)?;
    schedule::secrets_are_given(job, &prepared, |one| one.roots.main().plan.nodes.len())?;
    outputs_have_places(job, &prepared)?;
    let tools = tools_for_outputs(job, &mut prepared)?;
    let gate = gate_for_tests(job, &prepared, first)?;
    let pool = Pool::new(prepared.iter().map(|one| one.roots.0.len()).sum(), jobs);
    let all = |one: &Prepared| one.roots.main().plan.nodes.len();
    let ran = schedule::run(job, &prepared, &pool, &stop, &gate, all)?;
    let published = publish::publish(job, &prepared, &ran, tools.as_deref(), gate);
    ran.iter().for_each(|one| one.work.build.clear());
    let published = published?;
    let wanted = prepared.iter().enumerate().filter(|(_, one)| one.wanted);
    let baked = wanted.zip(published).map(|((at, one), (digest, already, outputs))| {
        let Root { plan, recipe, .. } = one.roots.main();
        let (image, name) = (plan.image.clone(), recipe.image.name.clone());
        let version = recipe.image.version.clone();
        let ran = ran.iter().find(|ran| ran.main && ran.recipe == at);
        let took = one.took + ran.map_or(Duration::ZERO, |ran| ran.took);
        Baked { image, name, version, digest, already, took, outputs }
    });
    let baked = several::merged(baked);
    for Baked { image, digest, already, .. } in &baked {
        let (image, digest, already) = (image.clone(), *digest, *already);
        (job.sink)(Event::Published { image, digest, already });
    }
    Ok(baked)
}

/// Makes sure that every output of the run has a place of its own.
fn outputs_have_places(job: &JobContext<'_>, prepared: &[Prepared]) -> Result<(), Failed> {
    let all = prepared.iter().map(|one| (one.request.recipe.as_path(), &one.outputs[..]));
    let fail = |error| publish::failed_of_all(prepared, error);
    let found = delivery::check(job.store, &all.collect::<Vec<_>>()).map_err(|e| fail(e.into()))?;
    if found.is_empty() { Ok(()) } else { Err(fail(Error::Recipe(found))) }
}

/// Returns who boots the machines of tests, with the tools and the network of a request.
#[must_use]
pub fn gate<'a>(job: &JobContext<'a>, request: &'a Request) -> Gate<'a> {
    let (job, Request { tools: from, network, .. }) = (*job, request);
    Gate::new(job, move || {
        let tools = tools(&job, *from, network, &[Format::Disk]).map_err(|error| chain(&error))?;
        Ok(Ready { qemu: qemu(&job, request)?, tools })
    })
}

/// Returns QEMU and its firmware: those of the toolbox image, which is baked where the store has
/// none, or the host's.
///
/// # Errors
/// Why there are none, from the outside in.
pub fn qemu<'a>(job: &JobContext<'a>, request: &Request) -> Result<Qemu<'a>, Vec<String>> {
    if request.tools == ToolsFrom::Host {
        return Qemu::host();
    }
    let image = toolbox(job, &request.network, &MACHINES).map_err(|error| chain(&error))?;
    Ok(Qemu::Toolbox(Box::new(Toolbox::new(*job, image))))
}

/// Returns who boots the machines of the tests of a run. What that takes is there before anything
/// runs, where a test needs it.
fn gate_for_tests<'a>(
    job: &JobContext<'a>,
    prepared: &[Prepared],
    request: &'a Request,
) -> Result<Gate<'a>, Failed> {
    let gate = gate(job, request);
    let asked = |one: &&Prepared| !one.request.no_test && one.already.is_none();
    let boots = |one: &&Prepared| one.roots.main().tests.boots();
    if let Some(one) = prepared.iter().filter(asked).find(boots) {
        gate.ready().map_err(|error| one.failed(error.into()))?;
    }
    Ok(gate)
}

/// Returns the programs that the outputs of a run need; none where they need none. Those of the
/// toolbox are pinned for the lock files.
fn tools_for_outputs<'a>(
    job: &JobContext<'a>,
    prepared: &mut [Prepared],
) -> Result<Option<Box<dyn Tools + 'a>>, Failed> {
    let formats: Vec<Format> =
        prepared.iter().flat_map(|one| &one.outputs).map(|output| output.format).collect();
    let program = |output: &delivery::Planned| output.format.program().is_some();
    let needs = |one: &&Prepared| one.outputs.iter().any(program);
    let Some(first) = prepared.iter().find(needs) else { return Ok(None) };
    let Request { tools: from, network, .. } = &first.request;
    if *from == ToolsFrom::Host {
        return tools(job, *from, network, &formats).map(Some).map_err(|e| first.failed(e));
    }
    let version = toolbox(job, network, &FILE_SYSTEMS).map_err(|error| first.failed(error))?;
    for one in prepared.iter_mut().filter(|one| one.wanted && one.roots.pins_toolbox()) {
        tools::pin(one, &version).map_err(|error| one.failed(error))?;
    }
    Ok(Some(Box::new(Toolbox::new(*job, version))))
}

/// Returns the programs that make file systems of these formats: those of the toolbox image, which
/// is baked where the store has none, or the host's.
///
/// # Errors
/// As [`bake`], of the toolbox; where the host lacks a program, or has an old one.
pub fn tools<'a>(
    job: &JobContext<'a>,
    from: ToolsFrom,
    network: &NetworkOptions,
    formats: &[Format],
) -> Result<Box<dyn Tools + 'a>, Error> {
    if from == ToolsFrom::Host {
        let programs: BTreeSet<&str> = formats.iter().filter_map(|one| one.program()).collect();
        let found = HostTools::find(&programs.into_iter().collect::<Vec<_>>());
        let tools = found.map_err(|source| Error::Output(delivery::Error::Tools { source }))?;
        return Ok(Box::new(tools));
    }
    Ok(Box::new(Toolbox::new(*job, toolbox(job, network, &FILE_SYSTEMS)?)))
}

/// Returns an image with programs; bakes it where the store has none.
fn toolbox(
    job: &JobContext<'_>,
    network: &NetworkOptions,
    suite: &Suite,
) -> Result<Version, Error> {
    if let Some(version) = tools::find(job, suite)? {
        return Ok(version);
    }
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let baked = bake(job, &[tools::request(job, network, suite)?], jobs);
    baked.map_err(|failed| *failed.error)?;
    tools::find(job, suite)?.ok_or_else(|| {
        let what = format!("use {}", suite.image);
        job::Error::Failed { what, why: "it was removed just now".to_owned() }.into()
    })
}

/// Runs a recipe as far as needed to know everything the lock file pins, writes it, and throws the
/// rest away. Returns the lock file's path and whether it changed.
///
/// # Errors
/// As [`bake`].
pub fn lock(job: &JobContext<'_>, request: &Request) -> Result<(PathBuf, bool), Error> {
    dead_builds(job)?;
    let locking = Locking::open(request)?;
    let roots = schedule::prepare_one(job, request, &locking)?;
    let mut pins = if roots.known() {
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
    if roots.pins_toolbox() {
        let pinned = locking.lock().and_then(|lock| lock.toolbox.clone());
        let toolbox =
            || toolbox(job, &request.network, &FILE_SYSTEMS).map(|version| tools::locked(&version));
        pins.toolbox = Some(pinned.map_or_else(toolbox, Ok)?);
    }
    let wrote = locking.write(&pins)?.is_some();
    Ok((locking.path().to_owned(), wrote))
}
