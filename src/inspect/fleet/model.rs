//! What a fleet is, as data that is written as JSON.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::inspect::drift::{Place, Verdict};

/// All machines of which there are reports.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Fleet {
    /// Machines that count.
    pub machines: u64,
    /// Reports that were understood, also of machines that have a newer one.
    pub reports: u64,
    /// Time of the oldest report that counts, RFC 3339.
    pub from: Option<String>,
    /// Time of the newest.
    pub to: Option<String>,
    /// By verdict.
    pub verdicts: Tally,
    /// By what they are; of machines whose reports say so.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<Place, u64>,
    /// By image and version: names in order, versions as people count, what names no image last.
    pub groups: Vec<Group>,
    /// The machines that are not exact, by image, version and host.
    pub astray: Vec<Astray>,
    /// Remarks on the reports.
    pub notes: Vec<Note>,
}

/// Machines by verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// Every name is what the image says.
    pub exact: u64,
    /// Some are not.
    pub drifted: u64,
    /// Nobody knows the image.
    pub unknown: u64,
    /// Only the identity was reported: nobody compared.
    pub unchecked: u64,
}

impl Tally {
    /// All of them.
    pub fn all(&self) -> u64 {
        self.exact + self.drifted + self.unknown + self.unchecked
    }

    /// The counts with their words, in the order in which they are drawn.
    pub fn parts(&self) -> [(&'static str, u64); 4] {
        [
            ("exact", self.exact),
            ("drifted", self.drifted),
            ("unknown image", self.unknown),
            ("unchecked", self.unchecked),
        ]
    }

    pub(super) fn add(&mut self, verdict: Option<Verdict>) {
        match verdict {
            Some(Verdict::Exact) => self.exact += 1,
            Some(Verdict::Drifted) => self.drifted += 1,
            Some(Verdict::Unknown) => self.unknown += 1,
            None => self.unchecked += 1,
        }
    }
}

/// The machines of one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Name of the image; `None` where the root says nothing.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// How many, by verdict.
    #[serde(flatten)]
    pub tally: Tally,
    /// By what they are; of machines whose reports say so.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<Place, u64>,
}

/// A machine that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Astray {
    /// The machine, if its report says.
    pub host: Option<String>,
    /// What it is, if its report says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Name of the image.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// `drifted` or `unknown image`.
    pub verdict: Verdict,
    /// Names that differ.
    pub changes: u64,
    /// Time of its report, RFC 3339.
    pub time: String,
}

/// The kinds of remarks on reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A file in a directory that cannot be read; did not count.
    Unreadable,
    /// Not JSON; did not count.
    NotJson,
    /// JSON of something else; did not count.
    NotAReport,
    /// Of a format this bake does not know; did not count.
    Newer,
    /// A newer report of the same host counts instead.
    Older,
    /// Its time is still to come; counts, unless the host has one that is not.
    Future,
    /// Compared with another image than the root says it is.
    OtherImage,
    /// Without a host: counts as a machine of its own.
    NoHost,
    /// One version with two digests: somebody baked other content under the same name.
    TwoDigests,
}

impl Kind {
    /// Whether such a report is not among the machines.
    pub fn is_left_out(self) -> bool {
        matches!(
            self,
            Self::Unreadable | Self::NotJson | Self::NotAReport | Self::Newer | Self::Older
        )
    }

    /// What it says, after a number: `not JSON`.
    pub fn text(self) -> &'static str {
        match self {
            Self::Unreadable => "cannot be read",
            Self::NotJson => "not JSON",
            Self::NotAReport => "not a report",
            Self::Newer => "of a newer format",
            Self::Older => "older than another of the same host",
            Self::Future => "from the future",
            Self::OtherImage => "compared with another image than the root says it is",
            Self::NoHost => "without a host",
            Self::TwoDigests => "versions with more than one digest",
        }
    }
}

/// A remark on reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// What.
    pub kind: Kind,
    /// How many.
    pub count: u64,
    /// The first of them: `FILE`, `FILE:LINE`, or what it is about.
    pub examples: Vec<String>,
}

/// How a place is written in notes.
pub(super) fn place(path: &Path, line: Option<usize>) -> String {
    let path = path.display();
    line.map_or_else(|| path.to_string(), |line| format!("{path}:{line}"))
}
