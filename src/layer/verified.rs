//! A layer blob read as a tar, and judged afterwards: both the blob and the tar must be what their
//! names say.

use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use super::{Error, decompress};
use crate::digest::{Digest, HashReader, Hasher};

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
    let mut tar = HashReader::new(decompress(Box::new(watched)).map_err(broken)?);
    let taken = take(&mut tar)?;
    io::copy(&mut tar, &mut io::sink()).map_err(|source| Unverified::Read { digest, source })?;
    let (tar, found, _) = tar.finish();
    drop(tar);
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
