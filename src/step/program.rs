//! What kinds share that run programs of the recipe: options, their keys, and `[defaults]`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::limit::Limits;
use super::op::Cache;
use super::shown::{Mount, Secrets};
use crate::reach::Reach;
use crate::schema::{Check, Command, Fields, Kept, Key, MountSource, Shape, may};

/// `as`.
pub(crate) const AS: Key = may(
    "as",
    Shape::Text(Check::RunAs),
    "The user it runs as, `name`, `name:group` or ids. Default: root.",
);

/// `workdir`.
pub(crate) const WORKDIR: Key = may(
    "workdir",
    Shape::Text(Check::Inside),
    "Working directory inside, made if missing. Default: `/`.",
);

/// `shell`.
pub(crate) const SHELL: Key = may(
    "shell",
    Shape::Shell,
    "`sh` (default): `/bin/sh -eu -c`; `bash`: `/bin/bash -euo pipefail -c`; or the whole list.",
);

/// `env`.
pub(crate) const ENV: Key = may(
    "env",
    Shape::Map(Check::EnvName),
    "Environment, strings or integers. Example: `env.NODE_ENV = \"production\"`.",
);

/// `network`.
pub(crate) const NETWORK: Key = may(
    "network",
    Shape::Network,
    "What of the network can be reached. `true`: every public host, \
        from a network of the step's own; a list: these hosts only, as `NAME`, `*.NAME`, \
        `ADDRESS/BITS`, each with `:PORT` if need be; `\"host\"`: whatever this host reaches, its \
        own services too. Default: `false`.",
);

/// `mount`.
pub(crate) const MOUNT: Key = may(
    "mount",
    Shape::Mounts,
    "What is seen at a path while the step runs: a path of the context, or a path of a stage. \
        Writes are discarded. Examples: `mount.\"/src\" = \"web/\"`, `mount.\"/src\" = { from \
        = \"build\", path = \"/out\" }`.",
);

/// `cache`.
pub(crate) const CACHE: Key = may(
    "cache",
    Shape::Caches,
    "Directories that are kept between builds and are in no image: what a program would fetch or \
        compute again. Examples: `cache = [\"/root/.cache/pip\"]`, `cache = [{ to = \
        \"/root/.npm\", id = \"npm\" }]`.",
);

/// `secrets`.
pub(crate) const SECRETS: Key = may(
    "secrets",
    Shape::List(Check::SecretName),
    "Secrets that the step reads from `/run/secrets/NAME`; who builds gives them with `--secret \
        NAME=…`. The key of the step has the name and not the value.",
);

/// `secret_env`.
pub(crate) const SECRET_ENV: Key = may(
    "secret_env",
    Shape::Map(Check::EnvName),
    "Secrets in the environment of the step, by the names of their variables. Prefer `secrets`: \
        a file is read by one program, a variable is handed to all. Example: `secret_env.TOKEN = \
        \"token\"`.",
);

/// `ssh`.
pub(crate) const SSH: Key = may(
    "ssh",
    Shape::Boolean,
    "Whether the step reaches the SSH agent of who builds, given with `--ssh`, at \
        `$SSH_AUTH_SOCK`: it may ask which keys there are, and have things signed. Default: \
        `false`.",
);

/// `timeout`.
pub(crate) const TIMEOUT: Key =
    may("timeout", Shape::Text(Check::Duration), "Time limit of each try. Example: `90s`, `10m`.")
        .without_effect();

/// `retries`.
pub(crate) const RETRIES: Key = may(
    "retries",
    Shape::Integer(0, 100),
    "Further tries after a failure, each on a fresh root. Default: 0.",
)
.without_effect();

/// Options as one place says them: a step, `[defaults]`.
#[derive(Debug, Default)]
pub(crate) struct Options {
    run_as: Option<String>,
    env: BTreeMap<String, String>,
    mounts: BTreeMap<String, MountSource>,
    caches: Vec<Kept>,
    secrets: Secrets,
    ssh: bool,
    workdir: Option<String>,
    shell: Option<Vec<String>>,
    network: Option<Reach>,
    timeout: Option<Duration>,
    retries: Option<u32>,
    limits: Limits,
}

impl Options {
    /// Takes what the fields say.
    pub(crate) fn of(fields: &Fields) -> Options {
        Options {
            run_as: fields.text("as"),
            env: fields.map("env"),
            mounts: fields.mounts("mount"),
            caches: fields.caches("cache"),
            secrets: secrets(fields),
            ssh: fields.boolean("ssh").unwrap_or(false),
            workdir: fields.text("workdir"),
            shell: fields.given_list("shell"),
            network: fields.reach("network"),
            timeout: fields.duration("timeout"),
            retries: fields.integer("retries"),
            limits: Limits::of(fields),
        }
    }

