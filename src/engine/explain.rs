//! `bake explain`: which steps a build would take from the cache, and why it would run the others.
//! Runs nothing.

use super::error::Error;
use super::finish::published_already;
use super::locking::Locking;
use super::many;
use super::record::Record;
use super::request::Request;
use super::roots::Ready;
use super::run::no_cache;
use super::start::Start;
use crate::digest::Digest;
use crate::job::JobContext;
use crate::plan::lock::Lock;
use crate::plan::why::Why;
use crate::store::Found;

/// What a build would do.
#[derive(Debug, Clone)]
pub struct Explained {
    /// `name:version`.
    pub image: String,
    /// Published from the very same inputs: a build does nothing.
    pub already: Option<Digest>,
    /// The base, then the steps.
    pub steps: Vec<Step>,
}

/// What a build would do about one step.
#[derive(Debug, Clone)]
pub struct Step {
    /// The stage that it is of; none: the image.
    pub stage: Option<String>,
    /// From 1; 0 is the base.
    pub index: usize,
    /// What it is called.
    pub label: String,
    /// Line of the recipe, from 1.
    pub line: u32,
    /// Cached, or run and why.
    pub outcome: Outcome,
}

/// Cached, or run and why.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Its layer is there: digest, and seconds that it took to make.
    Cached(Option<Digest>, f64),
    /// It runs; since which build it is like this.
    Runs(Why, Option<String>),
    /// Nothing of its own changed: it runs if a step below it gives another layer than before.
    Depends,
}

/// Explains what [`bake`](super::bake) would do with this recipe.
pub fn explain(hall: &JobContext<'_>, request: &Request) -> Result<Explained, Error> {
    let locking = Locking::open(&request.recipe, request.lock)?;
    let roots = many::prepare_one(hall, request, &locking)?;
    let already = published_already(hall, request, &roots)
        .ok()
        .flatten()
        .map(|version| version.manifest.digest);
    let mut steps = vec![];
    for ready in &roots.0 {
        steps.extend(root(hall, request, &locking, ready)?);
    }
    Ok(Explained { image: roots.main().plan.image.clone(), already, steps })
}

/// Explains one root.
fn root(
    hall: &JobContext<'_>,
    request: &Request,
    locking: &Locking,
    ready: &Ready,
) -> Result<Vec<Step>, Error> {
    let cache = hall.store.step_cache()?;
    let stage = ready.stage.as_deref();
    let record = Record::open(&cache, &ready.recipe_path, stage);
    let empty = Lock::default();
    let pins = locking.lock().unwrap_or(&empty);
    let mut chain = match &ready.start {
        Start::Made(_) => Some(vec![]),
        Start::Image(image) if !image.layers.is_empty() => {
            Some(image.layers.iter().map(|(blob, _)| blob.diff_id).collect())
        }
        _ => None,
    };
    let mut steps = vec![];
    for index in 0..=ready.plan.nodes.len() {
        let node = index.checked_sub(1).map(|at| &ready.plan.nodes[at]);
        let ops = node.map_or(&[][..], |node| &node.ops);
        let (label, line) = match node {
            None => (&ready.plan.base, ready.plan.base_line),
            Some(node) => (&node.label, node.line),
        };
        let table = match node {
            None => Some(ready.facts.base().clone()),
            Some(_) => ready.facts.step(index, pins, None),
        };
        let made = matches!(ready.start, Start::Made(_));
        let outcome = match (table, &mut chain) {
            _ if index == 0 && !made => match &chain {
                Some(_) => Outcome::Cached(None, 0.0),
                None => Outcome::Depends,
            },
            _ if no_cache(&request.no_cache, stage, index, label) => {
                Outcome::Runs(Why::Asked, None)
            }
            // What it gets of a stage is known when that has run.
            (None, _) if ready.facts.waits(index) => Outcome::Depends,
            (None, _) => Outcome::Runs(Why::Unpinned, None),
            (Some(table), None) => match record.why(index, &table, &cache, ops, &ready.context) {
                (Why::Gone, _) => Outcome::Depends,
                (why, since) => Outcome::Runs(why, since),
            },
            (Some(table), Some(below)) => {
                let table = table.above(below);
                match cache.look(&table.key())? {
                    Found::Hit(entry) => {
                        below.extend(entry.layer.map(|layer| layer.diff_id));
                        Outcome::Cached(entry.layer.map(|layer| layer.digest), entry.seconds)
                    }
                    Found::Damaged(what) => Outcome::Runs(Why::Damaged(what), None),
                    Found::Miss => {
                        let (why, since) = record.why(index, &table, &cache, ops, &ready.context);
                        Outcome::Runs(why, since)
                    }
                }
            }
        };
        if !matches!(outcome, Outcome::Cached(..)) {
            chain = None;
        }
        let (label, stage) = (label.clone(), ready.stage.clone());
        steps.push(Step { stage, index, label, line, outcome });
    }
    Ok(steps)
}
