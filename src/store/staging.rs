//! A build in flight: its private corner of the store, and the blobs in it that are not published
//! yet.
//!
//! ```text
//! scratch/lock        held for a moment while a staging area is born, claimed or removed, so that none of these sees half of another
//! scratch/ID/lock     held by flock as long as the owner lives
//! scratch/ID/blobs/   <64 hex digits>: kept; others (files/aside.rs): being written
//! scratch/ID/work-dir a symlink to the directory for the rest, where that is not here (`Store::working_in`)
//! scratch/ID/…        whatever the build puts there
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::error::{Error, reading, writing};
use super::{Store, disk};
use crate::digest::Digest;
use crate::files::{Aside, Lock, remove_tree, system};

/// Name of the symlink to the directory where jobs write.
const WORK: &str = "work-dir";

/// A build in flight: a private corner `scratch/ID/`, held by flock. Dropped = nothing happened:
/// the corner is removed, as far as this process may (directories of subordinate ids must be
/// removed inside the user namespace before; what stays is found again by
/// [`Store::dead_stagings`]).
#[derive(Debug)]
pub struct Staging {
    scratch: PathBuf,
    corner: PathBuf,
    /// Where jobs write: the corner, or where its `work-dir` leads.
    dir: PathBuf,
    id: String,
    /// Blobs whose copies in the store may be damaged.
    suspects: Mutex<BTreeSet<Digest>>,
    /// Held until the directory is gone.
    _lock: Lock,
}

impl Store {
    /// Starts a build.
    pub fn staging(&self) -> Result<Staging, Error> {
        self.to_write()?;
        let work = self.work.as_ref().map(|work| work.join("staging"));
        Staging::new(&self.scratch(), work.as_deref())
    }

    /// Scratch directories whose owner is dead, each locked by us: to be removed (inside the user
    /// namespace), then dropped.
    pub fn dead_stagings(&self) -> Result<Vec<Staging>, Error> {
        self.to_write()?;
        Staging::dead(&self.scratch())
    }
}

