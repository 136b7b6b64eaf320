//! Why a build ended without an image.

use std::path::PathBuf;

use crate::archive;
use crate::base;
use crate::context;
use crate::event;
use crate::inputs;
use crate::job;
use crate::layer;
use crate::plan::lock;
use crate::recipe::Diagnostic;
use crate::sandbox::{self, Circumstances, Failure};
use crate::store;
use crate::trial;

/// Why a build ended without an image. Nothing was published in any of these cases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The recipe has mistakes.
    #[error("the recipe has {} {}", .0.len(), if .0.len() == 1 { "mistake" } else { "mistakes" })]
    Recipe(Vec<Diagnostic>),
    /// A file beside the recipe cannot be read or written.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// `read`, `write`.
        verb: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The lock file cannot be used.
    #[error("cannot use {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: lock::Error,
    },
    /// `--locked`, and the lock file does not pin just what the recipe needs.
    #[error("{} {why}, and --locked forbids to change it", path.display())]
    NotLocked {
        /// The lock file.
        path: PathBuf,
        /// `does not pin the packages curl`.
        why: String,
    },
    /// The finished image cannot work as it is configured.
    #[error("{image} cannot work: {why}")]
    Broken {
        /// Its name and version.
        image: String,
        /// Why.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// A step failed.
    #[error("{place} failed: {label}")]
    Step {
        /// `step 3 of 5`.
        place: String,
        /// What the step is called.
        label: String,
        /// The recipe.
        recipe: PathBuf,
        /// Line of the recipe.
        line: u32,
        /// How it failed.
        why: StepFailure,
        /// Last lines of its output.
        tail: Vec<String>,
        /// Its whole log, if it came so far.
        log: Option<PathBuf>,
    },
    /// A test of the image failed, or a program in it.
    #[error(transparent)]
    Trial(trial::Error),
    /// The context cannot be read.
    #[error("cannot read the context")]
    Context {
        /// The recipe.
        recipe: PathBuf,
        /// Why.
        source: context::Error,
    },
    /// The base could not be made.
    #[error("cannot make the base: {base}")]
    Base {
        /// What the base is called.
        base: String,
        /// The recipe.
        recipe: PathBuf,
        /// Line of `[base]`.
        line: u32,
        /// Why.
        source: base::Error,
        /// Last lines of output, where something ran.
        tail: Vec<String>,
        /// Its log, if it came so far.
        log: Option<PathBuf>,
    },
    /// A recipe stands on itself.
    #[error("a recipe that stands on itself: {}", self::drawn(.cycle))]
    RecipeCycle {
        /// From the recipe to itself.
        cycle: Vec<PathBuf>,
    },
    /// Two recipes of one run make the same version.
    #[error("{image} comes from two recipes: {} and {}", first.display(), second.display())]
    SameImage {
        /// `name:version`.
        image: String,
        /// The one named first.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// The image that is the base cannot be used.
    #[error("cannot use the base: {base}")]
    BaseImage {
        /// What the base is called.
        base: String,
        /// The recipe.
        recipe: PathBuf,
        /// Line of `[base]`.
        line: u32,
        /// Why, from the outside in.
        why: Vec<String>,
    },
    /// The version exists with other content.
    #[error("{image} is already published with other content")]
    VersionTaken {
        /// `name:version`.
        image: String,
        /// Digest of the published manifest.
        have: String,
        /// The recipe.
        recipe: PathBuf,
    },
    /// `--paranoid`, and a cached step gave something else this time.
    #[error("{place} gave another layer than the one in the cache: {label}")]
    Unreproducible {
        /// `step 3 of 5`.
        place: String,
        /// What the step is called.
        label: String,
        /// The recipe.
        recipe: PathBuf,
        /// Line of the recipe.
        line: u32,
        /// What differs, a path of the image each.
        paths: Vec<String>,
    },
    /// `--no-cache=STEP`, and there is no such step.
    #[error("the recipe has no step {name:?}")]
    NoStep {
        /// As given.
        name: String,
        /// What the steps are called, the base first.
        steps: Vec<String>,
        /// The recipe.
        recipe: PathBuf,
    },
    /// Another recipe of the same run failed.
    #[error("another recipe of this run failed")]
    OtherFailed,
    /// The store cannot be used.
    #[error("cannot use the store")]
    Store(#[from] store::Error),
    /// The sandbox cannot do its work.
    #[error("cannot run the sandbox")]
    Sandbox(#[from] sandbox::Error),
    /// A layer could not be made.
    #[error("cannot make the layer of {label}")]
    Layer {
        /// What the step is called.
        label: String,
        /// Why.
        source: layer::Error,
    },
    /// A chore inside the sandbox failed.
    #[error("cannot {what}")]
    Chore {
        /// What it was for.
        what: String,
        /// What it said.
        why: String,
    },
    /// A call inside the sandbox failed.
    #[error("cannot {what}")]
    Call {
        /// What it was for.
        what: String,
        /// How it failed.
        how: Failure,
        /// What else was seen.
        seen: Circumstances,
    },
    /// The person pressed Ctrl-C, or the process was told to end.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Whether a full disk or quota is behind it.
    pub fn no_room(&self) -> bool {
        match self {
            Self::Step { why, .. } => why.no_room(),
            Self::Call { how, seen, .. } => seen.no_room || how.no_room(),
            Self::Base {
                source: base::Error::Archive(archive::Error::Failed { no_room, .. }),
                ..
            } => *no_room,
            other => sandbox::errno_of(other).is_some_and(sandbox::is_no_room),
        }
    }
}

impl From<inputs::Error> for Error {
    fn from(error: inputs::Error) -> Self {
        match error {
            inputs::Error::Recipe(found) => Self::Recipe(found),
            inputs::Error::File { path, source } => Self::File { verb: "read", path, source },
            inputs::Error::Context { recipe, source } => Self::Context { recipe, source },
        }
    }
}

impl From<job::Error> for Error {
    fn from(error: job::Error) -> Self {
        match error {
            job::Error::File { verb, path, source } => Self::File { verb, path, source },
            job::Error::Store(error) => Self::Store(error),
            job::Error::Sandbox(error) => Self::Sandbox(error),
            job::Error::Layer { label, source } => Self::Layer { label, source },
            job::Error::Call { what, how, seen } => Self::Call { what, how, seen },
            job::Error::Failed { what, why } => Self::Chore { what, why },
            job::Error::Interrupted => Self::Interrupted,
        }
    }
}

impl From<trial::Error> for Error {
    fn from(error: trial::Error) -> Self {
        match error {
            trial::Error::Job(error) => error.into(),
            error => Self::Trial(error),
        }
    }
}

/// How a step failed.
#[derive(Debug, Clone)]
pub enum StepFailure {
    /// The program or operation in the sandbox.
    Ran(Failure, Circumstances),
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
    pub(super) fn prepared(why: impl Into<String>, causes: Vec<String>) -> Self {
        Self::Prepared { why: why.into(), causes, hints: vec![] }
    }

    /// Returns a failure before anything ran, with its causes.
    pub(super) fn told(error: &dyn std::error::Error) -> Self {
        let mut texts = event::chain(error);
        let first = texts.remove(0);
        Self::prepared(first, texts)
    }

    /// Adds what helps.
    #[must_use]
    pub(super) fn with_hint(mut self, hint: Option<String>) -> Self {
        if let Self::Prepared { hints, .. } = &mut self {
            hints.extend(hint);
        }
        self
    }

    /// Returns the reason and further causes, as fragments.
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::Ran(how, _) => how.reasons(),
            Self::Prepared { why, causes, .. } => {
                std::iter::once(why).chain(causes).cloned().collect()
            }
        }
    }

    /// Returns commands or changes that help.
    pub fn hints(&self) -> Vec<String> {
        match self {
            Self::Ran(_, seen) => {
                let network =
                    "the step tried to reach a network and has none: give it `network = true`";
                let ids = "build as root, or give this user a larger range in /etc/subuid and /etc/subgid; ids go up to 2147483646";
                [(seen.no_network, network), (seen.unmapped.is_some(), ids)]
                    .into_iter()
                    .filter(|(holds, _)| *holds)
                    .map(|(_, hint)| hint.to_owned())
                    .collect()
            }
            Self::Prepared { hints, .. } => hints.clone(),
        }
    }

    /// Whether a full disk or quota is behind it.
    pub fn no_room(&self) -> bool {
        match self {
            Self::Ran(how, seen) => seen.no_room || how.no_room(),
            Self::Prepared { .. } => false,
        }
    }
}
/// Which recipe of a run failed, and how.
#[derive(Debug)]
pub struct Failed {
    /// The recipe.
    pub recipe: PathBuf,
    /// How.
    pub error: Error,
}

/// Draws a cycle: `a -> b -> a`.
fn drawn(cycle: &[PathBuf]) -> String {
    let names: Vec<String> = cycle.iter().map(|path| path.display().to_string()).collect();
    names.join(" -> ")
}
