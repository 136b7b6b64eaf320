//! A layer read as strictly as when it is unpacked, on a thread of its own, while it arrives.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::digest::{Digest, HashReader};
use crate::event::chain;
use crate::job::{self, no_thread};
use crate::layer::{Limits, Ratio, TarReader, decompress_foreign};
use crate::sandbox::Cancel;
use crate::threads;

/// Parts that wait to be read: not more, so that memory stays small where this is slower than
/// what brings them.
const WAITING: usize = 8;

/// The check of a layer that arrives.
pub(super) struct Check {
    parts: SyncSender<Vec<u8>>,
    thread: JoinHandle<Result<Digest, String>>,
}

impl Check {
    /// Begins to check a layer. `cancel` ends it.
    ///
    /// # Errors
    /// Where the host gives no thread.
    pub(super) fn start(cancel: Cancel) -> Result<Self, job::Error> {
        let (parts, from) = sync_channel(WAITING);
        let work = move || tar_of(Parts { from, part: vec![], at: 0 }, &cancel);
        let thread = threads::free(work).map_err(no_thread)?;
        Ok(Self { parts, thread })
    }

    /// Takes more bytes.
    pub(super) fn take(&self, bytes: &[u8]) {
        // Where it has ended already, `end` says why.
        let _ = self.parts.send(bytes.to_vec());
    }

    /// Returns the digest of the tar, all bytes of which are there; or why it cannot be unpacked.
    pub(super) fn end(self) -> Result<Digest, String> {
        drop(self.parts);
        self.thread.join().unwrap_or_else(|_| Err("the reading thread died".to_owned()))
    }
}

/// Reads a tar whole; returns its digest.
fn tar_of(parts: Parts, cancel: &Cancel) -> Result<Digest, String> {
    let why = |error: &dyn std::error::Error| chain(error).join(": ");
    let tar = decompress_foreign(Box::new(parts), Ratio::default());
    let mut tar = HashReader::new(tar.map_err(|error| why(&error))?);
    {
        let mut reader = TarReader::new(&mut tar, &Limits::default());
        while reader.next().map_err(|error| why(&error))?.is_some() {
            if cancel.fired() {
                return Err("it was interrupted".to_owned());
            }
        }
    }
    io::copy(&mut tar, &mut io::sink()).map_err(|error| why(&error))?;
    Ok(tar.finish().1)
}

/// What arrives, as something to be read.
struct Parts {
    from: Receiver<Vec<u8>>,
    part: Vec<u8>,
    at: usize,
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.part.len() {
            match self.from.recv() {
                Ok(part) => (self.part, self.at) = (part, 0),
                Err(_) => return Ok(0),
            }
        }
        let n = buffer.len().min(self.part.len() - self.at);
        buffer[..n].copy_from_slice(&self.part[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}