    /// Joins one's own options with the defaults: maps add, single values replace.
    pub(crate) fn over(self, defaults: &Options) -> Options {
        let mut env = defaults.env.clone();
        env.extend(self.env);
        let mut mounts = defaults.mounts.clone();
        mounts.extend(self.mounts);
        let mut caches = self.caches;
        let further =
            defaults.caches.iter().filter(|one| caches.iter().all(|own| own.to != one.to));
        let further: Vec<Kept> = further.cloned().collect();
        caches.extend(further);
        Options {
            run_as: self.run_as.or_else(|| defaults.run_as.clone()),
            env,
            mounts,
            caches,
            // A step says itself which secrets it sees.
            secrets: self.secrets,
            ssh: self.ssh,
            workdir: self.workdir.or_else(|| defaults.workdir.clone()),
            shell: self.shell.or_else(|| defaults.shell.clone()),
            network: self.network.or_else(|| defaults.network.clone()),
            timeout: self.timeout.or(defaults.timeout),
            retries: self.retries.or(defaults.retries),
            limits: self.limits.or(defaults.limits),
        }
    }

    /// Returns the shell of a test, of which the other options do not count.
    pub(crate) fn shell_of(&self, test: &Fields) -> Vec<String> {
        test.given_list("shell").or_else(|| self.shell.clone()).unwrap_or_else(sh)
    }

    /// Returns what of these concerns steps that run a tool of bake's choice, not programs of the
    /// recipe: no user, no directory, no mounts.
    pub(super) fn without_programs(&self) -> Options {
        Options {
            env: self.env.clone(),
            network: self.network.clone(),
            timeout: self.timeout,
            retries: self.retries,
            limits: self.limits,
            ..Options::default()
        }
    }

    /// Returns the limits of a step that runs programs of its own choice.
    pub(super) fn limits(&self) -> RunOptions {
        let retries = self.retries.unwrap_or(0);
        let (timeout, limits) = (self.timeout, self.limits);
        RunOptions { timeout, retries, limits, ..RunOptions::default() }
    }

    /// Fills in the defaults.
    pub(super) fn filled(self) -> RunOptions {
        RunOptions {
            user: self.run_as.unwrap_or_else(|| "root".to_owned()),
            env: self.env,
            mounts: self.mounts.into_iter().map(mount).collect(),
            caches: caches(self.caches),
            secrets: self.secrets,
            ssh: self.ssh,
            workdir: self.workdir.unwrap_or_else(|| "/".to_owned()),
            shell: self.shell.unwrap_or_else(sh),
            network: self.network.unwrap_or_default(),
            timeout: self.timeout,
            retries: self.retries.unwrap_or(0),
            limits: self.limits,
        }
    }
}

/// Options with all defaults filled in.
#[derive(Debug, Default)]
pub(crate) struct RunOptions {
    /// `user` or `user:group` inside.
    pub(super) user: String,
    /// Added environment.
    pub(super) env: BTreeMap<String, String>,
    /// What is seen where meanwhile.
    pub(super) mounts: Vec<Mount>,
    /// What is kept between builds, where it is seen.
    pub(super) caches: Vec<Cache>,
    /// Which secrets its programs see.
    pub(super) secrets: Secrets,
    /// Whether its programs reach the SSH agent of who builds.
    pub(super) ssh: bool,
    /// Absolute path inside.
    pub(super) workdir: String,
    /// The whole shell list, `sh` and `bash` already spelled out.
    pub(super) shell: Vec<String>,
    pub(super) network: Reach,
    /// Per try.
    pub(super) timeout: Option<Duration>,
    pub(super) retries: u32,
    /// What they may use.
    pub(super) limits: Limits,
}

/// The default shell.
fn sh() -> Vec<String> {
    ["/bin/sh", "-eu", "-c"].map(str::to_owned).into()
}

fn mount((at, source): (String, MountSource)) -> Mount {
    match source {
        MountSource::Context(path) => Mount { at, stage: None, path },
        MountSource::Stage { stage, path } => Mount { at, stage: Some(stage), path: path.into() },
    }
}

/// Returns the caches in the order of their places: as they are written changes nothing.
fn caches(mut kept: Vec<Kept>) -> Vec<Cache> {
    kept.sort_by(|a, b| a.to.cmp(&b.to));
    kept.into_iter().map(|Kept { to, id, sharing }| Cache { at: to, id, sharing }).collect()
}

fn secrets(fields: &Fields) -> Secrets {
    let mut files = fields.list("secrets");
    files.sort_unstable();
    files.dedup();
    Secrets { files, variables: fields.map("secret_env") }
}

/// Returns the program and its arguments: a string is the last argument of the shell.
pub(crate) fn argv(command: &Command, shell: &[String]) -> Vec<String> {
    match command {
        Command::Argv(argv) => argv.clone(),
        Command::Shell(text) => shell.iter().chain([text]).cloned().collect(),
    }
}
