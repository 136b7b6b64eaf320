//! Calls: functions of this very program that run inside a job, as root of the user namespace, in
//! the root that the job has.
//!
//! ```text
//! program          C: Call, an enum with an argument type a variant, open files among them
//!   Session::run   │ JSON of Request<C>, and the files beside it (SCM_RIGHTS)
//! init             ▼
//!   its child      Request<C>::run ──► Result<Reply, CallError> ──► JSON, back through a pipe
//! ```
//!
//! Which calls there are is decided above this room, by the type that the program gives to
//! [`super::helper_main`] and that its sessions have.

use std::cell::RefCell;
use std::error::Error as StdError;
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::event::chain;

/// What a program can ask of itself inside a job.
pub trait Call: Serialize + DeserializeOwned + Debug {
    /// What comes back.
    type Reply: Serialize + DeserializeOwned + Debug;

    /// Does it. Runs in a process of its own, which ends with it and may have threads.
    ///
    /// # Errors
    /// Why it could not be done.
    fn run(self, inside: Inside<'_>) -> Result<Self::Reply, CallError>;
}

/// A set of calls that has those of `C` among them.
pub trait Includes<C: Call>: Call {
    /// The call as one of this set.
    fn include(call: C) -> Self;
    /// The reply to such a call; `None` if it is one to another call.
    fn reply(reply: Self::Reply) -> Option<C::Reply>;
}

/// What a call finds besides its arguments.
pub struct Inside<'a> {
    /// What the job changed in its image root so far, the way overlayfs keeps it (deletions are
    /// character devices 0:0); `None` without an image root.
    pub changes: Option<&'a Path>,
    /// Reports how far it has come, in a unit of its own, to the listener of
    /// [`super::Session::run`].
    pub progress: &'a mut dyn FnMut(u64),
}

/// Why a call could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallError {
    /// A system call failed.
    System {
        /// What was being done, as the verb before the path.
        doing: String,
        /// To which file, as the call sees it; bytes that are no UTF-8 are replaced.
        path: String,
        /// Why, as in errno(3).
        errno: i32,
    },
    /// Anything else that a call finds.
    Failed {
        /// The reason and further causes, as fragments for people, from the outside in.
        reasons: Vec<String>,
        /// Which error of the system is behind it, as in errno(3).
        errno: Option<i32>,
    },
    /// The two ends do not understand each other.
    Malformed(String),
    /// A bug in the call.
    Panicked {
        /// The message of the panic.
        message: String,
        /// File and line, where known.
        place: String,
    },
    /// It was ended by this signal.
    Signal(i32),
    /// It ended with this status and without a reply.
    Silent(i32),
}

impl CallError {
    /// Takes over an error with its causes.
    pub fn of(error: &(dyn StdError + 'static)) -> Self {
        Self::Failed { reasons: chain(error), errno: errno_of(error) }
    }

    /// Something that is not as it must be.
    pub fn refused(why: impl Into<String>) -> Self {
        Self::Failed { reasons: vec![why.into()], errno: None }
    }

    /// A failed system call on a file.
    pub fn system(doing: &str, path: &Path, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::System {
                doing: doing.to_owned(),
                path: path.to_string_lossy().into_owned(),
                errno,
            },
            None => Self::refused(format!("{doing} {}: {error}", path.display())),
        }
    }

    /// Returns the reason and further causes, as fragments for people, from the outside in.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::System { doing, path, errno } => vec![
                format!("cannot {doing} {path}"),
                io::Error::from_raw_os_error(*errno).to_string(),
            ],
            Self::Failed { reasons, .. } => reasons.clone(),
            Self::Malformed(why) => vec![format!("internal: {why}")],
            Self::Panicked { message, place } => vec![format!("bug in bake: {message}{place}")],
            Self::Signal(signal) => vec![format!("ended by signal {signal} (out of memory?)")],
            Self::Silent(code) => vec![format!("ended with code {code} and no result")],
        }
    }

    /// Returns which error of the system is behind it, as in errno(3).
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::System { errno, .. } => Some(*errno),
            Self::Failed { errno, .. } => *errno,
            _ => None,
        }
    }
}

/// Whether an error of the system says that a disk or a quota is full; `errno`: as in errno(3).
#[must_use]
pub fn is_no_room(errno: i32) -> bool {
    matches!(errno, libc::ENOSPC | libc::EDQUOT)
}

