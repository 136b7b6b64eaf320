//! What is published already: a build that would make it again does nothing.

use super::error::Error;
use super::request::{LockMode, NoCache, Request};
use super::roots::Roots;
use crate::digest::Digest;
use crate::event::Event;
use crate::executor::Root;
use crate::image;
use crate::job::JobContext;
use crate::store::{Store, Version};
use crate::trial::{self, Machines};

/// Annotation of a published version in `index.json`: the key of the build that made it
/// ([`crate::plan::key`]).
pub const KEY_ANNOTATION: &str = "bake.build-key";

/// Looks whether this very build is published under its version. Of another build only the layers
/// can show whether it is the same content: the publish compares.
pub(crate) fn published_already(
    job: &JobContext<'_>,
    request: &Request,
    roots: &Roots,
    wanted: bool,
) -> Result<Option<Version>, Error> {
    if request.lock == LockMode::Update || !roots.complete() {
        return Ok(None);
    }
    let root = roots.main();
    let image = (&root.recipe.image.name, Some(&root.recipe.image.version));
    let versions = job.store.versions()?;
    let Some(found) =
        versions.iter().find(|one| (&one.reference.name, one.reference.version.as_ref()) == image)
    else {
        return Ok(None);
    };
    let Some(part) = job.store.part(found, &root.platform)? else { return Ok(None) };
    match part.manifest.annotations.get(KEY_ANNOTATION) {
        // Who asks for steps to run wants to see whether they still give this image; the publish
        // compares.
        Some(key) if *key == root.facts.key.to_string() => {
            let asked = request.paranoid || request.no_cache != NoCache::No;
            let there = !asked && whole(job.store, &part.manifest.digest);
            Ok(there.then(|| found.clone()))
        }
        // What is only stood on is not published.
        Some(_) if !wanted => Ok(None),
        Some(_) => {
            (job.sink)(Event::Note {
                message: format!(
                    "{} is published already, baked of other inputs: this build is refused unless \
                        it gives the very same image",
                    root.plan.image
                ),
            });
            Ok(None)
        }
        None => Ok(None),
    }
}

/// Makes sure that a published version has passed the tests as they are now written: the image need
/// not be made again for that.
pub(super) fn tested(
    job: &JobContext<'_>,
    request: &Request,
    root: &Root,
    version: &Version,
    machines: &dyn Machines,
) -> Result<(), Error> {
    let part = job.store.part(version, &root.platform)?;
    if part.is_some_and(|part| trial::is_tested(&part.manifest, &root.tests)) {
        return Ok(());
    }
    let (leave_out, recipe) = (request.no_test, Some(request.recipe.as_path()));
    trial::stored(job, version, &root.platform, &root.tests, leave_out, recipe, machines)?;
    Ok(())
}

/// Whether everything that a manifest names is there in its size (`bake verify` reads it all).
pub(super) fn whole(store: &Store, manifest: &Digest) -> bool {
    let Ok(bytes) = store.read_blob(manifest) else { return false };
    image::Manifest::parse(&bytes)
        .is_ok_and(|manifest| manifest.descriptors().all(|one| store.blob_of(one).is_ok()))
}
