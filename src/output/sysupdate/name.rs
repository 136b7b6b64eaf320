//! What a version's files are called in a source, and those that are made for it.

use std::collections::BTreeSet;

use super::sums::Sums;
use super::version::compare;
use crate::digest::Digest;
use crate::disk::table::Architecture;
use crate::image::Reference;
use crate::output::error::Error;
use crate::output::options::{Format, Source};
use crate::output::place::NewFile;

/// What partitions of roots are called, of each architecture.
pub(super) const ROOTS: [(Architecture, &str); 2] =
    [(Architecture::Amd64, "root-x86-64"), (Architecture::Arm64, "root-arm64")];

/// Characters of a UUID.
const UUID: usize = 36;

/// A version's file, made aside.
pub(super) struct New {
    /// What it will be called.
    pub(super) file: String,
    pub(super) place: NewFile,
    pub(super) digest: Digest,
    pub(super) bytes: u64,
}

/// Returns the version of an image, as it stands in the names of files and partitions.
///
/// # Errors
/// [`Error::Version`] where sysupdate.d(5) does not take it as one (`@v`); a `_` is where the name
/// ends.
pub(in crate::output) fn version(reference: &Reference) -> Result<String, Error> {
    let version = reference.version.clone().unwrap_or_default();
    let good = |b: u8| b.is_ascii_alphanumeric() || b".-+,".contains(&b);
    match !version.is_empty() && version.bytes().all(good) {
        true => Ok(version),
        false => Err(Error::Version { reference: reference.to_string() }),
    }
}

/// What a version's files are called.
pub(super) struct Name {
    /// The image's, with `_` for each `/`.
    image: String,
    version: String,
    pub(super) format: Format,
}

impl Name {
    pub(super) fn of(source: &Source<'_>, format: Format) -> Result<Self, Error> {
        let version = version(source.reference)?;
        Ok(Self { image: source.reference.name.replace('/', "_"), version, format })
    }

    /// Returns what a file of this version is called; `kind`: what stands behind the version.
    pub(super) fn file(&self, kind: &str) -> String {
        format!("{}_{}.{kind}", self.image, self.version)
    }

    /// Returns the version of a file of the same image and format.
    pub(super) fn version_of<'f>(&self, file: &'f str) -> Option<&'f str> {
        let (image, rest) = file.rsplit_once('_')?;
        let version = match self.format {
            Format::Partitions => versioned(rest)?,
            format => rest.strip_suffix(format.name())?.strip_suffix('.')?,
        };
        (image == self.image && !version.is_empty()).then_some(version)
    }

    /// Returns the listed files of this version that are not among those that were made.
    pub(super) fn others(&self, sums: &Sums, made: &[New]) -> Vec<String> {
        let same = |file: &str| {
            made.iter().any(|new| new.file == file && sums.get(file) == Some(new.digest))
        };
        let own = |file: &&str| self.version_of(file) == Some(&self.version);
        sums.files().filter(own).filter(|file| !same(file)).map(str::to_owned).collect()
    }

    /// Returns the listed files of versions that are older than the newest `keep`.
    pub(super) fn passed(&self, sums: &Sums, keep: Option<usize>) -> Vec<String> {
        let all: BTreeSet<&str> = sums.files().filter_map(|file| self.version_of(file)).collect();
        let mut all: Vec<&str> = all.into_iter().collect();
        all.sort_by(|a, b| compare(b, a));
        let old: BTreeSet<&str> = all.into_iter().skip(keep.unwrap_or(usize::MAX)).collect();
        let passed = |file: &&str| self.version_of(file).is_some_and(|one| old.contains(one));
        sums.files().filter(passed).map(str::to_owned).collect()
    }
}

/// Returns the version in what follows the image's name, of files of a machine (partitions.rs).
fn versioned(rest: &str) -> Option<&str> {
    if let Some(version) = rest.strip_suffix(".efi") {
        return Some(version);
    }
    let rest = rest.strip_suffix(".raw")?;
    let (rest, uuid) = rest.rsplit_once('.')?;
    let (version, kind) = rest.rsplit_once('.')?;
    let plain = kind.strip_suffix("-verity").unwrap_or(kind);
    let known = ROOTS.iter().any(|(_, root)| *root == plain);
    (known && uuid.len() == UUID).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::versioned;

    #[test]
    fn versions_are_read_in_names_of_files() {
        let uuid = "0198f2a4-0000-8000-8000-000000000000";
        assert_eq!(versioned("2.0.0.efi"), Some("2.0.0"));
        assert_eq!(versioned(&format!("2.0.0.root-x86-64.{uuid}.raw")), Some("2.0.0"));
        assert_eq!(versioned(&format!("2-1.root-arm64-verity.{uuid}.raw")), Some("2-1"));
        for other in ["2.0.0.raw", "2.0.0.root-x86-64.raw", "2.0.0.tar", "2.root-x86-64.x.raw"] {
            assert_eq!(versioned(other), None, "{other}");
        }
    }
}
