//! `--paranoid`: two layers that should be the same and are not, compared entry by entry, so that a
//! person sees which path to look at.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::Error;
use crate::digest::{Digest, HashReader};
use crate::job::open;
use crate::layer::{self, Compression, Entry, Kind, TarReader};

/// Most paths named.
const SHOWN: usize = 20;

/// Names what differs between two layer blobs of one step: `etc/x: content`, `var/y: only in the
/// cached layer`.
pub(super) fn differences(
    cached: &Path,
    now: &Path,
    how: Compression,
    label: &str,
) -> Result<Vec<String>, Error> {
    let (cached, now) = (read(cached, how, label)?, read(now, how, label)?);
    let mut out = vec![];
    for (path, (meta, content)) in &now {
        match cached.get(path) {
            None => out.push(format!("{path}: only in the new layer")),
            Some((_, before)) if before != content => out.push(format!("{path}: content")),
            Some((before, _)) if before != meta => {
                out.push(format!("{path}: was {before}, is {meta}"))
            }
            Some(_) => {}
        }
    }
    out.extend(
        cached
            .keys()
            .filter(|path| !now.contains_key(*path))
            .map(|path| format!("{path}: only in the cached layer")),
    );
    if out.is_empty() {
        out.push("the same files in another order or form".to_owned());
    }
    if out.len() > SHOWN {
        let more = out.len() - SHOWN;
        out.truncate(SHOWN);
        out.push(format!("and {more} more"));
    }
    Ok(out)
}

/// Reads a layer: path to what it is, and its content's digest.
fn read(
    blob: &Path,
    how: Compression,
    label: &str,
) -> Result<BTreeMap<String, (String, Digest)>, Error> {
    let fail = |source| Error::Layer { label: label.to_owned(), source };
    let mut tar = layer::decompress_as(Box::new(open(blob)?), how).map_err(fail)?;
    let limits = layer::Limits::default();
    let mut reader = TarReader::new(&mut *tar, &limits);
    let mut out = BTreeMap::new();
    while let Some(entry) = reader.next().map_err(fail)? {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let mut content = HashReader::new(&mut reader);
        std::io::copy(&mut content, &mut std::io::sink())
            .map_err(|source| fail(layer::Error::Read { source }))?;
        let digest = content.finish().1;
        out.insert(path, (what(&entry), digest));
    }
    Ok(out)
}

fn what(entry: &Entry) -> String {
    let kind = match &entry.kind {
        Kind::Dir => "folder".to_owned(),
        Kind::File => format!("file of {} bytes", entry.size),
        Kind::Link(to) => format!("hard link to {}", String::from_utf8_lossy(to)),
        Kind::Symlink(to) => format!("link to {}", String::from_utf8_lossy(to)),
        Kind::Fifo => "fifo".to_owned(),
        Kind::Device => "device".to_owned(),
        Kind::Whiteout => "removed".to_owned(),
        Kind::Opaque => "emptied".to_owned(),
    };
    let meta = &entry.meta;
    let attributes = if meta.xattrs.is_empty() {
        String::new()
    } else {
        format!(" with {} attributes", meta.xattrs.len())
    };
    format!("{kind} {:04o} {}:{} at {}{attributes}", meta.mode, meta.uid, meta.gid, meta.mtime)
}
