//! Several recipes in one run: prepared and run side by side, published together or not at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::error::{Error, Failed};
use super::finish::{published_already, taken, tested};
use super::locking::Locking;
use super::order::{self, Ordered};
use super::pool::Pool;
use super::prepare::prepare;
use super::request::{Baked, Request};
use super::roots::{Ready, Roots};
use super::site::Site;
use super::stored;
use super::work::{Others, Work};
use crate::digest::Digest;
use crate::event::{self, Event, Sink};
use crate::files;
use crate::job::JobContext;
use crate::plan::artifact::Built;
use crate::plan::lock::Lock;
use crate::store::{self, Published, Version};
use crate::threads;
use crate::trial::{self, Checked};

/// A recipe that is ready to be run.
struct Prepared {
    request: Request,
    /// Its image is published; else it is only what others stand on.
    wanted: bool,
    locking: Locking,
    roots: Roots,
    /// The recipe that is its base.
    base: Option<usize>,
    /// Published from the same key already.
    already: Option<Version>,
    sink: Sink,
    /// One for each root.
    sinks: Vec<Sink>,
    took: Duration,
}

/// A root of a recipe in flight.
struct Running<'a> {
    /// Which recipe it is of, and which of its roots.
    recipe: usize,
    main: bool,
    work: Work<'a>,
}

/// A root that has run: what it gave, and how long that took.
type Ran<'a> = (Running<'a>, Built, Duration);

/// Bakes all of `requests`, at most `jobs` nodes at once.
pub(super) fn bake(
    hall: &JobContext<'_>,
    requests: &[Request],
    jobs: usize,
) -> Result<Vec<Baked>, Failed> {
    let stop = AtomicBool::new(false);
    let prepared = prepared(hall, requests, jobs, &stop)?;
    let pool = Pool::new(prepared.iter().map(|one| one.roots.0.len()).sum(), jobs);
    let mut ran = run(hall, &prepared, &pool, &stop, |one| one.roots.main().plan.nodes.len())?;
    let published = publish(hall, &prepared, &ran);
    for (running, ..) in &ran {
        running.work.clear();
    }
    let published = published?;
    let mut out = vec![];
    ran.retain(|(running, ..)| running.main);
    let wanted = prepared.iter().enumerate().filter(|(_, one)| one.wanted);
    for ((at, one), (digest, already)) in wanted.zip(published) {
        let ready = one.roots.main();
        let image = ready.plan.image.clone();
        let ran = ran.iter().find(|(running, ..)| running.recipe == at);
        let took = one.took + ran.map_or(Duration::ZERO, |(_, _, took)| *took);
        (hall.sink)(Event::Published { image: image.clone(), digest, already });
        let (name, version) = (ready.recipe.image.name.clone(), ready.recipe.image.version.clone());
        out.push(Baked { image, name, version, digest, already, took });
    }
    Ok(out)
}

/// Reads, pins and plans the recipes, and those that they stand on, each behind what it stands on.
fn prepared(
    hall: &JobContext<'_>,
    requests: &[Request],
    jobs: usize,
    stop: &AtomicBool,
) -> Result<Vec<Prepared>, Failed> {
    let ordered = order::order(requests)?;
    let alone = ordered.len() == 1;
    let one = |ordered: &Ordered, below: Option<&Roots>| {
        let start = Instant::now();
        let request = &ordered.request;
        let locking = Locking::open(&request.recipe, request.lock)?;
        let roots = prepare(hall, request, &locking, below)?;
        let already = published_already(hall, request, &roots, ordered.wanted)?;
        let sink = if alone {
            Sink::clone(hall.sink)
        } else {
            event::of_image(hall.sink, &roots.main().plan.image)
        };
        let of = |root: &Ready| match &root.stage {
            Some(stage) => event::of_stage(&sink, stage),
            None => Sink::clone(&sink),
        };
        let sinks = roots.0.iter().map(of).collect();
        let (request, wanted, base) = (request.clone(), ordered.wanted, ordered.base);
        Ok(Prepared {
            request,
            wanted,
            locking,
            roots,
            base,
            already,
            sink,
            sinks,
            took: start.elapsed(),
        })
    };
    let recipe = |at: usize| ordered[at].request.recipe.clone();
    // Those that stand on nothing of this run need not wait for each other.
    let free = ordered.iter().take_while(|one| one.base.is_none()).count();
    let mut out = all(each(jobs, &ordered[..free], stop, |ordered| one(ordered, None)), recipe)?;
    for (at, ordered) in ordered.iter().enumerate().skip(free) {
        let below = ordered.base.map(|base| &out[base].roots);
        let next = one(ordered, below).map_err(|error| Failed { recipe: recipe(at), error })?;
        out.push(next);
    }
    let mut seen: BTreeMap<&str, &Path> = BTreeMap::new();
    for one in out.iter().filter(|one| one.wanted) {
        let image = one.roots.main().plan.image.as_str();
        if let Some(first) = seen.insert(image, &one.request.recipe) {
            let (image, first) = (image.to_owned(), first.to_owned());
            let recipe = one.request.recipe.clone();
            return Err(Failed {
                error: Error::SameImage { image, first, second: recipe.clone() },
                recipe,
            });
        }
    }
    Ok(out)
}

