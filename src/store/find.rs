//! Finding versions: by every way to name one, and what speaks about them.

use super::error::Error;
use super::index::{IndexFile, NoDescriptor};
use super::{Store, Version};
use crate::digest::Digest;
use crate::image::{self, Descriptor, Image, Index, Manifest, Reference};

impl Store {
    /// All versions, by name, then in order of publication.
    pub fn versions(&self) -> Result<Vec<Version>, Error> {
        let mut versions = self.index()?.1.versions();
        // A stable sort keeps the order of publication within a name.
        versions.sort_by(|a, b| a.reference.name.cmp(&b.reference.name));
        Ok(versions)
    }

    /// Returns the versions whose entries in `index.json` are damaged, and what is wrong with each.
    /// They are there, and their names are taken; what they are is unknown.
    pub fn damaged_versions(&self) -> Result<Vec<(Reference, String)>, Error> {
        let index = self.index()?.1;
        Ok(index.damaged().map(|(reference, flaw)| (reference, flaw.to_owned())).collect())
    }

    /// Returns an error where the entry of the version `reference`, or of any version of that lone
    /// name, is damaged.
    pub(super) fn check_entry(
        &self,
        reference: &Reference,
        index: &IndexFile,
    ) -> Result<(), Error> {
        let lone = reference.version.is_none()
            && reference.digest.is_none()
            && reference.channel.is_none();
        let meant = |entry: &Reference| {
            entry.name == reference.name && (lone || entry.version == reference.version)
        };
        match index.damaged().find(|(entry, _)| meant(entry)) {
            Some((entry, flaw)) => Err(Error::Damaged {
                path: self.dir.join("index.json"),
                why: format!("its entry {entry} cannot be read: {flaw}"),
            }),
            None => Ok(()),
        }
    }

    /// Finds an image: `name:version`, `name@sha256:…`, `name@channel`, or a lone `name` = the
    /// newest published.
    pub fn resolve(&self, reference: &Reference) -> Result<Version, Error> {
        self.find(reference, &self.index()?.1)
    }

    /// Finds an image in the index.
    pub(super) fn find(&self, reference: &Reference, index: &IndexFile) -> Result<Version, Error> {
        self.check_entry(reference, index)?;
        if let Some(manifest) = index.get(reference) {
            return Ok(Version::new(reference.clone(), manifest.clone()));
        }
        let versions = index.versions();
        if reference.channel.is_some() {
            return self.find_channel(reference, &versions);
        }
        let fits = |version: &&Version| {
            version.reference.name == reference.name
                && (reference.version.is_none() || version.reference.version == reference.version)
                && reference.digest.is_none_or(|digest| version.manifest.digest == digest)
        };
        match versions.iter().rfind(fits) {
            Some(version) => Ok(version.clone()),
            None => Err(Error::NotFound {
                reference: Box::new(reference.clone()),
                near: near(reference, &versions),
            }),
        }
    }

    /// Reads the manifest that `descriptor` names, of an image or of an artifact, strictly.
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, Error> {
        let bytes = self.read_blob(&descriptor.digest)?;
        Ok(image::judge_manifest(descriptor, &bytes).strict(descriptor)?)
    }

    /// Reads the index of images that `descriptor` names, strictly.
    pub fn image_index(&self, descriptor: &Descriptor) -> Result<Index, Error> {
        let bytes = self.read_blob(&descriptor.digest)?;
        Ok(image::judge_index(descriptor, &bytes).strict(descriptor)?)
    }

    /// Reads the image that `descriptor` names, its manifest and its config, strictly.
    pub fn image(&self, descriptor: &Descriptor) -> Result<Image, Error> {
        Image::read(descriptor, |one| self.read_blob(&one.digest))
    }

    /// Returns the manifests in the store that speak about the manifest `subject`: attestations,
    /// signatures. In order of publication.
    pub fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let referrers = self.index()?.1.referrers(self);
        Ok(referrers
            .into_iter()
            .filter(|one| one.subject == *subject)
            .map(|one| one.manifest)
            .collect())
    }

    /// Returns all entries of `index.json`, foreign ones too.
    pub fn entries(&self) -> Result<Vec<Result<Descriptor, NoDescriptor>>, Error> {
        Ok(self.index()?.1.entries().cloned().collect())
    }
}

/// Returns what somebody who typed `reference` may have meant: other versions of that name, newest
/// first, else similar names.
fn near(reference: &Reference, versions: &[Version]) -> Vec<String> {
    const SHOWN: usize = 5;
    let same_name =
        versions.iter().rev().filter(|version| version.reference.name == reference.name);
    let mut found: Vec<String> =
        same_name.map(|version| version.reference.to_string()).take(SHOWN).collect();
    if !found.is_empty() {
        let asked = reference.to_string();
        // A typing error comes before "the newest".
        found.sort_by_key(|name| strsim::osa_distance(name, &asked) > 1);
        return found;
    }
    let mut similar: Vec<(usize, &Version)> = vec![];
    for version in versions.iter().rev() {
        let distance = strsim::osa_distance(&version.reference.name, &reference.name);
        if distance <= (reference.name.len() / 3).max(1)
            && !similar.iter().any(|(_, other)| other.reference.name == version.reference.name)
        {
            similar.push((distance, version));
        }
    }
    similar.sort_by_key(|(distance, _)| *distance);
    similar.into_iter().take(SHOWN).map(|(_, version)| version.reference.to_string()).collect()
}
