//! `bake build`, `bake lock`, `bake doctor`: the commands that run things.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{BuildArgs, CacheArgs, InputArgs, LockArgs, OnFailure, ShellArgs};
use super::{Ctx, channel, edge};
use crate::engine::error::Error;
use crate::engine::{self, Baked, Hall, LockMode, Looked, NoCache, Request};
use crate::image::Platform;
use crate::recipe::Inputs;
use crate::sandbox::{self, Cancel};
use crate::threads;
use crate::ui::report::Report;
use crate::ui::text::{Style, clean, paint};

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
    let inputs = inputs(ctx, &args.recipe.inputs)?;
    let epoch = source_date_epoch()?;
    // All recipes are read before the first is baked: a mistake in the third should not cost the
    // time of two builds.
    let mut checked = vec![];
    for recipe in &args.recipe.recipes {
        let read = engine::look_over(recipe, &inputs).map_err(|error| told(ctx, &error, recipe))?;
        ctx.ui.diagnostics(&read.recipe.warnings);
        checked.push((recipe, read));
    }
    let request = Request {
        inputs,
        lock: mode,
        epoch,
        mirror: args.mirror.debian_mirror.clone(),
        network_timeout: args.mirror.network_timeout,
        no_cache: no_cache(&args.cache),
        paranoid: args.paranoid,
        no_test: args.no_test,
        shell_on_failure,
        ..Request::default()
    };
    let one = |(recipe, read): (&PathBuf, Looked)| Request {
        recipe: recipe.clone(),
        checked: Some(read),
        ..request.clone()
    };
    let requests: Vec<Request> = checked.into_iter().map(one).collect();
    // A terminal can be lent to one at a time.
    let jobs = if shell_on_failure { Some(1) } else { args.jobs };
    let jobs = jobs
        .map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    in_hall(ctx, |hall| {
        let baked = engine::bake(hall, &requests, jobs)
            .map_err(|failed| told(ctx, &failed.error, &failed.recipe))?;
        for one in &baked {
            channel::warn_of(ctx, hall.store, &one.image, &one.digest)?;
        }
        baked.iter().for_each(|one| result(ctx, one));
        Ok(())
    })
}

/// Returns which steps are to run although they are cached.
pub(super) fn no_cache(args: &CacheArgs) -> NoCache {
    match args.no_cache.as_slice() {
        [] => NoCache::No,
        steps if steps.iter().any(String::is_empty) => NoCache::All,
        steps => NoCache::Steps(steps.to_vec()),
    }
}

