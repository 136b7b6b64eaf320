//! `bake rm` and `bake verify`.

use serde_json::json;

use super::args::image::{RmArgs, VerifyArgs};
use super::ctx::Ctx;
use super::edge;
use super::reference::reference;
use crate::inspect::{self, Level};
use crate::store::Version;
use crate::ui::report::Report;
use crate::ui::text::{clean, size};

/// `bake rm`.
pub(super) fn rm(ctx: &Ctx<'_>, args: &RmArgs) -> Result<u8, Report> {
    let references =
        args.images.iter().map(|image| reference(image)).collect::<Result<Vec<_>, _>>()?;
    let store = ctx.store()?;
    for Version { reference, manifest, .. } in
        store.remove_all(&references, args.force).map_err(|error| edge::store(&error))?
    {
        if ctx.ui.json() {
            ctx.ui.object(
                "removed",
                json!({ "name": reference.name, "version": reference.version,
                "digest": manifest.digest }),
            );
        } else {
            ctx.ui.say(&format!("removed {}", clean(&reference.to_string())));
        }
    }
    Ok(edge::OK)
}

/// `bake verify`.
pub(super) fn verify(ctx: &Ctx<'_>, args: &VerifyArgs) -> Result<u8, Report> {
    let references =
        args.images.iter().map(|image| reference(image)).collect::<Result<Vec<_>, _>>()?;
    let store = ctx.store_to_read()?;
    let report = inspect::verify(&store, &references, &ctx.ui.sink())
        .map_err(|error| edge::store(&error))?;
    for problem in &report.problems {
        if ctx.ui.json() {
            ctx.ui.object("problem", json!(problem));
        } else {
            let level = if problem.level == Level::Error { "error" } else { "warning" };
            let images = if problem.images.is_empty() {
                String::new()
            } else {
                format!(" ({})", problem.images.join(", "))
            };
            let text = format!("{}: {}{images}", problem.path.display(), problem.what);
            ctx.ui.result(&format!("{level}: {}", clean(&text)));
        }
    }
    if ctx.ui.json() {
        ctx.ui.object(
            "verified",
            json!({ "images": report.images, "artifacts": report.artifacts,
                "blobs": report.blobs, "bytes": report.bytes, "good": report.is_good() }),
        );
    } else {
        let images = if report.images == 1 { "image" } else { "images" };
        ctx.ui.say(&format!(
            "verified {} {images}, {} blobs, {}",
            report.images,
            report.blobs,
            size(report.bytes)
        ));
    }
    Ok(if report.is_good() { edge::OK } else { edge::DIFFERENT })
}
