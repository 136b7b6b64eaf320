//! docs/reference.md and docs/recipe.schema.json: every key, made of the tables of keys.
//! `UPDATE_GOLDEN=1` writes them anew.

use std::fmt::Write;
use std::path::Path;

use super::keys;
use super::workspace_keys::{WORKSPACE, WORKSPACE_DEFAULTS, WORKSPACE_VARS_DOC};
use crate::schema::{Effect, Section, Shape};
use crate::step::{LIMIT, MACHINE};

const HEAD: &str = "\
# Every key of a recipe

Made of the tables that the parser reads (`src/step`, `src/recipe/keys.rs`); the same texts are in \
`bake schema` for editors.
[recipe.md](recipe.md) explains what belongs together.

**Changes** says what is made anew when the value changes: `step`, the layer of that step (and \
what stands on another content of it);
`all`, every layer; `image`, the image but none of its layers; `–`, nothing.
";

/// Returns how a value is written.
fn value(shape: Shape) -> String {
    match shape {
        Shape::Text(_) => "string".to_owned(),
        Shape::List(_) => "list of strings".to_owned(),
        Shape::OneOrMany(_) | Shape::Command => "string or list".to_owned(),
        Shape::Boolean => "boolean".to_owned(),
        Shape::Yes => "`true`".to_owned(),
        Shape::Integer(low, high) => format!("{low} to {high}"),
        Shape::Choice(words) => {
            words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        }
        Shape::Shell => "`sh`, `bash` or list".to_owned(),
        Shape::Network => "boolean, `\"host\"` or list of hosts".to_owned(),
        Shape::Map(_) => "table of strings".to_owned(),
        Shape::Lists(..) => "table of lists".to_owned(),
        Shape::Vars | Shape::Data => "table of values".to_owned(),
        Shape::Ports => "list of ports".to_owned(),
        Shape::Sha256 => "string or table".to_owned(),
        Shape::Table(section) => format!("[table](#{})", anchor(section)),
        Shape::Start => "`true`, string, list or table".to_owned(),
        Shape::Stage => "name of a stage".to_owned(),
        Shape::From => {
            format!("name of a stage, or [table](#{})", anchor(&keys::FROM))
        }
        Shape::Targets(targets) => format!("{}, or table of targets", value(targets.one)),
        Shape::Mounts => "table of paths".to_owned(),
        Shape::Caches => format!("list of paths, or of [tables](#{})", anchor(&keys::CACHE)),
    }
}

/// Returns the anchor that a heading gets.
fn anchor(section: &Section) -> String {
    let letter = |c: char| c.is_alphanumeric() || c == '-' || c == '_' || c == ' ';
    let words: String = section.title.chars().filter(|c| letter(*c)).collect();
    words.replace(' ', "-")
}

fn changes(effect: Effect) -> &'static str {
    match effect {
        Effect::Step => "step",
        Effect::All => "all",
        Effect::Image => "image",
        Effect::Nothing => "–",
    }
}

fn table(out: &mut String, level: &str, section: &Section) {
    let Section { title, doc, keys, .. } = section;
    write!(out, "\n{level} {title}\n\n{doc}\n\n").expect("a string takes everything");
    out.push_str("| key | value | what | changes |\n|---|---|---|---|\n");
    for key in *keys {
        let required = if key.required { " (required)" } else { "" };
        let doc = key.doc.replace('|', "\\|");
        let (name, value) = (key.name, value(key.shape));
        let changes = changes(section.effect_of(key));
        writeln!(out, "| `{name}`{required} | {value} | {doc} | {changes} |")
            .expect("a string takes everything");
    }
}

fn reference() -> String {
    let mut out = HEAD.to_owned();
    table(&mut out, "##", &keys::IMAGE);
    write!(out, "\n## `[vars]`\n\n{}\n", keys::VARS_DOC).expect("a string takes everything");
    table(&mut out, "###", &keys::VAR);
    write!(out, "\n## `[matrix]`\n\n{}\n\n{}\n", keys::MATRIX_DOC, keys::EXCLUDE_DOC)
        .expect("a string takes everything");
    table(&mut out, "##", &keys::BASE);
    table(&mut out, "##", &keys::DEFAULTS);
    table(&mut out, "###", &LIMIT);
    write!(out, "\n## `[[step]]`\n\n{}\n", keys::STEP_DOC).expect("a string takes everything");
    keys::kinds().for_each(|kind| table(&mut out, "###", kind));
    table(&mut out, "###", &keys::FROM);
    table(&mut out, "###", &keys::MOUNT_FROM);
    table(&mut out, "###", &keys::CACHE);
    let (stages, stage) = (keys::STAGES_DOC, keys::STAGE_DOC);
    write!(out, "\n## `[stage]`\n\n{stages}\n\n{stage}\n").expect("a string takes everything");
    table(&mut out, "##", &MACHINE);
    write!(out, "\n## `[[test]]`\n\n{}\n", keys::TEST_DOC).expect("a string takes everything");
    keys::checks().for_each(|check| table(&mut out, "###", check));
    table(&mut out, "##", &keys::CONFIG);
    table(&mut out, "###", &keys::HEALTHCHECK);
    table(&mut out, "##", &keys::DRIFT);
    table(&mut out, "##", &keys::OUTPUT);
    table(&mut out, "###", &keys::PUSH);
    table(&mut out, "##", &WORKSPACE);
    write!(out, "\n### `[vars]` of `bake.toml`\n\n{WORKSPACE_VARS_DOC}\n")
        .expect("a string takes everything");
    table(&mut out, "###", &WORKSPACE_DEFAULTS);
    out
}

/// Compares a file of docs/ with what it must hold, or writes it.
fn golden(name: &str, made: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, made).expect("our own file");
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(made == there, "docs/{name} is not up to date (UPDATE_GOLDEN=1 writes it)");
}

#[test]
fn the_schema_that_examples_name_is_the_one_there_is() {
    golden("recipe.schema.json", &format!("{:#}\n", super::schema()));
}

#[test]
fn so_is_the_schema_of_workspaces() {
    golden("workspace.schema.json", &format!("{:#}\n", super::workspace_schema()));
}

#[test]
fn the_reference_is_what_the_tables_of_keys_say() {
    golden("reference.md", &reference());
}
