//! From the world in: a base becomes a pinned root file system, and packages become pinned
//! downloads. `pin` decides what exactly is meant and can be written to a lock file; `build` makes
//! the tree from a pin, always the same one. What is not here: layers (the hall packs the tree) and
//! the cache of finished bases (the hall asks for [`Pinned::key`]).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::event::Sink;
use crate::recipe;
use crate::sandbox::{Cancel, Chores, Ended, Heard, Job, Session};

mod aside;
pub mod debian;
pub mod fetch;
pub mod manager;
mod path;

/// Goes up whenever the same pin would give another tree.
const FORMAT: u32 = 1;

/// Functions of this room that run inside the namespaces.
pub const CHORES: Chores = &[
    ("base.unpack", path::chore),
    ("debian.unpack", debian::unpack::chore),
    ("debian.finish", debian::tidy::finish),
    ("debian.tidy", debian::tidy::chore),
];

/// What cannot be done about bases and packages.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A download failed.
    #[error(transparent)]
    Download(#[from] fetch::Error),
    /// The mirror has no such suite.
    #[error("the mirror has no Debian suite {suite:?}")]
    NoSuite {
        /// As the recipe says.
        suite: String,
        /// What the mirror said.
        source: Box<fetch::Error>,
    },
    /// A locked package is neither cached nor on the mirror.
    #[error("package {name} {version} is neither in the cache nor on the mirror any more")]
    Gone {
        /// Package.
        name: String,
        /// Locked version.
        version: String,
        /// What the mirror said.
        source: Box<fetch::Error>,
    },
    /// A signed document is not to be believed.
    #[error("cannot trust {url}")]
    Untrusted {
        /// Which.
        url: String,
        /// Why.
        source: debian::release::Distrust,
    },
    /// A package index is not what the Release file says, or malformed.
    #[error("package index {url} is broken")]
    Index {
        /// Which.
        url: String,
        /// Why.
        source: io::Error,
    },
    /// No set of packages can be found.
    #[error("cannot choose the packages of Debian {suite}")]
    Unmet {
        /// Code name.
        suite: String,
        /// Why.
        source: debian::closure::Unmet,
    },
    /// A package request that is not allowed.
    #[error("cannot install {request:?}: {why}")]
    Request {
        /// As written.
        request: String,
        /// Why.
        why: &'static str,
    },
    /// apt found no way.
    #[error("apt cannot install {what}:\n{said}")]
    Apt {
        /// What was asked for.
        what: String,
        /// What apt said about it.
        said: String,
    },
    /// A locked or chosen package does not make sense.
    #[error("package {name:?} in the lock is malformed: {why}")]
    Lock {
        /// Package.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A file or folder of ours.
    #[error("cannot {doing} {path}")]
    File {
        /// `read`, `write`, ….
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The base folder or archive is not what was pinned.
    #[error("{path} has changed: expected {expected}, found {found}")]
    Changed {
        /// Which.
        path: PathBuf,
        /// As pinned.
        expected: Digest,
        /// As it is.
        found: Digest,
    },
    /// The base folder or archive is not in the context.
    #[error("{path} leads out of the context: {link} is a symlink")]
    Outside {
        /// As the recipe says.
        path: PathBuf,
        /// The link.
        link: PathBuf,
    },
    /// Programs of this architecture cannot run here.
    #[error("cannot run {arch} programs on this {host} machine")]
    Foreign {
        /// OCI architecture asked for.
        arch: String,
        /// This machine's.
        host: String,
    },
    /// Debian has no such architecture.
    #[error("Debian has no architecture {0:?}")]
    Architecture(String),
    /// The work inside the sandbox failed.
    #[error("{what} failed: {how}")]
    Failed {
        /// What was being done.
        what: String,
        /// How it ended.
        how: String,
        /// Last lines of output.
        tail: Vec<String>,
    },
    /// The sandbox itself failed.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::Error),
    /// The build was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Gone { .. } => "choose packages anew: bake lock --update".to_owned(),
            Self::Lock { .. } => "write the lock anew: bake lock --update".to_owned(),
            Self::Changed { .. } => "accept the new content: bake lock --update".to_owned(),
            Self::Download(error) => match error.source {
                fetch::Failure::Refused | fetch::Failure::UnknownHost | fetch::Failure::Timeout(_) | fetch::Failure::Status(_) => {
                    "is the mirror right? see --debian-mirror".to_owned()
                }
                fetch::Failure::WrongHash { .. } => {
                    "the mirror, or a proxy on the way, changes files or is being updated: try another with --debian-mirror".to_owned()
                }
                _ => return None,
            },
            Self::NoSuite { suite, .. } => match debian::SUITES.iter().find(|known| strsim::osa_distance(known, suite) < 3) {
                Some(known) if known != suite => format!("did you mean {known:?}?"),
                _ => format!("there are {}; another mirror may have more: see --debian-mirror", debian::SUITES.join(", ")),
            },
            Self::Untrusted { source: debian::release::Distrust::NoIndex(_), .. } => {
                "are the components right? Debian has main, contrib, non-free and, since bookworm, non-free-firmware".to_owned()
            }
            Self::Untrusted { source: debian::release::Distrust::Expired(_), .. } => {
                "the mirror is out of date, or somebody replays an old one: try another with --debian-mirror".to_owned()
            }
            Self::Untrusted { source: debian::release::Distrust::Future(_), .. } => "set this machine's clock".to_owned(),
            Self::Untrusted { .. } => "the mirror, or a proxy on the way, changes files: try another with --debian-mirror".to_owned(),
            Self::Sandbox(crate::sandbox::Error::Host { hint, .. }) => hint.clone(),
            _ => return None,
        })
    }

    /// Whether the network is to blame (exit code 12).
    pub fn is_network(&self) -> bool {
        match self {
            Self::Download(error) => {
                !matches!(error.source, fetch::Failure::Cancelled | fetch::Failure::Cache { .. })
            }
            Self::Gone { .. } | Self::Untrusted { .. } | Self::Index { .. } => true,
            _ => false,
        }
    }

    pub(crate) fn file<'a>(
        doing: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::File { doing, path: path.to_owned(), source }
    }
}

