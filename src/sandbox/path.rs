//! Paths between two processes.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A path of any bytes, as JSON text: every byte is the character of that number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WirePath(String);

impl WirePath {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().iter().map(|byte| char::from(*byte)).collect())
    }

    pub(super) fn path(&self) -> PathBuf {
        // Only `new` makes these, so every character is below 256.
        PathBuf::from(OsString::from_vec(
            self.0.chars().map(|c| u8::try_from(c).unwrap_or(b'?')).collect(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_any_bytes_survive() {
        let path = PathBuf::from(OsString::from_vec((1..=255).collect()));
        let json = serde_json::to_string(&WirePath::new(&path)).unwrap();
        assert_eq!(serde_json::from_str::<WirePath>(&json).unwrap().path(), path);
    }
}
