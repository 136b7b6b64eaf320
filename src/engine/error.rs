//! Why a build ended without an image.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::archive;
use crate::base;
use crate::context;
use crate::delivery;
use crate::digest::Digest;
use crate::executor::{NodeFailure, Root, StepFailure, Trouble};
use crate::import;
use crate::inputs;
use crate::job;
use crate::plan::{Plan, lock};
use crate::recipe::{self, Diagnostic};
use crate::sandbox;
use crate::store;
use crate::trial;

/// Why a build ended without an image. Nothing was published in any of these cases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The recipe has mistakes.
    #[error("{}", recipe::summary(.0))]
    Recipe(Vec<Diagnostic>),
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
    /// The lock file pins other programs that make file systems than those in the store.
    #[error("{} pins the toolbox {pinned}, and the store has {found}", path.display())]
    OtherToolbox {
        /// The lock file.
        path: PathBuf,
        /// Digest of the one that is pinned.
        pinned: Digest,
        /// Digest of the one in the store.
        found: Digest,
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
        /// Line of the recipe, or of `part`.
        line: u32,
        /// The included file that the line is of.
        part: Option<Arc<Path>>,
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
    /// The image that is the base cannot be had from where it is.
    #[error("cannot use the base: {base}")]
    BaseImport {
        /// What the base is called.
        base: String,
        /// The recipe.
        recipe: PathBuf,
        /// Line of `[base]`.
        line: u32,
        /// Why.
        source: import::Error,
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
        /// Line of the recipe, or of `part`.
        line: u32,
        /// The included file that the line is of.
        part: Option<Arc<Path>>,
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
    /// An output of the image could not be made.
    #[error(transparent)]
    Output(delivery::Error),
    /// Another recipe of the same run failed.
    #[error("another recipe of this run failed")]
    OtherFailed,
    /// What every job needs cannot be had.
    #[error(transparent)]
    Job(#[from] job::Error),
}

impl Error {
    /// Makes the error of a base that cannot be had from where it is.
    pub(super) fn base_import(plan: &Plan, recipe: &Path, source: import::Error) -> Self {
        let source = match source {
            import::Error::Job(error) => return error.into(),
            source => source,
        };
        let (base, line) = (plan.base.clone(), plan.base_line);
        Self::BaseImport { base, recipe: recipe.to_owned(), line, source }
    }

    /// Whether a full disk or quota is behind it.
    pub fn no_room(&self) -> bool {
        match self {
            Self::Step { why, .. } => why.no_room(),
            Self::Job(job::Error::Call { how, seen, .. }) => seen.no_room || how.no_room(),
            Self::Base {
                source: base::Error::Archive(archive::Error::Failed { no_room, .. }),
                ..
            } => *no_room,
            other => sandbox::errno_of(other).is_some_and(sandbox::is_no_room),
        }
    }
}

impl Error {
    /// Returns the error of a node of `root` that was not carried out.
    pub(super) fn of(root: &Root, index: usize, failed: NodeFailure) -> Self {
        let NodeFailure { trouble, tail, log } = failed;
        let (label, line) = root.label(index);
        let recipe = root.recipe_path.clone();
        match trouble {
            Trouble::Job(error) => error.into(),
            Trouble::Shell(error) => error.into(),
            Trouble::NotLocked { path, why } => Self::NotLocked { path, why },
            Trouble::Broken { why, hint } => {
                Self::Broken { image: root.plan.image.clone(), why, hint }
            }
            Trouble::Base(source) => Self::Base { base: label, recipe, line, source, tail, log },
            Trouble::Step(why) => {
                let (place, part) = (root.place(index), root.part(index));
                Self::Step { place, label, recipe, line, part, why, tail, log }
            }
        }
    }
}

impl From<inputs::Error> for Error {
    fn from(error: inputs::Error) -> Self {
        match error {
            inputs::Error::Recipe(found) => Self::Recipe(found),
            inputs::Error::File { path, source } => {
                job::Error::File { verb: "read", path, source }.into()
            }
            inputs::Error::Context { recipe, source } => Self::Context { recipe, source },
        }
    }
}

impl From<delivery::Error> for Error {
    fn from(error: delivery::Error) -> Self {
        match error {
            delivery::Error::Job(error) => error.into(),
            error => Self::Output(error),
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Job(error.into())
    }
}

impl From<sandbox::Error> for Error {
    fn from(error: sandbox::Error) -> Self {
        Self::Job(error.into())
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

/// Which recipe of a run failed, and how.
#[derive(Debug)]
pub struct Failed {
    /// The recipe.
    pub recipe: PathBuf,
    /// Which of its builds, where it has several: `php=8.2`.
    pub build: String,
    /// How.
    pub error: Box<Error>,
}

/// Draws a cycle: `a -> b -> a`.
fn drawn(cycle: &[PathBuf]) -> String {
    let names: Vec<String> = cycle.iter().map(|path| path.display().to_string()).collect();
    names.join(" -> ")
}
