//! Why an image was not imported.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::files;
use crate::image::Platform;
use crate::job;
use crate::registry;
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
    /// What the lock file pins is not there any more.
    #[error("{} does not have {pinned} any more, which the lock file pins", path.display())]
    Gone {
        /// The directory or archive.
        path: PathBuf,
        /// Digest of the manifest.
        pinned: Digest,
    },
    /// It is for another platform than what is built on it.
    #[error("{} is for {found}, not for {wanted}", path.display())]
    Platform {
        /// The directory or archive.
        path: PathBuf,
        /// What the image is for.
        found: Platform,
        /// What is built.
        wanted: Platform,
    },
    /// The registry does not give it.
    #[error(transparent)]
    Registry(registry::Error),
    /// The store, the machine, or the person ended it.
    #[error(transparent)]
    Job(#[from] job::Error),
    /// The image cannot be published.
    #[error(transparent)]
    Trial(trial::Error),
}

impl Error {
    /// What can be done about it; `named`: how a person says which image is meant.
    #[must_use]
    pub fn hints(&self, named: &dyn Fn(&str) -> String) -> Vec<String> {
        match self {
            Self::Which { names, .. } => names.iter().map(|name| named(name)).collect(),
            Self::Gone { .. } => {
                vec!["`bake lock --update` takes what the name means now".to_owned()]
            }
            Self::Registry(error) => error.hint().into_iter().collect(),
            _ => vec![],
        }
    }

    /// Whether what failed is outside of this host.
    #[must_use]
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Registry(error) if error.is_network())
    }
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
