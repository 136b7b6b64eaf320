//! Why a download failed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::http::Limits;
use crate::digest::Digest;

/// Why something could not be downloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No such host.
    #[error("unknown host")]
    UnknownHost,
    /// An HTTP status other than 200.
    #[error("the server answers {0}{hint}", hint = if *.0 == 404 { " (not found)" } else { "" })]
    Status(u16),
    /// Nothing came for too long.
    #[error("timeout: no answer for {0:?}")]
    Timeout(Duration),
    /// It ended too early.
    #[error("truncated: {got} of {expected} bytes")]
    Truncated {
        /// Bytes that came.
        got: u64,
        /// Bytes that should have come.
        expected: u64,
    },
    /// It is longer than it may be.
    #[error("larger than {cap} bytes")]
    TooLarge {
        /// The most that was accepted.
        cap: u64,
    },
    /// It is something else than what was asked for.
    #[error("wrong hash: expected {expected}, got {got}")]
    WrongHash {
        /// What it should be.
        expected: Digest,
        /// What came.
        got: Digest,
    },
    /// The URL cannot be fetched at all.
    #[error("not an http or https URL")]
    BadUrl,
    /// It redirects to where bake does not follow, or for ever.
    #[error("{0}")]
    Redirect(&'static str),
    /// TLS or protocol trouble.
    #[error("{0}")]
    Protocol(String),
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// The cache cannot be written.
    #[error("cannot write {path}")]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The build was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Failure {
    /// Whether another attempt may succeed.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Refused
            | Self::UnknownHost
            | Self::Timeout(_)
            | Self::Truncated { .. }
            | Self::Broken(_) => true,
            Self::Status(status) => *status == 408 || *status == 429 || *status >= 500,
            _ => false,
        }
    }

    pub(super) fn of(error: ureq::Error, limits: &Limits) -> Self {
        match error {
            ureq::Error::StatusCode(status) => Self::Status(status),
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Self::Timeout(limits.connect)
            }
            ureq::Error::Timeout(_) => Self::Timeout(limits.stall),
            ureq::Error::HostNotFound => Self::UnknownHost,
            ureq::Error::ConnectionFailed => Self::Refused,
            ureq::Error::BadUri(_) => Self::BadUrl,
            ureq::Error::Io(source) => Self::of_io(source, limits),
            other => Self::Protocol(other.to_string()),
        }
    }

    pub(super) fn of_io(error: io::Error, limits: &Limits) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => return Self::Refused,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                return Self::Timeout(limits.stall);
            }
            _ => {}
        }
        match error.downcast::<ureq::Error>() {
            Ok(inner) => Self::of(inner, limits),
            Err(error) => Self::Broken(error),
        }
    }
}

/// A download that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot download {url}")]
pub struct Error {
    /// Place among the downloads wanted ([`fetch::Want`](super::fetch::Want)).
    pub index: usize,
    /// From where, without credentials.
    pub url: String,
    /// Why.
    pub source: Failure,
}

/// Takes user name and password out of a URL, so that it can be shown.
pub fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_never_shown() {
        for (url, shown) in [
            ("http://me:secret@host/p@th", "http://host/p@th"),
            ("https://host/a", "https://host/a"),
            ("http://me@host", "http://host"),
            ("http://a@b:c@host/x", "http://host/x"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }
}