/// Exactly one base. Serialises to TOML (the lock file).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Pinned {
    /// Nothing.
    Scratch,
    /// A tar or folder of the context.
    Path(PinnedPath),
    /// A set of Debian packages.
    Debian(PinnedDebian),
}

/// A pinned tar or folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedPath {
    /// Path below the context.
    pub path: PathBuf,
    /// sha256 of the file, or of the folder's tree (names, kinds, modes, owners, contents; not
    /// times).
    pub sha256: Digest,
}

/// A pinned set of Debian packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedDebian {
    /// Code name.
    pub suite: String,
    /// OCI architecture.
    pub arch: String,
    /// As the recipe says.
    pub slim: bool,
    /// As the recipe says.
    pub components: Vec<String>,
    /// The mirror that the recipe names; it stands in the image's own apt sources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// Date of the newest Release file that took part, in seconds since 1970.
    pub date: i64,
    /// The packages, by name.
    #[serde(rename = "package")]
    pub packages: Vec<Package>,
}

/// Exactly one package file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Debian's name of its architecture, or `all`.
    pub arch: String,
    /// Content.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// Path below its archive.
    pub path: String,
    /// Where it comes from.
    pub archive: debian::Archive,
}

impl Pinned {
    /// A stable name for the tree that [`build`] makes from this pin: for a cache of finished
    /// bases.
    pub fn key(&self, epoch: i64) -> Digest {
        // Where packages were found, and when, does not change the tree.
        let mut canonical = self.clone();
        if let Self::Debian(debian) = &mut canonical {
            debian.date = 0;
            for package in &mut debian.packages {
                package.path.clear();
                package.archive = debian::Archive::Main;
            }
        }
        if let Self::Path(path) = &mut canonical {
            path.path = PathBuf::new();
        }
        let json =
            serde_json::to_vec(&(FORMAT, epoch, canonical)).expect("plain data always serialises");
        Digest::of(json)
    }

    /// Date of the newest input, in seconds since 1970, where the base has one.
    pub fn date(&self) -> Option<i64> {
        match self {
            Self::Debian(debian) => Some(debian.date),
            _ => None,
        }
    }

    /// Whether this pin is one of what `base` asks for (else the recipe has changed since it was
    /// locked).
    pub fn fits(&self, base: &recipe::Base, arch: &str) -> bool {
        match (self, &base.kind) {
            (Self::Scratch, recipe::BaseKind::Scratch) => true,
            (Self::Path(pin), recipe::BaseKind::Path(path)) => pin.path == *path,
            (Self::Debian(pin), recipe::BaseKind::Debian(wanted)) => {
                pin.suite == wanted.suite
                    && pin.arch == arch
                    && pin.slim == (wanted.variant == recipe::Variant::Slim)
                    && pin.components == components(wanted)
                    && pin.mirror == wanted.mirror
            }
            _ => false,
        }
    }
}

fn components(debian: &recipe::Debian) -> Vec<String> {
    if debian.components.is_empty() { vec!["main".to_owned()] } else { debian.components.clone() }
}

