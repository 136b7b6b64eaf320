//! The building site: what every step of one build shares.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::Error;
use super::locking::Locking;
use super::node::Trouble;
use super::work::Work;
use crate::archive::{self, JobContext, fetch};
use crate::context::{Context, Held};
use crate::digest::Digest;
use crate::event::Sink;
use crate::inputs::Facts;
use crate::job::{Session, resolv_conf};
use crate::plan::Plan;
use crate::plan::lock::{Lock, LockedDownload};
use crate::recipe;
use crate::sandbox::{Cancel, PolicyFile};
use crate::trial::Rescue;

/// Largest `download`.
const MAX_DOWNLOAD: u64 = 64 << 30;

/// What every step of one build shares.
pub(super) struct Site<'a> {
    pub(super) session: &'a Session,
    pub(super) context: &'a Context,
    pub(super) cancel: &'a Cancel,
    pub(super) sink: &'a Sink,
    pub(super) epoch: i64,
    pub(super) workshop: &'a JobContext<'a>,
    pub(super) base: &'a recipe::Base,
    /// The environment of the image that is the base.
    pub(super) environment: &'a BTreeMap<String, String>,
    /// The build in flight, for what steps want of other roots.
    pub(super) work: &'a Work<'a>,
    pub(super) locking: &'a Locking,
    /// What this build pins: starts empty, ends as the lock file.
    pub(super) pins: &'a Mutex<Lock>,
    pub(super) facts: &'a Facts,
    pub(super) plan: &'a Plan,
    /// Whether somebody wants to look into what fails.
    pub(super) rescue: Rescue,
}

impl Site<'_> {
    /// Locks what this build pins. A panic elsewhere does not make it wrong.
    pub(super) fn pins(&self) -> MutexGuard<'_, Lock> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches `url` and pins its checksum: the recipe's, else the lock's, else what came. One build
    /// gets one content from an address, whatever the server says when it is asked again.
    pub(super) fn download(&self, url: &str, sha256: Option<&str>) -> Result<PathBuf, Trouble> {
        let pinned = self.pins().sha256_of(url).map(str::to_owned);
        let pinned = sha256.or_else(|| self.locking.sha256_of(url)).or(pinned.as_deref());
        let wanted = match pinned {
            Some(hex) => Some(Digest::from_hex(hex).map_err(|error| Trouble::prepared(&error))?),
            None if self.locking.locked() => {
                return Err(self.locking.missing(&format!("the download {url}")).into());
            }
            None => None,
        };
        let got = self.fetch(url, wanted)?;
        // What the recipe says itself need not be remembered.
        if sha256.is_some() {
            return Ok(got.path);
        }
        let mine = got.sha256.hex();
        let first = {
            let mut pins = self.pins();
            let one = LockedDownload { url: url.to_owned(), sha256: mine.clone() };
            pins.add(Lock { download: vec![one], ..Lock::default() });
            pins.sha256_of(url).unwrap_or(&mine).to_owned()
        };
        if first == mine {
            return Ok(got.path);
        }
        // Another step of this build was faster, and was given something else.
        let first = Digest::from_hex(&first).map_err(|error| Trouble::prepared(&error))?;
        Ok(self.fetch(url, Some(first))?.path)
    }

    fn fetch(&self, url: &str, wanted: Option<Digest>) -> Result<fetch::Got, Trouble> {
        let got = self.workshop.source.download(url, wanted, MAX_DOWNLOAD);
        got.map_err(|error| self.network_trouble(&error))
    }

    fn network_trouble(&self, error: &archive::Error) -> Trouble {
        if self.cancel.fired() {
            Trouble::Build(Error::Interrupted)
        } else {
            Trouble::prepared(error)
        }
    }

    /// Returns the key of a repository: as it is held, or fetched.
    pub(super) fn repository_key(&self, key: &str, held: &[Held]) -> Result<Vec<u8>, Trouble> {
        match held {
            [held] => {
                Ok(held.read().map_err(|error| Trouble::prepared(&error))?.as_ref().to_owned())
            }
            _ => {
                let path = self.download(key, None)?;
                fs::read(&path).map_err(|source| Error::File { verb: "read", path, source }.into())
            }
        }
    }

    /// Returns the files that programs see while they run and that never reach the image.
    pub(super) fn policy(&self, network: bool) -> Vec<PolicyFile> {
        let mut out = archive::policy_files();
        if network {
            out.extend(resolv_conf(self.sink, "steps with network have"));
        }
        out
    }
}
