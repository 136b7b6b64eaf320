//! Compression whose bytes depend on the input alone, not on the number of threads.
//!
//! gzip: members of about 2 MiB of input each (see [`super::member`]), which any reader of RFC 1952
//! joins; headers without time or name. zstd: one frame by its multithreaded encoder, which cuts
//! jobs by size. Hashing and writing run beside compressing; memory is bounded by queues, about 12
//! MiB a thread.

use std::io::{self, Read, Write};
use std::sync::{Mutex, mpsc};
use std::thread;

use super::member::{Key, KnownFiles, Member, MemberList, Members, Piece, Pieces, Pool};
use super::{Blob, Compression, Error};
use crate::digest::{Digest, HashWriter, Hasher};
use crate::threads;

/// Needs four fifths of the time of level 5 and gives 1 or 2 % more bytes; level 1 needs half, and
/// gives 6 % more.
const GZIP_LEVEL: i32 = 3;
/// About 1 GB/s, half of what sha256 of the input does on one thread; more would mostly cost
/// memory.
const MAX_WORKERS: usize = 8;
/// zstd needs several job buffers a worker.
const MAX_ZSTD_WORKERS: usize = 4;
/// Part of the format of our zstd blobs, as the level is: the bytes depend on it.
const ZSTD_JOB: u32 = 4 << 20;
/// Bytes handed on in one go where there are no members.
const CHUNK: usize = 1 << 20;

/// Compresses `tar` into `out` on up to `threads` threads, naming both sides. Bytes do not depend
/// on `threads`.
///
/// The bytes are taken as they come until the source ends: whether the tar was whole is for its
/// writer to say.
pub fn compress(
    tar: &mut dyn Read,
    out: &mut (dyn Write + Send),
    how: Compression,
    threads: usize,
) -> Result<Blob, Error> {
    let (blob, ()) = compress_with(out, how, threads, None, |into| {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let got = fill(tar, &mut buffer)?;
            into.write_all(&buffer[..got]).map_err(|source| Error::Write { source })?;
            if got < buffer.len() {
                return Ok::<(), Error>(());
            }
        }
    })?;
    Ok(blob)
}

/// As [`compress`], of what `make` writes into the [`Sink`] that it is given. `listed`: where to
/// look for members that were compressed before, and to list those of this blob; gzip only.
///
/// # Errors
/// Those of `make`; of the two sides the one that failed first, where a write of `make` failed
/// because of the other.
pub fn compress_with<T, E: From<Error>>(
    out: &mut (dyn Write + Send),
    how: Compression,
    threads: usize,
    listed: Option<&mut MemberList>,
    make: impl FnOnce(&mut Sink<'_>) -> Result<T, E>,
) -> Result<(Blob, T), E> {
    match how {
        Compression::Gzip => gzip(out, threads.clamp(1, MAX_WORKERS), listed, make),
        Compression::Zstd => zstd(out, threads.clamp(1, MAX_ZSTD_WORKERS), make),
        Compression::None => plain(out, make),
    }
}

/// Where a tar goes that is being compressed.
pub struct Sink<'a> {
    to: &'a mut dyn Write,
    known: Option<KnownFiles>,
}

