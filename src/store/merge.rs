//! Several images under one version: an index with one image for each platform.
//!
//! An index of the store holds images alone, each for a platform of its own, in the order of the
//! platforms: the same images are always the same index. What speaks about an image goes on
//! speaking about its manifest, which the index names.

use std::collections::BTreeMap;

use super::error::Error;
use super::index::ANNOTATION_SUBJECT;
use super::tested::{PLATFORMS_ANNOTATION, TESTED_ANNOTATION, UNTESTED};
use super::{Published, Staging, Store, Version};
use crate::image::{Descriptor, Image, Index, Kind, MEDIA_INDEX, Platform, Reference, kind};

/// An image for a platform.
type Member = (Platform, Descriptor);

/// Indexes inside each other that are followed.
const DEPTH: usize = 4;

impl Store {
    /// Publishes the images that `images` name as one index under `reference`; an index among them
    /// stands for all of its images. All or nothing.
    ///
    /// # Errors
    /// Where one of them is not there, revoked or damaged, two are for the same platform, or all
    /// are one; where the version exists with other content.
    pub fn merge(
        &self,
        reference: &Reference,
        images: &[Reference],
    ) -> Result<(Version, Published), Error> {
        let fail = |why: String| Error::NoIndex { reference: Box::new(reference.clone()), why };
        let staging = self.staging()?;
        let mut found: BTreeMap<Platform, (Descriptor, String)> = BTreeMap::new();
        let mut tested = "yes".to_owned();
        for named in images {
            let version = self.resolve(named)?;
            self.check_not_revoked(&version)?;
            // The index has passed its tests where each image has.
            match version.manifest.annotations.get(TESTED_ANNOTATION) {
                Some(one) if one == "yes" => {}
                Some(one) if one == UNTESTED => UNTESTED.clone_into(&mut tested),
                _ if tested == UNTESTED => {}
                _ => "none".clone_into(&mut tested),
            }
            for (_, descriptor) in self.members(&version.manifest)? {
                let image = self.image(&descriptor)?;
                let platform = platform_of(&image);
                if platform.os.is_empty() || platform.architecture.is_empty() {
                    return Err(fail(format!("{named} does not say which platform it is for")));
                }
                // Linked, so that a removal meanwhile takes nothing away.
                let Image { manifest, .. } = &image;
                for digest in manifest.descriptors().chain([&descriptor]).map(|one| one.digest) {
                    staging.adopt(&self.blob_path(&digest), &digest)?;
                }
                if let Some((other, by)) = found.get(&platform)
                    && other.digest != descriptor.digest
                {
                    return Err(fail(format!("{by} and {named} are both for {platform}")));
                }
                let media_type = descriptor.media_type;
                let plain = Descriptor::new(&media_type, descriptor.digest, descriptor.size);
                let plain = plain.with_platform(platform.clone());
                found.insert(platform, (plain, named.to_string()));
            }
        }
        if found.len() < 2 {
            let only =
                found.keys().next().map_or_else(|| "nothing".to_owned(), Platform::to_string);
            return Err(fail(format!("an index is for several platforms, and there is {only}")));
        }
        let manifests = found.into_values().map(|(descriptor, _)| descriptor).collect();
        let (digest, size) = staging.put(&Index { manifests, ..Index::default() }.to_json())?;
        let descriptor = Descriptor::new(MEDIA_INDEX, digest, size);
        let descriptor = descriptor.with_annotation(TESTED_ANNOTATION, tested);
        let version = Version::new(reference.clone(), descriptor);
        let done = self.publish(&staging, std::slice::from_ref(&version))?;
        Ok((version, done.first().copied().unwrap_or(Published::New)))
    }

    /// Makes one version of images for several platforms, with what speaks about each; its index is
    /// put into `staging`. One image alone stays what it is. All have the same name.
    ///
    /// # Errors
    /// Where two are for the same platform.
    pub fn join(&self, staging: &Staging, images: &[Version]) -> Result<Version, Error> {
        let first = match images {
            [only] => return Ok(only.clone()),
            [first, ..] => first,
            [] => unreachable!("a version has an image"),
        };
        let mut found: BTreeMap<Platform, &Version> = BTreeMap::new();
        for image in images {
            let platform = image.manifest.platform.clone().unwrap_or_else(Platform::host);
            if let Some(other) = found.insert(platform.clone(), image)
                && other.manifest.digest != image.manifest.digest
            {
                let why = format!("two images are for {platform}");
                return Err(Error::NoIndex { reference: Box::new(first.reference.clone()), why });
            }
        }
        let plain = |(platform, image): (&Platform, &&Version)| {
            let Descriptor { media_type, digest, size, .. } = &image.manifest;
            Descriptor::new(media_type, *digest, *size).with_platform(platform.clone())
        };
        let manifests = found.iter().map(plain).collect();
        let (digest, size) = staging.put(&Index { manifests, ..Index::default() }.to_json())?;
        let notes: BTreeMap<String, &BTreeMap<String, String>> =
            found.iter().map(|(is, image)| (is.to_string(), &image.manifest.annotations)).collect();
        let notes = serde_json::to_string(&notes).expect("texts always have a JSON form");
        let mut tested = "none".to_owned();
        for image in found.values() {
            let note = |name: &str| image.manifest.annotations.get(name).cloned();
            // It has passed its tests where each has that has any.
            match note(TESTED_ANNOTATION).as_deref() {
                Some(one) if one == UNTESTED => UNTESTED.clone_into(&mut tested),
                Some("yes") if tested != UNTESTED => "yes".clone_into(&mut tested),
                _ => {}
            }
        }
        let manifest = Descriptor::new(MEDIA_INDEX, digest, size)
            .with_annotation(TESTED_ANNOTATION, tested)
            .with_annotation(PLATFORMS_ANNOTATION, notes);
        let about = |image: &&Version| {
            let subject = image.manifest.digest.to_string();
            let say = move |one: Descriptor| one.with_annotation(ANNOTATION_SUBJECT, &subject);
            image.referrers.clone().into_iter().map(say)
        };
        let referrers = found.values().flat_map(about).collect();
        Ok(Version { reference: first.reference.clone(), manifest, referrers })
    }

