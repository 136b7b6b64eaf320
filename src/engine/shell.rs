//! Shells for people: where a step failed, and where a step would begin. Leaving one discards
//! whatever was done in it, always.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::locking::Locking;
use super::many;
use super::node::Trouble;
use super::request::Request;
use super::site::Site;
use crate::event::Event;
use crate::job::{Ended, Job, JobContext, dead_builds, environment, fresh_work, make_dir};
use crate::sandbox::{JobEvent, Network, Overlay};
use crate::step::{Lowered, Op};
use crate::trial::{self, Outcome, Place, Shells, attached, outcome};

/// The shells that may be there, best first, as the step runs its programs.
fn shells(
    epoch: i64,
    base: &BTreeMap<String, String>,
    node: Option<&Lowered>,
    place: &str,
) -> Shells {
    let mut env = environment(epoch, base);
    let runs = node.into_iter().flat_map(|node| &node.ops).find_map(|op| match op {
        Op::Exec { env, user, cwd, .. } | Op::Script { env, user, cwd, .. } => {
            Some((env, user, cwd))
        }
        _ => None,
    });
    let (user, cwd) = runs.map_or(("root", "/"), |(_, user, cwd)| (user, cwd));
    env.extend(runs.into_iter().flat_map(|(own, ..)| own.clone()));
    let own = node.and_then(|node| node.shell.as_deref());
    Shells::new(own, env, user, cwd, place)
}

/// Runs a job of step `index`; where it fails, this is the last try, and somebody wants to look, a
/// shell runs in what it left.
pub(super) fn watched(
    site: &Site<'_>,
    index: usize,
    last_try: bool,
    job: Job,
    listener: &mut dyn FnMut(JobEvent<'_>),
) -> Result<Ended, Error> {
    if !site.rescue.wanted() || !last_try {
        return Ok(site.session.run(job, site.cancel, listener)?);
    }
    let name = format!("step {index}");
    let shells = shells(site.epoch, site.environment, site.plan.nodes.get(index - 1), &name);
    let place = Place { session: site.session, cancel: site.cancel, sink: site.sink, name };
    Ok(trial::watched(&place, &site.rescue, shells, job, listener)?)
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
    if !site.rescue.waits() || site.cancel.fired() {
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
    let Shells { exec, or_else } = shells(site.epoch, site.environment, Some(node), &place);
    let job = job(site, lower, &at.join("shell"), node.network)?;
    // How the shell ended says nothing about the step.
    attached(site.session, job, exec, or_else, None, site.cancel)?;
    Ok(())
}

fn job(site: &Site<'_>, lower: &[PathBuf], at: &Path, network: bool) -> Result<Job, Error> {
    let upper = make_dir(&at.join("u"))?;
    Ok(Job {
        root: Some(Overlay { lower: lower.to_vec(), upper, work: fresh_work(at)? }),
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
/// As [`bake`](super::bake); [`Error::NoStep`] where there is no such step; [`trial::Error::NotStarted`]
/// where the root has no shell.
pub fn shell(hall: &JobContext<'_>, request: &Request, at: Option<&str>) -> Result<Outcome, Error> {
    dead_builds(hall)?;
    let locking = Locking::open(&request.recipe, request.lock)?;
    let roots = many::prepare_one(hall, request, &locking)?;
    let ready = roots.main();
    let nodes = &ready.plan.nodes;
    let index = match at {
        None => nodes.len() + 1,
        Some(name) => (1..=nodes.len())
            .find(|index| super::run::names_step(name, None, *index, &nodes[index - 1].label))
            .ok_or_else(|| {
                let steps = std::iter::once(ready.plan.base.clone())
                    .chain(nodes.iter().map(|node| node.label.clone()))
                    .collect();
                Error::NoStep { name: name.to_owned(), steps, recipe: request.recipe.clone() }
            })?,
    };
    many::with_root(hall, request, index - 1, |site, lower| {
        let node = nodes.get(index - 1);
        let network = node.is_some_and(|node| node.network);
        let (place, told) = match node {
            Some(_) => (format!("step {index}"), format!("the root that step {index} would see")),
            None => ("all steps".to_owned(), "the root after the last step".to_owned()),
        };
        let Shells { exec, or_else } = shells(site.epoch, site.environment, node, &place);
        (hall.sink)(Event::Shell { place: told, why: vec![], network });
        let job = job(site, lower, &site.work.draft.dir().join("shell"), network)?;
        Ok(outcome(attached(site.session, job, exec, or_else, None, hall.cancel)?)?)
    })
}
