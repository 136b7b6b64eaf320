//! The stat cache: which files a `copy` step took when it was planned last, how they looked, and
//! the digests of their contents, so that a build reads only what changed.
//!
//! One file a context and selection, in a directory of the store's caches, whole or absent, never
//! the truth: what cannot be understood is as good as not there, and every block is checked before
//! a word of it is believed.
//!
//! ```text
//! "bake stat cache 1\n"
//! blocks of  u32 length, 16 bytes of the sha256 of what follows, `length` bytes: rows
//! a row is   u16 bytes of the path that are those of the row before (0 in a block's first), u16 further bytes, these bytes,
//!            u64 device, inode, size, i64 seconds, u32 nanoseconds of mtime, the same of ctime, 32 bytes sha256 of the content
//! ```
//! Rows are sorted by path as a listing is. All numbers little-endian.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use crate::digest::Digest;
use crate::files::{self, FileStamp, FileTime};
use crate::layer;

/// How a cache file begins; another format has another number.
pub(super) const MAGIC: &[u8] = b"bake stat cache 1\n";
/// About as long as a block is; none is longer than this and one row.
const BLOCK: usize = 64 << 10;
const MAX_BLOCK: u32 = 1 << 20;
/// Bytes of a row behind its path.
const FIXED: usize = 3 * 8 + 2 * 12 + 32;
/// Reads rows one after the other; whatever is wrong is the end.
pub(super) struct Reader {
    from: Option<BufReader<File>>,
    block: Vec<u8>,
    at: usize,
    path: Vec<u8>,
    before: Vec<u8>,
    mark: FileStamp,
    digest: Digest,
    /// Rows read so far.
    pub(super) rows: u64,
    /// A row stands in the fields above.
    ready: bool,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Self {
        let none = FileStamp {
            device: 0,
            inode: 0,
            size: 0,
            modified: FileTime { seconds: 0, nanos: 0 },
            changed: FileTime { seconds: 0, nanos: 0 },
        };
        let mut from = File::open(path).ok().map(|file| BufReader::with_capacity(256 << 10, file));
        let mut magic = [0; MAGIC.len()];
        if from.as_mut().is_some_and(|from| from.read_exact(&mut magic).is_err() || magic != MAGIC)
        {
            from = None;
        }
        let (nothing, digest) = (Vec::new, Digest::from_bytes([0; 32]));
        let mut reader = Self {
            from,
            block: nothing(),
            at: 0,
            path: nothing(),
            before: nothing(),
            mark: none,
            digest,
            rows: 0,
            ready: false,
        };
        reader.advance();
        reader
    }

    /// Returns what was known of `path`, which must come after every path asked for before.
    pub(super) fn find(&mut self, path: &[u8], mark: &FileStamp) -> Option<Digest> {
        // Almost always it is the very next one.
        while self.ready && self.path != path && layer::compare(&self.path, path).is_lt() {
            self.advance();
        }
        let found = self.ready && self.path == path && self.mark == *mark;
        found.then_some(self.digest)
    }

    /// Reads what is left, and returns how many rows there were.
    pub(super) fn count(mut self) -> u64 {
        while self.ready {
            self.advance();
        }
        self.rows
    }

    fn advance(&mut self) {
        self.ready = self.row().is_some();
        if self.ready {
            self.rows += 1;
        } else {
            self.from = None;
        }
    }

    fn row(&mut self) -> Option<()> {
        if self.at == self.block.len() {
            self.next_block()?;
        }
        let shared = usize::from(u16::from_le_bytes(self.take()?));
        let rest = usize::from(u16::from_le_bytes(self.take()?));
        let end = self.at.checked_add(rest)?;
        std::mem::swap(&mut self.path, &mut self.before);
        self.path.clear();
        self.path.extend_from_slice(self.before.get(..shared)?);
        self.path.extend_from_slice(self.block.get(self.at..end)?);
        self.at = end;
        self.mark = FileStamp {
            device: u64::from_le_bytes(self.take()?),
            inode: u64::from_le_bytes(self.take()?),
            size: u64::from_le_bytes(self.take()?),
            modified: self.time()?,
            changed: self.time()?,
        };
        self.digest = Digest::from_bytes(self.take()?);
        Some(())
    }

    fn time(&mut self) -> Option<FileTime> {
        Some(FileTime {
            seconds: i64::from_le_bytes(self.take()?),
            nanos: u32::from_le_bytes(self.take()?),
        })
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.block.get(self.at..self.at + N)?.try_into().ok()?;
        self.at += N;
        Some(bytes)
    }

    fn next_block(&mut self) -> Option<()> {
        let from = self.from.as_mut()?;
        let mut head = [0; 20];
        from.read_exact(&mut head).ok()?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        if length == 0 || length > MAX_BLOCK {
            return None;
        }
        self.block.resize(length as usize, 0);
        self.at = 0;
        from.read_exact(&mut self.block).ok()?;
        (Digest::of(&self.block).as_bytes()[..16] == head[4..]).then_some(())
    }
}

/// Writes rows, given in order, to the file `path`: there whole or not at all, for all who write it
/// at the same time.
pub(super) struct Writer {
    aside: BufWriter<files::Aside>,
    block: Vec<u8>,
    path: Vec<u8>,
}

impl Writer {
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let mut aside = BufWriter::with_capacity(256 << 10, files::Aside::new(directory)?);
        aside.write_all(MAGIC)?;
        Ok(Self { aside, block: vec![], path: vec![] })
    }

    pub(super) fn add(&mut self, path: &[u8], mark: &FileStamp, digest: &Digest) -> io::Result<()> {
        let shared = if self.block.is_empty() {
            0
        } else {
            self.path.iter().zip(path).take_while(|(a, b)| a == b).count()
        };
        let long = |n: usize| {
            u16::try_from(n).map_err(|_| io::Error::from(io::ErrorKind::InvalidFilename))
        };
        self.block.extend(long(shared)?.to_le_bytes());
        self.block.extend(long(path.len() - shared)?.to_le_bytes());
        self.block.extend(&path[shared..]);
        for number in [mark.device, mark.inode, mark.size] {
            self.block.extend(number.to_le_bytes());
        }
        for FileTime { seconds, nanos } in [mark.modified, mark.changed] {
            self.block.extend(seconds.to_le_bytes());
            self.block.extend(nanos.to_le_bytes());
        }
        self.block.extend(digest.as_bytes());
        self.path.clear();
        self.path.extend_from_slice(path);
        if self.block.len() >= BLOCK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let length = u32::try_from(self.block.len()).map_err(io::Error::other)?;
        self.aside.write_all(&length.to_le_bytes())?;
        self.aside.write_all(&Digest::of(&self.block).as_bytes()[..16])?;
        self.aside.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }

    pub(super) fn finish(mut self, path: &Path) -> io::Result<()> {
        if !self.block.is_empty() {
            self.flush()?;
        }
        let aside = self.aside.into_inner().map_err(io::IntoInnerError::into_error)?;
        aside.keep_unsynced(path, 0o600)?;
        Ok(())
    }
}

const _: () = assert!(
    BLOCK + FIXED + 4 + u16::MAX as usize <= MAX_BLOCK as usize,
    "every block that is written can be read"
);
