//! The roots of several recipes in one run: prepared, and run side by side, each on a thread of its
//! own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use super::each::{all, each};
use super::error::{Error, Failed};
use super::locking::Locking;
use super::names::known_steps;
use super::order::{self, Bases, Ordered};
use super::pool::Pool;
use super::prepare::prepare;
use super::published::{published_already, tested};
use super::request::Request;
use super::roots::{Below, Roots};
use super::run::Run;
use super::stored;
use super::work::{Others, Work};
use crate::delivery;
use crate::event::{self, Event, Sink};
use crate::executor::{Build, Guard, Pins, Root, lacking, used};
use crate::job::{self, JobContext};
use crate::plan::artifact::Built;
use crate::plan::lock::LockedToolbox;
use crate::store::Version;
use crate::trial::{Machines, NoMachines, Rescue};

/// A recipe that is ready to be run.
pub(super) struct Prepared {
    pub(super) request: Request,
    /// Its image is published; else it is only what others stand on.
    pub(super) wanted: bool,
    pub(super) locking: Locking,
    pub(super) roots: Roots,
    /// The recipes that it stands on.
    bases: Bases,
    /// Published from the same key already.
    pub(super) already: Option<Version>,
    /// What is made of the image outside of the store.
    pub(super) outputs: Vec<delivery::Planned>,
    /// The programs of some of these, for the lock file.
    pub(super) toolbox: Option<LockedToolbox>,
    sink: Sink,
    /// One for each root.
    sinks: Vec<Sink>,
    pub(super) took: Duration,
}

impl Prepared {
    /// Returns that this recipe failed.
    pub(super) fn failed(&self, error: Error) -> Failed {
        self.request.failed(error)
    }
}

/// A root in flight.
struct Running<'a> {
    /// Which recipe it is of.
    recipe: usize,
    /// It becomes the image.
    main: bool,
    work: Work<'a>,
}

/// A root that has run: what it gave, and how long that took.
pub(super) struct Ran<'a> {
    /// Which recipe it is of.
    pub(super) recipe: usize,
    /// It becomes the image.
    pub(super) main: bool,
    pub(super) work: Work<'a>,
    pub(super) built: Built,
    pub(super) took: Duration,
}

/// Reads, pins and plans the recipes, and those that they stand on, each behind what it stands on.
pub(super) fn prepared(
    job: &JobContext<'_>,
    requests: &[Request],
    jobs: usize,
    stop: &AtomicBool,
) -> Result<Vec<Prepared>, Failed> {
    let ordered = order::order(requests)?;
    let alone = ordered.len() == 1;
    let one = |ordered: &Ordered, below: &Below<'_>| {
        let start = Instant::now();
        let request = &ordered.request;
        let locking = Locking::open(request)?;
        let roots = prepare(job, request, &locking, below)?;
        let already = published_already(job, request, &roots, ordered.wanted)?;
        let sink =
            if alone { Sink::clone(job.sink) } else { event::of_image(job.sink, &roots.called()) };
        let of = |root: &Root| match &root.stage {
            Some(stage) => event::of_stage(&sink, stage),
            None => Sink::clone(&sink),
        };
        let sinks = roots.0.iter().map(of).collect();
        let (request, wanted, bases) = (request.clone(), ordered.wanted, ordered.bases.clone());
        let outputs = match wanted {
            true => delivery::plan(&roots.main().recipe, &request.recipe),
            false => vec![],
        };
        let took = start.elapsed();
        Ok(Prepared {
            toolbox: locking.lock().and_then(|lock| lock.toolbox.clone()),
            request,
            wanted,
            locking,
            roots,
            bases,
            already,
            outputs,
            sink,
            sinks,
            took,
        })
    };
    let failed = |at: usize, error| ordered[at].request.failed(error);
    // Those that stand on nothing of this run need not wait for each other.
    let free = ordered.iter().take_while(|one| one.bases.is_empty()).count();
    let mut out =
        all(each(jobs, &ordered[..free], stop, |ordered| one(ordered, &Below::new())), failed)?;
    for (at, ordered) in ordered.iter().enumerate().skip(free) {
        let below = ordered.bases.iter().map(|(path, at)| (path.as_path(), &out[*at].roots));
        let next = one(ordered, &below.collect()).map_err(|error| failed(at, error))?;
        out.push(next);
    }
    known_steps(out.iter().map(|one| (&one.request, &one.roots)))?;
    each_image_once(&out)?;
    settle(&mut out);
    Ok(out)
}

/// Makes sure that no two recipes make the same version.
fn each_image_once(prepared: &[Prepared]) -> Result<(), Failed> {
    let mut seen: BTreeMap<&str, &Path> = BTreeMap::new();
    for one in prepared.iter().filter(|one| one.wanted) {
        let image = one.roots.main().plan.image.as_str();
        if let Some(first) = seen.insert(image, &one.request.recipe)
            && first != one.request.recipe
        {
            let (image, first) = (image.to_owned(), first.to_owned());
            let second = one.request.recipe.clone();
            return Err(one.failed(Error::SameImage { image, first, second }));
        }
    }
    Ok(())
}

