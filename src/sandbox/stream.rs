//! The caller's own standard streams, carried to and from an attached program by pipes. Handed in
//! directly, a program could open them anew through `/proc/self/fd`, with other rights than they
//! were opened with.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, thread};

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;

use super::job::Streams;
use crate::threads;

/// Our ends of the pipes.
#[derive(Debug)]
pub struct Carrier {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    stop: OwnedFd,
    stopped: AtomicBool,
}

/// Makes the pipes: the first goes with [`super::Attach`], the second carries.
pub fn carry() -> io::Result<(Streams, Carrier)> {
    let (program_in, stdin) = io::pipe()?;
    let (stdout, program_out) = io::pipe()?;
    let (stderr, program_err) = io::pipe()?;
    let stop = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let streams = Streams::Pipes([program_in.into(), program_out.into(), program_err.into()]);
    let carrier = Carrier {
        stdin: stdin.into(),
        stdout: stdout.into(),
        stderr: stderr.into(),
        stop,
        stopped: AtomicBool::new(false),
    };
    Ok((streams, carrier))
}

impl Carrier {
    /// Carries as long as `job` runs; all that the program wrote is passed on before this returns.
    ///
    /// # Errors
    /// Where the host has no threads for it; then `job` did not run.
    pub fn during<T>(self, job: impl FnOnce() -> T) -> io::Result<T> {
        let Self { stdin, stdout, stderr, stop, stopped } = self;
        thread::scope(|scope| {
            let (stop, stopped) = (&stop, &stopped);
            let input = move || feed(rustix::stdio::stdin(), stdin, stop.as_fd(), stopped);
            let started = threads::scoped(scope, input)
                .and_then(|_| {
                    threads::scoped(scope, move || drain(stdout, rustix::stdio::stdout()))
                })
                .and_then(|_| {
                    threads::scoped(scope, move || drain(stderr, rustix::stdio::stderr()))
                });
            // Not run, it lets go of the program's ends of the pipes, which ends the threads.
            let result = started.map(|_| job());
            stopped.store(true, Ordering::Relaxed);
            // A counter that is full has been raised.
            let _ = rustix::io::write(stop, &1_u64.to_ne_bytes());
            result
        })
    }
}

/// Carries what the caller is given to the program, whose input ends where the caller's does.
fn feed(from: BorrowedFd<'_>, to: OwnedFd, stop: BorrowedFd<'_>, stopped: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // The error condition of a pipe's writing end: nobody reads any more.
        let mut fds = [
            PollFd::from_borrowed_fd(from, PollFlags::IN),
            PollFd::from_borrowed_fd(stop, PollFlags::IN),
            PollFd::new(&to, PollFlags::empty()),
        ];
        match rustix::event::poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return,
        }
        if stopped.load(Ordering::Relaxed) || !fds[2].revents().is_empty() {
            return;
        }
        if fds[0].revents().is_empty() {
            continue;
        }
        match rustix::io::read(from, &mut buffer) {
            Ok(0) => return,
            Ok(n) if write_all(to.as_fd(), &buffer[..n]).is_err() => return,
            Ok(_) | Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return,
        }
    }
}

/// Carries what the program writes. Where nobody wants it any more, the program learns that by its
/// next write.
fn drain(from: OwnedFd, to: BorrowedFd<'_>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match rustix::io::read(&from, &mut buffer) {
            Ok(0) => return,
            Ok(n) if write_all(to, &buffer[..n]).is_err() => return,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Writes everything, also to what somebody else has made non-blocking.
pub(super) fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                rustix::event::poll(&mut [PollFd::from_borrowed_fd(to, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
