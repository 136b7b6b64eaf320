//! An open store: where everything lies, its blobs, its lock.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use super::disk;
use super::error::{Error, reading, writing};
use crate::digest::{Digest, HashReader};
use crate::files::{self, Lock, system};
use crate::image::Descriptor;

/// Longest manifest, index or config that is read.
pub const SMALL: u64 = 16 << 20;

/// How long a writer waits for another one. Each holds the lock for moments: some renames and
/// flushes.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// An open store. `Send + Sync`.
#[derive(Debug)]
pub struct Store {
    pub(super) dir: PathBuf,
    /// Where jobs write and layers lie unpacked, if not in the store.
    pub(super) work: Option<PathBuf>,
    pub(super) to_read: bool,
    /// How long a writer waits for another one.
    pub(super) patience: Duration,
}

impl Store {
    /// Its directory, absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `cache/<name>/`, made if missing.
    pub fn cache(&self, name: &str) -> Result<PathBuf, Error> {
        self.directory("cache", name)
    }

    /// The directory of unpacked layers, made if missing: `cache/layers/`, or `layers/` of the work
    /// directory.
    pub fn layers(&self) -> Result<PathBuf, Error> {
        let path = self.layers_path();
        if !self.to_read {
            disk::make_dir(&path, disk::PRIVATE_DIR).map_err(writing)?;
        }
        Ok(path)
    }

    pub(super) fn layers_path(&self) -> PathBuf {
        self.work.as_ref().map_or_else(|| self.dir.join("cache/layers"), |work| work.join("layers"))
    }

    /// Has jobs write, and layers unpacked, in a directory of this store's own below `dir`, which
    /// is made where it is missing: for a store on a file system where overlayfs cannot write.
    ///
    /// ```text
    /// DIR/<16 hex digits of the store's path>/staging/ID/   what the jobs of a build write
    /// DIR/<…>/layers/                                       unpacked layers, as in cache/layers/
    /// ```
    ///
    /// # Errors
    ///
    /// Where the directory cannot be made; [`Error::OfAnother`] where it belongs to another user.
    pub fn working_in(mut self, dir: &Path) -> Result<Self, Error> {
        let dir = std::path::absolute(dir).map_err(|e| writing(system("find", dir, e)))?;
        let own = self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone());
        let name = Digest::of(own.as_os_str().as_encoded_bytes()).hex();
        let work = dir.join(&name[..16]);
        if !self.to_read {
            files::create_dirs(&dir, disk::PRIVATE_DIR).map_err(writing)?;
            // What is written here becomes an image, and unpacked roots hold setuid programs:
            // nobody else may reach it, nor have made it.
            disk::make_dir(&work, disk::PRIVATE_DIR).map_err(writing)?;
            check_own(&work)?;
            disk::set_mode(&work, disk::PRIVATE_DIR).map_err(writing)?;
            disk::make_dir(&work.join("staging"), disk::PRIVATE_DIR).map_err(writing)?;
        }
        self.work = Some(work);
        Ok(self)
    }

    /// `logs/<build>/`, made.
    pub fn logs(&self, build: &str) -> Result<PathBuf, Error> {
        self.directory("logs", build)
    }

    /// Whether the blob is there, whatever its content.
    pub fn has(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// Where the blob lies, or would.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Opens a blob, after a check that it is a regular file (not of its digest: use
    /// [`Store::read_blob`] or hash while reading).
    pub fn blob(&self, digest: &Digest) -> Result<File, Error> {
        self.open_blob(digest).map(|(file, _)| file)
    }

    /// As [`Store::blob`], and makes sure that it has the size that its descriptor says.
    pub fn blob_of(&self, descriptor: &Descriptor) -> Result<File, Error> {
        let (file, size) = self.open_blob(&descriptor.digest)?;
        if size == descriptor.size {
            return Ok(file);
        }
        let (expected, found) = (format!("{} bytes", descriptor.size), format!("{size} bytes"));
        Err(Error::Corrupt { path: self.blob_path(&descriptor.digest), expected, found })
    }

    /// Reads and verifies a small blob (≤ 16 MiB: manifests, configs).
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let (file, size) = self.open_blob(digest)?;
        read_verified(file, size, &self.blob_path(digest), digest)
    }

    fn open_blob(&self, digest: &Digest) -> Result<(File, u64), Error> {
        let path = self.blob_path(digest);
        match disk::open(&path) {
            Ok(Some(open)) => Ok(open),
            Ok(None) => Err(Error::MissingBlob { digest: *digest }),
            Err(crate::files::Error::Kind { path, found, wanted }) => {
                Err(Error::Corrupt { path, expected: wanted.to_owned(), found: found.to_owned() })
            }
            Err(e) => Err(reading(e)),
        }
    }

    /// Waits for the writers' lock.
    pub(super) fn lock(&self) -> Result<Lock, Error> {
        let path = self.lock_path();
        let start = Instant::now();
        loop {
            if let Some(lock) = Lock::try_exclusive(&path).map_err(writing)? {
                return Ok(lock);
            }
            if start.elapsed() >= self.patience {
                return Err(Error::Busy { path, waited: self.patience.as_secs() });
            }
            // A wait in the kernel could not be given up: a stopped bake would stop every other one
            // for ever.
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn to_write(&self) -> Result<(), Error> {
        if self.to_read { Err(Error::OpenToRead { path: self.dir.clone() }) } else { Ok(()) }
    }

    fn directory(&self, parent: &str, name: &str) -> Result<PathBuf, Error> {
        let mut parts = Path::new(name).components();
        let (Some(Component::Normal(only)), None) = (parts.next(), parts.next()) else {
            return Err(Error::Name { name: name.to_owned() });
        };
        let path = self.dir.join(parent).join(only);
        if !self.to_read {
            disk::make_dir(&path, disk::PUBLIC_DIR).map_err(writing)?;
        }
        Ok(path)
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.dir.join("lock")
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.dir.join("blobs/sha256")
    }

    pub(super) fn scratch(&self) -> PathBuf {
        self.dir.join("scratch")
    }
}

/// Refuses a directory that another user has made, or a symlink in its place.
fn check_own(dir: &Path) -> Result<(), Error> {
    let found = fs::symlink_metadata(dir).map_err(|e| reading(system("look at", dir, e)))?;
    if found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let (owner, mode) = (found.uid(), found.mode() & 0o7777);
    Err(Error::OfAnother { path: dir.to_owned(), owner, mode })
}

/// Reads an open blob of `size` bytes whole and makes sure that it is what it is named for.
pub(super) fn read_verified(
    file: File,
    size: u64,
    path: &Path,
    digest: &Digest,
) -> Result<Vec<u8>, Error> {
    if size > SMALL {
        return Err(Error::TooBig { digest: *digest, size, limit: SMALL });
    }
    let mut reader = HashReader::new(file.take(SMALL + 1));
    let mut bytes = vec![];
    reader.read_to_end(&mut bytes).map_err(|e| reading(system("read", path, e)))?;
    let (_, found, _) = reader.finish();
    if found != *digest {
        return Err(Error::Corrupt {
            path: path.to_owned(),
            expected: digest.to_string(),
            found: found.to_string(),
        });
    }
    Ok(bytes)
}
