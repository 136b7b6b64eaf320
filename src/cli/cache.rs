//! `bake cache`: the directories that steps keep between builds.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::json;

use super::args::cache::{CacheCommand, CacheExportArgs, CacheImportArgs, CacheRmArgs};
use super::ctx::Ctx;
use super::edge;
use crate::engine::error::Error as BuildError;
use crate::files::Aside;
use crate::image::rfc3339;
use crate::job;
use crate::store::{Kept, KeptName, Store};
use crate::ui::report::Report;
use crate::ui::table;
use crate::ui::text::{clean, size, to_the_second};

/// `bake cache`.
pub(super) fn cache(ctx: &Ctx<'_>, command: &CacheCommand) -> Result<u8, Report> {
    match command {
        CacheCommand::List => list(ctx),
        CacheCommand::Rm(args) => rm(ctx, args),
        CacheCommand::Export(args) => export(ctx, args),
        CacheCommand::Import(args) => import(ctx, args),
        CacheCommand::Limit(args) => limit(ctx, args.size),
    }
}

fn list(ctx: &Ctx<'_>) -> Result<u8, Report> {
    let store = ctx.store_to_read()?;
    let all = all(&store)?;
    if ctx.ui.json() {
        for kept in &all {
            ctx.ui.object("cache", json!(kept));
        }
        return Ok(edge::OK);
    }
    if all.is_empty() {
        ctx.ui.say(&format!("no caches in {}", clean(&store.dir().to_string_lossy())));
        return Ok(edge::OK);
    }
    let rows: Vec<_> = all.iter().map(row).collect();
    let heads = ["NAME", "USER", "PLATFORM", "USED", "FILES", "SIZE"];
    ctx.ui.raw(table::columns(&heads, &rows, &[4, 5]).as_bytes());
    let sum: u64 = all.iter().filter_map(|kept| kept.bytes).sum();
    ctx.ui.say(&format!("{} of at most {}", size(sum), size(store.kept_limit())));
    Ok(edge::OK)
}

fn row(kept: &Kept) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        called(&kept.name),
        kept.name.user.clone(),
        kept.name.platform.clone(),
        to_the_second(&rfc3339(i64::try_from(kept.used).unwrap_or(0))),
        or_dash(kept.entries.map(|entries| entries.to_string())),
        or_dash(kept.bytes.map(size)),
    ]
}

/// Returns what people call a cache: its name, and its number where each step has one of its own.
fn called(name: &KeptName) -> String {
    match name.instance {
        0 => name.name.clone(),
        number => format!("{}#{number}", name.name),
    }
}

fn all(store: &Store) -> Result<Vec<Kept>, Report> {
    store.kept().map_err(|error| edge::store(&error))
}

/// Returns the caches of these names; all, where none is given.
fn named(store: &Store, names: &[String]) -> Result<Vec<Kept>, Report> {
    let all = all(store)?;
    if names.is_empty() {
        return Ok(all);
    }
    let is = |kept: &Kept, name: &String| called(&kept.name) == *name || kept.id == *name;
    if let Some(name) = names.iter().find(|name| all.iter().all(|kept| !is(kept, name))) {
        let mut report = edge::missing(format!("there is no cache `{}`", clean(name)));
        report.hints.push("`bake cache list` lists them".to_owned());
        return Err(report);
    }
    Ok(all.into_iter().filter(|kept| names.iter().any(|name| is(kept, name))).collect())
}

fn failed(error: job::Error) -> Report {
    edge::build(&BuildError::Job(error), Path::new(""))
}

fn rm(ctx: &Ctx<'_>, args: &CacheRmArgs) -> Result<u8, Report> {
    ctx.with_job_context(|job| {
        let wanted = named(job.store, &args.names)?;
        let removed = job::remove_kept(job, wanted).map_err(failed)?;
        for kept in &removed.done {
            if ctx.ui.json() {
                ctx.ui.object("removed", json!(kept));
            } else {
                ctx.ui.say(&format!("removed {}", clean(&called(&kept.name))));
            }
        }
        in_use(&removed.in_use.into_iter().map(|kept| kept.name).collect::<Vec<_>>())
    })
}

/// Reports caches that stay what they were.
fn in_use(names: &[KeptName]) -> Result<(), Report> {
    if names.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = names.iter().map(|name| clean(&called(name))).collect();
    Err(edge::busy(format!("a step uses {}", names.join(", "))))
}

fn export(ctx: &Ctx<'_>, args: &CacheExportArgs) -> Result<u8, Report> {
    ctx.with_job_context(|job| {
        let kept = named(job.store, &args.names)?;
        let path = &args.output;
        if path.as_os_str() == "-" {
            let mut out = BufWriter::new(io::stdout().lock());
            job::export_kept(job, &kept, &mut out).map_err(failed)?;
            return out.flush().map_err(|source| unwritten(path, source));
        }
        let directory = crate::files::parent(path);
        let wrong = |error: crate::files::Error| edge::file(&error);
        let mut out = Aside::new(directory).map_err(wrong)?;
        let caches = job::export_kept(job, &kept, &mut out).map_err(failed)?;
        out.keep(path, 0o644).map_err(wrong)?;
        if ctx.ui.json() {
            ctx.ui.object("exported", json!({ "path": path, "caches": caches }));
        } else {
            let many = if caches == 1 { "cache" } else { "caches" };
            ctx.ui.say(&format!("wrote {caches} {many} into {}", clean(&path.to_string_lossy())));
        }
        Ok(())
    })
}

fn unwritten(path: &Path, source: io::Error) -> Report {
    failed(job::Error::File { verb: "write", path: path.to_owned(), source })
}

fn import(ctx: &Ctx<'_>, args: &CacheImportArgs) -> Result<u8, Report> {
    ctx.with_job_context(|job| {
        let path = &args.file;
        let wrong = |source| failed(job::Error::File { verb: "read", path: path.clone(), source });
        let file = match path.as_os_str() == "-" {
            true => {
                use std::os::fd::AsFd;
                File::from(io::stdin().as_fd().try_clone_to_owned().map_err(wrong)?)
            }
            false => File::open(path).map_err(wrong)?,
        };
        let imported = job::import_kept(job, file).map_err(failed)?;
        for name in &imported.done {
            if ctx.ui.json() {
                ctx.ui.object("imported", json!(name));
            } else {
                ctx.ui.say(&format!("imported {}", clean(&called(name))));
            }
        }
        in_use(&imported.in_use)
    })
}

fn limit(ctx: &Ctx<'_>, wanted: Option<u64>) -> Result<u8, Report> {
    let store = match wanted {
        Some(_) => ctx.store()?,
        None => ctx.store_to_read()?,
    };
    if let Some(bytes) = wanted {
        store.set_kept_limit(bytes).map_err(|error| edge::store(&error))?;
    }
    let bytes = store.kept_limit();
    if ctx.ui.json() {
        ctx.ui.object("limit", json!({ "bytes": bytes }));
    } else {
        ctx.ui.result(&size(bytes));
    }
    Ok(edge::OK)
}
