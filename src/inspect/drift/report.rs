//! What a comparison is asked for and what it reports, as data that is written as JSON.

use std::path::PathBuf;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::place::Place;
use super::shift::Shift;
use crate::digest::Digest;
use crate::image::Identity;
use crate::inspect::change::{Change, hex_unless_text};

/// How to compare.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Compare also what every machine writes.
    pub strict: bool,
    /// Further patterns of what is left out, in gitignore notation over absolute paths.
    pub ignore: Vec<String>,
    /// How much higher user and group ids are in the root than in the image: the start of a
    /// container's id range.
    pub shift: Shift,
    /// List everything in added and removed directories, name by name.
    pub all: bool,
    /// Where digests are remembered from run to run.
    pub cache: Option<PathBuf>,
    /// Seconds since 1970, now.
    pub now: i64,
}

/// Whether a root is the image it claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Verdict {
    /// Every name is what the image says.
    #[serde(rename = "exact")]
    Exact,
    /// Some are not.
    #[serde(rename = "drifted")]
    Drifted,
    /// Nobody knows the image that it claims to be, or it claims nothing.
    #[serde(rename = "unknown image")]
    Unknown,
}

impl Verdict {
    /// How it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Drifted => "drifted",
            Self::Unknown => "unknown image",
        }
    }
}

/// How many names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Names of the image that were compared.
    pub compared: u64,
    /// Names that the image does not have; a directory with all that is in it is one.
    pub added: u64,
    /// Names that only the image has; a directory with all that is in it is one.
    pub removed: u64,
    /// Names that are something else.
    pub changed: u64,
    /// Of a disk: what is not as it was made, besides names.
    pub parts: u64,
    /// Names that could not be read.
    pub unreadable: u64,
    /// Files whose digest came from the stat cache.
    pub cached: u64,
}

/// A name that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Clean path.
    pub path: Vec<u8>,
    /// Why.
    pub why: String,
}

impl Serialize for Unread {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("path", &format!("/{}", String::from_utf8_lossy(&self.path)))?;
        if let Some(hex) = hex_unless_text(&self.path) {
            map.serialize_entry("path_hex", &hex)?;
        }
        map.serialize_entry("why", &self.why)?;
        map.end()
    }
}

/// Which root of a disk was compared, and how it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct OnDisk {
    /// Of the file: `raw`, `qcow2`, `vhd`.
    pub format: &'static str,
    /// Name of the root's partition; none where the file is no disk but a file system.
    pub partition: Option<String>,
    /// Its number, from 1.
    pub number: Option<u32>,
    /// `erofs`, `ext4`.
    pub file_system: &'static str,
    /// Names of the roots that were not compared: those of other versions.
    pub others: Vec<String>,
    /// Whether each block of it was checked against its hash tree.
    pub checked: bool,
    /// What starts it, where something on the disk does.
    pub boot: Option<AtBoot>,
    /// What else on the disk is not as it was made: its hash tree, its boot partition.
    pub changes: Vec<PartChange>,
    /// What else there is to say of how it was read.
    pub remarks: Vec<String>,
}

/// What starts a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AtBoot {
    /// Its path in the boot partition.
    pub program: String,
    /// What a recipe added to the kernel's command line.
    pub command_line: String,
    /// The kernel's release.
    pub release: Option<String>,
    /// Digest of the initial RAM disk.
    pub initrd: Option<Digest>,
}

/// Something on a disk, besides the files of its root, that is not as it was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PartChange {
    /// Name of the partition, or `esp`.
    pub part: String,
    /// A file in it.
    pub path: Option<String>,
    /// What is another.
    pub what: String,
    /// What it should be.
    pub before: Option<String>,
    /// What it is.
    pub after: Option<String>,
}

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The outcome.
    pub verdict: Verdict,
    /// Name of the image compared with; of an unknown one what the root claims.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Digest of its manifest.
    pub digest: Option<Digest>,
    /// What the root itself says it is, `name:version`.
    pub claims: Option<String>,
    /// The machine.
    pub host: Option<String>,
    /// What the root is the root of.
    pub place: Place,
    /// The root, or the file of the disk that it is on.
    pub root: PathBuf,
    /// Of a disk: which root was compared, and how it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<OnDisk>,
    /// When, RFC 3339.
    pub time: String,
    /// How many names.
    pub counts: Counts,
    /// Mount points that were left out, as the image has nothing there.
    #[serde(serialize_with = "paths")]
    pub skipped: Vec<Vec<u8>>,
    /// What could not be read.
    pub unreadable: Vec<Unread>,
    /// What is not as the image says, in the order of names.
    pub changes: Vec<Change>,
    /// What an operator may want to try.
    #[serde(skip)]
    pub hint: Option<String>,
}

fn paths<S: Serializer>(paths: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| format!("/{}", String::from_utf8_lossy(path))))
}

/// What a root says of itself: its host name and its image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claim {
    /// The machine; of another root than `/` what its `/etc/hostname` says.
    pub host: Option<String>,
    /// The image, if it has an identity file that can be read.
    pub identity: Option<Identity>,
    /// What it is the root of.
    pub place: Place,
}
