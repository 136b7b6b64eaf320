//! The commands that only read and write recipes: check, plan, fmt, new.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::recipe::{FmtArgs, NewArgs, RecipeArgs};
use super::ctx::Ctx;
use super::edge;
use super::outcome::{line_of, place};
use super::recipes::{recipes, to_format};
use super::request::{absolute, failed, failed_one, inputs, requests, warn};
use crate::engine::{self, Request};
use crate::files;
use crate::image::Platform;
use crate::plan::{self, Plan};
use crate::reach::Reach;
use crate::recipe;
use crate::template;
use crate::ui::report::Report;
use crate::ui::table;
use crate::ui::text::clean;

/// Bytes that are read from stdin at most.
const STDIN_MAX: u64 = 16 << 20;

/// `bake check`.
pub(super) fn check(ctx: &Ctx<'_>, args: &RecipeArgs) -> Result<u8, Report> {
    let inputs = inputs(ctx, &args.inputs)?;
    let (mut worst, mut shown, mut printed) = (None, vec![], vec![]);
    let like = Request { inputs, ..Request::default() };
    for request in &requests(&recipes(ctx, &args.recipes)?, &like) {
        match request.each_variant() {
            Ok(found) => found.iter().for_each(|one| checked(ctx, &mut printed, one)),
            // The mistakes of every recipe are shown, not those of the first only.
            Err(bad) => {
                if let engine::error::Error::Recipe(found) = &*bad.error {
                    // Those of a workspace are found with each of its recipes.
                    let new = |one: &&recipe::Diagnostic| !shown.contains(*one);
                    let new: Vec<_> = found.iter().filter(new).cloned().collect();
                    ctx.ui.diagnostics(&new);
                    shown.extend(new);
                }
                worst = Some(edge::build(&bad.error, &bad.recipe));
            }
        }
    }
    worst.map_or(Ok(edge::OK), Err)
}

/// Says that a recipe is right.
fn checked(ctx: &Ctx<'_>, printed: &mut Vec<recipe::Diagnostic>, request: &Request) {
    let Some(recipe) = request.checked.as_ref().map(|looked| &looked.recipe) else { return };
    warn(ctx, printed, &recipe.warnings);
    let image = format!("{}:{}", recipe.image.name, recipe.image.version);
    if ctx.ui.json() {
        let mut object = json!({ "recipe": absolute(&request.recipe), "image": image,
            "steps": recipe.steps.len() });
        add_variant(&mut object, request);
        ctx.ui.object("checked", object);
    } else {
        let (path, steps) = (clean(&request.recipe.to_string_lossy()), recipe.steps.len());
        ctx.ui.say(&format!("{path}: ok ({image}, {steps} steps)"));
    }
}

/// Adds which variant of the recipe it is, where there are several.
fn add_variant(object: &mut Value, request: &Request) {
    let values = request.inputs.variant.values();
    let variant: serde_json::Map<String, Value> =
        values.map(|(name, value)| (name.to_owned(), json!(value.to_string()))).collect();
    if !variant.is_empty() {
        object["variant"] = variant.into();
    }
}

/// `bake plan`: of the recipes and of those that they stand on.
pub(super) fn plan(ctx: &Ctx<'_>, args: &RecipeArgs) -> Result<u8, Report> {
    let request = Request { inputs: inputs(ctx, &args.inputs)?, ..Request::default() };
    let ordered = engine::order(&requests(&recipes(ctx, &args.recipes)?, &request))
        .map_err(|found| failed_one(ctx, &found))?;
    for one in &ordered {
        let Some(looked) = &one.request.checked else { continue };
        let recipe = &looked.recipe;
        let image = plan::draw(recipe);
        let platform = one.request.platform();
        let stages: Vec<(&str, Plan)> = recipe
            .stages
            .iter()
            .map(|stage| (stage.name.as_str(), plan::of_stage(recipe, stage)))
            .collect();
        if ctx.ui.json() {
            let stages: Vec<Value> = stages
                .iter()
                .map(|(name, plan)| {
                    json!({ "stage": name, "base": plan.base,
                    "steps": steps(plan) })
                })
                .collect();
            let mut object = json!({ "recipe": absolute(&one.request.recipe), "image": image.image,
                "base": image.base, "steps": steps(&image), "stages": stages,
                "outputs": outputs(recipe), "platform": platform.to_string(),
                "asked": one.wanted });
            add_variant(&mut object, &one.request);
            ctx.ui.object("plan", object);
            continue;
        }
        let mut rows = vec![];
        let of_stages = stages.iter().map(|(name, plan)| (Some(*name), plan));
        for (stage, plan) in of_stages.chain([(None, &image)]) {
            let row = |index, line: String, label: &str, network: &Reach| {
                let network = match network {
                    Reach::None => String::new(),
                    network => network.to_string(),
                };
                vec![place(stage, index), line, label.to_owned(), network]
            };
            rows.push(row(0, plan.base_line.to_string(), &plan.base, &Reach::None));
            let nodes = plan.nodes.iter().zip(1..);
            rows.extend(nodes.map(|(node, at)| {
                let line = line_of(node.part_file().as_deref(), node.line);
                row(at, line, &node.label, &node.network)
            }));
        }
        rows.extend(recipe.outputs.iter().map(|output| {
            let what = format!("{} {}", output.format, output.path.display());
            vec!["output".to_owned(), output.place.line.to_string(), what, String::new()]
        }));
        let foreign = platform != Platform::host();
        let of = if foreign { format!(" {platform}") } else { String::new() };
        ctx.ui.result(&clean(&format!("{}{of}", image.image)));
        ctx.ui.raw(table::columns(&["STEP", "LINE", "WHAT", ""], &rows, &[1]).as_bytes());
    }
    Ok(edge::OK)
}

