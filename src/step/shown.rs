//! What a program sees of a recipe besides the root: paths of the context or of stages, secrets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Something that is seen at a path while a program runs; what is written there is discarded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside.
    pub at: String,
    /// The stage it is of; none: the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Path below the context, or absolute path in the stage.
    pub path: PathBuf,
}

/// The secrets that a program sees, by name. Their values are no part of an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// Those that are files, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Those that are variables, by the names of these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
}

impl Secrets {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.variables.is_empty()
    }

    /// Returns their names; one that is both comes twice.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().chain(self.variables.values()).map(String::as_str)
    }
}
