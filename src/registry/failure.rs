//! Why there was no answer.

use std::io;
use std::time::Duration;

use super::options::Limits;
use crate::web::NotPublic;

/// Why a request had no answer, or not a whole one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No such host.
    #[error("unknown host")]
    UnknownHost,
    /// Nothing came, or too little, for too long.
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
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// It redirects to where bake does not follow, or for ever.
    #[error("{0}")]
    Redirect(&'static str),
    /// It leads to an address of this host or of its network.
    #[error("it leads from a public host to a private address")]
    Private(#[source] Option<NotPublic>),
    /// TLS or protocol trouble.
    #[error("{0}")]
    Protocol(String),
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
            Self::Redirect(_) | Self::Private(_) | Self::Protocol(_) => false,
        }
    }

    pub(super) fn of(error: ureq::Error, limits: &Limits) -> Self {
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Self::Timeout(limits.connect)
            }
            ureq::Error::Timeout(_) => Self::Timeout(limits.stall),
            ureq::Error::HostNotFound => Self::UnknownHost,
            ureq::Error::ConnectionFailed => Self::Refused,
            ureq::Error::Io(source) => Self::of_io(source, limits),
            ureq::Error::Other(source) => match source.downcast::<NotPublic>() {
                Ok(private) => Self::Private(Some(*private)),
                Err(other) => Self::Protocol(other.to_string()),
            },
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
            // What rustls says of a server it does not trust comes as data that is invalid; another
            // attempt would end the same.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Self::Protocol(error.to_string())
            }
            Err(error) => Self::Broken(error),
        }
    }
}
