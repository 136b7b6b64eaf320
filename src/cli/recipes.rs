//! Which recipes a command means.

use std::path::{Path, PathBuf};

use super::ctx::Ctx;
use super::edge;
use super::request::failed;
use crate::inputs::{RECIPE, members};
use crate::recipe::{WORKSPACE, WorkspaceFile};
use crate::ui::report::Report;

/// Returns the recipes that are meant: those named, of a directory the one in it, of a workspace
/// its members; where none is named, the one here, else the members of the workspace around.
pub(super) fn recipes(ctx: &Ctx<'_>, named: &[PathBuf]) -> Result<Vec<PathBuf>, Report> {
    let mut all = vec![];
    for path in named {
        all.extend(meant(ctx, path)?);
    }
    if named.is_empty() {
        all = unnamed(ctx)?;
    }
    ctx.nearby.of_recipes(&all);
    Ok(all)
}

/// Returns the one recipe that is meant, as [`recipes`] does.
pub(super) fn one_recipe(ctx: &Ctx<'_>, named: Option<&PathBuf>) -> Result<PathBuf, Report> {
    let all = recipes(ctx, named.map(std::slice::from_ref).unwrap_or_default())?;
    match <[PathBuf; 1]>::try_from(all) {
        Ok([one]) => Ok(one),
        Err(all) => {
            let names: Vec<String> = all.iter().map(|one| one.display().to_string()).collect();
            let hint = format!("name one of {}", names.join(", "));
            Err(edge::usage("the workspace has several recipes, and one is needed", hint))
        }
    }
}

/// Returns the files to be formatted: as [`recipes`], but of a workspace its file too.
pub(super) fn to_format(ctx: &Ctx<'_>, named: &[PathBuf]) -> Result<Vec<PathBuf>, Report> {
    let is_workspace = |path: &PathBuf| path.ends_with(WORKSPACE) && !path.is_dir();
    let (mut files, recipes): (Vec<PathBuf>, Vec<PathBuf>) =
        named.iter().cloned().partition(is_workspace);
    for path in &recipes {
        files.extend(meant(ctx, path)?);
    }
    if named.is_empty() {
        files = unnamed(ctx)?;
        if files != [Path::new(RECIPE)] {
            files.extend(ctx.workspace(Path::new(""))?.map(|one| one.file.clone()));
        }
    }
    Ok(files)
}

/// Returns the recipes that a path on the command line means.
fn meant(ctx: &Ctx<'_>, path: &Path) -> Result<Vec<PathBuf>, Report> {
    let directory = match path {
        _ if path.is_dir() => path,
        _ if path.ends_with(WORKSPACE) => path.parent().unwrap_or(Path::new("")),
        _ => return Ok(vec![path.to_owned()]),
    };
    let there = |name| directory.join(name).symlink_metadata().is_ok();
    if path.is_dir() && (there(RECIPE) || !there(WORKSPACE)) {
        return Ok(vec![path.join(RECIPE)]);
    }
    match ctx.workspace(directory)? {
        Some(file) => all_members(ctx, &file),
        None => Ok(vec![path.to_owned()]),
    }
}

/// Returns the recipes that are meant where none is named.
fn unnamed(ctx: &Ctx<'_>) -> Result<Vec<PathBuf>, Report> {
    if Path::new(RECIPE).exists() {
        return Ok(vec![RECIPE.into()]);
    }
    match ctx.workspace(Path::new(""))? {
        Some(file) => all_members(ctx, &file),
        None => Err(edge::usage(
            format!(
                "missing a recipe: none is named, there is no {RECIPE} here, and no {WORKSPACE} \
                    here or above"
            ),
            "name one, or start one with `bake new NAME`",
        )),
    }
}

fn all_members(ctx: &Ctx<'_>, file: &WorkspaceFile) -> Result<Vec<PathBuf>, Report> {
    let workspace = ctx.read_workspace(file)?;
    let found =
        members(file, &workspace).map_err(|error| failed(ctx, &error.into(), &file.file))?;
    if found.is_empty() {
        let message = format!("the workspace {} has no members", file.file.display());
        let hint = "name the recipes in it: `members = [\"*.toml\"]`";
        return Err(edge::usage(message, hint));
    }
    Ok(found)
}
