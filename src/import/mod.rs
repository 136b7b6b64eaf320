//! From the world in: an image that another tool keeps in files becomes a version of the store.
//!
//! ```text
//! OCI layout (directory) ─┐
//! oci-archive (tar) ──────┼─► Files ─► oci / docker ─► Found: manifest, config, layers
//! docker-archive (tar) ───┘              └─► each layer copied and checked ─► published under a version
//! ```
//! Nothing is believed: every digest, size, media type and diff_id is compared with the bytes, and
//! every layer is read as strictly as when it is unpacked. Layers are kept as they are. So is a
//! manifest of the form that bake writes (OCI, with its media type), and its digest stays; others
//! are written anew over the same layers.

mod attested;
mod cached;
mod check;
mod docker;
mod error;
mod files;
mod found;
mod layer;
mod oci;
mod pipe;
mod remote;

use std::path::Path;

use self::files::Files;
use self::found::{Found, FoundManifest, Layer};
use self::layer::Copier;
use crate::digest::Digest;
use crate::image::{self, Descriptor, ImageConfig, Manifest, Platform, Reference, RemoteName};
use crate::job::{self, JobContext};
use crate::registry::Options;
use crate::store::{self, Published, Staging};
use crate::trial::{self, Finished, Tests};

pub use cached::{Image, Origin, Resolved};
pub use error::Error;

/// An image that was imported.
#[derive(Debug)]
pub struct Imported {
    /// The manifest's digest.
    pub digest: Digest,
    /// The same content was there under this version already.
    pub already: bool,
    /// What it runs on.
    pub platform: Platform,
}

/// Brings the image at `source` into the store as `reference` (a name and a version). `wanted`:
/// which, where there are several: its name in an OCI layout, its tag in Docker's archive;
/// of an index the image for `platform`.
///
/// # Errors
/// Where it is no image, not the one that is wanted, or not what it says; nothing is published
/// then.
pub fn import(
    job: &JobContext<'_>,
    source: &Path,
    wanted: Option<&str>,
    platform: &Platform,
    reference: Reference,
) -> Result<Imported, Error> {
    let staging = job.store.staging()?;
    let files = Files::open(source, staging.dir())?;
    let found = match files.is_oci()? {
        true => oci::find(&files, wanted, platform)?,
        false => docker::find(&files, wanted)?,
    };
    let Found { manifest, config_bytes, config, layers } = found;
    let copier = Copier::new(job, &staging, files.path(), "import", layers.iter());
    let copy = |layer: &Layer| copier.copy(layer, files.reader(&layer.path)?);
    let made = layers.iter().map(copy).collect::<Result<Vec<_>, _>>()?;
    drop(copier);
    let (manifest, bytes) = written(manifest.as_ref(), made, &config_bytes);
    publish(job, &staging, (&config, &config_bytes), (&manifest, &bytes), vec![], reference)
}

/// Brings an image of a registry into the store as `reference` (a name and a version): the one for
/// `platform`, where it is of several.
///
/// # Errors
/// Where it cannot be had, or is not what it says; nothing is published then.
pub fn pull(
    job: &JobContext<'_>,
    name: &RemoteName,
    options: &Options,
    platform: &Platform,
    reference: Reference,
) -> Result<Imported, Error> {
    let origin = Origin::Registry { name: name.clone(), options: Box::new(options.clone()) };
    let image = Image::find(job, origin, platform, None)?;
    let layers = image.descriptors().collect();
    let (manifest, bytes) = written(Some(&image.manifest), layers, &image.config_bytes);
    // A version is one content for ever: where that is decided already, nothing is fetched.
    let want = Digest::of(&bytes);
    match job.store.resolve(&reference) {
        Ok(there) if there.manifest.digest == want => {
            let platform = found::platform(&image.config);
            return Ok(Imported { digest: want, already: true, platform });
        }
        Ok(there) => {
            let (reference, have) = (Box::new(reference), there.manifest.digest);
            return Err(store::Error::VersionTaken { reference, have, want }.into());
        }
        Err(store::Error::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let staging = job.store.staging()?;
    image.fetch(job, &staging, "pull")?;
    let config = (&image.config, &image.config_bytes[..]);
    // They speak about the image as it is there: about one that is written anew there are none.
    let attested = match &image.repository {
        Some(repository) if image.digest == want => {
            attested::fetch(repository, &want, &staging, job.sink)?
        }
        _ => vec![],
    };
    publish(job, &staging, config, (&manifest, &bytes), attested, reference)
}

/// Returns the manifest that is published: the image's own where that is of the form that bake
/// writes, else one over its config and `layers`.
fn written(
    found: Option<&FoundManifest>,
    layers: Vec<Descriptor>,
    config: &[u8],
) -> (Manifest, Vec<u8>) {
    if let Some(FoundManifest { manifest, bytes, .. }) = found.filter(|found| found.ours) {
        return (manifest.clone(), bytes.clone());
    }
    let size = config.len() as u64;
    let named = Descriptor::new(image::MEDIA_CONFIG, Digest::of(config), size);
    let manifest = Manifest::new(named, layers);
    let bytes = manifest.to_json();
    (manifest, bytes)
}

/// Publishes an image, all layers of which are in `staging`. Its config and its manifest come with
/// the bytes of these.
fn publish(
    job: &JobContext<'_>,
    staging: &Staging,
    (config, config_bytes): (&ImageConfig, &[u8]),
    (manifest, bytes): (&Manifest, &[u8]),
    attested: Vec<Descriptor>,
    reference: Reference,
) -> Result<Imported, Error> {
    staging.put(config_bytes)?;
    let (digest, size) = staging.put(bytes)?;
    let platform = found::platform(config);
    let descriptor =
        Descriptor::new(image::MEDIA_MANIFEST, digest, size).with_platform(platform.clone());
    let finished = Finished {
        staging,
        reference,
        descriptor,
        manifest,
        config,
        tests: &Tests::default(),
        attested,
        stated: None,
        context: job,
        logs: staging.dir(),
        recipe: None,
        configured: None,
    };
    let no_session = || {
        let what = "test an imported image".to_owned();
        Err(job::Error::Failed { what, why: "it has no tests".to_owned() })
    };
    let checked = trial::check(finished, false, no_session)?;
    let checked = trial::booted(job, checked, &trial::NoMachines)?;
    if job.cancel.fired() {
        return Err(job::Error::Interrupted.into());
    }
    let bundles = trial::bundles(job.store, &[checked])?;
    let published = trial::publish(job.store, &bundles, &[])?;
    Ok(Imported { digest, already: published.contains(&Published::Already), platform })
}