/// Returns the number of the system's error among `error` and its causes, as in errno(3).
pub fn errno_of(error: &(dyn StdError + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            if let Some(errno) = io.raw_os_error() {
                return Some(errno);
            }
            // What was added to the message of an error may have cost its number.
            match io.kind() {
                io::ErrorKind::StorageFull => return Some(libc::ENOSPC),
                io::ErrorKind::QuotaExceeded => return Some(libc::EDQUOT),
                _ => {}
            }
            // `source` of one that wraps another error skips that error itself.
            if let Some(errno) = io.get_ref().and_then(|inner| errno_of(inner)) {
                return Some(errno);
            }
        }
        if let Some(errno) = error.downcast_ref::<rustix::io::Errno>() {
            return Some(errno.raw_os_error());
        }
        next = error.source();
    }
    None
}

/// An open file in the arguments of a call: it travels beside them, and arrives open.
#[derive(Debug)]
pub struct Passed(OwnedFd);

impl Passed {
    /// Takes it out.
    #[must_use]
    pub fn into_file(self) -> File {
        File::from(self.0)
    }
}

impl<F: Into<OwnedFd>> From<F> for Passed {
    fn from(file: F) -> Self {
        Self(file.into())
    }
}

impl AsFd for Passed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

thread_local! {
    /// Copies of the files of the request that is being written; `None` while none is.
    static SENT: RefCell<Option<Vec<OwnedFd>>> = const { RefCell::new(None) };
    /// The files that came with the request that is being read.
    static RECEIVED: RefCell<Vec<Option<OwnedFd>>> = const { RefCell::new(vec![]) };
}

impl Serialize for Passed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let copy = self.0.try_clone().map_err(S::Error::custom)?;
        let number = SENT.with_borrow_mut(|sent| {
            let sent = sent.as_mut()?;
            sent.push(copy);
            Some(sent.len() as u64 - 1)
        });
        number
            .ok_or_else(|| S::Error::custom("an open file travels with a call only"))
            .and_then(|number| serializer.serialize_u64(number))
    }
}

impl<'de> Deserialize<'de> for Passed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = usize::deserialize(deserializer)?;
        RECEIVED
            .with_borrow_mut(|files| files.get_mut(number).and_then(Option::take))
            .map(Self)
            .ok_or_else(|| D::Error::custom("an open file of the call did not arrive"))
    }
}

/// Writes a request down: its JSON, and the files that go with it.
pub(super) fn write(request: &impl Serialize) -> io::Result<(Value, Vec<OwnedFd>)> {
    SENT.set(Some(vec![]));
    let written = serde_json::to_value(request);
    let files = SENT.take().unwrap_or_default();
    Ok((written?, files))
}

/// Reads a request: its JSON, and the files that came with it.
pub(super) fn read<T: DeserializeOwned>(
    value: Value,
    files: Vec<OwnedFd>,
) -> serde_json::Result<T> {
    RECEIVED.set(files.into_iter().map(Some).collect());
    let request = serde_json::from_value(value);
    // What nothing in it named is closed.
    RECEIVED.take();
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_found_where_the_type_has_them() {
        #[derive(Serialize, Deserialize)]
        struct Two {
            from: Passed,
            name: String,
            to: Option<Passed>,
        }
        let (read, write_end) = io::pipe().unwrap();
        let two = Two { from: read.into(), name: "x".into(), to: Some(write_end.into()) };
        let (value, files) = write(&two).unwrap();
        assert_eq!(files.len(), 2);
        drop(two);
        RECEIVED.set(files.into_iter().map(Some).collect());
        let two: Two = serde_json::from_value(value.clone()).unwrap();
        assert!(serde_json::from_value::<Two>(value).is_err(), "each arrives once");
        io::Write::write_all(&mut two.to.unwrap().into_file(), b"through").unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut two.from.into_file(), &mut text).unwrap();
        assert_eq!((text.as_str(), two.name.as_str()), ("through", "x"));
        let (read, _) = io::pipe().unwrap();
        assert!(serde_json::to_value(Passed::from(read)).is_err(), "not outside of a call");
    }

    #[test]
    fn errors_keep_the_number_of_the_system() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot write the file")]
        struct Outer(#[source] io::Error);
        let full = || io::Error::from_raw_os_error(libc::ENOSPC);
        let wrapped = Outer(io::Error::other(Outer(full())));
        assert_eq!(CallError::of(&wrapped).errno(), Some(libc::ENOSPC));
        let error = CallError::of(&Outer(full()));
        assert_eq!(error.reasons().len(), 2);
        assert_eq!(error.errno(), Some(libc::ENOSPC));
        assert_eq!(CallError::refused("no").errno(), None);
    }
}