/// Prepares one recipe and nothing that it stands on.
pub(super) fn prepare_one(
    hall: &JobContext<'_>,
    request: &Request,
    locking: &Locking,
) -> Result<Roots, Error> {
    let requests = [request.clone()];
    let ordered = order::order(&requests).map_err(|failed| failed.error)?;
    let mut prepared: Vec<Roots> = vec![];
    for one in &ordered {
        let below = one.base.map(|base| &prepared[base]);
        // With what was read to find the order: nothing is read again.
        let roots = if one.wanted {
            prepare(hall, &one.request, locking, below)?
        } else {
            let locking = Locking::open(&one.request.recipe, one.request.lock)?;
            prepare(hall, &one.request, &locking, below)?
        };
        prepared.push(roots);
    }
    prepared.pop().ok_or(Error::OtherFailed)
}

/// Runs one recipe as far as needed to know everything that its lock file pins, and returns that.
pub(super) fn lock(hall: &JobContext<'_>, request: &Request) -> Result<Lock, Error> {
    let steps = |one: &Prepared| {
        let plan = &one.roots.main().plan;
        plan.steps_to_lock().min(plan.nodes.len())
    };
    part(hall, request, steps, |prepared, ran| Ok(pins(prepared.len() - 1, prepared, ran)))
}

