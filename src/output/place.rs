//! Where an export is made: beside the destination, locked, and renamed to it in one step when it
//! is whole.
//!
//! ```text
//! <dest>.partial                 a file being written, locked
//! <dest>.partial/bake.lock       … or a folder being filled, for nobody else's eyes: mode 0700, so that half a file system with
//! <dest>.partial/root/           programs that run as root is of no use to anyone
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::Error;
use crate::files::{self, Lock};

const LOCK: &str = "bake.lock";

/// A file being written; dropped = gone.
pub(super) struct PartialFile {
    /// `Some` until it is kept.
    lock: Option<Lock>,
    names: Names,
    force: bool,
}

impl PartialFile {
    /// Begins the file `dest`.
    pub(super) fn new(dest: &Path, force: bool) -> Result<Self, Error> {
        let names = Names::new(dest)?;
        names.check(force, "a file", |meta| meta.is_file() || meta.is_symlink())?;
        if fs::symlink_metadata(&names.partial).is_ok_and(|meta| !meta.is_file()) {
            return Err(Error::InTheWay { path: names.partial });
        }
        let Some(lock) = Lock::try_exclusive(&names.partial)? else {
            return Err(Error::Busy { path: names.dest });
        };
        // Whatever an interrupted export left.
        lock.file().set_len(0).map_err(|e| system("empty", &names.partial, e))?;
        Ok(Self { lock: Some(lock), names, force })
    }

    /// Where to write.
    pub(super) fn file(&self) -> &File {
        self.lock.as_ref().expect("held until it is kept").file()
    }

    /// The folder it is in.
    pub(super) fn folder(&self) -> &Path {
        &self.names.folder
    }

    /// Makes it last, under its name.
    pub(super) fn keep(mut self) -> Result<(), Error> {
        self.file().sync_all().map_err(|e| system("sync", &self.names.partial, e))?;
        rename(
            &self.names.partial,
            &self.names.dest,
            if self.force { Replace::Yes } else { Replace::No },
        )?;
        self.lock = None;
        Ok(files::sync_dir(&self.names.folder)?)
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // The error that brought us here is the one to tell; what stays is replaced by the next
            // export.
            let _ = fs::remove_file(&self.names.partial);
        }
    }
}

/// A folder being filled; dropped = gone.
pub(super) struct PartialDir {
    _lock: Lock,
    names: Names,
    root: PathBuf,
    force: bool,
}

impl PartialDir {
    /// Begins the folder `dest`.
    pub(super) fn new(dest: &Path, force: bool) -> Result<Self, Error> {
        let names = Names::new(dest)?;
        names.check(force, "a folder", fs::Metadata::is_dir)?;
        let lock = claim(&names)?;
        let root = names.partial.join("root");
        // From here on it is removed when anything fails.
        let place = Self { _lock: lock, names, root, force };
        fs::create_dir(&place.root).map_err(|e| system("make the folder", &place.root, e))?;
        fs::set_permissions(&place.root, fs::Permissions::from_mode(0o755))
            .map_err(|e| system("set the mode of", &place.root, e))?;
        Ok(place)
    }

    /// The folder to fill.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes it last, under its name.
    pub(super) fn keep(self) -> Result<(), Error> {
        let all = File::open(&self.root).map_err(|e| system("open", &self.root, e))?;
        // One call for the whole file system instead of one for each of its ten thousand files.
        rustix::fs::syncfs(&all).map_err(|e| system("sync", &self.root, e))?;
        let exists = fs::symlink_metadata(&self.names.dest).is_ok();
        let how = if self.force && exists { Replace::Exchange } else { Replace::No };
        rename(&self.root, &self.names.dest, how)?;
        Ok(files::sync_dir(&self.names.folder)?)
        // Dropped: what is left in the place, the old folder too, is removed.
    }
}

impl Drop for PartialDir {
    fn drop(&mut self) {
        // As above; the lock is held until all of it is gone.
        let _ = files::remove_tree(&self.names.partial);
    }
}

/// Makes the working folder and locks it; one left by an interrupted export is removed first.
fn claim(names: &Names) -> Result<Lock, Error> {
    let partial = &names.partial;
    for _ in 0..8 {
        match fs::DirBuilder::new().mode(0o700).create(partial) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let ours = fs::symlink_metadata(partial).is_ok_and(|meta| meta.is_dir())
                    && fs::symlink_metadata(partial.join(LOCK)).is_ok_and(|meta| meta.is_file());
                if !ours {
                    return Err(Error::InTheWay { path: partial.clone() });
                }
                let Some(lock) = Lock::try_exclusive(&partial.join(LOCK))? else {
                    return Err(Error::Busy { path: names.dest.clone() });
                };
                files::remove_tree(partial)?;
                drop(lock);
                continue;
            }
            Err(e) => return Err(system("make the folder", partial, e)),
        }
        return match Lock::try_exclusive(&partial.join(LOCK))? {
            Some(lock) => Ok(lock),
            None => Err(Error::Busy { path: names.dest.clone() }),
        };
    }
    Err(Error::Busy { path: names.dest.clone() })
}

struct Names {
    dest: PathBuf,
    partial: PathBuf,
    folder: PathBuf,
}

impl Names {
    fn new(dest: &Path) -> Result<Self, Error> {
        // A trailing slash is no part of a name; `..` and `/` have none.
        let Some(name) = dest.file_name() else {
            return Err(Error::Destination { path: dest.to_owned() });
        };
        let folder = match dest.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let meta = fs::metadata(&folder).map_err(|e| system("open the folder", &folder, e))?;
        if !meta.is_dir() {
            return Err(system("open the folder", &folder, Errno::NOTDIR));
        }
        let mut partial = OsString::from(name);
        partial.push(".partial");
        Ok(Self { dest: folder.join(name), partial: folder.join(partial), folder })
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
                    () if meta.is_dir() => "a folder",
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Replace {
    No,
    Yes,
    Exchange,
}

fn rename(from: &Path, to: &Path, how: Replace) -> Result<(), Error> {
    let flags = match how {
        Replace::No => RenameFlags::NOREPLACE,
        Replace::Yes => RenameFlags::empty(),
        Replace::Exchange => RenameFlags::EXCHANGE,
    };
    match rustix::fs::renameat_with(CWD, from, CWD, to, flags) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(Error::Exists { path: to.to_owned() }),
        // File systems that cannot do it in one step: looked at, then done.
        Err(Errno::INVAL | Errno::NOSYS) if how != Replace::Yes => {
            if how == Replace::No && fs::symlink_metadata(to).is_ok() {
                return Err(Error::Exists { path: to.to_owned() });
            }
            if how == Replace::Exchange {
                files::remove_tree(to)?;
            }
            fs::rename(from, to).map_err(|e| system("rename to", to, e))
        }
        Err(e) => Err(system("rename to", to, e)),
    }
}

fn system(what: &'static str, path: &Path, source: impl Into<io::Error>) -> Error {
    Error::System { what, path: path.to_owned(), source: source.into() }
}
