//! Refusals on their way from a part of an entry to the entry.

use rustix::io::Errno;

use super::metadata::system;
use super::{Error, Wrong, show};

/// A refusal that does not know its entry yet, or an error that needs none.
pub(super) enum Fault {
    Wrong(Wrong),
    Error(Error),
}

impl From<Wrong> for Fault {
    fn from(why: Wrong) -> Self {
        Self::Wrong(why)
    }
}

impl Fault {
    /// Says which entry is refused.
    pub(super) fn at(self, raw: &[u8]) -> Error {
        match self {
            Self::Wrong(why) => Error::Entry { entry: show(raw), why },
            Self::Error(error) => error,
        }
    }
}

/// An entry that is refused.
pub(super) fn refused(path: &[u8], why: Wrong) -> Error {
    Error::Entry { entry: show(path), why }
}

/// What it means that the directory of an entry cannot be opened.
pub(super) fn way(path: &[u8], e: Errno) -> Error {
    match e {
        Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG => refused(path, Wrong::Way),
        e => system("open the directory of", path, e),
    }
}
