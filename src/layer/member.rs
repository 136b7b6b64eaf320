//! Members of a gzip blob: where the tar is cut, and how members that were compressed before are
//! found again.
//!
//! A cut depends on the bytes of the tar alone, and most cuts fall on the first byte of an entry
//! that the tar itself chooses. So a file that is added or grows moves the bytes behind it, but
//! after a member or two the cuts are at the same entries again, and everything behind is the same
//! members as before.
//!
//! A list of members (one a step, of the blob that it gave last; rebuildable, believed only where
//! it checks out):
//!
//! ```text
//! "bake members 2\n"
//! 32 bytes sha256 of the blob
//! for each member  32 bytes key, u64 offset in the blob, u32 bytes, u32 crc32 of these bytes
//! 16 bytes of the sha256 of all that
//! ```
//! A key names the raw bytes: sha256 over what stands between files as it is, and for each file's
//! bytes the digest of the whole file and the part of it. Nothing is read for it that would not be
//! read anyway. All numbers little-endian.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use crate::digest::{Digest, Hasher};
use crate::files;

/// No member but the last, and those before a large file, has less of the tar than this.
const MIN: usize = 512 << 10;
/// How far the entries that begin a member are apart, in the mean.
const MEAN: u64 = 2 << 20;
/// No member has more.
pub(super) const MAX: usize = 4 << 20;
const BLOCK: usize = 512;
const MAGIC: &[u8] = b"bake members 2\n";
const ROW: usize = 32 + 8 + 4 + 4;
/// A list longer than this is none of ours: a blob of 256 GiB has fewer members.
const MAX_LIST: u64 = 16 << 20;

/// Names the raw bytes of a member.
pub(super) type Key = [u8; 32];

/// Buffers to be filled again: a new one costs a page fault every 4 KiB.
#[derive(Debug, Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    /// An empty buffer.
    pub(super) fn take(&self) -> Vec<u8> {
        let mut buffer = self.0.lock().ok().and_then(|mut pool| pool.pop()).unwrap_or_default();
        buffer.clear();
        buffer
    }

    pub(super) fn give(&self, buffer: Vec<u8>) {
        if let Ok(mut pool) = self.0.lock() {
            pool.push(buffer);
        }
    }
}

/// The raw bytes of a member, shared between hasher and compressor; the last of them gives the
/// buffer back.
#[derive(Clone)]
pub(super) struct Piece(Arc<Lent>);

struct Lent {
    bytes: Vec<u8>,
    pool: Pool,
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.bytes));
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

/// What is known of bytes that come: a file's content by its digest.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownFile {
    /// Where in the tar they begin.
    pub(super) at: u64,
    /// How many.
    pub(super) size: u64,
    pub(super) digest: Digest,
}

/// What the writer of a tar knows of the bytes that it writes next.
#[derive(Debug, Clone, Default)]
pub struct KnownFiles(Rc<RefCell<VecDeque<KnownFile>>>);

impl KnownFiles {
    pub(super) fn add(&self, known: KnownFile) {
        self.0.borrow_mut().push_back(known);
    }
}

/// A part of the buffer that is (a part of) one file's content, or all between two such.
#[derive(Debug, Clone, Copy)]
struct Part {
    end: usize,
    /// The file's digest, and where in it the part begins.
    content: Option<(Digest, u64)>,
}

/// Cuts a tar into pieces.
pub(super) struct Pieces<'a, F> {
    pool: &'a Pool,
    known: Option<KnownFiles>,
    buffer: Vec<u8>,
    parts: Vec<Part>,
    /// Bytes of the tar before the buffer.
    before: u64,
    /// How far the buffer was searched for cuts.
    searched: usize,
    any: bool,
    cut: F,
}

impl<'a, F: FnMut(Piece, Option<Key>) -> io::Result<()>> Pieces<'a, F> {
    pub(super) fn new(pool: &'a Pool, known: Option<KnownFiles>, cut: F) -> Self {
        Self {
            pool,
            known,
            buffer: pool.take(),
            parts: vec![],
            before: 0,
            searched: 0,
            any: false,
            cut,
        }
    }

