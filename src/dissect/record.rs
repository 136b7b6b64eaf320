//! Fields of a record on a disk: numbers at places, none of them beyond its end.

use super::error::{Error, damaged};

/// Bytes with the name of what they are, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    what: &'static str,
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    pub(super) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, bytes }
    }

    /// Returns the `size` bytes from `at` on.
    pub(super) fn slice(&self, at: usize, size: usize) -> Result<&'a [u8], Error> {
        let found = at.checked_add(size).and_then(|end| self.bytes.get(at..end));
        found.ok_or_else(|| damaged(self.what, "it ends in the middle"))
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], Error> {
        let mut out = [0; N];
        out.copy_from_slice(self.slice(at, N)?);
        Ok(out)
    }

    pub(super) fn byte(&self, at: usize) -> Result<u8, Error> {
        self.array(at).map(u8::from_le_bytes)
    }

    pub(super) fn le16(&self, at: usize) -> Result<u16, Error> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(super) fn le32(&self, at: usize) -> Result<u32, Error> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(super) fn le64(&self, at: usize) -> Result<u64, Error> {
        self.array(at).map(u64::from_le_bytes)
    }

    pub(super) fn be16(&self, at: usize) -> Result<u16, Error> {
        self.array(at).map(u16::from_be_bytes)
    }

    pub(super) fn be32(&self, at: usize) -> Result<u32, Error> {
        self.array(at).map(u32::from_be_bytes)
    }

    pub(super) fn be64(&self, at: usize) -> Result<u64, Error> {
        self.array(at).map(u64::from_be_bytes)
    }
}
