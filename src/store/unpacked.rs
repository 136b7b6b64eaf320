//! Unpacked layers, which several builds use as lower directories of their overlays at once.
//!
//! Their files are never synced: tens of thousands of them would take longer than most steps. So a
//! layer is believed in the life of its file system only (mount.rs).

use std::fs;
use std::path::{Path, PathBuf};

use super::cache::StepCache;
use super::disk;
use super::error::{Error, writing};
use crate::files::{Lock, system};

/// An unpacked layer in use.
#[derive(Debug)]
pub struct UnpackedLayer {
    /// Its directory.
    pub path: PathBuf,
    _lock: Lock,
}

impl StepCache {
    /// Returns the unpacked layer called `name`, if there is one that can be believed.
    pub fn unpacked(&self, name: &str) -> Result<Option<UnpackedLayer>, Error> {
        let (path, used) = self.tree_paths(name);
        if !path.is_dir() {
            return Ok(None);
        }
        let Some(lock) = Lock::try_shared(&used).map_err(writing)? else { return Ok(None) };
        // Looked at again: before the lock it could be removed.
        if !path.is_dir() || !self.unpacked_here(&used) {
            return Ok(None);
        }
        self.mark_used(&used);
        Ok(Some(UnpackedLayer { path, _lock: lock }))
    }

    /// Moves the unpacked layer `from` into the cache as `name`, unless one is there; one of an
    /// earlier mount is moved to `old`, a path where nothing is. `None`: it could not be moved,
    /// stays where it is, and costs the next build an unpack.
    pub fn keep_unpacked(
        &self,
        name: &str,
        from: &Path,
        old: &Path,
    ) -> Result<Option<UnpackedLayer>, Error> {
        let (path, used) = self.tree_paths(name);
        let Some(mount) = &self.mount else { return Ok(None) };
        let Some(lock) = Lock::try_exclusive(&used).map_err(writing)? else { return Ok(None) };
        if path.is_dir() {
            if self.unpacked_here(&used) {
                drop(lock);
                return Ok(None);
            }
            if fs::rename(&path, old).is_err() {
                return Ok(None);
            }
        }
        // A user may not move directories whose root a step gave to someone else.
        if fs::rename(from, &path).is_err() {
            return Ok(None);
        }
        fs::write(&used, mount).map_err(|e| writing(system("write", &used, e)))?;
        let shared = lock.share().map_err(writing)?;
        Ok(Some(UnpackedLayer { path, _lock: shared }))
    }

    /// Whether the unpacked layer with the note `used` was made since its file system was mounted,
    /// so that what was not synced is there all the same.
    fn unpacked_here(&self, used: &Path) -> bool {
        let noted = disk::read(used, 4096).ok().flatten();
        self.mount.as_ref().is_some_and(|mount| noted.as_deref() == Some(mount.as_bytes()))
    }

    fn tree_paths(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.layers.join(name), self.layers.join(format!("{name}.used")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn unpacked_layers_are_of_this_mount_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let (cache, staging) = (store.step_cache().unwrap(), store.staging().unwrap());
        let make = |name: &str| {
            let dir = staging.dir().join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("file"), name).unwrap();
            dir
        };
        let old = staging.dir().join("old");
        assert!(cache.unpacked("one").unwrap().is_none());
        let kept = cache.keep_unpacked("one", &make("a"), &old).unwrap().expect("it can be moved");
        assert!(cache.unpacked("one").unwrap().is_some(), "it is used together");
        assert!(cache.keep_unpacked("one", &make("b"), &old).unwrap().is_none(), "the first stays");
        drop(kept);
        fs::write(cache.dir.join("layers/one.used"), "another mount").unwrap();
        assert!(cache.unpacked("one").unwrap().is_none());
        let kept = cache
            .keep_unpacked("one", &staging.dir().join("b"), &old)
            .unwrap()
            .expect("the old one goes");
        assert_eq!(fs::read_to_string(kept.path.join("file")).unwrap(), "b");
        assert_eq!(fs::read_to_string(old.join("file")).unwrap(), "a");
    }
}
