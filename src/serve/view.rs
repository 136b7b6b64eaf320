//! What is readable: the published versions, by name. Drawn anew when the store has changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::digest::Digest;
use crate::event::{Event, Sink, chain};
use crate::image::{Descriptor, Index, Kind, Manifest, kind};
use crate::store::{self, Store, Version};

/// Most indexes inside each other.
const DEPTH: usize = 4;

/// What was seen of the store when a view was drawn: its files with inode, size and time.
type Stamp = Vec<(PathBuf, u64, u64, i64, i64)>;

/// The views of a store, one after the other.
pub(super) struct Views<'a> {
    pub(super) store: &'a Store,
    /// A directory of updates.
    pub(super) updates: Option<&'a Path>,
    sink: &'a Sink,
    last: Mutex<Option<(Stamp, Arc<View>)>>,
}

/// What is readable.
#[derive(Default)]
pub(super) struct View {
    /// By name of the image.
    pub(super) names: BTreeMap<String, Repository>,
}

/// What is readable of one name.
#[derive(Default)]
pub(super) struct Repository {
    /// Versions and channels.
    pub(super) tags: BTreeMap<String, Descriptor>,
    pub(super) manifests: BTreeMap<Digest, Descriptor>,
    /// Configs and layers, with their sizes.
    pub(super) blobs: BTreeMap<Digest, u64>,
    /// What speaks about a manifest.
    pub(super) referrers: BTreeMap<Digest, Vec<Descriptor>>,
}

impl<'a> Views<'a> {
    pub(super) fn new(store: &'a Store, updates: Option<&'a Path>, sink: &'a Sink) -> Self {
        Self { store, updates, sink, last: Mutex::new(None) }
    }

    /// Returns what is readable now.
    pub(super) fn now(&self) -> Arc<View> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at before it is read: a change meanwhile is seen by the next.
        let stamp = stamp(self.store.dir());
        if let Some((before, view)) = &*last
            && *before == stamp
        {
            return Arc::clone(view);
        }
        let view = Arc::new(self.draw());
        *last = Some((stamp, Arc::clone(&view)));
        view
    }

    fn draw(&self) -> View {
        let mut warn = |what: String, error: store::Error| {
            let message = format!("{what} is not served: {}", chain(&error).join(": "));
            (self.sink)(Event::Warning { message, hint: None });
        };
        match self.store.versions() {
            Ok(versions) => View::of(self.store, &versions, &mut warn),
            Err(error) => {
                warn("the store".to_owned(), error);
                View::default()
            }
        }
    }
}

impl View {
    /// Draws what `versions` make readable; `refused` gets what cannot be read
    /// and is left out.
    pub(super) fn of(
        store: &Store,
        versions: &[Version],
        refused: &mut dyn FnMut(String, store::Error),
    ) -> Self {
        let mut view = Self::default();
        for version in versions {
            let mut one = Repository::default();
            let added = store.referrers(&version.manifest.digest).and_then(|referrers| {
                let all = std::iter::once(&version.manifest).chain(&referrers);
                all.into_iter().try_for_each(|descriptor| one.add(store, descriptor, 0))
            });
            if let Err(error) = added {
                refused(version.reference.to_string(), error);
                continue;
            }
            let Some(tag) = &version.reference.version else { continue };
            one.tags.insert(tag.clone(), version.manifest.clone());
            view.names.entry(version.reference.name.clone()).or_default().merge(one);
        }
        let channels = store.channels().unwrap_or_else(|error| {
            refused("what channels point at".to_owned(), error);
            vec![]
        });
        for channel in channels {
            let (name, to) = (&channel.reference.name, &channel.to.digest);
            let tag = channel.reference.channel.clone().unwrap_or_default();
            if let Some(repository) = view.names.get_mut(name)
                && let Some(manifest) = repository.manifests.get(to).cloned()
            {
                // A version of that name came first.
                repository.tags.entry(tag).or_insert(manifest);
            }
        }
        view
    }
}

impl Repository {
    /// Adds a manifest or an index, and all that it holds.
    fn add(
        &mut self,
        store: &Store,
        descriptor: &Descriptor,
        depth: usize,
    ) -> Result<(), store::Error> {
        let bytes = store.read_blob(&descriptor.digest)?;
        self.manifests.insert(descriptor.digest, descriptor.clone());
        if kind(&descriptor.media_type) == Kind::Index && depth < DEPTH {
            let index = Index::parse(&bytes).map(|index| index.manifests).unwrap_or_default();
            return index.iter().try_for_each(|one| self.add(store, one, depth + 1));
        }
        let Ok(manifest) = Manifest::parse(&bytes) else { return Ok(()) };
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            self.blobs.insert(blob.digest, blob.size);
        }
        if let Some(subject) = &manifest.subject {
            let mut one =
                Descriptor::new(descriptor.media_type.clone(), descriptor.digest, descriptor.size);
            // distribution-spec, "Listing Referrers": the config's type stands for a missing one.
            let config = manifest.config.media_type.clone();
            one.artifact_type = Some(manifest.artifact_type.clone().unwrap_or(config));
            one.annotations.clone_from(&manifest.annotations);
            self.referrers.entry(subject.digest).or_default().push(one);
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        self.tags.extend(other.tags);
        self.manifests.extend(other.manifests);
        self.blobs.extend(other.blobs);
        for (subject, all) in other.referrers {
            let have = self.referrers.entry(subject).or_default();
            let new: Vec<_> = all.into_iter().filter(|one| !have.contains(one)).collect();
            have.extend(new);
        }
    }
}

/// Looks at the files that say what is published, and where channels point.
fn stamp(store: &Path) -> Stamp {
    let mut found = vec![];
    let mut left = vec![store.join("index.json"), store.join("channels")];
    while let Some(path) = left.pop() {
        // What is not there is seen as that.
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path()));
        }
        found.push((path, meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()));
    }
    found.sort();
    found
}