    /// Hands on what is left. An empty input is one empty piece.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() && self.any {
            return Ok(());
        }
        self.cut_at(self.buffer.len())
    }

    fn cut_at(&mut self, at: usize) -> io::Result<()> {
        let mut rest = self.pool.take();
        rest.reserve_exact(MAX.saturating_sub(rest.capacity()));
        rest.extend_from_slice(&self.buffer[at..]);
        self.buffer.truncate(at);
        let key = self.known.is_some().then(|| self.key(at));
        let bytes = std::mem::replace(&mut self.buffer, rest);
        self.before += at as u64;
        self.searched = self.searched.saturating_sub(at);
        self.any = true;
        (self.cut)(Piece(Arc::new(Lent { bytes, pool: self.pool.clone() })), key)
    }

    /// Names the first `at` bytes, which the buffer holds, and forgets their parts.
    fn key(&mut self, at: usize) -> Key {
        let mut hasher = Hasher::new();
        let mut start = 0;
        let mut rest = vec![];
        for part in std::mem::take(&mut self.parts) {
            let end = part.end.min(at);
            if start < end {
                match part.content {
                    Some((digest, from)) => {
                        hasher.update(&[1]);
                        hasher.update(digest.as_bytes());
                        hasher.update(&from.to_le_bytes());
                        hasher.update(&((end - start) as u64).to_le_bytes());
                    }
                    None => {
                        hasher.update(&[0]);
                        hasher.update(&((end - start) as u64).to_le_bytes());
                        hasher.update(&self.buffer[start..end]);
                    }
                }
            }
            if part.end > at {
                let passed = at.saturating_sub(start) as u64;
                rest.push(Part {
                    end: part.end - at,
                    content: part.content.map(|(digest, from)| (digest, from + passed)),
                });
            }
            start = part.end;
        }
        self.parts = rest;
        *hasher.finish().as_bytes()
    }

    /// Notes what the bytes are that were just added.
    fn note(&mut self, added: Range<usize>) {
        let Some(known) = &self.known else { return };
        let mut known = known.0.borrow_mut();
        let mut start = added.start;
        while start < added.end {
            let at = self.before + start as u64;
            while known.front().is_some_and(|file| file.at + file.size <= at) {
                known.pop_front();
            }
            let reach = |until: u64| {
                usize::try_from(until - at).map_or(added.end, |n| (start + n).min(added.end))
            };
            let (end, content) = match known.front() {
                Some(file) if file.at <= at => {
                    (reach(file.at + file.size), Some((file.digest, at - file.at)))
                }
                Some(file) => (reach(file.at), None),
                None => (added.end, None),
            };
            let joined = match (self.parts.last_mut(), content) {
                (Some(last), None) if last.content.is_none() => {
                    last.end = end;
                    true
                }
                (Some(last), Some((digest, from)))
                    if from > 0 && last.content.is_some_and(|(other, _)| other == digest) =>
                {
                    last.end = end;
                    true
                }
                _ => false,
            };
            if !joined {
                self.parts.push(Part { end, content });
            }
            start = end;
        }
    }

    /// Finds the next place to cut in what was added.
    fn border(&mut self) -> Option<usize> {
        while self.searched + BLOCK <= self.buffer.len() {
            let at = self.searched;
            self.searched += BLOCK;
            if at > 0 && begins(&self.buffer[at..at + BLOCK], at) {
                return Some(at);
            }
        }
        (self.buffer.len() == MAX).then_some(MAX)
    }
}

/// Whether a member begins at the block `header`, `since` bytes after the last one began.
fn begins(header: &[u8], since: usize) -> bool {
    if &header[257..262] != b"ustar" {
        return false;
    }
    let size = header[124..136]
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .fold(0_u64, |n, b| n * 8 + u64::from(b - b'0'));
    // A large file begins anew, so that it is cut at the same places wherever it stands.
    if size >= MAX as u64 {
        return true;
    }
    // The entry itself decides, and the larger it is the likelier: then cuts are equally far apart
    // in any tree, and so few that hardly one is passed over for being too near to another.
    since >= MIN && u64::from(libdeflater::crc32(header)) * MEAN < (size + 2 * BLOCK as u64) << 32
}

impl<F: FnMut(Piece, Option<Key>) -> io::Result<()>> Write for Pieces<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(MAX - self.buffer.len());
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&bytes[..n]);
        self.note(start..start + n);
        while let Some(at) = self.border() {
            self.cut_at(at)?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One member of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    key: Key,
    offset: u64,
    bytes: u32,
    crc: u32,
}

