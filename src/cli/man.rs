//! What bake says about itself in forms that others read: man pages, the schema of recipes.

use std::io::Write;
use std::path::Path;

use super::args::command;
use super::ctx::Ctx;
use super::edge;
use crate::files;
use crate::recipe;
use crate::ui::report::Report;
use crate::ui::text::clean;

/// `bake schema`.
pub(super) fn schema(ctx: &Ctx<'_>, of_workspaces: bool) -> Result<u8, Report> {
    let schema = if of_workspaces { recipe::workspace_schema() } else { recipe::schema() };
    let mut text = serde_json::to_string_pretty(&schema).expect("a JSON value always has a text");
    text.push('\n');
    ctx.ui.raw(text.as_bytes());
    Ok(edge::OK)
}

/// `bake man`.
pub(super) fn man(ctx: &Ctx<'_>, dir: Option<&Path>) -> Result<u8, Report> {
    let fail = |error: std::io::Error| edge::report("file", edge::FAILED, &error);
    let Some(dir) = dir else {
        let mut page = vec![];
        clap_mangen::Man::new(command()).render(&mut page).map_err(fail)?;
        ctx.ui.raw(&page);
        return Ok(edge::OK);
    };
    std::fs::create_dir_all(dir).map_err(fail)?;
    let mut all = command();
    all.build();
    let subs: Vec<clap::Command> = all.get_subcommands().cloned().collect();
    for (name, page) in std::iter::once(("bake".to_owned(), all))
        .chain(subs.into_iter().map(|sub| (format!("bake-{}", sub.get_name()), sub)))
    {
        let mut text = vec![];
        // clap keeps names for ever ('static): a dozen short strings once per process.
        let page = page.name(&*name.clone().leak()).disable_help_subcommand(true);
        clap_mangen::Man::new(page).render(&mut text).map_err(fail)?;
        text.flush().map_err(fail)?;
        let path = dir.join(format!("{name}.1"));
        files::rewrite(&path, &text, 0o644)
            .map_err(|error| edge::report("file", edge::FAILED, &error))?;
        ctx.ui.result(&clean(&path.to_string_lossy()));
    }
    Ok(edge::OK)
}
