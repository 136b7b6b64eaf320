//! The store: an OCI image layout, published to by one rename. See design in `docs/store.md`.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::image::{Descriptor, Reference};

/// An open store. `Send + Sync`.
pub struct Store {}

/// A build in flight: a private corner `scratch/ID/`, held by flock. Dropped = nothing happened.
pub struct Draft {}

/// One published version.
#[derive(Debug, Clone)]
pub struct Version {
    /// `name:version`.
    pub reference: Reference,
    /// Descriptor of its manifest, as in `index.json`.
    pub manifest: Descriptor,
}

/// How a publish ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It is new.
    New,
    /// The same content was there under this version already.
    Already,
}

/// What cannot be done with the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {}

impl Store {
    /// Opens (and makes, where missing) the store at `dir`.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let _ = dir;
        todo!()
    }
    /// Opens the store at `dir` to read only: never creates; a missing store is an empty one.
    pub fn open_to_read(dir: &Path) -> Result<Self, Error> {
        let _ = dir;
        todo!()
    }
    /// Its folder.
    pub fn dir(&self) -> &Path {
        todo!()
    }
    /// `cache/<name>/`, made if missing.
    pub fn cache(&self, name: &str) -> Result<PathBuf, Error> {
        let _ = name;
        todo!()
    }
    /// `logs/<build>/`, made.
    pub fn logs(&self, build: &str) -> Result<PathBuf, Error> {
        let _ = build;
        todo!()
    }
    /// Starts a build.
    pub fn draft(&self) -> Result<Draft, Error> {
        todo!()
    }
    /// Scratch folders whose owner is dead, each locked by us: to be removed (inside the user namespace), then dropped.
    pub fn dead_drafts(&self) -> Result<Vec<Draft>, Error> {
        todo!()
    }
    /// All versions, by name, then in order of publication.
    pub fn versions(&self) -> Result<Vec<Version>, Error> {
        todo!()
    }
    /// Finds an image: `name:version`, `name@sha256:…`, or a lone `name` = the newest published.
    pub fn resolve(&self, reference: &Reference) -> Result<Version, Error> {
        let _ = reference;
        todo!()
    }
    /// Opens a blob, after a check of its size (not of its digest: use `read_blob` or hash while reading).
    pub fn blob(&self, digest: &Digest) -> Result<File, Error> {
        let _ = digest;
        todo!()
    }
    /// Reads and verifies a small blob (≤ 16 MiB: manifests, configs).
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let _ = digest;
        todo!()
    }
    /// Publishes the draft's blobs and `versions` in one step: every blob fsynced, then one rename of `index.json` under the lock. All or nothing.
    /// A version that exists with another manifest digest is an error (`VersionTaken`), with the same one `Already`.
    pub fn publish(&self, draft: &Draft, versions: &[Version]) -> Result<Vec<Published>, Error> {
        let _ = (draft, versions);
        todo!()
    }
    /// Takes a version out of the index, and blobs nobody else names.
    pub fn remove(&self, reference: &Reference) -> Result<Version, Error> {
        let _ = reference;
        todo!()
    }
}

impl Draft {
    /// Its folder `scratch/ID/`.
    pub fn dir(&self) -> &Path {
        todo!()
    }
    /// Its id.
    pub fn id(&self) -> &str {
        todo!()
    }
    /// Begins a blob written aside on the store's file system.
    pub fn blob(&self) -> Result<NewBlob, Error> {
        todo!()
    }
    /// Adds small bytes as a blob and names them.
    pub fn put(&self, bytes: &[u8]) -> Result<(Digest, u64), Error> {
        let _ = bytes;
        todo!()
    }
    /// Adds an existing file by hard link or copy under a digest that the caller has verified.
    pub fn adopt(&self, file: &Path, digest: &Digest) -> Result<(), Error> {
        let _ = (file, digest);
        todo!()
    }
}

/// A blob being written; `Write`; dropped = gone.
pub struct NewBlob {}

impl NewBlob {
    /// Keeps it under `digest` (which the writer has computed); part of the draft until published.
    pub fn keep(self, digest: &Digest) -> Result<(), Error> {
        let _ = digest;
        todo!()
    }
}
