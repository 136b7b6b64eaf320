//! Files that recipes include: where their texts come from. This room touches nothing, so it asks,
//! when it comes to the step that includes one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::schema::Diagnostic;

/// Where the texts of included files come from.
pub trait Parts: fmt::Debug + Send + Sync {
    /// Returns the text of `path`, relative to the directory `context`, which is relative to the
    /// recipe's. Asked twice it gives the same: what is read is read once.
    ///
    /// # Errors
    /// Why there is none.
    fn text(&self, context: &Path, path: &Path) -> Result<Arc<str>, Unread>;
}

/// Why an included file cannot be read.
#[derive(Debug, Clone)]
pub enum Unread {
    /// There is none, it is outside of the context, …: as fragments from the outside in.
    File(Vec<String>),
    /// It is not text, which is a mistake in it.
    Text(Box<Diagnostic>),
}

/// Texts by their paths below the context.
impl Parts for BTreeMap<PathBuf, String> {
    fn text(&self, _: &Path, path: &Path) -> Result<Arc<str>, Unread> {
        let text = self.get(path).map(|text| text.as_str().into());
        text.ok_or_else(|| Unread::File(vec!["there is no such file".to_owned()]))
    }
}

/// Returns an included file's path as people would write it beside the recipe's.
#[must_use]
pub fn shown(recipe: &Path, context: &Path, path: &Path) -> PathBuf {
    let whole = recipe.parent().unwrap_or(Path::new("")).join(context).join(path);
    whole.components().filter(|part| *part != Component::CurDir).collect()
}
