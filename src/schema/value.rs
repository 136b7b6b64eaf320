//! Values of keys that are more than a text or a number.

use std::path::PathBuf;

/// `run`'s value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A string: goes to the shell.
    Shell(String),
    /// A list: executed without one.
    Argv(Vec<String>),
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A path below the context.
    Context(PathBuf),
    /// A path of a stage.
    Stage {
        /// Its name.
        stage: String,
        /// Absolute path in it.
        path: String,
    },
}

/// A directory that is kept between builds, as a step asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Where the step sees it: an absolute path.
    pub to: String,
    /// What names it; none: the image and `to`.
    pub id: Option<String>,
    /// How several steps use it at once.
    pub sharing: Sharing,
}

/// How several steps, of one build or of several, use a kept directory at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Together.
    #[default]
    Shared,
    /// One after the other.
    Locked,
    /// Each one of its own.
    Private,
}

impl Sharing {
    /// The words for them.
    pub(crate) const NAMES: &'static [&'static str] = &["shared", "locked", "private"];

    /// Returns what a word means.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "shared" => Some(Self::Shared),
            "locked" => Some(Self::Locked),
            "private" => Some(Self::Private),
            _ => None,
        }
    }
}

/// One entry of `[[test]] start`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// What `[config]` says.
    Config,
    /// A command.
    Command(Command),
}
