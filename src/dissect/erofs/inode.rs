//! An inode of either form.

use crate::dissect::bytes::{Bytes, read};
use crate::dissect::error::{Error, damaged, foreign};
use crate::dissect::record::Record;
use crate::dissect::tree::{Inode, Kind};

/// What it is called where it is damaged.
pub(super) const WHAT: &str = "the erofs";

/// Bytes of the two forms.
const COMPACT: usize = 32;
const EXTENDED: usize = 64;

/// How contents are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// In blocks.
    Plain,
    /// In blocks, the last of them behind the inode.
    Inline,
    /// In pieces of one size, which are anywhere.
    Pieces,
    /// Packed; `compact`: so is the list of what is where.
    Packed { compact: bool },
}

/// An inode, and where it is.
pub(super) struct Stored {
    pub(super) inode: Inode,
    pub(super) layout: Layout,
    /// The first block of the contents, or of what form its pieces are.
    pub(super) place: u32,
    /// Bytes of attributes.
    pub(super) attributes: u64,
    /// Where it begins, and where it ends with its attributes.
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Stored {
    pub(super) fn read(bytes: &dyn Bytes, at: u64) -> Result<Self, Error> {
        // The last one may be at the end.
        let left = usize::try_from(bytes.size().saturating_sub(at)).unwrap_or(EXTENDED);
        let all = read(bytes, at, left.clamp(COMPACT, EXTENDED))?;
        let record = Record::new("an inode of the erofs", &all);
        let format = record.le16(0)?;
        let layout = match format >> 1 & 7 {
            0 => Layout::Plain,
            1 => Layout::Packed { compact: false },
            2 => Layout::Inline,
            3 => Layout::Packed { compact: true },
            4 => Layout::Pieces,
            other => return Err(foreign(WHAT, format!("contents of layout {other}"))),
        };
        if format & !0xf != 0 {
            return Err(foreign(WHAT, format!("an inode of form {format:#x}")));
        }
        let mode = record.le16(4)?;
        let (kind, extended) = (Kind::of_mode(WHAT, mode)?, format & 1 == 1);
        let mode = u32::from(mode) & 0o7777;
        let inode = if extended {
            Inode {
                kind,
                mode,
                uid: record.le32(24)?,
                gid: record.le32(28)?,
                size: record.le64(8)?,
                links: record.le32(44)?,
                mtime: record.le64(32)? as i64,
            }
        } else {
            Inode {
                kind,
                mode,
                uid: record.le16(24)?.into(),
                gid: record.le16(26)?.into(),
                size: record.le32(8)?.into(),
                links: record.le16(6)?.into(),
                // That of the file system, which nobody compares.
                mtime: 0,
            }
        };
        let count = u64::from(record.le16(2)?);
        let attributes = if count == 0 { 0 } else { 12 + 4 * (count - 1) };
        let size = if extended { EXTENDED } else { COMPACT };
        let end = at.checked_add(size as u64 + attributes);
        let end = end.filter(|end| *end <= bytes.size());
        let end = end.ok_or_else(|| damaged(WHAT, "an inode beyond its end"))?;
        Ok(Self { inode, layout, place: record.le32(16)?, attributes, start: at, end })
    }
}
