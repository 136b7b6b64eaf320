//! Shells for people: where a step failed, and where a step would begin. Leaving one discards
//! whatever was done in it, always.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::call::{Action, Ended, Job};
use super::error::{Error, no_thread};
use super::locking::Locking;
use super::machine::run::{Outcome, attached, verdict};
use super::node::{Trouble, environment};
use super::site::Site;
use super::work::Work;
use super::{Hall, Request, pack, prepare, sweep};
use crate::event::Event;
use crate::recipe::{Step, StepKind};
use crate::sandbox::{Attach, Exec, JobEvent, Network, Overlay, Streams, terminal};
use crate::step::{Lowered, Op};
use crate::threads;

/// A person who wants to look into a step that fails.
#[derive(Debug, Default)]
pub(super) struct Rescue {
    wanted: bool,
    /// Somebody has looked.
    done: AtomicBool,
}

impl Rescue {
    pub(super) fn new(wanted: bool) -> Self {
        Self { wanted, done: AtomicBool::new(false) }
    }
}

/// The shells that may be there, best first, as the step runs its programs: its own shell, bash,
/// sh.
fn shells(
    epoch: i64,
    step: Option<&Step>,
    node: Option<&Lowered>,
    place: &str,
) -> (Exec, Vec<Exec>) {
    let mut env = environment(epoch);
    env.insert("TERM".to_owned(), std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned()));
    env.insert("PS1".to_owned(), format!("({place}) # "));
    let (mut user, mut cwd) = ("root".to_owned(), "/".to_owned());
    let runs = node.into_iter().flat_map(|node| &node.ops).find_map(|op| match op {
        Op::Exec { env, user, cwd, .. } | Op::Script { env, user, cwd, .. } => {
            Some((env, user, cwd))
        }
        _ => None,
    });
    if let Some((own, who, folder)) = runs {
        env.extend(own.clone());
        (user, cwd) = (who.clone(), folder.clone());
    }
    let own = step.and_then(|step| match &step.kind {
        StepKind::Run { options, .. } | StepKind::Script { options, .. } => options.shell.first(),
        _ => None,
    });
    let usual = ["/bin/bash", "/bin/sh"];
    let mut programs: Vec<String> =
        own.filter(|own| !usual.contains(&own.as_str())).cloned().into_iter().collect();
    programs.extend(usual.map(str::to_owned));
    let exec = |program: String| Exec {
        argv: vec![program],
        env: env.clone(),
        cwd: PathBuf::from(&cwd),
        user: user.clone(),
        timeout: None,
    };
    let mut execs = programs.into_iter().map(exec);
    let first = execs.next().expect("the usual ones are always there");
    (first, execs.collect())
}

/// Runs a job of step `index`; where it fails, this is the last try, and somebody wants to look, a
/// shell runs in what it left.
pub(super) fn watched(
    site: &Site<'_>,
    index: usize,
    last_try: bool,
    mut job: Job,
    hear: &mut dyn FnMut(JobEvent<'_>),
) -> Result<Ended, Error> {
    if !site.rescue.wanted || !last_try {
        return Ok(site.session.run(job, site.cancel, hear)?);
    }
    let place = format!("step {index}");
    let (exec, or_else) =
        shells(site.epoch, site.steps.get(index - 1), site.plan.nodes.get(index - 1), &place);
    let (socket, lent) = terminal::lend().map_err(|error| Error::Chore {
        what: "lend the terminal".to_owned(),
        why: error.to_string(),
    })?;
    let network = job.network == Network::Host;
    job.actions.push(Action::Rescue(Attach {
        exec,
        or_else,
        streams: Streams::Terminal(socket),
        signals: None,
    }));
    let hear = &mut |heard: JobEvent<'_>| {
        if let JobEvent::Rescue(how) = heard {
            site.rescue.done.store(true, Ordering::Relaxed);
            let why = std::iter::once(format!("{place} failed")).chain(how.reasons()).collect();
            (site.sink)(Event::Shell { place: format!("what {place} left"), why, network });
        } else {
            hear(heard);
        }
    };
    thread::scope(|scope| {
        let relay = threads::scoped(scope, move || lent.relay()).map_err(no_thread)?;
        let ended = site.session.run(job, site.cancel, hear);
        // A terminal that has gone takes with it whoever might be told.
        let _ = relay.join();
        Ok(ended?)
    })
}

