//! `bake explain`: which steps are cached, and why the others would run.

use serde_json::{Value, json};

use super::args::recipe::ExplainArgs;
use super::ctx::Ctx;
use super::graph;
use super::outcome::{add_outcome, place, words};
use super::recipes::recipes;
use super::request::{absolute, failed, inputs, network, no_cache, requests, source_date_epoch};
use crate::engine::{self, Request};
use crate::plan::explained::{Explained, Step};
use crate::ui::report::Report;
use crate::ui::table;
use crate::ui::text::clean;

/// `bake explain`.
pub(super) fn explain(ctx: &Ctx<'_>, args: &ExplainArgs) -> Result<u8, Report> {
    let network = network(&args.mirror)?;
    let recipes = recipes(ctx, &args.recipe.recipes)?;
    let request = Request {
        inputs: inputs(ctx, &args.recipe.inputs)?,
        epoch: source_date_epoch()?,
        network,
        no_cache: no_cache(&args.cache),
        ..Request::default()
    };
    let requests = requests(&recipes, &request);
    ctx.with_job_context(|job| {
        let explained = engine::explain::explain(job, &requests)
            .map_err(|found| failed(ctx, &found.error, &found.recipe))?;
        match (args.graph || args.dot, ctx.ui.json()) {
            (true, true) => ctx.ui.object("graph", graph::object(&explained)),
            (true, false) if args.dot => ctx.ui.raw(graph::dot(&explained).as_bytes()),
            (true, false) => ctx.ui.raw(graph::text(&explained).as_bytes()),
            (false, _) => explained.iter().for_each(|one| show(ctx, one)),
        }
        Ok(())
    })
}

fn show(ctx: &Ctx<'_>, explained: &Explained) {
    if ctx.ui.json() {
        let steps: Vec<Value> = explained.steps.iter().map(object).collect();
        let already = explained.already.map(|digest| digest.to_string());
        let recipe = absolute(&explained.recipe);
        ctx.ui.object(
            "explained",
            json!({ "image": explained.image, "baked": already, "steps": steps, "recipe": recipe,
                "asked": explained.asked }),
        );
        return;
    }
    match &explained.already {
        Some(digest) => {
            ctx.ui.result(&format!("{} is baked already: {digest}", clean(&explained.image)))
        }
        None => ctx.ui.result(&clean(&explained.image)),
    }
    let row = |step: &Step| {
        let (outcome, mut why) = words(&step.outcome);
        if (step.index, outcome) == (0, "depends") {
            why = "is another one if a step of it gives another layer than before".to_owned();
        }
        let place = place(step.stage.as_deref(), step.index);
        vec![place, step.line.to_string(), clean(&step.label), outcome.to_owned(), clean(&why)]
    };
    let rows: Vec<Vec<String>> = explained.steps.iter().map(row).collect();
    ctx.ui.raw(table::columns(&["STEP", "LINE", "WHAT", "", "WHY"], &rows, &[1]).as_bytes());
}

fn object(step: &Step) -> Value {
    let mut object = json!({ "step": step.index, "label": step.label, "line": step.line });
    if let Some(stage) = &step.stage {
        object["stage"] = json!(stage);
    }
    add_outcome(&mut object, &step.outcome);
    object
}
