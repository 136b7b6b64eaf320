//! The commands about published images: list, show, rm, verify, export.

use std::io::{self, Write};
use std::path::Path;

use serde_json::json;

use super::args::{ExportArgs, ExportFormat, ListArgs, RmArgs, ShowArgs, VerifyArgs};
use super::channel::{self, Marks};
use super::{Ctx, edge, history};
use crate::digest::Digest;
use crate::image::Reference;
use crate::inspect::{self, Details, Level};
use crate::output::{self, Format, Options, Source};
use crate::store::{Store, Version};
use crate::ui::report::Report;
use crate::ui::table;
use crate::ui::text::{clean, size};

/// `bake list`.
pub(super) fn list(ctx: &Ctx<'_>, args: &ListArgs) -> Result<u8, Report> {
    let store = ctx.store_to_read()?;
    if args.channels || args.history {
        return channel::list(ctx, &store, args);
    }
    let marks = Marks::read(&store)?;
    let rows = inspect::list(&store).map_err(|error| edge::store(&error))?;
    let rows: Vec<_> = rows
        .into_iter()
        .filter(|row| args.name.as_ref().is_none_or(|name| *name == row.name))
        .collect();
    if ctx.ui.json() {
        for row in &rows {
            let object = match &row.digest {
                Some(digest) => marks.add(json!(row), &row.name, &row.version, digest),
                None => json!(row),
            };
            ctx.ui.object("image", object);
        }
        return Ok(edge::OK);
    }
    if rows.is_empty() {
        ctx.ui.say(&format!("no images in {}", clean(&store.dir().to_string_lossy())));
        return Ok(edge::OK);
    }
    let cells = rows.iter().map(|row| {
        let state = row
            .problem
            .clone()
            .into_iter()
            .chain(
                row.digest.iter().flat_map(|digest| marks.words(&row.name, &row.version, digest)),
            )
            .collect::<Vec<_>>()
            .join("; ");
        let bytes = row.size.map(size).unwrap_or_default();
        vec![
            row.name.clone(),
            row.version.clone(),
            row.digest.map_or_else(|| "?".to_owned(), |digest| digest.short()),
            row.created.clone().unwrap_or_default(),
            bytes,
            state,
        ]
    });
    let cells: Vec<_> = cells.collect();
    ctx.ui.raw(
        table::columns(&["NAME", "VERSION", "DIGEST", "CREATED", "SIZE", ""], &cells, &[4])
            .as_bytes(),
    );
    Ok(edge::OK)
}

/// `bake show`.
pub(super) fn show(ctx: &Ctx<'_>, args: &ShowArgs) -> Result<u8, Report> {
    let store = ctx.store_to_read()?;
    let wanted = reference(&args.image.image)?;
    let details = inspect::show(&store, &wanted).map_err(|error| edge::store(&error))?;
    let marks = Marks::read(&store)?;
    let sizes = match args.folders || args.packages {
        true => Some(inspect::sizes(&store, &wanted).map_err(|error| edge::inspect(&error))?),
        false => None,
    };
    if ctx.ui.json() {
        let (name, version) = (&details.reference.name, &details.reference.version);
        let Details {
            digest,
            platform,
            config,
            history,
            layers,
            size,
            created,
            annotations,
            tested,
            test_run,
            ..
        } = &details;
        let mut object = marks.add(
            json!({ "name": name, "version": version, "digest": digest, "platform": platform, "created": created, "size": size,
                "config": config, "labels": config.labels, "annotations": annotations, "tested": tested, "test_run": test_run,
                "history": history, "layers": layers }),
            name,
            version.as_deref().unwrap_or_default(),
            digest,
        );
        if let (Some(sizes), Some(fields)) = (&sizes, object.as_object_mut()) {
            let parts = [
                ("folders", args.folders, json!(sizes.folders)),
                ("packages", args.packages, json!(sizes.packages)),
            ];
            fields.extend(
                parts
                    .into_iter()
                    .filter(|(_, asked, _)| *asked)
                    .map(|(name, _, value)| (name.to_owned(), value)),
            );
        }
        ctx.ui.object("show", object);
    } else if let Some(sizes) = &sizes {
        let folders = if args.folders { history::folders(sizes) } else { String::new() };
        let packages = if args.packages { history::packages(sizes) } else { String::new() };
        let gap = if args.folders && args.packages { "\n" } else { "" };
        ctx.ui.raw([folders.as_str(), gap, &packages].concat().as_bytes());
    } else {
        ctx.ui.raw(describe(&details, &marks).as_bytes());
    }
    Ok(edge::OK)
}

