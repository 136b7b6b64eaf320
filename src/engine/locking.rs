//! The lock file in use: read before the build, obeyed or renewed during it, written just before
//! the publish.

use std::io;
use std::path::{Path, PathBuf};

use super::error::Error;
use crate::files;
use crate::inputs;
use crate::job;
use crate::plan::lock::{Lock, LockedBase};

/// How the lock file is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LockMode {
    /// Obeyed where it speaks, extended where it does not.
    #[default]
    Obey,
    /// `--locked`: it must speak of everything.
    Locked,
    /// `--update`: ignored and renewed.
    Update,
}

/// A lock file in use.
pub(super) struct Locking {
    path: PathBuf,
    mode: LockMode,
    /// What the file says, unless it is to be renewed.
    lock: Option<Lock>,
    /// The file's text, to leave it alone when nothing changed.
    text: Option<String>,
}

impl Locking {
    /// Reads the lock file beside `recipe`: `web.lock` beside `web.toml`.
    pub(super) fn open(recipe: &Path, mode: LockMode) -> Result<Self, Error> {
        let path = recipe.with_extension("lock");
        let text = match inputs::bytes(&path).and_then(|bytes| {
            String::from_utf8(bytes)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
        }) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(job::Error::File { verb: "read", path, source }.into()),
        };
        let lock = match (&text, mode) {
            (_, LockMode::Update) | (None, _) => None,
            (Some(text), _) => Some(
                Lock::parse(text).map_err(|source| Error::Lock { path: path.clone(), source })?,
            ),
        };
        Ok(Self { path, mode, lock, text })
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
        match Lock::parse(self.text.as_deref()?).ok()?.base? {
            LockedBase::Debian { suite, date, .. } => Some((suite, date)),
            LockedBase::Image { .. } | LockedBase::Oci { .. } => None,
        }
    }

    /// Returns what the file says.
    pub(super) fn lock(&self) -> Option<&Lock> {
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
        let text = lock.to_text();
        // A remark of a person in the file is no reason to write it anew.
        if self.text.as_ref() == Some(&text)
            || self.lock.as_ref() == Some(lock)
            || (self.text.is_none() && !pins)
        {
            return Ok(None);
        }
        self.must_do(&[], lock)?;
        let written = files::Replaced::write(&self.path, text.as_bytes(), 0o644);
        written.map(Some).map_err(|error| {
            let (path, source) = (self.path.clone(), io::Error::other(error));
            job::Error::File { verb: "write", path, source }.into()
        })
    }

    /// Returns its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
