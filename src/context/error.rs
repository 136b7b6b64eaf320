//! Why the context could not give what a step asks for.

use std::io;
use std::path::PathBuf;

use crate::files;
use crate::suggest::near;

/// Name of bake's own file of patterns, in the context's root.
pub const BAKE_IGNORE: &str = ".bakeignore";

/// Why the context could not give what a step asks for. Paths are relative to the context.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The context itself could not be opened.
    #[error("cannot use the context directory {}", path.display())]
    Open {
        /// As given.
        path: PathBuf,
        /// Why.
        source: files::Error,
    },
    /// Nothing has this path.
    #[error("the context has no \"{}\"{}", path.display(), self::near(.near))]
    Missing {
        /// As written.
        path: PathBuf,
        /// Paths that are there and look alike.
        near: Vec<String>,
    },
    /// A glob matches nothing.
    #[error("\"{pattern}\" matches nothing in the context{}", left_out_note(.left_out))]
    NothingMatches {
        /// As written.
        pattern: String,
        /// How many matches are left out by ignore patterns.
        left_out: usize,
    },
    /// What the step names is left out by a pattern.
    #[error("\"{}\" is left out by {by}", path.display())]
    LeftOut {
        /// As written.
        path: PathBuf,
        /// Which pattern, and where it stands.
        by: String,
    },
    /// A symlink leads out of the context.
    #[error("\"{}\" is a symlink that leads out of the context, which bake does not follow; copy \
        what it points to into the context, or make the symlink in a `symlink` \
        step", link.display())]
    Outside {
        /// The symlink.
        link: PathBuf,
    },
    /// Neither file, directory nor symlink.
    #[error("\"{}\" is {kind} and cannot be copied; leave it out with `exclude` or \
        {BAKE_IGNORE}", path.display())]
    Special {
        /// Where.
        path: PathBuf,
        /// `a fifo`, `a socket`, `a device`.
        kind: &'static str,
    },
    /// Of another kind than the step says.
    #[error("\"{}\" is not {wanted}", path.display())]
    Kind {
        /// Where.
        path: PathBuf,
        /// `a directory`, `a file`.
        wanted: &'static str,
    },
    /// A file changed while it was read, or since it was read first.
    #[error("\"{}\" changed while it was read; build again when nothing writes to \
        it", path.display())]
    Changed {
        /// Where.
        path: PathBuf,
    },
    /// Two sources would become the same path in the image.
    #[error("\"{}\" and \"{}\" would both become {to}", first.display(), second.display())]
    Clash {
        /// One source.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// Image path.
        to: String,
    },
    /// Several sources need a directory to go into.
    #[error("{count} sources need a directory to go into: end `to` with a slash, \"{to}/\"")]
    NeedsDirectory {
        /// How many.
        count: usize,
        /// As written.
        to: String,
    },
    /// Not a path below the context.
    #[error("\"{path}\" {why}")]
    Path {
        /// As written.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A glob or ignore pattern that cannot be read.
    #[error("{place}: \"{pattern}\" is not a pattern: {why}")]
    Pattern {
        /// `copy`, `exclude`, or the ignore file and line.
        place: String,
        /// As written.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// Reading failed.
    #[error(transparent)]
    Read(files::Error),
    /// Reading a file's content failed.
    #[error("cannot read \"{}\"", path.display())]
    Content {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Whoever takes the stream does not take it.
    #[error("cannot hand over \"{}\"", path.display())]
    Write {
        /// Which entry.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// More names than a copy can have, or longer ones.
    #[error(
        "more than 4 billion names, or names of more than 4 GiB; leave some out with `exclude` or \
            {BAKE_IGNORE}"
    )]
    TooMany,
    /// The operation takes no files.
    #[error("internal: only a copy takes files of the context")]
    NotACopy,
}

impl Error {
    /// Returns what it says of something that was taken from the root of a stage or an image: there
    /// is no context then.
    pub(crate) fn of_a_root(&self) -> Option<String> {
        match self {
            Self::Missing { path, near } => {
                let near: Vec<String> = near.iter().map(|one| format!("/{one}")).collect();
                Some(format!("there is no \"/{}\"{}", path.display(), self::near(&near)))
            }
            Self::NothingMatches { pattern, left_out } => {
                Some(format!("\"/{pattern}\" matches nothing{}", left_out_note(left_out)))
            }
            _ => None,
        }
    }
}

fn left_out_note(left_out: &usize) -> String {
    match left_out {
        0 => String::new(),
        n => format!(" ({n} matches are left out by `exclude` or {BAKE_IGNORE})"),
    }
}
