//! Why an operation could not be carried out inside the image root.

use std::io;
use std::path::{Path, PathBuf};

use crate::event::chain;
use crate::suggest::near;

/// Why an operation could not be carried out. Paths are image paths.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("cannot {doing} {}", path.display())]
    System {
        /// A verb and its object: `write`, `make the directory`.
        doing: &'static str,
        /// Image path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A path inside the root could not be used.
    #[error(transparent)]
    Files(#[from] crate::files::Error),
    /// Something of another kind is in the way.
    #[error("{}: {why}", path.display())]
    InTheWay {
        /// Image path.
        path: PathBuf,
        /// What is there, and what to do.
        why: String,
    },
    /// The place does not belong to the image (a memory file system, or a file shown during the
    /// build only).
    #[error("{} would not stay in the image: {} is a mount that exists during the build only; \
        choose another place", path.display(), mount.display())]
    Fleeting {
        /// Image path.
        path: PathBuf,
        /// What is mounted, as far as known.
        mount: PathBuf,
    },
    /// A path that leads out of the directory it has to stay in, or is not a plain absolute path.
    #[error("{}: {why}", path.display())]
    BadPath {
        /// As given.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A user or group that the image does not have.
    #[error("the image has no {kind} \"{name}\"{}; make it in a `{kind}` step before this one, or \
        write a number", self::near(.near))]
    NoSuchName {
        /// `user` or `group`.
        kind: &'static str,
        /// As given.
        name: String,
        /// Names the image has that look alike.
        near: Vec<String>,
    },
    /// The step asks for something that cannot be, given what is in the image.
    #[error("{what}: {why}")]
    Refused {
        /// The user, group, unit, archive entry…
        what: String,
        /// Why not, and what to do.
        why: String,
    },
    /// The caller did not hand over what the operation needs.
    #[error("internal: {0}")]
    Call(String),
}

impl Error {
    pub(super) fn system(
        doing: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::System { doing, path, source }
    }

    pub(super) fn refused(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), why: why.into() }
    }

    pub(super) fn in_the_way(path: impl AsRef<Path>, why: impl Into<String>) -> Self {
        Self::InTheWay { path: path.as_ref().to_owned(), why: why.into() }
    }

    /// The message with its causes on one line.
    pub fn text(&self) -> String {
        chain(self).join(": ")
    }
}
