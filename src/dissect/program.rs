//! A program that firmware starts (PE), and what else is in it: the sections of a unified kernel
//! image (UAPI.5).

use super::bytes::{Bytes, read};
use super::error::{Error, damaged};
use super::record::Record;

const WHAT: &str = "the boot program";

/// Most bytes of headers, and most sections (`PE Format`).
const MOST_HEAD: u64 = 64 << 10;
const MOST: u16 = 96;

/// Bytes of a section header.
const HEADER: usize = 40;

/// A part of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name, as `.linux`.
    pub name: String,
    /// Where it begins in the file.
    pub start: u64,
    /// Its bytes, without those that only fill up.
    pub size: u64,
}

/// Returns the sections of a program, none beyond its end.
///
/// # Errors
/// [`Error::Damaged`] where it is no program of 64-bit UEFI; what reading fails with.
pub fn sections(file: &dyn Bytes) -> Result<Vec<Section>, Error> {
    let size = usize::try_from(file.size().min(MOST_HEAD)).unwrap_or(0);
    let all = read(file, 0, size)?;
    let head = Record::new(WHAT, &all);
    let pe = head.le32(0x3c)? as usize;
    let optional = pe.saturating_add(24);
    if head.slice(0, 2)? != b"MZ"
        || head.slice(pe, 4)? != b"PE\0\0"
        || head.le16(optional)? != 0x20b
    {
        return Err(damaged(WHAT, "it is none"));
    }
    let count = head.le16(pe + 6)?;
    if count > MOST {
        return Err(damaged(WHAT, format!("{count} sections")));
    }
    let table = optional + usize::from(head.le16(pe + 20)?);
    let mut found = vec![];
    for at in (0..usize::from(count)).map(|n| table + n * HEADER) {
        let name = head.slice(at, 8)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let (used, raw) = (u64::from(head.le32(at + 8)?), u64::from(head.le32(at + 16)?));
        let (start, size) = (u64::from(head.le32(at + 20)?), used.min(raw));
        if start + raw > file.size() {
            return Err(damaged(WHAT, "a section lies beyond its end"));
        }
        found.push(Section { name: String::from_utf8_lossy(name).into_owned(), start, size });
    }
    Ok(found)
}
