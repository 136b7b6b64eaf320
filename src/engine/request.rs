//! What is asked of a build, and what comes of it.

use std::path::PathBuf;
use std::time::Duration;

use super::locking::LockMode;
use crate::delivery::Delivered;
use crate::digest::Digest;
use crate::import;
use crate::inputs::Looked;
use crate::recipe;
use crate::registry;

/// How the network is used.
#[derive(Debug, Clone, Default)]
pub struct NetworkOptions {
    /// `--debian-mirror`.
    pub mirror: Option<String>,
    /// `--network-timeout`: how long a server may be silent.
    pub timeout: Option<Duration>,
    /// Files and directories of certificates (PEM) that https trusts instead of the system's.
    pub authorities: Vec<PathBuf>,
    /// How registries are spoken to.
    pub registry: registry::Options,
    /// What images of other tools and of registries were found to be in this run.
    pub resolved: import::Resolved,
    /// `--allow-expired`: package lists are taken also after their Valid-Until.
    pub allow_expired: bool,
}

/// What a person asks for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The recipe.
    pub recipe: PathBuf,
    /// What it is read with.
    pub inputs: recipe::Inputs,
    /// What `look_over` made of it, where that was asked already.
    pub checked: Option<Looked>,
    /// How the lock file is treated.
    pub lock: LockMode,
    /// `SOURCE_DATE_EPOCH`.
    pub epoch: Option<i64>,
    /// How the network is used.
    pub network: NetworkOptions,
    /// `--no-cache`.
    pub no_cache: NoCache,
    /// `--paranoid`: run cached steps again and compare.
    pub paranoid: bool,
    /// `--no-test`: publish without running the tests.
    pub no_test: bool,
    /// `--tools`: which programs make file systems.
    pub tools: ToolsFrom,
    /// `--on-failure=shell`: let the person at the terminal look into the step that fails.
    pub shell_on_failure: bool,
}

/// Which programs make file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ToolsFrom {
    /// Those of the toolbox image.
    #[default]
    Toolbox,
    /// The host's.
    Host,
}

/// Which steps run although they are cached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NoCache {
    /// None.
    #[default]
    No,
    /// All.
    All,
    /// Those of these numbers or names; `base` is the base.
    Steps(Vec<String>),
}

/// A published image.
#[derive(Debug, Clone)]
pub struct Baked {
    /// `name:version`.
    pub image: String,
    /// Image name.
    pub name: String,
    /// Image version.
    pub version: String,
    /// The manifest's digest.
    pub digest: Digest,
    /// It was published already, with this very content.
    pub already: bool,
    /// How long the build took.
    pub took: Duration,
    /// What was made of it outside of the store, or was there.
    pub outputs: Vec<Delivered>,
}
