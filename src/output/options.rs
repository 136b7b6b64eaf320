//! What an export is asked for, and what it answers.

use std::fs::File;
use std::io;

use crate::digest::Digest;
use crate::image::{Descriptor, Reference};

/// What an image can be exported as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A directory that is an OCI image layout.
    Oci,
    /// A tar of an OCI image layout.
    OciArchive,
    /// What `docker save` writes.
    DockerArchive,
    /// The root file system as a tar.
    Tar,
    /// The root file system as a directory.
    Dir,
    /// The names of the root file system, as mtree(5).
    Manifest,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Oci, Self::OciArchive, Self::DockerArchive, Self::Tar, Self::Dir, Self::Manifest];

    /// How people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oci => "oci",
            Self::OciArchive => "oci-archive",
            Self::DockerArchive => "docker-archive",
            Self::Tar => "tar",
            Self::Dir => "dir",
            Self::Manifest => "manifest",
        }
    }

    /// Whether it is a directory, not a file.
    pub fn is_dir(self) -> bool {
        matches!(self, Self::Oci | Self::Dir)
    }

    /// Finds a format by its name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// An image to be exported.
pub struct Source<'a> {
    /// What the archive calls it; without a version it has no name there.
    pub reference: &'a Reference,
    /// Its manifest.
    pub manifest: &'a Descriptor,
    /// Opens a blob. What it returns is verified here.
    pub blob: &'a dyn Fn(&Digest) -> io::Result<File>,
}

/// How to export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Replace what is at the destination.
    pub force: bool,
    /// For a directory: everything belongs to the caller; setuid and setgid bits and capabilities
    /// are dropped. Without it only root can write one.
    pub drop_owners: bool,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Bytes of the file; for a directory, of what was put into it.
    pub bytes: u64,
    /// sha256 of the file; a directory has none.
    pub digest: Option<Digest>,
}
