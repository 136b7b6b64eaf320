//! Two layers that should be the same and are not, compared entry by entry, so that a person sees
//! which path to look at.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::{Compression, Entry, Error, Kind, Limits, TarReader, decompress_as};
use crate::digest::{Digest, HashReader};

/// Most paths named.
const SHOWN: usize = 20;

/// Names what differs between two layer blobs of one step: `etc/x: content`, `var/y: only in the
/// cached layer`.
///
/// # Errors
/// Where one of them cannot be read.
pub fn differences(
    cached: impl Read + Send + 'static,
    now: impl Read + Send + 'static,
    how: Compression,
) -> Result<Vec<String>, Error> {
    let (cached, now) = (read(cached, how)?, read(now, how)?);
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
    blob: impl Read + Send + 'static,
    how: Compression,
) -> Result<BTreeMap<String, (String, Digest)>, Error> {
    let mut tar = decompress_as(Box::new(blob), how)?;
    let limits = Limits::default();
    let mut reader = TarReader::new(&mut *tar, &limits);
    let mut out = BTreeMap::new();
    while let Some(entry) = reader.next()? {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let mut content = HashReader::new(&mut reader);
        io::copy(&mut content, &mut io::sink()).map_err(|source| Error::Read { source })?;
        let digest = content.finish().1;
        out.insert(path, (what(&entry), digest));
    }
    Ok(out)
}

fn what(entry: &Entry) -> String {
    let kind = match &entry.kind {
        Kind::Dir => "directory".to_owned(),
        Kind::File => format!("file of {} bytes", entry.size),
        Kind::Link(to) => format!("hard link to {}", String::from_utf8_lossy(to)),
        Kind::Symlink(to) => format!("symlink to {}", String::from_utf8_lossy(to)),
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
