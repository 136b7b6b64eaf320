//! Several recipes in one run: prepared and run side by side, published together or not at all.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::config::Made;
use super::error::Error;
use super::locking::Locking;
use super::work::Work;
use super::{Baked, Ready, Request, prepare, published_already, taken, tested};
use crate::digest::Digest;
use crate::event::{self, Event, Sink};
use crate::files;
use crate::job::JobContext;
use crate::store::{self, Published, Version};
use crate::threads;
use crate::trial::{self, Checked};

/// Which recipe of a run failed, and how.
#[derive(Debug)]
pub struct Failed {
    /// The recipe.
    pub recipe: PathBuf,
    /// How.
    pub error: Error,
}

/// A recipe that is ready to be run.
struct Prepared<'a> {
    request: &'a Request,
    locking: Locking,
    ready: Ready,
    /// Published from the same key already.
    already: Option<Version>,
    sink: Sink,
    took: Duration,
}

/// Bakes all of `requests`, at most `jobs` at once.
pub(super) fn bake(
    hall: &JobContext<'_>,
    requests: &[Request],
    jobs: usize,
) -> Result<Vec<Baked>, Failed> {
    let stop = AtomicBool::new(false);
    let alone = requests.len() == 1;
    let prepared = each(jobs, requests, &stop, |request| {
        let start = Instant::now();
        let locking = Locking::open(&request.recipe, request.lock)?;
        let ready = prepare(hall, request, &locking)?;
        let already = published_already(hall, request, &ready)?;
        let sink = if alone {
            Sink::clone(hall.sink)
        } else {
            event::of_image(hall.sink, &ready.plan.image)
        };
        Ok(Prepared { request, locking, ready, already, sink, took: start.elapsed() })
    });
    let prepared = all(prepared, |at| requests[at].recipe.clone())?;
    let ran = each(jobs, &prepared, &stop, |one| {
        if let Some(version) = &one.already {
            tested(&JobContext { sink: &one.sink, ..*hall }, one.request, &one.ready, version)?;
            return Ok(None);
        }
        let start = Instant::now();
        let work = Work::start(hall, &one.sink, &one.ready, &one.locking, one.request, &stop)?;
        match work.run(one.ready.plan.nodes.len(), true) {
            Ok(made) => Ok(Some((work, made, start.elapsed()))),
            Err(error) => {
                work.clear();
                Err(error)
            }
        }
    });
    // Those that went well are cleared whatever happens to the others.
    let failed = ran.iter().any(Result::is_err);
    if failed {
        for (work, ..) in ran.iter().flatten().flatten() {
            work.clear();
        }
    }
    let ran: Vec<Option<(Work<'_>, Vec<Made>, Duration)>> =
        all(ran, |at| requests[at].recipe.clone())?;
    let published = publish(hall, &prepared, &ran);
    for (work, ..) in ran.iter().flatten() {
        work.clear();
    }
    let published = published?;
    let mut out = vec![];
    for ((one, ran), (digest, already)) in prepared.iter().zip(&ran).zip(published) {
        let image = one.ready.plan.image.clone();
        let took = one.took + ran.as_ref().map_or(Duration::ZERO, |(_, _, took)| *took);
        (hall.sink)(Event::Published { image: image.clone(), digest, already });
        let (name, version) =
            (one.ready.recipe.image.name.clone(), one.ready.recipe.image.version.clone());
        out.push(Baked { image, name, version, digest, already, took });
    }
    Ok(out)
}

/// Finishes every image, writes the lock files, and publishes all images in one transaction.
fn publish(
    hall: &JobContext<'_>,
    prepared: &[Prepared<'_>],
    ran: &[Option<(Work<'_>, Vec<Made>, Duration)>],
) -> Result<Vec<(Digest, bool)>, Failed> {
    let fail = |at: usize| {
        move |error: Error| Failed { recipe: prepared[at].request.recipe.clone(), error }
    };
    let mut checked = vec![];
    for (at, one) in ran.iter().enumerate() {
        if let Some((work, made, _)) = one {
            checked.push(work.finish(made).map_err(fail(at))?);
        }
    }
    let digests: Vec<Digest> = checked.iter().map(Checked::digest).collect();
    // Before the publish, as an image without its pins could not be baked again; and taken back
    // where the publish fails.
    let mut written = Written::default();
    for (at, one) in ran.iter().enumerate() {
        if let Some((work, ..)) = one {
            let pins = work.known_pins_of_this_build();
            written.0.extend(prepared[at].locking.write(&pins).map_err(fail(at))?);
        }
    }
    let how = if checked.is_empty() {
        vec![]
    } else {
        trial::publish(hall.store, checked).map_err(|error| which(prepared, error.into()))?
    };
    written.keep();
    let mut how = digests.into_iter().zip(how);
    let one = |one: &Prepared<'_>| match &one.already {
        Some(version) => (version.manifest.digest, true),
        None => {
            let (digest, how) = how.next().expect("a publish answers for every image it was given");
            (digest, how == Published::Already)
        }
    };
    Ok(prepared.iter().map(one).collect())
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
fn which(prepared: &[Prepared<'_>], error: Error) -> Failed {
    let Error::Store(store::Error::VersionTaken { reference, have, .. }) = &error else {
        return Failed {
            recipe: prepared.first().map(|one| one.request.recipe.clone()).unwrap_or_default(),
            error,
        };
    };
    let image = reference.to_string();
    match prepared.iter().find(|one| one.ready.plan.image == image) {
        Some(one) => Failed { recipe: one.request.recipe.clone(), error: taken(&one.ready, have) },
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
