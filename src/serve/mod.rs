//! To the world out: the store as a read-only registry, from which podman, docker, containerd,
//! Kubernetes and skopeo pull (OCI distribution-spec 1.1, "Pull", "Content Discovery", "Listing
//! Referrers").
//!
//! ```text
//! GET /v2/                                     is a registry
//! GET /v2/NAME/manifests/{VERSION|CHANNEL|DIGEST}
//! GET /v2/NAME/blobs/DIGEST                    ranges
//! GET /v2/NAME/tags/list?n=&last=              versions and channels
//! GET /v2/NAME/referrers/DIGEST?artifactType=  attestations
//! GET /v2/_catalog?n=&last=                    names
//! GET /updates/FILE                            of a directory that systemd-sysupdate reads; ranges
//! ```
//! Nothing is written, and nothing is readable that no published version of that name holds. The
//! same places as files, for any web server, are written by [`write_files`].
//! Connections are bounded in number, and in the time that they may be silent.

mod answer;
mod connection;
mod error;
mod files;
mod request;
mod rule;
mod view;

pub use error::Error;
pub use files::{Written, write_files};

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::connection::{Connection, Ended};
use self::view::Views;
use crate::event::{Event, Sink};
use crate::sandbox::Cancel;
use crate::store::Store;
use crate::threads;

/// Connections at once; further clients wait until one ends.
const WORKERS: usize = 64;

/// Pause after a failure of the host's, such as a lack of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// One request that was answered.
#[derive(Debug)]
pub struct Access {
    /// Who asked.
    pub peer: SocketAddr,
    /// `GET`, or whatever it was.
    pub method: String,
    /// Path and query, as they came.
    pub target: String,
    /// HTTP status.
    pub status: u16,
    /// Bytes of the answer's body that were sent.
    pub bytes: u64,
    /// How long that took.
    pub took: Duration,
}

/// Serves the published versions of `store`, and the files in the directory `updates`, on
/// `listener` until `cancel` fires; `log` is called, from several threads, after each answer.
///
/// # Errors
/// Where the listener cannot be used, or this host has no thread to give.
pub fn serve(
    store: &Store,
    updates: Option<&Path>,
    listener: &TcpListener,
    cancel: &Cancel,
    sink: &Sink,
    log: &(dyn Fn(Access) + Sync),
) -> io::Result<()> {
    // Several workers may be woken for one client.
    listener.set_nonblocking(true)?;
    let views = Views::new(store, updates, sink);
    let busy = AtomicUsize::new(0);
    // Every worker has a client, and another one knocks.
    let crowded = || busy.load(Ordering::Relaxed) >= WORKERS && waiting(listener);
    let work = || worker(&views, listener, (&busy, &crowded), cancel, log);
    thread::scope(|scope| {
        let mut started = 0;
        let mut failed = None;
        while started < WORKERS && failed.is_none() {
            match threads::scoped(scope, work) {
                Ok(_) => started += 1,
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if started == 0 => Err(error),
            Some(_) => {
                let message = format!("only {started} clients are served at once: no more threads");
                sink(Event::Warning { message, hint: None });
                Ok(())
            }
            None => Ok(()),
        }
    })
}

/// Takes one client after the other.
fn worker(
    views: &Views<'_>,
    listener: &TcpListener,
    (busy, crowded): (&AtomicUsize, &(dyn Fn() -> bool + Sync)),
    cancel: &Cancel,
    log: &(dyn Fn(Access) + Sync),
) {
    loop {
        let mut fds = [
            PollFd::new(listener, PollFlags::IN),
            PollFd::from_borrowed_fd(cancel.as_fd(), PollFlags::IN),
        ];
        // Interrupted is asked again; anything else would come again at once.
        if poll(&mut fds, None).is_err_and(|error| error != rustix::io::Errno::INTR) {
            thread::sleep(PAUSE);
        }
        if cancel.fired() {
            return;
        }
        match listener.accept() {
            Ok((stream, peer)) => {
                busy.fetch_add(1, Ordering::Relaxed);
                if let Ok(connection) = Connection::new(stream, cancel, crowded) {
                    converse(views, connection, peer, log);
                }
                busy.fetch_sub(1, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Whether a client waits to be accepted.
fn waiting(listener: &TcpListener) -> bool {
    let mut fds = [PollFd::new(listener, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// Answers what one client asks, until it or we are done.
fn converse(
    views: &Views<'_>,
    connection: Connection<'_>,
    peer: SocketAddr,
    log: &(dyn Fn(Access) + Sync),
) {
    let mut connection = connection;
    loop {
        let asked = match connection.request() {
            Ok(Some(asked)) => asked,
            // It went away, was silent for too long, or we end: nobody is left to be answered.
            Ok(None) | Err(Ended) => return,
        };
        let start = Instant::now();
        let (method, target, last) = match &asked {
            Ok(asked) => (asked.method.clone(), asked.target.clone(), asked.last),
            Err(_) => (String::new(), String::new(), true),
        };
        let answer = match asked {
            Ok(asked) => answer::answer(views, &asked),
            Err(status) => answer::refused(status),
        };
        let status = answer.status;
        let sent = connection.send(answer, last);
        let (bytes, ended) = (*sent.as_ref().unwrap_or(&0), sent.is_err());
        log(Access { peer, method, target, status, bytes, took: start.elapsed() });
        if ended {
            return;
        }
        if last {
            return connection.close();
        }
    }
}