impl Member {
    pub(super) fn of(key: Key, offset: u64, bytes: &[u8]) -> Self {
        // A member has at most MAX bytes of input and a little more of output.
        Self {
            key,
            offset,
            bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            crc: libdeflater::crc32(bytes),
        }
    }
}

/// The members of a blob made before, and those of the one being made.
#[derive(Debug, Default)]
pub struct MemberList {
    pub(super) old: Option<Members>,
    pub(super) new: Vec<Member>,
}

impl MemberList {
    /// Looks for members in the blob whose list is the file `list`; `blob` says where blobs are.
    /// Where either cannot be used nothing will be found.
    pub fn over(list: &Path, blob: impl Fn(&Digest) -> PathBuf) -> Self {
        Self { old: Members::open(list, blob), new: vec![] }
    }

    /// Writes the list of the blob that was made, which is called `blob`, to the file `list`.
    ///
    /// # Errors
    /// Those of the disk; without a list everything is compressed again, and that is all.
    pub fn write(&self, list: &Path, blob: &Digest) -> io::Result<()> {
        let mut bytes = [MAGIC, blob.as_bytes()].concat();
        for member in &self.new {
            bytes.extend(member.key);
            bytes.extend(member.offset.to_le_bytes());
            bytes.extend(member.bytes.to_le_bytes());
            bytes.extend(member.crc.to_le_bytes());
        }
        let sum = Digest::of(&bytes);
        bytes.extend(&sum.as_bytes()[..16]);
        let mut aside = files::Aside::new(list.parent().unwrap_or(Path::new(".")))?;
        aside.write_all(&bytes)?;
        Ok(aside.keep_unsynced(list, 0o600)?)
    }
}

/// Members of a blob on the disk, by key.
#[derive(Debug)]
pub(super) struct Members {
    blob: File,
    by_key: HashMap<Key, Member>,
}

impl Members {
    fn open(list: &Path, blob: impl Fn(&Digest) -> PathBuf) -> Option<Self> {
        let file = File::open(list).ok()?;
        if file.metadata().ok()?.len() > MAX_LIST {
            return None;
        }
        let bytes = std::fs::read(list).ok()?;
        let (rows, sum) = bytes.split_at_checked(bytes.len().checked_sub(16)?)?;
        if Digest::of(rows).as_bytes()[..16] != *sum {
            return None;
        }
        let (digest, rows) = rows.strip_prefix(MAGIC)?.split_first_chunk()?;
        let mut by_key = HashMap::new();
        for row in rows.chunks_exact(ROW) {
            let member = Member {
                key: row[..32].try_into().ok()?,
                offset: u64::from_le_bytes(row[32..40].try_into().ok()?),
                bytes: u32::from_le_bytes(row[40..44].try_into().ok()?),
                crc: u32::from_le_bytes(row[44..48].try_into().ok()?),
            };
            by_key.insert(member.key, member);
        }
        Some(Self { blob: File::open(blob(&Digest::from_bytes(*digest))).ok()?, by_key })
    }

