//! An erofs read (kernel, fs/erofs/erofs_fs.h): what mkfs.erofs makes of a tar, packed with LZ4 or
//! zstd, or not at all.
//!
//! ```text
//! superblock ─► inode: fields │ attributes │ what is packed where │ the end of the contents
//!                             └─► attributes that several files have
//! ```
//! A file may be in whole blocks, in pieces of one size, or packed: see `packed.rs`.

mod attribute;
mod inode;
mod packed;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crc::{CRC_32_ISCSI, Crc};

use self::inode::{Layout, Stored, WHAT};
use super::bytes::{Bytes, read};
use super::error::{Error, damaged, foreign};
use super::record::Record;
use super::tree::{FileSystem, Inode, Kind, MOST_DIRECTORY, MOST_TARGET, Named};

pub(super) const MAGIC: u32 = 0xe0f5_e1e2;

/// A feature without which nothing packed is read: its data ends where its block ends.
const PADDED: u32 = 0x1;

/// Features that are read: those, packed blocks together, files in pieces, a second way to pack.
const READ: u32 = PADDED | 0x2 | 0x4 | 0x8;

/// Names of those that are not.
const NAMES: [(u32, &str); 5] = [
    (0x10, "ztailpacking"),
    (0x20, "fragments or dedupe"),
    (0x40, "xattr-prefixes"),
    (0x80, "48bit"),
    (0x100, "metabox"),
];

/// Bytes that are handed on at once.
const CHUNK: u64 = 1 << 20;

pub(super) struct Erofs {
    bytes: Arc<dyn Bytes>,
    block: u64,
    /// Where inodes, and attributes of several files, begin.
    inodes: u64,
    shared: u64,
    directory: u64,
    top: u64,
    padded: bool,
}

impl Erofs {
    pub(super) fn open(bytes: Arc<dyn Bytes>) -> Result<Self, Error> {
        let all = read(&*bytes, 1024, 128)?;
        let head = Record::new("the superblock of the erofs", &all);
        let features = head.le32(80)?;
        if let Some((_, name)) = NAMES.iter().find(|(bit, _)| features & bit != 0) {
            return Err(foreign(WHAT, format!("it has the feature {name}")));
        }
        if features & !READ != 0 {
            return Err(foreign(WHAT, format!("it has features {features:#x}")));
        }
        if head.le16(86)? != 0 {
            return Err(foreign(WHAT, "it is on several devices"));
        }
        let (bits, directory) = (head.byte(12)?, head.byte(90)?);
        if !(9..=16).contains(&bits) || directory > 4 {
            return Err(damaged(WHAT, format!("blocks of 2^{bits} bytes")));
        }
        let block = 1_u64 << bits;
        if u64::from(head.le32(36)?) * block > bytes.size() {
            return Err(damaged(WHAT, "it is larger than its partition"));
        }
        // The checksum covers the rest of the first block.
        if head.le32(8)? & 1 != 0 && block > 1024 {
            let mut rest = read(&*bytes, 1024, (block - 1024) as usize)?;
            rest[4..8].fill(0);
            if !Crc::<u32>::new(&CRC_32_ISCSI).checksum(&rest) != head.le32(4)? {
                return Err(damaged(WHAT, "the checksum of its superblock is wrong"));
            }
        }
        Ok(Self {
            block,
            inodes: u64::from(head.le32(40)?) * block,
            shared: u64::from(head.le32(44)?) * block,
            directory: block << directory,
            top: head.le16(14)?.into(),
            padded: features & PADDED != 0,
            bytes,
        })
    }

    fn stored(&self, number: u64) -> Result<Stored, Error> {
        let at = number.checked_mul(32).and_then(|at| at.checked_add(self.inodes));
        let at = at.ok_or_else(|| damaged(WHAT, format!("there is no inode {number}")))?;
        let file = Stored::read(&*self.bytes, at)?;
        match file.layout {
            Layout::Packed { .. } if !self.padded => Err(foreign(WHAT, "packed as before 2019")),
            _ => Ok(file),
        }
    }

    /// Returns where the pieces of a file that is not packed are, in their order: none for zeros.
    fn pieces(&self, file: &Stored) -> Result<Vec<(Option<u64>, u64)>, Error> {
        let size = file.inode.size;
        let start = u64::from(file.place) * self.block;
        match file.layout {
            Layout::Plain => Ok(vec![(Some(start), size)]),
            Layout::Inline => {
                // The last block, or what there is of it, is behind the inode, in its block.
                let whole = size.div_ceil(self.block).saturating_sub(1) * self.block;
                let rest = size - whole;
                if file.end % self.block + rest > self.block {
                    return Err(damaged(WHAT, "the end of a file is in two blocks"));
                }
                Ok(vec![(Some(start), whole), (Some(file.end), rest)])
            }
            Layout::Pieces => self.of_one_size(file),
            Layout::Packed { .. } => Err(damaged(WHAT, "a packed file of another kind")),
        }
    }

