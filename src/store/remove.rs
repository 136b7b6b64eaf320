//! Removal of versions, by `rm` or by `gc`: out of the index, then what nothing else needs.
//!
//! ```text
//! under the lock
//!   publish.json    names the blobs that are about to go, and the index that knows them
//!   index.json      aside, sync, rename, sync the directory      ◄── from here on the versions are gone
//!   blobs/sha256/   removed
//!   publish.json    removed
//! ```
//! A death before the rename leaves everything as it was, one after it is completed by the next
//! writer (publish.rs).

use std::collections::BTreeSet;
use std::path::Path;

use super::error::{Error, writing};
use super::index::IndexFile;
use super::publish::{self, Doing};
use super::reach::{self, Reach};
use super::{Store, Version, channel, disk};
use crate::digest::Digest;
use crate::image::Reference;

/// Most blobs that a journal names, so that it stays readable. Of more, a death leaves some over
/// that nobody needs.
const JOURNAL_BLOBS: usize = 100_000;

/// What a removal does.
pub(super) struct Removal {
    /// The versions that go.
    pub(super) versions: Vec<Version>,
    /// The index afterwards.
    pub(super) index: IndexFile,
    /// What that needs.
    pub(super) kept: Reach,
    /// What only the versions needed; nothing where `kept` is not complete.
    pub(super) blobs: BTreeSet<Digest>,
}

impl Store {
    /// As [`Store::remove_all`], for one version that no channel points at.
    pub fn remove(&self, reference: &Reference) -> Result<Version, Error> {
        let removed = self.remove_all(std::slice::from_ref(reference), false)?;
        Ok(removed.into_iter().next().expect("one for one"))
    }

    /// Takes versions out of the index, all or none, and the blobs that nobody else names. Refused:
    /// a lone name (the version must be given) and, unless forced, a version that a
    /// channel points at.
    pub fn remove_all(&self, references: &[Reference], force: bool) -> Result<Vec<Version>, Error> {
        self.to_write()?;
        remove(self, references, force)
    }
}

/// Takes versions out; see [`Store::remove_all`].
pub(super) fn remove(
    store: &Store,
    references: &[Reference],
    force: bool,
) -> Result<Vec<Version>, Error> {
    for reference in references {
        if !reference.is_exact() {
            return Err(Error::NoVersion { reference: Box::new(reference.clone()) });
        }
    }
    let _room = store.release_reserve();
    let _lock = store.lock_repaired()?;
    let (before, index) = store.index()?;
    let mut versions: Vec<Version> = vec![];
    for reference in references {
        let version = store.find(reference, &index)?;
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    if !force {
        let channels = store.channels()?;
        for version in &versions {
            let channels = channel::pointing_at(&channels, version);
            if !channels.is_empty() {
                return Err(Error::InChannel {
                    reference: Box::new(version.reference.clone()),
                    channels,
                });
            }
        }
    }
    let removal = plan(store, &index, versions);
    if !removal.versions.is_empty() {
        carry_out(store, &before, &removal, None)?;
    }
    Ok(removal.versions)
}

/// Says what the removal of `versions` from `index` means.
pub(super) fn plan(store: &Store, index: &IndexFile, versions: Vec<Version>) -> Removal {
    let mut index = index.clone();
    let mut gone = Reach::default();
    versions.iter().for_each(|version| gone.follow(store, &version.manifest));
    index.remove(&versions.iter().map(|version| version.reference.clone()).collect());
    drop_referrers(store, &mut index, &mut gone);
    let kept = reach::all(store, &index);
    let blobs = if kept.complete() {
        gone.blobs.difference(&kept.blobs).copied().collect()
    } else {
        BTreeSet::new()
    };
    Removal { versions, index, kept, blobs }
}

/// Removes; the caller holds the lock and has planned under it. `before`: the bytes of the index.
/// Blobs are moved into the directory `gone`, where there is one.
pub(super) fn carry_out(
    store: &Store,
    before: &[u8],
    removal: &Removal,
    gone: Option<&Path>,
) -> Result<(), Error> {
    let blobs: Vec<Digest> = removal.blobs.iter().copied().collect();
    let named = &blobs[..blobs.len().min(JOURNAL_BLOBS)];
    let written = publish::write_journal(store, Doing::Remove, before, named)
        .and_then(|()| disk::write(&publish::index_path(store), &removal.index.to_json()));
    if let Err(error) = written {
        let _ = publish::undo_index(store, before)
            .and_then(|()| disk::remove(&publish::journal_path(store)));
        return Err(writing(error));
    }
    // From here on the versions are gone, and what follows is cleaning: a failure is left to the
    // next writer.
    let _ = publish::drop_blobs(store, &blobs, gone)
        .and_then(|()| disk::remove(&publish::journal_path(store)));
    Ok(())
}

/// Takes out of `index` what speaks about manifests that went with a version, and what speaks about
/// that in turn; `gone` is what the versions needed, and grows by what they needed.
fn drop_referrers(store: &Store, index: &mut IndexFile, gone: &mut Reach) {
    let mut referrers = index.referrers(store);
    if referrers.is_empty() || gone.blobs.is_empty() {
        return;
    }
    let speaking: BTreeSet<Digest> = referrers.iter().map(|one| one.manifest.digest).collect();
    let mut kept = Reach::default();
    index
        .descriptors()
        .flatten()
        .filter(|entry| !speaking.contains(&entry.digest))
        .for_each(|entry| kept.follow(store, entry));
    kept.follow_referrers(store, &mut referrers);
    if !kept.complete() || index.descriptors().any(|entry| entry.is_none()) {
        // Who knows what is spoken about.
        return;
    }
    // What is left speaks about nothing that is kept. Where its subject was never here it is none
    // of ours.
    let before = referrers.clone();
    gone.follow_referrers(store, &mut referrers);
    let left: BTreeSet<Digest> = referrers.iter().map(|one| one.manifest.digest).collect();
    index.remove_nameless(
        &before
            .iter()
            .map(|one| one.manifest.digest)
            .filter(|digest| !left.contains(digest))
            .collect(),
    );
}
