//! A place in the image root, and what stands there.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::FileType;

use super::error::Error;
use crate::rootfs::accounts::Ids;

/// Owner and permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attr {
    pub(super) ids: Ids,
    /// Permission bits, special bits included.
    pub(super) mode: u32,
}

/// A name in a directory held open.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) dir: std::rc::Rc<OwnedFd>,
    pub(super) name: OsString,
    /// Image path, for messages.
    pub(super) shown: PathBuf,
}

/// What stands at a [`Spot`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) kind: FileType,
    pub(super) attr: Attr,
    pub(super) links: u32,
}

impl Spot {
    /// A name in the directory `dir`, whose image path is `shown`.
    pub(super) fn within(dir: &std::rc::Rc<OwnedFd>, shown: &Path, name: &OsStr) -> Self {
        Self { dir: dir.clone(), name: name.to_owned(), shown: shown.join(name) }
    }

    /// The last name.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// The directory the name is in.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// The plain components of an image path.
pub(super) fn parts(path: &Path) -> Result<Vec<&OsStr>, Error> {
    let mut parts = vec![];
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(part) if part.as_bytes().contains(&0) => {
                return Err(Error::BadPath { path: path.to_owned(), why: "contains a zero byte" });
            }
            Component::Normal(part) => parts.push(part),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::BadPath {
                    path: path.to_owned(),
                    why: "contains `..`; write the path without it",
                });
            }
        }
    }
    Ok(parts)
}

pub(super) fn split(path: &Path) -> Result<(PathBuf, OsString), Error> {
    let mut parts = parts(path)?;
    let name = parts.pop().ok_or_else(|| Error::BadPath {
        path: path.to_owned(),
        why: "names the root directory itself",
    })?;
    Ok((parts.iter().collect(), name.to_owned()))
}
