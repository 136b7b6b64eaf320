//! What cannot be done about packages, and what a person can do about that.

use std::io;
use std::path::{Path, PathBuf};

use super::{closure, fetch, release};
use crate::digest::Digest;
use crate::web;

/// Suites that a mirror of Debian has, for hints.
const SUITES: &[&str] = &["bookworm", "trixie", "sid"];

/// What cannot be done about packages.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A download failed.
    #[error(transparent)]
    Download(fetch::Error),
    /// The mirror has no such suite.
    #[error("the mirror has no Debian suite {suite:?}")]
    NoSuite {
        /// As in the recipe.
        suite: String,
        /// The mirror's answer.
        source: Box<fetch::Error>,
    },
    /// A locked package is neither cached nor on the mirror.
    #[error("package {name} {version} is neither in the cache nor on the mirror any more")]
    Gone {
        /// Package.
        name: String,
        /// Locked version.
        version: String,
        /// The mirror's answer.
        source: Box<fetch::Error>,
    },
    /// A signed document is not to be believed.
    #[error("cannot trust {url}")]
    Untrusted {
        /// Which.
        url: String,
        /// Why.
        source: release::Distrust,
    },
    /// A package index is not what the Release file names, or malformed.
    #[error("package index {url} is broken")]
    Index {
        /// Which.
        url: String,
        /// Why.
        source: io::Error,
    },
    /// No set of packages can be found.
    #[error("cannot choose the packages of Debian {suite}")]
    Unmet {
        /// Code name.
        suite: String,
        /// Why.
        source: closure::Unmet,
    },
    /// A package request that is not allowed.
    #[error("cannot install {request:?}: {why}")]
    Request {
        /// As written.
        request: String,
        /// Why.
        why: &'static str,
    },
    /// apt found no way.
    #[error("apt cannot install {what}:\n{output}")]
    Apt {
        /// What was asked for.
        what: String,
        /// What apt printed about it.
        output: String,
    },
    /// A locked or chosen package does not make sense.
    #[error("package {name:?} in the lock is malformed: {why}")]
    Lock {
        /// Package.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A file or directory of ours.
    #[error("cannot {doing} {path}")]
    File {
        /// `read`, `write`, ….
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A package file of the context is not what was pinned.
    #[error("{path} is not what the lock file pins: expected {expected}, found {found}")]
    NotPinned {
        /// Which.
        path: PathBuf,
        /// As pinned.
        expected: Digest,
        /// As it is.
        found: Digest,
    },
    /// Debian has no such architecture.
    #[error("Debian has no architecture {0:?}")]
    Architecture(String),
    /// The work inside the sandbox failed.
    #[error("{what} failed: {how}")]
    Failed {
        /// What was being done.
        what: String,
        /// How it ended.
        how: String,
        /// Last lines of output.
        tail: Vec<String>,
        /// Whether a full disk or quota is behind it.
        no_room: bool,
    },
    /// The sandbox itself failed.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::Error),
    /// The build was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl From<fetch::Error> for Error {
    fn from(error: fetch::Error) -> Self {
        match error.source {
            fetch::Failure::Cancelled => Self::Cancelled,
            _ => Self::Download(error),
        }
    }
}

impl Error {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Gone { .. } => "choose packages anew: bake lock --update".to_owned(),
            Self::Lock { .. } => "write the lock anew: bake lock --update".to_owned(),
            Self::NotPinned { .. } => "accept the new content: bake lock --update".to_owned(),
            Self::Download(error) => match error.source {
                fetch::Failure::Status(_)
                | fetch::Failure::NoAnswer(
                    web::Failure::Refused | web::Failure::UnknownHost | web::Failure::Timeout(_),
                ) => "is the mirror right? see --debian-mirror".to_owned(),
                fetch::Failure::WrongHash { .. } => {
                    "the mirror, or a proxy on the way, changes files or is being updated: try \
                        another with --debian-mirror"
                        .to_owned()
                }
                _ => return None,
            },
            Self::NoSuite { suite, .. } => {
                match SUITES.iter().find(|known| strsim::osa_distance(known, suite) < 3) {
                    Some(known) if known != suite => format!("did you mean {known:?}?"),
                    _ => format!(
                        "there are {}; another mirror may have more: see \
                    --debian-mirror",
                        SUITES.join(", ")
                    ),
                }
            }
            Self::Untrusted { source: release::Distrust::NoIndex(_), .. } => {
                "are the components right? Debian has main, contrib, non-free and, since bookworm, \
                    non-free-firmware"
                    .to_owned()
            }
            Self::Untrusted { source: release::Distrust::Expired(_), .. } => {
                "the mirror is out of date, or somebody replays an old one: try another with \
                    --debian-mirror; of a snapshot or an archived suite that is so on purpose: \
                    --allow-expired"
                    .to_owned()
            }
            Self::Untrusted { source: release::Distrust::Older { .. }, .. } => {
                "the mirror stands still, or lags behind: try another with --debian-mirror; to go \
                    back on purpose, remove the lock file"
                    .to_owned()
            }
            Self::Untrusted { source: release::Distrust::Future(_), .. } => "set this host's \
                clock"
                .to_owned(),
            Self::Untrusted { .. } => "the mirror, or a proxy on the way, changes files: try \
                another with --debian-mirror"
                .to_owned(),
            Self::Sandbox(crate::sandbox::Error::Host { hint, .. }) => hint.clone(),
            _ => return None,
        })
    }

    /// Whether the network is to blame (exit code 12).
    pub fn is_network(&self) -> bool {
        match self {
            Self::Download(error) => {
                !matches!(error.source, fetch::Failure::Cancelled | fetch::Failure::Cache { .. })
            }
            Self::Gone { .. } | Self::Untrusted { .. } | Self::Index { .. } => true,
            _ => false,
        }
    }

    /// Makes the error of something done to `path`.
    pub(crate) fn file<'a>(
        doing: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::File { doing, path: path.to_owned(), source }
    }
}
