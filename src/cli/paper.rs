//! The commands that only read and write paper: check, plan, fmt, new, schema, completions, man.

use std::io::Write as _;
use std::path::Path;

use serde_json::json;

use super::args::{FmtArgs, NewArgs, RecipeArgs};
use super::bake::{inputs, told};
use super::{Ctx, command, edge};
use crate::engine::{self, new};
use crate::files;
use crate::plan;
use crate::recipe;
use crate::ui::report::Report;
use crate::ui::table;
use crate::ui::text::clean;

/// `bake check`.
pub(super) fn check(ctx: &Ctx<'_>, args: &RecipeArgs) -> Result<u8, Report> {
    let inputs = inputs(ctx, &args.inputs)?;
    let mut worst = None;
    for path in &args.recipes {
        match engine::check(path, &inputs) {
            Ok(recipe) => {
                ctx.ui.diagnostics(&recipe.warnings);
                let image = format!("{}:{}", recipe.image.name, recipe.image.version);
                if ctx.ui.json() {
                    ctx.ui.object(
                        "checked",
                        json!({ "recipe": path, "image": image, "steps": recipe.steps.len() }),
                    );
                } else {
                    ctx.ui.say(&format!(
                        "{}: ok ({image}, {} steps)",
                        clean(&path.to_string_lossy()),
                        recipe.steps.len()
                    ));
                }
            }
            // The mistakes of every recipe are shown, not those of the first only.
            Err(error) => worst = Some(told(ctx, &error, path)),
        }
    }
    worst.map_or(Ok(edge::OK), Err)
}

/// `bake plan`.
pub(super) fn plan(ctx: &Ctx<'_>, args: &RecipeArgs) -> Result<u8, Report> {
    let inputs = inputs(ctx, &args.inputs)?;
    for path in &args.recipes {
        let recipe = engine::check(path, &inputs).map_err(|error| told(ctx, &error, path))?;
        let plan = plan::draw(&recipe);
        if ctx.ui.json() {
            let steps: Vec<_> = plan
                .nodes
                .iter()
                .enumerate()
                .map(|(at, node)| json!({ "step": at + 1, "label": node.label, "line": node.line, "network": node.network, "ops": node.ops }))
                .collect();
            ctx.ui.object(
                "plan",
                json!({ "recipe": path, "image": plan.image, "base": plan.base, "steps": steps }),
            );
            continue;
        }
        let mut rows = vec![vec![
            "base".to_owned(),
            plan.base_line.to_string(),
            plan.base.clone(),
            String::new(),
        ]];
        for (at, node) in plan.nodes.iter().enumerate() {
            let network = if node.network { "network".to_owned() } else { String::new() };
            rows.push(vec![
                (at + 1).to_string(),
                node.line.to_string(),
                node.label.clone(),
                network,
            ]);
        }
        ctx.ui.result(&clean(&plan.image));
        ctx.ui.raw(table::columns(&["STEP", "LINE", "WHAT", ""], &rows, &[1]).as_bytes());
    }
    Ok(edge::OK)
}

/// `bake fmt`.
pub(super) fn fmt(ctx: &Ctx<'_>, args: &FmtArgs) -> Result<u8, Report> {
    let mut unformatted = 0;
    for path in &args.recipes {
        let text = engine::text(path).map_err(|error| told(ctx, &error, path))?;
        let formatted = recipe::format(&text, path)
            .map_err(|found| told(ctx, &engine::error::Error::Recipe(found), path))?;
        let changed = formatted != text;
        if changed && !args.check {
            files::rewrite(path, formatted.as_bytes(), 0o644)
                .map_err(|error| edge::report("file", edge::FAILED, &error))?;
        }
        unformatted += u32::from(changed);
        if ctx.ui.json() {
            ctx.ui.object(
                "formatted",
                json!({ "recipe": path, "changed": changed, "written": changed && !args.check }),
            );
        } else if changed {
            let verb = if args.check { "is not formatted" } else { "is formatted now" };
            ctx.ui.say(&format!("{} {verb}", clean(&path.to_string_lossy())));
        }
    }
    Ok(if args.check && unformatted > 0 { edge::FAILED } else { edge::OK })
}

/// `bake new`.
pub(super) fn new(ctx: &Ctx<'_>, args: &NewArgs) -> Result<u8, Report> {
    let Some(name) = &args.name else {
        if ctx.ui.json() {
            for template in new::TEMPLATES {
                ctx.ui
                    .object("template", json!({ "name": template.name, "about": template.about }));
            }
        } else {
            let rows: Vec<_> = new::TEMPLATES
                .iter()
                .map(|one| vec![one.name.to_owned(), one.about.to_owned()])
                .collect();
            ctx.ui.raw(table::columns(&["TEMPLATE", "WHAT IT IS"], &rows, &[]).as_bytes());
        }
        return Ok(edge::OK);
    };
    // The last part of the path is the image's name: `bake new services/shop` makes the image
    // `shop`.
    let dir = Path::new(name);
    let image =
        dir.file_name().map_or_else(|| name.clone(), |last| last.to_string_lossy().into_owned());
    let made = new::create(&args.template, dir, &image)
        .map_err(|error| edge::report("new", edge::USAGE, &error))?;
    for path in &made {
        if ctx.ui.json() {
            ctx.ui.object("made", json!({ "path": path }));
        } else {
            ctx.ui.result(&clean(&path.to_string_lossy()));
        }
    }
    ctx.ui.say(&format!("next: bake build {}", clean(&dir.join("recipe.toml").to_string_lossy())));
    Ok(edge::OK)
}

/// `bake schema`.
pub(super) fn schema(ctx: &Ctx<'_>) -> Result<u8, Report> {
    let mut text =
        serde_json::to_string_pretty(&recipe::schema()).expect("a JSON value always has a text");
    text.push('\n');
    ctx.ui.raw(text.as_bytes());
    Ok(edge::OK)
}

/// `bake completions`.
pub(super) fn completions(ctx: &Ctx<'_>, shell: clap_complete::Shell) -> Result<u8, Report> {
    let mut out = vec![];
    clap_complete::generate(shell, &mut command(), "bake", &mut out);
    ctx.ui.raw(&out);
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
