//! The store: an OCI image layout, published to by one rename. The user's view of it is
//! `docs/store.md`.
//!
//! ```text
//! STORE/
//!   oci-layout index.json   the truth: one descriptor a version, org.opencontainers.image.ref.name = "web:2.0.0"
//!   blobs/sha256/           manifests, configs, layers
//!   bake.json               format and features (format.rs)
//!   lock                    flock of the writers of the above
//!   reserve                 room for removing on a full disk (reserve.rs)
//!   publish.json            only while one of them works, or when one has died (publish.rs)
//!   channels/NAME/CHANNEL   history of what web@production points at (channel.rs)
//!   revoked                 history of what must not be used (revoke.rs)
//!   cache/                  rebuildable
//!   scratch/ID/             a build in flight (draft.rs)
//!   logs/BUILD/             every line of every step
//! ```
//! Readers take no lock: `index.json` is replaced by a rename, and a blob never changes under its
//! name.
//!
//! Not here: what a layer or a config means (`layer`, `image`), and what to build (`engine`).

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use crate::digest::{Digest, HashReader};
use crate::files::{self, Lock, system};
use crate::image::{self, Descriptor, Image, Index, Manifest, Reference};

mod cache;
mod channel;
mod disk;
mod draft;
mod error;
mod format;
mod gc;
mod index;
mod mount;
mod publish;
mod reach;
mod record;
mod remove;
mod reserve;
mod revoke;
mod stray;

pub use cache::Entry;
pub use cache::Found;
pub use cache::Layer;
pub use cache::StepCache;
pub use cache::Tree;
pub use channel::Channel;
pub use channel::Kept;
pub use channel::MEDIA_TESTS;
pub use channel::Promoted;
pub use channel::Promotion;
pub use channel::TESTED_ANNOTATION;
pub use channel::TESTS_ANNOTATION;
pub use channel::Target;
pub use channel::Turn;
pub use channel::UNTESTED;
pub use draft::Draft;
pub use draft::NewBlob;
pub use error::Error;
pub use gc::Amount;
pub use gc::Garbage;
pub use gc::Kind;
pub use gc::Rules;
pub use index::NoDescriptor;
pub use index::PUBLISHED_ANNOTATION;
pub use index::STEP_KEYS_ANNOTATION;
pub use index::read_step_keys;
pub use index::step_keys;
pub use record::Who;
pub use reserve::Released;
pub use revoke::Descendant;
pub use revoke::Link;
pub use revoke::Revocation;
pub use revoke::Revoked;
pub use revoke::Verdict;
pub use stray::Stray;

use error::{reading, writing};
use format::State;
use index::IndexFile;

/// Longest manifest, index or config that is read.
pub const SMALL: u64 = 16 << 20;

/// How long a writer waits for another one. Each holds the lock for moments: some renames and
/// flushes.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open store. `Send + Sync`.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    to_read: bool,
    patience: Duration,
}

/// One published version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// `name:version`.
    pub reference: Reference,
    /// Descriptor of its manifest, as in `index.json`: its annotations are those of the entry.
    pub manifest: Descriptor,
    /// To publish: manifests whose `subject` is this one (attestations, signatures), which appear
    /// in the same moment as entries without a name. Empty in what is read; see
    /// [`Store::referrers`].
    pub referrers: Vec<Descriptor>,
}

impl Version {
    /// Names a manifest.
    pub fn new(reference: Reference, manifest: Descriptor) -> Self {
        Self { reference, manifest, referrers: vec![] }
    }
}

/// How a publish ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is new.
    New,
    /// The same content was there under this version already.
    Already,
}