/// Runs the first `steps` steps of a recipe, and what they need, and lets `look` see the root that
/// is there then: its layers, topmost first.
pub(super) fn with_root<T>(
    hall: &JobContext<'_>,
    request: &Request,
    steps: usize,
    look: impl FnOnce(&Site<'_>, &[PathBuf]) -> Result<T, Error>,
) -> Result<T, Error> {
    part(
        hall,
        request,
        |_| steps,
        |_, ran| {
            let (running, ..) = ran.last().ok_or(Error::OtherFailed)?;
            // All of it comes from the cache by now.
            running.work.root(steps, look)
        },
    )
}

/// Runs a part of one recipe, and discards it once `then` has seen it.
fn part<T>(
    hall: &JobContext<'_>,
    request: &Request,
    steps: impl Fn(&Prepared) -> usize + Sync,
    then: impl FnOnce(&[Prepared], &[Ran<'_>]) -> Result<T, Error>,
) -> Result<T, Error> {
    let stop = AtomicBool::new(false);
    let requests = [request.clone()];
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let error = |failed: Failed| failed.error;
    let mut prepared = prepared(hall, &requests, jobs, &stop).map_err(error)?;
    for one in &mut prepared {
        one.already = None;
    }
    let pool = Pool::new(prepared.iter().map(|one| one.roots.0.len()).sum(), jobs);
    let ran = run(hall, &prepared, &pool, &stop, steps).map_err(error)?;
    let out = then(&prepared, &ran);
    for (running, ..) in &ran {
        running.work.clear();
    }
    out
}

/// Runs the roots of all recipes that are not published already, each on a thread of its own;
/// returns them in order. `steps`: how many of the image's steps of a recipe; all of them: with its
/// identity.
fn run<'a>(
    hall: &'a JobContext<'a>,
    prepared: &'a [Prepared],
    pool: &'a Pool,
    stop: &'a AtomicBool,
    steps: impl Fn(&Prepared) -> usize + Sync,
) -> Result<Vec<Ran<'a>>, Failed> {
    let fail = |at: usize| {
        let recipe = prepared[at].request.recipe.clone();
        move |error| Failed { recipe, error }
    };
    let mut works: Vec<Running<'a>> = vec![];
    let mut mains = vec![];
    let mut number = 0;
    for (at, one) in prepared.iter().enumerate() {
        let mut others = Others { base: one.base.map(|base| mains[base]), ..Others::default() };
        for (root, ready) in one.roots.0.iter().enumerate() {
            if let Some(version) = &one.already {
                let tests = JobContext { sink: &one.sink, ..*hall };
                if ready.stage.is_none() {
                    if one.wanted {
                        tested(&tests, &one.request, ready, version).map_err(fail(at))?;
                    }
                    if prepared.iter().any(|other| other.base == Some(at)) {
                        let image = stored::artifact(hall.store, version).map_err(fail(at))?;
                        pool.set(number, Some(image));
                    }
                }
            } else {
                let (sink, locking) = (&one.sinks[root], &one.locking);
                let place = (pool, number, others.clone());
                let work = Work::start(hall, sink, ready, locking, &one.request, stop, place);
                let work = work.map_err(fail(at))?;
                works.push(Running { recipe: at, main: ready.stage.is_none(), work });
            }
            match &ready.stage {
                Some(stage) => drop(others.stages.insert(stage.clone(), number)),
                None => mains.push(number),
            }
            number += 1;
        }
    }
    let jobs = works.len().max(1);
    let ran = each(jobs, &works, stop, |running| {
        let start = Instant::now();
        let (one, work) = (&prepared[running.recipe], &running.work);
        let nodes = work.ready.plan.nodes.len();
        let steps = if running.main { steps(one) } else { nodes };
        let built = work.run(steps, running.main && steps == nodes);
        work.give(built.as_ref().ok());
        built.map(|built| (built, start.elapsed()))
    });
    let recipes: Vec<usize> = works.iter().map(|running| running.recipe).collect();
    match all(ran, |at| prepared[recipes[at]].request.recipe.clone()) {
        Ok(ran) => Ok(works
            .into_iter()
            .zip(ran)
            .map(|(running, (built, took))| (running, built, took))
            .collect()),
        Err(failed) => {
            // Those that went well are cleared whatever happens to the others.
            for running in &works {
                running.work.clear();
            }
            say_what_stands_on(prepared, &failed);
            Err(failed)
        }
    }
}

/// Names the recipes that stand on one that failed.
fn say_what_stands_on(prepared: &[Prepared], failed: &Failed) {
    for one in prepared {
        let base = one.base.map(|base| &prepared[base].request.recipe);
        if base == Some(&failed.recipe) {
            let message = format!(
                "{} stands on {}, which failed",
                one.request.recipe.display(),
                failed.recipe.display()
            );
            (one.sink)(Event::Note { message });
        }
    }
}

/// Returns everything that the roots of recipe `at` have pinned.
fn pins(at: usize, prepared: &[Prepared], ran: &[Ran<'_>]) -> Lock {
    let mut pins = prepared[at].roots.main().pins.clone();
    for (running, ..) in ran.iter().filter(|(running, ..)| running.recipe == at) {
        pins.add(running.work.known_pins_of_this_build());
    }
    pins
}

/// Finishes every image, writes the lock files, and publishes all images in one transaction.
fn publish(
    hall: &JobContext<'_>,
    prepared: &[Prepared],
    ran: &[Ran<'_>],
) -> Result<Vec<(Digest, bool)>, Failed> {
    let fail = |at: usize| {
        move |error: Error| Failed { recipe: prepared[at].request.recipe.clone(), error }
    };
    let mut checked = vec![];
    for (running, built, _) in ran.iter().filter(|(running, ..)| running.main) {
        let one = &prepared[running.recipe];
        let key = one.roots.key(&pins(running.recipe, prepared, ran));
        let finished = running.work.finish(built, &key).map_err(fail(running.recipe))?;
        // What others stand on has to pass its tests as well.
        if one.wanted {
            checked.push(finished);
        }
    }
    let digests: Vec<Digest> = checked.iter().map(Checked::digest).collect();
    // Before the publish, as an image without its pins could not be baked again; and taken back
    // where the publish fails.
    let mut written = Written::default();
    for (running, ..) in ran.iter().filter(|(running, ..)| running.main) {
        let pins = pins(running.recipe, prepared, ran);
        let locking = &prepared[running.recipe].locking;
        written.0.extend(locking.write(&pins).map_err(fail(running.recipe))?);
    }
    let how = if checked.is_empty() {
        vec![]
    } else {
        trial::publish(hall.store, checked).map_err(|error| which(prepared, error.into()))?
    };
    written.keep();
    let mut how = digests.into_iter().zip(how);
    let one = |one: &Prepared| match &one.already {
        Some(version) => (version.manifest.digest, true),
        None => {
            let (digest, how) = how.next().expect("a publish answers for every image it was given");
            (digest, how == Published::Already)
        }
    };
    Ok(prepared.iter().filter(|one| one.wanted).map(one).collect())
}

/// Lock files that were written for a publish; dropped = they are what they were before.
#[derive(Default)]
struct Written(Vec<files::Replaced>);

impl Written {
    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        for file in self.0.drain(..).rev() {
            // The error that led here is the one to report.
            let _ = file.undo();
        }
    }
}

/// Finds the recipe whose version is taken.
fn which(prepared: &[Prepared], error: Error) -> Failed {
    let Error::Store(store::Error::VersionTaken { reference, have, .. }) = &error else {
        return Failed {
            recipe: prepared.first().map(|one| one.request.recipe.clone()).unwrap_or_default(),
            error,
        };
    };
    let image = reference.to_string();
    match prepared.iter().find(|one| one.roots.main().plan.image == image) {
        Some(one) => {
            Failed { recipe: one.request.recipe.clone(), error: taken(one.roots.main(), have) }
        }
        None => Failed { recipe: PathBuf::new(), error },
    }
}

/// Does `work` for every item, at most `jobs` at once, in order; after the first failure nothing
/// new is begun and `stop` is set.
fn each<'a, T: Sync, R: Send>(
    jobs: usize,
    items: &'a [T],
    stop: &AtomicBool,
    work: impl Fn(&'a T) -> Result<R, Error> + Sync,
) -> Vec<Result<R, Error>> {
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<Result<R, Error>>>> =
        items.iter().map(|_| Mutex::new(None)).collect();
    let run = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return };
            let result =
                if stop.load(Ordering::Relaxed) { Err(Error::OtherFailed) } else { work(item) };
            if result.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            *slots[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
    };
    match items.len().min(jobs) {
        // On this thread: the common case needs no other.
        0 | 1 => run(),
        count => thread::scope(|scope| {
            // This thread is one of them, so that it is done where the host has no threads to give.
            for _ in 1..count {
                if threads::scoped(scope, run).is_err() {
                    break;
                }
            }
            run();
        }),
    }
    let taken = |slot: Mutex<Option<Result<R, Error>>>| {
        slot.into_inner().unwrap_or_else(PoisonError::into_inner)
    };
    slots.into_iter().map(|slot| taken(slot).unwrap_or(Err(Error::OtherFailed))).collect()
}

/// Returns all results, or the failure that made the others stop.
fn all<R>(
    results: Vec<Result<R, Error>>,
    recipe: impl Fn(usize) -> PathBuf,
) -> Result<Vec<R>, Failed> {
    let mut good = vec![];
    let mut bad: Option<Failed> = None;
    for (at, result) in results.into_iter().enumerate() {
        match result {
            Ok(one) => good.push(one),
            Err(error) => {
                if bad.as_ref().is_none_or(|bad| matches!(bad.error, Error::OtherFailed)) {
                    bad = Some(Failed { recipe: recipe(at), error });
                }
            }
        }
    }
    bad.map_or(Ok(good), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B11
    #[test]
    fn lock_files_are_as_before_where_the_publish_fails() {
        let dir = tempfile::tempdir().expect("a directory");
        let (old, new) = (dir.path().join("web.lock"), dir.path().join("app.lock"));
        std::fs::write(&old, "before").expect("write");
        let write = || {
            let files = [&old, &new].map(|path| files::Replaced::write(path, b"after", 0o644));
            Written(files.into_iter().map(|file| file.expect("write")).collect())
        };
        drop(write());
        assert_eq!(std::fs::read(&old).expect("read"), b"before");
        assert!(!new.exists());
        write().keep();
        for path in [&old, &new] {
            assert_eq!(std::fs::read(path).expect("read"), b"after");
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 2);
    }
}
