//! Bytes on their way into a disk.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

/// Bytes that are copied at once.
const CHUNK: usize = 1 << 20;

/// Bytes below which a hole is not worth a seek; file systems keep no smaller ones.
const BLOCK: usize = 4096;

/// Bytes that go into a disk.
#[derive(Debug)]
pub enum Content {
    /// In memory.
    Bytes(Vec<u8>),
    /// So many of a file, from its beginning.
    File(File, u64),
}

impl Content {
    /// Returns the number of bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, size) => *size,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes all bytes.
    ///
    /// # Errors
    /// What reading and writing fails with; [`io::ErrorKind::UnexpectedEof`] where a file has
    /// become shorter.
    pub fn copy(&self, to: &mut dyn Write) -> io::Result<()> {
        let (file, size) = match self {
            Self::Bytes(bytes) => return to.write_all(bytes),
            Self::File(file, size) => (file, *size),
        };
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < size {
            let n = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK);
            file.read_exact_at(&mut buffer[..n], at)?;
            to.write_all(&buffer[..n])?;
            at += n as u64;
        }
        Ok(())
    }
}

/// Writes into a file that is all zeros, from an offset on, and leaves holes where zeros come.
#[derive(Debug)]
pub struct Sparse<'a> {
    file: &'a File,
    at: u64,
}

impl<'a> Sparse<'a> {
    /// Writes into `file` from the byte `at` on, which is a multiple of 4096.
    #[must_use]
    pub fn new(file: &'a File, at: u64) -> Self {
        Self { file, at }
    }
}

impl Write for Sparse<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            // Up to the next boundary, so that blocks are those of the file.
            let within = usize::try_from(self.at % BLOCK as u64).unwrap_or(0);
            let (block, after) = rest.split_at(rest.len().min(BLOCK - within));
            if block.iter().any(|byte| *byte != 0) {
                // As many blocks as are no hole, in one call.
                let more = after
                    .chunks(BLOCK)
                    .take_while(|block| block.iter().any(|byte| *byte != 0))
                    .map(<[u8]>::len)
                    .sum::<usize>();
                let run = &rest[..block.len() + more];
                self.file.write_all_at(run, self.at)?;
                self.at += run.len() as u64;
                rest = &rest[run.len()..];
            } else {
                self.at += block.len() as u64;
                rest = after;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
