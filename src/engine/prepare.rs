//! From a recipe to its roots: read, pinned and planned, so that everything is known before
//! anything runs.

use std::path::Path;
use std::sync::Arc;

use super::error::Error;
use super::find::From;
use super::locking::Locking;
use super::request::Request;
use super::roots::{Below, Roots};
use crate::archive::{Options, Source};
use crate::digest::Digest;
use crate::event::{Event, Sink, chain};
use crate::executor::{Root, Start, StepFailure};
use crate::inputs;
use crate::job::{self, JobContext};
use crate::plan::config::Skeleton;
use crate::plan::lock::Lock;
use crate::plan::{self, Plan};
use crate::recipe::Recipe;
use crate::trial::{self, Tests};

/// Reads, pins and plans a recipe. `below`: what it may stand on.
pub(crate) fn prepare(
    job: &JobContext<'_>,
    request: &Request,
    locking: &Locking,
    below: &Below<'_>,
) -> Result<Roots, Error> {
    let platform = request.platform();
    let mut with = request.inputs.clone();
    let looked =
        request.checked.clone().map_or_else(|| inputs::look_over(&request.recipe, &with), Ok)?;
    let (mut recipe, text) = (looked.recipe, looked.text);
    with.workspace = looked.workspace;
    with.parts = Some(looked.parts);
    let directory = request.recipe.parent().unwrap_or(Path::new(""));
    let context_dir = directory.join(&recipe.image.context);
    let store = inputs::below(job.store.dir(), &context_dir)
        .map(|path| (path, "bake itself: it is the store".to_owned()));
    let context = looked
        .context
        .for_build(store, job.store.cache("stat")?)
        .map_err(|source| Error::Context { recipe: request.recipe.clone(), source })?;
    let context = Arc::new(context);
    let source = Arc::new(source(job, request, locking, looked.mirror)?);
    let from = From {
        job,
        source: &source,
        request,
        locking,
        context: &context_dir,
        platform: &platform,
        below,
    };
    let start = from.start(&recipe, None, &[])?;
    let date = start.date();
    let epoch: i64 = request
        .epoch
        .or(recipe.image.epoch)
        .or(locking.epoch().filter(|_| date.is_some()))
        .or(date)
        .unwrap_or(0);
    if epoch > jiff::Timestamp::now().as_second() {
        // Only times after the epoch are set to it: with none after it, what is written now keeps
        // the time it was written.
        let message = format!(
            "the epoch {epoch} is in the future: two builds may differ in the times of their files"
        );
        (job.sink)(Event::Warning {
            message,
            hint: Some("set SOURCE_DATE_EPOCH or `[image] epoch` to a time in the past".to_owned()),
        });
    }
    if recipe.uses_epoch {
        with.epoch = epoch;
        recipe = inputs::parse(&text, &request.recipe, &with)?;
    }
    let nothing = Lock::default();
    let lock = locking.lock().unwrap_or(&nothing);
    let mut roots: Vec<Root> = vec![];
    let mut keys: Vec<(String, Digest)> = vec![];
    let mut start = Some(start);
    let stages = recipe.stages.iter().map(|stage| {
        Some((
            stage.name.clone(),
            Recipe {
                base: stage.base.clone(),
                steps: stage.steps.clone(),
                stages: vec![],
                tests: vec![],
                ..recipe.clone()
            },
        ))
    });
    let all: Vec<_> = stages.chain([None]).collect();
    for stage in all {
        let (stage, recipe) = match stage {
            Some((name, recipe)) => (Some(name), recipe),
            None => (None, recipe.clone()),
        };
        let start = match &stage {
            Some(stage) => from.start(&recipe, Some(stage), &keys)?,
            None => match start.take().expect("the image comes once, and last") {
                Start::Stage { .. } => from.start(&recipe, None, &keys)?,
                start => start,
            },
        };
        let plan = plan::draw(&recipe);
        let path = &request.recipe;
        let below = match &start {
            Start::Image(image) => Some(&image.config),
            _ => None,
        };
        let skeleton = Skeleton::draw(&recipe, &plan, epoch, &platform, below);
        let base = start.inputs(epoch);
        let facts = inputs::gather(&inputs::Sources {
            recipe: &recipe,
            plan: &plan,
            base: &base,
            context: &context,
            lock,
            epoch,
            platform: &platform,
            skeleton: stage.is_none().then_some(&skeleton),
            stages: &keys,
            stage: stage.as_deref(),
        })
        .map_err(|error| unreadable(request, &plan, error))?;
        let tests = match &stage {
            Some(_) => Tests::default(),
            None => Tests::of_recipe(&recipe, |file, most| context.read(file, most))
                .map_err(|found| trial::unreadable(&request.recipe, found))?,
        };
        keys.extend(stage.clone().map(|stage| (stage, facts.key)));
        roots.push(Root {
            recipe_path: path.clone(),
            context: Arc::clone(&context),
            context_dir: context_dir.clone(),
            source: Arc::clone(&source),
            trust: Arc::clone(&request.network.trust),
            environment: base.environment,
            pins: start.pins(stage.as_deref()),
            stage,
            recipe,
            start,
            plan,
            epoch,
            facts,
            skeleton,
            platform: platform.clone(),
            tests,
        });
    }
    let roots = Roots(roots);
    locking.must_do(&roots.missing(), &roots.needed(lock))?;
    for test in &recipe.tests_off {
        (job.sink)(Event::Note {
            message: format!("the test on line {} is off by its `when`: {}", test.line, test.label),
        });
    }
    Ok(roots)
}

/// Returns the error of a step whose inputs cannot be used.
fn unreadable(request: &Request, plan: &Plan, error: inputs::StepError) -> Error {
    let node = &plan.nodes[error.index - 1];
    let mut why = error.why;
    let first = why.remove(0);
    Error::Step {
        place: format!("step {} of {}", error.index, plan.nodes.len()),
        label: node.label.clone(),
        recipe: request.recipe.clone(),
        line: node.line,
        part: node.part_file(),
        why: StepFailure::prepared(first, why),
        tail: vec![],
        log: None,
    }
}

/// Makes the downloader of one build, with its cache in the store. `mirror`: the workspace's.
fn source(
    job: &JobContext<'_>,
    request: &Request,
    locking: &Locking,
    mirror: Option<String>,
) -> Result<Source, Error> {
    let network = &request.network;
    let mut options = Options {
        mirror: network.mirror.clone().or(mirror),
        authorities: network.authorities.clone(),
        expired: network.allow_expired,
        not_before: locking.newest(),
        ..Options::default()
    };
    options.limits.stall = network.timeout.unwrap_or(options.limits.stall);
    let cancel = job.cancel.clone();
    let stop = Arc::new(move || cancel.fired());
    let cache = job.store.cache("packages")?;
    let source = Source::new(&cache, options, Sink::clone(job.sink), stop);
    source.map_err(|error| {
        let (what, why) = (format!("use the package cache {}", cache.display()), chain(&error));
        job::Error::Failed { what, why: why.join(": ") }.into()
    })
}
