//! What a checked recipe holds, every default filled in.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::parts::Parts;
use super::value::Value;
use super::variant::Variant;
use super::workspace::{WorkspaceFile, Workspaces};
use crate::image::{Platform, Reference, RemoteName};
use crate::schema::{Command, Diagnostic, is_oci_path};
use crate::step::{Lowered, LoweredTest};

/// What the caller knows besides the recipe text.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Path of the recipe as the person wrote it, for messages.
    pub file: PathBuf,
    /// `--set-version`.
    pub version: Option<String>,
    /// `--var name=value`, in order.
    pub vars: Vec<(String, String)>,
    /// `--vars-file`: path and text, in order.
    pub vars_files: Vec<(PathBuf, String)>,
    /// `BAKE_VAR_x` of the environment, without the prefix.
    pub env_vars: BTreeMap<String, String>,
    /// OCI architecture of the image: `amd64`, `arm64`, ….
    pub arch: String,
    /// The platform with that architecture that is built for; none where only that counts.
    pub platform: Option<Platform>,
    /// `--platform`: what to build for; empty: what the recipe says.
    pub platforms: Vec<Platform>,
    /// For `{{ epoch }}`: seconds since 1970.
    pub epoch: i64,
    /// `--output`: as given, in order.
    pub outputs: Vec<String>,
    /// The workspace that the recipe is in.
    pub workspace: Option<Arc<WorkspaceFile>>,
    /// Those that are known; `None` where a recipe is read without any.
    pub workspaces: Option<Workspaces>,
    /// `--variant name=value`, in order: which of the variants are meant.
    pub variants: Vec<(String, String)>,
    /// The variant that is read; where the recipe has several, the empty one stands for the first.
    pub variant: Variant,
    /// Where the texts of included files come from; none: no file can be included.
    pub parts: Option<Arc<dyn Parts>>,
}

impl Inputs {
    /// Returns the same for another platform.
    #[must_use]
    pub fn for_platform(&self, platform: &Platform) -> Self {
        let (arch, platform) = (platform.architecture.clone(), Some(platform.clone()));
        Self { arch, platform, ..self.clone() }
    }
}

/// An included file, once for each time that it is included.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its path as people would write it beside the recipe's, for messages.
    pub file: Arc<Path>,
    /// What it says.
    pub text: Arc<str>,
    /// The variables that its steps see, as [`Recipe::vars`].
    pub vars: BTreeMap<String, Value>,
    /// All variables have their values; of a recipe without mistakes they always have.
    pub vars_known: bool,
}

/// A checked recipe with every `{{ }}` replaced and every `when` decided (false steps are gone).
#[derive(Debug, Clone)]
pub struct Recipe {
    /// `[image]`.
    pub image: Image,
    /// Variables with their final values, built-ins included, for templates.
    pub vars: BTreeMap<String, Value>,
    /// `[base]`.
    pub base: Base,
    /// `[[step]]`s in order, defaults applied.
    pub steps: Vec<Lowered>,
    /// The files that steps, those of stages too, are included from.
    pub parts: Vec<Part>,
    /// The stages that the image needs, each after those it needs itself; the others are left
    /// out.
    pub stages: Vec<Stage>,
    /// `[[test]]`s in order.
    pub tests: Vec<LoweredTest>,
    /// Those whose `when` is false: they are not run, which is reported.
    pub tests_off: Vec<LoweredTest>,
    /// `[config]`.
    pub config: Config,
    /// `[drift]`.
    pub drift: Drift,
    /// `[[output]]`s that are on, in order, and behind them those of the command line.
    pub outputs: Vec<Output>,
    /// Those that are a push.
    pub pushes: Vec<RemoteName>,
    /// Whether any string used `{{ epoch }}`, or a template file may (then it must be read again
    /// once the epoch is known).
    pub uses_epoch: bool,
    /// Line of `[matrix]`; 0 without one.
    pub matrix_line: u32,
    /// What is not wrong but probably not meant either.
    pub warnings: Vec<Diagnostic>,
}

/// A recipe with mistakes.
#[derive(Debug)]
pub struct Broken {
    /// All of them, warnings among them, in the order of the text.
    pub mistakes: Vec<Diagnostic>,
    /// What is right nevertheless.
    pub right: Right,
}

