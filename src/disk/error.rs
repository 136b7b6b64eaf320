//! Why a disk was not made.

use std::io;

/// Why a disk was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It does not fit.
    #[error(
        "cannot fit {what} in {size} bytes: {needed} are needed, {} more",
        needed.saturating_sub(*size)
    )]
    TooSmall {
        /// What does not fit.
        what: &'static str,
        /// Bytes that there are.
        size: u64,
        /// Bytes that it takes.
        needed: u64,
    },
    /// A name that a format cannot hold.
    #[error("cannot name {what} {name:?}: {why}")]
    Name {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// A file that a format cannot hold.
    #[error("cannot hold file {node}: {why}")]
    Unfit {
        /// Which of those that were given.
        node: usize,
        /// Why not.
        why: &'static str,
    },
    /// The file to which the kernel is joined is none that firmware starts.
    #[error("the boot stub {0}")]
    Stub(&'static str),
    /// A disk that another program made is not as it is expected.
    #[error("what qemu-img made is {0}")]
    Format(&'static str),
    /// Reading what goes in, or writing what comes out.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Says what was tried.
pub(super) fn doing(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io { what, source }
}
