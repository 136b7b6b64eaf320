//! What one root pins while it is built: what the lock file says already, and what was chosen
//! since.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::Trouble;
use crate::digest::Digest;
use crate::plan::lock::{Lock, LockedDownload, LockedPackages};

/// What one root pins while it is built.
pub(crate) struct Pins {
    /// The lock file.
    path: PathBuf,
    /// It must speak of everything.
    locked: bool,
    /// What it says.
    file: Lock,
    /// What is pinned: starts with what is known before anything runs, ends as the lock file.
    made: Mutex<Lock>,
}

impl Pins {
    /// Starts with what the lock file at `path` says, and with what is `known` before anything
    /// runs. `locked`: the file must speak of everything.
    pub(crate) fn new(path: &Path, locked: bool, file: Option<&Lock>, known: Lock) -> Self {
        let file = file.cloned().unwrap_or_default();
        Self { path: path.to_owned(), locked, file, made: Mutex::new(known) }
    }

    /// Locks what this build has pinned so far. A panic elsewhere does not make it wrong.
    fn made(&self) -> MutexGuard<'_, Lock> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what this build has pinned so far: in the end, the lock file.
    pub(crate) fn of_this_build(&self) -> Lock {
        self.made().clone()
    }

    /// Returns what this build has pinned so far, and what the lock file pins for what is to come.
    pub(crate) fn known(&self) -> Lock {
        let mut known = self.of_this_build();
        known.packages.extend(self.file.packages.iter().cloned());
        known.download.extend(self.file.download.iter().cloned());
        known
    }

    /// Pins more.
    pub(crate) fn add(&self, more: Lock) {
        self.made().add(more);
    }

    /// Pins packages, in place of what was pinned for the same request.
    pub(super) fn set_packages(&self, set: LockedPackages) {
        self.made().set_packages(set);
    }

    /// Returns the packages pinned for `request`.
    pub(super) fn packages_for(&self, request: &Digest) -> Option<LockedPackages> {
        let made = self.made().packages_for(request).cloned();
        made.or_else(|| self.file.packages_for(request).cloned())
    }

    /// Returns the checksum pinned for `url`: the lock file's, else that of what came first.
    pub(super) fn sha256_of(&self, url: &str) -> Option<String> {
        let file = self.file.sha256_of(url).map(str::to_owned);
        file.or_else(|| self.made().sha256_of(url).map(str::to_owned))
    }

    /// Pins the checksum of `url` unless another was faster; returns what is pinned.
    pub(super) fn set_sha256(&self, url: &str, sha256: &str) -> String {
        let one = LockedDownload { url: url.to_owned(), sha256: sha256.to_owned() };
        let mut made = self.made();
        made.add(Lock { download: vec![one], ..Lock::default() });
        made.sha256_of(url).unwrap_or(sha256).to_owned()
    }

    /// Makes sure that what the lock file does not pin may be chosen.
    pub(super) fn may_choose(&self, what: &str) -> Result<(), Trouble> {
        self.unless_locked(|| format!("does not pin {what}"))
    }

    /// Makes sure that what the lock file pins for a root in which apt saw something else may be
    /// chosen anew.
    pub(super) fn may_choose_again(&self, what: &str) -> Result<(), Trouble> {
        self.unless_locked(|| {
            format!(
                "pins {what} for a root with other preferences or settings of apt, architectures, \
                    or installed packages than this one"
            )
        })
    }

    fn unless_locked(&self, why: impl FnOnce() -> String) -> Result<(), Trouble> {
        if self.locked {
            return Err(Trouble::NotLocked { path: self.path.clone(), why: why() });
        }
        Ok(())
    }
}
