//! Extended attributes: behind the inode, and, where several files have the same, in one place for
//! all of them.

use std::collections::BTreeMap;

use super::inode::{Stored, WHAT};
use crate::dissect::bytes::{Bytes, read};
use crate::dissect::error::{Error, foreign};
use crate::dissect::record::Record;

const RECORD: &str = "the attributes of a file of the erofs";

/// Bytes before the numbers of shared ones, and of an entry before its name.
const HEAD: usize = 12;
const ENTRY: usize = 4;

/// Longest entry: a name of 255 bytes, and a value of 65,535.
const MOST: u64 = 4 + 255 + 65_535;

/// Returns the attributes of a file; `shared`: where those of several files begin.
pub(super) fn of(
    bytes: &dyn Bytes,
    file: &Stored,
    shared: u64,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
    let mut found = BTreeMap::new();
    if file.attributes == 0 {
        return Ok(found);
    }
    let own = usize::try_from(file.attributes).unwrap_or(0);
    let all = read(bytes, file.end - file.attributes, own)?;
    let record = Record::new(RECORD, &all);
    let count = usize::from(record.byte(4)?);
    for n in 0..count {
        let at = shared.saturating_add(u64::from(record.le32(HEAD + 4 * n)?) * 4);
        let size = usize::try_from(bytes.size().saturating_sub(at).min(MOST)).unwrap_or(0);
        let (name, value, _) = entry(Record::new(RECORD, &read(bytes, at, size)?), 0)?;
        found.insert(name, value);
    }
    let mut at = HEAD + 4 * count;
    while at + ENTRY <= all.len() {
        // Nothing more but zeros.
        if record.le32(at)? == 0 {
            break;
        }
        let (name, value, size) = entry(record, at)?;
        found.insert(name, value);
        at += size.next_multiple_of(4);
    }
    Ok(found)
}

/// Returns name and value of the entry at a place, and its bytes.
fn entry(record: Record<'_>, at: usize) -> Result<(Vec<u8>, Vec<u8>, usize), Error> {
    let (length, index) = (usize::from(record.byte(at)?), record.byte(at + 1)?);
    let size = usize::from(record.le16(at + 2)?);
    let prefix: &[u8] = match index {
        1 => b"user.",
        2 => b"system.posix_acl_access",
        3 => b"system.posix_acl_default",
        4 => b"trusted.",
        6 => b"security.",
        other => return Err(foreign(WHAT, format!("attributes of kind {other}"))),
    };
    let name = [prefix, record.slice(at + ENTRY, length)?].concat();
    let value = record.slice(at + ENTRY + length, size)?.to_vec();
    Ok((name, value, ENTRY + length + size))
}
