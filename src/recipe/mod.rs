//! The recipe: TOML text in, a checked [`Recipe`] or every diagnostic at once out. Touches nothing
//! but what it is handed.

mod format;
mod keys;
mod model;
mod output_keys;
mod parse;
mod parts;
#[cfg(test)]
mod reference;
mod schema;
mod value;
mod variant;
mod vars;
mod workspace;
mod workspace_keys;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use crate::schema::{Command, Diagnostic};
pub use model::{
    Base, BaseKind, Broken, Compression, Config, Debian, DebianVariant, DiskOutput, Drift,
    Healthcheck, Image, Inputs, Modes, Oci, OciSource, Output, Part, Recipe, Right, Stage,
};
pub use parts::{Parts, Unread, shown};
pub use value::Value;
pub use variant::Variant;
pub use workspace::{Pattern, Registry, WORKSPACE, Workspace, WorkspaceFile, Workspaces};

/// Reads, checks, substitutes and decides. All mistakes at once, in the order of the text.
///
/// # Errors
/// Every mistake of the recipe, of the vars files, of `--var`, of `--set-version` and of
/// `BAKE_VAR_x`; warnings may stand among them. What has no file is shown as a line of its own, in
/// a file called `<command line>` or `<environment>`.
pub fn read(text: &str, inputs: &Inputs) -> Result<Recipe, Vec<Diagnostic>> {
    parse::read(text, inputs).map_err(|broken| broken.mistakes)
}

/// As [`read`], with what is right of a recipe that has mistakes.
///
/// # Errors
/// As [`read`].
pub fn read_what_is_right(text: &str, inputs: &Inputs) -> Result<Recipe, Box<Broken>> {
    parse::read(text, inputs)
}

/// Reads what a workspace file says besides variables and defaults: those are judged with every
/// recipe that is read with it.
///
/// # Errors
/// Every other mistake in it.
pub fn read_workspace(file: &WorkspaceFile) -> Result<Workspace, Vec<Diagnostic>> {
    parse::read_workspace(file)
}

/// Returns those of a recipe's variants that are meant ([`Inputs::variants`]).
///
/// # Errors
/// Where no variant is what was asked for.
pub fn meant(all: Vec<Variant>, inputs: &Inputs) -> Result<Vec<Variant>, Vec<Diagnostic>> {
    variant::selected(all, &inputs.variants, &inputs.file)
}

/// Returns all variants of a recipe: one for each combination of the values of its `[matrix]`, or
/// the empty one. Of a text with mistakes in it there may be fewer; [`read`] reports them.
#[must_use]
pub fn all_variants(text: &str, inputs: &Inputs) -> Vec<Variant> {
    parse::variants(text, inputs)
}

/// Says in one line where how many mistakes are.
#[must_use]
pub fn summary(mistakes: &[Diagnostic]) -> String {
    let count = mistakes.iter().filter(|one| !one.warning).count();
    let mut places: Vec<String> = vec![];
    for one in mistakes.iter().filter(|one| !one.warning) {
        let place = match one.file.to_str() {
            Some("<command line>") => "the command line".to_owned(),
            Some("<environment>") => "the environment".to_owned(),
            _ => one.file.display().to_string(),
        };
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let has = if places.len() == 1 { "has" } else { "have" };
    let noun = if count == 1 { "mistake" } else { "mistakes" };
    format!("{} {has} {count} {noun}", places.join(" and "))
}

/// Reads a duration as recipes write it: `90s`, `1h30m`.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    crate::schema::duration(text).map_err(|mistake| mistake.in_one_line())
}

/// Whether a recipe may name a secret so.
#[must_use]
pub fn is_secret_name(text: &str) -> bool {
    crate::schema::Check::SecretName.test(text).is_ok()
}

/// Returns the chain of recipes in which one is, through others, its own base: `a -> b -> a`.
///
/// `chain`: canonical paths (symlinks followed) of the recipes on the way, the built one first.
/// `next`: that of the recipe which the last one starts from.
#[must_use]
pub fn base_cycle(chain: &[PathBuf], next: &Path) -> Option<String> {
    let start = chain.iter().position(|path| path == next)?;
    let names: Vec<String> = chain[start..]
        .iter()
        .map(PathBuf::as_path)
        .chain([next])
        .map(|path| path.display().to_string())
        .collect();
    Some(names.join(" -> "))
}

/// Returns the recipe in bake's own format: comments kept, tables and keys in the reference's
/// order, the meaning untouched.
///
/// # Errors
/// Fails like `read` where it is not TOML; every other mistake is left as it is.
pub fn format(text: &str, file: &Path) -> Result<String, Vec<Diagnostic>> {
    format::format(text, file)
}

/// Returns the JSON Schema of a workspace file, `bake.toml`, as `schema` does of a recipe.
#[must_use]
pub fn workspace_schema() -> serde_json::Value {
    schema::workspace_schema()
}

/// Returns the JSON Schema (draft 2020-12) of a recipe, with a description of every key for
/// editors.
#[must_use]
pub fn schema() -> serde_json::Value {
    schema::schema()
}

/// Returns every table of keys, by the name it has in the JSON Schema.
#[cfg(test)]
pub(crate) fn tables() -> impl Iterator<Item = (String, &'static crate::schema::Section)> {
    keys::tables()
}

/// Renders a template file of a `template` step: whole Jinja, strict, with the recipe's variables
/// ([`Recipe::vars`]) and no way to any file.
///
/// # Errors
/// The first mistake, at its place in the template.
pub fn render_template(
    text: &str,
    file: &Path,
    vars: &BTreeMap<String, Value>,
) -> Result<String, Diagnostic> {
    vars::render(text, file, vars)
}
