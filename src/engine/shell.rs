//! `bake shell`: a look at the root that a step would see.

use super::error::Error;
use super::locking::Locking;
use super::names::names_step;
use super::request::Request;
use super::schedule;
use crate::executor::{Shown, open_shell};
use crate::job::{JobContext, dead_builds};
use crate::trial::{Outcome, outcome};

/// Runs the steps before the one that `at` names (its number or name; `None`: all), and opens a
/// shell in the root that it would see. Nothing is published; what the steps gave stays in the
/// cache.
///
/// # Errors
/// As [`bake`](super::bake); [`Error::NoStep`] where there is no such step;
/// [`trial::Error::NotStarted`](crate::trial::Error::NotStarted) where the root has no shell.
pub fn shell(job: &JobContext<'_>, request: &Request, at: Option<&str>) -> Result<Outcome, Error> {
    dead_builds(job)?;
    let locking = Locking::open(request)?;
    let roots = schedule::prepare_one(job, request, &locking)?;
    let plan = &roots.main().plan;
    let nodes = &plan.nodes;
    let index = match at {
        None => nodes.len() + 1,
        Some(name) => (1..=nodes.len())
            .find(|index| names_step(name, None, *index, &nodes[index - 1].label))
            .ok_or_else(|| {
                let labels = nodes.iter().map(|node| node.label.clone());
                let steps = std::iter::once(plan.base.clone()).chain(labels).collect();
                Error::NoStep { name: name.to_owned(), steps, recipe: request.recipe.clone() }
            })?,
    };
    let place = match nodes.get(index - 1) {
        Some(_) => format!("the root that step {index} would see"),
        None => "the root after the last step".to_owned(),
    };
    schedule::with_root(job, request, index - 1, |build, lower| {
        let shown = Shown { index, place, why: vec![] };
        let ended = open_shell(build, &shown, lower, build.staging.dir())
            .map_err(|trouble| Error::of(build.root, index, trouble.into()))?;
        Ok(outcome(ended)?)
    })
}
