//! The roots of one run: stages and images, built side by side, each by a thread of its own. What
//! one gives, the others wait for; how many nodes run at once is limited.
//!
//! ```text
//! stage build ── base ─ step ─ step ─► Artifact ─┐
//! stage docs  ── base ─ step ────────► Artifact ─┤ waited for by the steps that copy or mount
//! image       ── base ─ step ─ step ◄────────────┘
//! ```
//! A thread holds a permit while a node of its root runs, and never while it waits for another
//! root: so a run with one permit ends as well.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::Error;
use crate::job;
use crate::plan::artifact::Artifact;
use crate::sandbox::Cancel;

/// How often who waits looks whether the run was ended.
const LOOK: Duration = Duration::from_millis(50);

/// How far a root is.
enum State {
    Running,
    Done(Arc<Artifact>),
    Failed,
}

/// The roots of a run and the permits to run their nodes.
pub(super) struct Pool {
    roots: Vec<Mutex<State>>,
    changed: Condvar,
    /// Woken together with `changed`: std's condition variables want one mutex each.
    woken: Mutex<()>,
    permits: Mutex<usize>,
    returned: Condvar,
}

/// The permission to run a node, given back when it is dropped.
pub(super) struct Permit<'a> {
    pool: &'a Pool,
}

impl Pool {
    /// Makes a pool of `roots` roots, of which at most `jobs` run a node at a time.
    pub(super) fn new(roots: usize, jobs: usize) -> Self {
        Self {
            roots: (0..roots).map(|_| Mutex::new(State::Running)).collect(),
            changed: Condvar::new(),
            woken: Mutex::new(()),
            permits: Mutex::new(jobs.max(1)),
            returned: Condvar::new(),
        }
    }

    /// Says what root `root` gave; `None`: it failed.
    pub(super) fn set(&self, root: usize, artifact: Option<Artifact>) {
        let state = artifact.map_or(State::Failed, |artifact| State::Done(Arc::new(artifact)));
        *held(&self.roots[root]) = state;
        let _woken = held(&self.woken);
        self.changed.notify_all();
    }

    /// Waits for what root `root` gives.
    ///
    /// # Errors
    /// [`Error::OtherFailed`] where it failed or `stop` says so, [`job::Error::Interrupted`].
    pub(super) fn wait(
        &self,
        root: usize,
        stop: &AtomicBool,
        cancel: &Cancel,
    ) -> Result<Arc<Artifact>, Error> {
        let mut woken = held(&self.woken);
        loop {
            match &*held(&self.roots[root]) {
                State::Done(artifact) => return Ok(Arc::clone(artifact)),
                State::Failed => return Err(Error::OtherFailed),
                State::Running => {}
            }
            ended(stop, cancel)?;
            let waited = self.changed.wait_timeout(woken, LOOK);
            woken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until a node may run.
    ///
    /// # Errors
    /// As [`Pool::wait`].
    pub(super) fn permit(&self, stop: &AtomicBool, cancel: &Cancel) -> Result<Permit<'_>, Error> {
        let mut permits = held(&self.permits);
        while *permits == 0 {
            ended(stop, cancel)?;
            let waited = self.returned.wait_timeout(permits, LOOK);
            permits = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *permits -= 1;
        Ok(Permit { pool: self })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *held(&self.pool.permits) += 1;
        self.pool.returned.notify_one();
    }
}

fn ended(stop: &AtomicBool, cancel: &Cancel) -> Result<(), Error> {
    if cancel.fired() {
        return Err(job::Error::Interrupted.into());
    }
    if stop.load(Ordering::Relaxed) { Err(Error::OtherFailed) } else { Ok(()) }
}

/// Locks; what a thread that panicked left is as good as any: every change here is one assignment.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn one_permit_is_enough_for_roots_that_wait_for_each_other() {
        let (pool, stop) = (Pool::new(3, 1), AtomicBool::new(false));
        let cancel = Cancel::new().expect("a pipe");
        let last = thread::scope(|scope| {
            let run = |root: usize| {
                if root > 0 {
                    pool.wait(root - 1, &stop, &cancel).expect("the one before");
                }
                let _permit = pool.permit(&stop, &cancel).expect("a permit");
                pool.set(root, Some(Artifact { layers: vec![], history: vec![] }));
            };
            for root in [2, 1, 0] {
                scope.spawn(move || run(root));
            }
            pool.wait(2, &stop, &cancel)
        });
        assert_eq!(last.expect("all ran").chain(), []);
    }

    #[test]
    fn who_waits_for_what_failed_or_ended_does_not_wait_for_ever() {
        let (pool, stop) = (Pool::new(2, 1), AtomicBool::new(false));
        let cancel = Cancel::new().expect("a pipe");
        pool.set(0, None);
        assert!(matches!(pool.wait(0, &stop, &cancel), Err(Error::OtherFailed)));
        stop.store(true, Ordering::Relaxed);
        assert!(matches!(pool.wait(1, &stop, &cancel), Err(Error::OtherFailed)));
        let permit = pool.permit(&stop, &cancel).expect("one is there");
        assert!(pool.permit(&stop, &cancel).is_err());
        drop(permit);
        assert!(pool.permit(&stop, &cancel).is_ok());
    }
}
