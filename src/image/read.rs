//! The one strict reader of stored images. Whoever runs, exports, shows or verifies an image reads
//! it here, so that none of them accepts what another refuses.
//!
//! ```text
//! descriptor ─► manifest ─► config          each: size and digest as its descriptor says, JSON, one media type,
//!                    └────► layers                and no field that would make it something else (CVE-2021-41190)
//! ```
//! The layers themselves are read elsewhere: what their descriptors and diff_ids say is what those
//! readers hold them to.

use serde::de::DeserializeOwned;

use super::config::ImageConfig;
use super::descriptor::{Descriptor, Unreadable, from_json};
use super::manifest::{Index, Manifest};
use super::media::{Kind, kind};
use crate::digest::Digest;

/// What was read, and everything that a strict reader objects to.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged<T> {
    /// What it says, where it can be read at all.
    pub value: Option<T>,
    /// What is wrong with it, as fragments: `has 3 bytes, its descriptor says 4`.
    pub flaws: Vec<String>,
}

/// A part of an image that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the blob {digest} {}", flaws.join("; "))]
pub struct Flawed {
    /// Which.
    pub digest: Digest,
    /// What is wrong with it, as fragments; at least one.
    pub flaws: Vec<String>,
}

/// An image whose manifest and config are read and fit together.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Its manifest.
    pub manifest: Manifest,
    /// The bytes of its config.
    pub config_bytes: Vec<u8>,
    /// What they say.
    pub config: ImageConfig,
}

impl Image {
    /// Reads the image that `descriptor` names; `blob` returns the bytes of a small blob, which
    /// are checked here.
    ///
    /// # Errors
    /// Where `blob` fails, and where a strict reader objects to anything.
    pub fn read<E: From<Flawed>>(
        descriptor: &Descriptor,
        blob: impl Fn(&Descriptor) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        let bytes = blob(descriptor)?;
        let manifest = judge_manifest(descriptor, &bytes).strict(descriptor)?;
        if kind(&manifest.config.media_type) != Kind::Config {
            let flaws = vec![format!("has a config of type {:?}", manifest.config.media_type)];
            return Err(Flawed { digest: descriptor.digest, flaws }.into());
        }
        let config_bytes = blob(&manifest.config)?;
        let judged = judge_config(&manifest.config, &config_bytes, manifest.layers.len());
        let config = judged.strict(&manifest.config)?;
        Ok(Self { manifest, config_bytes, config })
    }

    /// Returns its layers with the digests of their tars, lowest first.
    pub fn layers(&self) -> impl Iterator<Item = (&Descriptor, Digest)> {
        self.manifest.layers.iter().zip(self.config.rootfs.diff_ids.iter().copied())
    }
}

/// Judges the bytes of a manifest; one whose config is no image config may be an artifact.
pub fn judge_manifest(descriptor: &Descriptor, bytes: &[u8]) -> Judged<Manifest> {
    let judged = judge(descriptor, bytes, "manifest", Manifest::validate);
    judged.of_type(descriptor, |manifest| manifest.media_type.as_deref())
}

/// Judges the bytes of an index.
pub fn judge_index(descriptor: &Descriptor, bytes: &[u8]) -> Judged<Index> {
    let judged = judge(descriptor, bytes, "index", Index::validate);
    judged.of_type(descriptor, |index| index.media_type.as_deref())
}

/// Judges the bytes of the config of an image whose manifest has `layers` layers.
pub fn judge_config(descriptor: &Descriptor, bytes: &[u8], layers: usize) -> Judged<ImageConfig> {
    let mut judged = judge(descriptor, bytes, "config", ImageConfig::validate);
    if let Some(config) = &judged.value
        && config.rootfs.diff_ids.len() != layers
    {
        let ids = config.rootfs.diff_ids.len();
        judged.flaws.push(format!("has {ids} diff_ids, the manifest has {layers} layers"));
    }
    judged
}

/// Says that a blob has another size than its descriptor.
pub fn wrong_size(found: u64, expected: u64) -> String {
    format!("has {found} bytes, its descriptor says {expected}")
}

fn judge<T: DeserializeOwned>(
    descriptor: &Descriptor,
    bytes: &[u8],
    what: &'static str,
    validate: impl Fn(&T) -> Vec<String>,
) -> Judged<T> {
    let mut flaws = vec![];
    if bytes.len() as u64 != descriptor.size {
        flaws.push(wrong_size(bytes.len() as u64, descriptor.size));
    }
    let found = Digest::of(bytes);
    if found != descriptor.digest {
        flaws.push(format!("is corrupt: its bytes are {found}"));
        return Judged { value: None, flaws };
    }
    match from_json::<T>(bytes, what) {
        Ok(value) => {
            flaws.extend(validate(&value));
            Judged { value: Some(value), flaws }
        }
        Err(Unreadable { what, source }) => {
            flaws.push(format!("is not a readable {what}: {source}"));
            Judged { value: None, flaws }
        }
    }
}

