//! `bake explain`: which steps a build would take from the cache, and why it would run the others.
//! Runs nothing.

use super::error::Error;
use super::locking::Locking;
use super::record::Record;
use super::run::no_cache;
use super::{Request, prepare, published_already};
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
    let ready = prepare(hall, request, &locking)?;
    let already = published_already(hall, request, &ready)
        .ok()
        .flatten()
        .map(|version| version.manifest.digest);
    let cache = hall.store.step_cache()?;
    let record = Record::open(&cache, &ready.recipe_path);
    let empty = Lock::default();
    let pins = locking.lock().unwrap_or(&empty);
    let mut chain = Some(vec![]);
    let mut steps = vec![];
    for index in 0..=ready.plan.nodes.len() {
        let node = index.checked_sub(1).map(|at| &ready.plan.nodes[at]);
        let ops = node.map_or(&[][..], |node| &node.ops);
        let (label, line, table) = match node {
            None => (&ready.plan.base, ready.plan.base_line, Some(ready.facts.base().clone())),
            Some(node) => (&node.label, node.line, ready.facts.step(index, pins)),
        };
        let outcome = match (table, &mut chain) {
            _ if no_cache(&request.no_cache, index, label) => Outcome::Runs(Why::Asked, None),
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
        steps.push(Step { index, label: label.clone(), line, outcome });
    }
    Ok(Explained { image: ready.plan.image.clone(), already, steps })
}
