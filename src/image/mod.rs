//! OCI words: descriptors, manifests, indexes, configs, references, platforms, times. Structs with
//! fields in a fixed order and sorted maps, so that the same image is always the same JSON bytes
//! (the `oci-spec` crate keeps annotations and labels in hash maps). Reading is tolerant: `null`
//! where Go writes it, Docker's media types, fields nobody here knows (kept, and written again
//! after the known ones). Judging is separate and strict: each `validate` returns every flaw it
//! sees.
//!
//! Not here: blobs and files (`store`), layer tars (`layer`), the network (`registry`).

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;

mod config;
mod identity;
mod manifest;
mod platform;
mod reference;
mod time;

pub use config::Config;
pub use config::Healthcheck;
pub use config::History;
pub use config::ImageConfig;
pub use config::RootFs;
pub use identity::IDENTITY_FILE;
pub use identity::Identity;
pub use manifest::Index;
pub use manifest::Manifest;
pub use platform::NotAPlatform;
pub use platform::Platform;
pub use reference::BadReference;
pub use reference::Reference;
pub use time::epoch_of;
pub use time::rfc3339;

/// An OCI image manifest.
pub const MEDIA_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image index.
pub const MEDIA_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image config.
pub const MEDIA_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// An OCI layer: a plain tar.
pub const MEDIA_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// An OCI layer: a tar in gzip.
pub const MEDIA_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// An OCI layer: a tar in zstd.
pub const MEDIA_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// The two bytes `{}`, as the config of what is no image.
pub const MEDIA_EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Docker's image manifest, schema 2 (read, never written into a store).
pub const MEDIA_DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's manifest list (read only).
pub const MEDIA_DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's image config (read only).
pub const MEDIA_DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// Docker's layer in gzip (read only).
pub const MEDIA_DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
/// Docker's plain layer (read only).
pub const MEDIA_DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Annotation of an `index.json` entry: what the entry is called, here `name:version`.
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation and label: when the image was made, RFC 3339.
pub const ANNOTATION_CREATED: &str = "org.opencontainers.image.created";
/// Annotation and label: the image's name for people.
pub const ANNOTATION_TITLE: &str = "org.opencontainers.image.title";
/// Annotation and label: the image's version.
pub const ANNOTATION_VERSION: &str = "org.opencontainers.image.version";
/// Annotation and label: what the image is.
pub const ANNOTATION_DESCRIPTION: &str = "org.opencontainers.image.description";

/// Annotation of a manifest: what `bake drift` leaves out, a JSON list of patterns in gitignore
/// notation.
pub const ANNOTATION_DRIFT_IGNORE: &str = "bake.drift-ignore";

/// What kind of thing a media type names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An image manifest.
    Manifest,
    /// An index of manifests.
    Index,
    /// An image config.
    Config,
    /// A layer.
    Layer,
    /// Something else: an attestation, a chart, a file.
    Other,
}

/// Returns the kind of thing that `media_type` names; OCI and Docker alike.
pub fn kind(media_type: &str) -> Kind {
    match media_type {
        MEDIA_MANIFEST | MEDIA_DOCKER_MANIFEST => Kind::Manifest,
        MEDIA_INDEX | MEDIA_DOCKER_INDEX => Kind::Index,
        MEDIA_CONFIG | MEDIA_DOCKER_CONFIG => Kind::Config,
        MEDIA_LAYER
        | MEDIA_LAYER_GZIP
        | MEDIA_LAYER_ZSTD
        | MEDIA_DOCKER_LAYER
        | MEDIA_DOCKER_LAYER_GZIP => Kind::Layer,
        _ => Kind::Other,
    }
}

/// A text that is not the JSON it should be.
#[derive(Debug, thiserror::Error)]
#[error("not a readable {what}")]
pub struct Unreadable {
    /// What it should have been: `manifest`, `index`, `config`.
    pub what: &'static str,
    /// Why not.
    pub source: serde_json::Error,
}

/// An OCI content descriptor (image-spec, "descriptor.md").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type.
    #[serde(default)]
    pub media_type: String,
    /// Content name.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Sorted annotations.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// What the manifest is, when it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What the image runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Everything else that was read: `urls`, `data`, and what later specifications add.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl Descriptor {
    /// Names `size` bytes of content.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            annotations: BTreeMap::new(),
            artifact_type: None,
            platform: None,
            extra: BTreeMap::new(),
        }
    }

    /// Returns it with one more annotation.
    #[must_use]
    pub fn with_annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// Returns it with a platform.
    #[must_use]
    pub fn with_platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }
}

/// Writes compact JSON: fields in the order of the struct, maps sorted, no blank, no line end.
pub(crate) fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("these structs have string keys and no failing serializer")
}

/// Reads JSON, saying what it should have been.
fn from_json<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, Unreadable> {
    serde_json::from_slice(bytes).map_err(|source| Unreadable { what, source })
}

/// Go writes `null` for an empty list or map; to us both are the default.
fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_descriptor_keeps_what_it_does_not_know() {
        let text = format!(
            r#"{{"mediaType":"{MEDIA_LAYER}","digest":"{}","size":3,"annotations":null,"urls":["https://example.org/x"],"data":"YWJj"}}"#,
            Digest::of("abc")
        );
        let read: Descriptor = from_json(text.as_bytes(), "descriptor").expect("valid");
        assert_eq!(read.size, 3);
        let again = String::from_utf8(to_json(&read)).expect("JSON is UTF-8");
        assert!(again.ends_with(r#""data":"YWJj","urls":["https://example.org/x"]}"#), "{again}");
    }

    #[test]
    fn kinds_are_told_apart() {
        assert_eq!(kind(MEDIA_DOCKER_MANIFEST), Kind::Manifest);
        assert_eq!(kind(MEDIA_LAYER_ZSTD), Kind::Layer);
        assert_eq!(kind("text/plain"), Kind::Other);
    }

    proptest! {
        /// Good texts with a piece cut out, doubled or replaced: read or refused, never a panic,
        /// and what is read is written stably.
        #[test]
        fn damaged_texts_do_no_harm(which in 0..3, at in 0usize..600, len in 0usize..40, with in "[\\[\\]{}\",:0-9a-z-]{0,12}") {
            let blob = Descriptor::new(MEDIA_LAYER, Digest::of("l"), 5);
            let manifest = Manifest::new(Descriptor::new(MEDIA_CONFIG, Digest::of("c"), 7), vec![blob.clone()]);
            let mut config = ImageConfig::new(0, &Platform::linux("arm64"));
            config.config.volumes.insert("/data".to_owned());
            config.history.push(History::new(0, "x", "y", false));
            let index = Index { manifests: vec![blob.with_platform(Platform::host())], ..Index::default() };
            let mut text = [manifest.to_json(), config.to_json(), index.to_json()][which as usize].clone();
            let at = at.min(text.len());
            let end = (at + len).min(text.len());
            text.splice(at..end, with.into_bytes());
            if let Ok(read) = Manifest::parse(&text) {
                read.validate();
                prop_assert_eq!(Manifest::parse(&read.to_json()).expect("own bytes"), read);
            }
            if let Ok(read) = ImageConfig::parse(&text) {
                read.validate();
                prop_assert_eq!(ImageConfig::parse(&read.to_json()).expect("own bytes"), read);
            }
            if let Ok(read) = Index::parse(&text) {
                read.validate();
                prop_assert_eq!(Index::parse(&read.to_json()).expect("own bytes"), read);
            }
        }
    }
}
