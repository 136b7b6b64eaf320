//! Why a disk effect did not happen.

use std::io;
use std::path::{Path, PathBuf};

/// Why a disk effect did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("cannot {what} {}", path.display())]
    System {
        /// What was being done, as the verb before the path ("open", "rename to").
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A symlink leads out of the directory that must not be left.
    #[error("cannot use {}: the symbolic link {} leads out of \
        {}", path.display(), link.display(), root.display())]
    Outside {
        /// The path asked for, relative to the root.
        path: PathBuf,
        /// The symlink on the way, relative to the root.
        link: PathBuf,
        /// The directory.
        root: PathBuf,
    },
    /// Something of another kind stands where a file or directory is needed.
    #[error("cannot use {}: it is {found}, not {wanted}", path.display())]
    Kind {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: &'static str,
        /// What was needed.
        wanted: &'static str,
    },
    /// A path that has no place inside a directory: empty, or with `..`.
    #[error("cannot use {}: not a path inside a directory", path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// A file is longer than its reader is ready to hold.
    #[error("cannot read {}: more than {limit} bytes", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Bytes allowed.
        limit: u64,
    },
}

impl Error {
    /// Returns the kind of the system error, or `InvalidInput` where there was none.
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::System { source, .. } => source.kind(),
            _ => io::ErrorKind::InvalidInput,
        }
    }

    /// Whether the file or a directory on its way does not exist.
    pub fn is_missing(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Makes an [`Error::System`] out of any system error.
pub(crate) fn system(what: &'static str, path: &Path, source: impl Into<io::Error>) -> Error {
    Error::System { what, path: path.to_owned(), source: source.into() }
}
