//! Directories that steps keep between builds.
//!
//! ```text
//! cache/mounts/<id>/about.json   what it is for people; whether anything was measured (Kept)
//! cache/mounts/<id>/data/        what steps see; its files belong to ids of images
//! cache/mounts/<id>.lock         held while it is used: shared or alone; atime = last use
//! cache/mounts/limit             most bytes of all of them, where it is not the default
//! ```
//! With a directory to work in, `mounts/` of that one. Nobody may rely on one being there, and what
//! is in it names nothing: it is no part of a key. `<id>/` and the file of the lock are this
//! user's, so that one goes by one rename under its lock, whoever owns the files in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::disk;
use super::error::{Error, reading, writing};
use super::layout::{SMALL, Store};
use crate::digest::Digest;
use crate::files::{self, Lock, system};

/// Most bytes that all of them take, where nobody says otherwise.
pub const KEPT_LIMIT: u64 = 10 << 30;

/// How many of its own each that uses one alone may have.
const INSTANCES: u32 = 64;

/// Bytes of a name on the disk.
const ID: usize = 32;

/// What names a kept directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeptName {
    /// As the recipe calls it, or its image and path.
    pub name: String,
    /// For programs of which processor.
    pub platform: String,
    /// Whose it is, as the step says.
    pub user: String,
    /// Which of several that are used by one step each; 0: the first, or the one that all use.
    #[serde(default)]
    pub instance: u32,
}

impl KeptName {
    /// Returns what it is called on the disk: hex digits.
    pub fn id(&self) -> String {
        let bytes = serde_json::to_vec(self).expect("plain data always has a JSON form");
        Digest::of(&bytes).hex()[..ID].to_owned()
    }
}

/// How one is used while others may want it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Together with others.
    Shared,
    /// Alone; others wait.
    Alone,
    /// Alone; others get another instance.
    Instance,
}

/// A kept directory in use.
#[derive(Debug)]
pub struct InUse {
    /// What it is called on the disk.
    pub id: String,
    /// The directory that steps see.
    pub data: PathBuf,
    _lock: Lock,
}

/// A kept directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// What it is called on the disk.
    pub id: String,
    /// What names it.
    #[serde(flatten)]
    pub name: KeptName,
    /// Bytes on the disk when it was last measured; `None`: it never was.
    pub bytes: Option<u64>,
    /// Files and directories in it, likewise.
    pub entries: Option<u64>,
    /// When it was last used: seconds since 1970.
    pub used: u64,
    /// The same to the nanosecond.
    #[serde(skip)]
    pub last: SystemTime,
}

/// What stands beside the directory.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    #[serde(flatten)]
    name: KeptName,
    #[serde(default)]
    bytes: Option<u64>,
    #[serde(default)]
    entries: Option<u64>,
}

impl Store {
    /// Returns the directory of the kept directories, made if missing.
    pub fn kept_dir(&self) -> Result<PathBuf, Error> {
        let path = self.kept_path();
        if !self.to_read {
            disk::make_dir(&path, disk::PRIVATE_DIR).map_err(writing)?;
            // Files in it may be set-user-id, and nobody else may start them.
            disk::set_mode(&path, disk::PRIVATE_DIR).map_err(writing)?;
        }
        Ok(path)
    }

    fn kept_path(&self) -> PathBuf {
        self.work.as_ref().map_or_else(|| self.dir.join("cache/mounts"), |work| work.join("mounts"))
    }

