//! To the world out: a stored image as a file or a folder, made from the bytes of its blobs and
//! nothing else.
//!
//! | format | what | who reads it |
//! |---|---|---|
//! | `oci-archive` | tar of an OCI layout with this one image | skopeo, podman, containerd, `docker load` |
//! | `docker-archive` | tar of `manifest.json`, config and plain layers | `docker load`, podman, skopeo |
//! | `tar` | the root file system, layers applied, sorted | tar, mkfs, any hypervisor's importer |
//! | `dir` | the same as a folder | chroot, systemd-nspawn |
//! | `manifest` | its names with digests, modes, owners, as mtree(5) | `bake drift`, bsdtar, mtree |
//!
//! The same image is always the same bytes. Every blob is verified on its way (digest and size;
//! layers also against the config's diff_id). A destination is whole or absent: work happens at
//! `<dest>.partial`, locked; an interrupted one is replaced by the next export.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::digest::{Digest, HashWriter};
use crate::image::{Descriptor, Reference};
use crate::layer;

mod docker;
mod flat;
mod manifest;
mod oci;
mod place;
mod source;

/// What an image can be exported as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A tar of an OCI image layout.
    OciArchive,
    /// What `docker save` writes.
    DockerArchive,
    /// The root file system as a tar.
    Tar,
    /// The root file system as a folder.
    Dir,
    /// The names of the root file system, as mtree(5).
    Manifest,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::OciArchive, Self::DockerArchive, Self::Tar, Self::Dir, Self::Manifest];

    /// How people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OciArchive => "oci-archive",
            Self::DockerArchive => "docker-archive",
            Self::Tar => "tar",
            Self::Dir => "dir",
            Self::Manifest => "manifest",
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// Replace what is at the destination.
    pub force: bool,
    /// For a folder: everything belongs to the caller; setuid and setgid bits and capabilities are
    /// dropped. Without it only root can write one.
    pub drop_owners: bool,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Bytes of the file; for a folder, of the tars unpacked into it.
    pub bytes: u64,
    /// sha256 of the file; a folder has none.
    pub digest: Option<Digest>,
}

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
    /// Another export to the same destination is at work.
    #[error("cannot write {}: another export is writing it", path.display())]
    Busy {
        /// The destination.
        path: PathBuf,
    },
    /// A folder that bake did not make stands where the work would be done.
    #[error("cannot use {}: a file or directory of that name exists, and no interrupted export left it", path.display())]
    InTheWay {
        /// `<dest>.partial`.
        path: PathBuf,
    },
    /// The destination has no name of its own.
    #[error("cannot write {}: not the name of a file or directory to be made", path.display())]
    Destination {
        /// What was given.
        path: PathBuf,
    },
    /// A folder cannot go to a stream.
    #[error("cannot write the format `dir` to a stream")]
    Stream,
    /// A folder with owners needs root.
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
    /// The manifest or config cannot be understood.
    #[error("cannot read the blob {digest}")]
    Unreadable {
        /// Which.
        digest: Digest,
        /// Why.
        source: crate::image::Unreadable,
    },
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
    Files(#[from] crate::files::Error),
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

/// Exports an image to the file or folder `dest`, whole or not at all.
pub fn export(
    source: &Source<'_>,
    format: Format,
    dest: &Path,
    options: Options,
) -> Result<Exported, Error> {
    if format == Format::Dir {
        return flat::dir(source, dest, options);
    }
    let place = place::PartialFile::new(dest, options.force)?;
    let spool = place.folder().to_owned();
    let mut out = HashWriter::new(place.file());
    write_to(source, format, &mut out, &spool)?;
    let (_, digest, bytes) = out.finish();
    place.keep()?;
    Ok(Exported { bytes, digest: Some(digest) })
}

/// Writes an image to a stream, as any format but `dir`. The root file system as a tar needs room
/// for its files in the folder of temporary files, because layers are not in its order.
pub fn write(source: &Source<'_>, format: Format, out: &mut dyn Write) -> Result<Exported, Error> {
    let mut out = HashWriter::new(out);
    write_to(source, format, &mut out, &std::env::temp_dir())?;
    let (_, digest, bytes) = out.finish();
    Ok(Exported { bytes, digest: Some(digest) })
}

fn write_to(
    source: &Source<'_>,
    format: Format,
    out: &mut dyn Write,
    spool: &Path,
) -> Result<(), Error> {
    let image = source::Image::open(source)?;
    match format {
        Format::OciArchive => oci::write(&image, out),
        Format::DockerArchive => docker::write(&image, out),
        Format::Tar => flat::tar(&image, out, spool),
        Format::Manifest => manifest::write(&image, out),
        Format::Dir => Err(Error::Stream),
    }
}
