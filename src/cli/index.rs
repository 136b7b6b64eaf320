//! `bake index`.

use serde_json::json;

use super::args::image::{IndexCommand, IndexCreateArgs};
use super::ctx::Ctx;
use super::edge;
use super::reference::reference;
use crate::store::Published;
use crate::ui::report::Report;

/// `bake index`.
pub(super) fn index(ctx: &Ctx<'_>, command: &IndexCommand) -> Result<u8, Report> {
    match command {
        IndexCommand::Create(args) => create(ctx, args),
    }
}

/// `bake index create`.
fn create(ctx: &Ctx<'_>, args: &IndexCreateArgs) -> Result<u8, Report> {
    let wanted = reference(&args.image)?;
    if !wanted.is_version() {
        let hint = "give it a name and a version: bake index create web:2.0.0 A B";
        return Err(edge::usage("the index needs a version", hint));
    }
    let parts = args.parts.iter().map(|part| reference(part)).collect::<Result<Vec<_>, _>>()?;
    let store = ctx.store()?;
    let (version, done) = store.merge(&wanted, &parts).map_err(|error| edge::store(&error))?;
    let digest = version.manifest.digest;
    if ctx.ui.json() {
        ctx.ui.object(
            "index",
            json!({ "name": wanted.name, "version": wanted.version, "digest": digest,
                "already": done == Published::Already }),
        );
    } else {
        ctx.ui.result(&format!("{wanted} {digest}"));
    }
    Ok(edge::OK)
}
