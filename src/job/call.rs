//! The calls of the `bake` program: everything that the engine asks of bake itself inside a job.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::apply;
use crate::archive::{self, view::View};
use crate::context::TarSummary;
use crate::digest::Digest;
use crate::layer::{Compression, Packed};
use crate::machine::{Visit, Visited};
use crate::sandbox::{self, Includes, Passed};
use crate::step::{Op, Probe};

/// One call.
#[derive(Debug, Serialize, Deserialize)]
pub enum Call {
    /// Packs a directory as a layer.
    Pack {
        /// The directory, as the job sees it.
        dir: PathBuf,
        /// Latest time in the layer, seconds since 1970.
        epoch: i64,
        /// The directory of the topmost layer below, where there is one.
        below: Option<PathBuf>,
        /// Where the tar goes.
        to: Passed,
    },
    /// Unpacks a layer into a directory that then can be a lower one of an overlay.
    Unpack {
        /// The directory, as the job sees it.
        into: PathBuf,
        /// How the blob is compressed.
        how: Compression,
        /// Whether the digest of the tar is wanted.
        name: bool,
        /// The blob.
        blob: Passed,
    },
    /// Sets the times of what a step made to those that its layer will say.
    Settle {
        /// The directory, as the job sees it.
        dir: PathBuf,
        /// Latest time, seconds since 1970.
        epoch: i64,
    },
    /// Measures directories.
    Weigh {
        /// The directories, as the job sees them.
        dirs: Vec<PathBuf>,
    },
    /// Finds out which of these paths of the image exist, what its os-release says, and what its
    /// apt sees.
    Look {
        /// Paths, relative to the root.
        paths: Vec<String>,
        /// Debian's name of this machine's architecture; empty where it has none.
        native: String,
    },
    /// Writes the tar of what a copy takes of the root.
    Take {
        /// The `Copy`, with paths below the root.
        op: Op,
        /// What the one file is called that becomes the destination itself.
        single: String,
        /// Latest time in the tar, seconds since 1970.
        epoch: i64,
        /// Where the tar goes.
        to: Passed,
    },
    /// Takes one look of a test, of the kinds that need no program of the image.
    Probe(Probe),
    /// Tests the machine whose sockets are in a directory.
    Visit {
        /// The directory, as the job sees it.
        dir: PathBuf,
        /// What is asked.
        visit: Visit,
    },
    /// About operations inside the root.
    Apply(apply::Call),
    /// About packages and bases.
    Archive(archive::Call),
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// It is done, and there is nothing to say.
    Done,
    /// Of [`Call::Pack`].
    Packed(Packed),
    /// Of [`Call::Unpack`]: the digest of the tar, where it was wanted.
    Unpacked(Option<Digest>),
    /// Of [`Call::Weigh`]: bytes on the disk, and files and directories, of each.
    Weighed(Vec<(u64, u64)>),
    /// Of [`Call::Look`].
    Seen {
        /// Those paths that exist.
        there: Vec<String>,
        /// `/etc/os-release`; empty where there is none.
        os_release: String,
        /// What its apt sees, where it has one.
        view: Option<View>,
    },
    /// Of [`Call::Take`].
    Taken(TarSummary),
    /// Of [`Call::Visit`].
    Visited(Visited),
    /// Of [`Call::Apply`].
    Apply(apply::Reply),
    /// Of [`Call::Archive`].
    Archive(archive::Reply),
}

/// A session of the program.
pub type Session = sandbox::Session<Call>;
/// A job of the program.
pub type Job = sandbox::Job<Call>;
/// An action of such a job.
pub type Action = sandbox::Action<Call>;
/// How such a job ended.
pub type Ended = sandbox::Ended<Reply>;

impl Includes<archive::Call> for Call {
    fn include(call: archive::Call) -> Self {
        Self::Archive(call)
    }

    fn reply(reply: Reply) -> Option<archive::Reply> {
        match reply {
            Reply::Archive(reply) => Some(reply),
            _ => None,
        }
    }
}
