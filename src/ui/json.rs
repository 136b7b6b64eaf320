//! `--json`: one object per line, `{"v":1,"type":…}`; described in `docs/json.md`, never changed
//! without raising `v`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::event::Event;
use crate::recipe::Diagnostic;
use crate::ui::report::Report;

/// Puts `v` and `type` in front of `fields` (an object).
pub(super) fn object(kind: &str, fields: Value) -> Value {
    let mut map = Map::new();
    map.insert("v".to_owned(), json!(1));
    map.insert("type".to_owned(), json!(kind));
    if let Value::Object(fields) = fields {
        map.extend(fields);
    }
    Value::Object(map)
}

/// Returns the object for an event; progress of single bytes is not worth a line.
pub(super) fn event(event: &Event) -> Option<Value> {
    let (origin, event) = event.apart();
    let mut object = single(event)?;
    if let Some(image) = origin.image {
        object["image"] = json!(image);
    }
    if let Some(stage) = origin.stage {
        object["stage"] = json!(stage);
    }
    Some(object)
}

fn single(event: &Event) -> Option<Value> {
    let (kind, fields) = match event {
        Event::Started { image, steps, logs } => {
            ("started", json!({ "image": image, "steps": steps, "logs": logs }))
        }
        Event::StepStarted { index, label, line, part, .. } => {
            let part = part.as_deref().map(absolute);
            ("step", json!({ "step": index, "label": label, "line": line, "file": part }))
        }
        Event::StepMissed { index, kind, why, rows, since } => (
            "step-missed",
            json!({ "step": index, "reason": kind, "why": why, "rows": rows, "since": since }),
        ),
        Event::StepOutput { index, line, stderr } => (
            "output",
            json!({ "step": index, "stream": if *stderr { "stderr" } else { "stdout" },
                "line": line }),
        ),
        Event::StepDone { index, took, layer, size, cached } => (
            "step-done",
            json!({ "step": index, "seconds": seconds(*took), "layer": layer, "size": size,
                "cached": cached }),
        ),
        Event::TestStarted { index, total, label, line } => {
            let line = (*line > 0).then_some(line);
            ("test", json!({ "test": index, "tests": total, "label": label, "line": line }))
        }
        Event::TestOutput { index, line } => {
            ("test-output", json!({ "test": index, "line": line }))
        }
        Event::TestDone { index, took } => {
            ("test-done", json!({ "test": index, "seconds": seconds(*took) }))
        }
        Event::Warning { message, hint } => {
            ("warning", json!({ "message": message, "hint": hint }))
        }
        Event::Note { message } => ("note", json!({ "message": message })),
        // `Of` is taken apart by the caller.
        Event::Of { .. }
        | Event::Shell { .. }
        | Event::Progress { .. }
        | Event::ProgressEnd { .. }
        | Event::Published { .. } => return None,
    };
    Some(object(kind, fields))
}

/// Returns seconds with three digits.
pub(super) fn seconds(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Returns a path as all objects have it.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Returns the fields of a diagnostic.
pub(super) fn diagnostic(found: &Diagnostic) -> Value {
    json!({
        "severity": if found.warning { "warning" } else { "error" },
        "file": absolute(&found.file), "line": found.line, "column": found.column,
        "message": found.message, "label": found.label, "help": found.help,
    })
}

/// Returns the fields of a failure.
pub(super) fn failure(report: &Report) -> Value {
    json!({
        "kind": report.kind, "message": report.message, "causes": report.causes,
        "recipe": report.recipe.as_deref().map(absolute), "line": report.line,
        "file": report.file.as_deref().map(absolute),
        "step": report.step, "log": report.log, "output": report.output, "hints": report.hints,
        "exit": report.exit,
    })
}
