//! What a root is the root of.

use std::path::Path;

use serde::Serialize;

/// What a root is the root of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The disk of a machine, read while it does not run.
    Disk,
    /// A machine, virtual or not, looked at from inside.
    Machine,
    /// A container that runs.
    Container,
    /// A directory, of which nobody knows.
    #[default]
    Directory,
}

impl Place {
    /// How it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Machine => "machine",
            Self::Container => "container",
            Self::Directory => "directory",
        }
    }

    /// Returns what a name of [`Place::name`] stands for.
    pub(in crate::inspect) fn of(name: &str) -> Option<Self> {
        let all = [Self::Disk, Self::Machine, Self::Container, Self::Directory];
        all.into_iter().find(|place| place.name() == name)
    }

    /// Returns what this process lives in: container engines leave one of these files, or systemd
    /// does so for them.
    pub(super) fn own() -> Self {
        let marks = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];
        match marks.iter().any(|mark| Path::new(mark).exists()) {
            true => Self::Container,
            false => Self::Machine,
        }
    }
}
