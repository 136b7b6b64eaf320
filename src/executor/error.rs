//! Why a node was not carried out.

use std::path::PathBuf;

use crate::base;
use crate::event;
use crate::job;
use crate::sandbox::{self, Circumstances, Failure};
use crate::trial;

/// Why a node did not end well, with what it printed last.
pub(crate) struct NodeFailure {
    pub(crate) trouble: Trouble,
    /// Last lines of its output.
    pub(crate) tail: Vec<String>,
    /// Its whole log.
    pub(crate) log: Option<PathBuf>,
}

impl From<Trouble> for NodeFailure {
    fn from(trouble: Trouble) -> Self {
        Self { trouble, tail: vec![], log: None }
    }
}

impl From<job::Error> for NodeFailure {
    fn from(error: job::Error) -> Self {
        Trouble::from(error).into()
    }
}

/// Why a node did not end well: its own failure, or something that ends the build whatever the
/// node.
pub(crate) enum Trouble {
    /// The step's own.
    Step(StepFailure),
    /// The base's own.
    Base(base::Error),
    /// The lock file must not be changed, and would have to be.
    NotLocked { path: PathBuf, why: String },
    /// The finished image cannot work as it is configured.
    Broken { why: String, hint: String },
    /// A shell that was to be opened could not be.
    Shell(trial::Error),
    /// What every job needs.
    Job(job::Error),
}

impl From<job::Error> for Trouble {
    fn from(error: job::Error) -> Self {
        Self::Job(error)
    }
}

impl From<sandbox::Error> for Trouble {
    fn from(error: sandbox::Error) -> Self {
        Self::Job(error.into())
    }
}

impl From<trial::Error> for Trouble {
    fn from(error: trial::Error) -> Self {
        Self::Shell(error)
    }
}

impl Trouble {
    /// Returns a failure before anything ran, with its causes.
    pub(super) fn prepared(error: &dyn std::error::Error) -> Self {
        Self::Step(StepFailure::of(error))
    }
}

/// How a step failed.
#[derive(Debug, Clone)]
pub enum StepFailure {
    /// The program or operation in the sandbox.
    Ran(Failure, Circumstances),
    /// It asked the network for what it may not reach, or what could not be reached.
    Network {
        /// How it failed; none: it went on all the same.
        inner: Option<Box<StepFailure>>,
        /// What it asked for, as fragments.
        reasons: Vec<String>,
        /// Changes that help.
        hints: Vec<String>,
    },
    /// Something was wrong before it could run: a missing file of the context, an address that does
    /// not answer.
    Prepared {
        /// What, as a fragment.
        why: String,
        /// Further causes, from the outside in.
        causes: Vec<String>,
        /// Commands or changes that help.
        hints: Vec<String>,
    },
}

impl StepFailure {
    /// Returns a failure before anything ran.
    pub(crate) fn prepared(why: impl Into<String>, causes: Vec<String>) -> Self {
        Self::Prepared { why: why.into(), causes, hints: vec![] }
    }

    /// Returns a failure before anything ran, with its causes.
    pub(crate) fn of(error: &dyn std::error::Error) -> Self {
        let mut texts = event::chain(error);
        let first = texts.remove(0);
        Self::prepared(first, texts)
    }

    /// Adds what helps.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: Option<String>) -> Self {
        if let Self::Prepared { hints, .. } = &mut self {
            hints.extend(hint);
        }
        self
    }

    /// Returns the reason and further causes, as fragments.
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::Ran(how, _) => how.reasons(),
            Self::Network { inner: Some(inner), reasons, .. } => {
                inner.reasons().into_iter().chain(reasons.clone()).collect()
            }
            Self::Network { inner: None, reasons, .. } => {
                let first =
                    "it was refused what it asked the network for, and went on all the same";
                std::iter::once(first.to_owned()).chain(reasons.clone()).collect()
            }
            Self::Prepared { why, causes, .. } => {
                std::iter::once(why).chain(causes).cloned().collect()
            }
        }
    }

    /// Returns commands or changes that help.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Ran(Failure::Reached(reached), _) => vec![reached.hint()],
            Self::Ran(_, seen) => {
                let network =
                    "the step tried to reach a network and has none: give it `network = true`";
                let ids = "build as root, or give this user a larger range in /etc/subuid and \
                    /etc/subgid; ids go up to 2147483646";
                [(seen.no_network, network), (seen.unmapped.is_some(), ids)]
                    .into_iter()
                    .filter(|(holds, _)| *holds)
                    .map(|(_, hint)| hint.to_owned())
                    .collect()
            }
            Self::Network { inner, hints, .. } => {
                let inner = inner.as_ref().map(|inner| inner.hints()).unwrap_or_default();
                hints.iter().cloned().chain(inner).collect()
            }
            Self::Prepared { hints, .. } => hints.clone(),
        }
    }

    /// Whether a full disk or quota is behind it.
    pub fn no_room(&self) -> bool {
        match self {
            Self::Ran(how, seen) => seen.no_room || how.no_room(),
            Self::Network { inner, .. } => inner.as_ref().is_some_and(|inner| inner.no_room()),
            Self::Prepared { .. } => false,
        }
    }
}