/// Opens the store, looks at the host, and does `work` with both.
pub(super) fn in_hall(
    ctx: &Ctx<'_>,
    work: impl Fn(&Hall<'_>) -> Result<(), Report>,
) -> Result<u8, Report> {
    let cancel = cancel()?;
    let store = ctx.store()?;
    let host = engine::Host::default();
    let sink = ctx.ui.sink();
    work(&Hall { store: &store, host: &host, cancel: &cancel, sink: &sink })?;
    Ok(edge::OK)
}

fn result(ctx: &Ctx<'_>, baked: &Baked) {
    if ctx.ui.json() {
        let seconds = (baked.took.as_secs_f64() * 1000.0).round() / 1000.0;
        let Baked { name, version, digest, already, .. } = baked;
        ctx.ui.object("baked", json!({ "name": name, "version": version, "digest": digest, "cached": already, "seconds": seconds }));
    } else {
        ctx.ui.result(&format!("{} {}", baked.image, baked.digest));
    }
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
    let request = Request {
        recipe: args.recipe.clone(),
        inputs: inputs(ctx, &args.inputs)?,
        lock: if args.locked { LockMode::Locked } else { LockMode::Obey },
        epoch: source_date_epoch()?,
        mirror: args.mirror.debian_mirror.clone(),
        ..Request::default()
    };
    // How the shell was left says nothing about the recipe.
    in_hall(ctx, |hall| {
        engine::shell(hall, &request, args.at.as_deref())
            .map(drop)
            .map_err(|error| told(ctx, &error, &args.recipe))
    })
}

/// `bake lock`.
pub(super) fn lock(ctx: &Ctx<'_>, args: &LockArgs) -> Result<u8, Report> {
    let mode = if args.update { LockMode::Update } else { LockMode::Obey };
    let inputs = inputs(ctx, &args.recipe.inputs)?;
    let epoch = source_date_epoch()?;
    let mirror = args.mirror.debian_mirror.clone();
    let request = Request {
        inputs,
        lock: mode,
        epoch,
        mirror,
        network_timeout: args.mirror.network_timeout,
        ..Request::default()
    };
    in_hall(ctx, |hall| {
        for recipe in &args.recipe.recipes {
            let request = Request { recipe: recipe.clone(), ..request.clone() };
            let (path, changed) =
                engine::lock(hall, &request).map_err(|error| told(ctx, &error, recipe))?;
            if ctx.ui.json() {
                ctx.ui.object(
                    "locked",
                    json!({ "recipe": recipe, "lock": path, "changed": changed }),
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

/// `bake doctor`.
pub(super) fn doctor(ctx: &Ctx<'_>) -> Result<u8, Report> {
    let found = sandbox::doctor(None);
    let good = found.iter().all(|one| one.ok);
    for one in &found {
        if ctx.ui.json() {
            ctx.ui.object("finding", json!(one));
            continue;
        }
        let mark = if one.ok {
            paint("ok  ", Style::Good, ctx.ui.color())
        } else {
            paint("FAIL", Style::Bad, ctx.ui.color())
        };
        ctx.ui.result(&format!("{mark} {}: {}", one.name, one.detail));
        if let Some(hint) = &one.hint {
            ctx.ui.result(&format!("       hint: {hint}"));
        }
    }
    let dir = ctx.store_dir()?;
    if ctx.ui.json() {
        ctx.ui.object("doctor", json!({ "ok": good, "store": dir }));
    } else {
        ctx.ui.result(&format!("store: {}", clean(&dir.to_string_lossy())));
        ctx.ui.result(if good { "bake can build here" } else { "bake cannot build here" });
    }
    Ok(if good { edge::OK } else { edge::HOST })
}

/// Shows a recipe's mistakes, and returns the report of any error.
pub(super) fn told(ctx: &Ctx<'_>, error: &Error, recipe: &Path) -> Report {
    if let Error::Recipe(found) = error {
        ctx.ui.diagnostics(found);
    }
    edge::build(error, recipe)
}

/// Returns what recipes are read with, from the arguments and the environment.
pub(super) fn inputs(ctx: &Ctx<'_>, args: &InputArgs) -> Result<Inputs, Report> {
    let mut vars_files = vec![];
    for path in &args.vars_files {
        vars_files
            .push((path.clone(), engine::text(path).map_err(|error| told(ctx, &error, path))?));
    }
    let mut env_vars = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        if let (Some(name), Some(value)) =
            (name.to_str().and_then(|name| name.strip_prefix("BAKE_VAR_")), value.to_str())
        {
            env_vars.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(Inputs {
        file: Default::default(),
        version: args.set_version.clone(),
        vars: args.vars.clone(),
        vars_files,
        env_vars,
        arch: Platform::host().architecture,
        epoch: 0,
    })
}

pub(super) fn source_date_epoch() -> Result<Option<i64>, Report> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match text
        .to_str()
        .and_then(|text| text.parse::<i64>().ok())
        .filter(|epoch| (0..=253_402_300_799).contains(epoch))
    {
        Some(epoch) => Ok(Some(epoch)),
        None => Err(edge::usage(
            format!(
                "SOURCE_DATE_EPOCH is {:?}, not a number of seconds since 1970",
                text.to_string_lossy()
            ),
            "unset it, or set it to the output of `git log -1 --pretty=%ct`",
        )),
    }
}

/// Ends the build on Ctrl-C, SIGTERM and SIGHUP; a second Ctrl-C ends the process as it would
/// without us.
pub(super) fn cancel() -> Result<Cancel, Report> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let cancel = Cancel::new().map_err(|error| edge::sandbox(&error))?;
    let fail = |error: std::io::Error| edge::report("host", edge::FAILED, &error);
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(fail)?;
    let handle = cancel.clone();
    threads::free(move || {
        let mut before = false;
        for signal in signals.forever() {
            if before {
                // Asked twice: go now. Nothing is published by a process that dies, whatever it was
                // doing.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
            before = true;
            handle.fire();
        }
    })
    .map_err(fail)?;
    Ok(cancel)
}