/// Returns the outputs of a recipe as objects.
fn outputs(recipe: &recipe::Recipe) -> Vec<Value> {
    let outputs = recipe.outputs.iter();
    outputs
        .map(|output| {
            json!({ "format": output.format, "path": output.path, "line": output.place.line })
        })
        .collect()
}

/// Returns the steps of a plan as objects.
fn steps(plan: &Plan) -> Vec<Value> {
    let nodes = plan.nodes.iter().zip(1..);
    nodes
        .map(|(node, at)| {
            json!({ "step": at, "label": node.label, "line": node.line,
                "file": node.part_file().as_deref().map(absolute),
            "network": node.network, "ops": node.ops })
        })
        .collect()
}

/// `bake fmt`.
pub(super) fn fmt(ctx: &Ctx<'_>, args: &FmtArgs) -> Result<u8, Report> {
    if args.recipes.iter().any(|path| path == Path::new("-")) {
        return fmt_stdin(ctx, args);
    }
    let mut unformatted = 0;
    for path in &to_format(ctx, &args.recipes)? {
        let text = crate::inputs::text(path).map_err(|error| failed(ctx, &error.into(), path))?;
        let formatted = recipe::format(&text, path)
            .map_err(|found| failed(ctx, &engine::error::Error::Recipe(found), path))?;
        let changed = formatted != text;
        if changed && !args.check {
            files::rewrite(path, formatted.as_bytes(), 0o644)
                .map_err(|error| edge::report("file", edge::FAILED, &error))?;
        }
        unformatted += u32::from(changed);
        if ctx.ui.json() {
            ctx.ui.object(
                "formatted",
                json!({ "recipe": absolute(path), "changed": changed,
                    "written": changed && !args.check }),
            );
        } else if changed {
            let verb = if args.check { "is not formatted" } else { "is formatted now" };
            ctx.ui.say(&format!("{} {verb}", clean(&path.to_string_lossy())));
        }
    }
    Ok(if args.check && unformatted > 0 { edge::FAILED } else { edge::OK })
}

/// `bake fmt -`: for editors.
fn fmt_stdin(ctx: &Ctx<'_>, args: &FmtArgs) -> Result<u8, Report> {
    let path = PathBuf::from("-");
    if args.recipes != [path.clone()] || ctx.ui.json() {
        return Err(edge::usage(
            "- stands for stdin and stdout",
            "leave out --json and other recipes",
        ));
    }
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(STDIN_MAX)
        .read_to_string(&mut text)
        .map_err(|error| edge::report("file", edge::FAILED, &error))?;
    let formatted = recipe::format(&text, &path)
        .map_err(|found| failed(ctx, &engine::error::Error::Recipe(found), &path))?;
    if args.check {
        return Ok(if formatted == text { edge::OK } else { edge::FAILED });
    }
    ctx.ui.raw(formatted.as_bytes());
    Ok(edge::OK)
}

/// `bake new`.
pub(super) fn new(ctx: &Ctx<'_>, args: &NewArgs) -> Result<u8, Report> {
    let Some(name) = &args.name else {
        if ctx.ui.json() {
            for template in template::TEMPLATES {
                ctx.ui
                    .object("template", json!({ "name": template.name, "about": template.about }));
            }
        } else {
            let rows: Vec<_> = template::TEMPLATES
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
    let schema = format!("{:#}\n", recipe::schema());
    let made = template::create(&args.template, dir, &image, &schema)
        .map_err(|error| edge::report("new", edge::USAGE, &error))?;
    for path in &made {
        if ctx.ui.json() {
            ctx.ui.object("made", json!({ "path": absolute(path) }));
        } else {
            ctx.ui.result(&clean(&path.to_string_lossy()));
        }
    }
    ctx.ui.say(&format!("next: bake build {}", clean(&dir.to_string_lossy())));
    Ok(edge::OK)
}
