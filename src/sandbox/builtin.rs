//! The calls that every program with a sandbox has.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use serde::{Deserialize, Serialize};

use super::call::{CallError, Inside, Passed};
use super::path::WirePath;
use super::serve;
use crate::files::{open_dir, remove_at};
use crate::threads;

/// Threads that remove.
const REMOVERS: usize = 8;

/// One of them.
#[derive(Debug, Serialize, Deserialize)]
pub enum BuiltIn {
    /// Removes these files or trees below `/scratch`.
    Remove(Vec<WirePath>),
    /// Connects to ports of the job for whoever holds the other end; see [`super::dial`].
    Dial(Passed),
    /// Shows that calls work.
    Ping(Ping),
}

/// What a [`BuiltIn::Ping`] is to do.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Ping {
    /// Copied from the first to the second.
    pub copy: Option<(Passed, Passed)>,
    /// Fails with this error.
    pub fail: Option<CallError>,
    /// Panics with this text.
    pub panic: Option<String>,
}

impl BuiltIn {
    pub(super) fn run(self, inside: Inside<'_>) -> Result<(), CallError> {
        match self {
            Self::Remove(paths) => remove_trees(&paths),
            Self::Dial(socket) => {
                serve::dial(&socket.into_file().into()).map_err(|error| CallError::of(&error))
            }
            Self::Ping(ping) => ping.run(inside),
        }
    }
}

impl Ping {
    fn run(self, inside: Inside<'_>) -> Result<(), CallError> {
        (inside.progress)(1);
        if let Some(text) = self.panic {
            panic!("{text}");
        }
        if let Some((from, to)) = self.copy {
            let mut text = vec![];
            from.into_file()
                .take(1 << 20)
                .read_to_end(&mut text)
                .and_then(|_| to.into_file().write_all(&text))
                .map_err(|error| CallError::of(&error))?;
        }
        self.fail.map_or(Ok(()), Err)
    }
}

fn remove_trees(paths: &[WirePath]) -> Result<(), CallError> {
    let scratch = open_dir(CWD, "/scratch")
        .map_err(|error| CallError::system("open", Path::new("/scratch"), &error))?;
    let todo = Mutex::new(paths.iter());
    let failure = Mutex::new(None);
    let work = || {
        loop {
            let next = todo.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(path) = next.map(WirePath::path) else { return };
            if let Err(error) = remove_tree(&scratch, &path) {
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert(error);
            }
        }
    };
    // Where removing waits for the disk, several at once wait less. This thread is one of them, so
    // that it is done where the host has no threads to give.
    thread::scope(|scope| {
        for _ in 1..REMOVERS.min(paths.len()) {
            if threads::scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn remove_tree(scratch: &OwnedFd, path: &Path) -> Result<(), CallError> {
    let failed = |error: io::Error| CallError::system("remove", path, &error);
    let (base, name) = path
        .parent()
        .zip(path.file_name())
        .ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let base = if base.as_os_str().is_empty() { OsStr::new(".") } else { base.as_os_str() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let held = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(scratch, base, flags, Mode::empty(), held) {
        Ok(parent) => remove_at(parent.as_fd(), name, path).map_err(|error| CallError::of(&error)),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(failed(error.into())),
    }
}
