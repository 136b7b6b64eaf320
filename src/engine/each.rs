//! Work for several at once, of which the first failure ends all.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::error::{Error, Failed};
use crate::threads;

/// Does `work` for every item, at most `jobs` at once, in order; after the first failure nothing
/// new is begun and `stop` is set.
pub(super) fn each<'a, T: Sync, R: Send>(
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
pub(super) fn all<R>(
    results: Vec<Result<R, Error>>,
    failed: impl Fn(usize, Error) -> Failed,
) -> Result<Vec<R>, Failed> {
    let mut good = vec![];
    let mut bad: Option<Failed> = None;
    for (at, result) in results.into_iter().enumerate() {
        match result {
            Ok(one) => good.push(one),
            Err(error) => {
                if bad.as_ref().is_none_or(|bad| matches!(*bad.error, Error::OtherFailed)) {
                    bad = Some(failed(at, error));
                }
            }
        }
    }
    bad.map_or(Ok(good), Err)
}