    fn of_one_size(&self, file: &Stored) -> Result<Vec<(Option<u64>, u64)>, Error> {
        let (bits, indexed) = (file.place & 0x1f, file.place & 0x20 != 0);
        if file.place & !0x3f != 0 {
            return Err(foreign(WHAT, format!("pieces of form {:#x}", file.place)));
        }
        let piece = self.block.checked_shl(bits).filter(|piece| *piece <= 1 << 40);
        let piece = piece.ok_or_else(|| damaged(WHAT, "pieces of a size that cannot be"))?;
        let (size, entry) = (file.inode.size, if indexed { 8 } else { 4 });
        let count = size.div_ceil(piece);
        let at = file.end.next_multiple_of(entry);
        if count.saturating_mul(entry) > self.bytes.size() {
            return Err(damaged(WHAT, format!("a file of {size} bytes")));
        }
        let all = read(&*self.bytes, at, usize::try_from(count * entry).unwrap_or(usize::MAX))?;
        let record = Record::new("the pieces of a file of the erofs", &all);
        let mut found = vec![];
        for n in 0..count {
            let place = usize::try_from(n * entry).unwrap_or(usize::MAX);
            if indexed && record.le16(place + 2)? != 0 {
                return Err(foreign(WHAT, "it is on several devices"));
            }
            let block = record.le32(place + if indexed { 4 } else { 0 })?;
            let at = (block != u32::MAX).then(|| u64::from(block) * self.block);
            found.push((at, piece.min(size - n * piece)));
        }
        Ok(found)
    }

    /// Hands all of a file on.
    fn all(&self, file: &Stored, take: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        if let Layout::Packed { compact } = file.layout {
            return packed::read_file(&*self.bytes, self.block, file, compact, take);
        }
        let mut buffer = vec![0; usize::try_from(CHUNK.min(file.inode.size)).unwrap_or(0)];
        for (at, size) in self.pieces(file)? {
            let mut done = 0;
            while done < size {
                let n = usize::try_from((size - done).min(CHUNK)).unwrap_or(0);
                match at {
                    Some(at) => self.bytes.read_at(at.saturating_add(done), &mut buffer[..n])?,
                    None => buffer[..n].fill(0),
                }
                take(&buffer[..n]);
                done += n as u64;
            }
        }
        Ok(())
    }

    /// Returns the contents of what is a few bytes as a rule.
    fn small(&self, file: &Stored, most: u64) -> Result<Vec<u8>, Error> {
        if file.inode.size > most {
            return Err(damaged(WHAT, format!("a file of {} bytes", file.inode.size)));
        }
        let mut out = vec![];
        self.all(file, &mut |some| out.extend(some))?;
        Ok(out)
    }
}

impl FileSystem for Erofs {
    fn name(&self) -> &'static str {
        "erofs"
    }

    fn remark(&self) -> Option<String> {
        None
    }

    fn top(&self) -> u64 {
        self.top
    }

    fn inode(&self, number: u64) -> Result<Inode, Error> {
        Ok(self.stored(number)?.inode)
    }

    fn list(&self, number: u64) -> Result<Vec<Named>, Error> {
        let file = self.stored(number)?;
        if file.inode.kind != Kind::Dir {
            return Err(damaged(WHAT, format!("inode {number} is no directory")));
        }
        let mut found = vec![];
        let bytes = self.small(&file, MOST_DIRECTORY)?;
        for block in bytes.chunks(usize::try_from(self.directory).unwrap_or(usize::MAX)) {
            names(block, &mut found)?;
        }
        Ok(found)
    }

    fn target(&self, number: u64) -> Result<Vec<u8>, Error> {
        self.small(&self.stored(number)?, MOST_TARGET)
    }

    fn attributes(&self, number: u64) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
        attribute::of(&*self.bytes, &self.stored(number)?, self.shared)
    }

    fn read(&self, number: u64, take: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        let file = self.stored(number)?;
        match file.inode.kind {
            Kind::File => self.all(&file, take),
            _ => Err(damaged(WHAT, format!("inode {number} is no file"))),
        }
    }

    fn places(&self, number: u64) -> Result<Vec<Range<u64>>, Error> {
        let file = self.stored(number)?;
        let own = file.start..file.end;
        let mut found = vec![own];
        if file.inode.kind != Kind::File {
            return Ok(found);
        }
        if let Layout::Packed { compact } = file.layout {
            found.extend(packed::places(&*self.bytes, self.block, &file, compact)?);
        } else {
            let pieces = self.pieces(&file)?;
            found.extend(pieces.into_iter().filter_map(|(at, size)| Some(at?..at? + size)));
        }
        Ok(found)
    }
}

/// Takes the names out of a block of a directory: entries of twelve bytes, and behind the last one
/// the names.
fn names(block: &[u8], found: &mut Vec<Named>) -> Result<(), Error> {
    const ENTRY: usize = 12;
    const DIRECTORY: &str = "a directory of the erofs";
    let record = Record::new(DIRECTORY, block);
    let first = usize::from(record.le16(8)?);
    if first < ENTRY || !first.is_multiple_of(ENTRY) || first > block.len() {
        return Err(damaged(DIRECTORY, "its names begin nowhere"));
    }
    for at in (0..first).step_by(ENTRY) {
        let (number, start) = (record.le64(at)?, usize::from(record.le16(at + 8)?));
        let last = at + ENTRY == first;
        let end = if last { block.len() } else { record.le16(at + ENTRY + 8)?.into() };
        let size = end.checked_sub(start).ok_or_else(|| damaged(DIRECTORY, "a name ends early"))?;
        let name = record.slice(start, size)?;
        // The last one may end before the block does.
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        if name != b"." && name != b".." {
            found.push((name.to_vec(), number));
        }
    }
    Ok(())
}
