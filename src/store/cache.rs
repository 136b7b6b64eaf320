//! The step cache: which layer a key gave. Everything in it can be made again, so nothing in it is
//! believed.
//!
//! ```text
//! cache/steps/abcd…          an entry, by key: JSON, written whole after its blob is safe; atime = last use
//! cache/blobs/<sha256>       the blobs of entries, apart from the published ones: a build that fails adds nothing to the layout
//! cache/layers/<name>/       an unpacked layer: a lower directory of overlays; used while `<name>.used` is held (flock, shared)
//! cache/layers/<name>.used   the mount it was unpacked in (mount.rs): a tree nobody synced is not believed in another; atime = last use
//! cache/locks/<sha256>       held while a step runs that others may wait for
//! cache/builds/<sha256>      what the last build of a recipe was made from, for `bake explain`
//! cache/listings/<sha256>    what a digest of context files was made of, likewise
//! cache/reached/<sha256>     what a step reached over its network, by its key
//! cache/taken/<sha256>       what a step took of which layers of a stage
//! cache/images/, checked/      images from elsewhere (images.rs)
//! cache/pushed/<sha256>      which repository of a registry a blob was pushed to
//! cache/sealed/<sha256>      how a published blob looked when it was read and found whole
//! ```
//!
//! A blob that an entry names is linked into the staging area of the build that uses it, so
//! removing it from the cache meanwhile harms nobody. Whether it is whole is recognised by inode,
//! size and time of change as noted when it was written; where these differ it is read and hashed.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::error::{Error, reading, writing};
use super::{Staging, Store, disk, mount};
use crate::digest::{Digest, HashReader};
use crate::files::{self, Lock, system};

/// Format of an entry.
const VERSION: u32 = 1;

/// Longest entry, record or listing that is read.
const LIMIT: u64 = 256 << 20;

/// The step cache of a store.
#[derive(Debug, Clone)]
pub struct StepCache {
    pub(super) dir: PathBuf,
    /// The directory of unpacked layers.
    pub(super) layers: PathBuf,
    /// As which mount their file system lives now; `None`: nobody can say, and nothing that was not
    /// synced is believed.
    pub(super) mount: Option<String>,
}

/// What a key gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Format of this entry.
    v: u32,
    /// Its layer, unless the step changed nothing.
    pub layer: Option<Layer>,
    /// Where the layer changes something, as prefixes, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touches: Option<Vec<String>>,
    /// How long the step ran.
    pub seconds: f64,
    /// Which build made it.
    pub build: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seal: Option<Seal>,
}

/// The layer of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// sha256 of the blob.
    pub digest: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// sha256 of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of the uncompressed tar.
    pub tar_size: u64,
}

/// What a file was like when it was known to be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    inode: u64,
    size: u64,
    seconds: i64,
    nanos: i64,
}

/// What the cache says of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// This.
    Hit(Entry),
    /// Nothing.
    Miss,
    /// Something that cannot be used, and why. What a build keeps next under this key replaces it.
    Damaged(String),
}

impl Entry {
    /// Makes an entry of `build`.
    pub fn new(
        layer: Option<Layer>,
        touches: Option<Vec<String>>,
        took: Duration,
        build: &str,
    ) -> Self {
        Self {
            v: VERSION,
            layer,
            touches,
            seconds: took.as_secs_f64(),
            build: build.to_owned(),
            seal: None,
        }
    }
}

impl Store {
    /// Opens the step cache.
    pub fn step_cache(&self) -> Result<StepCache, Error> {
        let rooms = [
            "steps", "blobs", "locks", "builds", "listings", "taken", "sealed", "pushed", "reached",
        ];
        for name in rooms.into_iter().chain(["images", "checked"]) {
            self.cache(name)?;
        }
        let layers = self.layers()?;
        // Unpacked roots hold setuid programs, and nobody else may start them.
        disk::set_mode(&layers, disk::PRIVATE_DIR).map_err(writing)?;
        Ok(StepCache { mount: mount::identity(&layers), dir: self.dir.join("cache"), layers })
    }
}

impl StepCache {
    /// Looks up a key. The blob of a hit is in `staging` afterwards.
    pub fn find(&self, key: &Digest, staging: &Staging) -> Result<Found, Error> {
        let found = self.look(key)?;
        if let Found::Hit(Entry { layer: Some(layer), .. }) = &found {
            match staging.adopt(&self.blob_path(&layer.digest), &layer.digest) {
                Ok(()) => {}
                // Removed since we looked: nobody may rely on what is in the cache.
                Err(e) if e.is_missing() => return Ok(Found::Miss),
                Err(e) => return Err(e),
            }
        }
        if let Found::Damaged(_) = &found {
            self.suspect(key, staging);
        }
        if matches!(found, Found::Hit(_)) {
            self.mark_used(&self.entry_path(key));
        }
        Ok(found)
    }

