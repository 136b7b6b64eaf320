//! The superblock, and where the inodes are.

use crc::{CRC_32_ISCSI, Crc};

use crate::dissect::bytes::{Bytes, read};
use crate::dissect::error::{Error, damaged, foreign};
use crate::dissect::record::Record;

pub(in crate::dissect) const MAGIC: u16 = 0xef53;

/// What it is called where it is damaged.
pub(super) const WHAT: &str = "the ext4";

/// Features that do no harm to a reader: `filetype`, `needs_recovery`, `meta_bg`, `extent`,
/// `64bit`, `mmp`, `flex_bg`, `ea_inode`, `csum_seed`, `large_dir`, `casefold`.
const READ: u32 = 0x2_67d6;

/// Names of those that are not read.
const NAMES: [(u32, &str); 5] = [
    (0x1, "compression"),
    (0x8, "journal_dev"),
    (0x1000, "dirdata"),
    (0x8000, "inline_data"),
    (0x1_0000, "encrypt"),
];

const RECOVER: u32 = 0x4;
const META_GROUPS: u32 = 0x10;
const WIDE: u32 = 0x80;

/// `metadata_csum`, among the features that only writers must know.
const CHECKSUMS: u32 = 0x400;

/// What a reader needs of the superblock.
#[derive(Debug, Clone)]
pub(super) struct Super {
    /// Bytes of a block.
    pub(super) block: u64,
    pub(super) blocks: u64,
    pub(super) inode_size: usize,
    inodes: u64,
    inodes_of_group: u64,
    blocks_of_group: u64,
    first_block: u64,
    descriptor: u64,
    first_meta: u64,
    incompatible: u32,
    read_only: u32,
    journal: u32,
    journal_elsewhere: bool,
}

impl Super {
    pub(super) fn read(bytes: &dyn Bytes) -> Result<Self, Error> {
        let all = read(bytes, 1024, 1024)?;
        let head = Record::new("the superblock of the ext4", &all);
        if head.le16(0x38)? != MAGIC {
            return Err(damaged(WHAT, "it has no superblock"));
        }
        let (incompatible, read_only) = (head.le32(0x60)?, head.le32(0x64)?);
        if let Some((_, name)) = NAMES.iter().find(|(bit, _)| incompatible & bit != 0) {
            return Err(foreign(WHAT, format!("it has the feature {name}")));
        }
        if incompatible & !READ != 0 {
            return Err(foreign(WHAT, format!("it has features {:#x}", incompatible & !READ)));
        }
        let sum = !Crc::<u32>::new(&CRC_32_ISCSI).checksum(&all[..1020]);
        if read_only & CHECKSUMS != 0 && sum != head.le32(1020)? {
            return Err(damaged(WHAT, "the checksum of its superblock is wrong"));
        }
        let wide = incompatible & WIDE != 0;
        let half = |at| if wide { head.le32(at).map(u64::from) } else { Ok(0) };
        let shift = head.le32(0x18)?;
        let inode_size = if head.le32(0x4c)? == 0 { 128 } else { head.le16(0x58)? };
        let descriptor = if wide { head.le16(0xfe)? } else { 32 };
        let this = Self {
            block: 1024_u64.checked_shl(shift.min(32)).unwrap_or(0),
            blocks: u64::from(head.le32(0x04)?) | half(0x150)? << 32,
            inode_size: usize::from(inode_size),
            inodes: head.le32(0x00)?.into(),
            inodes_of_group: head.le32(0x28)?.into(),
            blocks_of_group: head.le32(0x20)?.into(),
            first_block: head.le32(0x14)?.into(),
            descriptor: descriptor.into(),
            first_meta: head.le32(0x104)?.into(),
            incompatible,
            read_only,
            journal: head.le32(0xe0)?,
            journal_elsewhere: head.slice(0xd0, 16)?.iter().any(|byte| *byte != 0),
        };
        let power =
            |n: u64, from: u64, upto: u64| n.is_power_of_two() && (from..=upto).contains(&n);
        if !power(this.block, 1024, 1 << 16)
            || !power(inode_size.into(), 128, this.block)
            || !power(this.descriptor, 32, 1024)
            || this.inodes_of_group == 0
            || this.inodes_of_group > this.block * 8
            || this.blocks_of_group == 0
            || this.first_block > 1
        {
            return Err(damaged(WHAT, "the numbers in its superblock fit nowhere"));
        }
        if this.blocks.checked_mul(this.block).is_none_or(|size| size > bytes.size()) {
            return Err(damaged(WHAT, "it is larger than its partition"));
        }
        Ok(this)
    }

    pub(super) fn needs_recovery(&self) -> bool {
        self.incompatible & RECOVER != 0
    }

    /// Returns the inode of the journal.
    pub(super) fn journal(&self) -> Result<u64, Error> {
        match self.journal_elsewhere || self.journal == 0 {
            true => Err(foreign(WHAT, "its journal is on another disk")),
            false => Ok(self.journal.into()),
        }
    }

    /// Returns the byte at which an inode begins.
    pub(super) fn place_of(&self, bytes: &dyn Bytes, number: u64) -> Result<u64, Error> {
        if number == 0 || number > self.inodes {
            return Err(damaged(WHAT, format!("there is no inode {number}")));
        }
        let group = (number - 1) / self.inodes_of_group;
        let at = self.descriptor_of(group)?;
        let all = read(bytes, at, usize::try_from(self.descriptor).unwrap_or(0))?;
        let descriptor = Record::new("a group of the ext4", &all);
        let high = if self.descriptor >= 64 { descriptor.le32(0x28)? } else { 0 };
        let table = u64::from(descriptor.le32(0x08)?) | u64::from(high) << 32;
        let place = (number - 1) % self.inodes_of_group * self.inode_size as u64;
        let start = table.checked_mul(self.block).and_then(|start| start.checked_add(place));
        start.ok_or_else(|| damaged(WHAT, format!("inode {number} is nowhere")))
    }

    /// Returns the byte at which the descriptor of a group begins.
    fn descriptor_of(&self, group: u64) -> Result<u64, Error> {
        let of_block = self.block / self.descriptor;
        let block = group / of_block;
        let place = group % of_block * self.descriptor;
        let at = if self.incompatible & META_GROUPS == 0 || block < self.first_meta {
            self.first_block + 1 + block
        } else {
            // In the first group of those that it describes, behind a superblock if that has one.
            let first = block * of_block;
            let start = first.checked_mul(self.blocks_of_group);
            let start = start.ok_or_else(|| damaged(WHAT, "a group that is nowhere"))?;
            self.first_block + start + u64::from(self.has_super(first))
        };
        at.checked_mul(self.block)
            .and_then(|start| start.checked_add(place))
            .ok_or_else(|| damaged(WHAT, "a group that is nowhere"))
    }

    /// Whether a group begins with a copy of the superblock.
    fn has_super(&self, group: u64) -> bool {
        let power = |of: u64| {
            let mut n = of;
            while n < group {
                n *= of;
            }
            n == group
        };
        // Without `sparse_super` all have one.
        self.read_only & 1 == 0 || group <= 1 || [3, 5, 7].into_iter().any(power)
    }
}
