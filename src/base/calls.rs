//! What the calls about packages and bases do; they run inside.

use std::path::Path;

use super::{debian, path};
use crate::archive::{Call, Reply};
use crate::sandbox::{self, CallError, Inside};

impl sandbox::Call for Call {
    type Reply = Reply;

    fn run(self, inside: Inside<'_>) -> Result<Reply, CallError> {
        match self {
            Self::UnpackArchive { into, archive } => {
                path::unpack(&into, archive.into_file()).map(Reply::Archive)
            }
            Self::UnpackPackages { set, arrived } => {
                debian::unpack::unpack(set, arrived.into_file(), inside.progress)
                    .map(Reply::Packages)
                    .map_err(|error| CallError::of(&error))
            }
            Self::Finish(check) => debian::tidy::finish(&check, inside.changes).map(Reply::Tidied),
            Self::Remarks => debian::remarks::of(Path::new("/"))
                .map(Reply::Remarks)
                .map_err(|error| CallError::of(&error)),
            Self::Tidy => debian::tidy::tidy_root(inside.changes).map(Reply::Tidied),
        }
    }
}
