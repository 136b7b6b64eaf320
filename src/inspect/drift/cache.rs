//! The stat cache: digests of files by what the kernel says of them, for a root that is compared
//! again and again. Only on request, because whoever can write it can make a drifted machine look
//! exact.
//!
//! ```text
//! bake drift cache 1 /srv/root 0        format, root, shift of ids
//! ./etc/passwd 8 1 1234 1700 1712345678.000000000 1712345678.000000000 <sha256> <sha256 of its attributes>
//! ```
//! A row holds while device, inode, size, mtime and ctime are the same: ctime changes with contents
//! and attributes alike, and no call sets it. A file that changed just before it was read gets no
//! row, as it may change again within one tick of the clock.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

use super::look::Stamp;
use super::shift::Shift;
use crate::digest::{Digest, Hasher};
use crate::files;
use crate::inspect::error::Error;
use crate::layer::Metadata;
use crate::tree::escape;

/// Seconds that a file must have been left alone to be remembered: more than any file system's
/// clock ticks.
const QUIET: i64 = 2;

/// Rows of an earlier run, and those of this one.
pub(super) struct Cache {
    path: PathBuf,
    head: String,
    now: i64,
    old: HashMap<String, Row>,
    new: Mutex<Vec<(String, Row)>>,
}

#[derive(Clone)]
struct Row {
    stamp: Stamp,
    digest: Digest,
    attributes: Digest,
}

/// Names the attributes of a file.
fn attributes(meta: &Metadata) -> Digest {
    let mut hasher = Hasher::new();
    for (name, value) in &meta.xattrs {
        for part in [name, value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    hasher.finish()
}

impl Cache {
    /// Reads the cache, which may not be there yet; one that is damaged, or of another root, is as
    /// good as none. `now` is in seconds.
    pub(super) fn open(path: &Path, root: &Path, shift: Shift, now: i64) -> Result<Self, Error> {
        let head =
            format!("bake drift cache 1 {} {shift}", escape(root.as_os_str().as_encoded_bytes()));
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => vec![],
            Err(source) => return Err(Error::Cache { path: path.to_owned(), source }),
        };
        let old =
            std::str::from_utf8(&text).ok().and_then(|text| rows(text, &head)).unwrap_or_default();
        Ok(Self { path: path.to_owned(), head, now, old, new: Mutex::default() })
    }

    /// The digest that a file must have, if it is remembered with just the attributes of
    /// `expected`.
    pub(super) fn get(&self, path: &[u8], stamp: &Stamp, expected: &Metadata) -> Option<Digest> {
        let row = self
            .old
            .get(&escape(path))
            .filter(|row| row.stamp == *stamp && row.attributes == attributes(expected))?;
        self.put(path, row.clone());
        Some(row.digest)
    }

    /// Remembers what was read of a file.
    pub(super) fn add(&self, path: &[u8], stamp: Stamp, digest: Digest, meta: &Metadata) {
        if stamp.ctime.0.max(stamp.mtime.0) < self.now - QUIET {
            self.put(path, Row { stamp, digest, attributes: attributes(meta) });
        }
    }

    fn put(&self, path: &[u8], row: Row) {
        self.new.lock().unwrap_or_else(PoisonError::into_inner).push((escape(path), row));
    }

    /// Writes the rows of this run.
    pub(super) fn save(self) -> Result<(), Error> {
        let mut rows = self.new.into_inner().unwrap_or_else(PoisonError::into_inner);
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut text = format!("{}\n", self.head);
        for (
            path,
            Row { stamp: Stamp { device, inode, size, mtime, ctime }, digest, attributes },
        ) in rows
        {
            let times = format!("{}.{:09} {}.{:09}", mtime.0, mtime.1, ctime.0, ctime.1);
            let (digest, attributes) = (digest.hex(), attributes.hex());
            let _ = writeln!(
                text,
                "./{path} {} {} {inode} {size} {times} {digest} {attributes}",
                device.0, device.1
            );
        }
        let failed =
            |source: files::Error| Error::Cache { path: self.path.clone(), source: source.into() };
        files::rewrite(&self.path, text.as_bytes(), 0o600).map_err(failed)
    }
}

fn rows(text: &str, head: &str) -> Option<HashMap<String, Row>> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    if lines.next() != Some(head) {
        return None;
    }
    lines.map(row).collect()
}

fn row(line: &str) -> Option<(String, Row)> {
    let mut words = line.split(' ');
    let path = words.next()?.strip_prefix("./")?.to_owned();
    let device = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (inode, size) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let mut time = || {
        let (seconds, nanoseconds) = words.next()?.split_once('.')?;
        Some((seconds.parse().ok()?, nanoseconds.parse().ok()?))
    };
    let (mtime, ctime) = (time()?, time()?);
    let mut digest = || Digest::from_hex(words.next()?).ok();
    let (digest, attributes) = (digest()?, digest()?);
    let stamp = Stamp { device, inode, size, mtime, ctime };
    words.next().is_none().then_some((path, Row { stamp, digest, attributes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(ctime: i64) -> Stamp {
        Stamp { device: (8, 1), inode: 7, size: 3, mtime: (ctime, 5), ctime: (ctime, 999_999_999) }
    }

    #[test]
    fn rows_come_back_as_long_as_nothing_changed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cache");
        let root = Path::new("/srv/a b");
        let (digest, mut meta) = (Digest::of("abc"), Metadata::default());
        meta.xattrs.insert(b"user.a".to_vec(), b"1".to_vec());
        let cache = Cache::open(&path, root, 0.into(), 100).expect("none yet");
        assert_eq!(cache.get(b"a\n\xff", &stamp(90), &meta), None);
        cache.add(b"a\n\xff", stamp(90), digest, &meta);
        cache.add(b"just", stamp(98), digest, &meta);
        cache.save().expect("save");
        let open =
            |root: &Path, shift: u32| Cache::open(&path, root, shift.into(), 200).expect("open");
        let cache = open(root, 0);
        assert_eq!(cache.get(b"a\n\xff", &stamp(90), &meta), Some(digest));
        assert_eq!(cache.get(b"just", &stamp(98), &meta), None, "too young to be remembered");
        assert_eq!(cache.get(b"a\n\xff", &stamp(91), &meta), None);
        assert_eq!(
            cache.get(b"a\n\xff", &stamp(90), &Metadata::default()),
            None,
            "other attributes"
        );
        assert_eq!(
            open(Path::new("/srv"), 0).get(b"a\n\xff", &stamp(90), &meta),
            None,
            "another root"
        );
        assert_eq!(open(root, 1).get(b"a\n\xff", &stamp(90), &meta), None, "other ids");
        // What was met stays, what was not goes.
        cache.save().expect("save");
        assert_eq!(open(root, 0).get(b"a\n\xff", &stamp(90), &meta), Some(digest));
        let text = fs::read_to_string(&path).expect("read");
        for cut in 0..text.len() {
            fs::write(&path, &text[..cut]).expect("write");
            assert_eq!(open(root, 0).get(b"a\n\xff", &stamp(90), &meta), None, "{cut}");
        }
    }
}
