//! Why something could not be inspected.

use std::io;
use std::path::PathBuf;

use crate::dissect;
use crate::files;
use crate::layer::Unverified;
use crate::store;
use crate::tree::Unreadable;

/// Why something could not be inspected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store, or an image in it.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A layer is not what it says.
    #[error(transparent)]
    Layer(#[from] Unverified),
    /// What a version names has no root file system.
    #[error("cannot read {image}: {why}")]
    NotAnImage {
        /// `name:version`.
        image: String,
        /// Why not.
        why: String,
    },
    /// A file that should be a manifest of `bake export --format manifest`.
    #[error("cannot read the manifest {}", path.display())]
    Manifest {
        /// The file, or `-`.
        path: PathBuf,
        /// Why not.
        source: Unreadable,
    },
    /// A pattern of what is left out.
    #[error("cannot leave out {pattern:?}: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// The root that is compared.
    #[error("cannot compare the root {}", path.display())]
    Root {
        /// Its directory.
        path: PathBuf,
        /// Why not.
        source: files::Error,
    },
    /// The disk that is compared.
    #[error("cannot read the disk {}", path.display())]
    Disk {
        /// Its file.
        path: PathBuf,
        /// Why not.
        source: dissect::Error,
    },
    /// No root of a disk is the one that is meant.
    #[error("cannot choose a root of the disk {}: {why}", path.display())]
    NoRoot {
        /// Its file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The process whose root is to be compared.
    #[error("cannot look at the process {pid}")]
    Process {
        /// Its number.
        pid: u32,
        /// Why not.
        source: io::Error,
    },
    /// Everything in a root that could be read is as it should be, but not everything could be.
    #[error("cannot compare the root {}: {names} of its names cannot be read, the first is \
        {first}", root.display())]
    Unreadable {
        /// The root.
        root: PathBuf,
        /// How many.
        names: usize,
        /// One of them, for people.
        first: String,
        /// Why not.
        source: io::Error,
    },
    /// The file of a stat cache.
    #[error("cannot use the stat cache {}", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file or directory of reports.
    #[error("cannot read {}", path.display())]
    Report {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// Returns what would make a disk one that can be read.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Disk { source: dissect::Error::Foreign { hint, .. }, .. } => hint.clone(),
            _ => None,
        }
    }
}

/// An error with its causes on one line.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    crate::event::chain(error).join(": ")
}
