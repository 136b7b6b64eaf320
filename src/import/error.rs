//! Why an image was not imported.

use std::io;
use std::path::PathBuf;

use crate::files;
use crate::job;
use crate::store;
use crate::trial;

/// Why an image was not imported. Nothing was published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory or archive cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the directory cannot be read.
    #[error(transparent)]
    File(#[from] files::Error),
    /// It is no image, or not what it says.
    #[error("cannot import {}: it {why}", path.display())]
    Wrong {
        /// The directory or archive.
        path: PathBuf,
        /// As a fragment: `has no image`.
        why: String,
    },
    /// It has several images, or not the one that is wanted.
    #[error(
        "cannot import {}: it has {} images, none of them {}",
        path.display(), names.len(), called(wanted.as_deref())
    )]
    Which {
        /// The directory or archive.
        path: PathBuf,
        /// Which was asked for.
        wanted: Option<String>,
        /// What they are called.
        names: Vec<String>,
    },
    /// The store, the machine, or the person ended it.
    #[error(transparent)]
    Job(#[from] job::Error),
    /// The image cannot be published.
    #[error(transparent)]
    Trial(trial::Error),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Job(error.into())
    }
}

impl From<trial::Error> for Error {
    fn from(error: trial::Error) -> Self {
        match error {
            trial::Error::Job(error) => Self::Job(error),
            error => Self::Trial(error),
        }
    }
}

fn called(wanted: Option<&str>) -> String {
    wanted.map_or("asked for".to_owned(), |name| format!("called {name:?}"))
}
