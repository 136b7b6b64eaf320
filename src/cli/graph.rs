//! `bake explain --graph` and `--dot`: everything that recipes build, and what each is made from.

use serde_json::{Value, json};

use super::outcome::{add_outcome, line_of, words};
use super::request::absolute;
use crate::plan::explained::{Explained, Outcome};
use crate::plan::graph::{Input, Kind, Node, Source};
use crate::ui::table;
use crate::ui::text::clean;

/// Returns the graph as one object.
pub(super) fn object(all: &[Explained]) -> Value {
    let nodes: Vec<Value> =
        all.iter().flat_map(|one| one.nodes.iter().map(|node| node_object(one, node))).collect();
    json!({ "nodes": nodes })
}

fn node_object(explained: &Explained, node: &Node) -> Value {
    let input = |input: &Input| match &input.from {
        Source::Node(id) => json!({ "from": "node", "node": id, "what": input.what }),
        other => json!({ "from": other.name(), "what": input.what }),
    };
    let inputs: Vec<Value> = node.inputs.iter().map(input).collect();
    let line = (node.line > 0).then_some(node.line);
    let mut object = json!({
        "id": node.id, "kind": node.kind.name(), "recipe": absolute(&explained.recipe),
        "image": explained.image, "stage": node.stage, "label": node.label, "line": line,
        "file": node.part.as_deref().map(absolute),
        "inputs": inputs,
    });
    match node.kind {
        Kind::Base | Kind::Step => object["step"] = json!(node.index),
        Kind::Test => object["test"] = json!(node.index),
        Kind::Image => {
            object["baked"] = json!(explained.already.map(|digest| digest.to_string()));
        }
        Kind::Stage => {}
    }
    if let Some(outcome) = outcome(explained, node) {
        add_outcome(&mut object, outcome);
    }
    object
}

/// Returns what a build would do about a node that is a base or a step.
fn outcome<'a>(explained: &'a Explained, node: &Node) -> Option<&'a Outcome> {
    if !matches!(node.kind, Kind::Base | Kind::Step) {
        return None;
    }
    let found =
        explained.steps.iter().find(|one| (one.index, &one.stage) == (node.index, &node.stage));
    found.map(|step| &step.outcome)
}

/// Returns a word for what a build would do about a node; of stages and images for all of theirs.
fn state(explained: &Explained, node: &Node) -> &'static str {
    let of_root = explained.steps.iter().filter(|step| step.stage == node.stage);
    match node.kind {
        Kind::Base | Kind::Step => {
            outcome(explained, node).map(|outcome| words(outcome).0).unwrap_or_default()
        }
        Kind::Image if explained.already.is_some() => "baked",
        Kind::Stage | Kind::Image => of_root
            .map(|step| words(&step.outcome).0)
            .max_by_key(|word| ["cached", "depends", "runs"].iter().position(|one| one == word))
            .unwrap_or_default(),
        Kind::Test => "",
    }
}

/// Returns the graph as a table for each image, each node below what it is made from.
pub(super) fn text(all: &[Explained]) -> String {
    let mut out = String::new();
    for (at, explained) in all.iter().enumerate() {
        if at > 0 {
            out.push('\n');
        }
        let recipe = explained.recipe.display();
        out += &clean(&format!("{} ({recipe})", explained.image));
        out.push('\n');
        let rows: Vec<Vec<String>> =
            explained.nodes.iter().map(|node| row(explained, node)).collect();
        out += &table::columns(&["NODE", "LINE", "WHAT", "", "MADE FROM"], &rows, &[1]);
    }
    out
}

fn row(explained: &Explained, node: &Node) -> Vec<String> {
    let line = match node.line {
        0 => String::new(),
        line => line_of(node.part.as_deref(), line),
    };
    let inputs: Vec<String> = node.inputs.iter().map(|one| input(explained, one)).collect();
    let state = state(explained, node).to_owned();
    vec![node.place(), line, clean(&node.label), state, clean(&inputs.join(", "))]
}

/// Returns an input as a person reads it: nodes of the same image by their place alone.
fn input(explained: &Explained, input: &Input) -> String {
    let Source::Node(id) = &input.from else { return input.what.clone() };
    let near = id.strip_prefix(&explained.image).and_then(|rest| rest.strip_prefix(' '));
    let node = match near {
        _ if *id == explained.image => "image",
        Some(place) => place,
        None => id,
    };
    if input.what.is_empty() { node.to_owned() } else { format!("{} of {node}", input.what) }
}

/// Returns the graph in the language of Graphviz, a cluster for each image.
pub(super) fn dot(all: &[Explained]) -> String {
    let mut out = "digraph bake {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n".to_owned();
    for (at, explained) in all.iter().enumerate() {
        out += &format!("  subgraph cluster_{at} {{\n    label={};\n", quoted(&explained.image));
        for node in &explained.nodes {
            out += &format!("    {} [{}];\n", quoted(&node.id), look(explained, node));
        }
        out += "  }\n";
    }
    for node in all.iter().flat_map(|one| &one.nodes) {
        for input in &node.inputs {
            let what = quoted(&input.what);
            let from = match &input.from {
                Source::Node(id) => quoted(id),
                // The same file is another input of another recipe, and may be none.
                other => {
                    let name = quoted(&format!("{} {} {}", node.id, other.name(), input.what));
                    out += &format!("  {name} [shape=note, label={what}];\n");
                    name
                }
            };
            let label = match &input.from {
                Source::Node(_) if !input.what.is_empty() => format!(" [label={what}]"),
                _ => String::new(),
            };
            out += &format!("  {from} -> {}{label};\n", quoted(&node.id));
        }
    }
    out + "}\n"
}

/// Returns the attributes of a node.
fn look(explained: &Explained, node: &Node) -> String {
    let shape = match node.kind {
        Kind::Base => "cylinder",
        Kind::Step => "box",
        Kind::Stage => "folder",
        Kind::Image => "box3d",
        Kind::Test => "diamond",
    };
    let color = match state(explained, node) {
        "cached" | "baked" => "palegreen",
        "runs" => "lightsalmon",
        "depends" => "khaki",
        _ => "white",
    };
    let label = quoted(&format!("{}: {}", node.place(), node.label));
    format!("shape={shape}, style=filled, fillcolor={color}, label={label}")
}

/// Returns a string of the language of Graphviz: between quotes only a quote ends it, and a
/// backslash begins an escape.
fn quoted(text: &str) -> String {
    let text = clean(text).replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn what_is_quoted_stays_one_string() {
        assert_eq!(quoted("run echo \"a\\n\""), r#""run echo \"a\\n\"""#);
    }
}
