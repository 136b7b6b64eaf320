//! OCI words: references, platforms, manifest, config, index. Structs with fields in a fixed order and sorted maps, so that
//! the same image is always the same JSON bytes (the `oci-spec` crate keeps annotations and labels in hash maps).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// An OCI content descriptor (image-spec, "descriptor.md").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type.
    pub media_type: String,
    /// Content name.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Sorted annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How a person names an image: `name`, `name:version`, `name@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Repository name.
    pub name: String,
    /// Version (tag).
    pub version: Option<String>,
    /// Manifest digest.
    pub digest: Option<Digest>,
}
