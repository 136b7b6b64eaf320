//! Compression whose bytes depend on the input alone, not on the number of threads, and decompression of what others wrote.
//!
//! gzip: members of 1 MiB input each, which any reader of RFC 1952 joins; headers without time or name. zstd: one frame by its multithreaded
//! encoder, which cuts jobs by size. Hashing runs beside compressing; memory is bounded by a queue, about 2.5 MiB a thread.

use std::collections::VecDeque;
use std::io;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;

use super::Blob;
use super::Compression;
use super::Error;
use crate::digest::Digest;
use crate::digest::HashWriter;
use crate::digest::Hasher;

/// Input bytes of a gzip member.
const MEMBER: usize = 1 << 20;
/// About 1 GB/s, half of what sha256 of the input does on one thread; more would mostly cost memory.
const MAX_WORKERS: usize = 8;
/// zstd needs several job buffers a worker.
const MAX_ZSTD_WORKERS: usize = 4;
/// Part of the format of our zstd blobs, as the level is: the bytes depend on it.
const ZSTD_JOB: u32 = 4 << 20;
/// A window above this (128 MiB, zstd's own default limit) is refused rather than allocated.
const ZSTD_WINDOW_LOG: u32 = 27;
/// xz -9 needs 65 MiB.
const XZ_MEMORY: u64 = 256 << 20;

/// Compresses `tar` into `out` on up to `threads` threads, naming both sides. Bytes do not depend on `threads`.
///
/// The bytes are taken as they come until the source ends: whether the tar was whole is for its writer to say.
pub fn compress(tar: &mut dyn Read, out: &mut dyn Write, how: Compression, threads: usize) -> Result<Blob, Error> {
    match how {
        Compression::Gzip => gzip(tar, out, threads.clamp(1, MAX_WORKERS)),
        Compression::Zstd => zstd(tar, out, threads.clamp(1, MAX_ZSTD_WORKERS)),
        Compression::None => plain(tar, out),
    }
}

fn plain(tar: &mut dyn Read, out: &mut dyn Write) -> Result<Blob, Error> {
    let mut out = HashWriter::new(out);
    let mut buffer = vec![0; MEMBER];
    loop {
        let got = fill(tar, &mut buffer)?;
        out.write_all(&buffer[..got]).map_err(|source| Error::Write { source })?;
        if got < buffer.len() {
            break;
        }
    }
    out.flush().map_err(|source| Error::Write { source })?;
    let (_, digest, size) = out.finish();
    Ok(Blob { diff_id: digest, digest, size, tar_size: size })
}

/// Fills `buffer`; less than all of it only at the end of the source.
fn fill(tar: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, Error> {
    let mut got = 0;
    while got < buffer.len() {
        match tar.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(Error::Read { source }),
        }
    }
    Ok(got)
}

/// A sha256 on a thread of its own.
struct Side<'scope, T> {
    to: mpsc::SyncSender<T>,
    thread: thread::ScopedJoinHandle<'scope, (Digest, u64)>,
}

impl<'scope, T: AsRef<[u8]> + Send + 'scope> Side<'scope, T> {
    fn start(scope: &'scope thread::Scope<'scope, '_>) -> Self {
        let (to, from) = mpsc::sync_channel::<T>(4);
        let thread = scope.spawn(move || {
            let (mut hasher, mut bytes) = (Hasher::new(), 0);
            for part in from {
                hasher.update(part.as_ref());
                bytes += part.as_ref().len() as u64;
            }
            (hasher.finish(), bytes)
        });
        Self { to, thread }
    }

    fn add(&self, part: T) {
        self.to.send(part).expect("the hasher receives until the sender is dropped");
    }

    fn finish(self) -> (Digest, u64) {
        drop(self.to);
        self.thread.join().expect("hashing cannot fail")
    }
}

/// A piece of input shared between its hasher and its compressor; the last of them gives the buffer back to be filled again.
struct Piece {
    bytes: Vec<u8>,
    pool: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Ok(mut pool) = self.pool.lock() {
            pool.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[derive(Clone)]
struct Shared(Arc<Piece>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

fn gzip(tar: &mut dyn Read, out: &mut dyn Write, workers: usize) -> Result<Blob, Error> {
    type Job = (Shared, mpsc::SyncSender<Vec<u8>>);
    let pool = Arc::new(Mutex::new(vec![]));
    let (jobs, queue) = mpsc::sync_channel::<Job>(workers);
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let level = libdeflater::CompressionLvl::new(5).expect("a level of libdeflate");
                let mut deflate = libdeflater::Compressor::new(level);
                loop {
                    // The lock is held while waiting: whoever has it gets the next job.
                    let Ok(Ok((piece, result))) = queue.lock().map(|queue| queue.recv()) else { break };
                    let mut member = vec![0; deflate.gzip_compress_bound(piece.as_ref().len())];
                    let size = deflate.gzip_compress(piece.as_ref(), &mut member).expect("the bound is enough");
                    member.truncate(size);
                    // Nobody waits for it any more after an error.
                    let _ = result.send(member);
                }
            });
        }
        // Dropped on every way out of here, which ends the workers.
        let jobs = jobs;
        let tar_side = Side::<Shared>::start(scope);
        let blob_side = Side::<Vec<u8>>::start(scope);
        let mut waiting = VecDeque::new();
        let mut first = true;
        let mut more = true;
        while more || !waiting.is_empty() {
            if more && waiting.len() < workers + 2 {
                let mut bytes =
                    pool.lock().ok().and_then(|mut pool: std::sync::MutexGuard<'_, Vec<Vec<u8>>>| pool.pop()).unwrap_or_default();
                bytes.resize(MEMBER, 0);
                let got = fill(tar, &mut bytes)?;
                more = got == MEMBER;
                bytes.truncate(got);
                // An empty input is one empty member; a whole number of members needs no empty one behind them.
                if got > 0 || first {
                    let piece = Shared(Arc::new(Piece { bytes, pool: pool.clone() }));
                    tar_side.add(piece.clone());
                    let (result, member) = mpsc::sync_channel(1);
                    jobs.send((piece, result)).expect("workers live as long as the queue");
                    waiting.push_back(member);
                }
                first = false;
                continue;
            }
            let Some(next) = waiting.pop_front() else { break };
            let member: Vec<u8> = next.recv().expect("every job is answered");
            out.write_all(&member).map_err(|source| Error::Write { source })?;
            blob_side.add(member);
        }
        out.flush().map_err(|source| Error::Write { source })?;
        let (diff_id, tar_size) = tar_side.finish();
        let (digest, size) = blob_side.finish();
        Ok(Blob { diff_id, digest, size, tar_size })
    })
}

