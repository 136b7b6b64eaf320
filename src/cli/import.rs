//! `bake import`.

use serde_json::json;

use super::args::image::ImportArgs;
use super::ctx::Ctx;
use super::edge;
use super::reference::reference;
use crate::event::Event;
use crate::image::Platform;
use crate::import;
use crate::ui::report::Report;

/// `bake import`.
pub(super) fn import(ctx: &Ctx<'_>, args: &ImportArgs) -> Result<u8, Report> {
    let wanted = reference(&args.image)?;
    if !wanted.is_version() {
        let hint = "give it a name and a version: bake import debian.tar debian:12";
        return Err(edge::usage("the image needs a version", hint));
    }
    ctx.with_job_context(|job| {
        let named = args.named.as_deref();
        let host = Platform::host();
        let platform = args.platform.platform.as_ref().unwrap_or(&host);
        let done = import::import(job, &args.source, named, platform, wanted.clone())
            .map_err(|error| edge::import(&error))?;
        let (name, version) = (&wanted.name, wanted.version.as_deref().unwrap_or_default());
        if done.platform.architecture != Platform::host().architecture {
            let message = format!("{wanted} is for {}: it does not run here", done.platform);
            (job.sink)(Event::Note { message });
        }
        if ctx.ui.json() {
            ctx.ui.object(
                "imported",
                json!({ "name": name, "version": version, "digest": done.digest,
                    "already": done.already }),
            );
        } else {
            ctx.ui.result(&format!("{name}:{version} {}", done.digest));
        }
        Ok(())
    })
}
