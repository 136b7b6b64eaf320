//! The calls about packages and bases: what jobs ask of bake itself inside a root. What they do
//! stands in `base`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::package::Package;
use crate::sandbox::{self, Passed};

/// One call.
#[derive(Debug, Serialize, Deserialize)]
pub enum Call {
    /// Unpacks a (perhaps compressed) tar into the directory `into`.
    UnpackArchive {
        /// An empty directory, as the job sees it.
        into: PathBuf,
        /// The tar.
        archive: Passed,
    },
    /// Unpacks a set of packages into an empty root, as they arrive.
    UnpackPackages {
        /// Which, and how.
        set: PackageSet,
        /// The places in the set (u32, little endian) of packages that have arrived.
        arrived: Passed,
    },
    /// Checks dpkg's database, and removes what must not stay, in `/`.
    Finish(Check),
    /// Removes what must not stay, in `/`.
    Tidy,
    /// Looks at the finished image in `/`.
    Remarks,
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Of [`Call::UnpackArchive`]: what the tree is, if it is an image and no root file system.
    Archive(Option<ImageForm>),
    /// Of [`Call::UnpackPackages`].
    Packages(UnpackedPackages),
    /// Of [`Call::Finish`] and [`Call::Tidy`]: how much was removed.
    Tidied(u64),
    /// Of [`Call::Remarks`].
    Remarks(Vec<Remark>),
}

/// A job with these calls.
pub type Job = sandbox::Job<Call>;
/// An action of such a job.
pub type Action = sandbox::Action<Call>;

/// What to unpack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PackageSet {
    /// The empty root.
    pub root: PathBuf,
    /// Directory with the packages, by sha256 in hex.
    pub packages: PathBuf,
    /// The set, by name.
    pub set: Vec<Package>,
    /// Debian's name of the architecture.
    pub arch: String,
    /// Leave out documentation and the like.
    pub slim: bool,
    /// Time of what no package dates.
    pub epoch: i64,
    /// Packages at once.
    pub threads: usize,
    /// Content of `/etc/apt/sources.list.d/debian.sources`.
    pub sources: String,
}

/// What was unpacked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnpackedPackages {
    /// `<name>_<arch>` of packages with a preinst, in the order in which those must run.
    pub preinsts: Vec<String>,
    /// Files, symlinks and directories.
    pub entries: u64,
    /// Bytes of file contents.
    pub bytes: u64,
}

/// What [`Call::Finish`] checks at the end of a job that installed packages.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Check {
    /// Packages (name, version) that must be installed now.
    pub installed: Vec<(String, String)>,
    /// Every package in dpkg's database must be `install ok installed`.
    pub whole: bool,
}

/// What a person should know about a finished image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// A sentence fragment.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// Whether the image cannot work as it is configured.
    pub broken: bool,
}

/// Forms in which whole images are kept, as people hand them to a base by mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum ImageForm {
    /// An OCI image layout: `oci-layout`, `index.json`, `blobs/` (image-spec, "image-layout.md").
    #[error("an OCI image layout")]
    Oci,
    /// What `docker save` writes: `manifest.json` that lists configs and layers.
    #[error("a docker archive")]
    Docker,
}
