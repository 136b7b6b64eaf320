//! A line of the history of revocations.

use serde::{Deserialize, Serialize};

use super::who::Who;
use crate::digest::Digest;
use crate::image::Reference;

/// A mark on a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It must not be used.
    Revoke,
    /// It may be used again.
    Restore,
}

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// What.
    pub what: Verdict,
    /// `name:version` as it was called.
    pub image: Reference,
    /// Its manifest: what is meant.
    pub digest: Digest,
    /// Why.
    pub why: String,
    /// By whom.
    pub by: Who,
}
