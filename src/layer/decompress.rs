//! Decompression, of blobs of our own and of what others wrote.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::compress::fill;
use super::{Compression, Error};

/// A window above this (128 MiB, zstd's own default limit) is refused rather than allocated.
const ZSTD_WINDOW_LOG: u32 = 27;
/// xz -9 needs 65 MiB.
const XZ_MEMORY: u64 = 256 << 20;

/// How much more may come out of a decompressor than went in, for bytes from strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ratio {
    /// Output bytes that are always fine.
    pub free: u64,
    /// Beyond that: output bytes for each input byte.
    pub times: u64,
}

impl Default for Ratio {
    /// 1 GiB for nothing, then 200 to 1; root file systems compress 2 to 10 to 1.
    fn default() -> Self {
        Self { free: 1 << 30, times: 200 }
    }
}

/// Reads a blob that `compress` wrote, of which the kind is known: unlike [`decompress`]
/// it never guesses by the first bytes.
pub fn decompress_as<'a>(
    from: Box<dyn Read + Send + 'a>,
    how: Compression,
) -> Result<Box<dyn Read + Send + 'a>, Error> {
    let from = BufReader::with_capacity(128 << 10, from);
    match how {
        Compression::Gzip => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(from))),
        Compression::Zstd => Ok(Box::new(
            zstd::Decoder::with_buffer(from)
                .map_err(|e| Error::Compressed { why: e.to_string() })?,
        )),
        Compression::None => Ok(Box::new(from)),
    }
}

/// Reads any of gzip (all members), bzip2 (all streams), zstd (all frames), xz or plain tar,
/// recognised by its first bytes.
pub fn decompress<'a>(from: Box<dyn Read + Send + 'a>) -> Result<Box<dyn Read + Send + 'a>, Error> {
    let mut from = from;
    // Read whole: a pipe may bring the magic number in pieces.
    let mut start = vec![0; 6];
    let got = fill(&mut *from, &mut start)?;
    start.truncate(got);
    let from = BufReader::with_capacity(128 << 10, io::Cursor::new(start.clone()).chain(from));
    let unknown = |what: &str| {
        Err(Error::Compressed {
            why: format!("{what} is not supported; gzip, bzip2, zstd and xz are"),
        })
    };
    let failed = |e: io::Error| Error::Compressed { why: e.to_string() };
    match &start[..] {
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(from))),
        // A frame, or a skippable frame before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::Decoder::with_buffer(from).map_err(failed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(failed)?;
            Ok(Box::new(decoder))
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            const CONCATENATED: u32 = 8;
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)
                .map_err(|e| Error::Compressed { why: e.to_string() })?;
            Ok(Box::new(liblzma::bufread::XzDecoder::new_stream(from, stream)))
        }
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => {
            Ok(Box::new(bzip2::bufread::MultiBzDecoder::new(from)))
        }
        [b'L', b'Z', b'I', b'P', ..] => unknown("lzip"),
        [0x04, 0x22, 0x4d, 0x18, ..] => unknown("lz4"),
        [0x1f, 0x9d, ..] => unknown("compress (.Z)"),
        [b'P', b'K', 3, 4, ..] => unknown("zip"),
        _ => Ok(Box::new(from)),
    }
}

/// As [`decompress`], for bytes from strangers: a stream that swells beyond `ratio` is an error.
pub fn decompress_foreign<'a>(
    from: Box<dyn Read + Send + 'a>,
    ratio: Ratio,
) -> Result<Box<dyn Read + Send + 'a>, Error> {
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Counted { from, taken: taken.clone() };
    Ok(Box::new(Swelling { from: decompress(Box::new(counted))?, taken, given: 0, ratio }))
}

struct Counted<'a> {
    from: Box<dyn Read + Send + 'a>,
    taken: Arc<AtomicU64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        self.taken.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

struct Swelling<'a> {
    from: Box<dyn Read + Send + 'a>,
    taken: Arc<AtomicU64>,
    given: u64,
    ratio: Ratio,
}

impl Read for Swelling<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buf)?;
        self.given += n as u64;
        let allowed = self
            .ratio
            .free
            .saturating_add(self.taken.load(Ordering::Relaxed).saturating_mul(self.ratio.times));
        if self.given > allowed {
            let text = format!(
                "a decompression bomb: more than {} bytes out of each one",
                self.ratio.times
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(n)
    }
}
