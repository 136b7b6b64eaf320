//! `bake explain`: which steps a build would take from the cache, and why it would run the others.
//! Runs nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::delivery::{self, Planned, State};
use crate::digest::Digest;
use crate::engine::error::{Error, Failed};
use crate::engine::{
    Locking, Request, Roots, artifact, find_toolbox, known_steps, no_cache, order, prepare,
    published_already,
};
use crate::executor::{Record, Root, Start, known};
use crate::job::JobContext;
use crate::plan::explained::{Explained, Outcome, Step};
use crate::plan::graph;
use crate::plan::lock::Lock;
use crate::plan::why::{StandsOn, Why};
use crate::recipe::BaseKind;
use crate::store::{Found, StepCache, Version};
use crate::toolbox::FILE_SYSTEMS;

/// Layers by content, the lowest first; none: it is not known yet which they will be.
type Chain = Option<Vec<Digest>>;

/// What a build would do about a recipe, and about its outputs: what is at their places, unless the
/// image is not published.
pub type Answer = (Explained, Vec<(Planned, Option<State>)>);

/// Explains what [`bake`](crate::engine::bake) would do with these recipes and those that they
/// stand on, each behind what it stands on.
///
/// # Errors
/// What is wrong with a recipe, its base or its lock file.
pub fn explain(job: &JobContext<'_>, requests: &[Request]) -> Result<Vec<Answer>, Failed> {
    let ordered = order(requests)?;
    let mut all: Vec<(Explained, Roots, Chain)> = vec![];
    let mut outputs = vec![];
    for one in &ordered {
        let request = &one.request;
        let mut explained = || -> Result<_, Error> {
            let locking = Locking::open(request)?;
            let below = |(path, at): (&'_ PathBuf, &usize)| (path.clone(), &all[*at]);
            let bases: BTreeMap<PathBuf, &(Explained, Roots, Chain)> =
                one.bases.iter().map(below).collect();
            let below = bases.iter().map(|(path, (_, roots, _))| (path.as_path(), roots)).collect();
            let roots = prepare(job, request, &locking, &below)?;
            let image = roots.called();
            let already = published_already(job, request, &roots, one.wanted).ok().flatten();
            let cache = job.store.step_cache()?;
            let recipes =
                bases.iter().map(|(path, (.., chain))| (path.clone(), chain.clone())).collect();
            let stages = BTreeMap::new();
            let mut look = Look { cache, request, locking: &locking, recipes, stages };
            let (mut steps, mut chain) = (vec![], None);
            for ready in &roots.0 {
                let (of_root, gives) = look.root(ready)?;
                steps.extend(of_root);
                match &ready.stage {
                    Some(stage) => drop(look.stages.insert(stage.clone(), gives)),
                    None => chain = gives,
                }
            }
            let platform = &roots.main().platform;
            if let Some(version) = &already {
                chain = artifact(job.store, version, platform).ok().map(|image| image.chain());
            }
            outputs.push(match one.wanted {
                true => states(job, &roots, already.as_ref())?,
                false => vec![],
            });
            let (recipe, already) =
                (request.recipe.clone(), already.map(|one| one.manifest.digest));
            let image_of = |path: &Path| bases.get(path).map(|(below, ..)| below.image.clone());
            let nodes = graph::draw(&roots.main().recipe, &image_of);
            Ok((
                Explained { recipe, asked: one.wanted, image, already, steps, nodes },
                roots,
                chain,
            ))
        };
        all.push(explained().map_err(|error| request.failed(error))?);
    }
    known_steps(ordered.iter().zip(&all).map(|(one, (_, roots, _))| (&one.request, roots)))?;
    Ok(all.into_iter().map(|(explained, ..)| explained).zip(outputs).collect())
}

/// Looks at the places of all outputs.
fn states(
    job: &JobContext<'_>,
    roots: &Roots,
    published: Option<&Version>,
) -> Result<Vec<(Planned, Option<State>)>, Error> {
    let Root { recipe, recipe_path, platform, .. } = roots.main();
    let toolbox = find_toolbox(job, &FILE_SYSTEMS)?.map(|version| version.manifest.digest);
    let part = published.map(|whole| job.store.part(whole, platform)).transpose()?.flatten();
    let one = |output: Planned| {
        let version = if output.format.holds_all() { published } else { part.as_ref() };
        let state = version.map(|version| delivery::state(job.store, &output, version, toolbox));
        Ok((output, state.transpose()?))
    };
    delivery::plan(recipe, recipe_path).into_iter().map(one).collect()
}

/// What the roots of one recipe are looked up with.
struct Look<'a> {
    cache: StepCache,
    request: &'a Request,
    locking: &'a Locking,
    /// What the recipes that it stands on give.
    recipes: BTreeMap<PathBuf, Chain>,
    /// What the stages looked at so far give.
    stages: BTreeMap<String, Chain>,
}

