//! Why a download failed.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::web;

/// Why something could not be downloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// There was no answer, or not a whole one.
    #[error(transparent)]
    NoAnswer(#[from] web::Failure),
    /// An HTTP status other than 200.
    #[error("the server answers {0}{hint}", hint = of_status(*.0))]
    Status(u16),
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
    /// The credentials are nothing that a header can hold.
    #[error("its credentials hold what no header can: line ends or control characters")]
    BadCredentials,
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

/// Returns what a status means, where people should know.
fn of_status(status: u16) -> &'static str {
    match status {
        401 => " (it asks for credentials)",
        403 => " (forbidden)",
        404 => " (not found)",
        _ => "",
    }
}

impl Failure {
    /// Whether another attempt may succeed.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::NoAnswer(failure) => failure.may_pass(),
            Self::Status(status) => *status == 408 || *status == 429 || *status >= 500,
            _ => false,
        }
    }

    pub(super) fn of(error: ureq::Error, patience: web::Patience) -> Self {
        match error {
            ureq::Error::StatusCode(status) => Self::Status(status),
            ureq::Error::BadUri(_) => Self::BadUrl,
            other => web::Failure::of(other, patience).into(),
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