    /// Returns the images of a version as they would be alone, in the order of their platforms.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn parts(&self, version: &Version) -> Result<Vec<Version>, Error> {
        if kind(&version.manifest.media_type) != Kind::Index {
            return Ok(vec![version.clone()]);
        }
        let notes = version.manifest.annotations.get(PLATFORMS_ANNOTATION);
        let mut notes: BTreeMap<String, BTreeMap<String, String>> =
            notes.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let one = |(platform, descriptor): Member| {
            let annotations = notes.remove(&platform.to_string()).unwrap_or_default();
            let manifest = Descriptor { annotations, ..descriptor }.with_platform(platform);
            Version::new(version.reference.clone(), manifest)
        };
        Ok(self.members(&version.manifest)?.into_iter().map(one).collect())
    }

    /// Returns the image of a version that is for just this platform; the one image of a version
    /// that is no index.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn part(&self, version: &Version, platform: &Platform) -> Result<Option<Version>, Error> {
        if kind(&version.manifest.media_type) != Kind::Index {
            return Ok(Some(version.clone()));
        }
        let mut parts = self.parts(version)?.into_iter();
        Ok(parts.find(|one| one.manifest.platform.as_ref() == Some(platform)))
    }

    /// Returns the image that `named` is: of an index the one for `wanted`, or for this machine. A
    /// single image is for what it is for, unless one for `wanted` is asked for.
    ///
    /// # Errors
    /// Where there is none.
    pub fn for_platform(
        &self,
        named: &Descriptor,
        wanted: Option<&Platform>,
    ) -> Result<Descriptor, Error> {
        if wanted.is_none() && kind(&named.media_type) != Kind::Index {
            return Ok(named.clone());
        }
        let members = self.members(named)?;
        let host = Platform::host();
        let wanted = wanted.unwrap_or(&host);
        let fits = |exact: bool| {
            move |(is, _): &&Member| {
                (&is.os, &is.architecture) == (&wanted.os, &wanted.architecture)
                    && (is.variant == wanted.variant
                        || !exact && (is.variant.is_none() || wanted.variant.is_none()))
            }
        };
        let found = members.iter().find(fits(true)).or_else(|| members.iter().find(fits(false)));
        found.map(|(_, descriptor)| descriptor.clone()).ok_or_else(|| Error::NoPlatform {
            digest: named.digest,
            wanted: wanted.clone(),
            have: members.iter().map(|(is, _)| is.to_string()).collect(),
        })
    }

    /// Returns the images of an index, and of those in it; or the one image.
    fn members(&self, named: &Descriptor) -> Result<Vec<Member>, Error> {
        let (mut todo, mut found) = (vec![(named.clone(), 0)], vec![]);
        while let Some((next, depth)) = todo.pop() {
            match kind(&next.media_type) {
                Kind::Index if depth < DEPTH => {
                    let below = self.image_index(&next)?.manifests;
                    todo.extend(below.into_iter().rev().map(|one| (one, depth + 1)));
                }
                Kind::Index => {
                    let why = format!("has more than {DEPTH} indexes inside each other");
                    return Err(Error::Damaged { path: self.blob_path(&named.digest), why });
                }
                // Attestations of other tools stand among the images.
                _ if next.platform.as_ref().is_some_and(|is| is.os == "unknown") => {}
                _ => match next.platform.clone() {
                    Some(platform) => found.push((platform, next)),
                    None => found.push((platform_of(&self.image(&next)?), next)),
                },
            }
        }
        Ok(found)
    }
}

/// Returns what an image runs on.
fn platform_of(image: &Image) -> Platform {
    Platform {
        architecture: image.config.architecture.clone(),
        os: image.config.os.clone(),
        variant: image.config.variant.clone(),
    }
}