    /// Reads the member named `key` into `out`, if there is one and it still is what it was, and of
    /// `raw`.
    pub(super) fn fetch(&self, key: &Key, raw: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(member) = self.by_key.get(key) else { return false };
        let length = member.bytes as usize;
        // Header and trailer take 18 bytes; more than MAX and a little is none of ours.
        if !(18..=MAX + MAX / 8).contains(&length) {
            return false;
        }
        out.resize(length, 0);
        if self.blob.read_exact_at(out, member.offset).is_err()
            || libdeflater::crc32(out) != member.crc
        {
            return false;
        }
        // RFC 1952: a member ends with the crc32 and the length of what it holds.
        let trailer = [
            libdeflater::crc32(raw).to_le_bytes(),
            u32::try_from(raw.len()).unwrap_or(0).to_le_bytes(),
        ]
        .concat();
        out[..4] == [0x1f, 0x8b, 8, 0] && out[length - 8..] == trailer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts `tar`, written in steps of `step` bytes.
    fn cut(tar: &[u8], step: usize, known: Option<KnownFiles>) -> Vec<(Vec<u8>, Option<Key>)> {
        let (pool, mut found) = (Pool::default(), vec![]);
        let mut pieces = Pieces::new(&pool, known, |piece: Piece, key| {
            found.push((piece.as_ref().to_vec(), key));
            Ok(())
        });
        tar.chunks(step).for_each(|part| pieces.write_all(part).expect("memory"));
        pieces.finish().expect("memory");
        drop(pieces);
        found
    }

    /// A tar of files of these sizes, and what a builder notes of it.
    fn tar(sizes: &[usize]) -> (Vec<u8>, KnownFiles) {
        let known = KnownFiles::default();
        let mut tar = crate::layer::Builder::new(vec![], 0).noting(Some(known.clone()));
        for (n, size) in sizes.iter().enumerate() {
            let pattern: Vec<u8> =
                (0..997).map(|at| ((at * 31 + at / 7 + size) % 251) as u8).collect();
            let bytes = &pattern.repeat(size / pattern.len() + 1)[..*size];
            let meta = crate::layer::Metadata { mode: 0o644, ..crate::layer::Metadata::default() };
            let digest = Digest::of(bytes);
            tar.known_file(
                format!("f{n:06}").as_bytes(),
                &meta,
                *size as u64,
                &digest,
                &mut &*bytes,
            )
            .expect("memory");
        }
        (tar.finish().expect("memory").0, known)
    }

    fn sizes(count: usize) -> Vec<usize> {
        (0..count).map(|n| n * 7919 % 20_000).collect()
    }

    #[test]
    fn cuts_depend_on_the_bytes_alone() {
        let (tar, _) = tar(&[&sizes(2000)[..], &[9_000_000], &sizes(100)].concat());
        let expected = cut(&tar, tar.len(), None);
        assert_eq!(expected.iter().flat_map(|(piece, _)| piece.clone()).collect::<Vec<_>>(), tar);
        assert!(expected.len() > 6 && expected.iter().all(|(piece, _)| piece.len() <= MAX));
        assert!(
            expected.iter().filter(|(piece, _)| piece.len() < MIN).count() <= 2,
            "before the large file, and at the end"
        );
        for step in [1 << 16, 511, 100_003] {
            assert!(cut(&tar, step, None) == expected, "{step}");
        }
        assert_eq!(cut(b"", 1, None).len(), 1);
        assert_eq!(cut(&vec![0; MAX], 4096, None).len(), 1);
        assert_eq!(cut(&vec![0; MAX + 1], 4096, None).len(), 2);
    }

    #[test]
    fn a_file_more_or_less_changes_few_members() {
        let base = sizes(3000);
        let with = |at: usize, size: usize| [&base[..at], &[size], &base[at..]].concat();
        let keys = |sizes: &[usize]| {
            let (tar, known) = tar(sizes);
            cut(&tar, 1 << 18, Some(known))
                .into_iter()
                .map(|(_, key)| key.expect("known"))
                .collect::<Vec<_>>()
        };
        let before = keys(&base);
        assert_eq!(before, keys(&base));
        for (at, size) in [(0, 100), (50, 40_000), (1500, 1), (700, 5_000_000)] {
            // The names behind it move by one, too: what is the same are the contents, so only the
            // tail of names is compared.
            let mut changed = base.clone();
            changed[at] = size;
            let after = keys(&changed);
            let new = after.iter().filter(|key| !before.contains(key)).count();
            assert!(new <= 5, "{new} of {} members are new at {at}", after.len());
            assert!(keys(&with(at, size)).len() >= before.len());
        }
    }

    #[test]
    fn keys_name_contents_and_what_is_between() {
        let (bytes, known) = tar(&sizes(400));
        let keys: Vec<Key> = cut(&bytes, 1000, Some(known))
            .into_iter()
            .map(|(_, key)| key.expect("known"))
            .collect();
        let (again, known) = tar(&sizes(400));
        assert_eq!(
            keys,
            cut(&again, 77_777, Some(known))
                .into_iter()
                .map(|(_, key)| key.expect("known"))
                .collect::<Vec<_>>()
        );
        // The same bytes of which nothing is known have other keys, but are one key each as well.
        let plain: Vec<_> = cut(&bytes, 1000, Some(KnownFiles::default()))
            .into_iter()
            .map(|(_, key)| key)
            .collect();
        assert_eq!(plain.len(), keys.len());
    }

    /// Compresses files of these sizes, looking for members where `listed` says.
    fn blob(sizes: &[usize], listed: &mut MemberList) -> Vec<u8> {
        let (bytes, mut out) = (tar(sizes).0, vec![]);
        let made = crate::layer::compress_with(
            &mut out,
            crate::layer::Compression::Gzip,
            2,
            Some(listed),
            |sink| {
                let known = sink.known();
                let (all, files) = tar(sizes);
                assert_eq!(all, bytes);
                known.expect("gzip wants it").0.borrow_mut().extend(files.0.borrow().iter());
                sink.write_all(&all).map_err(|source| crate::layer::Error::Write { source })
            },
        );
        let (made, ()) = made.expect("memory to memory");
        assert_eq!((made.diff_id, made.digest), (Digest::of(&bytes), Digest::of(&out)));
        out
    }

    #[test]
    fn members_of_before_are_taken_as_they_are_and_only_if_they_are_what_they_were() {
        let dir = tempfile::tempdir().expect("a directory");
        let (list, file) = (dir.path().join("list"), dir.path().join("blob"));
        let over = || MemberList::over(&list, |_| file.clone());
        let sizes = sizes(1500);
        let mut first = MemberList::default();
        let fresh = blob(&sizes, &mut first);
        assert!(first.new.len() > 4);
        first.write(&list, &Digest::of(&fresh)).expect("write");
        // The same members, compressed otherwise: that shows which ones are taken.
        let mut deflate = libdeflater::Compressor::new(libdeflater::CompressionLvl::fastest());
        let (mut poisoned, mut rows) = (vec![], vec![]);
        for ((raw, _), member) in cut(&tar(&sizes).0, 1 << 20, None).iter().zip(&first.new) {
            let mut bytes = vec![0; deflate.gzip_compress_bound(raw.len())];
            let size = deflate.gzip_compress(raw, &mut bytes).expect("the bound is enough");
            bytes.truncate(size);
            // libdeflate says so in its header when it was asked for speed; ours says nothing.
            rows.push(Member::of(member.key, poisoned.len() as u64, &bytes));
            poisoned.extend(bytes);
        }
        MemberList { old: None, new: rows.clone() }
            .write(&list, &Digest::of(&poisoned))
            .expect("write");
        std::fs::write(&file, &poisoned).expect("write");
        assert!(blob(&sizes, &mut over()) == poisoned, "all are taken");
        let mut changed = sizes.clone();
        changed[700] += 1;
        let (mixed, genuine) =
            (blob(&changed, &mut over()), blob(&changed, &mut MemberList::default()));
        assert!(mixed != genuine, "most are taken");
        let mut text = vec![];
        io::Read::read_to_end(
            &mut crate::layer::decompress(Box::new(&mixed[..])).expect("gzip"),
            &mut text,
        )
        .expect("whole");
        assert!(text == tar(&changed).0);
        // Damage of any kind: what is damaged is made anew.
        for row in [rows[0], rows[rows.len() - 1]] {
            let mut damaged = poisoned.clone();
            damaged[usize::try_from(row.offset).expect("small") + 40] ^= 1;
            std::fs::write(&file, &damaged).expect("write");
            let found = blob(&sizes, &mut over());
            let mut text = vec![];
            io::Read::read_to_end(
                &mut crate::layer::decompress(Box::new(&found[..])).expect("gzip"),
                &mut text,
            )
            .expect("whole");
            assert!(text == tar(&sizes).0 && found != damaged);
        }
        std::fs::write(&file, &poisoned[..poisoned.len() / 2]).expect("write");
        assert!(blob(&sizes, &mut over()) != poisoned);
        std::fs::remove_file(&file).expect("remove");
        assert!(blob(&sizes, &mut over()) == fresh, "without the blob");
        std::fs::write(&file, &poisoned).expect("write");
        let whole = std::fs::read(&list).expect("read");
        for at in (0..whole.len()).step_by(7) {
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            for bytes in [&damaged[..], &whole[..at], b"bake members 2\n"] {
                std::fs::write(&list, bytes).expect("write");
                assert!(over().old.is_none(), "byte {at} of the list");
            }
        }
    }
}
