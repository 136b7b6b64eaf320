//! What could go now, in two parts: what no writer needs a lock for, and what only goes under it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::entry::{Entry, entries, file_clock};
use super::rules::{Amount, Garbage, Kind, Rules};
use crate::digest::Digest;
use crate::files::{self, Lock, is_aside};
use crate::image::epoch_of;
use crate::store::error::Error;
use crate::store::index::{IndexFile, PUBLISHED_ANNOTATION};
use crate::store::remove::{self, Removal};
use crate::store::{SMALL, Staging, Store, Version, disk};

/// A file that goes.
pub(super) struct Victim {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) is_lock: bool,
    inode: (u64, u64),
    links: u64,
    bytes: u64,
}

/// An unpacked layer that goes, held alone.
pub(super) struct UnusedLayer {
    pub(super) path: PathBuf,
    pub(super) note: PathBuf,
    pub(super) name: String,
    _held: Option<Lock>,
}

/// From when on what was used, or came, stays.
#[derive(Clone)]
pub(super) struct Times {
    now: SystemTime,
    /// What was used after this stays in the cache.
    line: SystemTime,
    /// What came after this may be about to be named.
    grace: SystemTime,
    /// Blobs of the cache that came after this may be about to be named.
    blobs: SystemTime,
    logs: SystemTime,
    living: Vec<String>,
}

/// What goes of the cache and the logs.
#[derive(Default)]
pub(super) struct CachePlan {
    pub(super) files: Vec<Victim>,
    /// Directories of logs, with their bytes.
    pub(super) logs: Vec<(PathBuf, u64)>,
}

/// What goes of the versions, and the blobs that nothing needs then.
pub(super) struct VersionPlan {
    pub(super) removal: Removal,
    pub(super) blobs: Vec<Victim>,
    pub(super) notes: Vec<String>,
}

/// Sums of what goes, or went.
#[derive(Default)]
pub(super) struct Tally {
    sums: BTreeMap<Kind, (u64, u64)>,
    /// How many names of a file went.
    names: BTreeMap<(u64, u64), u64>,
}

impl Times {
    /// `own`: a staging area that is no build.
    pub(super) fn of(store: &Store, rules: &Rules, own: Option<&Staging>) -> Result<Self, Error> {
        // By the clock that stamps files, read first: what is stamped later than this belongs to a
        // build that has just begun.
        let now = file_clock();
        let ago = |age: Duration| now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        // What a build has used since it began, it may use again; it looks around a little before
        // it begins.
        let mut living = Staging::living(&store.scratch())?;
        living.retain(|(id, _)| own.is_none_or(|own| own.id() != id));
        let begun = living
            .iter()
            .map(|(_, born)| born.checked_sub(rules.grace).unwrap_or(SystemTime::UNIX_EPOCH));
        let line = begun.chain([ago(rules.cache_older_than)]).min().unwrap_or(now);
        Ok(Self {
            now,
            line,
            grace: ago(rules.grace),
            blobs: if living.is_empty() { now } else { line },
            logs: ago(rules.logs_older_than),
            living: living.into_iter().map(|(id, _)| id).collect(),
        })
    }
}

impl CachePlan {
    pub(super) fn make(store: &Store, times: &Times) -> Result<Self, Error> {
        let mut plan = Self::default();
        plan.cache(&store.dir().join("cache"), times)?;
        if store.work.is_some() {
            plan.notes(&store.layers_path(), times)?;
        }
        plan.logs(&store.dir().join("logs"), times)?;
        Ok(plan)
    }

    fn cache(&mut self, cache: &Path, times: &Times) -> Result<(), Error> {
        for entry in entries(cache)?.into_iter().filter(|entry| entry.metadata.is_dir()) {
            match entry.name.to_str() {
                // Blobs after the entries that name them, layers with their locks.
                Some("steps" | "images" | "blobs") => {}
                // What steps keep has a limit of its own (kept.rs).
                Some("mounts") => {}
                Some("layers") => self.notes(&entry.path, times)?,
                Some("locks") => self.locks(&entry.path, times)?,
                Some("packages") => self.old(&entry, Kind::Packages, times)?,
                _ => self.old(&entry, Kind::Cache, times)?,
            }
        }
        let mut named = self.naming(&cache.join("steps"), Kind::Steps, times)?;
        named.extend(self.naming(&cache.join("images"), Kind::Cache, times)?);
        for entry in entries(&cache.join("blobs"))? {
            let digest = entry.name.to_str().and_then(|name| Digest::from_hex(name).ok());
            // A build links the blob first and names it then.
            if digest.is_none_or(|digest| !named.contains(&digest)) && entry.changed() < times.blobs
            {
                self.take(entry, Kind::CacheBlobs);
            }
        }
        Ok(())
    }

