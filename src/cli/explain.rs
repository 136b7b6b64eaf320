//! `bake explain`: which steps are cached, and why the others would run.

use serde_json::{Value, json};

use super::args::recipe::ExplainArgs;
use super::ctx::Ctx;
use super::graph;
use super::outcome::{add_outcome, line_of, place, words};
use super::recipes::recipes;
use super::request::{
    absolute, failed_one, inputs, network, no_cache, read, requests, source_date_epoch, warn,
};
use crate::delivery::{Planned, State};
use crate::engine::Request;
use crate::explain;
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
    let requests = read(ctx, &requests(&recipes, &request))?;
    let mut printed = vec![];
    for looked in requests.iter().filter_map(|one| one.checked.as_ref()) {
        warn(ctx, &mut printed, &looked.recipe.warnings);
    }
    ctx.with_job_context(|job| {
        let explained =
            explain::explain(job, &requests).map_err(|found| failed_one(ctx, &found))?;
        let (explained, outputs): (Vec<_>, Vec<_>) = explained.into_iter().unzip();
        match (args.graph || args.dot, ctx.ui.json()) {
            (true, true) => ctx.ui.object("graph", graph::object(&explained)),
            (true, false) if args.dot => ctx.ui.raw(graph::dot(&explained).as_bytes()),
            (true, false) => ctx.ui.raw(graph::text(&explained).as_bytes()),
            (false, _) => {
                explained.iter().zip(&outputs).for_each(|(one, outputs)| show(ctx, one, outputs));
            }
        }
        Ok(())
    })
}

/// An output, and what is at its place.
type Output = (Planned, Option<State>);

fn show(ctx: &Ctx<'_>, explained: &Explained, outputs: &[Output]) {
    if ctx.ui.json() {
        let steps: Vec<Value> = explained.steps.iter().map(object).collect();
        let already = explained.already.map(|digest| digest.to_string());
        let recipe = absolute(&explained.recipe);
        ctx.ui.object(
            "explained",
            json!({ "image": explained.image, "baked": already, "steps": steps, "recipe": recipe,
                "outputs": outputs.iter().map(output_object).collect::<Vec<_>>(),
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
        let line = line_of(step.part.as_deref(), step.line);
        vec![place, line, clean(&step.label), outcome.to_owned(), clean(&why)]
    };
    let rows: Vec<Vec<String>> = explained.steps.iter().map(row).collect();
    ctx.ui.raw(table::columns(&["STEP", "LINE", "WHAT", "", "WHY"], &rows, &[1]).as_bytes());
    if outputs.is_empty() {
        return;
    }
    let row = |(output, state): &Output| {
        let (path, (outcome, why)) = (output.shown.display().to_string(), of_output(*state));
        let (format, line) = (output.format.name().to_owned(), output.line().to_string());
        vec![format, line, clean(&path), outcome.to_owned(), why.to_owned()]
    };
    let rows: Vec<Vec<String>> = outputs.iter().map(row).collect();
    ctx.ui.raw(table::columns(&["OUTPUT", "LINE", "PATH", "", "WHY"], &rows, &[1]).as_bytes());
}

/// Says what a build would find at the place of an output, and do.
fn of_output(state: Option<State>) -> (&'static str, &'static str) {
    match state {
        None => ("made", "together with the image"),
        Some(State::Missing) => ("made", "nothing is there"),
        Some(State::There) => ("there", "as it was made"),
        Some(State::Gone) => ("gone", "is made again"),
        Some(State::Other) => ("other", "something else is there, and is replaced"),
    }
}

fn output_object((output, state): &Output) -> Value {
    let (outcome, why) = of_output(*state);
    json!({ "format": output.format.name(), "path": absolute(&output.shown),
        "line": output.line(), "outcome": outcome, "why": why })
}

fn object(step: &Step) -> Value {
    let file = step.part.as_deref().map(absolute);
    let mut object =
        json!({ "step": step.index, "label": step.label, "line": step.line, "file": file });
    if let Some(stage) = &step.stage {
        object["stage"] = json!(stage);
    }
    add_outcome(&mut object, &step.outcome);
    object
}
