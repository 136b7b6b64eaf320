//! A program that has this process's own standard streams.

use std::io;
use std::os::fd::OwnedFd;

use crate::job::{self, Action, Ended, Job, Session, no_thread};
use crate::sandbox::{Attach, Cancel, Exec, JobEvent, Streams, stream, terminal};
use crate::threads;

/// Runs `job` with one more action at its end: `exec`, else the first of `or_else` that can be
/// started, attached to this process's own standard streams.
pub(crate) fn attached(
    session: &Session,
    mut job: Job,
    exec: Exec,
    or_else: Vec<Exec>,
    signals: Option<OwnedFd>,
    cancel: &Cancel,
) -> Result<Ended, job::Error> {
    let listener = &mut |_: JobEvent<'_>| {};
    if terminal::there() {
        let (socket, lent) =
            terminal::lend().map_err(|source| system("lend the terminal", source))?;
        let streams = Streams::Terminal(socket);
        job.actions.push(Action::Attach(Attach { exec, or_else, streams, signals }));
        return std::thread::scope(|scope| {
            let relay = threads::scoped(scope, move || lent.relay()).map_err(no_thread)?;
            let ended = session.run(job, cancel, listener);
            // A terminal that has gone takes with it whoever might read it.
            let _ = relay.join();
            Ok(ended?)
        });
    }
    let (streams, carrier) = stream::carry().map_err(|source| system("make pipes", source))?;
    job.actions.push(Action::Attach(Attach { exec, or_else, streams, signals }));
    Ok(carrier.during(|| session.run(job, cancel, listener)).map_err(no_thread)??)
}

/// A failed system call; `what` finishes "cannot …".
pub(super) fn system(what: &str, source: io::Error) -> job::Error {
    job::Error::Failed { what: what.to_owned(), why: source.to_string() }
}