    /// Looks up a key, for information.
    pub fn look(&self, key: &Digest) -> Result<Found, Error> {
        let path = self.entry_path(key);
        let bytes = match disk::read(&path, LIMIT) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(Found::Miss),
            Err(e) => return Ok(Found::Damaged(format!("{} cannot be read: {e}", path.display()))),
        };
        match version(&bytes) {
            Some(VERSION) => {}
            // A later bake's: not for us, and not ours to remove.
            Some(_) => return Ok(Found::Miss),
            None => return Ok(Found::Damaged(format!("{} is no entry", path.display()))),
        }
        let Ok(mut entry) = serde_json::from_slice::<Entry>(&bytes) else {
            return Ok(Found::Damaged(format!("{} is no entry", path.display())));
        };
        let Some(layer) = entry.layer else { return Ok(Found::Hit(entry)) };
        let blob = self.blob_path(&layer.digest);
        let Some((file, size)) = disk::open(&blob).map_err(reading)? else {
            return Ok(Found::Damaged(format!("the blob {} is missing", layer.digest)));
        };
        if size != layer.size {
            return Ok(Found::Damaged(format!(
                "the blob {} has {size} bytes instead of {}",
                layer.digest, layer.size
            )));
        }
        let seal = seal(&file.metadata().map_err(|e| reading(system("look at", &blob, e)))?);
        if entry.seal != Some(seal) {
            let mut reader = HashReader::new(file);
            io::copy(&mut reader, &mut io::sink())
                .map_err(|e| reading(system("read", &blob, e)))?;
            let found = reader.finish().1;
            if found != layer.digest {
                return Ok(Found::Damaged(format!("the blob {} holds {found}", layer.digest)));
            }
            entry.seal = Some(seal);
            // Only saves the next one from reading it again.
            let _ = self.write_entry(key, &entry);
        }
        Ok(Found::Hit(entry))
    }

    /// Keeps what `key` gave. Its blob, which must be in `staging`, is synced first, so that an
    /// entry never promises too much.
    pub fn keep(&self, key: &Digest, mut entry: Entry, staging: &Staging) -> Result<(), Error> {
        if let Some(layer) = &entry.layer {
            let (from, to) = (staging.path(&layer.digest), self.blob_path(&layer.digest));
            disk::sync_file(&from).map_err(writing)?;
            // Replaces what is there: it may be what was found damaged.
            disk::link(&from, &to).map_err(writing)?;
            let meta = fs::metadata(&to).map_err(|e| writing(system("look at", &to, e)))?;
            entry.seal = Some(seal(&meta));
        }
        if let Ok(Some(bytes)) = disk::read(&self.entry_path(key), LIMIT)
            && version(&bytes).is_some_and(|v| v > VERSION)
        {
            return Ok(());
        }
        self.write_entry(key, &entry)
    }

    /// Waits for the right to run the step called `name`; `stop` ends the waiting with `None`.
    /// Returns also whether it had to wait.
    pub fn lock(
        &self,
        name: &Digest,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<(Lock, bool)>, Error> {
        let path = self.dir.join("locks").join(name.hex());
        let mut waited = false;
        loop {
            if let Some(lock) = Lock::try_exclusive(&path).map_err(writing)? {
                return Ok(Some((lock, waited)));
            }
            if stop() {
                return Ok(None);
            }
            waited = true;
            // A wait in the kernel could not be given up.
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Reads a record (`builds`, `listings`, `taken`, …); what cannot be read is not there.
    pub fn record(&self, kind: &str, name: &Digest) -> Option<Vec<u8>> {
        disk::read(&self.dir.join(kind).join(name.hex()), LIMIT).ok().flatten()
    }

    /// Whether a record is there.
    pub fn has_record(&self, kind: &str, name: &Digest) -> bool {
        self.dir.join(kind).join(name.hex()).is_file()
    }

    /// Writes a record.
    pub fn write_record(&self, kind: &str, name: &Digest, bytes: &[u8]) -> Result<(), Error> {
        disk::write_soon(&self.dir.join(kind).join(name.hex()), bytes).map_err(writing)
    }

    /// Where the blob of an entry lies, or would.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.hex())
    }

    /// Notes the time of last use, for gc.
    pub(super) fn mark_used(&self, path: &Path) {
        if let Ok(Some((file, _))) = disk::open(path) {
            files::mark_used(&file);
        }
    }

    fn entry_path(&self, key: &Digest) -> PathBuf {
        self.dir.join("steps").join(key.hex())
    }

    fn write_entry(&self, key: &Digest, entry: &Entry) -> Result<(), Error> {
        let path = self.entry_path(key);
        let bytes = serde_json::to_vec(entry).expect("plain data always has a JSON form");
        disk::write_soon(&path, &bytes).map_err(writing)
    }

    /// The published blob of a damaged entry may be the very same file: the publish is to replace
    /// it too.
    fn suspect(&self, key: &Digest, staging: &Staging) {
        let entry = disk::read(&self.entry_path(key), LIMIT).ok().flatten();
        if let Some(entry) = entry.and_then(|bytes| serde_json::from_slice::<Entry>(&bytes).ok())
            && let Some(layer) = entry.layer
        {
            staging.suspect(&layer.digest);
        }
    }
}

/// Returns the format of an entry's bytes.
fn version(bytes: &[u8]) -> Option<u32> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    u32::try_from(value.get("v")?.as_u64()?).ok()
}

