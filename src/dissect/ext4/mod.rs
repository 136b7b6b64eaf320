//! An ext4 read (kernel, Documentation/filesystems/ext4): extents, directories of both forms,
//! attributes wherever they are, and a journal that was not written back.
//!
//! ```text
//! superblock ─► descriptors of groups ─► inodes ─► extents ─► contents, directories, targets
//! journal ─► blocks that take the place of those on the disk (in memory: where they are)
//! ```

mod attribute;
mod extent;
mod inode;
mod journal;
mod superblock;

pub(super) use self::superblock::MAGIC;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use self::inode::Stored;
use self::superblock::{Super, WHAT};
use super::bytes::{Bytes, read};
use super::error::{Error, damaged};
use super::record::Record;
use super::tree::{FileSystem, Inode, Kind, MOST_DIRECTORY, MOST_TARGET, Named};

/// The inode of the top directory.
const TOP: u64 = 2;

/// Bytes that are handed on at once.
const CHUNK: u64 = 1 << 20;

pub(super) struct Ext4 {
    bytes: Arc<dyn Bytes>,
    head: Super,
    remark: Option<String>,
}

impl Ext4 {
    pub(super) fn open(bytes: Arc<dyn Bytes>) -> Result<Self, Error> {
        let head = Super::read(&*bytes)?;
        if !head.needs_recovery() {
            return Ok(Self { bytes, head, remark: None });
        }
        let plain = Self { bytes: bytes.clone(), head, remark: None };
        let journal = plain.stored(plain.head.journal()?)?;
        let extents = extent::of_file(&plain.bytes, &plain.head, &journal)?;
        let (bytes, blocks) = journal::replay(bytes, &plain.head, &extents)?;
        // The superblock may be among what is in the journal.
        let head = Super::read(&*bytes)?;
        let remark = (blocks > 0).then(|| {
            format!("it was not unmounted: {blocks} blocks of its journal were read in their place")
        });
        Ok(Self { bytes, head, remark })
    }

    fn stored(&self, number: u64) -> Result<Stored, Error> {
        let at = self.head.place_of(&*self.bytes, number)?;
        Stored::parse(number, read(&*self.bytes, at, self.head.inode_size)?)
    }

    /// Hands `size` bytes of a file on, holes as zeros.
    fn pieces(&self, file: &Stored, size: u64, take: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        let block = self.head.block;
        let mut buffer = vec![0; usize::try_from(CHUNK.min(size)).unwrap_or(0)];
        let mut done = 0;
        let zeros = |upto: u64, done: &mut u64, buffer: &mut [u8], take: &mut dyn FnMut(&[u8])| {
            while *done < upto {
                let n = usize::try_from((upto - *done).min(buffer.len() as u64)).unwrap_or(0);
                buffer[..n].fill(0);
                take(&buffer[..n]);
                *done += n as u64;
            }
        };
        for one in extent::of_file(&self.bytes, &self.head, file)? {
            let (start, end) = (one.first.saturating_mul(block), one.end().saturating_mul(block));
            zeros(start.min(size), &mut done, &mut buffer, take);
            if !one.written {
                zeros(end.min(size), &mut done, &mut buffer, take);
            }
            while done < end.min(size) {
                let n = usize::try_from((end.min(size) - done).min(CHUNK)).unwrap_or(0);
                self.bytes.read_at(one.place * block + (done - start), &mut buffer[..n])?;
                take(&buffer[..n]);
                done += n as u64;
            }
        }
        zeros(size, &mut done, &mut buffer, take);
        Ok(())
    }
}

impl FileSystem for Ext4 {
    fn name(&self) -> &'static str {
        "ext4"
    }

    fn remark(&self) -> Option<String> {
        self.remark.clone()
    }

    fn top(&self) -> u64 {
        TOP
    }

    fn inode(&self, number: u64) -> Result<Inode, Error> {
        self.stored(number)?.inode()
    }

    fn list(&self, number: u64) -> Result<Vec<Named>, Error> {
        let file = self.stored(number)?;
        let (size, block) = (file.size()?, self.head.block);
        if size > MOST_DIRECTORY || !size.is_multiple_of(block) {
            return Err(damaged(WHAT, format!("directory {number} of {size} bytes")));
        }
        let mut found = vec![];
        for one in extent::of_file(&self.bytes, &self.head, &file)? {
            for n in one.first..one.end().min(size / block) {
                let at = (one.place + (n - one.first)) * block;
                let bytes = read(&*self.bytes, at, usize::try_from(block).unwrap_or(0))?;
                names(&bytes, &mut found)?;
            }
        }
        Ok(found)
    }

    fn target(&self, number: u64) -> Result<Vec<u8>, Error> {
        let file = self.stored(number)?;
        let size = file.size()?;
        if let Some(target) = file.short_target()? {
            return Ok(target.to_vec());
        }
        if size > MOST_TARGET {
            return Err(damaged(WHAT, format!("a symlink of {size} bytes")));
        }
        let mut out = vec![];
        self.pieces(&file, size, &mut |some| out.extend(some))?;
        Ok(out)
    }

    fn attributes(&self, number: u64) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
        let file = self.stored(number)?;
        let mut found = attribute::inline(&file)?;
        let block = file.attribute_block()?;
        if block != 0 {
            let at = block.saturating_mul(self.head.block);
            let bytes = read(&*self.bytes, at, usize::try_from(self.head.block).unwrap_or(0))?;
            found.extend(attribute::block(&bytes)?);
        }
        let mut out = BTreeMap::new();
        for one in found {
            let value = match one.value {
                attribute::Value::Here(value) => value,
                attribute::Value::Inode(number, size) => {
                    let file = self.stored(number)?;
                    let mut value = vec![];
                    self.pieces(&file, size, &mut |some| value.extend(some))?;
                    value
                }
            };
            out.insert(one.name, value);
        }
        Ok(out)
    }

    fn read(&self, number: u64, take: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        let file = self.stored(number)?;
        match file.inode()?.kind {
            Kind::File => self.pieces(&file, file.size()?, take),
            _ => Err(damaged(WHAT, format!("inode {number} is no file"))),
        }
    }

    fn places(&self, number: u64) -> Result<Vec<Range<u64>>, Error> {
        let file = self.stored(number)?;
        if file.inode()?.kind != Kind::File {
            return Ok(vec![]);
        }
        let block = self.head.block;
        let extents = extent::of_file(&self.bytes, &self.head, &file)?;
        let range = |one: &extent::Extent| one.place * block..(one.place + one.count) * block;
        Ok(extents.iter().map(range).collect())
    }
}

/// Takes the names out of a block of a directory. The inner nodes of a hashed one look like a block
/// whose only entry is of no file.
fn names(block: &[u8], found: &mut Vec<Named>) -> Result<(), Error> {
    let record = Record::new("a directory of the ext4", block);
    let mut at = 0;
    while at < block.len() {
        let (inode, reach) = (record.le32(at)?, record.le16(at + 4)?);
        // Of a block of 64 KiB the whole has no number of its own.
        let reach = match reach {
            0 | u16::MAX if block.len() == 1 << 16 => block.len(),
            other => usize::from(other),
        };
        let length = usize::from(record.byte(at + 6)?);
        if reach < 8 + length || !reach.is_multiple_of(4) || reach > block.len() - at {
            return Err(damaged("a directory of the ext4", "an entry that ends nowhere"));
        }
        let name = record.slice(at + 8, length)?;
        if inode != 0 && name != b"." && name != b".." {
            found.push((name.to_vec(), u64::from(inode)));
        }
        at += reach;
    }
    Ok(())
}
