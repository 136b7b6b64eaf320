//! Kept directories in a file, for machines that begin with an empty store: those of CI.
//!
//! ```text
//! bake-caches.json           { "format": 1, "caches": [ { what names it, "digest", "diff_id" } ] }
//! <hex of digest>.tar.zst    one directory each, as a layer
//! ```
//! The whole is an uncompressed tar (POSIX.1-1988 ustar). What is read is hostile: digests are
//! compared, and layers unpacked as those of any image from elsewhere.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use tar::EntryType;

use super::call::Session;
use super::context::JobContext;
use super::directory::open;
use super::error::Error;
use super::kept::{data, mount};
use super::pack::{LayerBlob, Upper, pack, unpack_layer};
use crate::digest::{Digest, HashWriter};
use crate::layer::Compression;
use crate::store::{Kept, KeptName, Staging, Use};

/// First entry of the file.
const INDEX: &str = "bake-caches.json";

/// Format of it.
const FORMAT: u32 = 1;

/// Longest index, and most directories in a file.
const MAX_INDEX: u64 = 1 << 20;

/// Latest time that a file in a cache may have: none is changed.
const ANY_TIME: i64 = i64::MAX;

#[derive(Serialize, Deserialize)]
struct Index {
    format: u32,
    caches: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    name: KeptName,
    /// Of the blob.
    digest: Digest,
    /// Of the tar in it.
    diff_id: Digest,
}

/// Writes these kept directories into `to`; returns how many, without those that are empty. Each is
/// waited for until no step uses it.
///
/// # Errors
/// Where one cannot be read or `to` not be written.
pub(crate) fn export_kept(
    context: &JobContext<'_>,
    kept: &[Kept],
    to: &mut dyn Write,
) -> Result<usize, Error> {
    let staging = context.store.staging()?;
    let session = context.session(staging.dir())?;
    let mut caches = vec![];
    for one in kept {
        let stop = || context.cancel.fired();
        let held = context.store.keep_dir(&one.name, Use::Alone, &stop, &mut || {})?;
        let held = held.ok_or(Error::Interrupted)?;
        let (dir, mount) = (data(&held.id), Some(mount(context.store)?));
        let upper = Upper { dir: &dir, mount, below: None, copy: None };
        let label = format!("the cache {}", one.name.name);
        let how = Compression::Zstd;
        let packed = pack(&session, &staging, upper, ANY_TIME, how, &label, context.cancel)?;
        if let Some(blob) = packed {
            let (digest, diff_id) = (blob.digest, blob.diff_id);
            caches.push(Entry { name: one.name.clone(), digest, diff_id });
        }
    }
    let failed = |error: io::Error| Error::Failed {
        what: "write the caches".to_owned(),
        why: error.to_string(),
    };
    let mut archive = tar::Builder::new(to);
    let index = Index { format: FORMAT, caches };
    let bytes = serde_json::to_vec(&index).expect("plain data always has a JSON form");
    let mut header = header(bytes.len() as u64);
    archive.append_data(&mut header, INDEX, &bytes[..]).map_err(failed)?;
    for Entry { digest, .. } in &index.caches {
        let file = open(&staging.path(digest))?;
        let mut header = self::header(file.metadata().map_err(failed)?.len());
        archive.append_data(&mut header, file_name(digest), file).map_err(failed)?;
    }
    archive.finish().map_err(failed)?;
    drop(archive);
    super::scratch::clear(context.sink, &staging, Some(&session));
    staging.discard()?;
    Ok(index.caches.len())
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header
}

fn file_name(digest: &Digest) -> String {
    format!("{}.tar.zst", digest.hex())
}

/// What became of the directories in a file.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    /// Those that are in the store now.
    pub(crate) done: Vec<KeptName>,
    /// Those that a step uses, so that they stay what they were.
    pub(crate) in_use: Vec<KeptName>,
}

