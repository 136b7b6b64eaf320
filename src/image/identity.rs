//! What an image says of itself, inside itself: the file at [`IDENTITY_FILE`].

use serde::{Deserialize, Serialize};

/// Path of the identity file in an image.
pub const IDENTITY_FILE: &str = "/usr/lib/bake/image.json";

/// What the identity file says. Deterministic: the same inputs give the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Format of this file.
    pub v: u32,
    /// Image name.
    pub name: String,
    /// Image version.
    pub version: String,
    /// What it was made from.
    pub base: String,
    /// RFC 3339 time of its newest input.
    pub created: String,
}
