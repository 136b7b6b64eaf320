//! The gate: only what passed it can be published. The promise "tests gate" is a fact of the types: `publish` exists on
//! [`Checked`] only, and only [`check`] makes one.

use crate::digest::Digest;
use crate::image::{Descriptor, Reference};
use crate::store::{Draft, Published, Store, Version};

use super::error::Error;

/// A finished image in its draft, not yet looked at.
pub(super) struct Finished<'a> {
    pub(super) draft: &'a Draft,
    pub(super) reference: Reference,
    pub(super) manifest: Descriptor,
}

/// An image that passed the gate.
pub(super) struct Checked<'a>(Finished<'a>);

/// Runs the tests of the recipe against the finished image. Recipes cannot state tests yet, so an image passes by having been
/// finished: every step succeeded and every layer is whole.
pub(super) fn check(finished: Finished<'_>) -> Result<Checked<'_>, Error> {
    Ok(Checked(finished))
}

impl Checked<'_> {
    /// Returns the manifest's digest.
    pub(super) fn digest(&self) -> Digest {
        self.0.manifest.digest
    }
}

/// Publishes images together: the one moment anyone can see them. Returns for each whether it is new.
pub(super) fn publish(store: &Store, checked: Vec<Checked<'_>>) -> Result<Vec<Published>, Error> {
    let versions = checked.into_iter().map(|Checked(Finished { draft, reference, manifest })| (draft, [Version::new(reference, manifest)]));
    let all: Vec<(&Draft, [Version; 1])> = versions.collect();
    let all: Vec<(&Draft, &[Version])> = all.iter().map(|(draft, versions)| (*draft, versions.as_slice())).collect();
    Ok(store.publish_all(&all)?)
}