impl Staging {
    /// Makes a new one in the directory `scratch`; jobs write in a directory of `work`, if that is
    /// given.
    pub(super) fn new(scratch: &Path, work: Option<&Path>) -> Result<Self, Error> {
        let _birth = door(scratch)?;
        // Sorted by name is sorted by time; the random rest keeps two of one millisecond apart.
        let prefix = format!("{}-", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3f"));
        let mut builder = tempfile::Builder::new();
        builder
            .prefix(&prefix)
            .rand_bytes(8)
            .permissions(Permissions::from_mode(disk::PRIVATE_DIR));
        let corner = builder
            .tempdir_in(scratch)
            .map_err(|e| writing(system("make a directory in", scratch, e)))?;
        let dir = corner.path().to_owned();
        let lock = Lock::try_exclusive(&dir.join("lock")).map_err(writing)?;
        let lock = lock.ok_or_else(|| Error::Busy { path: dir.join("lock"), waited: 0 })?;
        disk::make_dir(&dir.join("blobs"), disk::PRIVATE_DIR).map_err(writing)?;
        let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let _: PathBuf = corner.keep();
        let mut staging = Self {
            scratch: scratch.to_owned(),
            dir: dir.clone(),
            corner: dir,
            id,
            suspects: Mutex::default(),
            _lock: lock,
        };
        if let Some(work) = work {
            let to = work.join(&staging.id);
            let link = staging.corner.join(WORK);
            // The symlink first: whoever finds the one finds the other.
            symlink(&to, &link).map_err(|e| writing(system("make", &link, e)))?;
            disk::make_dir(&to, disk::PRIVATE_DIR).map_err(writing)?;
            staging.dir = to;
        }
        Ok(staging)
    }

    /// Claims every corner in `scratch` whose owner is dead.
    pub(super) fn dead(scratch: &Path) -> Result<Vec<Self>, Error> {
        let entries = match fs::read_dir(scratch) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            Err(e) => return Err(reading(system("list", scratch, e))),
        };
        let _claim = door(scratch)?;
        let mut dead = vec![];
        for entry in entries {
            let entry = entry.map_err(|e| reading(system("list", scratch, e)))?;
            // A directory whose name we could not say again is none of ours.
            let Ok(id) = entry.file_name().into_string() else { continue };
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            match Lock::try_exclusive(&entry.path().join("lock")) {
                Ok(Some(lock)) => dead.push(Self {
                    scratch: scratch.to_owned(),
                    dir: work_of(&entry.path()),
                    corner: entry.path(),
                    id,
                    suspects: Mutex::default(),
                    _lock: lock,
                }),
                // It lives.
                Ok(None) => {}
                // Gone in the meantime, or of another user: not ours to sweep.
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                    ) => {}
                Err(e) => return Err(writing(e)),
            }
        }
        dead.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(dead)
    }

    /// Returns the ids of the corners in `scratch` whose owners live, and when they were born.
    pub(super) fn living(scratch: &Path) -> Result<Vec<(String, SystemTime)>, Error> {
        Ok(look(scratch)?
            .into_iter()
            .filter(|one| one.lives)
            .map(|one| (one.id, one.born))
            .collect())
    }

    /// Returns the corners in `scratch` whose owners are dead, without claiming them.
    pub(super) fn abandoned(scratch: &Path) -> Result<Vec<PathBuf>, Error> {
        Ok(look(scratch)?
            .into_iter()
            .filter(|one| !one.lives)
            .map(|one| scratch.join(one.id))
            .collect())
    }

    /// The directory where its jobs write: `scratch/ID/`, or one in the work directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its directory `scratch/ID/`, on the file system of the store.
    pub(super) fn corner(&self) -> &Path {
        &self.corner
    }

    /// Its id: sorts by time of birth; fit for a file name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Begins a blob written aside on the store's file system.
    pub fn blob(&self) -> Result<NewBlob, Error> {
        let dir = self.blobs();
        let file = Aside::new(&dir).map_err(writing)?;
        Ok(NewBlob { dir, file: BufWriter::with_capacity(128 << 10, file) })
    }

    /// Adds small bytes as a blob and names them.
    pub fn put(&self, bytes: &[u8]) -> Result<(Digest, u64), Error> {
        let digest = Digest::of(bytes);
        let mut blob = self.blob()?;
        blob.write_all(bytes).map_err(|e| writing(system("write", &self.path(&digest), e)))?;
        blob.keep(&digest)?;
        Ok((digest, bytes.len() as u64))
    }

    /// Adds an existing file by hard link or copy under a digest that the caller has verified. A
    /// link shares the file: who owns it must only ever replace it, never write into it.
    pub fn adopt(&self, file: &Path, digest: &Digest) -> Result<(), Error> {
        let to = self.path(digest);
        if to.exists() {
            return Ok(());
        }
        let Some((mut from, _)) = disk::open(file).map_err(reading)? else {
            return Err(reading(system("open", file, io::Error::from(io::ErrorKind::NotFound))));
        };
        let meta = from.metadata().map_err(|e| reading(system("look at", file, e)))?;
        // Nobody else may be able to write into a published blob, or to take its read bit away.
        let ours = meta.uid() == rustix::process::geteuid().as_raw()
            && meta.mode() & 0o7777 == disk::PUBLIC_FILE;
        // A failed link (another file system, too many links) only means that it must be copied.
        if ours && fs::hard_link(file, &to).is_ok() {
            return Ok(());
        }
        let mut blob = self.blob()?;
        io::copy(&mut from, blob.file.get_mut()).map_err(|e| writing(system("write", &to, e)))?;
        blob.keep(digest)
    }

    /// Opens a blob that was kept here and is not published yet; `None` where there is none.
    pub fn open(&self, digest: &Digest) -> Result<Option<File>, Error> {
        Ok(disk::open(&self.path(digest)).map_err(reading)?.map(|(file, _)| file))
    }

    /// Flushes a kept blob to the disk.
    pub fn sync(&self, digest: &Digest) -> Result<(), Error> {
        disk::sync_file(&self.path(digest)).map_err(writing)
    }

    /// Where a kept blob lies until it is published.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Says that a blob of this digest in the store may be damaged: a publish that needs it puts
    /// this staging area's there instead.
    pub fn suspect(&self, digest: &Digest) {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest);
    }

    /// Whether [`Staging::suspect`] was called for it.
    pub(super) fn suspected(&self, digest: &Digest) -> bool {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    /// Removes the corner now, and says what could not be removed (dropping does the same in
    /// silence).
    pub fn discard(self) -> Result<(), Error> {
        // Dropping tries once more, which costs nothing when all is gone.
        self.clear()
    }

    fn blobs(&self) -> PathBuf {
        self.corner.join("blobs")
    }

    fn clear(&self) -> Result<(), Error> {
        if self.dir != self.corner {
            remove_tree(&self.dir).map_err(writing)?;
        }
        let entries = match fs::read_dir(&self.corner) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(writing(system("list", &self.corner, e))),
        };
        let mut failed = None;
        for entry in entries {
            let entry = entry.map_err(|e| writing(system("list", &self.corner, e)))?;
            if entry.file_name() == "lock" {
                continue;
            }
            // One directory that must stay does not save the others.
            if let Err(e) = remove_tree(&entry.path()) {
                failed = Some(e);
            }
        }
        if let Some(error) = failed {
            return Err(writing(error));
        }
        // The lock goes last, and not while somebody looks for dead staging areas: without it this
        // would look like one.
        let _burial = door(&self.scratch)?;
        remove_tree(&self.corner).map_err(writing)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed is still under our lock until we are gone, and a dead staging for
        // the next run afterwards.
        let _ = self.clear();
    }
}

