//! Revocations: versions that nobody should start any more, by whom and why, and what was built
//! on them.
//!
//! `revoked` in the store's directory is the history of all of them, one JSON object a line
//! (record.rs). What is revoked is a content: every name of it, and not what is baked under the
//! same name after a removal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use super::error::Error;
use super::revocation::{Revocation, Verdict};
use super::who::Who;
use super::{Store, Version, channel, record};
use crate::digest::Digest;
use crate::image::{Descriptor, Index, Kind, Manifest, Reference, kind};

/// Annotation of an image: the digest of the manifest that it was built on.
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
/// Annotation of an image: the name of the image that it was built on.
const BASE_NAME: &str = "org.opencontainers.image.base.name";

/// How a revocation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// What is in force.
    pub revocation: Revocation,
    /// It was in force already: nothing was written.
    pub already: bool,
    /// Channels that point at the version.
    pub channels: Vec<String>,
    /// What was built on it.
    pub descendants: Vec<Descendant>,
}

/// A version that was built on another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Descendant {
    /// `name:version`.
    pub image: Reference,
    /// Its manifest.
    pub digest: Digest,
    /// How that is known.
    pub by: Relation,
}

/// How an image is known to be built on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Relation {
    /// It says so, by digest.
    Digest,
    /// It says so, by name.
    Name,
    /// Its lowest layers are the other's layers.
    Layers,
}

impl Store {
    /// Revokes a version; a lone name is refused. Revoking it again changes nothing.
    pub fn revoke(&self, reference: &Reference, why: &str, by: &Who) -> Result<Revoked, Error> {
        self.to_write()?;
        if !reference.is_exact() {
            return Err(Error::NoVersion { reference: Box::new(reference.clone()) });
        }
        let _lock = self.lock_repaired()?;
        let version = self.resolve(reference)?;
        let (revocation, already) = match self.revoked(&version.manifest.digest)? {
            Some(found) => (found, true),
            None => {
                let (image, digest) = (version.reference.clone(), version.manifest.digest);
                let (at, why, by) = (record::now(), why.to_owned(), by.clone());
                let revocation = Revocation { at, what: Verdict::Revoke, image, digest, why, by };
                record::append(&self.revocations_path(), &revocation)?;
                (revocation, false)
            }
        };
        let channels = channel::pointing_at(&self.channels()?, &version);
        Ok(Revoked { revocation, already, channels, descendants: self.descendants(&version)? })
    }

    /// Takes a revocation back: the version may be used again. The version need not be in the store
    /// any more.
    pub fn restore(&self, reference: &Reference, why: &str, by: &Who) -> Result<Revocation, Error> {
        self.to_write()?;
        if !reference.is_exact() {
            return Err(Error::NoVersion { reference: Box::new(reference.clone()) });
        }
        let _lock = self.lock_repaired()?;
        let meant = if reference.channel.is_some() {
            self.resolve(reference)?.reference
        } else {
            reference.clone()
        };
        let fits = |found: &&Revocation| {
            found.image.name == meant.name
                && (meant.version.is_none() || found.image.version == meant.version)
                && meant.digest.is_none_or(|digest| digest == found.digest)
        };
        let in_force = self.revocations()?;
        let Some(found) = in_force.values().filter(fits).max_by(|a, b| a.at.cmp(&b.at)) else {
            // Where there is no such image either, that is the better thing to say.
            self.resolve(reference)?;
            return Err(Error::NotRevoked { reference: Box::new(reference.clone()) });
        };
        let (at, why, by) = (record::now(), why.to_owned(), by.clone());
        let restored = Revocation {
            at,
            what: Verdict::Restore,
            image: found.image.clone(),
            digest: found.digest,
            why,
            by,
        };
        record::append(&self.revocations_path(), &restored)?;
        Ok(restored)
    }

    /// Returns why the content `digest` must not be used, if it must not.
    pub fn revoked(&self, digest: &Digest) -> Result<Option<Revocation>, Error> {
        Ok(self.revocations()?.remove(digest))
    }

    /// Returns all revocations in force, by content.
    pub fn revocations(&self) -> Result<BTreeMap<Digest, Revocation>, Error> {
        let mut found = BTreeMap::new();
        for entry in self.revocation_history()? {
            match entry.what {
                Verdict::Revoke => found.insert(entry.digest, entry),
                Verdict::Restore => found.remove(&entry.digest),
            };
        }
        Ok(found)
    }

