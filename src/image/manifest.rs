//! The image manifest and the image index (image-spec, "manifest.md" and "image-index.md").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::descriptor::{Descriptor, Unreadable, from_json, null_is_default, to_json};
use super::media::{Kind, MEDIA_INDEX, MEDIA_MANIFEST, kind};

/// Most layers of an image: as many lower directories as one overlay can have (OVL_MAX_STACK,
/// fs/overlayfs/params.h).
pub const MAX_LAYERS: usize = 500;

/// An image manifest: a config and its layers, lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`MEDIA_MANIFEST`]; may be missing in what others wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What this is, when it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Sorted annotations.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Fields nobody here knows.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl Manifest {
    /// Makes the manifest of an image.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MEDIA_MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    /// Reads a manifest, tolerantly.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        from_json(bytes, "manifest")
    }

    /// Returns its bytes: the same manifest is always the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Returns every descriptor it holds: config, layers, subject.
    pub fn descriptors(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers).chain(&self.subject)
    }

    /// Returns what a strict reader would object to; empty is good.
    pub fn validate(&self) -> Vec<String> {
        let mut flaws = vec![];
        if self.schema_version != 2 {
            flaws.push(format!("schemaVersion is {}, not 2", self.schema_version));
        }
        match &self.media_type {
            None => flaws.push("mediaType is missing".to_owned()),
            Some(found) if kind(found) != Kind::Manifest => {
                flaws.push(format!("mediaType is {found:?}, not {MEDIA_MANIFEST}"))
            }
            Some(_) => {}
        }
        if self.extra.contains_key("manifests") {
            // One text that two readers take for two things (CVE-2021-41190).
            flaws.push("has `manifests` like an index".to_owned());
        }
        if self.layers.len() > MAX_LAYERS {
            flaws.push(format!(
                "has {} layers, more than the {MAX_LAYERS} that an overlay can have",
                self.layers.len()
            ));
        }
        if self.artifact_type.is_some() {
            return flaws;
        }
        if kind(&self.config.media_type) != Kind::Config {
            flaws.push(format!("config has media type {:?}", self.config.media_type));
        }
        for (n, layer) in self.layers.iter().enumerate() {
            if kind(&layer.media_type) != Kind::Layer {
                flaws.push(format!("layer {} has media type {:?}", n + 1, layer.media_type));
            }
        }
        flaws
    }
}

/// An index: the manifests of several platforms, or of a whole layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// [`MEDIA_INDEX`]; may be missing in what others wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The manifests.
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Sorted annotations.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Fields nobody here knows.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MEDIA_INDEX.to_owned()),
            manifests: vec![],
            subject: None,
            annotations: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }
}

impl Index {
    /// Reads an index, tolerantly.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        from_json(bytes, "index")
    }

    /// Returns its bytes: the same index is always the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Returns what a strict reader would object to; empty is good.
    pub fn validate(&self) -> Vec<String> {
        let mut flaws = vec![];
        if self.schema_version != 2 {
            flaws.push(format!("schemaVersion is {}, not 2", self.schema_version));
        }
        if let Some(found) = &self.media_type
            && kind(found) != Kind::Index
        {
            flaws.push(format!("mediaType is {found:?}, not {MEDIA_INDEX}"));
        }
        if self.extra.contains_key("layers") || self.extra.contains_key("config") {
            flaws.push("has `layers` or `config` like a manifest".to_owned());
        }
        for (n, entry) in self.manifests.iter().enumerate() {
            if entry.media_type.is_empty() {
                flaws.push(format!("entry {} has no media type", n + 1));
            }
        }
        flaws
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::image::MEDIA_CONFIG;
    use crate::image::MEDIA_LAYER_GZIP;

    fn manifest() -> Manifest {
        Manifest::new(
            Descriptor::new(MEDIA_CONFIG, Digest::of("c"), 1),
            vec![Descriptor::new(MEDIA_LAYER_GZIP, Digest::of("l"), 1)],
        )
    }

    #[test]
    fn bytes_are_stable_and_in_the_order_of_the_specification() {
        let mut manifest = manifest();
        manifest.annotations.insert("b".to_owned(), "2".to_owned());
        manifest.annotations.insert("a".to_owned(), "1".to_owned());
        let text = String::from_utf8(manifest.to_json()).expect("UTF-8");
        let (c, l) = (Digest::of("c"), Digest::of("l"));
        assert_eq!(
            text,
            format!(
                "{{\"schemaVersion\":2,\"mediaType\":\"{MEDIA_MANIFEST}\",\"config\":{{\"mediaType\":\"{MEDIA_CONFIG}\",\"digest\":\"{c}\",\"size\":1}},\
                 \"layers\":[{{\"mediaType\":\"{MEDIA_LAYER_GZIP}\",\"digest\":\"{l}\",\"size\":1}}],\"annotations\":{{\"a\":\"1\",\"b\":\"2\"}}}}"
            )
        );
        assert_eq!(Manifest::parse(text.as_bytes()).expect("own bytes"), manifest);
        assert_eq!(manifest.validate(), Vec::<String>::new());
    }

    #[test]
    fn flaws_are_all_found() {
        let mut manifest = manifest();
        manifest.schema_version = 1;
        manifest.media_type = None;
        manifest.config.media_type = "text/plain".to_owned();
        manifest.layers[0].media_type = "text/plain".to_owned();
        manifest.extra.insert("manifests".to_owned(), serde_json::json!([]));
        assert_eq!(manifest.validate().len(), 5);
        let mut index = Index::default();
        assert_eq!(index.validate(), Vec::<String>::new());
        index.schema_version = 3;
        index.extra.insert("layers".to_owned(), serde_json::json!([]));
        assert_eq!(index.validate().len(), 2);
    }

    #[test]
    fn go_null_is_empty() {
        let text = r#"{"schemaVersion":2,"manifests":null,"annotations":null}"#;
        assert!(Index::parse(text.as_bytes()).expect("tolerant").manifests.is_empty());
        assert!(Index::parse(b"[]").is_err());
        assert!(Index::parse(b"").is_err());
    }
}
