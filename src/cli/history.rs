//! `bake history`, and the tables of sizes of `bake show`.

use serde_json::json;

use super::args::image::ImageArgs;
use super::ctx::Ctx;
use super::edge;
use super::reference::reference;
use crate::inspect::{self, Details, Sizes};
use crate::tree;
use crate::ui::report::Report;
use crate::ui::table;
use crate::ui::text::{clean, size, to_the_second};

/// Directories shown; `--json` has all.
const FOLDERS: usize = 40;

/// `bake history`.
pub(super) fn history(ctx: &Ctx<'_>, args: &ImageArgs) -> Result<u8, Report> {
    let store = ctx.store_to_read()?;
    let details =
        inspect::show(&store, &reference(&args.image)?).map_err(|error| edge::store(&error))?;
    if ctx.ui.json() {
        for (step, row) in details.history.iter().enumerate() {
            let layer = row.layer.and_then(|at| details.layers.get(at));
            let (digest, size) = (layer.map(|layer| layer.digest), layer.map(|layer| layer.size));
            let (by, created, comment, key) =
                (&row.created_by, &row.created, &row.comment, &row.key);
            ctx.ui.object(
                "history",
                json!({ "step": step, "by": by, "created": created, "layer": digest, "size": size, "key": key, "comment": comment, "published": details.published }),
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

fn steps(details: &Details) -> String {
    let rows: Vec<Vec<String>> = details
        .history
        .iter()
        .enumerate()
        .map(|(step, row)| {
            let layer = row.layer.and_then(|at| details.layers.get(at));
            vec![
                step.to_string(),
                row.created.clone().unwrap_or_default(),
                layer.map(|layer| size(layer.size)).unwrap_or_default(),
                layer.map(|layer| layer.digest.short()).unwrap_or_default(),
                row.key.clone().unwrap_or_else(|| "-".to_owned()),
                row.created_by.clone(),
            ]
        })
        .collect();
    table::columns(&["STEP", "CREATED", "SIZE", "LAYER", "KEY", "BY"], &rows, &[0, 2])
}

/// The directories of an image by size.
pub(super) fn directories(sizes: &Sizes) -> String {
    let row = |one: &inspect::DirectorySize| {
        vec![size(one.bytes), one.files.to_string(), format!("{}/", tree::shown(&one.path))]
    };
    let mut rows = vec![vec![size(sizes.bytes), sizes.files.to_string(), "/".to_owned()]];
    rows.extend(sizes.directories.iter().take(FOLDERS).map(row));
    let mut out = table::columns(&["SIZE", "FILES", "DIRECTORY"], &rows, &[0, 1]);
    if sizes.directories.len() > FOLDERS {
        out +=
            &format!("and {} smaller ones (--json names all)\n", sizes.directories.len() - FOLDERS);
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
