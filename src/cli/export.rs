//! `bake export`.

use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use super::args::image::{ExportArgs, ExportFormat};
use super::ctx::Ctx;
use super::reference::reference;
use super::request::absolute;
use super::{channel, edge};
use crate::digest::Digest;
use crate::image::Reference;
use crate::output::{self, Format, Options, Source};
use crate::store::Store;
use crate::ui::report::Report;
use crate::ui::text::clean;

/// `bake export`.
pub(super) fn export(ctx: &Ctx<'_>, args: &ExportArgs) -> Result<u8, Report> {
    let store = ctx.store_to_read()?;
    let version =
        store.resolve(&reference(&args.image.image)?).map_err(|error| edge::store(&error))?;
    channel::warn_if_revoked(ctx, &store, &version)?;
    let format = match args.format {
        ExportFormat::Oci => Format::Oci,
        ExportFormat::OciArchive => Format::OciArchive,
        ExportFormat::DockerArchive => Format::DockerArchive,
        ExportFormat::Tar => Format::Tar,
        ExportFormat::Dir => Format::Dir,
        ExportFormat::Manifest => Format::Manifest,
    };
    let blob = |digest: &Digest| blob(&store, digest);
    let source = Source { reference: &version.reference, manifest: &version.manifest, blob: &blob };
    let fail = |error: output::Error| edge::output(&error);
    if args.output == Path::new("-") {
        if ctx.ui.json() {
            return Err(edge::usage("--json and --output - both want stdout", "write to a file"));
        }
        let mut out = io::BufWriter::with_capacity(1 << 20, io::stdout().lock());
        output::write(&source, format, &mut out).map_err(fail)?;
        out.flush().map_err(|error| edge::report("export", edge::FAILED, &error))?;
        return Ok(edge::OK);
    }
    let options = Options { force: args.force, drop_owners: args.drop_owners };
    let done = output::export(&source, format, &args.output, options).map_err(fail)?;
    if ctx.ui.json() {
        let Reference { name, version, .. } = &version.reference;
        ctx.ui.object(
            "exported",
            json!({ "name": name, "version": version, "format": format.name(),
                "path": absolute(&args.output), "bytes": done.bytes }),
        );
    } else {
        ctx.ui.result(&clean(&args.output.to_string_lossy()));
    }
    Ok(edge::OK)
}

fn blob(store: &Store, digest: &Digest) -> io::Result<std::fs::File> {
    store.blob(digest).map_err(io::Error::other)
}