    /// Takes the entries that were not used; returns every digest that those which stay name,
    /// whatever their format.
    fn naming(&mut self, dir: &Path, kind: Kind, times: &Times) -> Result<BTreeSet<Digest>, Error> {
        let mut named = BTreeSet::new();
        for entry in entries(dir)?.into_iter().filter(|entry| entry.metadata.is_file()) {
            if entry.used() < times.line {
                self.take(entry, kind);
            } else {
                let bytes = disk::read(&entry.path, SMALL).ok().flatten().unwrap_or_default();
                named.extend(digests(&bytes));
            }
        }
        Ok(named)
    }

    /// Takes lock files that nobody holds.
    fn locks(&mut self, dir: &Path, times: &Times) -> Result<(), Error> {
        for entry in entries(dir)?.into_iter().filter(|entry| entry.metadata.is_file()) {
            if entry.used() < times.line && matches!(Lock::try_exclusive(&entry.path), Ok(Some(_)))
            {
                let before = self.files.len();
                self.take(entry, Kind::Cache);
                self.files[before..].iter_mut().for_each(|file| file.is_lock = true);
            }
        }
        Ok(())
    }

    /// Takes the notes of unpacked layers that are gone.
    fn notes(&mut self, dir: &Path, times: &Times) -> Result<(), Error> {
        for entry in entries(dir)?.into_iter().filter(|entry| entry.metadata.is_file()) {
            let name = entry.name.to_str().and_then(|name| name.strip_suffix(".used"));
            if name.is_some_and(|name| !dir.join(name).exists())
                && entry.used() < times.line
                && matches!(Lock::try_exclusive(&entry.path), Ok(Some(_)))
            {
                self.take(entry, Kind::Cache);
            }
        }
        Ok(())
    }

    /// Takes old files, however deep they lie. What is being downloaded has a while.
    fn old(&mut self, entry: &Entry, kind: Kind, times: &Times) -> Result<(), Error> {
        let mut todo = vec![entry.path.clone()];
        while let Some(dir) = todo.pop() {
            let line =
                if dir.ends_with("partial") { times.line.min(times.grace) } else { times.line };
            for entry in entries(&dir)? {
                if entry.metadata.is_dir() {
                    todo.push(entry.path);
                } else if entry.used() < line {
                    self.take(entry, kind);
                }
            }
        }
        Ok(())
    }

    fn logs(&mut self, dir: &Path, times: &Times) -> Result<(), Error> {
        for entry in entries(dir)? {
            let lives = times.living.iter().any(|id| entry.name == id.as_str());
            if lives || !entry.metadata.is_dir() {
                continue;
            }
            let files = entries(&entry.path)?;
            if entry.modified() < times.logs
                && files.iter().all(|file| file.modified() < times.logs)
            {
                self.logs.push((entry.path, files.iter().map(Entry::bytes).sum()));
            }
        }
        Ok(())
    }

    /// What is being written aside goes only where its writer is dead.
    fn take(&mut self, entry: Entry, kind: Kind) {
        if !is_aside(&entry.name) || files::is_abandoned(&entry.path) {
            self.files.push(Victim::new(entry, kind));
        }
    }
}

impl VersionPlan {
    pub(super) fn make(
        store: &Store,
        index: &IndexFile,
        rules: &Rules,
        times: &Times,
    ) -> Result<Self, Error> {
        let removal = remove::plan(store, index, expired(store, index, rules, times.now)?);
        let mut plan = Self { removal, blobs: vec![], notes: vec![] };
        if !plan.removal.kept.complete() {
            let note = "no published blob is freed: an image cannot be read, so nobody knows what \
                it needs (see `bake verify`)";
            plan.notes.push(note.to_owned());
            return Ok(plan);
        }
        for entry in entries(&store.blobs())? {
            let digest = entry.name.to_str().and_then(|name| Digest::from_hex(name).ok());
            let goes = digest.is_some_and(|digest| {
                !plan.removal.kept.blobs.contains(&digest)
                    && (plan.removal.blobs.contains(&digest) || entry.changed() < times.grace)
            });
            if goes {
                plan.blobs.push(Victim::new(entry, Kind::Blobs));
            }
        }
        Ok(plan)
    }
}

impl Victim {
    fn new(entry: Entry, kind: Kind) -> Self {
        let (inode, links) = entry.inode();
        Self { bytes: entry.bytes(), path: entry.path, kind, is_lock: false, inode, links }
    }
}