/// Whether two are images of one version.
fn together(one: &Prepared, other: &Prepared) -> bool {
    let image = |one: &Prepared| one.roots.main().plan.image.clone();
    one.wanted && other.wanted && image(one) == image(other)
}

/// Settles what concerns all images of a version: it is published already where all of them are,
/// and what holds all of them is made once.
fn settle(prepared: &mut [Prepared]) {
    for at in 0..prepared.len() {
        let all: Vec<usize> =
            (at..prepared.len()).filter(|n| together(&prepared[at], &prepared[*n])).collect();
        if all.iter().any(|n| prepared[*n].already.is_none()) {
            all.iter().for_each(|n| prepared[*n].already = None);
        }
        let made: Vec<_> = prepared[at].outputs.iter().map(|one| one.path.clone()).collect();
        for n in all.iter().skip(1) {
            let outputs = &mut prepared[*n].outputs;
            outputs.retain(|one| !one.format.holds_all() || !made.contains(&one.path));
        }
    }
}

/// Prepares one recipe and what it stands on; returns its roots.
pub(super) fn prepare_one(
    job: &JobContext<'_>,
    request: &Request,
    locking: &Locking,
) -> Result<Roots, Error> {
    let ordered = order::order(std::slice::from_ref(request)).map_err(|failed| *failed.error)?;
    let mut prepared: Vec<Roots> = vec![];
    for one in &ordered {
        let below = one.bases.iter().map(|(path, at)| (path.as_path(), &prepared[*at])).collect();
        // With what was read to find the order: nothing is read again.
        let roots = if one.wanted {
            prepare(job, &one.request, locking, &below)?
        } else {
            let locking = Locking::open(&one.request)?;
            prepare(job, &one.request, &locking, &below)?
        };
        prepared.push(roots);
    }
    prepared.pop().ok_or(Error::OtherFailed)
}

/// Runs a part of one recipe, its first `steps` steps and what they need, and discards it once
/// `then` has seen it.
pub(super) fn part<T>(
    job: &JobContext<'_>,
    request: &Request,
    steps: impl Fn(&Prepared) -> usize + Sync,
    then: impl FnOnce(&[Prepared], &[Ran<'_>]) -> Result<T, Error>,
) -> Result<T, Error> {
    let stop = AtomicBool::new(false);
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let error = |failed: Failed| *failed.error;
    let requests = std::slice::from_ref(request);
    let mut prepared = prepared(job, requests, jobs, &stop).map_err(error)?;
    for one in &mut prepared {
        one.already = None;
    }
    secrets_are_given(job, &prepared, &steps).map_err(error)?;
    let pool = Pool::new(prepared.iter().map(|one| one.roots.0.len()).sum(), jobs);
    let ran = run(job, &prepared, &pool, &stop, &NoMachines, steps).map_err(error)?;
    let out = then(&prepared, &ran);
    ran.iter().for_each(|one| one.work.build.clear());
    out
}

/// Runs the first `steps` steps of one recipe, and lets `look` see the root that is there then: its
/// layers, topmost first.
pub(super) fn with_root<T>(
    job: &JobContext<'_>,
    request: &Request,
    steps: usize,
    look: impl FnOnce(&Build<'_>, &[PathBuf]) -> Result<T, Error>,
) -> Result<T, Error> {
    part(
        job,
        request,
        |_| steps,
        |_, ran| {
            let work = &ran.last().ok_or(Error::OtherFailed)?.work;
            work.started(steps);
            thread::scope(|scope| {
                // All of it comes from the cache by now.
                let mut run = Run::new(work, scope);
                run.nodes(steps, false)?;
                look(&work.build, &run.stack.lower(&work.build, None)?)
            })
        },
    )
}

/// Runs the roots of all recipes that are not published already; returns them in order. `steps`:
/// how many of the image's steps of a recipe; all of them: with its identity.
pub(super) fn run<'a>(
    job: &'a JobContext<'a>,
    prepared: &'a [Prepared],
    pool: &'a Pool,
    stop: &'a AtomicBool,
    machines: &dyn Machines,
    steps: impl Fn(&Prepared) -> usize + Sync,
) -> Result<Vec<Ran<'a>>, Failed> {
    let running = start(job, prepared, pool, stop, machines)?;
    let ran = each(running.len().max(1), &running, stop, |one| {
        let (start, work) = (Instant::now(), &one.work);
        let nodes = work.build.root.plan.nodes.len();
        let steps = if one.main { steps(&prepared[one.recipe]) } else { nodes };
        work.started(nodes);
        let built = thread::scope(|scope| {
            let mut run = Run::new(work, scope);
            run.nodes(steps, one.main && steps == nodes).map(|()| run.built())
        });
        work.give(built.as_ref().ok());
        built.map(|built| (built, start.elapsed()))
    });
    let recipes: Vec<usize> = running.iter().map(|one| one.recipe).collect();
    match all(ran, |at, error| prepared[recipes[at]].failed(error)) {
        Ok(ran) => {
            let both = |(one, (built, took)): (Running<'a>, (Built, Duration))| {
                let Running { recipe, main, work } = one;
                Ran { recipe, main, work, built, took }
            };
            Ok(running.into_iter().zip(ran).map(both).collect())
        }
        Err(failed) => {
            // Those that went well are cleared whatever happens to the others.
            running.iter().for_each(|one| one.work.build.clear());
            say_what_stands_on(prepared, &failed);
            Err(failed)
        }
    }
}

/// Begins to build the roots; what others stand on and is published already is handed to the pool.
fn start<'a>(
    job: &'a JobContext<'a>,
    prepared: &'a [Prepared],
    pool: &'a Pool,
    stop: &'a AtomicBool,
    machines: &dyn Machines,
) -> Result<Vec<Running<'a>>, Failed> {
    let mut running = vec![];
    // Numbers of the roots that become images, by recipe.
    let mut mains = vec![];
    let mut number = 0;
    for (at, one) in prepared.iter().enumerate() {
        let fail = |error| one.failed(error);
        let recipes = one.bases.iter().map(|(path, at)| (path.clone(), mains[*at])).collect();
        let mut others = Others { recipes, ..Others::default() };
        if let Some(version) = &one.already {
            if one.wanted {
                let job = JobContext { sink: &one.sink, ..*job };
                tested(&job, &one.request, one.roots.main(), version, machines).map_err(fail)?;
            }
            number += one.roots.0.len();
            mains.push(number - 1);
            if needed(prepared, at) {
                let image = stored::artifact(job.store, version, &one.roots.main().platform)
                    .map_err(fail)?;
                pool.set(number - 1, Some(image));
            }
            continue;
        }
        if !one.wanted && !needed(prepared, at) {
            // What stands on it is published already.
            number += one.roots.0.len();
            mains.push(number - 1);
            continue;
        }
        let guard = Guard::of(&one.request.secrets, &one.roots.0);
        let guard = guard.map_err(|error| fail(error.into()))?;
        for (root, sink) in one.roots.0.iter().zip(&one.sinks) {
            root.can_run(one.request.no_test)
                .map_err(|error| fail(job::Error::from(error).into()))?;
            let (request, locking) = (&one.request, &one.locking);
            let pins =
                Pins::new(locking.path(), locking.locked(), locking.lock(), root.pins.clone());
            let rescue = Rescue::new(request.shell_on_failure);
            let guard = guard.clone();
            let build = Build::start(JobContext { sink, ..*job }, root, pins, rescue, guard);
            let mut build = build.map_err(|error| fail(error.into()))?;
            build.forget_caches = request.paranoid;
            build.agent = request.secrets.agent().map(Path::to_owned);
            let work = Work { build, request, stop, pool, number, others: others.clone() };
            running.push(Running { recipe: at, main: root.stage.is_none(), work });
            match &root.stage {
                Some(stage) => drop(others.stages.insert(stage.clone(), number)),
                None => mains.push(number),
            }
            number += 1;
        }
    }
    Ok(running)
}