impl Look<'_> {
    /// Explains one root, and returns what it gives.
    fn root(&self, ready: &Root) -> Result<(Vec<Step>, Chain), Error> {
        let stage = ready.stage.as_deref();
        let record = Record::open(&self.cache, self.request.record(), stage);
        let empty = Lock::default();
        let pins = self.locking.lock().unwrap_or(&empty);
        let mut chain = match &ready.start {
            Start::Made(_) => Some(vec![]),
            Start::Stage { name, .. } => self.stages.get(name).cloned().flatten(),
            Start::Image(image) => match &ready.recipe.base.kind {
                BaseKind::Recipe(path) => self.recipes.get(path).cloned().flatten(),
                _ => Some(image.layers.iter().map(|(blob, _)| blob.diff_id).collect()),
            },
        };
        let made = matches!(ready.start, Start::Made(_));
        let name = &ready.plan.base;
        let layers = chain.as_ref().filter(|_| !made).map(Vec::len);
        let base = layers.map(|layers| StandsOn { name, layers });
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
                Some(_) => ready.facts.step(index, pins, self.named(ready, index).as_deref()),
            };
            let why = |table| record.why(index, table, &self.cache, ops, &ready.context, base);
            let outcome = match (table, &mut chain) {
                _ if index == 0 && !made => match &chain {
                    Some(_) => Outcome::Cached(None, 0.0),
                    None => Outcome::Depends,
                },
                _ if no_cache(&self.request.no_cache, stage, index, label) => {
                    Outcome::Runs(Why::Asked, None)
                }
                // What it gets of a stage is known when that has run.
                (None, _) if ready.facts.waits(index) => Outcome::Depends,
                (None, _) => Outcome::Runs(Why::Unpinned, None),
                (Some(table), None) => match why(&table) {
                    (Why::Gone, _) => Outcome::Depends,
                    (why, since) => Outcome::Runs(why, since),
                },
                (Some(table), Some(below)) => {
                    let table = table.above(below);
                    match self.cache.look(&table.key())? {
                        Found::Hit(entry) => {
                            below.extend(entry.layer.map(|layer| layer.diff_id));
                            Outcome::Cached(entry.layer.map(|layer| layer.digest), entry.seconds)
                        }
                        Found::Damaged(what) => Outcome::Runs(Why::Damaged(what), None),
                        Found::Miss => {
                            let (why, since) = why(&table);
                            Outcome::Runs(why, since)
                        }
                    }
                }
            };
            if !matches!(outcome, Outcome::Cached(..)) {
                chain = None;
            }
            let (label, stage) = (label.clone(), ready.stage.clone());
            let part = ready.part(index);
            steps.push(Step { stage, index, label, line, part, outcome });
        }
        if let (None, Some(layers)) = (stage, &mut chain) {
            // The files that say what the image is are its last layer.
            let table = ready.facts.identity().clone().above(layers);
            match self.cache.look(&table.key())? {
                Found::Hit(entry) => layers.extend(entry.layer.map(|layer| layer.diff_id)),
                _ => chain = None,
            }
        }
        Ok((steps, chain))
    }

    /// Names what step `index` gets of stages, where that is known without running anything.
    fn named(&self, ready: &Root, index: usize) -> Option<Vec<(String, Digest)>> {
        let mut out = vec![];
        for one in ready.facts.wanted(index).iter().flatten() {
            let Some(stage) = &one.stage else { continue };
            let chain = self.stages.get(stage)?.as_ref()?;
            let known = || known(&self.cache, &one.record(chain, ready.epoch));
            let digest = one.by_layers(chain).or_else(known)?;
            out.push((one.name.clone(), digest));
        }
        Some(out)
    }
}
