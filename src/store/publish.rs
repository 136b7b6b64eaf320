//! The writers of `index.json` and `blobs/`: publish, and the repair of a publish or a removal
//! (remove.rs) that died half way.
//!
//! Publish, in this order (each line durable before the next):
//! ```text
//! before the lock   sync every blob of the staging area that will be needed
//! under the lock    repair what a dead writer left · look at the versions again
//!   publish.json    names the blobs that are about to appear, the outputs, and the index that does
//!                   not know them
//!   blobs/sha256/   rename them in, sync the directory
//!   outputs         out of the sweep's way, beside their places (placement.rs)
//!   index.json      aside, sync, rename, sync the directory      ◄── from here on it is published
//!   outputs         into their places, what they replace is removed
//!   publish.json    removed
//! ```
//! A death at any point leaves `publish.json`, or nothing to do. The next writer takes back every
//! blob it names that the index does not need: before the rename that is all of them, after it
//! none; and it removes the outputs before the rename, and puts them in place after it. A removal works the same way round: index, then blobs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{Error, reading, writing};
use super::index::{self, IndexFile};
use super::placement::{self, Placement};
use super::{Published, Staging, Store, Version, disk, layout, reach, record};
use crate::digest::Digest;
use crate::files::{self, Lock, is_aside, system};
use crate::image::{Descriptor, Kind, Reference, kind};

/// `publish.json`: what the writer under the lock is about to do.
#[derive(Debug, Serialize, Deserialize)]
struct Journal {
    /// Format of this file.
    v: u32,
    /// What is being done.
    doing: Doing,
    /// sha256 of the `index.json` before.
    index: Digest,
    /// Blobs that appear (publish; none of them was there before) or go (remove).
    blobs: Vec<Digest>,
    /// Files elsewhere that appear together with the versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    outputs: Vec<Placement>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Doing {
    Publish,
    Remove,
    /// The index stays as it is, and outputs appear.
    Place,
}

/// Longest journal that is read: a hundred thousand blobs.
const JOURNAL_LIMIT: u64 = 16 << 20;

/// What one staging area adds.
type Part<'a> = (&'a Staging, &'a [Version]);

/// A blob to be moved in.
struct Move<'a> {
    digest: Digest,
    staging: &'a Staging,
    /// It was not there; otherwise it replaces one that was cut short.
    fresh: bool,
}

impl Store {
    /// Publishes the staging area's blobs and `versions` in one step: every blob fsynced, then one
    /// rename of `index.json` under the lock. All or nothing. A version that exists with another
    /// manifest digest is an error (`VersionTaken`), with the same one `Already`: then its entry
    /// takes over the annotations given and the referrers that are new. Blobs of the staging area
    /// that no version needs stay in the staging area. Every blob a version needs must be in the
    /// staging area or in the store.
    pub fn publish(
        &self,
        staging: &Staging,
        versions: &[Version],
    ) -> Result<Vec<Published>, Error> {
        self.publish_all(&[(staging, versions)])
    }

    /// As [`Store::publish`], for several staging areas in one transaction: all versions of all
    /// staging areas appear by one rename, or none. A version may need blobs of any of the staging
    /// areas. The answers are in the order of the versions, one staging area after the other.
    pub fn publish_all(
        &self,
        stagings: &[(&Staging, &[Version])],
    ) -> Result<Vec<Published>, Error> {
        self.publish_with(stagings, &[])
    }

    /// As [`Store::publish_all`], and puts `outputs` in their places: all versions and all outputs,
    /// or none. After an error they lie aside again or are gone; after a death the next writer puts
    /// all of them in place where the versions are published, and removes them where not. Of
    /// nothing but outputs the journal decides: once it is written the next writer goes on.
    ///
    /// # Errors
    /// As [`Store::publish_all`]; where an output cannot be put in its place.
    pub fn publish_with(
        &self,
        stagings: &[(&Staging, &[Version])],
        outputs: &[Placement],
    ) -> Result<Vec<Published>, Error> {
        self.to_write()?;
        publish(self, stagings, outputs)
    }

