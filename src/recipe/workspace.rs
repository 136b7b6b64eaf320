//! A workspace: what the file `bake.toml` above recipes says of all of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::image::RemoteName;
use crate::schema::Diagnostic;

/// What the file of a workspace is called.
pub const WORKSPACE: &str = "bake.toml";

/// The file of a workspace, as it was read.
#[derive(Debug, Clone)]
pub struct WorkspaceFile {
    /// Its path, for messages.
    pub file: PathBuf,
    /// The directory that it is in, without symlinks.
    pub directory: PathBuf,
    /// All of it.
    pub text: Arc<str>,
}

/// The workspace files that a run has met, by directory, and the directories that have none: each
/// is looked for and read once. Clones share what they know.
#[derive(Debug, Clone, Default)]
pub struct Workspaces(Arc<Mutex<BTreeMap<PathBuf, Option<Arc<WorkspaceFile>>>>>);

impl Workspaces {
    /// Returns the file in `directory`, which has no symlinks; `read` is asked for it once.
    ///
    /// # Errors
    /// Those of `read`, which is asked again the next time.
    pub fn once<E>(
        &self,
        directory: &Path,
        read: impl FnOnce() -> Result<Option<WorkspaceFile>, E>,
    ) -> Result<Option<Arc<WorkspaceFile>>, E> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(directory) {
            return Ok(found.clone());
        }
        let found = read()?.map(Arc::new);
        known.insert(directory.to_owned(), found.clone());
        Ok(found)
    }
}

/// What a workspace file says, besides the variables and defaults that recipes are read with.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// `members`: globs of recipes, relative to its directory.
    pub members: Vec<Pattern>,
    /// `exclude`: globs of what is no member.
    pub exclude: Vec<Pattern>,
    /// `store`: relative to its directory.
    pub store: Option<PathBuf>,
    /// `mirror`: the Debian archive where a recipe names none.
    pub mirror: Option<String>,
    /// `registry`: what `bake push` puts before the name of an image.
    pub registry: Option<Registry>,
}

/// A glob over paths of a workspace.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// As written.
    pub glob: String,
    /// Where it stands, as a mistake without a message.
    pub place: Diagnostic,
}

/// A registry, and what all names there begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry(String);

impl Registry {
    /// Returns the registry that `text` means: `host[:port]`, perhaps with a path.
    ///
    /// # Errors
    /// Where it is none.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.trim_end_matches('/').to_owned())
    }

    /// Returns where an image of the store goes.
    ///
    /// # Errors
    /// Where that is no name that a registry takes.
    pub fn name_of(&self, image: &str) -> Result<RemoteName, crate::image::BadRemoteName> {
        RemoteName::to_push_to(&format!("{}/{image}", self.0))
    }
}
