//! Threads, where a host may give none: a limit of its own (`ulimit -u`) or of its cgroup
//! (`pids.max`) is a reason to work on fewer, or to end with an error, never to panic.
//!
//! [`std::thread::spawn`], [`std::thread::Scope::spawn`] and the pool that rayon makes by itself
//! panic then.

use std::io;
use std::sync::OnceLock;
use std::thread::{self, JoinHandle, Scope, ScopedJoinHandle};

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Starts a thread in `scope`.
///
/// # Errors
/// Where the host gives none.
pub fn scoped<'scope, 'env, F, T>(
    scope: &'scope Scope<'scope, 'env>,
    work: F,
) -> io::Result<ScopedJoinHandle<'scope, T>>
where
    F: FnOnce() -> T + Send + 'scope,
    T: Send + 'scope,
{
    thread::Builder::new().spawn_scoped(scope, work).map_err(explained)
}

/// Starts a thread.
///
/// # Errors
/// Where the host gives none.
pub fn free<F, T>(work: F) -> io::Result<JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    thread::Builder::new().spawn(work).map_err(explained)
}

/// Does `work` where rayon's parallel iterators run on a pool of this room: of as many threads as
/// there are processors, or of as many as the host gives; where it gives none, on this one.
pub fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    static POOL: OnceLock<ThreadPool> = OnceLock::new();
    if rayon::current_thread_index().is_some() {
        return work();
    }
    if let Some(pool) = POOL.get() {
        return pool.install(work);
    }
    let mut threads = thread::available_parallelism().map_or(1, usize::from);
    while threads > 0 {
        match ThreadPoolBuilder::new().num_threads(threads).build() {
            Ok(pool) => return POOL.get_or_init(|| pool).install(work),
            Err(_) => threads /= 2,
        }
    }
    match ThreadPoolBuilder::new().num_threads(1).use_current_thread().build() {
        // This thread is in that pool from now on.
        Ok(pool) => std::mem::ManuallyDrop::new(pool).install(work),
        Err(_) => work(),
    }
}

/// Adds what is behind the error, and what helps.
fn explained(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::WouldBlock && error.raw_os_error().is_some() {
        return error;
    }
    let why = "cannot start a thread: the limit of this user (ulimit -u) or of this cgroup \
        (pids.max) is reached";
    io::Error::new(error.kind(), why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_in_the_pool() {
        for _ in 0..2 {
            let sum = in_pool(|| {
                assert!(rayon::current_thread_index().is_some());
                let (one, two) = rayon::join(|| 1, || in_pool(|| 2));
                one + two
            });
            assert_eq!(sum, 3);
        }
    }

    #[test]
    fn threads_start() {
        assert_eq!(free(|| 7).unwrap().join().unwrap(), 7);
        assert_eq!(thread::scope(|scope| scoped(scope, || 7).unwrap().join().unwrap()), 7);
    }
}
