//! Why a job could not do its work.

use std::path::PathBuf;

use crate::layer;
use crate::sandbox::{self, Circumstances, Failure};
use crate::store;

/// Why a job could not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory cannot be used.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// `read`, `make`.
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store cannot be used.
    #[error("cannot use the store")]
    Store(#[from] store::Error),
    /// The sandbox cannot do its work.
    #[error("cannot run the sandbox")]
    Sandbox(#[from] sandbox::Error),
    /// A layer could not be made.
    #[error("cannot make the layer of {label}")]
    Layer {
        /// What the step is called.
        label: String,
        /// Why.
        source: layer::Error,
    },
    /// A call inside the sandbox failed.
    #[error("cannot {what}")]
    Call {
        /// What it was for.
        what: String,
        /// How it failed.
        how: Failure,
        /// What else was seen.
        seen: Circumstances,
    },
    /// Something else that is needed cannot be done.
    #[error("cannot {what}")]
    Failed {
        /// What it was for.
        what: String,
        /// Why.
        why: String,
    },
    /// The person pressed Ctrl-C, or the process was asked to end.
    #[error("interrupted")]
    Interrupted,
}

/// The host has no more threads.
pub(crate) fn no_thread(error: std::io::Error) -> Error {
    Error::Failed { what: "work on it".to_owned(), why: error.to_string() }
}
