//! `bake pull`.

use serde_json::json;

use super::args::image::PullArgs;
use super::ctx::Ctx;
use super::edge;
use super::reference::reference;
use super::registry;
use crate::event::Event;
use crate::image::{Platform, Reference, RemoteName};
use crate::import;
use crate::ui::report::Report;

/// `bake pull`.
pub(super) fn pull(ctx: &Ctx<'_>, args: &PullArgs) -> Result<u8, Report> {
    let name: RemoteName = args.source.parse().map_err(|error| {
        let hint = "a registry is written host[:port]/name[:tag]; files are brought in by `bake \
            import`";
        Report { hints: vec![hint.to_owned()], ..edge::report("usage", edge::USAGE, &error) }
    })?;
    let wanted = match &args.image {
        Some(image) => reference(image)?,
        None => of_its_own(&name)?,
    };
    if !wanted.is_version() {
        let hint = format!("give it a name and a version: bake pull {name} web:1.0.0");
        return Err(edge::usage("the image needs a version", hint));
    }
    let host = Platform::host();
    let platform = args.platform.platform.as_ref().unwrap_or(&host);
    let options = registry::options(&args.registry)?;
    ctx.with_job_context(|job| {
        let done = import::pull(job, &name, &options, platform, wanted.clone())
            .map_err(|error| edge::import(&error))?;
        let (name, version) = (&wanted.name, wanted.version.as_deref().unwrap_or_default());
        if done.platform.architecture != host.architecture {
            let message = format!("{wanted} is for {}: it does not run here", done.platform);
            (job.sink)(Event::Note { message });
        }
        if done.already {
            let message = format!("{wanted} has this content already");
            (job.sink)(Event::Note { message });
        }
        if ctx.ui.json() {
            ctx.ui.object(
                "pulled",
                json!({ "name": name, "version": version, "digest": done.digest,
                    "platform": done.platform.to_string(), "already": done.already }),
            );
        } else {
            ctx.ui.result(&format!("{name}:{version} {}", done.digest));
        }
        Ok(())
    })
}

/// Returns the name and version that an image gets where the person gives none: those of the
/// registry. A name without a tag means another content each time.
fn of_its_own(name: &RemoteName) -> Result<Reference, Report> {
    let hint = || format!("give it a name and a version: bake pull {name} web:1.0.0");
    let Some(tag) = &name.tag else {
        return Err(edge::usage("the image needs a version", hint()));
    };
    let own = name.repository.strip_prefix("library/").unwrap_or(&name.repository);
    Reference::new(own, tag).map_err(|error| Report {
        hints: vec![hint()],
        ..edge::report("usage", edge::USAGE, &error)
    })
}
