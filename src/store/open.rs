//! Opening a store: made where there is none, judged, repaired.

use std::path::{Path, PathBuf};

use super::error::{Error, reading, writing};
use super::format::{self, State};
use super::layout::PATIENCE;
use super::{Store, disk, publish};
use crate::files::{self, Lock, system};

impl Store {
    /// Opens (and makes, where missing) the store at `dir`, and repairs what a writer that died
    /// left behind. An OCI layout that another tool made becomes a store; any other directory that
    /// is not empty is refused.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let dir = absolute(dir)?;
        let store = Self { dir, work: None, to_read: false, patience: PATIENCE };
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
        let store = Self { dir: absolute(dir)?, work: None, to_read: true, patience: PATIENCE };
        format::judge(&store.dir)?;
        store.index()?;
        Ok(store)
    }
}

/// A later change of the working directory must not move the store.
fn absolute(dir: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(dir).map_err(|e| reading(system("find", dir, e)))
}