/// Returns where the jobs of the build in this corner wrote: a symlink of our own says so.
fn work_of(corner: &Path) -> PathBuf {
    match fs::read_link(corner.join(WORK)) {
        Ok(to) if to.is_dir() => to,
        _ => corner.to_owned(),
    }
}

/// A corner, seen from outside.
struct Seen {
    id: String,
    born: SystemTime,
    lives: bool,
}

/// Looks at all corners and changes nothing, so that it can be done in somebody else's store.
fn look(scratch: &Path) -> Result<Vec<Seen>, Error> {
    let entries = match fs::read_dir(scratch) {
        Ok(entries) => entries,
        // Another user's is closed to us, and none of our business.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Ok(vec![]);
        }
        Err(e) => return Err(reading(system("list", scratch, e))),
    };
    // A corner without a lock is dead or just being born: behind the door there are none of the
    // latter.
    let _door = if scratch.join("lock").exists() { Some(door(scratch)?) } else { None };
    let mut seen = vec![];
    for entry in entries {
        let entry = entry.map_err(|e| reading(system("list", scratch, e)))?;
        let Ok(id) = entry.file_name().into_string() else { continue };
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path().join("lock");
        // The lock file is made at birth and never written.
        let (born, lives) = match fs::symlink_metadata(&path).and_then(|meta| meta.modified()) {
            Ok(born) => (born, !matches!(Lock::try_exclusive(&path), Ok(Some(_)))),
            Err(e) if e.kind() == io::ErrorKind::NotFound && entry.path().is_dir() => {
                (SystemTime::UNIX_EPOCH, false)
            }
            // Gone in the meantime, or not ours to look into.
            Err(_) => continue,
        };
        seen.push(Seen { id, born, lives });
    }
    seen.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(seen)
}

/// Holds `scratch/lock` for a moment.
fn door(scratch: &Path) -> Result<Lock, Error> {
    Lock::exclusive(&scratch.join("lock")).map_err(writing)
}

/// A blob being written; `Write`; dropped = gone.
#[derive(Debug)]
pub struct NewBlob {
    dir: PathBuf,
    file: BufWriter<Aside>,
}

impl NewBlob {
    /// Keeps it under `digest` (which the writer has computed); part of the staging area until
    /// published.
    pub fn keep(self, digest: &Digest) -> Result<(), Error> {
        let to = self.dir.join(digest.hex());
        let file =
            self.file.into_inner().map_err(|e| writing(system("write", &to, e.into_error())))?;
        // Not synced here: most staging areas that fail would pay for nothing. The publish syncs
        // what it takes.
        file.keep_unsynced(&to, disk::PUBLIC_FILE).map_err(writing)
    }
}

impl Write for NewBlob {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
