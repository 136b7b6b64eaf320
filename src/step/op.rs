//! The operations: the few things a step can do inside the root. What does them is `apply`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::shown::{Mount, Secrets};
use super::tool::Configure;
use crate::schema::Sharing;

/// The few things a step can do inside the root, in the order given. Canonical: its JSON is part of
/// the step's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Op {
    /// Run a program.
    Exec {
        /// Program and arguments.
        argv: Vec<String>,
        /// Environment besides bake's own and the base image's.
        env: BTreeMap<String, String>,
        /// `user` or `user:group` inside.
        user: String,
        /// Working directory.
        cwd: String,
        /// What is seen where meanwhile.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        mounts: Vec<Mount>,
        /// Which secrets it sees.
        #[serde(default, skip_serializing_if = "Secrets::is_empty")]
        secrets: Secrets,
        /// What it sees that is kept between builds.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        caches: Vec<Cache>,
        /// Whether it reaches the SSH agent of who builds.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        ssh: bool,
    },
    /// Run a file of the context by its `#!` line, else by `shell`.
    Script {
        /// Path below the context.
        file: PathBuf,
        /// Used where the file has no `#!` line.
        shell: Vec<String>,
        /// Arguments.
        args: Vec<String>,
        /// As in `Exec`.
        env: BTreeMap<String, String>,
        /// As in `Exec`.
        user: String,
        /// As in `Exec`.
        cwd: String,
        /// As in `Exec`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        mounts: Vec<Mount>,
        /// As in `Exec`.
        #[serde(default, skip_serializing_if = "Secrets::is_empty")]
        secrets: Secrets,
        /// As in `Exec`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        caches: Vec<Cache>,
        /// As in `Exec`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        ssh: bool,
    },
    /// Run a configuration management tool.
    Configure(Box<Configure>),
    /// Copy files of the context, or of a stage.
    Copy {
        /// Paths or globs below the context, or absolute ones in the stage; a trailing `/` is kept.
        from: Vec<String>,
        /// The stage; none: the context.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<String>,
        /// Absolute path inside; a trailing `/` means: a directory.
        to: String,
        /// `name:group` or `uid:gid`.
        owner: String,
        /// Permission bits of files, if given.
        mode: Option<u32>,
        /// Globs left out (gitignore notation).
        exclude: Vec<String>,
    },
    /// Fetch a file and place it.
    Download {
        /// http or https.
        url: String,
        /// Expected content, where the recipe says so.
        sha256: Option<String>,
        /// Absolute path inside; a trailing `/` means: into that directory.
        to: String,
        /// As in `Copy`.
        owner: String,
        /// As in `Copy`.
        mode: Option<u32>,
        /// Unpack the archive into `to`.
        unpack: bool,
        /// Leading path components dropped when unpacking.
        strip: u32,
        /// The secret that the server is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        credentials: Option<String>,
    },
    /// Write a file with these bytes (after templates are rendered).
    Write {
        /// Absolute path inside.
        path: String,
        /// The content.
        content: Content,
        /// Add to what is there instead of replacing it.
        append: bool,
        /// `name:group` or `uid:gid`; for `append` of an existing file: left alone when not given.
        owner: Option<String>,
        /// Permission bits; default 0644, or left alone as for `owner`.
        mode: Option<u32>,
    },
    /// Make directories.
    Mkdir {
        /// Absolute paths inside.
        paths: Vec<String>,
        /// Owner, set on existing directories too.
        owner: String,
        /// Permission bits, set on existing directories too.
        mode: u32,
        /// Existing directories stay as they are instead.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        kept: bool,
    },
    /// Make a symlink.
    Symlink {
        /// What appears in the image.
        path: String,
        /// Where it points.
        target: String,
    },
    /// Remove paths; globs work; what is not there is fine.
    Remove {
        /// Absolute paths or globs inside.
        paths: Vec<String>,
    },
    /// Make a group, or bring it to what is written.
    Group {
        /// Its name.
        name: String,
        /// Its id; else the lowest free.
        gid: Option<u32>,
        /// Below 1000 when an id is chosen.
        system: bool,
    },
    /// Make a user, or bring it to what is written.
    User {
        /// Its name.
        name: String,
        /// Its id; else the lowest free.
        uid: Option<u32>,
        /// Primary group id; else a group of the user's name.
        gid: Option<u32>,
        /// Home directory; made with its skeleton unless `system`.
        home: Option<String>,
        /// Login shell.
        shell: Option<String>,
        /// Supplementary groups, which must exist.
        groups: Vec<String>,
        /// A system user.
        system: bool,
        /// GECOS.
        comment: Option<String>,
        /// crypt(5) hash; none = locked.
        password: Option<String>,
        /// Lines of `~/.ssh/authorized_keys`.
        ssh_keys: Vec<String>,
    },
    /// Enable, disable or mask systemd units.
    Service {
        /// Unit names; `.service` may be left off.
        units: Vec<String>,
        /// What to make of them.
        state: ServiceState,
    },
    /// Install packages with the image's own package manager.
    Packages {
        /// In the manager's own notation.
        names: Vec<String>,
        /// Package files below the context.
        files: Vec<PathBuf>,
        /// With recommended packages.
        recommends: bool,
        /// The package of a kernel makes no initial RAM disk.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        without_initrd: bool,
    },
    /// Add a deb822 package source with its key.
    Repository {
        /// Base name of the `.sources` and key files.
        name: String,
        /// Archive URL.
        url: String,
        /// Suite or, ending in `/`, an exact path.
        suite: String,
        /// Components.
        components: Vec<String>,
        /// Path below the context, or an https URL.
        key: String,
    },
}

