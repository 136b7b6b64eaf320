//! Jobs about packages: what they need, how their output and their end are taken.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use super::call::{Call, Job, Reply};
use super::error::Error;
use super::source::Source;
use crate::event::Sink;
use crate::rootfs::environment;
use crate::sandbox::{Cancel, Ended, JobEvent, PolicyFile, Run};

/// Everything the work inside the sandbox needs.
#[derive(Clone, Copy)]
pub struct JobContext<'a> {
    /// Downloads.
    pub source: &'a Source,
    /// The build's user namespace.
    pub session: &'a dyn Run<Call>,
    /// The session's scratch directory: upper directories are below it, and so are our own
    /// short-lived ones.
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
    /// Where `path` (below the scratch directory) is for a call.
    pub fn inside(&self, path: &Path) -> Result<PathBuf, Error> {
        let below = path.strip_prefix(self.scratch).map_err(|_| Error::File {
            doing: "use",
            path: path.to_owned(),
            source: io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not below the scratch directory",
            ),
        })?;
        Ok(Path::new("/scratch").join(below))
    }

    /// Runs a job; its output goes to `listener`, and its last lines into the error, if it fails.
    pub fn run(
        &self,
        what: &str,
        job: Job,
        listener: &mut dyn FnMut(Line<'_>),
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Option<Reply>>, Error> {
        const KEPT: usize = 30;
        let mut tail: VecDeque<String> = VecDeque::new();
        let ended = self.session.run(job, self.cancel, &mut |event| match event {
            JobEvent::Line { stderr, text } => {
                if tail.len() == KEPT {
                    tail.pop_front();
                }
                tail.push_back(String::from_utf8_lossy(text).into_owned());
                listener(Line { stderr, text });
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

/// Returns the environment of everything that installs packages.
pub fn of_packages(epoch: i64) -> BTreeMap<String, String> {
    let more = [
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        // Before there are accounts nobody can look it up.
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
    ];
    let more = more.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    environment(epoch, &more.collect())
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
