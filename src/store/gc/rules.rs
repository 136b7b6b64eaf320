//! What a collection is asked for, and what it answers.

use std::time::Duration;

use serde::Serialize;

use crate::store::Version;

/// What may go.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Versions stay that are among the last so many of their name; revoked ones do not count.
    /// Without this and `older_than` all stay; with `older_than` alone the last one stays.
    pub keep: Option<usize>,
    /// Versions stay that were published less than this ago.
    pub older_than: Option<Duration>,
    /// What is in the cache stays if it was used less than this ago.
    pub cache_older_than: Duration,
    /// Logs stay if they were written less than this ago.
    pub logs_older_than: Duration,
    /// Files that belong to nothing stay if they came less than this ago: some tool may be about to
    /// name them.
    pub grace: Duration,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Default for Rules {
    fn default() -> Self {
        Self {
            keep: None,
            older_than: None,
            cache_older_than: 14 * DAY,
            logs_older_than: 30 * DAY,
            grace: Duration::from_secs(3600),
        }
    }
}

/// One kind of garbage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// What it is.
    pub kind: Kind,
    /// How many of it.
    pub count: u64,
    /// Bytes on the disk that nobody has afterwards. A file that is still linked elsewhere frees
    /// nothing.
    pub bytes: u64,
}

/// What garbage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Versions; their bytes are counted with the blobs.
    Versions,
    /// Published blobs.
    Blobs,
    /// Remembered steps.
    Steps,
    /// Blobs of remembered steps.
    CacheBlobs,
    /// Unpacked layers.
    Layers,
    /// Downloads.
    Packages,
    /// Other files of the cache.
    Cache,
    /// Staging directories of dead builds.
    Scratch,
    /// Directories of logs.
    Logs,
}

impl Kind {
    /// Returns what it is called in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Versions => "versions",
            Self::Blobs => "blobs",
            Self::Steps => "cached steps",
            Self::CacheBlobs => "cached blobs",
            Self::Layers => "unpacked layers",
            Self::Packages => "downloads",
            Self::Cache => "other cache files",
            Self::Scratch => "scratch of dead builds",
            Self::Logs => "logs of builds",
        }
    }
}

/// What could go, or went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Garbage {
    /// By kind, without those of which there is none.
    pub amounts: Vec<Amount>,
    /// The versions.
    pub versions: Vec<Version>,
    /// Why something stayed that a person may wonder about.
    pub notes: Vec<String>,
}

impl Garbage {
    /// Sum of all.
    pub fn bytes(&self) -> u64 {
        self.amounts.iter().map(|amount| amount.bytes).sum()
    }
}
