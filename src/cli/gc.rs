//! `bake gc`.

use serde_json::json;

use super::args::image::GcArgs;
use super::ctx::Ctx;
use super::edge;
use crate::engine;
use crate::engine::error::Error as BuildError;
use crate::event::Event;
use crate::job::{self, Host, JobContext};
use crate::sandbox::Cancel;
use crate::store::{self, Amount, Garbage, Kind, Rules, Store};
use crate::ui::report::Report;
use crate::ui::table;
use crate::ui::text::{clean, size};

/// `bake gc`.
pub(super) fn gc(ctx: &Ctx<'_>, args: &GcArgs) -> Result<u8, Report> {
    let rules = Rules {
        keep: args.keep,
        older_than: args.older_than,
        cache_older_than: args.cache_older_than,
        ..Rules::default()
    };
    let store = if args.dry_run { ctx.store_to_read()? } else { ctx.store()? };
    let plan = store.garbage(&rules).map_err(|error| edge::store(&error))?;
    let (garbage, failed) = if args.dry_run || plan.amounts.is_empty() {
        (plan, None)
    } else {
        collect(ctx, &store, &rules, &plan)?
    };
    show(ctx, &garbage);
    let freed = garbage.bytes();
    if ctx.ui.json() {
        ctx.ui.object("collected", json!({ "dry_run": args.dry_run, "bytes": freed }));
    } else if args.dry_run && !garbage.amounts.is_empty() {
        ctx.ui.say(&format!("nothing was removed; `bake gc` would free {}", size(freed)));
    } else if garbage.amounts.is_empty() {
        ctx.ui.say("nothing to free");
    } else {
        ctx.ui.say(&format!("freed {}", size(freed)));
    }
    failed.map_or(Ok(edge::OK), Err)
}

/// Removes what is in `plan` as far as it still is garbage; returns what went, and why not all of
/// it did.
fn collect(
    ctx: &Ctx<'_>,
    store: &Store,
    rules: &Rules,
    plan: &Garbage,
) -> Result<(Garbage, Option<Report>), Report> {
    let scratch = plan.amounts.iter().find(|amount| amount.kind == Kind::Scratch);
    let in_namespace = |one: &Amount| matches!(one.kind, Kind::Scratch | Kind::Layers);
    let host = Host::default();
    let mut swept = None;
    let done = match host.get() {
        Ok(_) => {
            let cancel = Cancel::new().map_err(|error| edge::sandbox(&error))?;
            let sink = ctx.ui.sink();
            let job = JobContext { store, host: &host, cancel: &cancel, sink: &sink };
            let done = engine::collect(&job, rules);
            swept = scratch.filter(|_| done.is_ok()).cloned();
            done
        }
        Err(error) => {
            if plan.amounts.iter().any(in_namespace) {
                let message =
                    format!("unpacked layers and the scratch of dead builds stay: {error}");
                (ctx.ui.sink())(Event::Warning {
                    message,
                    hint: Some("see `bake doctor`".to_owned()),
                });
            }
            store.collect(rules, None).map_err(BuildError::from)
        }
    };
    let (mut removed, failed) = match done {
        Ok(removed) => (removed, None),
        Err(BuildError::Job(job::Error::Store(store::Error::Collect { removed, source }))) => {
            (*removed, Some(edge::store(&source)))
        }
        Err(error) => return Err(edge::build(&error, std::path::Path::new(""))),
    };
    removed.amounts.extend(swept);
    removed.amounts.sort_by_key(|amount| amount.kind);
    Ok((removed, failed))
}

fn show(ctx: &Ctx<'_>, plan: &Garbage) {
    if ctx.ui.json() {
        for version in &plan.versions {
            let (name, number) = (&version.reference.name, &version.reference.version);
            ctx.ui.object(
                "expired",
                json!({ "name": name, "version": number, "digest": version.manifest.digest }),
            );
        }
        for amount in &plan.amounts {
            ctx.ui.object("garbage", json!(amount));
        }
    } else if !plan.amounts.is_empty() {
        for version in &plan.versions {
            ctx.ui.result(&clean(&version.reference.to_string()));
        }
        let mut rows: Vec<_> = plan
            .amounts
            .iter()
            .map(|amount| {
                vec![amount.kind.name().to_owned(), amount.count.to_string(), size(amount.bytes)]
            })
            .collect();
        rows.push(vec!["total".to_owned(), String::new(), size(plan.bytes())]);
        ctx.ui.raw(table::columns(&["WHAT", "COUNT", "FREES"], &rows, &[1, 2]).as_bytes());
    }
    for note in &plan.notes {
        (ctx.ui.sink())(Event::Note { message: note.clone() });
    }
}
