//! Why a disk cannot be read.

use std::io;

/// Why a disk, or a part of it, cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file of the disk.
    #[error("cannot read the file")]
    Io(#[source] io::Error),
    /// It is not as its format has it.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A format, or a feature of one, that is not read here.
    #[error("{what} is not read: {why}")]
    Foreign {
        /// What it is.
        what: &'static str,
        /// Which format or feature.
        why: String,
        /// What makes it one that is read.
        hint: Option<String>,
    },
    /// What should be on the disk is not there.
    #[error("there is no {0}")]
    Missing(&'static str),
}

pub(super) fn damaged(what: &'static str, why: impl Into<String>) -> Error {
    Error::Damaged { what, why: why.into() }
}

pub(super) fn foreign(what: &'static str, why: impl Into<String>) -> Error {
    Error::Foreign { what, why: why.into(), hint: None }
}
