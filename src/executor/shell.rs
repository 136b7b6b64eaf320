//! Shells for people: where a step failed, and where a step would begin. Leaving one discards
//! whatever was done in it, always.

use std::path::{Path, PathBuf};

use super::agent;
use super::build::Build;
use super::error::Trouble;
use super::network::Way;
use super::prepared::Prepared;
use crate::event::Event;
use crate::job::{Ended, Job, allowance, fresh_work, make_dir};
use crate::reach::Reach;
use crate::sandbox::{JobEvent, Overlay};
use crate::step::Op;
use crate::trial::{self, Place, Shells, attached};

/// The shells that may be there, best first, as step `index` (from 1; there need be none) runs its
/// programs.
fn shells(build: &Build<'_>, index: usize, place: &str) -> Shells {
    let root = build.root;
    let node = root.plan.nodes.get(index - 1);
    let reach = node.map(|node| &node.network).unwrap_or(&Reach::None);
    let mut env = build.environment(reach);
    let runs = node.into_iter().flat_map(|node| &node.ops).find_map(|op| match op {
        Op::Exec { env, user, cwd, .. } | Op::Script { env, user, cwd, .. } => {
            Some((env, user, cwd))
        }
        _ => None,
    });
    if build.agent.is_some() && node.is_some_and(|node| node.ops.iter().any(Op::ssh)) {
        env.insert("SSH_AUTH_SOCK".to_owned(), agent::INSIDE.to_owned());
    }
    let (user, cwd) = runs.map_or(("root", "/"), |(_, user, cwd)| (user, cwd));
    env.extend(runs.into_iter().flat_map(|(own, ..)| own.clone()));
    let own = node.and_then(|node| node.shell.as_deref());
    Shells::new(own, env, user, cwd, place)
}

/// Runs a job of step `index`, of which somebody wants to look into what it leaves where it fails.
pub(super) fn watched(
    build: &Build<'_>,
    index: usize,
    job: Job,
    listener: &mut dyn FnMut(JobEvent<'_>),
) -> Result<Ended, Trouble> {
    let (session, cancel, sink) = (build.session()?, build.job.cancel, build.job.sink);
    let name = format!("step {index}");
    let shells = shells(build, index, &name);
    let place = Place { session, cancel, sink, name };
    Ok(trial::watched(&place, &build.rescue, shells, job, listener)?)
}

/// Opens a shell where a step failed that nobody could look into yet: in the root as it was before
/// the step.
pub(super) fn afterwards(
    build: &Build<'_>,
    index: usize,
    lower: &[PathBuf],
    at: &Path,
    trouble: &Trouble,
) -> Result<(), Trouble> {
    let Trouble::Step(why) = trouble else { return Ok(()) };
    if !build.rescue.waits() || build.job.cancel.fired() {
        return Ok(());
    }
    let place = format!("step {index}");
    let why = std::iter::once(format!("{place} failed")).chain(why.reasons()).collect();
    let shown = Shown { index, place: format!("the root before {place}"), why };
    // How the shell ended says nothing about the step.
    open_shell(build, &shown, lower, at).map(|_| ())
}

/// A root that somebody looks into.
pub(crate) struct Shown {
    /// The step that would see it, from 1; one more than there are: the root is finished.
    pub(crate) index: usize,
    /// What it is called, for people.
    pub(crate) place: String,
    /// Why there is a shell; nothing: it was asked for.
    pub(crate) why: Vec<String>,
}

/// Opens a shell over `lower` (topmost first), with its scratch below `at`, as step `index` would
/// run its programs; returns how it ended.
///
/// # Errors
/// Where it cannot be run.
pub(crate) fn open_shell(
    build: &Build<'_>,
    shown: &Shown,
    lower: &[PathBuf],
    at: &Path,
) -> Result<Ended, Trouble> {
    let Shown { index, place, why } = shown;
    let node = build.root.plan.nodes.get(index - 1);
    let reach = node.map(|node| node.network.clone()).unwrap_or_default();
    let name = node.map_or("all steps".to_owned(), |_| format!("step {index}"));
    let Shells { exec, or_else } = shells(build, *index, &name);
    let has = reach.is_some();
    (build.job.sink)(Event::Shell { place: place.clone(), why: why.clone(), network: has });
    let own = at.join("shell");
    let upper = make_dir(&own.join("u"))?;
    let mut prepared = Prepared::default();
    for op in node.into_iter().flat_map(|node| &node.ops) {
        prepared.agent(build, op, &own)?;
    }
    // What it reaches goes into no record: nothing of it stays.
    let (_way, network) = Way::open(build, &reach, place)?;
    let job = Job {
        root: Some(Overlay { lower: lower.to_vec(), upper, work: fresh_work(&own)? }),
        allowance: node.map(|node| allowance(node.limits)).unwrap_or_default(),
        mounts: std::mem::take(&mut prepared.mounts),
        files: build.policy(&reach),
        secrets: node.map(|node| build.shown_secrets(&node.ops)).unwrap_or_default(),
        hostname: "bake".to_owned(),
        network,
        actions: vec![],
    };
    Ok(attached(build.session()?, job, exec, or_else, None, build.job.cancel)?)
}
