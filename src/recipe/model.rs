//! What a checked recipe holds, every default filled in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::image::Reference;
use crate::schema::{Command, Diagnostic, MountSource, Start};

/// A variable's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Boolean(bool),
}

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
    /// For `{{ epoch }}`: seconds since 1970.
    pub epoch: i64,
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
    pub steps: Vec<Step>,
    /// The stages that the image needs, each after those it needs itself; the others are left
    /// out.
    pub stages: Vec<Stage>,
    /// `[[test]]`s in order.
    pub tests: Vec<Test>,
    /// Those whose `when` is false: they are not run, which is to be said.
    pub tests_off: Vec<Test>,
    /// `[config]`.
    pub config: Config,
    /// `[drift]`.
    pub drift: Drift,
    /// Whether any string used `{{ epoch }}`, or a template file may (then it must be read again
    /// once the epoch is known).
    pub uses_epoch: bool,
    /// What is not wrong but probably not meant either.
    pub warnings: Vec<Diagnostic>,
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
    /// Folder that all paths are relative to, as written (default `.`), relative to the recipe's
    /// folder.
    pub context: PathBuf,
    /// OCI labels.
    pub labels: BTreeMap<String, String>,
    /// Seconds since 1970 for all times in the image.
    pub epoch: Option<i64>,
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
    pub steps: Vec<Step>,
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
    /// Another recipe's file as written, relative to the directory of this one.
    Recipe(PathBuf),
    /// A stage of this recipe.
    Stage(String),
    /// Bootstrapped by bake.
    Debian(Debian),
}

/// `[base] debian`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debian {
    /// Code name: `bookworm`, `trixie`.
    pub suite: String,
    /// Which packages and files.
    pub variant: Variant,
    /// Archive URL, if the recipe names one.
    pub mirror: Option<String>,
    /// Default `["main"]`.
    pub components: Vec<String>,
}

/// `[base] variant`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Variant {
    /// Essential, required and apt.
    #[default]
    Minbase,
    /// The same without documentation (copyright files stay), man pages and locales, for later
    /// packages too.
    Slim,
}

/// One `[[step]]`.
#[derive(Debug, Clone)]
pub struct Step {
    /// `name`, if given.
    pub name: Option<String>,
    /// Line of its `[[step]]`'s kind key, from 1.
    pub line: u32,
    /// What it does.
    pub kind: StepKind,
}

/// The kinds of step.
#[derive(Debug, Clone)]
pub enum StepKind {
    /// `run`.
    Run {
        /// What to run.
        command: Command,
        /// How.
        options: RunOptions,
    },
    /// `script`.
    Script {
        /// Paths below the context, run in order.
        files: Vec<PathBuf>,
        /// `args`.
        args: Vec<String>,
        /// How.
        options: RunOptions,
    },
    /// `copy`.
    Copy {
        /// Paths or globs, trailing `/` kept: below the context, or absolute ones in the stage.
        from: Vec<String>,
        /// The stage they are taken from; none: the context.
        stage: Option<String>,
        /// Absolute path inside.
        to: String,
        /// Default `0:0`.
        owner: Option<String>,
        /// Permission bits.
        mode: Option<u32>,
        /// Globs.
        exclude: Vec<String>,
    },
    /// `download`.
    Download {
        /// http or https URL.
        url: String,
        /// Expected sha256 as 64 hex digits, already chosen for the architecture.
        sha256: Option<String>,
        /// Absolute path inside.
        to: String,
        /// Default `0:0`.
        owner: Option<String>,
        /// Permission bits.
        mode: Option<u32>,
        /// Unpack it.
        unpack: bool,
        /// Leading path components dropped.
        strip: u32,
    },
    /// `template`.
    Template {
        /// Path below the context.
        file: PathBuf,
        /// Absolute path inside.
        to: String,
        /// Default `0:0`.
        owner: Option<String>,
        /// Permission bits, default 0644.
        mode: Option<u32>,
    },
    /// `file`.
    File {
        /// Absolute path inside.
        path: String,
        /// `content` or `append`.
        text: String,
        /// It was `append`.
        append: bool,
        /// Owner.
        owner: Option<String>,
        /// Permission bits.
        mode: Option<u32>,
    },
    /// `mkdir`.
    Mkdir {
        /// Absolute paths inside.
        paths: Vec<String>,
        /// Owner.
        owner: Option<String>,
        /// Permission bits, default 0755.
        mode: Option<u32>,
    },
    /// `symlink`.
    Symlink {
        /// What appears in the image.
        path: String,
        /// Where it points.
        target: String,
    },
    /// `remove`.
    Remove {
        /// Absolute paths or globs inside.
        paths: Vec<String>,
    },
    /// `packages`.
    Packages {
        /// In the manager's own notation.
        names: Vec<String>,
        /// `./x.deb`: paths below the context.
        files: Vec<PathBuf>,
        /// Default false.
        recommends: bool,
        /// Time limit of each try.
        timeout: Option<Duration>,
        /// Further tries after a failure.
        retries: u32,
    },
    /// `repository`.
    Repository {
        /// Base name.
        name: String,
        /// Archive URL.
        url: String,
        /// Suite.
        suite: String,
        /// Components.
        components: Vec<String>,
        /// File below the context, or https URL.
        key: String,
    },
    /// `user`.
    User {
        /// Login name.
        name: String,
        /// Fixed id.
        uid: Option<u32>,
        /// Fixed primary group id.
        gid: Option<u32>,
        /// Home folder.
        home: Option<String>,
        /// Login shell.
        shell: Option<String>,
        /// Supplementary groups.
        groups: Vec<String>,
        /// Below 1000, no home made.
        system: bool,
        /// GECOS.
        comment: Option<String>,
        /// crypt(5) hash.
        password: Option<String>,
        /// authorized_keys lines.
        ssh_keys: Vec<String>,
    },
    /// `group`.
    Group {
        /// Name.
        name: String,
        /// Fixed id.
        gid: Option<u32>,
        /// Below 1000.
        system: bool,
    },
    /// `service`.
    Service {
        /// Units.
        units: Vec<String>,
        /// Default true.
        enabled: bool,
        /// Default false.
        masked: bool,
    },
}

