//! An inode as it lies in its table.

use super::superblock::WHAT;
use crate::dissect::error::{Error, foreign};
use crate::dissect::record::Record;
use crate::dissect::tree::{Inode, Kind};

/// Bytes for extents, or for a short target of a symlink.
const BODY: usize = 60;

/// The fields that every inode has.
pub(super) const FIELDS: usize = 128;

const EXTENTS: u32 = 0x8_0000;
const INLINE: u32 = 0x1000_0000;
const ENCRYPTED: u32 = 0x800;

/// An inode, read but not yet looked at.
pub(super) struct Stored {
    number: u64,
    bytes: Vec<u8>,
}

impl Stored {
    pub(super) fn parse(number: u64, bytes: Vec<u8>) -> Result<Self, Error> {
        let this = Self { number, bytes };
        let flags = this.record().le32(0x20)?;
        for (bit, name) in [(INLINE, "data in its inode"), (ENCRYPTED, "encrypted contents")] {
            if flags & bit != 0 {
                return Err(foreign(WHAT, format!("inode {number} has {name}")));
            }
        }
        Ok(this)
    }

    fn record(&self) -> Record<'_> {
        Record::new("an inode of the ext4", &self.bytes)
    }

    pub(super) fn size(&self) -> Result<u64, Error> {
        let record = self.record();
        Ok(u64::from(record.le32(0x04)?) | u64::from(record.le32(0x6c)?) << 32)
    }

    pub(super) fn inode(&self) -> Result<Inode, Error> {
        let record = self.record();
        let mode = record.le16(0x00)?;
        let both = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
        Ok(Inode {
            kind: Kind::of_mode(WHAT, mode)?,
            mode: u32::from(mode) & 0o7777,
            uid: both(record.le16(0x02)?, record.le16(0x78)?),
            gid: both(record.le16(0x18)?, record.le16(0x7a)?),
            size: self.size()?,
            links: record.le16(0x1a)?.into(),
            mtime: i64::from(record.le32(0x10)? as i32),
        })
    }

    /// Returns the root of its tree of extents.
    pub(super) fn extents(&self) -> Result<&[u8], Error> {
        if self.record().le32(0x20)? & EXTENTS == 0 {
            return Err(foreign(WHAT, format!("inode {} has no extents", self.number)));
        }
        self.record().slice(0x28, BODY)
    }

    /// Returns the target of a symlink that is in the inode itself.
    pub(super) fn short_target(&self) -> Result<Option<&[u8]>, Error> {
        let (size, flags) = (self.size()?, self.record().le32(0x20)?);
        let short = usize::try_from(size).ok().filter(|size| *size < BODY && flags & EXTENTS == 0);
        short.map(|size| self.record().slice(0x28, size)).transpose()
    }

    /// Returns the block of its attributes; 0 for none.
    pub(super) fn attribute_block(&self) -> Result<u64, Error> {
        let record = self.record();
        Ok(u64::from(record.le32(0x68)?) | u64::from(record.le16(0x76)?) << 32)
    }

    /// Returns what is behind its fields: attributes, if anything.
    pub(super) fn behind(&self) -> Result<&[u8], Error> {
        if self.bytes.len() <= FIELDS {
            return Ok(&[]);
        }
        let start = FIELDS + usize::from(self.record().le16(0x80)?);
        self.record().slice(start, self.bytes.len().saturating_sub(start))
    }
}
