//! The gate: only what passed it can be published. The promise "tests gate" is a fact of the types: `publish` exists on
//! [`Checked`] only, and only [`check`] makes one.

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
    /// Publishes the image: the one moment anyone can see it.
    pub(super) fn publish(self, store: &Store) -> Result<Published, Error> {
        let Finished { draft, reference, manifest } = self.0;
        let how = store.publish(draft, &[Version::new(reference, manifest)])?;
        Ok(how.into_iter().next().unwrap_or(Published::New))
    }
}
