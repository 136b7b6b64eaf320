//! What waits for others (a name, a connection), apart from what carries: a few threads, more only
//! where they are needed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::threads;

/// Most threads of one network.
const MOST: usize = 32;
/// Most tasks that wait for one.
const WAITING: usize = 10_000;

type Task = Box<dyn FnOnce() + Send>;

/// The tasks of one network.
#[derive(Clone, Default)]
pub(super) struct Tasks(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Task>,
    threads: usize,
    closed: bool,
}

impl Tasks {
    fn held(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a task done by another thread; false where that cannot be.
    pub(super) fn add(&self, task: impl FnOnce() + Send + 'static) -> bool {
        let mut queue = self.held();
        if queue.closed || queue.waiting.len() >= WAITING {
            return false;
        }
        queue.waiting.push_back(Box::new(task));
        if queue.threads >= MOST {
            return true;
        }
        let own = self.clone();
        queue.threads += 1;
        if threads::free(move || own.work()).is_err() {
            queue.threads -= 1;
            if queue.threads == 0 {
                queue.waiting.pop_back();
                return false;
            }
        }
        true
    }

    /// Does what waits, and ends.
    fn work(&self) {
        loop {
            let mut queue = self.held();
            let Some(task) = queue.waiting.pop_front() else {
                queue.threads -= 1;
                return;
            };
            drop(queue);
            task();
        }
    }

    /// Forgets what waits. What is being done comes to its end, and nobody waits for that.
    pub(super) fn close(&self) {
        let mut queue = self.held();
        queue.closed = true;
        queue.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn all_is_done_by_few_threads() {
        let (tasks, (send, done)) = (Tasks::default(), mpsc::channel());
        for n in 0..500 {
            let send = send.clone();
            assert!(tasks.add(move || send.send(n).unwrap()));
            assert!(tasks.held().threads <= MOST);
        }
        drop(send);
        let mut all: Vec<i32> = done.iter().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..500));
        tasks.close();
        assert!(!tasks.add(|| ()));
    }
}