/// Opens a shell where a step failed that nobody could look into yet: in the root as it was before
/// the step.
pub(super) fn afterwards(
    site: &Site<'_>,
    index: usize,
    lower: &[PathBuf],
    at: &Path,
    trouble: &Trouble,
) -> Result<(), Error> {
    let Trouble::Step(why) = trouble else { return Ok(()) };
    if !site.rescue.wanted || site.rescue.done.load(Ordering::Relaxed) || site.cancel.fired() {
        return Ok(());
    }
    let place = format!("step {index}");
    let node = &site.plan.nodes[index - 1];
    let why = std::iter::once(format!("{place} failed")).chain(why.reasons()).collect();
    (site.sink)(Event::Shell {
        place: format!("the root before {place}"),
        why,
        network: node.network,
    });
    let (exec, or_else) = shells(site.epoch, site.steps.get(index - 1), Some(node), &place);
    let job = job(site, lower, &at.join("shell"), node.network)?;
    // How the shell ended says nothing about the step.
    attached(site.session, job, exec, or_else, None, site.cancel).map(|_| ())
}

fn job(site: &Site<'_>, lower: &[PathBuf], at: &Path, network: bool) -> Result<Job, Error> {
    let upper = pack::make_dir(&at.join("u"))?;
    Ok(Job {
        root: Some(Overlay { lower: lower.to_vec(), upper, work: pack::fresh_work(at)? }),
        mounts: vec![],
        files: site.policy(network),
        hostname: "bake".to_owned(),
        network: if network { Network::Host } else { Network::None },
        actions: vec![],
    })
}

/// Runs the steps before the one that `at` names (its number or name; `None`: all), and opens a
/// shell in the root that it would see. Nothing is published; what the steps gave stays in the
/// cache.
///
/// # Errors
/// As [`bake`](super::bake); [`Error::NoStep`] where there is no such step; [`Error::NotStarted`]
/// where the root has no shell.
pub fn shell(hall: &Hall<'_>, request: &Request, at: Option<&str>) -> Result<Outcome, Error> {
    sweep::dead_builds(hall)?;
    let locking = Locking::open(&request.recipe, request.lock)?;
    let ready = prepare(hall, request, &locking)?;
    let nodes = &ready.plan.nodes;
    let index = match at {
        None => nodes.len() + 1,
        Some(name) => (1..=nodes.len())
            .find(|index| super::run::names_step(name, *index, &nodes[index - 1].label))
            .ok_or_else(|| {
                let steps = std::iter::once(ready.plan.base.clone())
                    .chain(nodes.iter().map(|node| node.label.clone()))
                    .collect();
                Error::NoStep { name: name.to_owned(), steps, recipe: request.recipe.clone() }
            })?,
    };
    let stop = AtomicBool::new(false);
    let work = Work::start(hall, hall.sink, &ready, &locking, request, &stop)?;
    let outcome = work.root(index - 1, |site, lower| {
        let node = nodes.get(index - 1);
        let network = node.is_some_and(|node| node.network);
        let (place, told) = match node {
            Some(_) => (format!("step {index}"), format!("the root that step {index} would see")),
            None => ("all steps".to_owned(), "the root after the last step".to_owned()),
        };
        let (exec, or_else) = shells(site.epoch, site.steps.get(index - 1), node, &place);
        (hall.sink)(Event::Shell { place: told, why: vec![], network });
        let job = job(site, lower, &work.draft.dir().join("shell"), network)?;
        verdict(attached(site.session, job, exec, or_else, None, hall.cancel)?)
    });
    work.clear();
    outcome
}
