//! What a directory takes on the disk.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Returns the bytes on the disk below `dir`, as far as this process may look, and how many files
/// and directories are there; a file with several names counts once.
pub fn weigh(dir: &Path) -> (u64, u64) {
    let mut seen = BTreeSet::new();
    let (mut bytes, mut entries) = (0u64, 0u64);
    for entry in walkdir::WalkDir::new(dir).min_depth(1).into_iter().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.nlink() == 1 || meta.is_dir() || seen.insert((meta.dev(), meta.ino())) {
            bytes = bytes.saturating_add(meta.blocks() * 512);
            entries += 1;
        }
    }
    (bytes, entries)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn links_count_once_and_what_is_not_there_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(weigh(&dir.path().join("none")), (0, 0));
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/a"), vec![1; 10_000]).unwrap();
        fs::hard_link(dir.path().join("d/a"), dir.path().join("b")).unwrap();
        let (bytes, entries) = weigh(dir.path());
        assert_eq!(entries, 2, "a directory and a file with two names");
        assert!(bytes >= 10_000, "{bytes}");
    }
}
