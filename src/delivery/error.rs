//! Why an output was not made.

use std::path::PathBuf;

use crate::files;
use crate::job;
use crate::output;
use crate::store;

/// Why an output was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An output cannot be made.
    #[error("cannot make the output {}", path.display())]
    Make {
        /// Where it was to go.
        path: PathBuf,
        /// What names it: the recipe, or the command line.
        recipe: PathBuf,
        /// Line of that, from 1.
        line: u32,
        /// Why.
        source: output::Error,
    },
    /// The programs that make file systems cannot be had.
    #[error(transparent)]
    Tools {
        /// Why.
        source: output::Error,
    },
    /// The run was ended, or its store cannot be used.
    #[error(transparent)]
    Job(#[from] job::Error),
    /// An effect on the disk failed.
    #[error(transparent)]
    Files(#[from] files::Error),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Job(error.into())
    }
}