/// Options of `run` and `script`, defaults applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// User inside; default root.
    pub run_as: Option<String>,
    /// Added environment.
    pub env: BTreeMap<String, String>,
    /// What is seen where while it runs, by absolute path; what is written there is discarded.
    pub mounts: BTreeMap<String, MountSource>,
    /// Default `/`.
    pub workdir: Option<String>,
    /// The whole shell list, `sh` and `bash` already spelled out.
    pub shell: Vec<String>,
    /// Default false.
    pub network: bool,
    /// Per try.
    pub timeout: Option<Duration>,
    /// Default 0.
    pub retries: u32,
}

/// One `[[test]]`.
#[derive(Debug, Clone)]
pub struct Test {
    /// `name`, if given.
    pub name: Option<String>,
    /// Line of its check's key, from 1.
    pub line: u32,
    /// What runs meanwhile, in order; may be empty.
    pub start: Vec<Start>,
    /// What is checked.
    pub probe: Probe,
    /// The whole shell list for strings of `start` and `run`, and for scripts without `#!`.
    pub shell: Vec<String>,
    /// How long the check may take to hold.
    pub timeout: Duration,
}

/// What a test checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// `http`.
    Http {
        /// An `http://` URL.
        url: String,
        /// Expected status, default 200.
        status: u16,
        /// Expected part of the body.
        contains: Option<String>,
    },
    /// `tcp`: `host:port`.
    Tcp(String),
    /// `run`.
    Run {
        /// What to run.
        command: Command,
        /// As whom.
        how: ProbeOptions,
    },
    /// `script`.
    Script {
        /// Paths below the context, run in order.
        files: Vec<PathBuf>,
        /// `args`.
        args: Vec<String>,
        /// As whom.
        how: ProbeOptions,
    },
    /// `file` that must be there.
    File {
        /// Absolute path inside.
        path: String,
        /// Expected permission bits.
        mode: Option<u32>,
        /// Expected owner.
        owner: Option<String>,
        /// Expected part of the content.
        contains: Option<String>,
        /// Expected sha256 as 64 hex digits, already chosen for the architecture.
        sha256: Option<String>,
    },
    /// `file` with `absent`: an absolute path inside where there must be nothing.
    Absent(String),
}

/// Options of the checks that run something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeOptions {
    /// User inside; default root.
    pub run_as: Option<String>,
    /// Added to the environment of `[config]`.
    pub env: BTreeMap<String, String>,
    /// Default: that of `[config]`.
    pub workdir: Option<String>,
}

/// `[config]`: how the finished image runs. `None`/empty = not said.
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
