//! From the world in: a base becomes a pinned root file system. `pin` decides what exactly is meant
//! and can be written to a lock file; `build` makes the tree from a pin, always the same one. What
//! is not here: layers (`engine` packs the tree) and the cache of finished bases (`engine` asks for
//! [`Pinned::key`]).

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::archive::{self, Archive, JobContext, Line, Package, Source};
use crate::digest::Digest;
use crate::recipe;

mod calls;
mod debian;
mod directory;
pub mod lock;
mod path;

pub use crate::archive::ImageForm;

/// Goes up whenever the same pin would give another tree.
const FORMAT: u32 = 4;

/// What cannot be done about bases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something about packages, or the work inside the sandbox.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// A base that is a build's own result: an image, another recipe, a stage.
    #[error("{what} is made by a build, not as a base")]
    OfABuild {
        /// Which.
        what: &'static str,
    },
    /// The base directory or archive is not what was pinned.
    #[error("{path} changed while it was read: it was {expected}, and is {found}")]
    Changed {
        /// Which.
        path: PathBuf,
        /// As pinned.
        expected: Digest,
        /// As it is.
        found: Digest,
    },
    /// The base is a whole image where a root file system is asked for.
    #[error("{path} is {what}, not a root file system")]
    ImageAsRoot {
        /// Which.
        path: PathBuf,
        /// What it is.
        what: ImageForm,
    },
    /// The base directory or archive is not in the context.
    #[error("{path} leads out of the context: {link} is a symlink")]
    Outside {
        /// As in the recipe.
        path: PathBuf,
        /// The link.
        link: PathBuf,
    },
}

impl Error {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Archive(error) => error.hint(),
            Self::Changed { .. } => Some("build again when nothing writes to it".to_owned()),
            Self::ImageAsRoot { .. } => Some(
                "a base is a tar or a directory of `/` itself: of an image of bake, `bake export \
                    --format tar` writes one"
                    .to_owned(),
            ),
            _ => None,
        }
    }

    /// Whether the network is to blame (exit code 12).
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Archive(error) if error.is_network())
    }
}

/// Makes the error of something done to `path`, a file or directory of ours.
fn cannot<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| archive::Error::file(doing, path)(source).into()
}

/// Exactly one base. Serialises to TOML (the lock file).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Pinned {
    /// Nothing.
    Scratch,
    /// A tar or directory of the context.
    Path(PinnedPath),
    /// A set of Debian packages.
    Debian(PinnedDebian),
}

/// A pinned tar or directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedPath {
    /// Path below the context.
    pub path: PathBuf,
    /// What the modes of a directory's files mean.
    #[serde(default)]
    pub modes: recipe::Modes,
    /// sha256 of the file, or of the directory's tree (names, kinds, modes, owners, contents; not
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
    /// As in the recipe.
    pub slim: bool,
    /// As in the recipe.
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
                package.archive = Archive::Main;
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
            (Self::Path(pin), recipe::BaseKind::Path(path)) => {
                pin.path == *path && pin.modes == base.modes
            }
            (Self::Debian(pin), recipe::BaseKind::Debian(wanted)) => {
                pin.suite == wanted.suite
                    && pin.arch == arch
                    && pin.slim == (wanted.variant == recipe::DebianVariant::Slim)
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

/// Decides what exactly `base` is. `arch`: OCI architecture. `context`: directory that paths are
/// relative to. With a `locked` pin that fits the recipe nothing is asked of the network; a changed
/// tar or directory is recognised by comparing the result with `locked`.
pub fn pin(
    base: &recipe::Base,
    arch: &str,
    context: &Path,
    locked: Option<&Pinned>,
    source: &Source,
) -> Result<Pinned, Error> {
    match &base.kind {
        recipe::BaseKind::Scratch => Ok(Pinned::Scratch),
        recipe::BaseKind::Path(path) => Ok(Pinned::Path(PinnedPath {
            path: path.clone(),
            modes: base.modes,
            sha256: path::digest(&path::held(context, path)?, base.modes, source.cache())?,
        })),
        recipe::BaseKind::Image(_) => Err(Error::OfABuild { what: "an image" }),
        recipe::BaseKind::Oci(_) => Err(Error::OfABuild { what: "an image" }),
        recipe::BaseKind::Recipe(_) => Err(Error::OfABuild { what: "a recipe" }),
        recipe::BaseKind::Stage(_) => Err(Error::OfABuild { what: "a stage" }),
        recipe::BaseKind::Debian(wanted) => {
            if let Some(locked @ Pinned::Debian(pin)) = locked.filter(|l| l.fits(base, arch)) {
                pin.packages.iter().try_for_each(Package::check)?;
                return Ok(locked.clone());
            }
            let slim = wanted.variant == recipe::DebianVariant::Slim;
            debian::choose(source, wanted, components(wanted), arch, slim).map(Pinned::Debian)
        }
    }
}

/// Makes the tree of `pinned` in the empty directory `upper` (below the session's scratch
/// directory, as `work`, an empty directory beside it). The same pin and epoch always give the same
/// tree, up to times after `epoch`. On failure `upper` holds rubbish.
pub fn build(
    pinned: &Pinned,
    epoch: i64,
    context: &Path,
    upper: &Path,
    work: &Path,
    jobs: &JobContext<'_>,
    output: &mut dyn FnMut(Line<'_>),
) -> Result<(), Error> {
    match pinned {
        Pinned::Scratch => Ok(()),
        Pinned::Path(pin) => path::build(pin, epoch, context, upper, jobs),
        Pinned::Debian(pin) => debian::bootstrap::build(pin, epoch, upper, work, jobs, output),
    }
}
