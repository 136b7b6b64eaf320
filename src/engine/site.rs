//! The building site: what every step of one build shares.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::context::Context;
use super::error::{Error, StepFailure};
use super::facts::{Facts, is_url};
use super::locking::Locking;
use super::node::Trouble;
use super::shell::Rescue;
use crate::archive::{self, JobContext};
use crate::digest::Digest;
use crate::event::{Event, Sink};
use crate::plan::Plan;
use crate::plan::lock::{Lock, LockedDownload};
use crate::recipe::{self, Value};
use crate::sandbox::{Cancel, PolicyFile, Session};
use crate::step::Content;

/// Largest script, template or key: these are read whole.
pub(super) const MAX_TEXT: u64 = 64 << 20;

/// Largest `download`.
const MAX_DOWNLOAD: u64 = 64 << 30;

/// What every step of one build shares.
pub(super) struct Site<'a> {
    pub(super) session: &'a Session,
    pub(super) context: &'a Context,
    pub(super) vars: &'a BTreeMap<String, Value>,
    pub(super) cancel: &'a Cancel,
    pub(super) sink: &'a Sink,
    pub(super) epoch: i64,
    pub(super) workshop: &'a JobContext<'a>,
    pub(super) base: &'a recipe::Base,
    pub(super) context_dir: &'a Path,
    pub(super) locking: &'a Locking,
    /// What this build pins: starts empty, ends as the lock file.
    pub(super) pins: &'a Mutex<Lock>,
    pub(super) facts: &'a Facts,
    pub(super) plan: &'a Plan,
    /// The recipe's steps, one for each node of the plan.
    pub(super) steps: &'a [recipe::Step],
    /// Whether somebody wants to look into what fails.
    pub(super) rescue: Rescue,
}

impl Site<'_> {
    /// Locks what this build pins. A panic elsewhere does not make it wrong.
    pub(super) fn pins(&self) -> MutexGuard<'_, Lock> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches `url` and pins its checksum: the recipe's, else the lock's, else what came.
    pub(super) fn download(&self, url: &str, sha256: Option<&str>) -> Result<PathBuf, Trouble> {
        let wanted = match sha256.or_else(|| self.locking.sha256_of(url)) {
            Some(hex) => Some(Digest::from_hex(hex).map_err(|error| Trouble::prepared(&error))?),
            None if self.locking.locked() => {
                return Err(self.locking.missing(&format!("the download {url}")).into());
            }
            None => None,
        };
        let got = self
            .workshop
            .source
            .download(url, wanted, MAX_DOWNLOAD)
            .map_err(|error| self.network_trouble(&error))?;
        // What the recipe says itself need not be remembered.
        if sha256.is_none() {
            let one = LockedDownload { url: url.to_owned(), sha256: got.sha256.hex() };
            self.pins().add(Lock { download: vec![one], ..Lock::default() });
        }
        Ok(got.path.clone())
    }

    fn network_trouble(&self, error: &archive::Error) -> Trouble {
        if self.cancel.fired() {
            Trouble::Build(Error::Interrupted)
        } else {
            Trouble::prepared(error)
        }
    }

    /// Returns the key of a repository: a file of the context, or fetched.
    pub(super) fn repository_key(&self, key: &str) -> Result<Vec<u8>, Trouble> {
        if is_url(key) {
            let path = self.download(key, None)?;
            fs::read(&path).map_err(|source| Error::File { verb: "read", path, source }.into())
        } else {
            self.context.read(Path::new(key), MAX_TEXT).map_err(|error| Trouble::prepared(&error))
        }
    }

    /// Returns the text of a file to be written: as it is, or a template rendered with the recipe's
    /// variables.
    pub(super) fn content(&self, from: &Content) -> Result<String, Trouble> {
        content(self.context, self.vars, from).map_err(Trouble::Step)
    }

    /// Returns the files that programs see while they run and that never reach the image.
    pub(super) fn policy(&self, network: bool) -> Vec<PolicyFile> {
        let file =
            |at: &str, bytes: Vec<u8>, mode| PolicyFile { at: PathBuf::from(at), bytes, mode };
        let mut out = vec![
            file("/etc/hosts", b"127.0.0.1 localhost bake\n::1 localhost\n".to_vec(), 0o644),
            // No service may start because its package is installed (invoke-rc.d(8)).
            file("/usr/sbin/policy-rc.d", b"#!/bin/sh\nexit 101\n".to_vec(), 0o755),
        ];
        if network {
            match fs::read("/etc/resolv.conf") {
                Ok(bytes) => out.push(file("/etc/resolv.conf", bytes, 0o644)),
                Err(error) => (self.sink)(Event::Warning {
                    message: format!(
                        "cannot read /etc/resolv.conf ({error}): steps with network have no name service"
                    ),
                    hint: None,
                }),
            }
        }
        out
    }
}

/// Returns the text of a file to be written: as it is, or a template of the context rendered with
/// the recipe's variables.
pub(super) fn content(
    context: &Context,
    vars: &BTreeMap<String, Value>,
    content: &Content,
) -> Result<String, StepFailure> {
    let file = match content {
        Content::Text(text) => return Ok(text.clone()),
        Content::Template(file) => file,
    };
    let bytes = context.read(file, MAX_TEXT).map_err(|error| StepFailure::told(&error))?;
    let prepared = |why: String| StepFailure::prepared(why, vec![]);
    let text = String::from_utf8(bytes)
        .map_err(|_| prepared(format!("the template {} is not UTF-8 text", file.display())))?;
    recipe::render_template(&text, file, vars).map_err(|found| {
        let mut causes = vec![];
        causes.extend(found.label);
        causes.extend(found.help);
        let why = format!("{}:{}:{}: {}", file.display(), found.line, found.column, found.message);
        StepFailure::prepared(why, causes)
    })
}