fn zstd(tar: &mut dyn Read, out: &mut dyn Write, workers: usize) -> Result<Blob, Error> {
    thread::scope(|scope| {
        let tar_side = Side::<Vec<u8>>::start(scope);
        let blob_side = Side::<Vec<u8>>::start(scope);
        let setup = |source| Error::Compressed { why: format!("zstd cannot start: {source}") };
        let mut encoder = zstd::Encoder::new(Told { out, side: &blob_side }, 3).map_err(setup)?;
        encoder.include_checksum(true).map_err(setup)?;
        // Even with one thread: the plain encoder's bytes differ from the multithreaded one's.
        encoder.multithread(u32::try_from(workers).expect("a few")).map_err(setup)?;
        encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(ZSTD_JOB)).map_err(setup)?;
        loop {
            let mut bytes = vec![0; MEMBER];
            let got = fill(tar, &mut bytes)?;
            bytes.truncate(got);
            encoder.write_all(&bytes).map_err(|source| Error::Write { source })?;
            tar_side.add(bytes);
            if got < MEMBER {
                break;
            }
        }
        let mut told = encoder.finish().map_err(|source| Error::Write { source })?;
        told.flush().map_err(|source| Error::Write { source })?;
        let (diff_id, tar_size) = tar_side.finish();
        let (digest, size) = blob_side.finish();
        Ok(Blob { diff_id, digest, size, tar_size })
    })
}

/// Writes, and tells a hasher.
struct Told<'a, 'scope> {
    out: &'a mut dyn Write,
    side: &'a Side<'scope, Vec<u8>>,
}

impl Write for Told<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.out.write(buf)?;
        self.side.to.send(buf[..n].to_vec()).expect("the hasher receives until the sender is dropped");
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

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

/// Reads a blob that [`compress`] wrote, of which the kind is known: unlike [`decompress`] it never guesses by the first bytes.
pub fn decompress_as<'a>(from: Box<dyn Read + Send + 'a>, how: Compression) -> Result<Box<dyn Read + Send + 'a>, Error> {
    let from = BufReader::with_capacity(128 << 10, from);
    match how {
        Compression::Gzip => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(from))),
        Compression::Zstd => Ok(Box::new(zstd::Decoder::with_buffer(from).map_err(|e| Error::Compressed { why: e.to_string() })?)),
        Compression::None => Ok(Box::new(from)),
    }
}

/// Reads any of gzip (all members), zstd (all frames), xz or plain tar, told by its first bytes.
pub fn decompress<'a>(from: Box<dyn Read + Send + 'a>) -> Result<Box<dyn Read + Send + 'a>, Error> {
    let mut from = from;
    // Read whole: a pipe may bring the magic number in pieces.
    let mut start = vec![0; 6];
    let got = fill(&mut *from, &mut start)?;
    start.truncate(got);
    let from = BufReader::with_capacity(128 << 10, io::Cursor::new(start.clone()).chain(from));
    let unknown = |what: &str| Err(Error::Compressed { why: format!("{what} is not supported; gzip, zstd and xz are") });
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
        [b'B', b'Z', b'h', ..] => unknown("bzip2"),
        [b'L', b'Z', b'I', b'P', ..] => unknown("lzip"),
        [0x04, 0x22, 0x4d, 0x18, ..] => unknown("lz4"),
        [0x1f, 0x9d, ..] => unknown("compress (.Z)"),
        [b'P', b'K', 3, 4, ..] => unknown("zip"),
        _ => Ok(Box::new(from)),
    }
}

/// As [`decompress`], for bytes from strangers: a stream that swells beyond `ratio` is an error.
pub fn decompress_foreign<'a>(from: Box<dyn Read + Send + 'a>, ratio: Ratio) -> Result<Box<dyn Read + Send + 'a>, Error> {
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
        let allowed = self.ratio.free.saturating_add(self.taken.load(Ordering::Relaxed).saturating_mul(self.ratio.times));
        if self.given > allowed {
            let text = format!("a decompression bomb: more than {} bytes out of each one", self.ratio.times);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(n)
    }
}