/// What is right of a recipe with mistakes, as far as it names files: so that a missing one can be
/// reported along with the mistakes.
#[derive(Debug, Clone, Default)]
pub struct Right {
    /// `[image] context`, where it is known.
    pub context: Option<PathBuf>,
    /// `[image] platforms`.
    pub platforms: Vec<Platform>,
    /// The variables, where all have their values.
    pub vars: Option<BTreeMap<String, Value>>,
    /// The files that steps are included from.
    pub parts: Vec<Part>,
    /// Bases of the image and of stages.
    pub bases: Vec<Base>,
    /// Steps of the image and of stages.
    pub steps: Vec<Lowered>,
    /// Tests that are on.
    pub tests: Vec<LoweredTest>,
}

impl Recipe {
    /// Returns the variables that templates of a step see: the recipe's, or those of the included
    /// file that it stands in.
    #[must_use]
    pub fn vars_of(&self, step: &Lowered) -> &BTreeMap<String, Value> {
        step.part.as_ref().map_or(&self.vars, |part| &self.parts[part.number].vars)
    }

    /// Returns what names files.
    #[must_use]
    pub fn right(&self) -> Right {
        let stages = || self.stages.iter();
        Right {
            context: Some(self.image.context.clone()),
            platforms: self.image.platforms.clone(),
            vars: Some(self.vars.clone()),
            parts: self.parts.clone(),
            bases: stages().map(|stage| &stage.base).chain([&self.base]).cloned().collect(),
            steps: stages().flat_map(|stage| &stage.steps).chain(&self.steps).cloned().collect(),
            tests: self.tests.clone(),
        }
    }
}

/// `[image]`.
#[derive(Debug, Clone)]
pub struct Image {
    /// As OCI repository names.
    pub name: String,
    /// As OCI tags.
    pub version: String,
    /// For people.
    pub description: Option<String>,
    /// Directory that all paths are relative to, as written (default `.`), relative to the recipe's
    /// directory.
    pub context: PathBuf,
    /// OCI labels.
    pub labels: BTreeMap<String, String>,
    /// Seconds since 1970 for all times in the image.
    pub epoch: Option<i64>,
    /// What it is built for, each once; empty: this machine.
    pub platforms: Vec<Platform>,
    /// `gzip`, `zstd` or `none`.
    pub compression: Compression,
}

/// `[image] compression`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Every reader takes it.
    #[default]
    Gzip,
    /// Smaller and faster; readers since about 2020.
    Zstd,
    /// Not compressed.
    None,
}

impl Compression {
    /// Returns it as the recipe writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::None => "none",
        }
    }
}

/// `[stage.NAME]`: a further root file system of the same build.
#[derive(Debug, Clone)]
pub struct Stage {
    /// What `from` and `[base] stage` call it.
    pub name: String,
    /// Line of the recipe where it starts, from 1.
    pub line: u32,
    /// `[stage.NAME.base]`.
    pub base: Base,
    /// `[[stage.NAME.step]]`s in order, the defaults of the recipe and of the stage applied.
    pub steps: Vec<Lowered>,
}

/// `[base]`, with the line it stands on.
#[derive(Debug, Clone)]
pub struct Base {
    /// Line of the recipe, from 1.
    pub line: u32,
    /// Which.
    pub kind: BaseKind,
    /// What the modes of a directory mean.
    pub modes: Modes,
}

/// `[base] modes`: what the modes of the files of a directory mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modes {
    /// 0755 for directories and executable files, 0644 for others, as a checkout under the usual
    /// umask has them.
    #[default]
    Checkout,
    /// What they are.
    Kept,
}

/// The kinds of base.
#[derive(Debug, Clone)]
pub enum BaseKind {
    /// Nothing.
    Scratch,
    /// A tar (plain, gz, xz, zst) or a directory below the context.
    Path(PathBuf),
    /// An image of the store; never without version, digest or channel.
    Image(Reference),
    /// An image that another tool keeps.
    Oci(Oci),
    /// Another recipe's file as written, relative to the directory of this one.
    Recipe(PathBuf),
    /// A stage of this recipe.
    Stage(String),
    /// Bootstrapped by bake.
    Debian(Debian),
}

