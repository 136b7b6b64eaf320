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

/// One entry of `[[test]] start`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// What `[config]` says.
    Config,
    /// A command.
    Command(Command),
}
