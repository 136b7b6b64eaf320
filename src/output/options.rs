//! What an export is asked for, and what it answers.

use std::fs::File;
use std::io;

use crate::digest::Digest;
use crate::image::{Descriptor, Reference};
use crate::recipe::DiskOutput;

/// The file system that a blank data disk gets.
pub const DATA_FS: &str = "ext4";

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
    /// The root file system as a squashfs.
    Squashfs,
    /// The root file system as an erofs.
    Erofs,
    /// The root file system as an ext4.
    Ext4,
    /// A disk that a machine boots from.
    Disk,
    /// The same, as QEMU's copy-on-write format.
    Qcow2,
    /// The same, as VMware and clouds import it.
    Vmdk,
    /// The same, as Azure takes it.
    Vhd,
    /// The same, as Hyper-V takes it.
    Vhdx,
    /// A directory: kernel, initial RAM disk, command line, and a disk without them.
    Kernel,
    /// A directory: the partitions and the boot programs of versions, for systemd-sysupdate.
    Partitions,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Oci,
        Self::OciArchive,
        Self::DockerArchive,
        Self::Tar,
        Self::Dir,
        Self::Manifest,
        Self::Squashfs,
        Self::Erofs,
        Self::Ext4,
        Self::Disk,
        Self::Qcow2,
        Self::Vmdk,
        Self::Vhd,
        Self::Vhdx,
        Self::Kernel,
        Self::Partitions,
    ];

    /// How people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oci => "oci",
            Self::OciArchive => "oci-archive",
            Self::DockerArchive => "docker-archive",
            Self::Tar => "tar",
            Self::Dir => "dir",
            Self::Manifest => "manifest",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
            Self::Ext4 => "ext4",
            Self::Disk => "disk",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Kernel => "kernel",
            Self::Partitions => "partitions",
        }
    }

    /// Whether it is a directory, not a file.
    pub fn is_dir(self) -> bool {
        matches!(self, Self::Oci | Self::Dir | Self::Kernel | Self::Partitions)
    }

    /// Whether it is a disk that a machine boots from.
    pub fn is_disk(self) -> bool {
        matches!(self, Self::Disk | Self::Qcow2 | Self::Vmdk | Self::Vhd | Self::Vhdx)
    }

    /// Whether it is a machine: a disk, or the parts of one.
    pub fn is_machine(self) -> bool {
        self.is_disk() || matches!(self, Self::Kernel | Self::Partitions)
    }

    /// Whether it holds all images of a version for several platforms; the others hold one.
    pub fn holds_all(self) -> bool {
        matches!(self, Self::Oci | Self::OciArchive)
    }

    /// Returns the program that makes it, where bake itself does not.
    pub fn program(self) -> Option<&'static str> {
        match self {
            Self::Squashfs => Some("sqfstar"),
            Self::Erofs => Some("mkfs.erofs"),
            _ if self.is_machine() => Some("mkfs.erofs"),
            _ => None,
        }
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Replace what is at the destination.
    pub force: bool,
    /// For a directory: everything belongs to the caller; setuid and setgid bits and capabilities
    /// are dropped. Without it only root can write one.
    pub drop_owners: bool,
    /// Of ext4: bytes of the file system; else as many as its files need.
    pub size: Option<u64>,
    /// Of ext4 and erofs: what the file system is called.
    pub label: Option<String>,
    /// Of squashfs and erofs: how it is compressed.
    pub compression: Option<String>,
    /// Of a directory of versions: how many of an image stay.
    pub keep: Option<usize>,
    /// Of a disk: what it is besides its file system.
    pub disk: DiskOutput,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Bytes of the file; for a directory, of what was put into it.
    pub bytes: u64,
    /// sha256 of the file; a directory has none.
    pub digest: Option<Digest>,
    /// What the person should know of it.
    pub remarks: Vec<Remark>,
}

/// Something that a person should know of what was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// The format does not hold something.
    Lost(Lost),
    /// The machine will start, and probably not do what it is for.
    Doubt(Lack),
}

impl Remark {
    /// Says it in a line, and what to do about it.
    pub fn message(&self, format: Format) -> (String, Option<String>) {
        match self {
            Self::Lost(lost) => (lost.message(format), None),
            Self::Doubt(Lack { what, mend }) => (what.clone(), Some(mend.clone())),
        }
    }
}

impl From<Lost> for Remark {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

/// Something that an image lacks, or has and should not, for a machine to be made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// What: `it has no kernel with modules`.
    pub what: String,
    /// What to do.
    pub mend: String,
}

/// Something of some files that a format does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// What: `extended attributes`.
    pub what: String,
    /// Of which files, absolute in the image.
    pub paths: Vec<String>,
}

impl Lost {
    /// Says in a line what was lost of which files, the first ones by name.
    pub fn message(&self, format: Format) -> String {
        let Self { what, paths } = self;
        let named = paths[..paths.len().min(10)].join(", ");
        let more = match paths.len().saturating_sub(10) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{} does not hold {what}, which are left out of {named}{more}", format.name())
    }
}