/// Reads kept directories from what [`export_kept`] wrote, each in the place of the one of its
/// name. Nothing is replaced before all of it is read and found right.
///
/// # Errors
/// Where it is not such a file, or damaged.
pub(crate) fn import_kept(context: &JobContext<'_>, from: File) -> Result<Imported, Error> {
    let staging = context.store.staging()?;
    let session = context.session(staging.dir())?;
    let read = read(context, &session, &staging, from);
    let imported = read.and_then(|caches| {
        let mut imported = Imported::default();
        for (at, name) in caches.into_iter().enumerate() {
            let (new, old) = (staging.dir().join(new(at)), staging.dir().join(format!("old-{at}")));
            match context.store.put_kept(&name, &new, &old)? {
                true => imported.done.push(name),
                false => imported.in_use.push(name),
            }
        }
        Ok(imported)
    });
    super::scratch::clear(context.sink, &staging, Some(&session));
    staging.discard()?;
    imported
}

/// The directory of the staging that becomes the kept one number `at`.
fn new(at: usize) -> String {
    format!("new-{at}")
}

/// Unpacks all of them into the staging; returns their names in the order of their directories.
fn read(
    context: &JobContext<'_>,
    session: &Session,
    staging: &Staging,
    from: File,
) -> Result<Vec<KeptName>, Error> {
    let wrong = |why: &str| unreadable(why.to_owned());
    let failed = |error: io::Error| wrong(&error.to_string());
    let mut archive = tar::Archive::new(from);
    let mut entries = archive.entries().map_err(failed)?;
    let no_index =
        || wrong(&format!("it does not begin with {INDEX}: no file of `bake cache export`"));
    let first = entries.next().ok_or_else(no_index)?.map_err(|_| no_index())?;
    if first.path_bytes().as_ref() != INDEX.as_bytes() || first.size() > MAX_INDEX {
        return Err(no_index());
    }
    let mut text = vec![];
    first.take(MAX_INDEX).read_to_end(&mut text).map_err(failed)?;
    let format = serde_json::from_slice::<serde_json::Value>(&text)
        .ok()
        .and_then(|index| index.get("format")?.as_u64());
    if format.is_some_and(|format| format > u64::from(FORMAT)) {
        return Err(wrong("it was written by a later version of bake"));
    }
    let index: Index = serde_json::from_slice(&text).map_err(|error| wrong(&error.to_string()))?;
    let mut names = vec![];
    for Entry { name, digest, diff_id } in index.caches {
        if names.contains(&name) {
            return Err(wrong(&format!("it has the cache {} twice", name.name)));
        }
        // One that is in it twice by its content is in it once by its name.
        let path = staging.path(&digest);
        if !path.exists() {
            let expected = file_name(&digest);
            let missing = || wrong(&format!("{expected} is missing"));
            let entry = entries.next().ok_or_else(missing)?.map_err(failed)?;
            let named = entry.path_bytes().as_ref() == expected.as_bytes();
            if !named || entry.header().entry_type() != EntryType::Regular {
                return Err(missing());
            }
            blob(staging, entry, &digest, context)?;
        }
        let into = staging.dir().join(new(names.len())).join("data");
        let how = Compression::Zstd;
        let layer = LayerBlob { path: &path, digest: &digest, diff_id: Some(&diff_id), how };
        unpack_layer(session, staging, &layer, Path::new(&into), context.cancel)?;
        names.push(name);
    }
    Ok(names)
}

/// Why such a file cannot be read.
fn unreadable(why: String) -> Error {
    Error::Failed { what: "read the caches".to_owned(), why }
}

/// Copies a blob into the staging, where its digest is what it must be.
fn blob(
    staging: &Staging,
    mut from: impl Read,
    digest: &Digest,
    context: &JobContext<'_>,
) -> Result<(), Error> {
    let failed = |error: io::Error| unreadable(error.to_string());
    let mut to = HashWriter::new(staging.blob()?);
    let mut piece = vec![0; 256 << 10];
    loop {
        if context.cancel.fired() {
            return Err(Error::Interrupted);
        }
        match from.read(&mut piece).map_err(failed)? {
            0 => break,
            got => to.write_all(&piece[..got]).map_err(failed)?,
        }
    }
    let (file, found, _) = to.finish();
    if found != *digest {
        let why = format!("{} is damaged: its digest is {found}", file_name(digest));
        return Err(unreadable(why));
    }
    Ok(file.keep(digest)?)
}
