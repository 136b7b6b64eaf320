//! To the world out: a stored image as a file or a directory, made from the bytes of its blobs and
//! nothing else.
//!
//! | format | what | who reads it |
//! |---|---|---|
//! | `oci` | a directory that is an OCI layout with this one image | skopeo, umoci, podman |
//! | `oci-archive` | tar of an OCI layout with this one image | skopeo, podman, containerd, `docker load` |
//! | `docker-archive` | tar of `manifest.json`, config and plain layers | `docker load`, podman, skopeo |
//! | `tar` | the root file system, layers applied, sorted | tar, mkfs, any hypervisor's importer |
//! | `dir` | the same as a directory | chroot, systemd-nspawn |
//! | `ext4` | the same as a file system | mount, virtual machines |
//! | `squashfs`, `erofs` | the same, made by programs ([`Tools`]) | mount, virtual machines |
//! | `disk`, `qcow2`, `vmdk`, `vhd`, `vhdx` | a disk with that and a kernel | firmware, hypervisors, clouds |
//! | `partitions` | versions of that, to which each is added, as a directory | systemd-sysupdate |
//! | `kernel` | the same in parts, as a directory | direct kernel boot, boot over a network |
//! | `manifest` | its names with digests, modes, owners, as mtree(5) | `bake drift`, bsdtar, mtree |
//!
//! The same image is always the same bytes. Every blob is verified on its way (digest and size;
//! layers also against the config's diff_id). A destination is whole or absent: work happens aside
//! (place.rs).

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::digest::HashWriter;

mod disk;
mod docker;
mod error;
mod ext4;
mod filesystem;
mod flat;
mod kernel;
mod lint;
mod manifest;
mod oci;
mod options;
mod place;
mod source;
mod sysupdate;

pub use error::Error;
pub use filesystem::{Feed, Program, Tools};
pub use options::{DATA_FS, Exported, Format, Lack, Lost, Options, Remark, Source};
pub use place::NewDir;
pub use sysupdate::{Updated, update};

/// An output that is whole, under a name aside; dropped = gone, unless it was renamed.
pub struct Made {
    /// Held: what it is in goes with it.
    _place: Place,
    exported: Exported,
    path: PathBuf,
}

enum Place {
    File(place::NewFile),
    Dir(place::NewDir),
}

impl Made {
    /// Where it lies, in the directory of its destination or in one of that, flushed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was made.
    pub fn exported(&self) -> &Exported {
        &self.exported
    }
}

/// Makes an image into a file or directory for `dest`, and leaves it aside: somebody else puts it
/// in its place.
///
/// # Errors
/// What is wrong with the image, its blobs, the programs, or the destination.
pub fn make(
    source: &Source<'_>,
    format: Format,
    dest: &Path,
    options: &Options,
    tools: Option<&dyn Tools>,
) -> Result<Made, Error> {
    let (mut place, exported) = filled(source, format, dest, options, tools)?;
    let path = match &mut place {
        Place::File(file) => file.ready()?,
        Place::Dir(dir) => dir.ready()?,
    };
    Ok(Made { _place: place, exported, path })
}

/// Exports an image to the file or directory `dest`, whole or not at all.
pub fn export(
    source: &Source<'_>,
    format: Format,
    dest: &Path,
    options: &Options,
    tools: Option<&dyn Tools>,
) -> Result<Exported, Error> {
    let (place, exported) = filled(source, format, dest, options, tools)?;
    match place {
        Place::File(file) => file.keep()?,
        Place::Dir(dir) => dir.keep()?,
    }
    Ok(exported)
}

fn filled(
    source: &Source<'_>,
    format: Format,
    dest: &Path,
    options: &Options,
    tools: Option<&dyn Tools>,
) -> Result<(Place, Exported), Error> {
    match format {
        Format::Dir => flat::dir(source, dest, options).map(|(dir, done)| (Place::Dir(dir), done)),
        Format::Oci => oci::dir(source, dest, options).map(|(dir, done)| (Place::Dir(dir), done)),
        Format::Kernel => {
            let tools = tools.ok_or_else(|| filesystem::no_program("mkfs.erofs"))?;
            kernel::dir(source, dest, options, tools).map(|(dir, done)| (Place::Dir(dir), done))
        }
        Format::Partitions => {
            let tools = tools.ok_or_else(|| filesystem::no_program("mkfs.erofs"))?;
            let (dir, done) = sysupdate::dir(source, dest, options, tools)?;
            Ok((Place::Dir(dir), done))
        }
        _ => {
            let place = place::NewFile::new(dest, options.force)?;
            let exported = fill(source, format, options, tools, &place)?;
            Ok((Place::File(place), exported))
        }
    }
}

/// Writes an image into a file that is being made.
fn fill(
    source: &Source<'_>,
    format: Format,
    options: &Options,
    tools: Option<&dyn Tools>,
    place: &place::NewFile,
) -> Result<Exported, Error> {
    let (spool, out) = (place.parent(), place.file());
    if format == Format::Ext4 {
        let image = source::Image::open(source)?;
        let flat = flat::Flat::read(&image, spool)?;
        let (digest, bytes, lost) = ext4::make(&image, &flat, options, out)?;
        let remarks = lost.into_iter().map(Remark::from).collect();
        return Ok(Exported { bytes, digest: Some(digest), remarks });
    }
    let Some(program) = format.program() else {
        let mut out = HashWriter::new(out);
        write_to(source, format, &mut out, spool)?;
        let (_, digest, bytes) = out.finish();
        return Ok(Exported { bytes, digest: Some(digest), remarks: vec![] });
    };
    let tools = tools.ok_or_else(|| filesystem::no_program(program))?;
    let image = source::Image::open(source)?;
    let flat = flat::Flat::read(&image, spool)?;
    let (digest, bytes, remarks) = match format {
        _ if format.is_disk() => disk::make(&image, &flat, format, options, tools, (out, spool))?,
        _ => {
            let (digest, bytes, lost) =
                filesystem::make(&image, &flat, format, options, tools, out)?;
            (digest, bytes, lost.into_iter().map(Remark::from).collect())
        }
    };
    Ok(Exported { bytes, digest: Some(digest), remarks })
}

/// Writes an image to a stream, as a format that can be written in order. The root file system as a
/// tar needs room for its files in the directory of temporary files, because layers are not in its
/// order.
pub fn write(source: &Source<'_>, format: Format, out: &mut dyn Write) -> Result<Exported, Error> {
    let mut out = HashWriter::new(out);
    write_to(source, format, &mut out, &std::env::temp_dir())?;
    let (_, digest, bytes) = out.finish();
    Ok(Exported { bytes, digest: Some(digest), remarks: vec![] })
}

fn write_to(
    source: &Source<'_>,
    format: Format,
    out: &mut dyn Write,
    spool: &Path,
) -> Result<(), Error> {
    if format == Format::OciArchive {
        return oci::write(source, out);
    }
    let image = source::Image::open(source)?;
    match format {
        Format::DockerArchive => docker::write(&image, out),
        Format::Tar => flat::tar(&image, out, spool),
        Format::Manifest => manifest::write(&image, out),
        _ => Err(Error::Stream { format: format.name() }),
    }
}
