//! Whether a living root still is the image it claims to be.
//!
//! ```text
//! walk    directory by directory: what is there, what is new, what is mounted     every name: kind, mode, owner, target, attributes of directories
//! files   each regular file of the image: attributes, and, where the size fits, sha256 of its contents
//! links   which names are one file
//! missing names of the image that were not met
//! ```
//! Nothing is written, nothing followed, nothing waited for: fifos, sockets and devices are looked
//! at and not opened. Times are not compared. What may be left out is in `rule.rs` and, for people,
//! in `docs/drift.md`.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use rustix::io::Errno;

use self::cache::Cache;
use self::comparison::{Comparison, Found};
use self::look::Seen;
use self::progress::Progress;
use self::rule::Rules;
use self::walk::Walk;
use super::change::{Change, How};
use super::error::Error;
use super::picture::Picture;
use crate::event::Sink;
use crate::files::{Links, RootDir};
use crate::image::{IDENTITY_FILE, Identity, rfc3339};
use crate::threads;
use crate::tree::{self, Kind, What};

mod boot;
mod cache;
mod comparison;
mod disk;
mod link;
mod look;
mod place;
mod process;
mod progress;
mod report;
mod rule;
mod shift;
mod still;
mod walk;

pub use disk::{Disk, DiskRoot};
pub use place::Place;
pub use process::Living;
pub use process::living;
pub use report::{AtBoot, Claim, Counts, OnDisk, Options, PartChange, Report, Unread, Verdict};
pub use shift::Shift;

/// Times that a file which changes under the eyes is read again.
const TRIES: usize = 3;
/// Threads at least: while one waits for the disk another can hash.
const THREADS: usize = 4;
/// Longest identity file.
const MAX_IDENTITY: u64 = 64 << 10;

/// Reads what a root says of itself.
pub fn claim(root: &Path) -> Result<Claim, Error> {
    let dir = RootDir::open(root, Links::InRoot)
        .map_err(|source| Error::Root { path: root.to_owned(), source })?;
    let text = dir.read(Path::new(IDENTITY_FILE), MAX_IDENTITY).ok();
    let identity = text.and_then(|text| identity(&text));
    let own = is_own(root);
    let host = if own {
        Some(rustix::system::uname().nodename().to_string_lossy().into_owned())
    } else {
        let text = dir
            .read(Path::new("/etc/hostname"), 1024)
            .ok()
            .and_then(|text| String::from_utf8(text).ok());
        text.map(|text| text.trim().to_owned())
    };
    let place = if own { Place::own() } else { Place::Directory };
    Ok(Claim { host: host.filter(|host| !host.is_empty()), identity, place })
}

/// Reads an identity file.
fn identity(text: &[u8]) -> Option<Identity> {
    serde_json::from_slice::<Identity>(text).ok().filter(|identity| identity.v == 1)
}

/// Whether a root is the one this process lives in.
fn is_own(root: &Path) -> bool {
    let stat = |path: &Path| rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino)).ok();
    stat(root).is_some_and(|found| Some(found) == stat(Path::new("/")))
}

/// Returns the report of a root whose image nobody knows.
pub fn unknown(root: &Path, claim: &Claim, now: i64) -> Report {
    let identity = claim.identity.as_ref();
    Report {
        verdict: Verdict::Unknown,
        name: identity.map(|identity| identity.name.clone()),
        version: identity.map(|identity| identity.version.clone()),
        digest: None,
        claims: identity.map(|identity| format!("{}:{}", identity.name, identity.version)),
        host: claim.host.clone(),
        place: claim.place,
        root: root.to_owned(),
        disk: None,
        time: rfc3339(now),
        counts: Counts::default(),
        skipped: vec![],
        unreadable: vec![],
        changes: vec![],
        hint: None,
    }
}

