//! Several images under one version: an index with one image for each platform.
//!
//! An index of the store holds images alone, each for a platform of its own, in the order of the
//! platforms: the same images are always the same index. What speaks about an image goes on
//! speaking about its manifest, which the index names.

use std::collections::BTreeMap;

use super::error::Error;
use super::tested::{TESTED_ANNOTATION, UNTESTED};
use super::{Published, Store, Version};
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