impl<T> Judged<T> {
    /// A descriptor and the content it names must agree on what it is (CVE-2021-41190).
    fn of_type(mut self, descriptor: &Descriptor, own: impl Fn(&T) -> Option<&str>) -> Self {
        if let Some(own) = self.value.as_ref().and_then(own)
            && own != descriptor.media_type
        {
            let expected = &descriptor.media_type;
            self.flaws.push(format!("calls itself {own:?}, its descriptor says {expected:?}"));
        }
        self
    }

    /// Returns what it says, unless there is anything to object to.
    pub fn strict(self, descriptor: &Descriptor) -> Result<T, Flawed> {
        match self.value {
            Some(value) if self.flaws.is_empty() => Ok(value),
            _ => Err(Flawed { digest: descriptor.digest, flaws: self.flaws }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::image::{MEDIA_CONFIG, MEDIA_LAYER, MEDIA_MANIFEST, Platform};

    type Blobs = BTreeMap<Digest, Vec<u8>>;

    fn put(blobs: &mut Blobs, media: &str, bytes: Vec<u8>) -> Descriptor {
        let descriptor = Descriptor::new(media, Digest::of(&bytes), bytes.len() as u64);
        blobs.insert(descriptor.digest, bytes);
        descriptor
    }

    /// An image with a flaw: `config` and `manifest` change what is written.
    fn read(
        config: impl FnOnce(&mut ImageConfig),
        manifest: impl FnOnce(&mut serde_json::Value),
        descriptor: impl FnOnce(&mut Descriptor),
    ) -> Result<Image, String> {
        let mut blobs = Blobs::new();
        let mut written = ImageConfig::new(0, &Platform::linux("amd64"));
        written.rootfs.diff_ids = vec![Digest::of("tar")];
        config(&mut written);
        let written = put(&mut blobs, MEDIA_CONFIG, written.to_json());
        let layer = put(&mut blobs, MEDIA_LAYER, b"tar".to_vec());
        let mut value = serde_json::to_value(Manifest::new(written, vec![layer])).expect("JSON");
        manifest(&mut value);
        let mut named = put(&mut blobs, MEDIA_MANIFEST, serde_json::to_vec(&value).expect("JSON"));
        descriptor(&mut named);
        let blob = |one: &Descriptor| Ok::<_, Flawed>(blobs[&one.digest].clone());
        Image::read(&named, blob).map_err(|error| error.to_string())
    }

    /// B6
    #[test]
    fn what_a_strict_reader_refuses_is_not_read() {
        let good = read(|_| {}, |_| {}, |_| {}).expect("a good image");
        assert_eq!(good.layers().count(), 1);
        type Change = fn(&mut serde_json::Value);
        let changes: [(&str, Change); 8] = [
            ("schemaVersion is 1", |value| value["schemaVersion"] = 1.into()),
            ("mediaType is missing", |value| {
                value.as_object_mut().expect("an object").remove("mediaType");
            }),
            ("has `manifests` like an index", |value| value["manifests"] = serde_json::json!([])),
            ("calls itself", |value| {
                value["mediaType"] = crate::image::MEDIA_DOCKER_MANIFEST.into();
            }),
            ("layer 1 has media type", |value| {
                value["layers"][0]["mediaType"] = "text/plain".into();
            }),
            ("has 1 diff_ids, the manifest has 2 layers", |value| {
                let layer = value["layers"][0].clone();
                value["layers"].as_array_mut().expect("a list").push(layer);
            }),
            ("bytes, its descriptor says 7", |value| value["config"]["size"] = 7.into()),
            ("more than the 500 that an overlay can have", |value| {
                let layer = value["layers"][0].clone();
                value["layers"] = vec![layer; 20_000].into();
            }),
        ];
        for (why, change) in changes {
            let error = read(|_| {}, change, |_| {}).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
        let error = read(|config| config.rootfs.kind = "x".to_owned(), |_| {}, |_| {});
        assert!(error.expect_err("a config").contains("rootfs.type"));
        let error = read(|_| {}, |_| {}, |named| named.size += 1).expect_err("a size");
        assert!(error.contains("its descriptor says"), "{error}");
    }
}
