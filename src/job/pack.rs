//! From an upper directory to a blob in the staging and back: packed inside the user namespace
//! (where owners and capabilities read right), hashed and compressed outside, through a pipe, so
//! that nothing is held in memory and nothing is written twice.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use super::call::{Action, Call, Ended, Job, Reply, Session};
use super::directory::{inside, make_dir, open};
use super::error::{Error, no_thread};
use super::reply::{reply, unexpected};
use crate::digest::{Digest, HashReader};
use crate::layer::{self, Blob, Compression, Metadata};
use crate::sandbox::{Cancel, Mount};
use crate::store::Staging;
use crate::threads;

/// Whether an upper directory holds nothing that a layer could say: no entry, and the directory
/// itself with owner, mode and attributes as in `below`, the directory of the topmost layer below,
/// from which it had its looks; where there is none, as bake made it.
pub(crate) fn untouched(upper: &Path, below: Option<&Path>) -> Result<bool, Error> {
    // What a layer cannot hold is refused by whoever packs it.
    let look = |path: &Path| open(path).map(|open| layer::directory_meta(&open, path).ok());
    let Some(now) = look(upper)? else { return Ok(false) };
    let before = match below {
        Some(below) => look(below)?,
        // Beside it stands what bake made in the same way.
        None => look(upper.parent().unwrap_or(upper))?.map(|beside| Metadata {
            mode: 0o755,
            xattrs: BTreeMap::new(),
            ..beside
        }),
    };
    let read = |source| Error::File { verb: "read", path: upper.to_owned(), source };
    Ok(before == Some(now) && fs::read_dir(upper).map_err(read)?.next().is_none())
}

/// Returns when something in the directory `path`, or its time, was changed last: seconds and
/// nanoseconds.
pub(crate) fn modified(path: &Path) -> Result<(i64, i64), Error> {
    let meta = fs::symlink_metadata(path).map_err(|source| Error::File {
        verb: "read",
        path: path.to_owned(),
        source,
    })?;
    Ok((meta.mtime(), meta.mtime_nsec()))
}

/// What a layer is made from.
pub(crate) struct Upper<'a> {
    /// The upper directory, below the staging; with `mount`, as the job sees it.
    pub(crate) dir: &'a Path,
    /// What has to be mounted to see it, where it is elsewhere.
    pub(crate) mount: Option<Mount>,
    /// The directory of the topmost layer below as the sandbox sees it: it had its looks from
    /// there.
    pub(crate) below: Option<PathBuf>,
    /// What gets the tar as well, where anything does.
    pub(crate) copy: Option<Box<dyn Write + Send>>,
}

/// A tar that is read, and what gets it as well.
struct Copied<R> {
    from: R,
    copy: Option<Box<dyn Write + Send>>,
}

impl<R: Read> Read for Copied<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let got = self.from.read(buf)?;
        if let Some(copy) = &mut self.copy {
            copy.write_all(&buf[..got])?;
        }
        Ok(got)
    }
}

