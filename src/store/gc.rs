//! Garbage: what could go, and its removal. Looking and removing are one plan, made twice: to be
//! told, and under the lock.
//!
//! | what | goes when |
//! |---|---|
//! | a version | a rule says so, and no channel points at it or would after a step back |
//! | what speaks about a version | its version goes |
//! | a published blob | no entry of the index needs it, nor has a tool that knows no lock just put it there |
//! | a cache entry, record, download | it was not used for a while |
//! | a blob of the cache | no entry that stays names it |
//! | an unpacked layer | it was not used for a while, and nobody holds it |
//! | the scratch of a build | the build is dead |
//! | logs | they are old |
//!
//! A build that runs at the same time needs no list of what it uses: its blobs are links in its own
//! draft, the unpacked layers it stands on are held by flock, and what it has used since it began
//! is younger than any rule allows to go.
//!
//! Killed anywhere, this leaves a right store: versions leave by one rename of the index, as in a
//! removal, and all else may go in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::error::{Error, reading, writing};
use super::index::{IndexFile, PUBLISHED_ANNOTATION};
use super::remove::{self, Removal};
use super::{Draft, Store, Version, disk};
use crate::digest::Digest;
use crate::files::{self, Lock, is_aside, remove_tree, system};
use crate::image::epoch_of;

/// What may go.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Versions stay that are among the last so many of their name; revoked ones do not count.
    /// Without this and `older_than` all stay; with `older_than` alone the last one stays.
    pub keep: Option<usize>,
    /// Versions stay that were published less than this ago.
    pub older_than: Option<Duration>,
    /// What is in the cache stays if it was used less than this ago.
    pub cache_older_than: Duration,
    /// Logs stay if they were written less than this ago.
    pub logs_older_than: Duration,
    /// Files that belong to nothing stay if they came less than this ago: some tool may be about to
    /// name them.
    pub grace: Duration,
}

const DAY: Duration = Duration::from_secs(86_400);

impl Default for Rules {
    fn default() -> Self {
        Self {
            keep: None,
            older_than: None,
            cache_older_than: 14 * DAY,
            logs_older_than: 30 * DAY,
            grace: Duration::from_secs(3600),
        }
    }
}

/// One kind of garbage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Heap {
    /// What it is.
    pub kind: Kind,
    /// How many of it.
    pub count: u64,
    /// Bytes on the disk that nobody has afterwards. A file that is still linked elsewhere frees
    /// nothing.
    pub bytes: u64,
}

/// What garbage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Versions; their bytes are told with the blobs.
    Versions,
    /// Published blobs.
    Blobs,
    /// Remembered steps.
    Steps,
    /// Blobs of remembered steps.
    CacheBlobs,
    /// Unpacked layers.
    Layers,
    /// Downloads.
    Packages,
    /// Other files of the cache.
    Cache,
    /// Scratch folders of dead builds.
    Scratch,
    /// Folders of logs.
    Logs,
}

impl Kind {
    /// Returns what it is called in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Versions => "versions",
            Self::Blobs => "blobs",
            Self::Steps => "cached steps",
            Self::CacheBlobs => "cached blobs",
            Self::Layers => "unpacked layers",
            Self::Packages => "downloads",
            Self::Cache => "other cache files",
            Self::Scratch => "scratch of dead builds",
            Self::Logs => "logs of builds",
        }
    }
}

/// What could go, or went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Garbage {
    /// By kind, without those of which there is none.
    pub heaps: Vec<Heap>,
    /// The versions.
    pub versions: Vec<Version>,
    /// Why something stayed that a person may wonder about.
    pub notes: Vec<String>,
}

impl Garbage {
    /// Sum of all.
    pub fn bytes(&self) -> u64 {
        self.heaps.iter().map(|heap| heap.bytes).sum()
    }
}

impl Store {
    /// Returns what [`Store::collect`] would remove now.
    pub fn garbage(&self, rules: &Rules) -> Result<Garbage, Error> {
        let mut plan = Plan::make(self, &self.index()?.1, rules, None)?;
        for tree in plan.trees(self)? {
            plan.add(Kind::Layers, weigh(&tree.path));
        }
        for dir in Draft::abandoned(&self.scratch())? {
            plan.add(Kind::Scratch, weigh(&dir));
        }
        Ok(plan.told())
    }

