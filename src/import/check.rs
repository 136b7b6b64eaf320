//! A layer read as strictly as when it is unpacked, on threads of its own, while it arrives.
//!
//! ```text
//! what arrives ─► decompressed ─► its tar: digest, every name     of a compressed layer
//! what arrives ─────────────────► its tar: every name             of a plain one, whose digest is that of the blob
//! ```

use std::io::{self, Read};
use std::thread::{self, JoinHandle};

use super::pipe::{Inlet, Outlet, pipe};
use crate::digest::{Digest, HashReader};
use crate::event::chain;
use crate::job::{self, no_thread};
use crate::layer::{Limits, Ratio, TarReader, decompress_foreign};
use crate::sandbox::Cancel;
use crate::threads;

/// The check of a layer that arrives.
pub(super) struct Check {
    bytes: Inlet,
    thread: JoinHandle<Result<Option<Digest>, String>>,
}

impl Check {
    /// Begins to check a layer; `plain`: its bytes are the tar, and somebody else hashes them.
    /// `cancel` ends it.
    ///
    /// # Errors
    /// Where the host gives no thread.
    pub(super) fn start(plain: bool, cancel: Cancel) -> Result<Self, job::Error> {
        let (bytes, from) = pipe();
        let work = move || match plain {
            true => read(from, &cancel).map(|_| None),
            false => tar_of(from, &cancel).map(Some),
        };
        let thread = threads::free(work).map_err(no_thread)?;
        Ok(Self { bytes, thread })
    }

    /// Takes more bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        // Where it has ended already, `end` says why.
        let _ = self.bytes.write(bytes);
    }

    /// Returns the digest of the tar, all bytes of which are there, unless it is the blob; or why
    /// it cannot be unpacked.
    pub(super) fn end(self) -> Result<Option<Digest>, String> {
        self.bytes.end();
        self.thread.join().unwrap_or_else(|_| Err("the reading thread died".to_owned()))
    }
}

/// Decompresses a layer and reads its tar whole; returns the digest of that.
fn tar_of(layer: Outlet, cancel: &Cancel) -> Result<Digest, String> {
    let why = |error: &dyn std::error::Error| chain(error).join(": ");
    let from = decompress_foreign(Box::new(layer), Ratio::default());
    let from = from.map_err(|error| why(&error))?;
    let (tar, into) = pipe();
    thread::scope(|scope| {
        let decompressing =
            threads::scoped(scope, move || tar.write_all_of(from)).map_err(|error| why(&error))?;
        let read = read(HashReader::new(into), cancel);
        match decompressing.join() {
            // The tar ended too early because of it.
            Ok(Err(error)) => Err(why(&error)),
            Ok(Ok(())) => read.map(|tar| tar.finish().1),
            Err(_) => Err("the decompressing thread died".to_owned()),
        }
    })
}

/// Reads a tar whole, and returns what it was read from.
fn read<R: Read>(mut tar: R, cancel: &Cancel) -> Result<R, String> {
    let why = |error: &dyn std::error::Error| chain(error).join(": ");
    let mut reader = TarReader::new(&mut tar, &Limits::default());
    while reader.next().map_err(|error| why(&error))?.is_some() {
        if cancel.fired() {
            return Err("it was interrupted".to_owned());
        }
    }
    io::copy(&mut tar, &mut io::sink()).map_err(|error| why(&error))?;
    Ok(tar)
}
