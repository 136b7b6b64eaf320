//! Jobs about packages: what they need, how their output and their end are taken.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use super::call::{Call, Job, Reply};
use super::error::Error;
use super::source::Source;
use crate::event::Sink;
use crate::rootfs::PATH;
use crate::sandbox::{Cancel, Ended, JobEvent, PolicyFile, Run};

/// Everything the work inside the sandbox needs.
#[derive(Clone, Copy)]
pub struct JobContext<'a> {
    /// Downloads.
    pub source: &'a Source,
    /// The build's user namespace.
    pub session: &'a dyn Run<Call>,
    /// The session's scratch folder: upper folders are below it, and so are our own short-lived
    /// folders.
    pub scratch: &'a Path,
    /// Ends it all.
    pub cancel: &'a Cancel,
    /// Where progress goes.
    pub sink: &'a Sink,
}

/// A line of output of something that runs inside.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// From standard error.
    pub stderr: bool,
    /// Its bytes, without line end.
    pub text: &'a [u8],
}

impl JobContext<'_> {
    /// Where `path` (below the scratch folder) is for a call.
    pub fn inside(&self, path: &Path) -> Result<PathBuf, Error> {
        let below = path.strip_prefix(self.scratch).map_err(|_| Error::File {
            doing: "use",
            path: path.to_owned(),
            source: io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not below the scratch folder",
            ),
        })?;
        Ok(Path::new("/scratch").join(below))
    }

    /// Runs a job; its output goes to `hear`, and its last lines into the error, if it fails.
    pub fn run(
        &self,
        what: &str,
        job: Job,
        hear: &mut dyn FnMut(Line<'_>),
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Option<Reply>>, Error> {
        const KEPT: usize = 30;
        let mut tail: VecDeque<String> = VecDeque::new();
        let ended = self.session.run(job, self.cancel, &mut |heard| match heard {
            JobEvent::Line { stderr, text } => {
                if tail.len() == KEPT {
                    tail.pop_front();
                }
                tail.push_back(String::from_utf8_lossy(text).into_owned());
                hear(Line { stderr, text });
            }
            JobEvent::Progress(value) => progress(value),
            _ => {}
        })?;
        match ended {
            Ended::Done(replies) => Ok(replies),
            Ended::Cancelled => Err(Error::Cancelled),
            Ended::Failed { how, seen, .. } => Err(Error::Failed {
                what: what.to_owned(),
                how: how.reasons().join(": "),
                tail: tail.into(),
                no_room: seen.no_room || how.no_room(),
            }),
        }
    }
}

/// Environment of everything that installs packages.
pub fn environment(epoch: i64) -> BTreeMap<String, String> {
    [
        ("DEBIAN_FRONTEND", "noninteractive".to_owned()),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true".to_owned()),
        ("HOME", "/root".to_owned()),
        ("LC_ALL", "C.UTF-8".to_owned()),
        ("PATH", PATH.to_owned()),
        ("SOURCE_DATE_EPOCH", epoch.to_string()),
        // No service manager runs: `systemctl daemon-reload` and `udevadm` have nothing to do
        // (systemd's ENVIRONMENT.md).
        ("SYSTEMD_IN_CHROOT", "1".to_owned()),
        ("SYSTEMD_OFFLINE", "1".to_owned()),
        ("TZ", "UTC".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// Returns the files that programs see while they build an image and that never reach it.
///
/// The host name has a domain: mail servers refuse to be configured on a machine without.
pub fn policy_files() -> Vec<PolicyFile> {
    let file = |at: &str, text: &str, mode| PolicyFile {
        at: PathBuf::from(at),
        bytes: text.as_bytes().to_vec(),
        mode,
    };
    vec![
        file(
            "/etc/hosts",
            "127.0.0.1 localhost\n127.0.1.1 bake.localdomain bake\n::1 localhost\n",
            0o644,
        ),
        // No service may start because its package is installed (invoke-rc.d(8)).
        file("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755),
    ]
}