    /// As [`Store::lock`], and repairs what a writer that died left behind.
    pub(super) fn lock_repaired(&self) -> Result<Lock, Error> {
        let lock = self.lock()?;
        repair(self)?;
        Ok(lock)
    }
}

/// Publishes; see [`Store::publish_with`].
fn publish(
    store: &Store,
    parts: &[Part<'_>],
    outputs: &[Placement],
) -> Result<Vec<Published>, Error> {
    for version in versions(parts) {
        if !version.reference.is_version() {
            return Err(Error::NoVersion { reference: Box::new(version.reference.clone()) });
        }
    }
    // What can be refused is refused before anything is flushed.
    decide(store, &store.index()?.1, parts)?;
    for digest in needs(store, parts)?.keys() {
        // All that are there: one that another tool has put into the store was perhaps never
        // flushed.
        for path in
            parts.iter().map(|(staging, _)| staging.path(digest)).chain([store.blob_path(digest)])
        {
            match disk::sync_file(&path) {
                // Not there, or just removed with the last version that needed it: under the lock
                // that is looked at again.
                Err(e) if e.is_missing() => {}
                other => other.map_err(writing)?,
            }
        }
    }

    let _lock = store.lock_repaired()?;
    let (before, mut index) = store.index()?;
    let published = decide(store, &index, parts)?;
    let mut moves = vec![];
    for (digest, need) in needs(store, parts)? {
        let there = disk::open(&store.blob_path(&digest)).map_err(reading)?.map(|(_, found)| found);
        // One that is there whole stays; one that was cut short, or is marked as damaged, is
        // mended with ours.
        if let Some(staging) = need.staging
            && (there != Some(need.size) || staging.suspected(&digest))
        {
            moves.push(Move { digest, staging, fresh: there.is_none() });
        }
    }
    let now = record::now();
    for (version, how) in versions(parts).zip(&published) {
        match how {
            Published::New => index.push(version, &now),
            Published::Already => index.renew(version),
        }
    }
    let result = step_in(store, &before, &index, &moves, outputs);
    if let Err(error) = result {
        // Whatever cannot be taken back now is named in the journal, and taken back by the next
        // writer.
        let _ = take_back(store, &before, &moves, outputs);
        return Err(writing(error));
    }
    Ok(published)
}

/// The versions of all parts, in order.
fn versions<'a>(parts: &[Part<'a>]) -> impl Iterator<Item = &'a Version> {
    parts.iter().flat_map(|(_, versions)| *versions)
}

/// Whether a dead writer left anything to repair.
pub(super) fn needs_repair(store: &Store) -> bool {
    journal_path(store).exists() || asides(store).is_ok_and(|asides| !asides.is_empty())
}

/// Repairs what a dead writer left; the caller holds the lock.
pub(super) fn repair(store: &Store) -> Result<(), Error> {
    for aside in asides(store).map_err(reading)? {
        disk::remove(&aside).map_err(writing)?;
    }
    let path = journal_path(store);
    let Some(bytes) = disk::read(&path, JOURNAL_LIMIT).map_err(reading)? else { return Ok(()) };
    let (before, index) = store.index()?;
    // The journal is whole or absent; one that we cannot read was written by no bake, or by a later
    // one that has raised the format.
    let journal: Journal = serde_json::from_slice(&bytes)
        .map_err(|e| Error::Damaged { path: path.clone(), why: format!("not a journal: {e}") })?;
    let reach = reach::all(store, &index);
    let untouched = Digest::of(&before) == journal.index;
    if !journal.outputs.is_empty() {
        placement::check_writer(&path)?;
        let forward = match journal.doing {
            Doing::Place => placement::complete(&journal.outputs),
            Doing::Publish | Doing::Remove => !untouched,
        };
        let ended = if forward { placement::finish } else { placement::undo };
        ended(&journal.outputs).map_err(writing)?;
    }
    let stray: Vec<Digest> = match journal.doing {
        // The blobs were not there when this index was written, so it cannot need them.
        Doing::Publish if untouched => journal.blobs,
        Doing::Remove | Doing::Place if untouched => vec![],
        // Someone else's entry that we cannot follow may need any of them: they stay, and `verify`
        // names them.
        _ if !reach.complete() => vec![],
        _ => journal.blobs.into_iter().filter(|digest| !reach.blobs.contains(digest)).collect(),
    };
    drop_blobs(store, &stray, None).map_err(writing)?;
    disk::remove(&path).map_err(writing)
}

