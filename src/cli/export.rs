//! `bake export`.

use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use super::args::image::{ExportArgs, ExportFormat};
use super::ctx::Ctx;
use super::reference::reference;
use super::request::{absolute, tools_from};
use super::{channel, edge};
use crate::boot;
use crate::digest::Digest;
use crate::engine::{self, NetworkOptions};
use crate::event::Event;
use crate::image::Reference;
use crate::output::{self, Exported, Format, Options, Source, Tools, Updated};
use crate::serve;
use crate::store::{Store, Version};
use crate::ui::report::Report;
use crate::ui::text::clean;

/// `bake export`.
pub(super) fn export(ctx: &Ctx<'_>, args: &ExportArgs) -> Result<u8, Report> {
    let store = ctx.store_to_read()?;
    if args.output == Path::new("-")
        && matches!(args.format, ExportFormat::Registry | ExportFormat::Sysupdate)
    {
        let message = "a registry and a source of updates are directories, not streams";
        return Err(edge::usage(message, "name a directory: --output DIR"));
    }
    if args.keep.is_some() && args.format != ExportFormat::Sysupdate {
        return Err(edge::usage("--keep is of format `sysupdate`", "bake gc --keep frees a store"));
    }
    let all = args.images.is_empty() && args.format == ExportFormat::Registry;
    let versions = if all {
        store.versions().map_err(|error| edge::store(&error))?
    } else {
        let find = |image: &String| {
            let found = store.resolve(&reference(image)?).map_err(|error| edge::store(&error))?;
            channel::warn_if_revoked(ctx, &store, &found)?;
            Ok(found)
        };
        args.images.iter().map(find).collect::<Result<Vec<Version>, Report>>()?
    };
    if args.platform.platform.is_some() && args.format == ExportFormat::Registry {
        return Err(edge::usage(
            "a registry has all platforms of an image",
            "leave --platform out",
        ));
    }
    let versions = match args.format {
        ExportFormat::Registry => versions,
        _ => of_platform(&store, args, versions)?,
    };
    match (args.format, plain(args.format), &versions[..]) {
        (ExportFormat::Registry, ..) => registry(ctx, &store, args, &versions),
        (_, _, []) => Err(edge::usage("no image is named", "write NAME:VERSION")),
        (_, None, _) => sysupdate(ctx, &store, args, &versions),
        (_, Some(format), [version]) => one(ctx, &store, args, version, format),
        _ => {
            let hint = "formats `registry` and `sysupdate` take several";
            Err(edge::usage("one image is one file", hint))
        }
    }
}

/// Replaces each index by its image for the platform that is wanted.
fn of_platform(
    store: &Store,
    args: &ExportArgs,
    mut versions: Vec<Version>,
) -> Result<Vec<Version>, Report> {
    for version in &mut versions {
        let found = store.for_platform(&version.manifest, args.platform.platform.as_ref());
        version.manifest = found.map_err(|error| edge::store(&error))?;
    }
    Ok(versions)
}

/// Returns the format of one image.
fn plain(format: ExportFormat) -> Option<Format> {
    Some(match format {
        ExportFormat::Oci => Format::Oci,
        ExportFormat::OciArchive => Format::OciArchive,
        ExportFormat::DockerArchive => Format::DockerArchive,
        ExportFormat::Tar => Format::Tar,
        ExportFormat::Dir => Format::Dir,
        ExportFormat::Manifest => Format::Manifest,
        ExportFormat::Squashfs => Format::Squashfs,
        ExportFormat::Erofs => Format::Erofs,
        ExportFormat::Ext4 => Format::Ext4,
        ExportFormat::Disk => Format::Disk,
        ExportFormat::Qcow2 => Format::Qcow2,
        ExportFormat::Vmdk => Format::Vmdk,
        ExportFormat::Vhd => Format::Vhd,
        ExportFormat::Vhdx => Format::Vhdx,
        ExportFormat::Kernel => Format::Kernel,
        ExportFormat::Partitions => Format::Partitions,
        ExportFormat::Registry | ExportFormat::Sysupdate => return None,
    })
}

fn registry(
    ctx: &Ctx<'_>,
    store: &Store,
    args: &ExportArgs,
    versions: &[Version],
) -> Result<u8, Report> {
    let done = serve::write_files(store, versions, &args.output, args.force);
    let done = done.map_err(|error| edge::written(&error))?;
    let path = clean(&args.output.to_string_lossy());
    if ctx.ui.json() {
        ctx.ui.object(
            "exported",
            json!({ "format": "registry", "path": absolute(&args.output), "images": done.images,
                "blobs": done.blobs, "bytes": done.bytes, "shared": done.shared }),
        );
    } else {
        ctx.ui.result(&path);
        ctx.ui.say(&format!(
            "the rule for a web server: {path}/nginx.conf, {path}/apache.conf, {path}/Caddyfile"
        ));
    }
    Ok(edge::OK)
}

