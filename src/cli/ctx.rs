//! What every command has at hand: how to print, and where the store is.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::edge;
use super::workspace::{self, Nearby};
use crate::job::{Host, JobContext};
use crate::recipe::{Workspace, WorkspaceFile};
use crate::sandbox::Cancel;
use crate::step::Limits;
use crate::store::{self, Store};
use crate::threads;
use crate::ui::Ui;
use crate::ui::report::Report;

/// What every command has at hand.
pub(super) struct Ctx<'a> {
    pub(super) ui: &'a Ui,
    /// `--store`.
    pub(super) store: Option<PathBuf>,
    /// `--work-dir`.
    pub(super) work_dir: Option<PathBuf>,
    /// `--limit`.
    pub(super) limits: Limits,
    /// The workspaces that count.
    pub(super) nearby: Nearby,
}

impl Ctx<'_> {
    /// Finds the workspace of a directory; an empty path is the current one.
    pub(super) fn workspace(&self, of: &Path) -> Result<Option<Arc<WorkspaceFile>>, Report> {
        self.nearby.found(self.ui, of)
    }

    /// Reads what a workspace says of itself.
    pub(super) fn read_workspace(&self, file: &WorkspaceFile) -> Result<Workspace, Report> {
        workspace::read(self.ui, file)
    }

    /// Returns the store's directory: `--store`, `$BAKE_STORE`, that of the workspace, else below
    /// the user's data directory.
    pub(super) fn store_dir(&self) -> Result<PathBuf, Report> {
        if let Some(dir) = &self.store {
            return Ok(dir.clone());
        }
        let variable = |name: &str| {
            std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        if let Some(dir) = variable("BAKE_STORE") {
            return Ok(dir);
        }
        if let Some(dir) = self.nearby.store(self.ui)? {
            return Ok(dir);
        }
        let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
        absolute("XDG_DATA_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
            .map(|data| data.join("bake"))
            .ok_or_else(|| {
                edge::usage(
                    "cannot find the store: neither XDG_DATA_HOME nor HOME is set",
                    "give --store DIR or set BAKE_STORE",
                )
            })
    }

    /// Returns this machine, with the limits of the command line.
    pub(super) fn host(&self) -> Host {
        Host::limited(self.limits)
    }

    /// Opens the store to publish into.
    pub(super) fn store(&self) -> Result<Store, Report> {
        self.working(Store::open(&self.store_dir()?))
    }

    /// Opens the store to read from; a store that does not exist is an empty one.
    pub(super) fn store_to_read(&self) -> Result<Store, Report> {
        self.working(Store::open_to_read(&self.store_dir()?))
    }

    /// Returns the directory to work in, where that is not the store: `--work-dir`, `$BAKE_WORK`.
    pub(super) fn work_dir(&self) -> Option<PathBuf> {
        let variable = || std::env::var_os("BAKE_WORK").filter(|value| !value.is_empty());
        self.work_dir.clone().or_else(|| variable().map(PathBuf::from))
    }

    fn working(&self, store: Result<Store, store::Error>) -> Result<Store, Report> {
        let store = store.and_then(|store| match self.work_dir() {
            Some(dir) => store.working_in(&dir),
            None => Ok(store),
        });
        store.map_err(|error| edge::store(&error))
    }

    /// Opens the store, looks at the host, and does `work` with both.
    pub(super) fn with_job_context(
        &self,
        work: impl Fn(&JobContext<'_>) -> Result<(), Report>,
    ) -> Result<u8, Report> {
        self.with_cancel(&cancel()?, work)
    }

    /// The same with a handle that ends the work where the caller says so.
    pub(super) fn with_cancel(
        &self,
        cancel: &Cancel,
        work: impl Fn(&JobContext<'_>) -> Result<(), Report>,
    ) -> Result<u8, Report> {
        let store = self.store()?;
        let host = self.host();
        let sink = self.ui.sink();
        work(&JobContext { store: &store, host: &host, cancel, sink: &sink })?;
        Ok(edge::OK)
    }
}

/// Ends the build on Ctrl-C, SIGTERM and SIGHUP; a second Ctrl-C ends the process as it would
/// without us.
pub(super) fn cancel() -> Result<Cancel, Report> {
    cancel_unless(|| false)
}

/// The same, but a signal that `handled` says is taken care of otherwise does not count.
pub(super) fn cancel_unless(handled: impl Fn() -> bool + Send + 'static) -> Result<Cancel, Report> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let cancel = Cancel::new().map_err(|error| edge::sandbox(&error))?;
    let fail = |error: std::io::Error| edge::report("host", edge::FAILED, &error);
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(fail)?;
    let handle = cancel.clone();
    threads::free(move || {
        let mut before = false;
        for signal in signals.forever() {
            if handled() {
                continue;
            }
            if before {
                // Asked twice: go now. Nothing is published by a process that dies, whatever it was
                // doing.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
            before = true;
            handle.fire();
        }
    })
    .map_err(fail)?;
    Ok(cancel)
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// Whether an environment variable is set and not empty.
pub(super) fn set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value != OsStr::new(""))
}
