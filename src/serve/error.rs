//! Why a registry was not written as files.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::{output, store};

/// Why a registry was not written as files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store cannot be read.
    #[error("cannot read {what}")]
    Store {
        /// What of it.
        what: String,
        /// Why.
        source: store::Error,
    },
    /// There is nothing to be written.
    #[error("cannot write a registry: no version is published")]
    Empty,
    /// A part of the name of an image is what the specification calls a directory of its own.
    #[error("cannot write {name} as files: a part of its name is {part}, as a place of a registry")]
    Name {
        /// Name of the image.
        name: String,
        /// The part.
        part: String,
    },
    /// A blob is not what its name says.
    #[error("cannot read the blob {digest}: its bytes are {found}")]
    Corrupt {
        /// Its name.
        digest: Digest,
        /// What it is.
        found: Digest,
    },
    /// A system call failed.
    #[error("cannot {what} {}", path.display())]
    System {
        /// What was being done, as the verb before the path.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The directory cannot be made.
    #[error(transparent)]
    Output(#[from] output::Error),
}
