//! Where an export is made: aside in the directory of its destination, and renamed to it in one
//! step when it is whole ([`files::Aside`]). Other files there are nobody's business, whatever they
//! are called; what a killed export left is removed by the next one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::error::{Error, system};
use crate::files::{self, Aside, AsideDir, Replace};

/// A file being written; dropped = gone.
pub(super) struct NewFile {
    aside: Aside,
    place: Place,
    force: bool,
}

impl NewFile {
    /// Begins the file `dest`.
    pub(super) fn new(dest: &Path, force: bool) -> Result<Self, Error> {
        let place = Place::new(dest)?;
        place.check(force, "a file", |meta| meta.is_file() || meta.is_symlink())?;
        Ok(Self { aside: Aside::new(&place.parent)?, place, force })
    }

    /// Where to write.
    pub(super) fn file(&self) -> &File {
        self.aside.file()
    }

    /// The directory it will be in.
    pub(super) fn parent(&self) -> &Path {
        &self.place.parent
    }

    /// Makes it last under a name aside, which is returned.
    pub(super) fn ready(&mut self) -> Result<PathBuf, Error> {
        Ok(self.aside.ready(0o666 & !files::umask())?.to_owned())
    }

    /// Makes it last, under its name.
    pub(super) fn keep(self) -> Result<(), Error> {
        let (dest, mode) = (&self.place.dest, 0o666 & !files::umask());
        let kept =
            if self.force { self.aside.keep(dest, mode) } else { self.aside.keep_new(dest, mode) };
        kept.map_err(|e| taken(dest, e))
    }
}

/// A directory being filled; dropped = gone. Until it is whole nobody else can look into it: half a
/// file system with programs that run as root is of no use to anyone.
pub struct NewDir {
    aside: AsideDir,
    place: Place,
    root: PathBuf,
    force: bool,
}

impl NewDir {
    /// Begins the directory `dest`.
    ///
    /// # Errors
    /// Where something is there and may not be replaced, or nothing can be made beside it.
    pub fn new(dest: &Path, force: bool) -> Result<Self, Error> {
        let place = Place::new(dest)?;
        place.check(force, "a directory", fs::Metadata::is_dir)?;
        let aside = AsideDir::new(&place.parent)?;
        let root = aside.path().join("root");
        fs::create_dir(&root).map_err(|e| system("make the directory", &root, e))?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755))
            .map_err(|e| system("set the mode of", &root, e))?;
        Ok(Self { aside, place, root, force })
    }

    /// The directory to fill.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes it last aside; returns where.
    pub(super) fn ready(&self) -> Result<PathBuf, Error> {
        let all = File::open(&self.root).map_err(|e| system("open", &self.root, e))?;
        // One call for the whole file system instead of one for each of its ten thousand files.
        rustix::fs::syncfs(&all).map_err(|e| system("sync", &self.root, e))?;
        files::sync_dir(&self.place.parent)?;
        Ok(self.root.clone())
    }

    /// Makes it last, under its name.
    ///
    /// # Errors
    /// Where it cannot be written, or something has come to the destination meanwhile.
    pub fn keep(self) -> Result<(), Error> {
        self.ready()?;
        let dest = &self.place.dest;
        let exists = fs::symlink_metadata(dest).is_ok();
        let how = if self.force && exists { Replace::Exchange } else { Replace::No };
        files::rename(&self.root, dest, how).map_err(|e| taken(dest, e))?;
        files::sync_dir(&self.place.parent)?;
        // What is aside now, the old directory, goes with it.
        drop(self.aside);
        Ok(())
    }
}

/// A destination.
struct Place {
    dest: PathBuf,
    parent: PathBuf,
}

impl Place {
    fn new(dest: &Path) -> Result<Self, Error> {
        // A trailing slash is no part of a name; `..` and `/` have none.
        let Some(name) = dest.file_name() else {
            return Err(Error::Destination { path: dest.to_owned() });
        };
        let parent = files::parent(dest).to_owned();
        let failed = |e: io::Error| system("open the directory", &parent, e);
        if !fs::metadata(&parent).map_err(failed)?.is_dir() {
            return Err(failed(Errno::NOTDIR.into()));
        }
        Ok(Self { dest: parent.join(name), parent })
    }

    /// Refuses a destination that exists, unless it may be replaced: known before an hour of work,
    /// and made sure of by the rename.
    fn check(
        &self,
        force: bool,
        wanted: &'static str,
        fits: impl Fn(&fs::Metadata) -> bool,
    ) -> Result<(), Error> {
        match fs::symlink_metadata(&self.dest) {
            Ok(meta) if force && fits(&meta) => Ok(()),
            Ok(meta) if force => {
                let found = match () {
                    () if meta.is_dir() => "a directory",
                    () if meta.is_file() => "a file",
                    () if meta.is_symlink() => "a symbolic link",
                    () => "a device, fifo or socket",
                };
                Err(Error::Kind { path: self.dest.clone(), found, wanted })
            }
            Ok(_) => Err(Error::Exists { path: self.dest.clone() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(system("look at", &self.dest, e)),
        }
    }
}

/// Something may have come to the destination meanwhile.
fn taken(dest: &Path, error: files::Error) -> Error {
    match error.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists { path: dest.to_owned() },
        _ => error.into(),
    }
}
