//! A published version, and how a publish of one ends.

use super::tested::{TESTED_ANNOTATION, UNTESTED};
use crate::image::{Descriptor, Reference};

/// One published version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// `name:version`.
    pub reference: Reference,
    /// Descriptor of its manifest, as in `index.json`: its annotations are those of the entry.
    pub manifest: Descriptor,
    /// To publish: manifests whose `subject` is this one (attestations, signatures), which appear
    /// in the same moment as entries without a name. Empty in what is read; see
    /// `Store::referrers`.
    pub referrers: Vec<Descriptor>,
}

impl Version {
    /// Names a manifest.
    pub fn new(reference: Reference, manifest: Descriptor) -> Self {
        Self { reference, manifest, referrers: vec![] }
    }

    /// Whether its tests were left out, and have not been run since.
    pub fn is_untested(&self) -> bool {
        let tested = self.manifest.annotations.get(TESTED_ANNOTATION);
        tested.is_some_and(|tested| tested == UNTESTED)
    }
}

/// How a publish ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is new.
    New,
    /// The same content was there under this version already.
    Already,
}
