//! Extended attributes: in the inode, and in a block.

use super::inode::Stored;
use super::superblock::WHAT;
use crate::dissect::error::{Error, damaged};
use crate::dissect::record::Record;

const MAGIC: u32 = 0xea02_0000;

/// Bytes of an entry before its name, and of a block before its first entry.
const HEAD: usize = 16;
const BLOCK_HEAD: usize = 32;

/// Longest value (`XATTR_SIZE_MAX`).
const MOST: u32 = 65_536;

const RECORD: &str = "the attributes of a file of the ext4";

/// An attribute.
pub(super) struct Attribute {
    /// Its whole name.
    pub(super) name: Vec<u8>,
    pub(super) value: Value,
}

/// Where the value of an attribute is.
pub(super) enum Value {
    Here(Vec<u8>),
    /// The contents of a file of its own, so many bytes.
    Inode(u64, u64),
}

/// Returns the attributes that are in an inode.
pub(super) fn inline(file: &Stored) -> Result<Vec<Attribute>, Error> {
    let behind = file.behind()?;
    match behind.first_chunk() {
        Some(magic) if u32::from_le_bytes(*magic) == MAGIC => entries(&behind[4..], 0),
        _ => Ok(vec![]),
    }
}

/// Returns those in a block.
pub(super) fn block(block: &[u8]) -> Result<Vec<Attribute>, Error> {
    match Record::new(RECORD, block).le32(0)? {
        MAGIC => entries(block, BLOCK_HEAD),
        _ => Err(damaged(WHAT, "a block of attributes is none")),
    }
}

/// Reads entries from `at` on; where values are counts from the beginning of `bytes`.
fn entries(bytes: &[u8], mut at: usize) -> Result<Vec<Attribute>, Error> {
    let record = Record::new(RECORD, bytes);
    let mut found = vec![];
    // Four zeros are the end; or there is no room for them.
    while at + 4 <= bytes.len() && record.le32(at)? != 0 {
        let length = usize::from(record.byte(at)?);
        let index = record.byte(at + 1)?;
        let (offset, inode, size) =
            (record.le16(at + 2)?, record.le32(at + 4)?, record.le32(at + 8)?);
        if size > MOST {
            return Err(damaged(WHAT, format!("an attribute of {size} bytes")));
        }
        let prefix: &[u8] = match index {
            0 => b"",
            1 => b"user.",
            2 => b"system.posix_acl_access",
            3 => b"system.posix_acl_default",
            4 => b"trusted.",
            6 => b"security.",
            7 => b"system.",
            // Of a kind that no program can ask for.
            _ => b"ext4.",
        };
        let name = [prefix, record.slice(at + HEAD, length)?].concat();
        let value = match inode {
            0 => {
                let value = record.slice(offset.into(), size as usize)?;
                Value::Here(if matches!(index, 2 | 3) { list(value)? } else { value.to_vec() })
            }
            number => Value::Inode(number.into(), size.into()),
        };
        found.push(Attribute { name, value });
        at += (HEAD + length).next_multiple_of(4);
    }
    Ok(found)
}

/// Returns an access control list as programs see it: each entry with a number, whether it needs
/// one or not (linux/posix_acl_xattr.h).
fn list(value: &[u8]) -> Result<Vec<u8>, Error> {
    let record = Record::new("an access control list of the ext4", value);
    if record.le32(0)? != 1 {
        return Err(damaged(WHAT, "an access control list of another version"));
    }
    let (mut out, mut at) = (2_u32.to_le_bytes().to_vec(), 4);
    while at < value.len() {
        let named = matches!(record.le16(at)?, 0x02 | 0x08);
        out.extend(record.slice(at, 4)?);
        out.extend(if named { record.slice(at + 4, 4)? } else { &[0xff; 4] });
        at += if named { 8 } else { 4 };
    }
    Ok(out)
}