/// Compares the root at `root`, which says `claim` of itself, with an image. An error means that
/// the root cannot be read (all that could be read is as it should be, but not all could), or a
/// pattern or the stat cache cannot be used; everything else is in the report. Reads on several
/// threads in memory bounded by the number of names; reports to `sink` how far it is (task
/// `compare`).
pub fn drift(
    root: &Path,
    claim: &Claim,
    picture: &Picture,
    options: &Options,
    sink: &Sink,
) -> Result<Report, Error> {
    let Picture { subject, tree } = picture;
    let rules = Rules::new(
        tree,
        &subject.volumes,
        subject.ignore.iter().chain(&options.ignore),
        options.strict,
    )?;
    let cache = options
        .cache
        .as_ref()
        .map(|path| Cache::open(path, root, options.shift, options.now))
        .transpose()?;
    let dir = RootDir::open(root, Links::Never)
        .map_err(|source| Error::Root { path: root.to_owned(), source })?;
    let names = Comparison::new(tree, &rules, options.all);
    let walk = Walk { root: &dir, shift: options.shift, names, files: Mutex::default() };
    let cached = AtomicU64::new(0);
    let work = || {
        rayon::scope(|scope| walk.directory(vec![], scope));
        let mut files = walk.files.lock().unwrap_or_else(PoisonError::into_inner);
        let files = std::mem::take(&mut *files);
        read_files(&walk, &files, cache.as_ref(), &cached, sink);
        let shift = walk.shift;
        let one = |(place, seen): &(usize, Seen)| (*place, seen.shared(), seen.node(shift));
        link::names(&walk.names, files.iter().map(one).collect());
        walk.names.missing();
    };
    in_pool(work);
    if let Some(cache) = cache {
        cache.save()?;
    }
    let report = report(root, claim, picture, walk.names.end(), options.now)?;
    let counts = Counts { cached: cached.into_inner(), ..report.counts };
    let hint = shift_hint(&report.changes, counts.compared);
    Ok(Report { counts, hint, ..report })
}

/// Runs what is worth several threads.
fn in_pool(work: impl FnOnce() + Send) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).max(THREADS);
    match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(work),
        // No new threads to be had: the ones there are do it.
        Err(_) => threads::in_pool(work),
    }
}

/// Makes the report of what has been found.
///
/// # Errors
/// [`Error::Unreadable`] where something could not be read and all else is as it should be: it is
/// never taken for equal.
fn report(
    root: &Path,
    claim: &Claim,
    picture: &Picture,
    found: Found,
    now: i64,
) -> Result<Report, Error> {
    let Found { changes, mut unreadable, .. } = found;
    if changes.is_empty() && !unreadable.is_empty() {
        unreadable.sort_by(|a, b| tree::order(&a.0, &b.0));
        let names = unreadable.len();
        let (path, source) = unreadable.swap_remove(0);
        let (root, first) = (root.to_owned(), tree::shown(&path));
        return Err(Error::Unreadable { root, names, first, source });
    }
    let found = Found { changes, unreadable, ..found };
    Ok(listed(root, claim, picture, found, now))
}

/// Lists what has been found.
fn listed(root: &Path, claim: &Claim, picture: &Picture, found: Found, now: i64) -> Report {
    let subject = &picture.subject;
    let Found { mut changes, mut mounts, mut unreadable, compared, .. } = found;
    changes.sort_by(|a, b| tree::order(&a.path, &b.path));
    mounts.sort_by(|a, b| tree::order(a, b));
    unreadable.sort_by(|a, b| tree::order(&a.0, &b.0));
    let count = |how| changes.iter().filter(|change| change.how == how).count() as u64;
    let counts = Counts {
        compared,
        added: count(How::Added),
        removed: count(How::Removed),
        changed: count(How::Changed),
        unreadable: unreadable.len() as u64,
        ..Counts::default()
    };
    let unread = |(path, error): (Vec<u8>, io::Error)| Unread { path, why: error.to_string() };
    Report {
        verdict: if changes.is_empty() { Verdict::Exact } else { Verdict::Drifted },
        name: Some(subject.name.clone()),
        version: Some(subject.version.clone()),
        digest: Some(subject.digest),
        skipped: mounts,
        unreadable: unreadable.into_iter().map(unread).collect(),
        counts,
        changes,
        ..unknown(root, claim, now)
    }
}

/// Lists what has been found on a disk of which something else than names is not as it was made.
fn drifted(
    root: &Path,
    claim: &Claim,
    picture: &Picture,
    found: Found,
    now: i64,
    disk: OnDisk,
) -> Report {
    let report = listed(root, claim, picture, found, now);
    let counts = Counts { parts: disk.changes.len() as u64, ..report.counts };
    Report { verdict: Verdict::Drifted, counts, disk: Some(disk), ..report }
}