/// Says for each version whether it is new; one that exists with other content, here or twice in
/// the list, is an error.
fn decide(store: &Store, index: &IndexFile, parts: &[Part<'_>]) -> Result<Vec<Published>, Error> {
    let mut known: BTreeMap<&Reference, Digest> = BTreeMap::new();
    let mut published = vec![];
    for version in versions(parts) {
        // What stands there cannot be read, so nobody can say that this is the same.
        store.check_entry(&version.reference, index)?;
        let want = version.manifest.digest;
        let listed = index.get(&version.reference).map(|manifest| manifest.digest);
        published.push(match listed.or(known.insert(&version.reference, want)) {
            None => Published::New,
            Some(have) if have == want => Published::Already,
            Some(have) => {
                return Err(Error::VersionTaken {
                    reference: Box::new(version.reference.clone()),
                    have,
                    want,
                });
            }
        });
    }
    Ok(published)
}

/// A blob that a version needs.
struct Need<'a> {
    size: u64,
    /// Where it lies, unless only in the store.
    staging: Option<&'a Staging>,
}

/// Returns every blob that the versions, and what speaks about them, need, having made sure that
/// each is in a staging area or in the store.
fn needs<'a>(store: &Store, parts: &[Part<'a>]) -> Result<BTreeMap<Digest, Need<'a>>, Error> {
    let mut found = BTreeMap::new();
    for version in versions(parts) {
        // Those at the end come first: the image, and the images of an index, are known when what
        // speaks about them is looked at.
        let mut todo: Vec<Descriptor> = version.referrers.clone();
        todo.push(version.manifest.clone());
        while let Some(next) = todo.pop() {
            let incomplete = |why: String| Error::Incomplete {
                reference: Box::new(version.reference.clone()),
                digest: next.digest,
                why,
            };
            let mut lies = None;
            for (staging, _) in parts {
                if let Some((file, size)) =
                    disk::open(&staging.path(&next.digest)).map_err(reading)?
                {
                    lies = Some((file, size, Some(*staging)));
                    break;
                }
            }
            if lies.is_none() {
                lies = disk::open(&store.blob_path(&next.digest))
                    .map_err(reading)?
                    .map(|(file, size)| (file, size, None));
            }
            let Some((file, size, staging)) = lies else {
                return Err(incomplete("is in neither the build nor the store".to_owned()));
            };
            if size != next.size {
                return Err(incomplete(format!(
                    "has {size} bytes, its descriptor says {}",
                    next.size
                )));
            }
            if found.insert(next.digest, Need { size, staging }).is_some()
                || !matches!(kind(&next.media_type), Kind::Manifest | Kind::Index)
            {
                continue;
            }
            let path = staging.map_or_else(
                || store.blob_path(&next.digest),
                |staging| staging.path(&next.digest),
            );
            let bytes = layout::read_verified(file, size, &path, &next.digest)?;
            if version.referrers.contains(&next)
                && !index::subject_in(&bytes).is_some_and(|subject| {
                    let annotated =
                        index::annotated_subject(&next).unwrap_or(version.manifest.digest);
                    subject.digest == annotated && found.contains_key(&annotated)
                })
            {
                return Err(incomplete("does not speak about this version".to_owned()));
            }
            todo.extend(
                reach::named_in(&next, &bytes)
                    .map_err(|source| Error::Content { digest: next.digest, source })?,
            );
        }
    }
    Ok(found)
}

