//! `bake build`, `bake lock`, `bake shell`: the commands that run steps.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::json;

use super::args::recipe::{BuildArgs, LockArgs, OnFailure, ShellArgs};
use super::ctx::Ctx;
use super::recipes::{one_recipe, recipes};
use super::request::{
    absolute, failed, failed_one, inputs, network, no_cache, read, requests, source_date_epoch,
    tools_from, warn,
};
use super::secret::secrets;
use super::{channel, edge, push};
use crate::delivery::Delivered;
use crate::engine::{self, Baked, LockMode, Request};
use crate::image::{Reference, RemoteName};
use crate::inputs::Looked;
use crate::inspect;
use crate::job::JobContext;
use crate::recipe::Inputs;
use crate::sandbox;
use crate::store::Store;
use crate::ui::report::Report;
use crate::ui::text::{clean, size, took};

/// `bake build`.
pub(super) fn build(ctx: &Ctx<'_>, args: &BuildArgs) -> Result<u8, Report> {
    let mode = match (args.locked, args.update) {
        (true, _) => LockMode::Locked,
        (_, true) => LockMode::Update,
        _ => LockMode::Obey,
    };
    let shell_on_failure = args.on_failure == OnFailure::Shell;
    if shell_on_failure {
        need_terminal(ctx, "--on-failure=shell")?;
    }
    // A mistake in it should not cost the time of a build.
    let push_to = args.push.as_deref().map(push::target).transpose()?;
    let outputs = args.outputs.clone();
    let inputs = Inputs { outputs, ..inputs(ctx, &args.recipe.inputs)? };
    let epoch = source_date_epoch()?;
    let network = network(&args.mirror)?;
    let recipes = recipes(ctx, &args.recipe.recipes)?;
    let request = Request {
        inputs,
        lock: mode,
        epoch,
        network,
        secrets: secrets(&args.secrets)?,
        no_cache: no_cache(&args.cache),
        paranoid: args.paranoid,
        no_test: args.no_test,
        shell_on_failure,
        tools: tools_from(args.tools),
        ..Request::default()
    };
    // All recipes are read before the first is baked: a mistake in the third should not cost the
    // time of two builds.
    let requests = read(ctx, &requests(&recipes, &request))?;
    let looked = || requests.iter().filter_map(|one| one.checked.as_ref());
    let image = |one: &Looked| (one.recipe.image.name.clone(), one.recipe.image.version.clone());
    if push_to.is_some() && looked().map(image).collect::<BTreeSet<_>>().len() != 1 {
        let hint = "build it by itself, or push each with `bake push`";
        return Err(edge::usage("--push is for one image, and there are several", hint));
    }
    let mut pushes: Vec<(Reference, RemoteName)> = vec![];
    let mut printed = vec![];
    for looked in looked() {
        warn(ctx, &mut printed, &looked.recipe.warnings);
        let image = &looked.recipe.image;
        let to = looked.recipe.pushes.iter().chain(&push_to).cloned();
        if let Ok(version) = Reference::new(&image.name, &image.version) {
            for to in to.map(|to| (version.clone(), to)) {
                if !pushes.contains(&to) {
                    pushes.push(to);
                }
            }
        }
    }
    // A terminal can be lent to one at a time.
    let jobs = if shell_on_failure { Some(1) } else { args.jobs };
    let jobs = jobs
        .map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    ctx.with_job_context(|job| {
        let baked = engine::bake(job, &requests, jobs).map_err(|bad| failed_one(ctx, &bad))?;
        for one in &baked {
            channel::warn_of(ctx, job.store, &one.image, &one.digest)?;
        }
        baked.iter().for_each(|one| result(ctx, one));
        baked.iter().flat_map(|one| &one.outputs).for_each(|one| delivered(ctx, one));
        baked.iter().for_each(|one| summary(ctx, job.store, one));
        pushes.iter().try_for_each(|(image, to)| push_baked(ctx, job, image, to, args))
    })
}

/// Pushes what was baked. That it is published does not depend on it.
fn push_baked(
    ctx: &Ctx<'_>,
    job: &JobContext<'_>,
    image: &Reference,
    to: &RemoteName,
    args: &BuildArgs,
) -> Result<(), Report> {
    let cache = job.store.step_cache().ok();
    let way = push::Way {
        cache: cache.as_ref(),
        args: &args.mirror.registry,
        move_tag: args.move_tag,
        untested: false,
        cancel: job.cancel,
        sink: job.sink,
    };
    let version = job.store.resolve(image).map_err(|error| edge::store(&error))?;
    push::send(ctx, job.store, &version, to, &way).map_err(|mut report| {
        let again = format!("{image} is published here: push it with `bake push {image} {to}`");
        report.hints.push(again);
        report
    })
}

