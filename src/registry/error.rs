//! What cannot be done with a registry, and what a person can do about that.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::digest::Digest;
use crate::web::Failure;

/// What cannot be done with a registry. No message has a credential in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There was no answer.
    #[error("cannot {doing}")]
    Request {
        /// What was to be done: `read registry.example/web:1`.
        doing: String,
        /// Why.
        source: Failure,
    },
    /// The registry wants to know who asks.
    #[error("{registry} asks for credentials, and there are none for {place}")]
    NoCredentials {
        /// The registry.
        registry: String,
        /// The repository with its registry.
        place: String,
    },
    /// The credentials are not taken.
    #[error("{registry} does not accept the credentials for {place}")]
    Unauthorized {
        /// The registry, or its token service.
        registry: String,
        /// The repository with its registry.
        place: String,
    },
    /// They are, but this may not be done with them.
    #[error("cannot {doing}: denied{}", says(.message))]
    Denied {
        /// What was to be done.
        doing: String,
        /// What the registry says, if anything.
        message: String,
    },
    /// It is not there.
    #[error("cannot {doing}: not found")]
    NotFound {
        /// What was to be done.
        doing: String,
    },
    /// Another answer than the specification allows, or an error of the registry.
    #[error("cannot {doing}: the registry answers {status}{}", says(.message))]
    Status {
        /// What was to be done.
        doing: String,
        /// HTTP status.
        status: u16,
        /// What the registry says, if anything.
        message: String,
    },
    /// The registry asks for more patience than there is.
    #[error("cannot {doing}: the registry asks to come back in {} seconds", .after.as_secs())]
    Later {
        /// What was to be done.
        doing: String,
        /// What it asks for.
        after: Duration,
    },
    /// It is something else than what it is called.
    #[error("{what} is not what the registry says: {why}")]
    Lie {
        /// What was read.
        what: String,
        /// What does not fit.
        why: String,
    },
    /// Docker's oldest manifests, which no digest of a layer can be checked against.
    #[error("{what} is a manifest of Docker's schema 1, which is not read")]
    SchemaOne {
        /// Which manifest.
        what: String,
    },
    /// More than is taken.
    #[error("{what} is larger than {cap} bytes")]
    TooLarge {
        /// What was read.
        what: String,
        /// The most that is taken.
        cap: u64,
    },
    /// It was taken, and is not there.
    #[error("{registry} took {what} and does not have it")]
    NotStored {
        /// The registry.
        registry: String,
        /// What was sent.
        what: String,
    },
    /// The tag is that of other content.
    #[error("{name} is other content already: {found}")]
    TagTaken {
        /// The tag, with its repository and registry.
        name: String,
        /// What it names.
        found: Digest,
    },
    /// Credentials cannot be read.
    #[error("cannot read the credentials in {path}: {why}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A helper of credentials does not help.
    #[error("cannot get credentials from {program}: {why}")]
    Helper {
        /// The program.
        program: String,
        /// Why.
        why: String,
    },
    /// A certificate or key cannot be used.
    #[error("cannot use {path}: {why}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The token service cannot be used.
    #[error("cannot use the token service of {registry}: {why}")]
    TokenService {
        /// The registry.
        registry: String,
        /// Why.
        why: String,
    },
    /// What is to be pushed cannot be read, or what is pulled not be written.
    #[error("cannot {doing}")]
    Local {
        /// What was to be done.
        doing: String,
        /// Why.
        source: io::Error,
    },
    /// What is to be pushed is not what its digest says.
    #[error("{digest} is damaged here: {why}")]
    Damaged {
        /// Its name.
        digest: Digest,
        /// What is wrong.
        why: String,
    },
    /// The person ended it.
    #[error("cancelled")]
    Cancelled,
}

/// Returns what a registry says, to be put behind a message.
fn says(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl Error {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoCredentials { registry, .. } => {
                format!("log in: podman login {registry}, or docker login {registry}")
            }
            Self::Unauthorized { registry, .. } => {
                format!("log in again: podman login {registry}, or docker login {registry}")
            }
            Self::Denied { .. } => {
                "ask for the right to do this, or log in as somebody else".to_owned()
            }
            Self::TagTaken { .. } => {
                "give another tag, or let the tag move with --move-tag".to_owned()
            }
            Self::NotStored { .. } | Self::Lie { .. } => {
                "the registry, or a proxy on the way, changes what passes".to_owned()
            }
            Self::Request { source, .. } => match source {
                Failure::Refused | Failure::UnknownHost => "is the registry's name right? a proxy \
                    is taken from HTTPS_PROXY and NO_PROXY"
                    .to_owned(),
                Failure::Protocol(_) => {
                    "an authority of its own is named by --registry-ca FILE, a \
                    registry without TLS by --registry-http HOST"
                        .to_owned()
                }
                _ => return None,
            },
            Self::Credentials { path, .. } => {
                format!("mend {}, or log in anew", path.display())
            }
            Self::SchemaOne { .. } => {
                "have it pushed anew by a program of this decade: skopeo copy --format oci"
                    .to_owned()
            }
            _ => return None,
        })
    }

    /// Whether what failed is outside of this host.
    pub fn is_network(&self) -> bool {
        !matches!(
            self,
            Self::Credentials { .. }
                | Self::Helper { .. }
                | Self::Certificate { .. }
                | Self::Local { .. }
                | Self::Damaged { .. }
                | Self::TagTaken { .. }
                | Self::Cancelled
        )
    }

    /// Makes the error of a certificate or key.
    pub(super) fn certificate(path: &Path, why: impl ToString) -> Self {
        Self::Certificate { path: path.to_owned(), why: why.to_string() }
    }
}
