//! `bake boot`.

use std::path::{Path, PathBuf};

use super::args::boot::BootArgs;
use super::ctx::Ctx;
use super::reference::reference;
use super::request::tools_from;
use super::{channel, edge};
use crate::boot::{self, Boot, From};
use crate::engine::{self, Request};
use crate::ui::report::Report;

/// `bake boot`.
pub(super) fn boot(ctx: &Ctx<'_>, args: BootArgs) -> Result<u8, Report> {
    if ctx.ui.json() {
        let hint = "leave --json out: the exit code says how the machine ended";
        return Err(edge::usage("--json and the console both want stdout", hint));
    }
    let BootArgs { image, data, publish, memory, persist, tools, .. } = args;
    let from = match is_file(&image) {
        true => From::File(PathBuf::from(image)),
        false => From::Image(reference(&image)?),
    };
    if let From::File(path) = &from {
        there(path, "there is no such disk")?;
    }
    for (path, _) in &data {
        let hint = format!("`truncate -s 2G {}` makes a blank one", path.display());
        there(path, &hint)?;
    }
    let request = Request { tools: tools_from(tools), ..Request::default() };
    ctx.with_job_context(|job| {
        let mut from = from.clone();
        if let From::Image(reference) = &mut from {
            let version = job.store.resolve(reference).map_err(|error| edge::store(&error))?;
            channel::warn_if_revoked(ctx, job.store, &version)?;
            // What was looked at, though its channel may be moved meanwhile.
            *reference = version.reference;
        }
        let (data, publish, persist) = (data.clone(), publish.clone(), persist.clone());
        let boot = Boot { from, data, publish, memory, persist };
        let gate = engine::gate(job, &request);
        let ready = gate.ready();
        let booted = ready.and_then(|ready| boot::boot(job, ready, &boot));
        booted.map_err(|error| edge::image(&error.into()))
    })
}

/// Whether a person means a file: no name of an image begins like a path, or is one.
fn is_file(text: &str) -> bool {
    text.starts_with(['/', '.']) || !text.contains(':') && Path::new(text).is_file()
}

/// Makes sure that a disk can be used.
fn there(path: &Path, hint: &str) -> Result<(), Report> {
    if path.is_file() {
        return Ok(());
    }
    Err(edge::usage(format!("{} is not the file of a disk", path.display()), hint))
}
