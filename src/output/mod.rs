//! To the world out: a stored image as a file or a directory, made from the bytes of its blobs and
//! nothing else.
//!
//! | format | what | who reads it |
//! |---|---|---|
//! | `oci-archive` | tar of an OCI layout with this one image | skopeo, podman, containerd, `docker load` |
//! | `docker-archive` | tar of `manifest.json`, config and plain layers | `docker load`, podman, skopeo |
//! | `tar` | the root file system, layers applied, sorted | tar, mkfs, any hypervisor's importer |
//! | `dir` | the same as a directory | chroot, systemd-nspawn |
//! | `manifest` | its names with digests, modes, owners, as mtree(5) | `bake drift`, bsdtar, mtree |
//!
//! The same image is always the same bytes. Every blob is verified on its way (digest and size;
//! layers also against the config's diff_id). A destination is whole or absent: work happens aside
//! (place.rs).

use std::io::Write;
use std::path::Path;

use crate::digest::HashWriter;

mod docker;
mod error;
mod flat;
mod manifest;
mod oci;
mod options;
mod place;
mod source;

pub use error::Error;
pub use options::{Exported, Format, Options, Source};

/// Exports an image to the file or directory `dest`, whole or not at all.
pub fn export(
    source: &Source<'_>,
    format: Format,
    dest: &Path,
    options: Options,
) -> Result<Exported, Error> {
    if format == Format::Dir {
        return flat::dir(source, dest, options);
    }
    let place = place::NewFile::new(dest, options.force)?;
    let spool = place.parent().to_owned();
    let mut out = HashWriter::new(place.file());
    write_to(source, format, &mut out, &spool)?;
    let (_, digest, bytes) = out.finish();
    place.keep()?;
    Ok(Exported { bytes, digest: Some(digest) })
}

/// Writes an image to a stream, as any format but `dir`. The root file system as a tar needs room
/// for its files in the directory of temporary files, because layers are not in its order.
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
