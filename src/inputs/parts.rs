//! The files that a recipe includes: opened below its context, read once, and kept, so that a recipe
//! that is evaluated again is the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::read::{MOST, utf8};
use crate::event::chain;
use crate::files::{Links, RootDir};
use crate::recipe::{Parts, Unread, shown};

/// The files that a recipe includes.
#[derive(Debug)]
pub struct HeldParts {
    recipe: PathBuf,
    /// What was read, or why it was not, by the path relative to the recipe's directory.
    read: Mutex<BTreeMap<PathBuf, Result<Arc<str>, Unread>>>,
}

impl HeldParts {
    /// Returns those of the recipe at `recipe`; nothing is read yet.
    #[must_use]
    pub fn of(recipe: &Path) -> Self {
        Self { recipe: recipe.to_owned(), read: Mutex::default() }
    }

    /// Returns the paths of those that were read.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = self.recipe.parent().unwrap_or(Path::new(""));
        read.iter().filter(|(_, text)| text.is_ok()).map(|(path, _)| directory.join(path)).collect()
    }

    fn read(&self, context: &Path, path: &Path) -> Result<Arc<str>, Unread> {
        let directory = self.recipe.parent().unwrap_or(Path::new("")).join(context);
        let file = |error: &dyn std::error::Error| Unread::File(chain(error));
        let directory = RootDir::open(&directory, Links::Beneath).map_err(|error| file(&error))?;
        let bytes = directory.read(path, MOST).map_err(|error| match error.is_missing() {
            true => Unread::File(vec!["there is no such file".to_owned()]),
            false => file(&error),
        })?;
        let text = utf8(&shown(&self.recipe, context, path), bytes);
        text.map(Arc::from).map_err(|mistake| Unread::Text(Box::new(mistake)))
    }
}

impl Parts for HeldParts {
    fn text(&self, context: &Path, path: &Path) -> Result<Arc<str>, Unread> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let text = read.entry(context.join(path)).or_insert_with(|| self.read(context, path));
        text.clone()
    }
}
