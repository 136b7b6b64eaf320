//! What an operation says when it is done.

use serde::{Deserialize, Serialize};

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is done, and there is nothing to say.
    Done,
    /// A group is as it was to be.
    Group {
        /// Its id.
        gid: u32,
    },
    /// A user is as it was to be.
    User {
        /// Its id.
        uid: u32,
        /// Its primary group.
        gid: u32,
        /// Its home directory.
        home: String,
    },
    /// An archive is unpacked.
    Unpacked {
        /// How many files.
        files: u64,
        /// Bytes of their contents.
        bytes: u64,
    },
    /// A copy was surveyed; false: it would have had to look where the image is not complete.
    Surveyed(bool),
    /// What could not be started: the key of the config that names it, and why.
    Startable(Vec<(String, String)>),
}
