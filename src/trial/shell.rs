//! Shells for people: where something failed, and where it would begin. Leaving one discards
//! whatever was done in it, always.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::attach::system;
use crate::event::{Event, Sink};
use crate::job::{self, Action, Ended, Job, Session, no_thread};
use crate::sandbox::{Attach, Cancel, Exec, JobEvent, Network, Streams, terminal};
use crate::threads;

/// A person who wants to look into what fails.
#[derive(Debug, Default)]
pub(crate) struct Rescue {
    wanted: bool,
    /// Somebody has looked.
    done: AtomicBool,
}

impl Rescue {
    /// One who wants to look, or not.
    pub(crate) fn new(wanted: bool) -> Self {
        Self { wanted, done: AtomicBool::new(false) }
    }

    /// Whether somebody wants to look.
    pub(crate) fn wanted(&self) -> bool {
        self.wanted
    }

    /// Whether somebody wants to look and has not yet.
    pub(crate) fn waits(&self) -> bool {
        self.wanted && !self.done.load(Ordering::Relaxed)
    }
}

/// Shells that may be there, best first.
pub(crate) struct Shells {
    /// The best.
    pub(crate) exec: Exec,
    /// What is tried in its place, in order.
    pub(crate) or_else: Vec<Exec>,
}

impl Shells {
    /// The shells that a program would be run by: its own one, bash, sh; `place` is what the prompt
    /// says.
    pub(crate) fn new(
        own: Option<&str>,
        mut env: BTreeMap<String, String>,
        user: &str,
        cwd: &str,
        place: &str,
    ) -> Self {
        env.entry("TERM".to_owned())
            .or_insert_with(|| std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned()));
        env.entry("PS1".to_owned()).or_insert_with(|| format!("({place}) # "));
        let exec = |program: &str| Exec {
            argv: vec![program.to_owned()],
            env: env.clone(),
            cwd: PathBuf::from(cwd),
            user: user.to_owned(),
            timeout: None,
        };
        let usual = ["/bin/bash", "/bin/sh"];
        let own = own.filter(|own| !usual.contains(own));
        let mut or_else: Vec<Exec> = usual.into_iter().map(exec).collect();
        let exec = own.map_or_else(|| or_else.remove(0), exec);
        Self { exec, or_else }
    }
}

/// Where a job runs that somebody may look into.
pub(crate) struct Place<'a> {
    /// The user namespace.
    pub(crate) session: &'a Session,
    /// Ends it all.
    pub(crate) cancel: &'a Cancel,
    /// Where events go.
    pub(crate) sink: &'a Sink,
    /// `step 3`.
    pub(crate) name: String,
}

/// Runs a job; where it fails, one of `shells` runs in what it left.
pub(crate) fn watched(
    place: &Place<'_>,
    rescue: &Rescue,
    shells: Shells,
    mut job: Job,
    listener: &mut dyn FnMut(JobEvent<'_>),
) -> Result<Ended, job::Error> {
    let (socket, lent) = terminal::lend().map_err(|error| system("lend the terminal", error))?;
    let network = !matches!(job.network, Network::None);
    let Shells { exec, or_else } = shells;
    let streams = Streams::Terminal(socket);
    job.actions.push(Action::Rescue(Attach { exec, or_else, streams, signals: None }));
    let name = &place.name;
    let listener = &mut |event: JobEvent<'_>| {
        if let JobEvent::Rescue(how) = event {
            rescue.done.store(true, Ordering::Relaxed);
            let why = std::iter::once(format!("{name} failed")).chain(how.reasons()).collect();
            (place.sink)(Event::Shell { place: format!("what {name} left"), why, network });
        } else {
            listener(event);
        }
    };
    thread::scope(|scope| {
        let relay = threads::scoped(scope, move || lent.relay()).map_err(no_thread)?;
        let ended = place.session.run(job, place.cancel, listener);
        // A terminal that has gone takes with it whoever might read it.
        let _ = relay.join();
        Ok(ended?)
    })
}