/// A directory that is seen at a path while a program runs, and kept for later builds. What is in
/// it names nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Absolute path inside.
    pub at: String,
    /// What names it; none: the image and the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How several programs use it at once: nothing that an image shows.
    #[serde(skip)]
    pub sharing: Sharing,
}

/// Where the bytes of a written file come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// These bytes.
    Text(String),
    /// A Jinja template below the context, rendered with the recipe's variables.
    Template(PathBuf),
}

/// What to make of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Started at boot.
    Enabled,
    /// Not started at boot.
    Disabled,
    /// Cannot be started.
    Masked,
}

/// Returns what people call a stage; an image that files are taken from stands there as a stage
/// whose name has a space in it.
pub fn called(stage: &str) -> String {
    if stage.contains(' ') { stage.to_owned() } else { format!("stage {stage}") }
}

impl Op {
    /// Returns the secrets that its program sees, and the user that it runs as.
    pub fn secrets(&self) -> Option<(&Secrets, &str)> {
        match self {
            Self::Exec { secrets, user, .. } | Self::Script { secrets, user, .. } => {
                Some((secrets, user.as_str())).filter(|_| !secrets.is_empty())
            }
            Self::Configure(tool) => {
                Some((&tool.secrets, "root")).filter(|_| !tool.secrets.is_empty())
            }
            _ => None,
        }
    }

    /// Returns the secret that bake itself gives a server for it.
    pub fn credentials(&self) -> Option<&str> {
        match self {
            Self::Download { credentials, .. } => credentials.as_deref(),
            _ => None,
        }
    }

    /// Returns what its program sees that is kept between builds, and the user that it runs as.
    pub fn caches(&self) -> (&[Cache], &str) {
        match self {
            Self::Exec { caches, user, .. } | Self::Script { caches, user, .. } => (caches, user),
            _ => (&[], ""),
        }
    }

    /// Whether its program reaches the SSH agent of who builds.
    pub fn ssh(&self) -> bool {
        matches!(self, Self::Exec { ssh: true, .. } | Self::Script { ssh: true, .. })
    }

    /// Returns the stages it takes something from.
    pub fn stages(&self) -> impl Iterator<Item = &str> {
        let (mounts, copied) = match self {
            Self::Exec { mounts, .. } | Self::Script { mounts, .. } => (mounts.as_slice(), None),
            Self::Copy { stage, .. } => (&[][..], stage.as_deref()),
            Self::Configure(tool) => (tool.mounts.as_slice(), tool.layer()),
            _ => (&[][..], None),
        };
        mounts.iter().filter_map(|mount| mount.stage.as_deref()).chain(copied)
    }
}
