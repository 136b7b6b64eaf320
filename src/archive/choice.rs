//! Choices that apt has made before: which packages answer a request, given the root and the lists.
//! A build that failed before it could write its lock need not ask again.
//!
//! ```text
//! CACHE/choice/<hex>    sha256 of what follows, a line; the packages as JSON
//! ```
//! The name holds the digests of the signed documents that the lists come from, so a choice is
//! found only while these are current.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::package::Package;
use crate::digest::Digest;
use crate::files::{self, write_soon};

/// Goes up whenever the same request would be answered otherwise, or written otherwise.
pub(super) const VERSION: u32 = 1;

fn place(cache: &Path, name: &Digest) -> PathBuf {
    cache.join("choice").join(name.hex())
}

/// Returns the choice `name`; none where it is not known, or not whole.
pub(super) fn find(cache: &Path, name: &Digest) -> Option<Vec<Package>> {
    let path = place(cache, name);
    files::mark_used(&fs::File::open(&path).ok()?);
    let text = fs::read_to_string(path).ok()?;
    let (digest, json) = text.split_once('\n')?;
    if Digest::of(json).hex() != digest {
        return None;
    }
    let packages: Vec<Package> = serde_json::from_str(json).ok()?;
    packages.iter().all(|package| package.check().is_ok()).then_some(packages)
}

/// Remembers a choice.
pub(super) fn keep(cache: &Path, name: &Digest, packages: &[Package]) -> io::Result<()> {
    let json = serde_json::to_string(packages).map_err(io::Error::other)?;
    fs::create_dir_all(cache.join("choice"))?;
    let text = format!("{}\n{json}", Digest::of(&json).hex());
    write_soon(&place(cache, name), text.as_bytes(), 0o644).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::package::Archive;

    #[test]
    fn a_choice_is_found_while_it_is_whole() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let package = Package {
            name: "a".to_owned(),
            version: "1".to_owned(),
            arch: "all".to_owned(),
            sha256: Digest::of("a"),
            size: 1,
            path: "pool/a.deb".to_owned(),
            archive: Archive::Main,
        };
        let name = Digest::of("request");
        assert_eq!(find(dir.path(), &name), None);
        keep(dir.path(), &name, std::slice::from_ref(&package)).expect("writable");
        assert_eq!(find(dir.path(), &name), Some(vec![package]));
        let path = place(dir.path(), &name);
        let damaged = fs::read_to_string(&path).expect("there").replace("\"a\"", "\"b\"");
        fs::write(&path, damaged).expect("writable");
        assert_eq!(find(dir.path(), &name), None);
    }
}