    /// Returns the directory called `name`, made if missing, held for this use of it. `stop` ends
    /// the waiting with `None`; `waits` is called once, before it begins.
    ///
    /// # Errors
    /// Where it cannot be made, or what is there is no directory.
    pub fn keep_dir(
        &self,
        name: &KeptName,
        how: Use,
        stop: &dyn Fn() -> bool,
        waits: &mut dyn FnMut(),
    ) -> Result<Option<InUse>, Error> {
        let dir = self.kept_dir()?;
        let mut name = name.clone();
        let mut waited = false;
        loop {
            let id = name.id();
            let path = dir.join(format!("{id}.lock"));
            let lock = match how {
                Use::Shared => Lock::try_shared(&path),
                Use::Alone | Use::Instance => Lock::try_exclusive(&path),
            };
            if let Some(lock) = lock.map_err(writing)? {
                let data = made(&dir.join(&id), &name)?;
                files::mark_used(lock.file());
                return Ok(Some(InUse { id, data, _lock: lock }));
            }
            if how == Use::Instance && name.instance + 1 < INSTANCES {
                name.instance += 1;
                continue;
            }
            if stop() {
                return Ok(None);
            }
            if !waited {
                waited = true;
                waits();
            }
            // A wait in the kernel could not be given up.
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Lists all kept directories, the one used last first. What cannot be read of one is as if it
    /// had never been measured.
    pub fn kept(&self) -> Result<Vec<Kept>, Error> {
        let dir = self.kept_path();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => return Err(reading(system("list", &dir, error))),
        };
        let mut all: Vec<Kept> = entries
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .filter_map(|entry| self.kept_as(&entry.file_name().into_string().ok()?))
            .collect();
        all.sort_by(|a, b| b.last.cmp(&a.last).then_with(|| a.name.cmp(&b.name)));
        Ok(all)
    }

    /// Returns the kept directory that is called `id` on the disk.
    fn kept_as(&self, id: &str) -> Option<Kept> {
        if id.len() != ID || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let dir = self.kept_path();
        let About { name, bytes, entries } = about(&dir.join(id)).unwrap_or_else(|| About {
            name: KeptName {
                name: "?".to_owned(),
                platform: String::new(),
                user: String::new(),
                instance: 0,
            },
            bytes: None,
            entries: None,
        });
        let lock = fs::metadata(dir.join(format!("{id}.lock"))).ok();
        let last = lock.map_or(SystemTime::UNIX_EPOCH, |meta| files::last_used(&meta));
        let used = last.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        Some(Kept { id: id.to_owned(), name, bytes, entries, used, last })
    }

    /// Notes how large one was when it was measured.
    pub fn note_kept(&self, id: &str, bytes: u64, entries: u64) -> Result<(), Error> {
        let path = self.kept_path().join(id);
        let Some(About { name, .. }) = about(&path) else { return Ok(()) };
        write_about(&path, &About { name, bytes: Some(bytes), entries: Some(entries) })
    }

    /// Moves one to `to`, a path where nothing is; false: somebody uses it, or it is gone.
    pub fn take_kept(&self, id: &str, to: &Path) -> Result<bool, Error> {
        let dir = self.kept_dir()?;
        let path = dir.join(format!("{id}.lock"));
        let Some(lock) = Lock::try_exclusive(&path).map_err(writing)? else { return Ok(false) };
        let moved = match disk::rename(&dir.join(id), to) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            other => other.map(|()| true).map_err(writing)?,
        };
        // Under its lock: whoever waits for it makes a new one.
        disk::remove(&path).map_err(writing)?;
        drop(lock);
        Ok(moved)
    }

    /// Puts the directory `from`, in which `data` is what steps are to see, in the place of the one
    /// called `name`, which goes to `old`, a path where nothing is. False: somebody uses that.
    pub fn put_kept(&self, name: &KeptName, from: &Path, old: &Path) -> Result<bool, Error> {
        let (dir, id) = (self.kept_dir()?, name.id());
        let lock = dir.join(format!("{id}.lock"));
        let Some(lock) = Lock::try_exclusive(&lock).map_err(writing)? else { return Ok(false) };
        let about = About { name: name.clone(), bytes: None, entries: None };
        write_about(from, &about)?;
        match disk::rename(&dir.join(&id), old) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            other => other.map_err(writing)?,
        }
        disk::rename(from, &dir.join(&id)).map_err(writing)?;
        files::mark_used(lock.file());
        Ok(true)
    }

    /// Returns the most bytes that all of them may take.
    pub fn kept_limit(&self) -> u64 {
        let read = disk::read(&self.kept_path().join("limit"), SMALL).ok().flatten();
        let text = read.and_then(|bytes| String::from_utf8(bytes).ok());
        text.and_then(|text| text.trim().parse().ok()).unwrap_or(KEPT_LIMIT)
    }

    /// Sets the most bytes that all of them may take.
    pub fn set_kept_limit(&self, bytes: u64) -> Result<(), Error> {
        self.to_write()?;
        let path = self.kept_dir()?.join("limit");
        disk::write(&path, format!("{bytes}\n").as_bytes()).map_err(writing)
    }
}

/// Makes the directory at `path`, and returns the one in it that steps see. What is there and is no
/// directory is an error: nobody but a person can have put it there.
fn made(path: &Path, name: &KeptName) -> Result<PathBuf, Error> {
    let data = path.join("data");
    disk::make_dir(path, disk::PRIVATE_DIR).map_err(writing)?;
    let made = disk::make_dir(&data, 0o755).map_err(writing)?;
    let is_directory = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    if let Some(path) = [path, &data].into_iter().find(|path| !is_directory(path)) {
        let why = "it is not a directory".to_owned();
        return Err(Error::Damaged { path: path.to_owned(), why });
    }
    if made || about(path).is_none() {
        write_about(path, &About { name: name.clone(), bytes: None, entries: None })?;
    }
    Ok(data)
}

fn about(path: &Path) -> Option<About> {
    let bytes = disk::read(&path.join("about.json"), SMALL).ok().flatten()?;
    serde_json::from_slice(&bytes).ok()
}

