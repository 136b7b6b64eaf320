//! The disk of an image, made aside.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::digest::Digest;
use crate::event::chain;
use crate::job::{self, JobContext};
use crate::machine::Identity;
use crate::output::{self, Format, Made, Options, Source, Tools};
use crate::recipe::DiskOutput;
use crate::step::BootDisk;
use crate::store::{Staging, Store, Version};
use crate::trial::{Error, Tests};

/// Makes the disk of an image in a directory; `staging`: where its blobs are that the store has not
/// yet.
pub(super) fn make(
    job: &JobContext<'_>,
    version: &Version,
    staging: Option<&Staging>,
    (format, options): (Format, &Options),
    dir: &Path,
    tools: &dyn Tools,
) -> Result<Made, Error> {
    let of_store = |digest: &Digest| job.store.blob(digest).map_err(io::Error::other);
    let blob = |digest: &Digest| match staging.map(|staging| File::open(staging.path(digest))) {
        Some(Err(e)) if e.kind() == io::ErrorKind::NotFound => of_store(digest),
        None => of_store(digest),
        Some(found) => found,
    };
    let Version { reference, manifest, .. } = version;
    let source = Source { reference, manifest, blob: &blob };
    let made = output::make(&source, format, &dir.join("disk"), options, Some(tools));
    made.map_err(|error| match error.hints() {
        none if none.is_empty() => Error::NoMachine { why: chain(&error) },
        hints => Error::NotBootable { why: chain(&error), hints },
    })
}

/// Returns what a machine of an image says that it is.
pub(super) fn identity(image: &Version) -> Identity {
    Identity {
        product: image.reference.name.clone(),
        version: image.reference.version.clone().unwrap_or_default(),
        digest: image.manifest.digest.to_string(),
    }
}

/// Returns what the disk of a stored image is made like that its tests boot, if one does.
///
/// # Errors
/// Where its tests cannot be read.
pub fn tested(store: &Store, image: &Digest) -> Result<Option<Options>, job::Error> {
    let tests = Tests::of_image(store, image)?.unwrap_or_default().list;
    let boot = tests.into_iter().find_map(|test| test.boot);
    Ok(boot.map(|boot| described(&boot.disk).1))
}

/// Returns what a disk that a test describes is made like.
pub(super) fn described(disk: &BootDisk) -> (Format, Options) {
    let BootDisk { format, size, compression, writable, command_line, esp, slot, data } =
        disk.clone();
    let format = Format::find(&format).unwrap_or(Format::Disk);
    let disk = DiskOutput { writable, command_line, esp, slot, data };
    // As those of an output.
    (format, Options { force: true, size, compression, disk, ..Options::default() })
}