pub(super) fn seal(meta: &fs::Metadata) -> Seal {
    // Not the time of change of the inode: a link to it, as every publish makes, moves that.
    Seal { inode: meta.ino(), size: meta.len(), seconds: meta.mtime(), nanos: meta.mtime_nsec() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    struct Lab {
        _dir: tempfile::TempDir,
        cache: StepCache,
        staging: Staging,
    }

    fn lab() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Lab { cache: store.step_cache().unwrap(), staging: store.staging().unwrap(), _dir: dir }
    }

    fn entry(lab: &Lab, bytes: &[u8]) -> Entry {
        let (digest, size) = lab.staging.put(bytes).unwrap();
        let layer = Layer { digest, size, diff_id: Digest::of("tar"), tar_size: 3 };
        Entry::new(Some(layer), None, Duration::from_millis(1500), "b1")
    }

    #[test]
    fn what_is_kept_is_found() {
        let lab = lab();
        let key = Digest::of("key");
        assert_eq!(lab.cache.look(&key).unwrap(), Found::Miss);
        let entry = entry(&lab, b"blob");
        let digest = entry.layer.unwrap().digest;
        lab.cache.keep(&key, entry, &lab.staging).unwrap();
        let Found::Hit(found) = lab.cache.find(&key, &lab.staging).unwrap() else {
            panic!("a hit")
        };
        assert_eq!(found.layer.unwrap().digest, digest);
        // ChannelFile again, as a build under --no-cache does.
        lab.cache.keep(&key, found, &lab.staging).unwrap();
        assert!(matches!(lab.cache.look(&key).unwrap(), Found::Hit(_)));
        assert_eq!(
            fs::read_dir(lab.cache.dir.join("blobs")).unwrap().count(),
            1,
            "nothing is left aside"
        );
    }

    #[test]
    fn damage_is_seen_and_mended() {
        let key = Digest::of("key");
        type Harm = fn(&Path);
        let harms: [(&str, Harm); 3] = [
            ("missing", |blob| fs::remove_file(blob).unwrap()),
            ("bytes instead of", |blob| {
                fs::OpenOptions::new().write(true).open(blob).unwrap().set_len(2).unwrap()
            }),
            ("holds", |blob| {
                fs::OpenOptions::new().write(true).open(blob).unwrap().write_all(b"B").unwrap()
            }),
        ];
        for (expected, harm) in harms {
            let lab = lab();
            let entry = entry(&lab, b"blob");
            let digest = entry.layer.unwrap().digest;
            lab.cache.keep(&key, entry.clone(), &lab.staging).unwrap();
            fs::remove_file(lab.staging.path(&digest)).unwrap();
            harm(&lab.cache.blob_path(&digest));
            let Found::Damaged(why) = lab.cache.find(&key, &lab.staging).unwrap() else {
                panic!("{expected}")
            };
            assert!(why.contains(expected), "{why}");
            lab.staging.put(b"blob").unwrap();
            lab.cache.keep(&key, entry, &lab.staging).unwrap();
            assert!(matches!(lab.cache.find(&key, &lab.staging).unwrap(), Found::Hit(_)));
        }
    }

    #[test]
    fn an_untouched_copy_is_hashed_and_believed() {
        let lab = lab();
        let key = Digest::of("key");
        let entry = entry(&lab, b"blob");
        let blob = lab.cache.blob_path(&entry.layer.unwrap().digest);
        lab.cache.keep(&key, entry, &lab.staging).unwrap();
        // As a restored backup has it: another inode, another time.
        let copy = blob.with_extension("copy");
        fs::copy(&blob, &copy).unwrap();
        fs::rename(&copy, &blob).unwrap();
        assert!(matches!(lab.cache.look(&key).unwrap(), Found::Hit(_)));
    }

    #[test]
    fn entries_of_others_are_left_alone() {
        let lab = lab();
        let key = Digest::of("key");
        let path = lab.cache.entry_path(&key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, r#"{"v":99,"magic":true}"#).unwrap();
        assert_eq!(lab.cache.find(&key, &lab.staging).unwrap(), Found::Miss);
        lab.cache.keep(&key, entry(&lab, b"blob"), &lab.staging).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), r#"{"v":99,"magic":true}"#);
        fs::write(&path, "not JSON").unwrap();
        assert!(matches!(lab.cache.find(&key, &lab.staging).unwrap(), Found::Damaged(_)));
    }

    #[test]
    fn one_waits_for_the_other() {
        let lab = lab();
        let name = Digest::of("step");
        let (held, waited) = lab.cache.lock(&name, &|| false).unwrap().unwrap();
        assert!(!waited);
        assert!(lab.cache.lock(&name, &|| true).unwrap().is_none(), "a wait can be given up");
        let asked = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let stop = || {
                    asked.store(true, std::sync::atomic::Ordering::SeqCst);
                    false
                };
                lab.cache.lock(&name, &stop).unwrap().unwrap().1
            });
            while !asked.load(std::sync::atomic::Ordering::SeqCst) {
                std::thread::yield_now();
            }
            drop(held);
            assert!(other.join().unwrap());
        });
    }
}
