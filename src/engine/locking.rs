//! The lock file in use: read before the build, obeyed or renewed during it, written just before
//! the publish.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Error;
use super::request::{LockMode, Request};
use crate::files;
use crate::inputs;
use crate::job;
use crate::plan::lock::{Lock, LockFile, LockedBase};

/// A lock file in use, or the part of it that is of one build of the recipe.
pub(crate) struct Locking {
    path: PathBuf,
    mode: LockMode,
    build: String,
    /// The names of all builds of the recipe: what the file has of others is left out of it.
    builds: Arc<[String]>,
    /// What the file says, unless it is to be renewed.
    lock: Option<Lock>,
    /// What it says also where it is to be renewed.
    old: Option<Lock>,
}

impl Locking {
    /// Reads the lock file beside the recipe: `web.lock` beside `web.toml`.
    pub(crate) fn open(request: &Request) -> Result<Self, Error> {
        let (path, mode) = (request.recipe.with_extension("lock"), request.lock);
        let (build, builds) = (request.build(), request.builds());
        let found = match read(&path)? {
            Some(text) => match LockFile::parse(&text) {
                // What is to be renewed may be broken.
                Err(_) if mode == LockMode::Update => None,
                found => Some(found.map_err(|source| Error::Lock { path: path.clone(), source })?),
            },
            None => None,
        };
        let old = found.and_then(|mut file| file.builds.remove(&build));
        let lock = old.clone().filter(|_| mode != LockMode::Update);
        Ok(Self { path, mode, build, builds, lock, old })
    }

    /// Whether `--locked` was given.
    pub(super) fn locked(&self) -> bool {
        self.mode == LockMode::Locked
    }

    /// Returns the error for something the lock file does not pin.
    pub(super) fn missing(&self, what: &str) -> Error {
        Error::NotLocked { path: self.path.clone(), why: format!("does not pin {what}") }
    }

    /// Returns an error where `--locked` was given and the file would have to be changed: by
    /// `missing` things, or because it pins more than the `needed` ones.
    pub(super) fn must_do(&self, missing: &[String], needed: &Lock) -> Result<(), Error> {
        if !self.locked() {
            return Ok(());
        }
        if !missing.is_empty() {
            return Err(self.missing(&missing.join(", ")));
        }
        let Some(lock) = self.lock.as_ref().filter(|lock| *lock != needed) else { return Ok(()) };
        let packages =
            lock.packages.iter().filter(|one| needed.packages_for(&one.request).is_none());
        let downloads = lock.download.iter().filter(|one| needed.sha256_of(&one.url).is_none());
        let packages = packages.map(|one| format!("the packages {}", one.names.join(" ")));
        let extra: Vec<String> =
            packages.chain(downloads.map(|one| format!("the download {}", one.url))).collect();
        let why = if extra.is_empty() {
            "is not what bake would write".to_owned()
        } else {
            format!("pins {}, which the recipe does not ask for", extra.join(", "))
        };
        Err(Error::NotLocked { path: self.path.clone(), why })
    }

    /// Returns the pinned epoch.
    pub(super) fn epoch(&self) -> Option<i64> {
        self.lock.as_ref()?.epoch
    }

    /// Returns the pinned base, of a stage or of the image.
    pub(super) fn base(&self, stage: Option<&str>) -> Option<&LockedBase> {
        self.lock.as_ref()?.base_of(stage)
    }

    /// Returns the suite and the date of the base that was locked last, also where the lock file is
    /// to be renewed.
    pub(super) fn newest(&self) -> Option<(String, i64)> {
        match self.old.as_ref()?.base.as_ref()? {
            LockedBase::Debian { suite, date, .. } => Some((suite.clone(), *date)),
            LockedBase::Image { .. } | LockedBase::Oci { .. } => None,
        }
    }

    /// Returns what the file says.
    pub(crate) fn lock(&self) -> Option<&Lock> {
        self.lock.as_ref()
    }

    /// Writes `lock` unless the file says just that. A recipe that pins nothing needs no file.
    /// Returns what was written, which can be taken back; `None` where nothing was.
    pub(super) fn write(&self, lock: &Lock) -> Result<Option<files::Replaced>, Error> {
        let pins = lock.base.is_some()
            || !lock.stage.is_empty()
            || !lock.packages.is_empty()
            || !lock.download.is_empty()
            || lock.toolbox.is_some();
        // Another build of the same recipe may have written its part just now.
        let there = read(&self.path)?;
        let mut file = there.as_deref().and_then(|text| LockFile::parse(text).ok());
        // A remark of a person in the file is no reason to write it anew.
        let same = |file: &LockFile| file.builds.get(&self.build) == Some(lock);
        if file.as_ref().is_some_and(|file| same(file) && self.of_the_recipe(file))
            || (there.is_none() && !pins)
        {
            return Ok(None);
        }
        let file = file.get_or_insert_default();
        file.builds.retain(|name, _| self.builds.contains(name));
        file.builds.insert(self.build.clone(), lock.clone());
        let text = file.to_text();
        if there.as_ref() == Some(&text) {
            return Ok(None);
        }
        self.must_do(&[], lock)?;
        let written = files::Replaced::write(&self.path, text.as_bytes(), 0o644);
        written.map(Some).map_err(|error| {
            let (path, source) = (self.path.clone(), io::Error::other(error));
            job::Error::File { verb: "write", path, source }.into()
        })
    }

    /// Whether a file has parts of the recipe's builds only.
    fn of_the_recipe(&self, file: &LockFile) -> bool {
        file.builds.keys().all(|name| self.builds.contains(name))
    }

    /// Returns its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns the text of a lock file; none where there is no file.
fn read(path: &Path) -> Result<Option<String>, Error> {
    let text = inputs::bytes(path).and_then(|bytes| {
        String::from_utf8(bytes)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
    });
    match text {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(job::Error::File { verb: "read", path: path.to_owned(), source }.into()),
    }
}