/// `[base] oci`, or what a step takes files from: an image that another tool keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oci {
    /// As written.
    pub from: String,
    /// What that means.
    pub source: OciSource,
    /// Which image of an archive or a layout, where there are several.
    pub named: Option<String>,
}

/// Where an image of another tool is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OciSource {
    /// A directory or an archive, relative to the context.
    Path(PathBuf),
    /// A registry.
    Registry(RemoteName),
}

impl Oci {
    /// Returns the image that the text `from` of a recipe means, which has been checked.
    #[must_use]
    pub fn new(from: String, named: Option<String>) -> Option<Self> {
        let source = match is_oci_path(&from) {
            true => OciSource::Path(from.strip_prefix("./").unwrap_or(&from).into()),
            false => OciSource::Registry(from.parse().ok()?),
        };
        Some(Self { from, source, named })
    }
}

impl fmt::Display for Oci {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.from)?;
        match &self.named {
            Some(named) => write!(f, " {named}"),
            None => Ok(()),
        }
    }
}

/// `[base] debian`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debian {
    /// Code name: `bookworm`, `trixie`.
    pub suite: String,
    /// Which packages and files.
    pub variant: DebianVariant,
    /// Archive URL, if the recipe names one.
    pub mirror: Option<String>,
    /// Default `["main"]`.
    pub components: Vec<String>,
}

/// `[base] variant`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DebianVariant {
    /// Essential, required and apt.
    #[default]
    Minbase,
    /// The same without documentation (copyright files stay), man pages and locales, for later
    /// packages too.
    Slim,
}

/// `[config]`: how the finished image runs. `None`/empty: not given.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Exec form.
    pub entrypoint: Option<Vec<String>>,
    /// Exec form.
    pub cmd: Option<Vec<String>>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// User.
    pub user: Option<String>,
    /// Working directory.
    pub workdir: Option<String>,
    /// `80/tcp`, `53/udp`.
    pub ports: Vec<String>,
    /// Absolute paths.
    pub volumes: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `SIGQUIT`.
    pub stop_signal: Option<String>,
    /// Docker's extension.
    pub healthcheck: Option<Healthcheck>,
    /// Lines of the keys that name something in the image, from 1.
    pub lines: BTreeMap<&'static str, u32>,
}

/// `[drift]`: what a machine may change and still be this image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drift {
    /// Patterns in gitignore notation over absolute paths.
    pub ignore: Vec<String>,
}

/// `[[output]]`, or `--output`.
#[derive(Debug, Clone)]
pub struct Output {
    /// One of the names in the table of keys.
    pub format: String,
    /// As written, with its `{{ }}` replaced.
    pub path: PathBuf,
    /// It is of the command line: the path is relative to the current directory, else to the
    /// recipe's.
    pub given: bool,
    /// Of a directory: nothing keeps its owner.
    pub drop_owners: bool,
    /// Of a file system: its bytes.
    pub size: Option<u64>,
    /// Of a file system: its name.
    pub label: Option<String>,
    /// Of a file system: how it is compressed.
    pub compression: Option<String>,
    /// Of a directory of versions: how many stay.
    pub keep: Option<usize>,
    /// Of a disk: the rest of it.
    pub disk: DiskOutput,
    /// Where the path stands, as a mistake without a message.
    pub place: Diagnostic,
}

/// What an output that is a disk has besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskOutput {
    /// The root is written to; else it is read-only and checked.
    pub writable: bool,
    /// Added to the kernel's command line.
    pub command_line: String,
    /// Bytes of the boot partition.
    pub esp: Option<u64>,
    /// Bytes of a partition for a root, of which there are two; none: there is one, as large as the
    /// root.
    pub slot: Option<u64>,
    /// Serial numbers of data disks, by where they are mounted.
    pub data: BTreeMap<String, String>,
}

/// `[config] healthcheck`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthcheck {
    /// Exec form, or one string for the shell.
    pub cmd: Command,
    /// Between checks.
    pub interval: Option<Duration>,
    /// Per check.
    pub timeout: Option<Duration>,
    /// Grace at start.
    pub start_period: Option<Duration>,
    /// Failures until unhealthy.
    pub retries: Option<u32>,
}
