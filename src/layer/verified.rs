//! A layer blob read as a tar, and judged afterwards: both the blob and the tar must be what their
//! names say.

use std::fs::File;
use std::io::{self, Read};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{Error, decompress};
use crate::digest::{Digest, HashReader, Hasher};
use crate::threads;

/// Why a layer blob cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unverified {
    /// It cannot be read.
    #[error("cannot read the blob {digest}")]
    Read {
        /// Which.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
    /// It is not what its name says.
    #[error("cannot read the blob {digest}: {what}")]
    Corrupt {
        /// Which.
        digest: Digest,
        /// What is wrong with it.
        what: String,
    },
    /// It cannot be understood.
    #[error("cannot apply the layer {digest}")]
    Layer {
        /// Which.
        digest: Digest,
        /// Why.
        source: Error,
    },
}

/// Hands the layer blob `digest`, open in `file`, to `take` as an uncompressed tar; then says
/// whether the blob is `digest` and the whole tar `diff_id`. What `take` has done is not to be used
/// after an error. The file's size must have been compared with its descriptor's.
pub fn verified<T, E: From<Unverified>>(
    file: File,
    digest: Digest,
    diff_id: Digest,
    take: impl FnOnce(&mut dyn Read) -> Result<T, E>,
) -> Result<T, E> {
    let state = Arc::new(Mutex::new(Hasher::new()));
    let watched = Watched { file, state: state.clone() };
    let broken = |source| Unverified::Layer { digest, source };
    let unread = |source| Unverified::Read { digest, source };
    let tar = HashReader::new(decompress(Box::new(watched)).map_err(broken)?);
    let (taken, found) = thread::scope(|scope| -> Result<(T, Digest), E> {
        let (send, chunks) = mpsc::sync_channel(AHEAD);
        let ahead = threads::scoped(scope, || read_ahead(tar, send)).map_err(unread)?;
        let mut chunks = Chunks { chunks, now: io::Cursor::default() };
        let taken = take(&mut chunks)?;
        io::copy(&mut chunks, &mut io::sink()).map_err(unread)?;
        let found = ahead.join().map_err(|_| unread(io::Error::other("its reader panicked")))?;
        Ok((taken, found))
    })?;
    let blob = state.lock().map(|state| state.clone()).unwrap_or_default().finish();
    if blob != digest {
        return Err(Unverified::Corrupt { digest, what: format!("its bytes are {blob}") }.into());
    }
    if found != diff_id {
        return Err(Unverified::Corrupt {
            digest,
            what: format!("its tar is {found}, the config says {diff_id}"),
        }
        .into());
    }
    Ok(taken)
}

/// Bytes that are handed over at once, and how many such pieces wait at the most.
const CHUNK: u64 = 256 << 10;
const AHEAD: usize = 4;

/// Reads a tar to its end, on a thread of its own: whoever takes it has work of its own. Returns
/// the digest of what was read; ends where nobody takes it any more.
fn read_ahead<R: Read>(mut tar: HashReader<R>, to: SyncSender<io::Result<Vec<u8>>>) -> Digest {
    loop {
        let mut bytes = Vec::with_capacity(CHUNK as usize);
        let read = tar.by_ref().take(CHUNK).read_to_end(&mut bytes).map(|_| bytes);
        let last = read.as_ref().map_or(true, Vec::is_empty);
        if to.send(read).is_err() || last {
            return tar.finish().1;
        }
    }
}

/// What another thread has read.
struct Chunks {
    chunks: Receiver<io::Result<Vec<u8>>>,
    now: io::Cursor<Vec<u8>>,
}

impl Read for Chunks {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.now.read(buf)?;
            if read > 0 || buf.is_empty() {
                return Ok(read);
            }
            match self.chunks.recv() {
                Ok(next) => self.now = io::Cursor::new(next?),
                Err(_) => return Ok(0),
            }
        }
    }
}

/// What a decompressor reads passes here and is hashed.
struct Watched {
    file: File,
    state: Arc<Mutex<Hasher>>,
}

impl Read for Watched {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buf)?;
        if let Ok(mut state) = self.state.lock() {
            state.update(&buf[..n]);
        }
        Ok(n)
    }
}