/// Everything the work inside the sandbox needs.
#[derive(Clone, Copy)]
pub struct Workshop<'a> {
    /// Downloads.
    pub source: &'a debian::Source,
    /// The build's user namespace.
    pub session: &'a Session,
    /// The session's scratch folder: upper folders are below it, and so are our own short-lived
    /// folders.
    pub scratch: &'a Path,
    /// Ends it all.
    pub cancel: &'a Cancel,
    /// Where progress goes.
    pub sink: &'a Sink,
}

/// A line of output of something that runs inside.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// From standard error.
    pub stderr: bool,
    /// Its bytes, without line end.
    pub text: &'a [u8],
}

/// Decides what exactly `base` is. `arch`: OCI architecture. `context`: folder that paths are
/// relative to. With a `locked` pin that fits the recipe nothing is asked of the network; a changed
/// tar or folder is told by comparing the result with `locked`.
pub fn pin(
    base: &recipe::Base,
    arch: &str,
    context: &Path,
    locked: Option<&Pinned>,
    source: &debian::Source,
) -> Result<Pinned, Error> {
    match &base.kind {
        recipe::BaseKind::Scratch => Ok(Pinned::Scratch),
        recipe::BaseKind::Path(path) => Ok(Pinned::Path(PinnedPath {
            path: path.clone(),
            sha256: path::digest(&path::held(context, path)?, source.cache())?,
        })),
        recipe::BaseKind::Debian(wanted) => {
            if let Some(locked @ Pinned::Debian(pin)) = locked.filter(|l| l.fits(base, arch)) {
                pin.packages.iter().try_for_each(Package::check)?;
                return Ok(locked.clone());
            }
            let slim = wanted.variant == recipe::Variant::Slim;
            debian::choose(source, wanted, components(wanted), arch, slim).map(Pinned::Debian)
        }
    }
}

/// Makes the tree of `pinned` in the empty folder `upper` (below the session's scratch folder, as
/// `work`, an empty folder beside it). The same pin and epoch always give the same tree, up to
/// times after `epoch`. On failure `upper` holds rubbish.
pub fn build(
    pinned: &Pinned,
    epoch: i64,
    context: &Path,
    upper: &Path,
    work: &Path,
    shop: &Workshop<'_>,
    hear: &mut dyn FnMut(Line<'_>),
) -> Result<(), Error> {
    match pinned {
        Pinned::Scratch => Ok(()),
        Pinned::Path(pin) => path::build(pin, epoch, context, upper, shop),
        Pinned::Debian(pin) => debian::bootstrap::build(pin, epoch, upper, work, shop, hear),
    }
}

impl Workshop<'_> {
    /// Where `path` (below the scratch folder) is for a chore.
    fn inside(&self, path: &Path) -> Result<PathBuf, Error> {
        let below = path.strip_prefix(self.scratch).map_err(|_| Error::File {
            doing: "use",
            path: path.to_owned(),
            source: io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not below the scratch folder",
            ),
        })?;
        Ok(Path::new("/scratch").join(below))
    }

    /// Runs a job; its output goes to `hear`, and its last lines into the error, if it fails.
    fn run(
        &self,
        what: &str,
        job: Job,
        hear: &mut dyn FnMut(Line<'_>),
        progress: &mut dyn FnMut(Value),
    ) -> Result<Vec<Value>, Error> {
        const KEPT: usize = 30;
        let mut tail: VecDeque<String> = VecDeque::new();
        let ended = self.session.run(job, self.cancel, &mut |heard| match heard {
            Heard::Line { stderr, text } => {
                if tail.len() == KEPT {
                    tail.pop_front();
                }
                tail.push_back(String::from_utf8_lossy(text).into_owned());
                hear(Line { stderr, text });
            }
            Heard::Progress(value) => progress(value),
            _ => {}
        })?;
        match ended {
            Ended::Done(values) => Ok(values),
            Ended::Cancelled => Err(Error::Cancelled),
            Ended::Failed { how, .. } => Err(Error::Failed {
                what: what.to_owned(),
                how: how.reasons().join(": "),
                tail: tail.into(),
            }),
        }
    }
}

/// This machine's OCI architecture.
pub fn host_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// Environment of everything that installs packages.
fn environment(epoch: i64) -> BTreeMap<String, String> {
    [
        ("DEBIAN_FRONTEND", "noninteractive".to_owned()),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true".to_owned()),
        ("HOME", "/root".to_owned()),
        ("LC_ALL", "C.UTF-8".to_owned()),
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("SOURCE_DATE_EPOCH", epoch.to_string()),
        ("TZ", "UTC".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// Asks whether to stop; see [`fetch::Fetcher::new`].
pub type Stop = Arc<dyn Fn() -> bool + Send + Sync>;
