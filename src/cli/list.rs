//! `bake list`.

use std::collections::BTreeSet;

use serde_json::json;

use super::args::image::ListArgs;
use super::channel::{self, Marks};
use super::ctx::Ctx;
use super::edge;
use super::reference::reference;
use crate::image::Reference;
use crate::inspect::{self, Row};
use crate::store::{Error, Store};
use crate::ui::report::Report;
use crate::ui::table;
use crate::ui::text::{clean, size, to_the_second};

/// `bake list`.
pub(super) fn list(ctx: &Ctx<'_>, args: &ListArgs) -> Result<u8, Report> {
    let wanted = args.image.as_deref().map(reference).transpose()?;
    let store = ctx.store_to_read()?;
    if args.channels || args.history {
        return channel::list(ctx, &store, args);
    }
    let failed = |error: Error| edge::store(&error);
    if args.names {
        for name in names(&store, wanted.as_ref()).map_err(failed)? {
            ctx.ui.result(&clean(&name));
        }
        return Ok(edge::OK);
    }
    let marks = Marks::read(&store)?;
    let rows = rows(&store, wanted.as_ref()).map_err(failed)?;
    if ctx.ui.json() {
        for row in &rows {
            let object = match &row.digest {
                Some(digest) => marks.add(json!(row), &row.name, &row.version, digest),
                None => json!(row),
            };
            ctx.ui.object("image", object);
        }
    } else if rows.is_empty() {
        ctx.ui.say(&format!("no images in {}", clean(&store.dir().to_string_lossy())));
    } else {
        let cells: Vec<_> = rows.iter().map(|row| cells(row, &marks)).collect();
        let names = ["NAME", "VERSION", "DIGEST", "PUBLISHED", "CREATED", "SIZE", ""];
        ctx.ui.raw(table::columns(&names, &cells, &[5]).as_bytes());
    }
    Ok(edge::OK)
}

/// Returns the rows that are meant; that there are none of what is named is an error.
fn rows(store: &Store, wanted: Option<&Reference>) -> Result<Vec<Row>, Error> {
    let mut rows = inspect::list(store)?;
    let Some(wanted) = wanted else { return Ok(rows) };
    let version = match wanted.channel {
        Some(_) => store.resolve(wanted)?.reference.version,
        None => wanted.version.clone(),
    };
    rows.retain(|row| {
        row.name == wanted.name
            && version.as_ref().is_none_or(|version| *version == row.version)
            && wanted.digest.is_none_or(|digest| row.digest == Some(digest))
    });
    if rows.is_empty() {
        // Fails, and says what is alike.
        store.resolve(wanted)?;
    }
    Ok(rows)
}

/// Returns what an image can be called: its name, its versions and its channels. For completion.
fn names(store: &Store, wanted: Option<&Reference>) -> Result<BTreeSet<String>, Error> {
    let mut names = BTreeSet::new();
    for version in store.versions()? {
        names.insert(version.reference.name.clone());
        names.insert(version.reference.to_string());
    }
    names.extend(store.channels()?.into_iter().map(|channel| channel.reference.to_string()));
    if let Some(wanted) = wanted {
        let own = |name: &String| name.split([':', '@']).next() == Some(wanted.name.as_str());
        names.retain(own);
    }
    Ok(names)
}

fn cells(row: &Row, marks: &Marks) -> Vec<String> {
    let state = row
        .problem
        .clone()
        .into_iter()
        .chain(row.digest.iter().flat_map(|digest| marks.words(&row.name, &row.version, digest)))
        .collect::<Vec<_>>()
        .join("; ");
    vec![
        row.name.clone(),
        row.version.clone(),
        row.digest.map_or_else(|| "?".to_owned(), |digest| digest.short()),
        row.published.as_deref().map(to_the_second).unwrap_or_default(),
        row.created.clone().unwrap_or_default(),
        row.size.map(size).unwrap_or_default(),
        state,
    ]
}
