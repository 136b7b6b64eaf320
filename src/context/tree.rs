//! The directory of a context, held open: what is in it, what is left out of it, and what its
//! errors mean to the person who wrote a path.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::fs::FileType;

use super::error::{BAKE_IGNORE, Error};
use super::held::{self, Held};
use super::ignore::{DOCKER_IGNORE, Doubt, Ignored};
use crate::files::{self, Links, RootDir};
use crate::suggest::alike;

const MAX_IGNORE_FILE: u64 = 1 << 20;

/// The directory of a context, held open.
#[derive(Debug)]
pub struct Tree {
    pub(super) dir: RootDir,
    pub(super) ignored: Ignored,
    /// Paths that are never copied, whatever the recipe says, with the reason.
    pub(super) left_out: Vec<(PathBuf, String)>,
}

impl Tree {
    /// Opens the directory `path`. `left_out`: paths below it that no step may copy, each with the
    /// reason as people read it: bake's own lock file (else the first build would change what the
    /// second one copies), a store or output inside the context. `unless_named`: what is left out
    /// unless a pattern of the ignore file takes it along: the recipe.
    pub(super) fn open(
        path: &Path,
        left_out: &[(PathBuf, String)],
        unless_named: &[(PathBuf, String)],
    ) -> Result<Self, Error> {
        let dir = RootDir::open(path, Links::Beneath)
            .map_err(|source| Error::Open { path: path.to_owned(), source })?;
        let mut tree =
            Self { dir, ignored: Ignored::new(unless_named), left_out: left_out.to_vec() };
        for name in [BAKE_IGNORE, DOCKER_IGNORE] {
            let file = Path::new(name);
            if tree.look(file)?.is_some() {
                let bytes = tree.read(file, MAX_IGNORE_FILE)?;
                let text = String::from_utf8(bytes)
                    .map_err(|_| Error::Kind { path: file.to_owned(), wanted: "UTF-8 text" })?;
                tree.ignored.read(name, &text)?;
                let why = "bake itself: it says what is left out".to_owned();
                tree.left_out.push((file.to_owned(), why));
                break;
            }
        }
        Ok(tree)
    }

    /// Returns the patterns of the ignore file that cannot do what they say.
    pub fn doubts(&self) -> &[Doubt] {
        &self.ignored.doubts
    }

    /// Says what leaves `path` out, if anything does; directories above it have been asked about.
    pub(super) fn leaves_out(&self, path: &Path, is_dir: bool) -> Option<String> {
        match self.left_out.iter().find(|(own, _)| own == path) {
            Some((_, why)) => Some(why.clone()),
            None => self.ignored.leaves_out(path, is_dir),
        }
    }

    /// Whether nothing in the directory `dir` has to be asked about, but for `.git`.
    pub(super) fn is_plain(&self, dir: &Path) -> bool {
        self.ignored.is_plain(dir)
            && !self.left_out.iter().any(|(own, _)| own.parent() == Some(dir))
    }

    /// Reads a file of at most `limit` bytes: a template, a script, a key. Ignore patterns do not
    /// apply.
    pub fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
        let path = inside(&path.to_string_lossy(), path)?;
        let file = self.dir.open_file(&path).map_err(|e| self.explain(&path, e))?;
        held::read_still(file, &path, limit)?.ok_or_else(|| {
            let path = self.dir.path().join(&path);
            Error::Read(files::Error::TooLong { path, limit })
        })
    }

    /// Whether `path` is there, as a file or a directory: a base.
    pub fn find(&self, path: &Path) -> Result<(), Error> {
        let path = inside(&path.to_string_lossy(), path)?;
        if path.as_os_str().is_empty() {
            Ok(())
        } else {
            self.dir.stat(&path).map(|_| ()).map_err(|e| self.explain(&path, e))
        }
    }

    /// Opens a file to be read as a stream: a package, a base archive. Ignore patterns do not
    /// apply.
    pub fn open_file(&self, path: &Path) -> Result<File, Error> {
        let path = inside(&path.to_string_lossy(), path)?;
        self.dir.open_file(&path).map_err(|e| self.explain(&path, e))
    }

    /// Holds the bytes of a file of at most `limit` bytes: a template, a script, a key. Ignore
    /// patterns do not apply.
    ///
    /// # Errors
    /// [`Error::Changed`] where somebody writes to it meanwhile; as [`Tree::read`] else.
    pub fn hold(&self, path: &Path, limit: u64) -> Result<Held, Error> {
        Ok(Held::bytes(path, self.read(path, limit)?))
    }

    /// Holds a file that may be too large for memory, as an open file: a package.
    ///
    /// # Errors
    /// As [`Tree::hold`].
    pub fn hold_file(&self, path: &Path) -> Result<Held, Error> {
        let at = inside(&path.to_string_lossy(), path)?;
        let file = self.dir.open_file(&at).map_err(|e| self.explain(&at, e))?;
        held::hold_file(file, path, &at)
    }

    /// Looks at `path`, its last symlink not followed; `None` where nothing is.
    pub(super) fn look(&self, path: &Path) -> Result<Option<Metadata>, Error> {
        self.dir.find(path).map_err(|e| self.explain(path, e))
    }

    /// Says what an error of the held directory means to the person who wrote `path`.
    pub(super) fn explain(&self, path: &Path, error: files::Error) -> Error {
        match error {
            files::Error::Outside { link, .. } => Error::Outside { link },
            files::Error::Kind { wanted, .. } => Error::Kind { path: path.to_owned(), wanted },
            e if e.is_missing() => self.missing(path),
            e if e.kind() == io::ErrorKind::NotADirectory => self.missing(path),
            e => Error::Read(e),
        }
    }

    pub(super) fn missing(&self, path: &Path) -> Error {
        // The first name that is not there is the one that was mistyped.
        let mut above = PathBuf::new();
        for part in path.components() {
            let here = above.join(part);
            if matches!(self.dir.find(&here), Ok(Some(_))) {
                above = here;
                continue;
            }
            let names = self.dir.list(&above).unwrap_or_default();
            let name = part.as_os_str().to_string_lossy();
            let near = alike(&name, names.iter().filter_map(|n| n.to_str()));
            let near = near.iter().map(|n| above.join(n).display().to_string()).collect();
            return Error::Missing { path: path.to_owned(), near };
        }
        Error::Missing { path: path.to_owned(), near: vec![] }
    }
}

/// `path` in plain components; `""` for the context itself.
pub(super) fn inside(text: &str, path: &Path) -> Result<PathBuf, Error> {
    let refuse = |why| Err(Error::Path { path: text.to_owned(), why });
    if text.is_empty() {
        return refuse("is empty; write \".\" for the whole context");
    }
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                return refuse(
                    "has `..` in it; paths are relative to the context and stay inside it",
                );
            }
            Component::RootDir | Component::Prefix(_) => {
                return refuse("is absolute; paths are relative to the context");
            }
        }
    }
    Ok(plain)
}

/// What a thing is called that cannot be copied.
pub(super) fn special(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        _ => "a device",
    }
}
