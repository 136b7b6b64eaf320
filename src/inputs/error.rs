//! Why what a recipe takes from outside cannot be used.

use std::io;
use std::path::PathBuf;

use crate::context;
use crate::recipe::{self, Diagnostic};

/// Why what a recipe takes from outside cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recipe has mistakes.
    #[error("{}", recipe::summary(.0))]
    Recipe(Vec<Diagnostic>),
    /// A file beside the recipe cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The context cannot be read.
    #[error("cannot read the context")]
    Context {
        /// The recipe.
        recipe: PathBuf,
        /// Why.
        source: context::Error,
    },
}

/// Why what one step reads cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("step {index}")]
pub struct StepError {
    /// The step, from 1.
    pub index: usize,
    /// Why, as fragments from the outside in.
    pub why: Vec<String>,
}
