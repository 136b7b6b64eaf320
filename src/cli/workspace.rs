//! What the workspace says where neither the command line nor the environment does.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::edge;
use crate::inputs::{self, workspace_of};
use crate::recipe::{self, WORKSPACE, Workspace, WorkspaceFile, Workspaces};
use crate::ui::Ui;
use crate::ui::report::Report;

/// The workspaces that count for a command.
#[derive(Default)]
pub(super) struct Nearby {
    /// Those that were met so far.
    pub(super) known: Workspaces,
    /// Directories of the recipes that the command is about.
    recipes_in: OnceLock<Vec<PathBuf>>,
}

impl Nearby {
    /// Notes which recipes the command is about: their workspaces count from now on.
    pub(super) fn of_recipes(&self, recipes: &[PathBuf]) {
        let directory = |recipe: &PathBuf| recipe.parent().unwrap_or(Path::new("")).to_owned();
        // A command asks which they are once, before anything else.
        let _ = self.recipes_in.set(recipes.iter().map(directory).collect());
    }

    /// Finds the workspace of a directory.
    pub(super) fn found(
        &self,
        ui: &Ui,
        directory: &Path,
    ) -> Result<Option<Arc<WorkspaceFile>>, Report> {
        workspace_of(directory, &self.known)
            .map_err(|error| failed(ui, error, &directory.join(WORKSPACE)))
    }

    /// Returns the store that the workspaces of the command's recipes name; where it is about none,
    /// that of the current directory's.
    pub(super) fn store(&self, ui: &Ui) -> Result<Option<PathBuf>, Report> {
        // A directory of somebody else's, such as root's home, is no workspace of the user's.
        let here = Path::new(".").canonicalize().map(|_| PathBuf::new());
        let here: Vec<PathBuf> = here.into_iter().collect();
        let mut stores: Vec<Option<PathBuf>> = vec![];
        for directory in self.recipes_in.get().unwrap_or(&here) {
            let store = match self.found(ui, directory)? {
                Some(file) => read(ui, &file)?.store.map(|store| file.directory.join(store)),
                None => None,
            };
            if !stores.contains(&store) {
                stores.push(store);
            }
        }
        if stores.len() > 1 {
            let name = |store: &Option<PathBuf>| match store {
                Some(store) => store.display().to_string(),
                None => "the user's own".to_owned(),
            };
            let names: Vec<String> = stores.iter().map(name).collect();
            let message =
                format!("the workspaces of the recipes have several stores: {}", names.join(", "));
            return Err(edge::usage(message, "give --store DIR, or name recipes of one of them"));
        }
        Ok(stores.pop().flatten())
    }
}

/// Reads what a workspace says of itself.
pub(super) fn read(ui: &Ui, file: &WorkspaceFile) -> Result<Workspace, Report> {
    recipe::read_workspace(file)
        .map_err(|found| failed(ui, inputs::Error::Recipe(found), &file.file))
}

/// Shows the mistakes of a workspace, and returns the report.
fn failed(ui: &Ui, error: inputs::Error, file: &Path) -> Report {
    if let inputs::Error::Recipe(found) = &error {
        ui.diagnostics(found);
    }
    edge::build(&error.into(), file)
}