/// Packs, names and compresses `upper` into the staging. `None`: there was nothing in it.
pub(crate) fn pack(
    session: &Session,
    staging: &Staging,
    upper: Upper<'_>,
    epoch: i64,
    how: Compression,
    label: &str,
    cancel: &Cancel,
) -> Result<Option<Blob>, Error> {
    let system = |what: &'static str| {
        move |source: std::io::Error| Error::Failed {
            what: what.to_owned(),
            why: source.to_string(),
        }
    };
    let (read, write) = std::io::pipe().map_err(system("make a pipe"))?;
    let Upper { dir, mount, below, copy } = upper;
    let dir = if mount.is_some() { dir.to_owned() } else { inside(staging, dir)? };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut blob = staging.blob()?;
    let (squeezed, ended) = thread::scope(|scope| {
        let squeezer = threads::scoped(scope, || {
            let mut read = Copied { from: read, copy };
            layer::compress(&mut read, &mut blob, how, workers)
        })
        .map_err(no_thread)?;
        let call = Call::Pack { dir, epoch, below, to: write.into() };
        let job = Job { mounts: mount.into_iter().collect(), ..Job::bare(Action::call(call)) };
        let ended = session.run(job, cancel, &mut |_| {});
        Ok::<_, Error>((squeezer.join(), ended))
    })?;
    let ended = ended?;
    let squeezed = squeezed.map_err(|_| Error::Failed {
        what: format!("compress {label}"),
        why: "the compressor panicked".to_owned(),
    })?;
    let squeezed = match (squeezed, &ended) {
        // Why it went away, and not that the other side then wrote to nobody.
        (Err(source), Ended::Done(_) | Ended::Failed { .. }) => {
            return Err(Error::Layer { label: label.to_owned(), source });
        }
        (squeezed, _) => squeezed,
    };
    let reply = reply(ended, &format!("pack {label}"))?;
    let squeezed = squeezed.map_err(|source| Error::Layer { label: label.to_owned(), source })?;
    let Reply::Packed(packed) = reply else {
        return Err(unexpected(&format!("pack {label}"), &reply));
    };
    // The two sides count the same stream: a difference means that bytes were lost between them.
    if packed.bytes != squeezed.tar_size {
        let why = format!("{} bytes were packed, {} arrived", packed.bytes, squeezed.tar_size);
        return Err(Error::Failed { what: format!("pack {label}"), why });
    }
    if packed.entries == 0 {
        return Ok(None);
    }
    blob.keep(&squeezed.digest)?;
    Ok(Some(squeezed))
}

/// A stored layer that is to be unpacked.
pub(crate) struct LayerBlob<'a> {
    /// Its file.
    pub(crate) path: &'a Path,
    /// What the file must be.
    pub(crate) digest: &'a Digest,
    /// What its tar must be, where that is not known to be so.
    pub(crate) diff_id: Option<&'a Digest>,
    /// How it is compressed.
    pub(crate) how: Compression,
}

/// Unpacks the layer `blob` into the new directory `into` (below the staging area), which then can
/// be a lower directory of an overlay: what [`pack`] made of an upper directory becomes that
/// directory again. Checks on the way that the blob and its tar are what they must be. With an
/// error the directory holds a part of the layer and must not be used; it goes with the staging
/// area.
pub(crate) fn unpack_layer(
    session: &Session,
    staging: &Staging,
    blob: &LayerBlob<'_>,
    into: &Path,
    cancel: &Cancel,
) -> Result<(), Error> {
    let LayerBlob { path: blob, digest, diff_id, how } = *blob;
    let what = format!("unpack the layer {}", blob.display());
    let read = |source| Error::File { verb: "read", path: blob.to_owned(), source };
    let dir = make_dir(into)?;
    let (file, again) = (open(blob)?, open(blob)?);
    let call = Call::Unpack {
        into: inside(staging, &dir)?,
        how,
        name: diff_id.is_some(),
        blob: file.into(),
    };
    // Read twice, but once from the disk: the digest costs no time of the one that unpacks.
    let (ended, found) = thread::scope(|scope| {
        let hashing = threads::scoped(scope, move || {
            let mut reader = HashReader::new(again);
            std::io::copy(&mut reader, &mut std::io::sink()).map(|_| reader.finish().1)
        })
        .map_err(no_thread)?;
        Ok::<_, Error>((
            session.run(Job::bare(Action::call(call)), cancel, &mut |_| {}),
            hashing.join(),
        ))
    })?;
    let found = found
        .map_err(|_| Error::Failed { what: what.clone(), why: "the hasher panicked".to_owned() })?
        .map_err(read)?;
    if found != *digest {
        return Err(Error::Failed {
            what,
            why: format!("it is damaged: its digest is {found}, not {digest}"),
        });
    }
    match (reply(ended?, &what)?, diff_id) {
        (Reply::Unpacked(Some(tar)), Some(diff_id)) if tar == *diff_id => Ok(()),
        (Reply::Unpacked(_), None) => Ok(()),
        (Reply::Unpacked(Some(tar)), Some(diff_id)) => Err(Error::Failed {
            what,
            why: format!("its tar is {tar}, the config's diff_id says {diff_id}"),
        }),
        (other, _) => Err(unexpected(&what, &other)),
    }
}