impl Tally {
    pub(super) fn file(&mut self, file: &Victim) {
        let gone = self.names.entry(file.inode).or_default();
        *gone += 1;
        // The last of its names takes the bytes along.
        let bytes = if *gone == file.links { file.bytes } else { 0 };
        self.add(file.kind, 1, bytes);
    }

    /// Forgets which names went: what is looked at from now on has fewer already.
    pub(super) fn look_again(&mut self) {
        self.names.clear();
    }

    pub(super) fn add(&mut self, kind: Kind, count: u64, bytes: u64) {
        let sum = self.sums.entry(kind).or_default();
        sum.0 += count;
        sum.1 = sum.1.saturating_add(bytes);
    }

    pub(super) fn garbage(self, versions: Vec<Version>, notes: Vec<String>) -> Garbage {
        let amounts = self
            .sums
            .into_iter()
            .filter(|(_, (count, _))| *count > 0)
            .map(|(kind, (count, bytes))| Amount { kind, count, bytes })
            .collect();
        Garbage { amounts, versions, notes }
    }
}

/// Finds unpacked layers that nobody has used, and holds them so that nobody uses them.
pub(super) fn unpacked_layers(store: &Store, times: &Times) -> Result<Vec<UnusedLayer>, Error> {
    let dir = store.layers_path();
    let mut found = vec![];
    for entry in entries(&dir)?.into_iter().filter(|entry| entry.metadata.is_dir()) {
        let Some(name) = entry.name.to_str() else { continue };
        let note = dir.join(format!("{name}.used"));
        let used = fs::symlink_metadata(&note).map(|metadata| files::last_used(&metadata));
        // Without a note the last thing that happened to the layer is that it was moved here.
        if *used.as_ref().unwrap_or(&entry.changed()) >= times.line {
            continue;
        }
        let held = match used {
            // Looking must not make what is not there.
            Err(_) => None,
            Ok(_) => match Lock::try_exclusive(&note) {
                Ok(Some(held)) => Some(held),
                // In use, or of somebody else.
                Ok(None) | Err(_) => continue,
            },
        };
        let name = name.to_owned();
        found.push(UnusedLayer { path: entry.path, note, name, _held: held });
    }
    Ok(found)
}

/// Returns the versions that the rules let go.
fn expired(
    store: &Store,
    index: &IndexFile,
    rules: &Rules,
    now: SystemTime,
) -> Result<Vec<Version>, Error> {
    if rules.keep.is_none() && rules.older_than.is_none() {
        return Ok(vec![]);
    }
    let mut safe: BTreeSet<(String, Digest)> = BTreeSet::new();
    for channel in store.channels()? {
        let name = channel.reference.name;
        // And where a step back leads: who needs one in a hurry must not find it gone.
        safe.extend(
            [Some(channel.to), channel.earlier.into_iter().next()]
                .into_iter()
                .flatten()
                .map(|to| (name.clone(), to.digest)),
        );
    }
    let revoked = store.revocations()?;
    let keep = rules.keep.unwrap_or(1);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut expired = vec![];
    for version in index.versions().into_iter().rev() {
        let digest = version.manifest.digest;
        let bad = revoked.contains_key(&digest);
        let place = seen.entry(version.reference.name.clone()).or_default();
        if !bad {
            *place += 1;
        }
        let among_last = !bad && *place <= keep;
        let old = rules.older_than.is_none_or(|age| {
            published(store, &version) < now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)
        });
        if !among_last && old && !safe.contains(&(version.reference.name.clone(), digest)) {
            expired.push(version);
        }
    }
    expired.reverse();
    Ok(expired)
}

/// Returns when a version was published: as its entry says, else when its manifest came.
fn published(store: &Store, version: &Version) -> SystemTime {
    let noted =
        version.manifest.annotations.get(PUBLISHED_ANNOTATION).and_then(|text| epoch_of(text));
    if let Some(seconds) = noted.and_then(|seconds| u64::try_from(seconds).ok()) {
        return SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    }
    // Where nobody knows, it is new: what is old can go tomorrow.
    fs::symlink_metadata(store.blob_path(&version.manifest.digest))
        .and_then(|meta| meta.modified())
        .unwrap_or_else(|_| SystemTime::now())
}

/// Finds everything that is written like a digest.
fn digests(bytes: &[u8]) -> Vec<Digest> {
    let text = String::from_utf8_lossy(bytes);
    text.match_indices("sha256:")
        .filter_map(|(at, _)| text.get(at..at + 71).and_then(|digest| digest.parse().ok()))
        .collect()
}
