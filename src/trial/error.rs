//! Why a test, a container or a shell came to nothing.

use std::path::{Path, PathBuf};

use crate::job;
use crate::sandbox::{self, Reached};
use crate::step::LoweredTest;
use crate::store;

/// Why a test, a container or a shell came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A test failed.
    #[error("{place} failed: {label}")]
    Test {
        /// `test 2 of 3`.
        place: String,
        /// What the test is called.
        label: String,
        /// The recipe, where it comes from one.
        recipe: Option<PathBuf>,
        /// Line of the recipe.
        line: Option<u32>,
        /// Why, from the outside in.
        why: Vec<String>,
        /// Last lines of output of the container.
        tail: Vec<String>,
        /// What to do about it, where that is known.
        hints: Vec<String>,
        /// All of it; empty where it did not come so far.
        log: PathBuf,
    },
    /// An image could not be started as its config has it.
    #[error("the image cannot be started as [config] has it")]
    Unstartable {
        /// The recipe.
        recipe: PathBuf,
        /// What would not start; at least one.
        why: Vec<Unstartable>,
    },
    /// An image without tests was to be tested.
    #[error("{image} was published without tests")]
    NoTests {
        /// `name:version`.
        image: String,
    },
    /// An image without a program was to be run as it is.
    #[error("{image} names nothing to run")]
    NothingToRun {
        /// `name:version`.
        image: String,
    },
    /// The programs of a container used more than they may.
    #[error("the container was ended: {}", .0.reason())]
    Limited(Reached),
    /// The program of a container could not be started.
    #[error("cannot start the program")]
    NotStarted {
        /// Why, from the outside in.
        why: Vec<String>,
    },
    /// A port of the host cannot be published on.
    #[error("cannot listen on {address}")]
    Port {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A machine cannot be booted, whatever the image is.
    #[error("cannot boot a machine")]
    NoMachine {
        /// Why, from the outside in.
        why: Vec<String>,
    },
    /// The image is none that a machine boots.
    #[error("cannot boot the image: {}", why.join(": "))]
    NotBootable {
        /// Why, from the outside in.
        why: Vec<String>,
        /// What to do about it.
        hints: Vec<String>,
    },
    /// A machine was asked to end and did not.
    #[error("the machine did not end within {} s, and was cut off", within.as_secs())]
    NotEnded {
        /// How long it had for that.
        within: std::time::Duration,
    },
    /// A job could not do its work.
    #[error(transparent)]
    Job(#[from] job::Error),
}

/// Something that the config of an image names and that is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unstartable {
    /// The key of `[config]`: `user`, `entrypoint`, `cmd`, `healthcheck`.
    pub key: String,
    /// Its line in the recipe, from 1.
    pub line: Option<u32>,
    /// Why it would not start.
    pub why: String,
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

/// Returns the error for a script of a test that cannot be read.
pub(crate) fn unreadable(recipe: &Path, (test, why): (LoweredTest, Vec<String>)) -> Error {
    Error::Test {
        place: "a test".to_owned(),
        label: test.label,
        recipe: Some(recipe.to_owned()),
        line: Some(test.line),
        why,
        tail: vec![],
        hints: vec![],
        log: PathBuf::new(),
    }
}