fn sysupdate(
    ctx: &Ctx<'_>,
    store: &Store,
    args: &ExportArgs,
    versions: &[Version],
) -> Result<u8, Report> {
    let Some(format) = plain(args.files) else {
        return Err(edge::usage("an update is a file", "for example --files tar"));
    };
    let blob = |digest: &Digest| blob(store, digest);
    let mut sources = vec![];
    for version in versions {
        let Version { reference, manifest, .. } = version;
        let source = Source { reference, manifest, blob: &blob };
        sources.push((source, options(store, args, version, format)?));
    }
    let keep = args.keep.map(|keep| usize::try_from(keep).unwrap_or(usize::MAX));
    with_tools(ctx, args, format, |tools| {
        let done = output::update(&sources, format, &args.output, keep, tools);
        updated(ctx, format, args, &done.map_err(|error| edge::output(&error))?);
        Ok(())
    })
}

/// Says what a source of updates has now.
fn updated(ctx: &Ctx<'_>, format: Format, args: &ExportArgs, done: &Updated) {
    for one in &done.remarks {
        let (message, hint) = one.message(format);
        (ctx.ui.sink())(Event::Warning { message, hint });
    }
    if ctx.ui.json() {
        ctx.ui.object(
            "exported",
            json!({ "format": "sysupdate", "path": absolute(&args.output), "files": done.files,
                "removed": done.removed, "bytes": done.bytes }),
        );
    } else {
        for file in &done.files {
            ctx.ui.result(&clean(&args.output.join(file).to_string_lossy()));
        }
        for file in &done.removed {
            ctx.ui.say(&format!("removed: {}", clean(file)));
        }
    }
}

fn one(
    ctx: &Ctx<'_>,
    store: &Store,
    args: &ExportArgs,
    version: &Version,
    format: Format,
) -> Result<u8, Report> {
    let blob = |digest: &Digest| blob(store, digest);
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
    let options = options(store, args, version, format)?;
    with_tools(ctx, args, format, |tools| {
        let done = output::export(&source, format, &args.output, &options, tools);
        exported(ctx, format, args, &version.reference, &done.map_err(fail)?);
        Ok(())
    })
}

/// Returns what an image is made like: a machine as the one that its tests boot, where they say.
fn options(
    store: &Store,
    args: &ExportArgs,
    version: &Version,
    format: Format,
) -> Result<Options, Report> {
    let tested = match format.is_machine() {
        true => boot::tested(store, &version.manifest.digest),
        false => Ok(None),
    };
    let tested = tested.map_err(|error| edge::image(&error.into()))?.unwrap_or_default();
    Ok(Options { force: args.force, drop_owners: args.drop_owners, ..tested })
}

/// Does `work` with the programs that the format needs, if it needs any.
fn with_tools(
    ctx: &Ctx<'_>,
    args: &ExportArgs,
    format: Format,
    work: impl Fn(Option<&dyn Tools>) -> Result<(), Report>,
) -> Result<u8, Report> {
    if format.program().is_none() {
        return work(None).map(|()| edge::OK);
    }
    ctx.with_job_context(|job| {
        let (from, network) = (tools_from(args.tools), NetworkOptions::default());
        let tools = engine::tools(job, from, &network, &[format]);
        work(Some(&*tools.map_err(|error| edge::image(&error))?))
    })
}

/// Says what was written.
fn exported(ctx: &Ctx<'_>, format: Format, args: &ExportArgs, image: &Reference, done: &Exported) {
    for one in &done.remarks {
        let (message, hint) = one.message(format);
        (ctx.ui.sink())(Event::Warning { message, hint });
    }
    if ctx.ui.json() {
        let Reference { name, version, .. } = image;
        ctx.ui.object(
            "exported",
            json!({ "name": name, "version": version, "format": format.name(),
                "path": absolute(&args.output), "bytes": done.bytes }),
        );
    } else {
        ctx.ui.result(&clean(&args.output.to_string_lossy()));
    }
}

fn blob(store: &Store, digest: &Digest) -> io::Result<std::fs::File> {
    store.blob(digest).map_err(io::Error::other)
}
