//! `bake doctor`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::ctx::Ctx;
use super::edge;
use super::request::absolute;
use crate::event::chain;
use crate::files::Aside;
use crate::sandbox::{self, Finding};
use crate::store::Store;
use crate::ui::report::Report;
use crate::ui::text::{Style, clean, paint};

/// `bake doctor`.
pub(super) fn doctor(ctx: &Ctx<'_>) -> Result<u8, Report> {
    let dir = ctx.store_dir()?;
    let work = ctx.work_dir();
    let mut found = sandbox::doctor(None, Some(nearest(work.as_deref().unwrap_or(&dir))));
    let host = found.iter().all(|one| one.ok);
    let store = store(&dir);
    let good = host && store.ok;
    found.push(store);
    for one in &found {
        if ctx.ui.json() {
            ctx.ui.object("finding", json!(one));
            continue;
        }
        if one.ok && ctx.ui.quiet() {
            continue;
        }
        let mark = if one.ok {
            paint("ok  ", Style::Good, ctx.ui.color())
        } else {
            paint("FAIL", Style::Bad, ctx.ui.color())
        };
        ctx.ui.result(&format!("{mark} {}: {}", one.name, clean(&one.detail)));
        if let Some(hint) = &one.hint {
            ctx.ui.result(&format!("       hint: {hint}"));
        }
    }
    if ctx.ui.json() {
        ctx.ui.object("doctor", json!({ "ok": good, "store": absolute(&dir) }));
    } else if !(good && ctx.ui.quiet()) {
        ctx.ui.result(if good { "bake can build here" } else { "bake cannot build here" });
    }
    Ok(match (host, good) {
        (_, true) => edge::OK,
        (false, _) => edge::HOST,
        (true, false) => edge::STORE,
    })
}

/// Returns the directory itself, or the nearest one above it that exists.
fn nearest(dir: &Path) -> &Path {
    dir.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."))
}

/// Tries whether the store can be read and written, without making one.
fn store(dir: &Path) -> Finding {
    let shown = dir.display();
    let place: PathBuf = nearest(dir).to_owned();
    let tried = if dir.exists() {
        Store::open_to_read(dir).map(drop).map_err(|error| chain(&error).join(": "))
    } else {
        Ok(())
    };
    let tried =
        tried.and_then(|()| Aside::new(&place).map(drop).map_err(|error| chain(&error).join(": ")));
    let (ok, detail) = match tried {
        Ok(()) if dir.exists() => (true, format!("{shown} can be read and written")),
        Ok(()) => (true, format!("{shown} can be made")),
        Err(why) => (false, format!("{shown} cannot be used: {why}")),
    };
    let hint = (!ok).then(|| "name another store with --store DIR or BAKE_STORE".to_owned());
    Finding { name: "store".to_owned(), ok, detail, hint }
}