fn result(ctx: &Ctx<'_>, baked: &Baked) {
    if ctx.ui.json() {
        let seconds = (baked.took.as_secs_f64() * 1000.0).round() / 1000.0;
        let Baked { name, version, digest, already, .. } = baked;
        ctx.ui.object(
            "baked",
            json!({ "name": name, "version": version, "digest": digest,
            "cached": already, "seconds": seconds }),
        );
    } else {
        ctx.ui.result(&format!("{} {}", baked.image, baked.digest));
    }
}

/// Says where an output is.
fn delivered(ctx: &Ctx<'_>, one: &Delivered) {
    let Delivered { format, path, bytes, digest, made, .. } = one;
    if ctx.ui.json() {
        ctx.ui.object(
            "output",
            json!({ "format": format.name(), "path": absolute(path), "bytes": bytes,
                "digest": digest, "cached": !made }),
        );
    } else {
        let (path, bytes) = (clean(&path.to_string_lossy()), size(*bytes));
        let how = if *made { "" } else { ", unchanged" };
        ctx.ui.say(&format!("{path}: {}, {bytes}{how}", format.name()));
    }
}

/// Says what it cost and what can be done with it.
fn summary(ctx: &Ctx<'_>, store: &Store, baked: &Baked) {
    if baked.already {
        return;
    }
    let details =
        baked.image.parse().ok().and_then(|image| inspect::show(store, &image, None).ok());
    // Removed meanwhile, by somebody else.
    let Some(details) = details else { return };
    let (bytes, time) = (size(details.size), took(baked.took));
    let config = &details.config;
    let command = if config.entrypoint.is_empty() && config.cmd.is_empty() {
        "bake show"
    } else {
        "bake run"
    };
    let image = clean(&baked.image);
    ctx.ui.say(&format!("{image}: {bytes} in {time}; next: {command} {image}"));
}

/// Refuses to open a shell for nobody.
fn need_terminal(ctx: &Ctx<'_>, what: &str) -> Result<(), Report> {
    if ctx.ui.json() {
        return Err(edge::usage(
            format!("--json and {what} both want stdout"),
            "leave one of them out",
        ));
    }
    if !sandbox::terminal::there() {
        let message = format!("{what} needs a terminal: standard input and output are not one");
        return Err(edge::usage(message, "run it by hand, not in a pipe or a job"));
    }
    Ok(())
}

/// `bake shell`.
pub(super) fn shell(ctx: &Ctx<'_>, args: &ShellArgs) -> Result<u8, Report> {
    need_terminal(ctx, "bake shell")?;
    let recipe = one_recipe(ctx, args.recipe.as_ref())?;
    let network = network(&args.mirror)?;
    let request = Request {
        recipe: recipe.clone(),
        inputs: inputs(ctx, &args.inputs)?,
        lock: if args.locked { LockMode::Locked } else { LockMode::Obey },
        epoch: source_date_epoch()?,
        network,
        secrets: secrets(&args.secrets)?,
        ..Request::default()
    };
    let mut all = read(ctx, &[request])?;
    let request = match (all.pop(), all.is_empty()) {
        (Some(one), true) => one,
        _ => {
            let message = format!("{} makes several images", clean(&recipe.to_string_lossy()));
            return Err(edge::usage(message, "say which with `--variant NAME=VALUE`"));
        }
    };
    // How the shell was left says nothing about the recipe.
    ctx.with_job_context(|job| {
        engine::shell(job, &request, args.at.as_deref())
            .map(drop)
            .map_err(|error| failed(ctx, &error, &recipe))
    })
}

/// `bake lock`.
pub(super) fn lock(ctx: &Ctx<'_>, args: &LockArgs) -> Result<u8, Report> {
    let mode = if args.update { LockMode::Update } else { LockMode::Obey };
    let inputs = inputs(ctx, &args.recipe.inputs)?;
    let epoch = source_date_epoch()?;
    let network = network(&args.mirror)?;
    let recipes = recipes(ctx, &args.recipe.recipes)?;
    let secrets = secrets(&args.secrets)?;
    let request = Request { inputs, lock: mode, epoch, network, secrets, ..Request::default() };
    ctx.with_job_context(|job| {
        for recipe in &recipes {
            let (mut path, mut changed) = (PathBuf::new(), false);
            for one in read(ctx, &requests(std::slice::from_ref(recipe), &request))? {
                let locked = engine::lock(job, &one);
                let locked = locked.map_err(|error| failed_one(ctx, &one.failed(error)))?;
                (path, changed) = (locked.0, changed | locked.1);
            }
            if ctx.ui.json() {
                ctx.ui.object(
                    "locked",
                    json!({ "recipe": absolute(recipe), "lock": absolute(&path),
                        "changed": changed }),
                );
            } else {
                ctx.ui.result(&clean(&path.to_string_lossy()));
                ctx.ui.say(if changed {
                    "the lock file is renewed"
                } else {
                    "the lock file is up to date"
                });
            }
        }
        Ok(())
    })
}