impl Store {
    /// Opens (and makes, where missing) the store at `dir`, and repairs what a writer that died
    /// left behind. An OCI layout that another tool made becomes a store; any other folder that is
    /// not empty is refused.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let dir = absolute(dir)?;
        let store = Self { dir, to_read: false, patience: PATIENCE };
        let dir = &store.dir;
        if format::judge(dir)? == State::Nothing && !dir.is_dir() {
            files::create_dirs(files::parent(dir), disk::PUBLIC_DIR).map_err(writing)?;
            disk::make_dir(dir, disk::PUBLIC_DIR).map_err(writing)?;
            // Or the store could be gone after a power loss, with all that is synced in it.
            disk::sync_dir(files::parent(dir)).map_err(writing)?;
        }
        format::check_owner(dir)?;
        // Root passes every permission check, but no read-only mount: ask before a build runs for
        // minutes.
        for part in [dir, &store.blobs(), &store.scratch()] {
            if part.is_dir() {
                let wanted = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
                rustix::fs::access(part, wanted)
                    .map_err(|e| Error::Unwritable { path: part.clone(), source: e.into() })?;
            }
        }
        if format::judge(dir)? != State::Whole {
            let _lock = store.lock()?;
            // Someone else may have made it while this one waited.
            if format::judge(dir)? != State::Whole {
                format::complete(dir)?;
            }
        }
        store.index()?;
        // Where a live writer holds the lock there is nothing to repair yet; the next writer looks
        // again.
        if publish::needs_repair(&store)
            && let Some(_lock) = Lock::try_exclusive(&store.lock_path()).map_err(writing)?
        {
            publish::repair(&store)?;
        }
        store.keep_reserve();
        Ok(store)
    }

    /// Opens the store at `dir` to read only: never creates or repairs; a missing store is an empty
    /// one.
    pub fn open_to_read(dir: &Path) -> Result<Self, Error> {
        let store = Self { dir: absolute(dir)?, to_read: true, patience: PATIENCE };
        format::judge(&store.dir)?;
        store.index()?;
        Ok(store)
    }

    /// Its folder, absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `cache/<name>/`, made if missing.
    pub fn cache(&self, name: &str) -> Result<PathBuf, Error> {
        self.folder("cache", name)
    }

    /// `logs/<build>/`, made.
    pub fn logs(&self, build: &str) -> Result<PathBuf, Error> {
        self.folder("logs", build)
    }

    /// Starts a build.
    pub fn draft(&self) -> Result<Draft, Error> {
        self.to_write()?;
        Draft::new(&self.scratch())
    }

    /// Scratch folders whose owner is dead, each locked by us: to be removed (inside the user
    /// namespace), then dropped.
    pub fn dead_drafts(&self) -> Result<Vec<Draft>, Error> {
        self.to_write()?;
        Draft::dead(&self.scratch())
    }

    /// All versions, by name, then in order of publication.
    pub fn versions(&self) -> Result<Vec<Version>, Error> {
        let mut versions = self.index()?.1.versions();
        // A stable sort keeps the order of publication within a name.
        versions.sort_by(|a, b| a.reference.name.cmp(&b.reference.name));
        Ok(versions)
    }

    /// Finds an image: `name:version`, `name@sha256:…`, `name@channel`, or a lone `name` = the
    /// newest published.
    pub fn resolve(&self, reference: &Reference) -> Result<Version, Error> {
        self.find(reference, &self.index()?.1)
    }

    /// Returns the versions whose entries in `index.json` are damaged, and what is wrong with each.
    /// They are there, and their names are taken; what they are cannot be said.
    pub fn damaged_versions(&self) -> Result<Vec<(Reference, String)>, Error> {
        let index = self.index()?.1;
        Ok(index.damaged().map(|(reference, flaw)| (reference, flaw.to_owned())).collect())
    }

    /// Returns an error where the entry of the version `reference`, or of any version of that lone
    /// name, is damaged.
    fn check_entry(&self, reference: &Reference, index: &IndexFile) -> Result<(), Error> {
        let lone = reference.version.is_none()
            && reference.digest.is_none()
            && reference.channel.is_none();
        let meant = |entry: &Reference| {
            entry.name == reference.name && (lone || entry.version == reference.version)
        };
        match index.damaged().find(|(entry, _)| meant(entry)) {
            Some((entry, flaw)) => Err(Error::Damaged {
                path: self.dir.join("index.json"),
                why: format!("its entry {entry} cannot be read: {flaw}"),
            }),
            None => Ok(()),
        }
    }

    /// Finds an image in the index.
    fn find(&self, reference: &Reference, index: &IndexFile) -> Result<Version, Error> {
        self.check_entry(reference, index)?;
        if let Some(manifest) = index.get(reference) {
            return Ok(Version::new(reference.clone(), manifest.clone()));
        }
        let versions = index.versions();
        if reference.channel.is_some() {
            return self.find_channel(reference, &versions);
        }
        let fits = |version: &&Version| {
            version.reference.name == reference.name
                && (reference.version.is_none() || version.reference.version == reference.version)
                && reference.digest.is_none_or(|digest| version.manifest.digest == digest)
        };
        match versions.iter().rfind(fits) {
            Some(version) => Ok(version.clone()),
            None => Err(Error::NotFound {
                reference: Box::new(reference.clone()),
                near: near(reference, &versions),
            }),
        }
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

    /// Reads the manifest that `descriptor` names, of an image or of an artifact, strictly.
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, Error> {
        let bytes = self.read_blob(&descriptor.digest)?;
        Ok(image::judge_manifest(descriptor, &bytes).strict(descriptor)?)
    }

    /// Reads the index of images that `descriptor` names, strictly.
    pub fn image_index(&self, descriptor: &Descriptor) -> Result<Index, Error> {
        let bytes = self.read_blob(&descriptor.digest)?;
        Ok(image::judge_index(descriptor, &bytes).strict(descriptor)?)
    }

    /// Reads the image that `descriptor` names, its manifest and its config, strictly.
    pub fn image(&self, descriptor: &Descriptor) -> Result<Image, Error> {
        Image::read(descriptor, |one| self.read_blob(&one.digest))
    }

    /// Publishes the draft's blobs and `versions` in one step: every blob fsynced, then one rename
    /// of `index.json` under the lock. All or nothing. A version that exists with another manifest
    /// digest is an error (`VersionTaken`), with the same one `Already`: then its entry takes over
    /// the annotations given and the referrers that are new. Blobs of the draft that no version
    /// needs stay in the draft. Every blob a version needs must be in the draft or in the store.
    pub fn publish(&self, draft: &Draft, versions: &[Version]) -> Result<Vec<Published>, Error> {
        self.publish_all(&[(draft, versions)])
    }

    /// As [`Store::publish`], for several drafts in one transaction: all versions of all drafts
    /// appear by one rename, or none. A version may need blobs of any of the drafts. The answers
    /// are in the order of the versions, one draft after the other.
    pub fn publish_all(&self, drafts: &[(&Draft, &[Version])]) -> Result<Vec<Published>, Error> {
        self.to_write()?;
        publish::publish(self, drafts)
    }

    /// Returns the manifests in the store that speak about the manifest `subject`: attestations,
    /// signatures. In order of publication.
    pub fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let referrers = self.index()?.1.referrers(self);
        Ok(referrers
            .into_iter()
            .filter(|one| one.subject == *subject)
            .map(|one| one.manifest)
            .collect())
    }

    /// As [`Store::remove_all`], for one version that no channel points at.
    pub fn remove(&self, reference: &Reference) -> Result<Version, Error> {
        let removed = self.remove_all(std::slice::from_ref(reference), false)?;
        Ok(removed.into_iter().next().expect("one for one"))
    }

    /// Takes versions out of the index, all or none, and the blobs that nobody else names. Refused:
    /// a lone name (which version is meant must be said) and, unless forced, a version that a
    /// channel points at.
    pub fn remove_all(&self, references: &[Reference], force: bool) -> Result<Vec<Version>, Error> {
        self.to_write()?;
        remove::remove(self, references, force)
    }

    /// Returns what lies in the store and belongs to nothing: blobs that no entry needs, files
    /// nobody writes.
    pub fn strays(&self) -> Result<Vec<Stray>, Error> {
        stray::find(self)
    }

    /// Returns all entries of `index.json`, foreign ones too.
    pub fn entries(&self) -> Result<Vec<Result<Descriptor, NoDescriptor>>, Error> {
        Ok(self.index()?.1.entries().cloned().collect())
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

    /// Reads `index.json`: its bytes and what they say.
    fn index(&self) -> Result<(Vec<u8>, IndexFile), Error> {
        let path = self.dir.join("index.json");
        let Some(bytes) = disk::read(&path, index::LIMIT).map_err(reading)? else {
            // `judge` has refused a store where its absence would mean a loss.
            let empty = IndexFile::empty();
            return Ok((empty.to_json(), empty));
        };
        let index = IndexFile::parse(&bytes).map_err(|why| Error::Damaged { path, why })?;
        Ok((bytes, index))
    }

    /// Waits for the writers' lock.
    fn lock(&self) -> Result<Lock, Error> {
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

    /// As [`Store::lock`], and repairs what a writer that died left behind.
    fn lock_repaired(&self) -> Result<Lock, Error> {
        let lock = self.lock()?;
        publish::repair(self)?;
        Ok(lock)
    }

    fn to_write(&self) -> Result<(), Error> {
        if self.to_read { Err(Error::OpenToRead { path: self.dir.clone() }) } else { Ok(()) }
    }

    fn folder(&self, room: &str, name: &str) -> Result<PathBuf, Error> {
        let mut parts = Path::new(name).components();
        let (Some(Component::Normal(only)), None) = (parts.next(), parts.next()) else {
            return Err(Error::Name { name: name.to_owned() });
        };
        let path = self.dir.join(room).join(only);
        if !self.to_read {
            disk::make_dir(&path, disk::PUBLIC_DIR).map_err(writing)?;
        }
        Ok(path)
    }

    fn lock_path(&self) -> PathBuf {
        self.dir.join("lock")
    }

    fn blobs(&self) -> PathBuf {
        self.dir.join("blobs/sha256")
    }

    fn scratch(&self) -> PathBuf {
        self.dir.join("scratch")
    }
}

/// A later change of the working folder must not move the store.
fn absolute(dir: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(dir).map_err(|e| reading(system("find", dir, e)))
}

/// Reads an open blob of `size` bytes whole and makes sure that it is what it is named for.
fn read_verified(file: File, size: u64, path: &Path, digest: &Digest) -> Result<Vec<u8>, Error> {
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

/// Returns what somebody who typed `reference` may have meant: other versions of that name, newest
/// first, else similar names.
fn near(reference: &Reference, versions: &[Version]) -> Vec<String> {
    const SHOWN: usize = 5;
    let same_name =
        versions.iter().rev().filter(|version| version.reference.name == reference.name);
    let mut found: Vec<String> =
        same_name.map(|version| version.reference.to_string()).take(SHOWN).collect();
    if !found.is_empty() {
        let asked = reference.to_string();
        // A typing error comes before "the newest".
        found.sort_by_key(|name| strsim::osa_distance(name, &asked) > 1);
        return found;
    }
    let mut similar: Vec<(usize, &Version)> = vec![];
    for version in versions.iter().rev() {
        let distance = strsim::osa_distance(&version.reference.name, &reference.name);
        if distance <= (reference.name.len() / 3).max(1)
            && !similar.iter().any(|(_, other)| other.reference.name == version.reference.name)
        {
            similar.push((distance, version));
        }
    }
    similar.sort_by_key(|(distance, _)| *distance);
    similar.into_iter().take(SHOWN).map(|(_, version)| version.reference.to_string()).collect()
}

#[cfg(test)]
mod crash;