/// Compares the regular files, many at once.
fn read_files(
    walk: &Walk<'_>,
    files: &[(usize, Seen)],
    cache: Option<&Cache>,
    cached: &AtomicU64,
    sink: &Sink,
) {
    let size = |place: usize| match walk.names.tree.at(place).1.kind {
        Kind::File { size, .. } => size,
        _ => 0,
    };
    let total: u64 = files
        .iter()
        .map(|(place, seen)| if size(*place) == seen.stamp.size { seen.stamp.size } else { 0 })
        .sum();
    let what = walk.root.path().display().to_string();
    let progress = Progress::new(what, total, sink);
    let report = |bytes: u64| progress.add(bytes);
    files.par_iter().for_each_init(Vec::new, |buffer, (place, seen)| {
        let (path, expected) = walk.names.tree.at(*place);
        if let (Some(cache), Kind::File { digest: Some(digest), .. }) = (cache, &expected.kind)
            && cache.get(path, &seen.stamp, &expected.meta) == Some(*digest)
        {
            let mut node = seen.node(walk.shift);
            node.meta.xattrs = expected.meta.xattrs.clone();
            cached.fetch_add(1, Ordering::Relaxed);
            report(seen.stamp.size);
            return walk.names.compare(*place, node);
        }
        read_file(walk, *place, cache, buffer, &report);
    });
}

/// Compares one regular file, again where it changes meanwhile.
fn read_file(
    walk: &Walk<'_>,
    place: usize,
    cache: Option<&Cache>,
    buffer: &mut Vec<u8>,
    report: &dyn Fn(u64),
) {
    let (path, expected) = walk.names.tree.at(place);
    let Kind::File { size, .. } = expected.kind else { return };
    for _ in 0..TRIES {
        let read = (|| {
            let mut file = File::from(look::open(walk.root, path, false)?);
            let before = Seen::at(&file, "".as_ref())?;
            let mut node = before.node(walk.shift);
            look::attributes(file.as_fd(), &mut node, walk.shift)?;
            let Kind::File { size: now, digest } = &mut node.kind else { return Ok(Some(node)) };
            if *now == size {
                let failed = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
                *digest = look::hash(&mut file, size, buffer, report).map_err(failed)?;
            }
            let after = Seen::at(&file, "".as_ref())?;
            if after.stamp != before.stamp {
                return Ok(None);
            }
            if let (Some(cache), Some(digest)) = (cache, *digest) {
                cache.add(path, before.stamp, digest, &node.meta);
            }
            Ok(Some(node))
        })();
        match read {
            Ok(Some(node)) => return walk.names.compare(place, node),
            Ok(None) => {}
            // It is not a file any more: what it is now is worth another look.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => {
                match walk.root.lstat(Walk::os(path)) {
                    Ok(meta) if meta.is_file() => {}
                    Ok(_) => return walk.names.unstable(path, Some(place)),
                    Err(_) => {
                        return walk
                            .names
                            .found()
                            .changes
                            .push(Change::removed(path, expected.clone()));
                    }
                }
            }
            Err(errno) => {
                return walk.names.found().unreadable.push((path.to_owned(), errno.into()));
            }
        }
    }
    walk.names.unstable(path, Some(place));
}

/// A root whose ids are all moved by the same number is a container's.
fn shift_hint(changes: &[Change], compared: u64) -> Option<String> {
    let mut moved: HashMap<u32, u64> = HashMap::new();
    for change in changes.iter().filter(|change| change.what.contains(&What::Owner)) {
        if let (Some(before), Some(after)) = (&change.before, &change.after) {
            let by = (
                after.meta.uid.wrapping_sub(before.meta.uid),
                after.meta.gid.wrapping_sub(before.meta.gid),
            );
            if by.0 == by.1 {
                *moved.entry(by.0).or_default() += 1;
            }
        }
    }
    let (by, names) = moved.into_iter().max_by_key(|(by, names)| (*names, *by))?;
    (names > 10 && names * 2 > compared).then(|| {
        format!(
            "owners are {by} higher throughout: if this is a container's root, give \
            --owner-shift {by}"
        )
    })
}
