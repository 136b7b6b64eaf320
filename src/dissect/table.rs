//! The partition table of a disk (GPT, UEFI specification 2.10, chapter 5), or its copy at the end.

use std::sync::Arc;

use crc::{CRC_32_ISO_HDLC, Crc};
use uuid::Uuid;

use super::bytes::{Bytes, Part, read};
use super::error::{Error, damaged};
use super::record::Record;
use crate::disk::table::Kind;

const WHAT: &str = "the partition table";

/// Sizes of a sector that disks have.
const SECTORS: [u64; 2] = [512, 4096];

/// Most bytes of all entries: 128 of 128 bytes are usual.
const MOST: u64 = 1 << 20;

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1.
    pub number: u32,
    /// Its name.
    pub name: String,
    /// What it holds, where bake knows.
    pub kind: Option<Kind>,
    /// Its own identifier.
    pub id: Uuid,
    /// Where it begins, and how many bytes it has.
    pub start: u64,
    /// As above.
    pub size: u64,
}

impl Partition {
    /// Returns its bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`] where it reaches beyond the end of the disk.
    pub fn of(&self, disk: &Arc<dyn Bytes>) -> Result<Part, Error> {
        Part::new("the partition table", disk, self.start, self.size)
    }
}

/// The partitions of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// In the order of their numbers.
    pub partitions: Vec<Partition>,
    /// Why the table at the beginning is not the one that this is, if it is not.
    pub copy_because: Option<String>,
}

/// Reads the partition table of a disk; where the one at its beginning is damaged, the copy.
///
/// # Errors
/// [`Error::Damaged`] where neither can be read; what reading fails with.
pub fn read_table(disk: &dyn Bytes) -> Result<Table, Error> {
    let mut first = None;
    for sector in SECTORS {
        let last = (disk.size() / sector).saturating_sub(1);
        for (at, copy) in [(1, false), (last, true)] {
            match partitions(disk, sector, at) {
                Ok(partitions) => {
                    let copy_because = first.filter(|_| copy).map(|error: Error| error.to_string());
                    return Ok(Table { partitions, copy_because });
                }
                Err(Error::Io(source)) => return Err(Error::Io(source)),
                Err(error) => first = first.or(Some(error)),
            }
        }
    }
    Err(first.unwrap_or(Error::Missing("partition table")))
}

fn partitions(disk: &dyn Bytes, sector: u64, at: u64) -> Result<Vec<Partition>, Error> {
    let crc = Crc::<u32>::new(&CRC_32_ISO_HDLC);
    let bytes = read(disk, at.saturating_mul(sector), sector as usize)?;
    let head = Record::new(WHAT, &bytes);
    if head.slice(0, 8)? != b"EFI PART" {
        return Err(damaged(WHAT, "there is none"));
    }
    let size = head.le32(12)? as usize;
    if !(92..=bytes.len()).contains(&size) || head.le64(24)? != at {
        return Err(damaged(WHAT, "its header is none"));
    }
    let mut plain = bytes[..size].to_vec();
    plain[16..20].fill(0);
    if crc.checksum(&plain) != head.le32(16)? {
        return Err(damaged(WHAT, "the checksum of its header is wrong"));
    }
    let (count, entry) = (u64::from(head.le32(80)?), u64::from(head.le32(84)?));
    let bytes = count.saturating_mul(entry);
    if entry < 128 || !entry.is_multiple_of(8) || bytes > MOST {
        return Err(damaged(WHAT, format!("{count} entries of {entry} bytes")));
    }
    let start = head.le64(72)?.saturating_mul(sector);
    let entries = read(disk, start, usize::try_from(bytes).unwrap_or(0))?;
    if crc.checksum(&entries) != head.le32(88)? {
        return Err(damaged(WHAT, "the checksum of its entries is wrong"));
    }
    let mut found = vec![];
    for (number, entry) in (1..).zip(entries.chunks_exact(usize::try_from(entry).unwrap_or(128))) {
        let one = Record::new(WHAT, entry);
        let kind = one.slice(0, 16)?;
        if kind == [0; 16] {
            continue;
        }
        let (first, last) = (one.le64(32)?, one.le64(40)?);
        let sectors = last.checked_sub(first).and_then(|n| n.checked_add(1));
        let bytes = |sectors: u64| sectors.checked_mul(sector);
        let (Some(start), Some(size)) = (bytes(first), sectors.and_then(bytes)) else {
            return Err(damaged(WHAT, format!("partition {number} ends before it begins")));
        };
        let units: Vec<u16> = one
            .slice(56, 72)?
            .as_chunks()
            .0
            .iter()
            .copied()
            .map(u16::from_le_bytes)
            .take_while(|unit| *unit != 0)
            .collect();
        found.push(Partition {
            number,
            name: String::from_utf16_lossy(&units),
            kind: Kind::of(guid(kind)),
            id: guid(one.slice(16, 16)?),
            start,
            size,
        });
    }
    Ok(found)
}

fn guid(bytes: &[u8]) -> Uuid {
    bytes.try_into().map(Uuid::from_bytes_le).unwrap_or_default()
}