    /// Returns everything that was ever revoked or restored, oldest first.
    pub fn revocation_history(&self) -> Result<Vec<Revocation>, Error> {
        record::read(&self.revocations_path())
    }

    /// Refuses a version that is revoked: for whatever builds on it, or points others at it.
    pub fn check_not_revoked(&self, version: &Version) -> Result<(), Error> {
        match self.revoked(&version.manifest.digest)? {
            None => Ok(()),
            Some(revocation) => Err(Error::Revoked {
                reference: Box::new(version.reference.clone()),
                revocation: Box::new(revocation),
            }),
        }
    }

    /// Returns the versions that were built on `version`, and what was built on those: by what
    /// their annotations say, and by their layers. Images that cannot be read have no say.
    pub fn descendants(&self, version: &Version) -> Result<Vec<Descendant>, Error> {
        let mut rest: Vec<Lineage> =
            self.versions()?.into_iter().map(|version| Lineage::of(self, version)).collect();
        let mut todo = vec![Lineage::of(self, version.clone())];
        rest.retain(|one| one.version.manifest.digest != version.manifest.digest);
        let mut found = vec![];
        while let Some(base) = todo.pop() {
            let (built, others): (Vec<_>, Vec<_>) = rest
                .into_iter()
                .map(|one| (one.built_on(&base), one))
                .partition(|(by, _)| by.is_some());
            rest = others.into_iter().map(|(_, one)| one).collect();
            for (by, one) in built {
                let by = by.expect("partitioned by it");
                found.push(Descendant {
                    image: one.version.reference.clone(),
                    digest: one.version.manifest.digest,
                    by,
                });
                todo.push(one);
            }
        }
        found.sort_by(|a, b| a.image.cmp(&b.image));
        Ok(found)
    }

    fn revocations_path(&self) -> PathBuf {
        self.dir().join("revoked")
    }
}

/// What an image says about where it comes from.
struct Lineage {
    version: Version,
    /// Its manifests: one, or those of an index.
    digests: BTreeSet<Digest>,
    bases: BTreeSet<Digest>,
    base_names: BTreeSet<String>,
    /// The layers of each of its manifests.
    layers: Vec<Vec<Digest>>,
}

impl Lineage {
    fn of(store: &Store, version: Version) -> Self {
        let mut lineage = Self {
            digests: BTreeSet::new(),
            bases: BTreeSet::new(),
            base_names: BTreeSet::new(),
            layers: vec![],
            version,
        };
        let mut todo: Vec<Descriptor> = vec![lineage.version.manifest.clone()];
        while let Some(next) = todo.pop() {
            if !lineage.digests.insert(next.digest) {
                continue;
            }
            lineage.add_annotations(&next.annotations);
            let Ok(bytes) = store.read_blob(&next.digest) else { continue };
            match kind(&next.media_type) {
                Kind::Index => {
                    let Ok(index) = Index::parse(&bytes) else { continue };
                    lineage.add_annotations(&index.annotations);
                    todo.extend(index.manifests);
                }
                Kind::Manifest => {
                    let Ok(manifest) = Manifest::parse(&bytes) else { continue };
                    lineage.add_annotations(&manifest.annotations);
                    lineage.layers.push(manifest.layers.iter().map(|layer| layer.digest).collect());
                }
                _ => {}
            }
        }
        lineage
    }

    fn add_annotations(&mut self, annotations: &BTreeMap<String, String>) {
        self.bases
            .extend(annotations.get(BASE_DIGEST).and_then(|digest| digest.parse::<Digest>().ok()));
        self.base_names.extend(annotations.get(BASE_NAME).cloned());
    }

    fn built_on(&self, base: &Self) -> Option<Relation> {
        if self.bases.iter().any(|digest| base.digests.contains(digest)) {
            return Some(Relation::Digest);
        }
        // Of two with the same layers neither is known to be the older.
        let holds = |ours: &Vec<Digest>| {
            base.layers.iter().any(|theirs| {
                !theirs.is_empty() && ours.len() > theirs.len() && ours.starts_with(theirs)
            })
        };
        if self.layers.iter().any(holds) {
            return Some(Relation::Layers);
        }
        // A name says less than a digest: where there is one of those, it has spoken.
        (self.bases.is_empty() && self.base_names.contains(&base.version.reference.to_string()))
            .then_some(Relation::Name)
    }
}