    /// Removes what the rules say, and returns it. Unpacked layers, whose files may belong to ids
    /// that only exist inside the user namespace, are moved into the folder of `grave`, to be
    /// removed from there; without one they stay. Scratch of dead builds is not looked at: see
    /// [`Store::dead_drafts`].
    pub fn collect(&self, rules: &Rules, grave: Option<&Draft>) -> Result<Garbage, Error> {
        self.to_write()?;
        let mut moved = vec![];
        let mut plan;
        {
            let _lock = self.lock_repaired()?;
            let (before, index) = self.index()?;
            plan = Plan::make(self, &index, rules, grave)?;
            if !plan.removal.versions.is_empty() {
                remove::carry_out(self, &before, &plan.removal)?;
            }
            for file in &plan.files {
                // Somebody may hold it by now.
                let held = if file.is_lock {
                    Lock::try_exclusive(&file.path).map_err(writing)?
                } else {
                    None
                };
                if !file.is_lock || held.is_some() {
                    // The removal has taken some of them already.
                    disk::remove(&file.path).map_err(writing)?;
                }
            }
            for dir in &plan.dirs {
                remove_tree(dir).map_err(writing)?;
            }
            for tree in plan.trees(self)? {
                let Some(grave) = grave else { continue };
                let to = grave.dir().join(format!("layer-{}", tree.name()));
                if let Err(e) = disk::rename(&tree.path, &to) {
                    // A user may not move folders whose root a step gave to someone else.
                    plan.notes.push(format!(
                        "the unpacked layer {} stays: it cannot be moved ({})",
                        tree.name(),
                        told(&e)
                    ));
                    continue;
                }
                // Under its lock: whoever waits for it makes a new one.
                disk::remove(&tree.mark).map_err(writing)?;
                moved.push(to);
            }
        }
        // A tree may be large, and nobody needs to wait for its weight.
        for tree in &moved {
            plan.add(Kind::Layers, weigh(tree));
        }
        Ok(plan.told())
    }
}

/// A file that goes.
struct Victim {
    path: PathBuf,
    kind: Kind,
    is_lock: bool,
    inode: (u64, u64),
    links: u64,
    bytes: u64,
}

/// An unpacked layer that goes, held alone.
struct Tree {
    path: PathBuf,
    mark: PathBuf,
    _held: Option<Lock>,
}

impl Tree {
    fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

struct Plan {
    /// What was used after this stays in the cache.
    line: SystemTime,
    /// What came after this may be about to be named.
    grace: SystemTime,
    removal: Removal,
    files: Vec<Victim>,
    dirs: Vec<PathBuf>,
    /// What is no single file: how many, and their bytes.
    others: BTreeMap<Kind, (u64, u64)>,
    notes: Vec<String>,
}

impl Plan {
    /// `own`: a draft that is no build.
    fn make(
        store: &Store,
        index: &IndexFile,
        rules: &Rules,
        own: Option<&Draft>,
    ) -> Result<Self, Error> {
        // By the clock that stamps files, read first: what is stamped later than this belongs to a
        // build that has just begun.
        let now = stamp();
        let ago = |age: Duration| now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        // What a build has used since it began, it may use again; it looks around a little before
        // it begins.
        let mut living = Draft::living(&store.scratch())?;
        living.retain(|(id, _)| own.is_none_or(|own| own.id() != id));
        let begun = living
            .iter()
            .map(|(_, born)| born.checked_sub(rules.grace).unwrap_or(SystemTime::UNIX_EPOCH));
        let line = begun.chain([ago(rules.cache_older_than)]).min().unwrap_or(now);
        let removal = remove::plan(store, index, doomed(store, index, rules, now)?);
        let grace = ago(rules.grace);
        let mut plan = Self {
            line,
            grace,
            removal,
            files: vec![],
            dirs: vec![],
            others: BTreeMap::new(),
            notes: vec![],
        };
        plan.blobs(store)?;
        plan.cache(&store.dir().join("cache"), if living.is_empty() { now } else { line })?;
        plan.logs(store, ago(rules.logs_older_than), &living)?;
        Ok(plan)
    }

    fn blobs(&mut self, store: &Store) -> Result<(), Error> {
        if !self.removal.kept.complete() {
            let note = "no published blob is freed: an image cannot be read, so nobody knows what it needs (see `bake verify`)";
            self.notes.push(note.to_owned());
            return Ok(());
        }
        for entry in entries(&store.blobs())? {
            let Some(digest) = entry.name.to_str().and_then(|name| Digest::from_hex(name).ok())
            else {
                continue;
            };
            if self.removal.kept.blobs.contains(&digest) {
                continue;
            }
            if self.removal.blobs.contains(&digest) || entry.changed() < self.grace {
                self.take(entry, Kind::Blobs);
            }
        }
        Ok(())
    }