impl Sink<'_> {
    /// The list to add to, before it is written, what is known of a file's bytes; `None` where
    /// nothing is made of it.
    pub fn known(&self) -> Option<KnownFiles> {
        self.known.clone()
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn plain<T, E: From<Error>>(
    out: &mut (dyn Write + Send),
    make: impl FnOnce(&mut Sink<'_>) -> Result<T, E>,
) -> Result<(Blob, T), E> {
    let mut out = HashWriter::new(out);
    let value = make(&mut Sink { to: &mut out, known: None })?;
    out.flush().map_err(|source| Error::Write { source })?;
    let (_, digest, size) = out.finish();
    Ok((Blob { diff_id: digest, digest, size, tar_size: size }, value))
}

/// Fills `buffer`; less than all of it only at the end of the source.
pub(super) fn fill(tar: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, Error> {
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
    fn start(scope: &'scope thread::Scope<'scope, '_>) -> Result<Self, Error> {
        let (to, from) = mpsc::sync_channel::<T>(2);
        let hash = move || {
            let (mut hasher, mut bytes) = (Hasher::new(), 0);
            for part in from {
                hasher.update(part.as_ref());
                bytes += part.as_ref().len() as u64;
            }
            (hasher.finish(), bytes)
        };
        let thread = threads::scoped(scope, hash).map_err(|source| Error::Write { source })?;
        Ok(Self { to, thread })
    }

    fn add(&self, part: T) {
        self.to.send(part).expect("the hasher receives until the sender is dropped");
    }

    fn finish(self) -> (Digest, u64) {
        drop(self.to);
        self.thread.join().expect("hashing cannot fail")
    }
}

/// A piece to be compressed, and who waits for the member.
type Job = (Piece, Option<Key>, mpsc::SyncSender<Made>);

/// A member, and its name where one was asked for.
struct Made {
    bytes: Vec<u8>,
    key: Option<Key>,
}

fn gzip<T, E: From<Error>>(
    out: &mut (dyn Write + Send),
    workers: usize,
    mut listed: Option<&mut MemberList>,
    make: impl FnOnce(&mut Sink<'_>) -> Result<T, E>,
) -> Result<(Blob, T), E> {
    let (inputs, outputs) = (Pool::default(), Pool::default());
    let (jobs, queue) = mpsc::sync_channel::<Job>(1);
    let queue = Mutex::new(queue);
    let listing = listed.is_some();
    let old: Option<Members> = listed.as_mut().and_then(|listed| listed.old.take());
    thread::scope(|scope| {
        for n in 0..workers {
            let started = threads::scoped(scope, || {
                let level =
                    libdeflater::CompressionLvl::new(GZIP_LEVEL).expect("a level of libdeflate");
                let mut deflate = libdeflater::Compressor::new(level);
                loop {
                    // The lock is held while waiting: whoever has it gets the next job.
                    let Ok(Ok((piece, key, result))) = queue.lock().map(|queue| queue.recv())
                    else {
                        break;
                    };
                    let raw = piece.as_ref();
                    let mut bytes = outputs.take();
                    let found = key
                        .as_ref()
                        .zip(old.as_ref())
                        .is_some_and(|(key, old)| old.fetch(key, raw, &mut bytes));
                    if !found {
                        bytes.resize(deflate.gzip_compress_bound(raw.len()), 0);
                        let size =
                            deflate.gzip_compress(raw, &mut bytes).expect("the bound is enough");
                        bytes.truncate(size);
                    }
                    // Nobody waits for it any more after an error.
                    let _ = result.send(Made { bytes, key });
                }
            });
            match started {
                Ok(_) => {}
                // The host has no more: fewer do it, with the same bytes.
                Err(_) if n > 0 => break,
                Err(source) => return Err(Error::Write { source }.into()),
            }
        }
        // Dropped on every way out of here, which ends the threads.
        let jobs = jobs;
        let tar_side = Side::<Piece>::start(scope)?;
        let (order, members) = mpsc::sync_channel::<mpsc::Receiver<Made>>(workers);
        let pool = outputs.clone();
        let writer = threads::scoped(scope, move || write_out(out, members, &pool))
            .map_err(|source| Error::Write { source })?;
        let known = listing.then(KnownFiles::default);
        let mut pieces = Pieces::new(&inputs, known.clone(), |piece: Piece, key: Option<Key>| {
            tar_side.add(piece.clone());
            let (result, member) = mpsc::sync_channel(1);
            jobs.send((piece, key, result)).expect("workers live as long as the queue");
            // The writer has given up: it knows why.
            order.send(member).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
        });
        let made = make(&mut Sink { to: &mut pieces, known });
        let last = if made.is_ok() { pieces.finish() } else { Ok(()) };
        drop((order, jobs));
        let written = writer.join().expect("the writer does not panic");
        let (diff_id, tar_size) = tar_side.finish();
        let Written { digest, size, list } = written.map_err(|source| Error::Write { source })?;
        last.map_err(|source| Error::Write { source })?;
        if let Some(listed) = listed {
            listed.new = list;
        }
        Ok((Blob { diff_id, digest, size, tar_size }, made?))
    })
}

struct Written {
    digest: Digest,
    size: u64,
    list: Vec<Member>,
}

/// Writes and hashes the members in order. The receiver goes with it: nobody can wait for a writer
/// that has failed.
fn write_out(
    out: &mut (dyn Write + Send),
    members: mpsc::Receiver<mpsc::Receiver<Made>>,
    pool: &Pool,
) -> io::Result<Written> {
    let mut out = HashWriter::new(out);
    let (mut offset, mut list) = (0, vec![]);
    for member in members {
        // A worker that is gone has panicked, which ends the scope.
        let Ok(Made { bytes, key }) = member.recv() else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        out.write_all(&bytes)?;
        list.extend(key.map(|key| Member::of(key, offset, &bytes)));
        offset += bytes.len() as u64;
        pool.give(bytes);
    }
    out.flush()?;
    let (_, digest, size) = out.finish();
    Ok(Written { digest, size, list })
}

fn zstd<T, E: From<Error>>(
    out: &mut (dyn Write + Send),
    workers: usize,
    make: impl FnOnce(&mut Sink<'_>) -> Result<T, E>,
) -> Result<(Blob, T), E> {
    thread::scope(|scope| {
        let tar_side = Side::<Vec<u8>>::start(scope)?;
        let blob_side = Side::<Vec<u8>>::start(scope)?;
        let setup = |source| Error::Compressed { why: format!("zstd cannot start: {source}") };
        let mut encoder = zstd::Encoder::new(Beside { out, side: &blob_side }, 3).map_err(setup)?;
        encoder.include_checksum(true).map_err(setup)?;
        // Even with one thread: the plain encoder's bytes differ from the multithreaded one's.
        encoder.multithread(u32::try_from(workers).expect("a few")).map_err(setup)?;
        encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(ZSTD_JOB)).map_err(setup)?;
        let mut chunks = Chunks { buffer: vec![], side: &tar_side, encoder };
        let value = make(&mut Sink { to: &mut chunks, known: None })?;
        chunks.flush().map_err(|source| Error::Write { source })?;
        let mut beside = chunks.encoder.finish().map_err(|source| Error::Write { source })?;
        beside.flush().map_err(|source| Error::Write { source })?;
        let (diff_id, tar_size) = tar_side.finish();
        let (digest, size) = blob_side.finish();
        Ok((Blob { diff_id, digest, size, tar_size }, value))
    })
}

/// Gathers the tar in chunks that are compressed here and hashed on the side.
struct Chunks<'a, 'scope> {
    buffer: Vec<u8>,
    side: &'a Side<'scope, Vec<u8>>,
    encoder: zstd::Encoder<'static, Beside<'a, 'scope>>,
}

impl Write for Chunks<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.reserve_exact(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..n]);
        if self.buffer.len() == CHUNK {
            self.hand_on()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() { Ok(()) } else { self.hand_on() }
    }
}

impl Chunks<'_, '_> {
    fn hand_on(&mut self) -> io::Result<()> {
        self.encoder.write_all(&self.buffer)?;
        self.side.add(std::mem::take(&mut self.buffer));
        Ok(())
    }
}

/// Writes, and feeds a hasher beside it.
struct Beside<'a, 'scope> {
    out: &'a mut (dyn Write + Send),
    side: &'a Side<'scope, Vec<u8>>,
}

impl Write for Beside<'_, '_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.out.write(buf)?;
        self.side.add(buf[..n].to_vec());
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