/// Moves the blobs in, then the index.
fn step_in(
    store: &Store,
    before: &[u8],
    index: &IndexFile,
    moves: &[Move<'_>],
    outputs: &[Placement],
) -> Result<(), files::Error> {
    let after = index.to_json();
    let journal = !moves.is_empty() || !outputs.is_empty();
    if journal {
        let fresh: Vec<Digest> =
            moves.iter().filter(|one| one.fresh).map(|one| one.digest).collect();
        // Where the index does not change it cannot say how far this came.
        let doing = match after == before && !outputs.is_empty() {
            true => Doing::Place,
            false => Doing::Publish,
        };
        write(
            store,
            &Journal { outputs: outputs.to_vec(), ..Journal::new(doing, before, &fresh) },
        )?;
    }
    if !moves.is_empty() {
        for Move { digest, staging, .. } in moves {
            disk::rename(&staging.path(digest), &store.blob_path(digest))?;
        }
        disk::sync_dir(&store.blobs())?;
    }
    placement::set_aside(outputs)?;
    if after != before {
        disk::write(&index_path(store), &after)?;
    }
    placement::place(outputs)?;
    // Once what was replaced is gone the journal is about nothing any more; if that, or the
    // journal, cannot be removed, the next writer finds that out.
    if journal && placement::remove_replaced(outputs).is_ok() {
        let _ = disk::remove(&journal_path(store));
    }
    Ok(())
}

/// Puts everything back: the index, then the outputs, then the blobs, which return to their staging
/// areas.
fn take_back(
    store: &Store,
    before: &[u8],
    moves: &[Move<'_>],
    outputs: &[Placement],
) -> Result<(), files::Error> {
    undo_index(store, before)?;
    placement::undo(outputs)?;
    for Move { digest, staging, .. } in moves.iter().filter(|one| one.fresh) {
        let from = store.blob_path(digest);
        if from.exists() && disk::rename(&from, &staging.path(digest)).is_err() {
            disk::remove(&from)?;
        }
    }
    disk::sync_dir(&store.blobs())?;
    disk::remove(&journal_path(store))
}

/// Makes sure that the index is `before` again: its rename can have happened although the call
/// failed.
pub(super) fn undo_index(store: &Store, before: &[u8]) -> Result<(), files::Error> {
    let path = index_path(store);
    if disk::read(&path, index::LIMIT)?.as_deref() == Some(before) {
        return Ok(());
    }
    disk::write(&path, before)
}

/// Takes blobs out of `blobs/`: into the directory `gone`, where there is one, as freeing their
/// bytes takes its time.
pub(super) fn drop_blobs(
    store: &Store,
    blobs: &[Digest],
    gone: Option<&Path>,
) -> Result<(), files::Error> {
    for digest in blobs {
        let blob = store.blob_path(digest);
        match gone.map(|gone| disk::rename(&blob, &gone.join(digest.hex()))) {
            Some(Ok(())) => {}
            Some(Err(e)) if e.is_missing() => {}
            Some(Err(_)) | None => disk::remove(&blob)?,
        }
    }
    disk::sync_dir(&store.blobs())
}

pub(super) fn write_journal(
    store: &Store,
    doing: Doing,
    before: &[u8],
    blobs: &[Digest],
) -> Result<(), files::Error> {
    write(store, &Journal::new(doing, before, blobs))
}

fn write(store: &Store, journal: &Journal) -> Result<(), files::Error> {
    let bytes = serde_json::to_vec(journal).expect("digests, and paths that are text");
    disk::write(&journal_path(store), &bytes)
}

impl Journal {
    fn new(doing: Doing, before: &[u8], blobs: &[Digest]) -> Self {
        let index = Digest::of(before);
        Self { v: 1, doing, index, blobs: blobs.to_vec(), outputs: vec![] }
    }
}

pub(super) fn journal_path(store: &Store) -> PathBuf {
    store.dir().join("publish.json")
}

pub(super) fn index_path(store: &Store) -> PathBuf {
    store.dir().join("index.json")
}

/// Files that a dead writer was writing aside.
fn asides(store: &Store) -> Result<Vec<PathBuf>, files::Error> {
    let list = |e| system("list", store.dir(), e);
    let mut found = vec![];
    for entry in std::fs::read_dir(store.dir()).map_err(list)? {
        let entry = entry.map_err(list)?;
        if is_aside(&entry.file_name()) {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok(found)
}
