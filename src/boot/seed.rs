//! The seed of cloud-init: a disk on which a machine reads what it is to be, as cloud-init's data
//! source `NoCloud` wants it.
//!
//! A FAT file system labelled `CIDATA` on a disk of its own, with the files of a directory as they
//! are: `meta-data`, `user-data`, perhaps `network-config` and `vendor-data`
//! (cloud-init, docs/rtd/reference/datasources/nocloud.rst).

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::disk::{Content, Sparse, fat};

/// By what cloud-init finds it.
const LABEL: &str = "CIDATA";

/// Without these it finds nothing.
const NEEDED: [&str; 2] = ["meta-data", "user-data"];

/// Most bytes of all files.
const MOST: u64 = 16 << 20;

/// The serial number of the file system, which nobody asks for.
const SERIAL: u32 = 0x000c_1da7;

/// What is in the directory of a seed.
#[derive(Debug, Clone)]
pub struct Seed(BTreeMap<String, Vec<u8>>);

/// Why a directory is no seed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeedError {
    /// A file without which cloud-init takes nothing of it.
    #[error("{} has no file `{name}`, without which cloud-init takes nothing of it", dir.display())]
    Lacks {
        /// The directory.
        dir: PathBuf,
        /// The file.
        name: &'static str,
    },
    /// Something in it that a seed cannot hold.
    #[error("{} cannot be part of a seed: {why}", path.display())]
    Unfit {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// Reading it.
    #[error("cannot read {}", path.display())]
    Read {
        /// What was read.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Seed {
    /// Reads the files of a directory.
    ///
    /// # Errors
    /// Where one that is needed is missing, or something in it is no file or cannot be read.
    pub fn read(dir: &Path) -> Result<Self, SeedError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| SeedError::Read { path, source }
        };
        let (mut files, mut left) = (BTreeMap::new(), MOST);
        for entry in fs::read_dir(dir).map_err(failed(dir))? {
            let path = entry.map_err(failed(dir))?.path();
            let unfit = |why| SeedError::Unfit { path: path.clone(), why };
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| unfit("its name is not UTF-8"))?.to_owned();
            if !fs::metadata(&path).map_err(failed(&path))?.is_file() {
                return Err(unfit("it is no file"));
            }
            let mut bytes = vec![];
            let file = File::open(&path).map_err(failed(&path))?;
            file.take(left + 1).read_to_end(&mut bytes).map_err(failed(&path))?;
            left = left
                .checked_sub(bytes.len() as u64)
                .ok_or_else(|| unfit("a seed has at most 16 MiB"))?;
            files.insert(name, bytes);
        }
        match NEEDED.into_iter().find(|name| !files.contains_key(*name)) {
            Some(name) => Err(SeedError::Lacks { dir: dir.to_owned(), name }),
            None => Ok(Self(files)),
        }
    }

    /// Writes the disk into a new file, which only its owner reads: a seed may hold secrets.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let files = self.0.iter();
        let files = files.map(|(name, bytes)| (name.clone(), Content::Bytes(bytes.clone())));
        let (label, files) = (LABEL.to_owned(), files.collect());
        let volume = fat::Volume { label, serial: SERIAL, time: 0, files };
        let size = fat::least(&volume, 1 << 20);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.set_len(size)?;
        fat::write(&volume, size, &mut Sparse::new(&file, 0)).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn seed(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    #[test]
    fn a_directory_that_is_no_seed_is_refused() {
        let why = |dir: &Path| Seed::read(dir).unwrap_err().to_string();
        let dir = seed(&[("user-data", "#cloud-config\n")]);
        assert!(
            why(dir.path())
                .ends_with("has no file `meta-data`, without which cloud-init takes nothing of it")
        );
        assert!(why(&dir.path().join("gone")).contains("gone"));
        let dir = seed(&[("meta-data", "instance-id: i-1\n")]);
        assert!(why(dir.path()).contains("no file `user-data`"));
        fs::write(dir.path().join("user-data"), "").unwrap();
        assert!(Seed::read(dir.path()).is_ok());
        fs::create_dir(dir.path().join("scripts")).unwrap();
        assert!(why(dir.path()).ends_with("scripts cannot be part of a seed: it is no file"));
        fs::remove_dir(dir.path().join("scripts")).unwrap();
        let large = File::create(dir.path().join("vendor-data")).unwrap();
        large.set_len(MOST).unwrap();
        assert!(why(dir.path()).ends_with("a seed has at most 16 MiB"));
        symlink("nowhere", dir.path().join("link")).unwrap();
        assert!(Seed::read(dir.path()).is_err());
    }

    #[test]
    fn the_same_files_are_the_same_disk_whose_label_cloud_init_looks_for() {
        let dir = seed(&[("user-data", "#cloud-config\n"), ("meta-data", "instance-id: i-1\n")]);
        let (out, seed) = (tempfile::tempdir().unwrap(), Seed::read(dir.path()).unwrap());
        let [one, two] = ["one", "two"].map(|name| out.path().join(name));
        seed.write(&one).unwrap();
        seed.write(&two).unwrap();
        let bytes = fs::read(&one).unwrap();
        assert!(bytes == fs::read(&two).unwrap());
        assert_eq!((&bytes[71..82], &bytes[82..87]), (&b"CIDATA     "[..], &b"FAT32"[..]));
        let mode = fs::metadata(&one).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(seed.write(&one).is_err(), "a file that is there is nobody's seed");
    }
}
