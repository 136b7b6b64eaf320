//! What a build would do about a step, in words and as part of an object.

use std::path::Path;

use serde_json::{Value, json};

use crate::plan::explained::Outcome;
use crate::ui::text::clean;

/// Returns what a step is called where it is one of many: `2`, `base`, `build/2`.
pub(super) fn place(stage: Option<&str>, index: usize) -> String {
    let own = if index == 0 { "base".to_owned() } else { index.to_string() };
    match stage {
        Some(stage) => format!("{stage}/{own}"),
        None => own,
    }
}

/// Returns where a step stands: its line, of the recipe or of the included file `part`.
pub(super) fn line_of(part: Option<&Path>, line: u32) -> String {
    part.map_or_else(|| line.to_string(), |part| clean(&format!("{}:{line}", part.display())))
}

/// Returns what a build would do about a step: in a word, and why.
pub(super) fn words(outcome: &Outcome) -> (&'static str, String) {
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

/// Adds what a build would do about a step to its object.
pub(super) fn add_outcome(object: &mut Value, outcome: &Outcome) {
    match outcome {
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
}