fn write_about(path: &Path, about: &About) -> Result<(), Error> {
    let bytes = serde_json::to_vec(about).expect("plain data always has a JSON form");
    disk::write_soon(&path.join("about.json"), &bytes).map_err(writing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> KeptName {
        let (platform, user) = ("linux/amd64".to_owned(), "root".to_owned());
        KeptName { name: name.to_owned(), platform, user, instance: 0 }
    }

    fn keep(store: &Store, what: &str, how: Use) -> Option<InUse> {
        store.keep_dir(&name(what), how, &|| true, &mut || {}).unwrap()
    }

    #[test]
    fn what_is_kept_is_there_again_and_may_be_used_together_or_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let first = keep(&store, "pip", Use::Shared).unwrap();
        fs::write(first.data.join("wheel"), "w").unwrap();
        let second = keep(&store, "pip", Use::Shared).unwrap();
        assert_eq!(fs::read(second.data.join("wheel")).unwrap(), b"w");
        assert!(keep(&store, "pip", Use::Alone).is_none(), "others use it");
        drop((first, second));
        let alone = keep(&store, "pip", Use::Alone).unwrap();
        assert!(keep(&store, "pip", Use::Shared).is_none());
        assert_ne!(keep(&store, "npm", Use::Shared).unwrap().data, alone.data);
    }

    #[test]
    fn each_that_wants_its_own_gets_another_and_later_one_that_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let first = keep(&store, "target", Use::Instance).unwrap();
        let second = keep(&store, "target", Use::Instance).unwrap();
        assert_ne!(first.data, second.data);
        let (one, two) = (first.data.clone(), second.data.clone());
        drop(first);
        assert_eq!(keep(&store, "target", Use::Instance).unwrap().data, one);
        drop(second);
        let again = keep(&store, "target", Use::Instance).unwrap();
        assert_eq!((again.data, keep(&store, "target", Use::Instance).unwrap().data), (one, two));
    }

    #[test]
    fn one_in_use_is_not_taken_and_a_new_one_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let held = keep(&store, "pip", Use::Shared).unwrap();
        fs::write(held.data.join("wheel"), "w").unwrap();
        let aside = dir.path().join("aside");
        assert!(!store.take_kept(&held.id, &aside).unwrap());
        let id = held.id.clone();
        drop(held);
        assert!(store.take_kept(&id, &aside).unwrap());
        assert_eq!(store.kept().unwrap(), []);
        assert!(!store.take_kept(&id, &aside).unwrap(), "it is gone");
        let again = keep(&store, "pip", Use::Shared).unwrap();
        assert_eq!(fs::read_dir(&again.data).unwrap().count(), 0);
    }

    #[test]
    fn the_list_has_the_last_used_first_and_what_was_measured() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let old = keep(&store, "old", Use::Shared).unwrap();
        let lock = fs::File::open(store.kept_dir().unwrap().join(format!("{}.lock", old.id)));
        let past = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let times = fs::FileTimes::new().set_accessed(past).set_modified(past);
        lock.unwrap().set_times(times).unwrap();
        let new = keep(&store, "new", Use::Shared).unwrap();
        store.note_kept(&new.id, 12, 3).unwrap();
        let list = store.kept().unwrap();
        let names: Vec<&str> = list.iter().map(|one| one.name.name.as_str()).collect();
        assert_eq!(names, ["new", "old"]);
        assert_eq!((list[0].bytes, list[0].entries, list[1].bytes), (Some(12), Some(3), None));
        assert_eq!(list[1].used, 1000);
    }

    #[test]
    fn a_broken_note_harms_nothing_and_a_file_in_its_place_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let id = name("pip").id();
        let path = store.kept_dir().unwrap().join(&id);
        drop(keep(&store, "pip", Use::Shared));
        fs::write(path.join("about.json"), "{").unwrap();
        assert_eq!(store.kept().unwrap()[0].name.name, "?");
        drop(keep(&store, "pip", Use::Shared).unwrap());
        assert_eq!(store.kept().unwrap()[0].name.name, "pip");
        fs::remove_dir(path.join("data")).unwrap();
        std::os::unix::fs::symlink("/etc", path.join("data")).unwrap();
        let failed = store.keep_dir(&name("pip"), Use::Shared, &|| true, &mut || {});
        assert!(failed.is_err(), "a link is not followed");
    }

    #[test]
    fn the_limit_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        assert_eq!(store.kept_limit(), KEPT_LIMIT);
        store.set_kept_limit(5).unwrap();
        assert_eq!(store.kept_limit(), 5);
    }

    #[test]
    fn what_is_put_replaces_what_was_there_unless_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let make = |text: &str| {
            let from = dir.path().join(text);
            fs::create_dir_all(from.join("data")).unwrap();
            fs::write(from.join("data/file"), text).unwrap();
            from
        };
        let held = keep(&store, "pip", Use::Shared).unwrap();
        let old = dir.path().join("before");
        assert!(!store.put_kept(&name("pip"), &make("a"), &old).unwrap());
        drop(held);
        assert!(store.put_kept(&name("pip"), &make("b"), &old).unwrap());
        let now = keep(&store, "pip", Use::Shared).unwrap();
        assert_eq!(fs::read_to_string(now.data.join("file")).unwrap(), "b");
    }
}
