//! Why an image was not exported.

use std::io;
use std::path::{Path, PathBuf};

use super::options::Lack;
use crate::digest::Digest;
use crate::disk;
use crate::files;
use crate::image::Flawed;
use crate::layer;

/// Why an image was not exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something is at the destination.
    #[error("cannot write {}: a file or directory of that name exists", path.display())]
    Exists {
        /// The destination.
        path: PathBuf,
    },
    /// What is at the destination is not replaced, even by force.
    #[error("cannot replace {}: it is {found}, not {wanted}", path.display())]
    Kind {
        /// The destination.
        path: PathBuf,
        /// What is there.
        found: &'static str,
        /// What would be written.
        wanted: &'static str,
    },
    /// The destination has no name of its own.
    #[error("cannot write {}: not the name of a file or directory to be made", path.display())]
    Destination {
        /// What was given.
        path: PathBuf,
    },
    /// A directory cannot go to a stream.
    #[error("cannot write the format `{format}` to a stream")]
    Stream {
        /// Which.
        format: &'static str,
    },
    /// A source of updates holds files.
    #[error("cannot write {format} as an update: it is a directory, not a file")]
    NotAFile {
        /// The format.
        format: &'static str,
    },
    /// A version that a source of updates cannot have.
    #[error(
        "cannot write {reference} as an update: its version must be letters and digits with . , + -"
    )]
    Version {
        /// The image.
        reference: String,
    },
    /// A version that a source of updates has with other content.
    #[error("{} is listed with other content: machines may have taken that", path.display())]
    Listed {
        /// The file.
        path: PathBuf,
    },
    /// A list of digests is not one.
    #[error("cannot read {}: not a digest and a name: {line:?}", path.display())]
    Sums {
        /// The file.
        path: PathBuf,
        /// The line that is wrong.
        line: String,
    },
    /// The programs that make a format cannot be run.
    #[error("cannot run the programs that make file systems: {}", why.join(": "))]
    Tools {
        /// Why, from the outside in.
        why: Vec<String>,
    },
    /// A program that makes a format failed.
    #[error("{program} failed: {}", how.join(": "))]
    Program {
        /// Its name.
        program: String,
        /// How.
        how: Vec<String>,
        /// The last lines that it printed.
        printed: Vec<String>,
        /// A full disk is behind it.
        no_room: bool,
    },
    /// What was made cannot be copied to its place.
    #[error("cannot copy the file system to its place")]
    Copy {
        /// Why.
        source: io::Error,
    },
    /// The image is none that a machine boots.
    #[error("cannot make a machine of the image: {}", listed(lacks))]
    NoMachine {
        /// All that it lacks; at least one.
        lacks: Vec<Lack>,
    },
    /// The initial RAM disk of a machine cannot be made.
    #[error("cannot make the initial RAM disk")]
    Initrd {
        /// Why.
        source: disk::initrd::Error,
    },
    /// The parts of a disk cannot be put together.
    #[error("cannot make the disk")]
    Disk {
        /// Why.
        source: disk::Error,
    },
    /// The size that was asked for is too small.
    #[error("{size} bytes are too few: the files need {least}")]
    TooSmall {
        /// Bytes asked for.
        size: u64,
        /// Bytes needed.
        least: u64,
    },
    /// A format cannot hold a file.
    #[error("{format} cannot hold {path:?}: {why}")]
    Unfit {
        /// The format.
        format: &'static str,
        /// The file.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// A directory with owners needs root.
    #[error("cannot write a directory whose files have owners: only root can")]
    NotRoot,
    /// A blob cannot be read.
    #[error("cannot read the blob {digest}")]
    Blob {
        /// Which.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// A blob is not what its name says.
    #[error("cannot read the blob {digest}: {what}")]
    Corrupt {
        /// Which.
        digest: Digest,
        /// What is wrong with it.
        what: String,
    },
    /// The manifest or config is not what a strict reader accepts.
    #[error(transparent)]
    Flawed(#[from] Flawed),
    /// The manifest describes no image with a root file system.
    #[error("cannot export the image: {why}")]
    NotAnImage {
        /// Why not.
        why: String,
    },
    /// A layer cannot be applied.
    #[error("cannot apply the layer {digest}")]
    Layer {
        /// Which.
        digest: Digest,
        /// Why.
        source: layer::Error,
    },
    /// The output cannot be written.
    #[error("cannot write the {format}")]
    Write {
        /// What was being written.
        format: &'static str,
        /// Why.
        source: layer::Error,
    },
    /// A system call failed.
    #[error("cannot {what} {}", path.display())]
    System {
        /// What was being done, as the verb before the path.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// An effect on the disk failed.
    #[error(transparent)]
    Files(#[from] files::Error),
}

impl Error {
    /// Returns what there is to do about it.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::NoMachine { lacks } => {
                let mut mends: Vec<String> = lacks.iter().map(|lack| lack.mend.clone()).collect();
                // Of two kernels, for example.
                mends.dedup();
                mends
            }
            Self::Listed { .. } => {
                let hint = "give it another version; where no machine has it, remove the file";
                vec![hint.to_owned()]
            }
            _ => vec![],
        }
    }
}

fn listed(lacks: &[Lack]) -> String {
    lacks.iter().map(|lack| lack.what.as_str()).collect::<Vec<_>>().join("; ")
}

impl From<layer::Unverified> for Error {
    fn from(error: layer::Unverified) -> Self {
        match error {
            layer::Unverified::Read { digest, source } => Self::Blob { digest, source },
            layer::Unverified::Corrupt { digest, what } => Self::Corrupt { digest, what },
            layer::Unverified::Layer { digest, source } => Self::Layer { digest, source },
        }
    }
}

/// Makes an [`Error::System`] out of any system error.
pub(super) fn system(what: &'static str, path: &Path, source: impl Into<io::Error>) -> Error {
    Error::System { what, path: path.to_owned(), source: source.into() }
}
