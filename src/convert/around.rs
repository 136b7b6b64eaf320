//! What lies around a Dockerfile: the files of its context, which are looked at and never read
//! further than their first bytes.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use globset::GlobBuilder;

/// The directory that a Dockerfile's paths are relative to.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// None: nothing is known of any file.
    directory: Option<PathBuf>,
}

/// What a path of the context is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    File,
    Directory,
    /// A symlink to a file.
    Link,
    /// Nothing, or nothing that is known.
    Nothing,
}

/// How compressed files and archives begin; a tar has its sign further in.
const COMPRESSED: [&[u8]; 4] =
    [&[0x1f, 0x8b], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];

/// Names of archives that are unpacked by an `ADD`.
const ARCHIVES: [&str; 10] = [
    ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tbz", ".tzst",
];

impl Around {
    /// Looks into `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: Some(directory.to_owned()) }
    }

    fn at(&self, path: &str) -> Option<PathBuf> {
        let climbs = path.split('/').any(|part| part == "..");
        self.directory
            .as_ref()
            .filter(|_| !climbs)
            .map(|dir| dir.join(path.trim_start_matches('/')))
    }

    /// Returns what a path is.
    pub(super) fn look(&self, path: &str) -> Found {
        let Some(at) = self.at(path) else { return Found::Nothing };
        let Ok(own) = fs::symlink_metadata(&at) else { return Found::Nothing };
        match fs::metadata(&at) {
            Ok(meta) if meta.is_dir() => Found::Directory,
            _ if own.is_symlink() => Found::Link,
            Ok(_) => Found::File,
            Err(_) => Found::Nothing,
        }
    }

    /// Whether nothing fits a pattern whose directory is there; false where that is not known.
    pub(super) fn lacks(&self, pattern: &str) -> bool {
        let (directory, name) = pattern.rsplit_once('/').unwrap_or((".", pattern));
        if directory.contains(['*', '?', '[']) || name.contains("**") {
            return false;
        }
        let built = GlobBuilder::new(name).literal_separator(true).backslash_escape(true).build();
        let (Ok(glob), Some(at)) = (built, self.at(directory)) else { return false };
        let matcher = glob.compile_matcher();
        let Ok(mut entries) = fs::read_dir(at) else { return false };
        !entries.any(|entry| entry.is_ok_and(|entry| matcher.is_match(entry.file_name())))
    }

    /// Whether a file is an archive that an `ADD` unpacks: by its first bytes, or by its name where
    /// it is not there.
    pub(super) fn is_archive(&self, path: &str) -> bool {
        let named = ARCHIVES.iter().any(|end| path.ends_with(end));
        let Some(mut file) = self.at(path).and_then(|at| fs::File::open(at).ok()) else {
            return named;
        };
        if self.look(path) == Found::Directory {
            return false;
        }
        let mut start = [0; 512];
        let length = file.read(&mut start).unwrap_or(0);
        let tar = length > 262 && &start[257..262] == b"ustar";
        // Whether a compressed file is an archive is seen inside only: its name says it.
        tar || named && COMPRESSED.iter().any(|sign| start[..length].starts_with(sign))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_looked_at() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("a.tar.gz"), [0x1f, 0x8b, 8]).expect("written");
        fs::write(dir.path().join("no.tar.gz"), "text").expect("written");
        fs::write(dir.path().join("package.json"), "{}").expect("written");
        std::os::unix::fs::symlink("package.json", dir.path().join("link")).expect("linked");
        let around = Around::new(dir.path());
        assert_eq!(around.look("package.json"), Found::File);
        assert_eq!(around.look("link"), Found::Link);
        assert_eq!(around.look("."), Found::Directory);
        assert_eq!(around.look("../x"), Found::Nothing);
        assert!(around.is_archive("a.tar.gz") && !around.is_archive("no.tar.gz"));
        assert!(around.is_archive("missing.tgz") && !around.is_archive("missing.gz"));
        assert!(around.lacks("yarn.lock*") && !around.lacks("package*.json"));
        assert!(!around.lacks("sub/x*") && !Around::default().lacks("x*"));
    }
}