/// Whether a recipe that is to be built stands on recipe `at`, by way of others or not.
fn needed(prepared: &[Prepared], at: usize) -> bool {
    let stands = |other: &Prepared| other.bases.values().any(|base| *base == at);
    let mut above = prepared.iter().enumerate().filter(|(_, other)| stands(other));
    above.any(|(at, other)| other.already.is_none() && (other.wanted || needed(prepared, at)))
}

/// Makes sure that every secret is given that the steps use which may run: of an image's recipe the
/// first `steps`. Warns of those that nothing uses.
pub(super) fn secrets_are_given(
    job: &JobContext<'_>,
    prepared: &[Prepared],
    steps: impl Fn(&Prepared) -> usize,
) -> Result<(), Failed> {
    let runs =
        |at: usize, one: &Prepared| one.already.is_none() && (one.wanted || needed(prepared, at));
    for (_, one) in prepared.iter().enumerate().filter(|(at, one)| runs(*at, one)) {
        for root in &one.roots.0 {
            let all = root.plan.nodes.len();
            let steps = if root.stage.is_none() { steps(one) } else { all };
            if let Some((index, failure)) = lacking(root, steps, &one.request.secrets) {
                return Err(one.failed(Error::of(root, index, failure)));
            }
        }
    }
    let mut given: Vec<&str> =
        prepared.iter().flat_map(|one| one.request.secrets.iter()).map(|(name, _)| name).collect();
    given.sort_unstable();
    given.dedup();
    let roots = || prepared.iter().flat_map(|one| &one.roots.0);
    given.retain(|name| !roots().flat_map(used).any(|(_, used)| used == *name));
    for name in given {
        let message = format!("no step uses the secret `{name}`, which is given");
        (job.sink)(Event::Warning { message, hint: None });
    }
    Ok(())
}

/// Names the recipes that stand on one that failed.
fn say_what_stands_on(prepared: &[Prepared], failed: &Failed) {
    for one in prepared {
        let mut bases = one.bases.values().map(|at| &prepared[*at].request.recipe);
        if bases.any(|base| *base == failed.recipe) {
            let (above, below) = (one.request.recipe.display(), failed.recipe.display());
            let message = format!("{above} stands on {below}, which failed");
            (one.sink)(Event::Note { message });
        }
    }
}
