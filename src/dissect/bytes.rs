//! Bytes of a disk, and of a part of one.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::error::{Error, damaged};

/// So many bytes, read in any order and by several threads.
pub trait Bytes: Send + Sync {
    /// Returns how many there are.
    fn size(&self) -> u64;

    /// Fills `buffer` with those from `at` on.
    ///
    /// # Errors
    /// [`Error::Damaged`] where there are not so many; what reading the file fails with.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), Error>;
}

/// Returns `size` bytes from `at` on.
pub(super) fn read(of: &dyn Bytes, at: u64, size: usize) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; size];
    of.read_at(at, &mut buffer)?;
    Ok(buffer)
}

/// Whether `count` bytes from `at` on are among `size`.
pub(super) fn within(size: u64, at: u64, count: usize) -> bool {
    at.checked_add(count as u64).is_some_and(|end| end <= size)
}

/// A file, or a block device, as it is.
pub(super) struct Raw {
    file: File,
    size: u64,
}

impl Raw {
    pub(super) fn new(file: File) -> Result<Self, Error> {
        // The size of a block device is nowhere else.
        let size = (&file).seek(SeekFrom::End(0)).map_err(Error::Io)?;
        Ok(Self { file, size })
    }
}

impl Bytes for Raw {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), Error> {
        if !within(self.size, at, buffer.len()) {
            return Err(damaged("the disk", "its file has been cut short"));
        }
        self.file.read_exact_at(buffer, at).map_err(Error::Io)
    }
}

/// A part of other bytes.
#[derive(Clone)]
pub struct Part {
    of: Arc<dyn Bytes>,
    start: u64,
    size: u64,
}

impl Part {
    /// Takes `size` bytes from `start` on.
    ///
    /// # Errors
    /// [`Error::Damaged`] where there are not so many.
    pub(super) fn new(
        what: &'static str,
        of: &Arc<dyn Bytes>,
        start: u64,
        size: u64,
    ) -> Result<Self, Error> {
        if start.checked_add(size).is_none_or(|end| end > of.size()) {
            return Err(damaged(what, "it reaches beyond the end of what it is in"));
        }
        Ok(Self { of: of.clone(), start, size })
    }
}

impl Bytes for Part {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), Error> {
        if !within(self.size, at, buffer.len()) {
            return Err(damaged("the disk", "something lies beyond the end of its partition"));
        }
        self.of.read_at(self.start + at, buffer)
    }
}
