//! Why there was no answer.

use std::io;
use std::time::Duration;

use super::resolver::NotPublic;

/// How long to wait for others.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// To find a host, and to make a connection.
    pub connect: Duration,
    /// Without a single byte.
    pub stall: Duration,
}

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
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused
            | Self::UnknownHost
            | Self::Timeout(_)
            | Self::Truncated { .. }
            | Self::Broken(_) => true,
            Self::Redirect(_) | Self::Private(_) | Self::Protocol(_) => false,
        }
    }

    /// Returns why a request failed that was not more patient than that.
    pub fn of(error: ureq::Error, patience: Patience) -> Self {
        match error {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Self::Timeout(patience.connect)
            }
            ureq::Error::Timeout(_) => Self::Timeout(patience.stall),
            ureq::Error::HostNotFound => Self::UnknownHost,
            ureq::Error::ConnectionFailed => Self::Refused,
            ureq::Error::Io(source) => Self::of_io(source, patience),
            ureq::Error::Other(source) => match source.downcast::<NotPublic>() {
                Ok(private) => Self::Private(Some(*private)),
                Err(other) => Self::Protocol(other.to_string()),
            },
            other => Self::Protocol(other.to_string()),
        }
    }

    /// As [`Failure::of`], where a body that was read broke.
    pub fn of_io(error: io::Error, patience: Patience) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => return Self::Refused,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                return Self::Timeout(patience.stall);
            }
            _ => {}
        }
        match error.downcast::<ureq::Error>() {
            Ok(inner) => Self::of(inner, patience),
            // What rustls says of a server it does not trust comes as data that is invalid; another
            // attempt would end the same.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Self::Protocol(error.to_string())
            }
            Err(error) => Self::Broken(error),
        }
    }
}
