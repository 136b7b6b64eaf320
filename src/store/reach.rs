//! Which blobs an entry of the index needs: manifest, config, layers, what an index lists, what a
//! referrer speaks about.

use std::collections::BTreeSet;

use super::Store;
use super::index::{IndexFile, Referrer};
use crate::digest::Digest;
use crate::image::{Descriptor, Index, Kind, Manifest, Unreadable, kind};

/// What was reached.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Every blob named on the way, whether it is there or not.
    pub(super) blobs: BTreeSet<Digest>,
    /// A manifest on the way could not be read.
    broken: bool,
}

/// Returns everything that the entries of `index` need.
pub(super) fn all(store: &Store, index: &IndexFile) -> Reach {
    let mut reach = Reach::default();
    for entry in index.descriptors() {
        match entry {
            Some(entry) => reach.follow(store, entry),
            // An entry in a notation unknown to us: who knows what it needs.
            None => reach.broken = true,
        }
    }
    reach
}

impl Reach {
    /// Whether every manifest on the way could be read: if not, more blobs may be needed than are
    /// known here.
    pub(super) fn complete(&self) -> bool {
        !self.broken
    }

    /// Adds everything that `entry` needs.
    pub(super) fn follow(&mut self, store: &Store, entry: &Descriptor) {
        let mut todo = vec![entry.clone()];
        while let Some(next) = todo.pop() {
            if !self.blobs.insert(next.digest)
                || matches!(kind(&next.media_type), Kind::Config | Kind::Layer)
            {
                continue;
            }
            let below = match kind(&next.media_type) {
                Kind::Manifest | Kind::Index => store
                    .read_blob(&next.digest)
                    .ok()
                    .and_then(|bytes| named_in(&next, &bytes).ok()),
                // An entry without a media type may be a manifest; a file of any other type names
                // nothing.
                _ if next.media_type.is_empty() => None,
                _ => Some(vec![]),
            };
            match below {
                Some(below) => todo.extend(below),
                None => self.broken = true,
            }
        }
    }

    /// Adds those of `referrers` that speak about something reached, and what speaks about them;
    /// they leave the list.
    pub(super) fn follow_referrers(&mut self, store: &Store, referrers: &mut Vec<Referrer>) {
        loop {
            let (reached, rest): (Vec<_>, Vec<_>) =
                referrers.drain(..).partition(|one| self.blobs.contains(&one.subject));
            *referrers = rest;
            if reached.is_empty() {
                return;
            }
            reached.iter().for_each(|one| self.follow(store, &one.manifest));
        }
    }
}

/// Returns the descriptors that a manifest or index holds.
pub(super) fn named_in(
    descriptor: &Descriptor,
    bytes: &[u8],
) -> Result<Vec<Descriptor>, Unreadable> {
    match kind(&descriptor.media_type) {
        Kind::Manifest => Ok(Manifest::parse(bytes)?.descriptors().cloned().collect()),
        Kind::Index => {
            let index = Index::parse(bytes)?;
            Ok(index.manifests.into_iter().chain(index.subject).collect())
        }
        _ => Ok(vec![]),
    }
}