fn describe(details: &Details, marks: &Marks) -> String {
    let mut out = String::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            out += &format!("{name:<12}{}\n", clean(&value));
        }
    };
    let config = &details.config;
    let quoted = |words: &[String]| {
        words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" ")
    };
    row("image", details.reference.to_string());
    row("digest", details.digest.to_string());
    for mark in marks.words(
        &details.reference.name,
        details.reference.version.as_deref().unwrap_or_default(),
        &details.digest,
    ) {
        row("state", mark);
    }
    row("platform", details.platform.to_string());
    row("created", details.created.clone().unwrap_or_default());
    row("size", size(details.size));
    row("entrypoint", quoted(&config.entrypoint));
    row("cmd", quoted(&config.cmd));
    row("user", config.user.clone());
    row("workdir", config.working_dir.clone());
    row("ports", config.exposed_ports.iter().cloned().collect::<Vec<_>>().join(" "));
    row("volumes", config.volumes.iter().cloned().collect::<Vec<_>>().join(" "));
    row("stop signal", config.stop_signal.clone());
    for variable in &config.env {
        row("env", variable.clone());
    }
    for (name, value) in &config.labels {
        row("label", format!("{name}={value}"));
    }
    match (&details.test_run, details.tested.as_deref()) {
        (Some(run), Some("yes")) => {
            row("tested", format!("yes, {} by bake {}", run.finished, run.bake));
            for test in &run.passed {
                row(
                    "  passed",
                    format!("{} ({:.1} s): {}", test.name, test.seconds, test.what.join(", ")),
                );
            }
        }
        (_, Some("no")) => {
            row("tested", format!("no: `bake test {}` runs what was left out", details.reference))
        }
        (_, Some("none")) => row("tested", "no, it has no tests".to_owned()),
        (_, said) => row("tested", said.unwrap_or_default().to_owned()),
    }
    let cells = details.history.iter().map(|step| {
        let layer = step.layer.and_then(|at| details.layers.get(at));
        let digest = layer.map(|layer| layer.digest.short()).unwrap_or_default();
        vec![
            step.created_by.clone(),
            layer.map(|layer| size(layer.size)).unwrap_or_default(),
            digest,
        ]
    });
    let cells: Vec<_> = cells.collect();
    out.push('\n');
    out + &table::columns(&["HISTORY", "SIZE", "LAYER"], &cells, &[1])
}

/// `bake rm`.
pub(super) fn rm(ctx: &Ctx<'_>, args: &RmArgs) -> Result<u8, Report> {
    let references =
        args.images.iter().map(|image| reference(image)).collect::<Result<Vec<_>, _>>()?;
    let store = ctx.store()?;
    for Version { reference, manifest, .. } in
        store.remove_all(&references, args.force).map_err(|error| edge::store(&error))?
    {
        if ctx.ui.json() {
            ctx.ui.object("removed", json!({ "name": reference.name, "version": reference.version, "digest": manifest.digest }));
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
        ctx.ui
            .object("verified", json!({ "images": report.images, "artifacts": report.artifacts, "blobs": report.blobs, "bytes": report.bytes, "good": report.is_good() }));
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

/// `bake export`.
pub(super) fn export(ctx: &Ctx<'_>, args: &ExportArgs) -> Result<u8, Report> {
    let store = ctx.store_to_read()?;
    let version =
        store.resolve(&reference(&args.image.image)?).map_err(|error| edge::store(&error))?;
    channel::warn_if_revoked(ctx, &store, &version)?;
    let format = match args.format {
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
            json!({ "name": name, "version": version, "format": format.name(), "path": args.output, "bytes": done.bytes }),
        );
    } else {
        ctx.ui.result(&clean(&args.output.to_string_lossy()));
    }
    Ok(edge::OK)
}

fn blob(store: &Store, digest: &Digest) -> io::Result<std::fs::File> {
    store.blob(digest).map_err(io::Error::other)
}

/// Reads how a person names an image.
pub(super) fn reference(text: &str) -> Result<Reference, Report> {
    text.parse()
        .map_err(|error: crate::image::BadReference| edge::report("usage", edge::USAGE, &error))
}
