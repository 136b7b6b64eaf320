//! `bake history`, and the tables of sizes of `bake show`.

use serde_json::json;

use super::args::image::ImageArgs;
use super::ctx::Ctx;
use super::edge;
use super::reference::reference;
use crate::inspect::{self, Details, Sizes, StepRow};
use crate::tree;
use crate::ui::report::Report;
use crate::ui::table;
use crate::ui::text::{clean, size, to_the_second};

/// Label of an image that says what its base is called (OCI image specification, annotations).
const BASE_NAME: &str = "org.opencontainers.image.base.name";
/// Directories shown; `--json` has all.
const DIRECTORIES: usize = 40;

/// `bake history`.
pub(super) fn history(ctx: &Ctx<'_>, args: &ImageArgs) -> Result<u8, Report> {
    let store = ctx.store_to_read()?;
    let details = inspect::show(&store, &reference(&args.image)?, None)
        .map_err(|error| edge::store(&error))?;
    if ctx.ui.json() {
        let base = base(&details);
        for (step, row) in details.history.iter().enumerate() {
            let layer = row.layer.and_then(|at| details.layers.get(at));
            let (digest, size) = (layer.map(|layer| layer.digest), layer.map(|layer| layer.size));
            let (by, created, comment, key) =
                (&row.created_by, &row.created, &row.comment, &row.key);
            ctx.ui.object(
                "history",
                json!({ "step": step, "by": by, "created": created, "layer": digest, "size": size,
                    "key": key, "comment": comment, "published": details.published,
                    "of": base.filter(|(_, rows)| step < *rows).map(|(name, _)| name) }),
            );
        }
    } else {
        ctx.ui.raw(steps(&details).as_bytes());
        if let Some(at) = &details.published {
            let image = clean(&details.reference.to_string());
            ctx.ui.say(&format!("{image} was published at {}", to_the_second(at)));
        }
    }
    Ok(edge::OK)
}

/// Returns what a base that is an image is called, and how many rows of the history are its own:
/// all those before the first step of this image, which the step cache has a key of.
fn base(details: &Details) -> Option<(&str, usize)> {
    let name = details.config.labels.get(BASE_NAME)?;
    let image = ["image ", "recipe "].iter().any(|kind| name.starts_with(kind));
    let rows = details.history.iter().position(|row| row.key.is_some())?;
    (image && rows > 0).then_some((name.as_str(), rows))
}

fn steps(details: &Details) -> String {
    let base = base(details);
    let row = |(step, row): (usize, &StepRow)| {
        let layer = row.layer.and_then(|at| details.layers.get(at));
        let of = base.filter(|(_, rows)| step < *rows).map(|(name, _)| name);
        let cells = [
            step.to_string(),
            row.created.clone().unwrap_or_default(),
            layer.map(|layer| size(layer.size)).unwrap_or_default(),
            layer.map(|layer| layer.digest.short()).unwrap_or_default(),
            row.key.clone().unwrap_or_else(|| "-".to_owned()),
        ];
        // Only where there is something to say.
        let of = base.map(|_| of.unwrap_or_default().to_owned());
        cells.into_iter().chain(of).chain([row.created_by.clone()]).collect()
    };
    let rows: Vec<Vec<String>> = details.history.iter().enumerate().map(row).collect();
    let heads: &[&str] = match base {
        Some(_) => &["STEP", "CREATED", "SIZE", "LAYER", "KEY", "OF", "BY"],
        None => &["STEP", "CREATED", "SIZE", "LAYER", "KEY", "BY"],
    };
    table::columns(heads, &rows, &[0, 2])
}

/// The directories of an image by size.
pub(super) fn directories(sizes: &Sizes) -> String {
    let row = |one: &inspect::DirectorySize| {
        vec![size(one.bytes), one.files.to_string(), format!("{}/", tree::shown(&one.path))]
    };
    let mut rows = vec![vec![size(sizes.bytes), sizes.files.to_string(), "/".to_owned()]];
    rows.extend(sizes.directories.iter().take(DIRECTORIES).map(row));
    let mut out = table::columns(&["SIZE", "FILES", "DIRECTORY"], &rows, &[0, 1]);
    if sizes.directories.len() > DIRECTORIES {
        out += &format!(
            "and {} smaller ones (--json names all)\n",
            sizes.directories.len() - DIRECTORIES
        );
    }
    out
}

/// The packages of an image by size.
pub(super) fn packages(sizes: &Sizes) -> String {
    let row = |one: &inspect::PackageSize| {
        vec![size(one.bytes), one.files.to_string(), one.name.clone(), one.version.clone()]
    };
    let mut rows: Vec<Vec<String>> = sizes.packages.iter().map(row).collect();
    let (bytes, files) = sizes.unpackaged;
    rows.push(vec![size(bytes), files.to_string(), "(no package)".to_owned(), String::new()]);
    table::columns(&["SIZE", "FILES", "PACKAGE", "VERSION"], &rows, &[0, 1])
}
