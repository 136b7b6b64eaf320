//! `bake explain`: which steps are cached, and why the others would run.

use serde_json::{Value, json};

use super::args::recipe::ExplainArgs;
use super::ctx::Ctx;
use super::request::{failed, inputs, network, no_cache, recipes, source_date_epoch};
use crate::engine::explain::{Explained, Outcome, Step};
use crate::engine::{self, Request};
use crate::ui::report::Report;
use crate::ui::table;
use crate::ui::text::clean;

/// `bake explain`.
pub(super) fn explain(ctx: &Ctx<'_>, args: &ExplainArgs) -> Result<u8, Report> {
    let network = network(&args.mirror)?;
    let recipes = recipes(&args.recipe.recipes)?;
    let request = Request {
        inputs: inputs(ctx, &args.recipe.inputs)?,
        epoch: source_date_epoch()?,
        network,
        no_cache: no_cache(&args.cache),
        ..Request::default()
    };
    ctx.with_job_context(|job| {
        for recipe in &recipes {
            let request = Request { recipe: recipe.clone(), ..request.clone() };
            let explained = engine::explain::explain(job, &request)
                .map_err(|error| failed(ctx, &error, recipe))?;
            show(ctx, &explained);
        }
        Ok(())
    })
}

fn show(ctx: &Ctx<'_>, explained: &Explained) {
    if ctx.ui.json() {
        let steps: Vec<Value> = explained.steps.iter().map(object).collect();
        let already = explained.already.map(|digest| digest.to_string());
        ctx.ui.object(
            "explained",
            json!({ "image": explained.image, "baked": already, "steps": steps }),
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
        let (outcome, why) = words(&step.outcome);
        let place = if step.index == 0 { "base".to_owned() } else { step.index.to_string() };
        vec![place, step.line.to_string(), clean(&step.label), outcome.to_owned(), clean(&why)]
    };
    let rows: Vec<Vec<String>> = explained.steps.iter().map(row).collect();
    ctx.ui.raw(table::columns(&["STEP", "LINE", "WHAT", "", "WHY"], &rows, &[1]).as_bytes());
}

fn words(outcome: &Outcome) -> (&'static str, String) {
    match outcome {
        Outcome::Cached(_, seconds) => ("cached", format!("saves {seconds:.2} s")),
        Outcome::Runs(why, since) => {
            let since = since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
            ("runs", format!("{}{since}", why.text()))
        }
        Outcome::Depends => {
            ("depends", "runs if a step below it gives another layer than before".to_owned())
        }
    }
}

fn object(step: &Step) -> Value {
    let mut object = json!({ "step": step.index, "label": step.label, "line": step.line });
    match &step.outcome {
        Outcome::Cached(layer, seconds) => {
            object["outcome"] = json!("cached");
            object["layer"] = json!(layer);
            object["seconds"] = json!(seconds);
        }
        Outcome::Runs(why, since) => {
            object["outcome"] = json!("runs");
            object["reason"] = json!(why.kind());
            object["why"] = json!(why.text());
            object["rows"] = json!(why.rows());
            object["since"] = json!(since);
        }
        Outcome::Depends => object["outcome"] = json!("depends"),
    }
    object
}
