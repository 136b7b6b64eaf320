//! Why the sandbox could not do its work.

/// Why the sandbox could not do its work (as opposed to: the work failed).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This host cannot run bake's sandbox; exit code 10.
    #[error("{what}")]
    Host {
        /// What is missing.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// A system call failed.
    #[error("{what}")]
    System {
        /// What was being done: "cannot open …".
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl Error {
    /// What to do about it, if the host is to blame.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Host { hint, .. } => Some(hint.clone()),
            Self::System { .. } => None,
        }
    }
}

/// Adds what was being done, which finishes "cannot …", to an error of the system.
pub(super) fn failed(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |source| Error::System { what: format!("cannot {what}"), source }
}

/// The other side ended and did not say why.
pub(super) fn ended_early() -> Error {
    failed("run the sandbox helper")(std::io::Error::other("it ended without a word"))
}