    /// `before`: blobs that came later may be about to be named.
    fn cache(&mut self, cache: &Path, before: SystemTime) -> Result<(), Error> {
        for room in entries(cache)?.into_iter().filter(|room| room.meta.is_dir()) {
            match room.name.to_str() {
                // Blobs after the entries that name them, layers with their locks.
                Some("steps" | "blobs") => {}
                Some("layers") => self.marks(&room.path)?,
                Some("locks") => self.locks(&room.path)?,
                Some("packages") => self.old(&room, Kind::Packages)?,
                _ => self.old(&room, Kind::Cache)?,
            }
        }
        let named = self.steps(&cache.join("steps"))?;
        for entry in entries(&cache.join("blobs"))? {
            let digest = entry.name.to_str().and_then(|name| Digest::from_hex(name).ok());
            // A build links the blob first and names it then.
            if digest.is_none_or(|digest| !named.contains(&digest)) && entry.changed() < before {
                self.take(entry, Kind::CacheBlobs);
            }
        }
        Ok(())
    }

    /// Takes the entries that were not used; returns every digest that those which stay name,
    /// whatever their format.
    fn steps(&mut self, dir: &Path) -> Result<BTreeSet<Digest>, Error> {
        let mut named = BTreeSet::new();
        for entry in entries(dir)?.into_iter().filter(|entry| entry.meta.is_file()) {
            if entry.modified() < self.line {
                self.take(entry, Kind::Steps);
            } else {
                let bytes =
                    disk::read(&entry.path, super::SMALL).ok().flatten().unwrap_or_default();
                named.extend(digests(&bytes));
            }
        }
        Ok(named)
    }

    /// Takes lock files that nobody holds.
    fn locks(&mut self, dir: &Path) -> Result<(), Error> {
        for entry in entries(dir)? {
            if entry.modified() < self.line {
                self.take_lock(entry);
            }
        }
        Ok(())
    }

    /// Takes marks of unpacked layers that are gone.
    fn marks(&mut self, dir: &Path) -> Result<(), Error> {
        for entry in entries(dir)? {
            let tree = entry
                .name
                .to_str()
                .and_then(|name| name.strip_suffix(".used"))
                .map(|name| dir.join(name));
            let orphan = entry.meta.is_file() && tree.is_some_and(|tree| !tree.exists());
            if orphan
                && entry.modified() < self.line
                && matches!(Lock::try_exclusive(&entry.path), Ok(Some(_)))
            {
                self.take(entry, Kind::Cache);
            }
        }
        Ok(())
    }

    /// Takes old files, however deep they lie. What is being downloaded has a while.
    fn old(&mut self, room: &Entry, kind: Kind) -> Result<(), Error> {
        let mut todo = vec![room.path.clone()];
        while let Some(dir) = todo.pop() {
            for entry in entries(&dir)? {
                let in_flight = dir.ends_with("partial");
                let line = if in_flight { self.line.min(self.grace) } else { self.line };
                if entry.meta.is_dir() {
                    todo.push(entry.path);
                } else if entry.used() < line {
                    self.take(entry, kind);
                }
            }
        }
        Ok(())
    }

    fn logs(
        &mut self,
        store: &Store,
        line: SystemTime,
        living: &[(String, SystemTime)],
    ) -> Result<(), Error> {
        for entry in entries(&store.dir().join("logs"))? {
            if living.iter().any(|(id, _)| entry.name == id.as_str()) || !entry.meta.is_dir() {
                continue;
            }
            let files = entries(&entry.path)?;
            if entry.modified() < line && files.iter().all(|file| file.modified() < line) {
                self.add(Kind::Logs, files.iter().map(Entry::bytes).sum());
                self.dirs.push(entry.path);
            }
        }
        Ok(())
    }

    /// Finds unpacked layers that nobody has used, and holds them so that nobody uses them.
    fn trees(&self, store: &Store) -> Result<Vec<Tree>, Error> {
        let dir = store.dir().join("cache/layers");
        let mut found = vec![];
        for entry in entries(&dir)?.into_iter().filter(|entry| entry.meta.is_dir()) {
            let Some(name) = entry.name.to_str() else { continue };
            let mark = dir.join(format!("{name}.used"));
            let used = fs::symlink_metadata(&mark).and_then(|meta| meta.modified());
            // Without a mark the last thing that happened to the tree is that it was moved here.
            if *used.as_ref().unwrap_or(&entry.changed()) >= self.line {
                continue;
            }
            let held = match used {
                // Looking must not make what is not there.
                Err(_) => None,
                Ok(_) => match Lock::try_exclusive(&mark) {
                    Ok(Some(held)) => Some(held),
                    // In use, or of somebody else.
                    Ok(None) | Err(_) => continue,
                },
            };
            found.push(Tree { path: entry.path, mark, _held: held });
        }
        Ok(found)
    }

    fn add(&mut self, kind: Kind, bytes: u64) {
        let sum = self.others.entry(kind).or_default();
        sum.0 += 1;
        sum.1 = sum.1.saturating_add(bytes);
    }

    fn take(&mut self, entry: Entry, kind: Kind) {
        if is_aside(&entry.name) && !files::is_abandoned(&entry.path) {
            return;
        }
        let (inode, links, bytes) =
            ((entry.meta.dev(), entry.meta.ino()), entry.meta.nlink(), entry.bytes());
        self.files.push(Victim { path: entry.path, kind, is_lock: false, inode, links, bytes });
    }

    /// Takes a lock file, unless somebody holds it.
    fn take_lock(&mut self, entry: Entry) {
        if entry.meta.is_file() && matches!(Lock::try_exclusive(&entry.path), Ok(Some(_))) {
            self.take(entry, Kind::Cache);
            self.files.iter_mut().rev().take(1).for_each(|file| file.is_lock = true);
        }
    }

    fn told(self) -> Garbage {
        let mut sums = self.others;
        if !self.removal.versions.is_empty() {
            sums.insert(Kind::Versions, (self.removal.versions.len() as u64, 0));
        }
        let mut going: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        for file in &self.files {
            let gone = going.entry(file.inode).or_default();
            *gone += 1;
            let sum = sums.entry(file.kind).or_default();
            sum.0 += 1;
            // The last of its names takes the bytes along.
            if *gone == file.links {
                sum.1 = sum.1.saturating_add(file.bytes);
            }
        }
        let heaps =
            sums.into_iter().map(|(kind, (count, bytes))| Heap { kind, count, bytes }).collect();
        Garbage { heaps, versions: self.removal.versions, notes: self.notes }
    }
}

/// An error with its cause on one line.
fn told(error: &files::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |cause| cause.to_string())
}

/// Returns the versions that the rules let go.
fn doomed(
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
    let mut doomed = vec![];
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
            doomed.push(version);
        }
    }
    doomed.reverse();
    Ok(doomed)
}

/// Returns when a version was published: as its entry says, else when its manifest came.
fn published(store: &Store, version: &Version) -> SystemTime {
    let told =
        version.manifest.annotations.get(PUBLISHED_ANNOTATION).and_then(|text| epoch_of(text));
    if let Some(seconds) = told.and_then(|seconds| u64::try_from(seconds).ok()) {
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

/// Returns the bytes on the disk below `dir`, as far as this process may look; a file with several
/// names counts once.
fn weigh(dir: &Path) -> u64 {
    let mut seen = BTreeSet::new();
    let mut sum = 0u64;
    for entry in walkdir::WalkDir::new(dir).into_iter().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.nlink() == 1 || meta.is_dir() || seen.insert((meta.dev(), meta.ino())) {
            sum = sum.saturating_add(meta.blocks() * 512);
        }
    }
    sum
}

/// Returns the time that a file would be stamped with now: a little behind the finer clock.
fn stamp() -> SystemTime {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    let (seconds, nanos) =
        (u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)
}

/// A name in a folder and what is there.
struct Entry {
    path: PathBuf,
    name: std::ffi::OsString,
    meta: fs::Metadata,
}

impl Entry {
    fn modified(&self) -> SystemTime {
        self.meta.modified().unwrap_or_else(|_| SystemTime::now())
    }

    /// When it was written or used last (see [`files::mark_used`]).
    fn used(&self) -> SystemTime {
        self.meta.accessed().map_or_else(|_| self.modified(), |used| used.max(self.modified()))
    }

    /// When it was written, linked or moved last: no tool sets that back.
    fn changed(&self) -> SystemTime {
        let seconds = u64::try_from(self.meta.ctime()).unwrap_or(0);
        SystemTime::UNIX_EPOCH
            + Duration::new(seconds, u32::try_from(self.meta.ctime_nsec()).unwrap_or(0))
    }

    fn bytes(&self) -> u64 {
        self.meta.blocks() * 512
    }
}

/// Returns what is in a folder, sorted; nothing where there is none. What goes away meanwhile was
/// never there.
fn entries(dir: &Path) -> Result<Vec<Entry>, Error> {
    let list = match fs::read_dir(dir) {
        Ok(list) => list,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(vec![]);
        }
        Err(e) => return Err(reading(system("list", dir, e))),
    };
    let mut found = vec![];
    for entry in list {
        let entry = entry.map_err(|e| reading(system("list", dir, e)))?;
        let path = entry.path();
        match fs::symlink_metadata(&path) {
            Ok(meta) => found.push(Entry { name: entry.file_name(), path, meta }),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(reading(system("look at", &path, e))),
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
