//! Downloads, by content: several at once, verified while they stream, written whole or not at all.
//!
//! ```text
//! CACHE/sha256/<hex>    verified content: packages, downloads, keys; checked again whenever it is used
//! CACHE/partial/…       being written by some bake; what a dead one left is swept after a day
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::http;
use crate::digest::{Digest, HashReader, Hasher};
use crate::event::{Event, Sink};
use crate::files::{self, Aside};

/// How to download.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Downloads at once.
    pub parallel: usize,
    /// To make a connection.
    pub connect: Duration,
    /// Without a single byte.
    pub stall: Duration,
    /// Attempts in all, when the failure may pass.
    pub tries: u32,
    /// Before the second attempt; doubled for each further one.
    pub pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            parallel: 8,
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            tries: 3,
            pause: Duration::from_millis(500),
        }
    }
}

/// Something to download.
#[derive(Debug, Clone)]
pub struct Want {
    /// http or https URL.
    pub url: String,
    /// Where it is as well, asked where the first answers that it is not there.
    pub or_else: Option<String>,
    /// The only content that will do.
    pub sha256: Option<Digest>,
    /// The only size that will do.
    pub size: Option<u64>,
    /// More bytes than this are refused.
    pub cap: u64,
    /// For people.
    pub what: String,
    /// Whether it stays in the cache.
    pub keep: bool,
}

/// Something that was downloaded, or was in the cache.
#[derive(Debug)]
pub struct Got {
    /// Its content.
    pub sha256: Digest,
    /// Bytes.
    pub size: u64,
    /// The file in the cache, never to be written to; empty if it was not to be kept.
    pub path: PathBuf,
    /// The open file, if it was not to be kept.
    pub loose: Option<File>,
}

/// Why something could not be downloaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No such host.
    #[error("unknown host")]
    UnknownHost,
    /// An HTTP status other than 200.
    #[error("the server answers {0}{hint}", hint = if *.0 == 404 { " (not found)" } else { "" })]
    Status(u16),
    /// Nothing came for too long.
    #[error("timeout: no answer for {0:?}")]
    Timeout(Duration),
    /// It ended too early.
    #[error("truncated: {got} of {expected} bytes")]
    Truncated {
        /// Bytes that came.
        got: u64,
        /// Bytes that should have come.
        expected: u64,
    },
    /// It is longer than it may be.
    #[error("larger than {cap} bytes")]
    TooLarge {
        /// The most that was accepted.
        cap: u64,
    },
    /// It is something else than what was asked for.
    #[error("wrong hash: expected {expected}, got {got}")]
    WrongHash {
        /// What it should be.
        expected: Digest,
        /// What came.
        got: Digest,
    },
    /// The URL cannot be fetched at all.
    #[error("not an http or https URL")]
    BadUrl,
    /// It redirects to where bake does not follow, or for ever.
    #[error("{0}")]
    Redirect(&'static str),
    /// TLS or protocol trouble.
    #[error("{0}")]
    Protocol(String),
    /// The connection broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    /// The cache cannot be written.
    #[error("cannot write {path}")]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The build was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Failure {
    /// Whether another attempt may succeed.
    fn may_pass(&self) -> bool {
        match self {
            Self::Refused
            | Self::UnknownHost
            | Self::Timeout(_)
            | Self::Truncated { .. }
            | Self::Broken(_) => true,
            Self::Status(status) => *status == 408 || *status == 429 || *status >= 500,
            _ => false,
        }
    }

    fn of(error: ureq::Error, limits: &Limits) -> Self {
        match error {
            ureq::Error::StatusCode(status) => Self::Status(status),
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                Self::Timeout(limits.connect)
            }
            ureq::Error::Timeout(_) => Self::Timeout(limits.stall),
            ureq::Error::HostNotFound => Self::UnknownHost,
            ureq::Error::ConnectionFailed => Self::Refused,
            ureq::Error::BadUri(_) => Self::BadUrl,
            ureq::Error::Io(source) => Self::of_io(source, limits),
            other => Self::Protocol(other.to_string()),
        }
    }

    fn of_io(error: io::Error, limits: &Limits) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => return Self::Refused,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                return Self::Timeout(limits.stall);
            }
            _ => {}
        }
        match error.downcast::<ureq::Error>() {
            Ok(inner) => Self::of(inner, limits),
            Err(error) => Self::Broken(error),
        }
    }
}

/// A download that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot download {url}")]
pub struct Error {
    /// Place among the [`Want`]s.
    pub index: usize,
    /// From where, without credentials.
    pub url: String,
    /// Why.
    pub source: Failure,
}

/// The downloader and its cache folder. Cheap to clone; `Send + Sync`.
#[derive(Clone)]
pub struct Fetcher {
    cache: PathBuf,
    agent: ureq::Agent,
    limits: Limits,
    sink: Sink,
    stop: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Fetcher {
    /// Uses the directory `cache`, made if missing. `authorities`: files and directories of
    /// certificates that are trusted instead of the system's. `stop` is asked often; once it says true
    /// everything ends with [`Failure::Cancelled`].
    pub fn new(
        cache: &Path,
        limits: Limits,
        authorities: &[PathBuf],
        sink: Sink,
        stop: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Result<Self, Failure> {
        for part in ["sha256", "partial"] {
            let path = cache.join(part);
            fs::create_dir_all(&path).map_err(|source| Failure::Cache { path, source })?;
        }
        sweep(&cache.join("partial"));
        let patience = http::Patience {
            connect: limits.connect,
            stall: limits.stall,
            parallel: limits.parallel,
        };
        let agent = http::agent(&patience, authorities);
        Ok(Self { cache: cache.to_owned(), agent, limits, sink, stop })
    }

    /// The cache folder.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Where content `digest` is, if it is here.
    pub fn place(&self, digest: &Digest) -> PathBuf {
        self.cache.join("sha256").join(digest.hex())
    }

    /// Returns the cached content `digest` after a check of every byte; content that is not what
    /// its name says is removed.
    pub fn cached(&self, digest: &Digest) -> Option<Got> {
        let path = self.place(digest);
        let file = File::open(&path).ok()?;
        files::mark_used(&file);
        let mut reader = HashReader::new(file);
        io::copy(&mut reader, &mut io::sink()).ok()?;
        let (_, sha256, size) = reader.finish();
        if sha256 != *digest {
            // Another bake may have replaced it meanwhile; then the next use simply fetches it once
            // more.
            let _ = fs::remove_file(&path);
            return None;
        }
        Some(Got { sha256, size, path, loose: None })
    }

    /// Fetches one thing into the cache.
    pub fn one(&self, want: Want) -> Result<Got, Error> {
        let mut found = None;
        self.all(vec![want], &mut |_, got| {
            found = Some(got);
            ControlFlow::Continue(())
        })?;
        Ok(found.expect("all() reports every want before it succeeds"))
    }

    /// Fetches a small document that no digest names, such as a Release file. Not cached.
    pub fn document(&self, url: &str, cap: u64) -> Result<Vec<u8>, Error> {
        let want = Want {
            or_else: None,
            url: url.to_owned(),
            sha256: None,
            size: None,
            cap,
            what: String::new(),
            keep: false,
        };
        // On a thread of its own like everything else: who cancels waits for no server.
        let mut got = None;
        self.all(vec![want], &mut |_, document| {
            got = document.loose;
            ControlFlow::Continue(())
        })?;
        let mut bytes = vec![];
        let file = got.as_mut().expect("what is not kept in the cache comes as an open file");
        file.read_to_end(&mut bytes).map_err(|source| Error {
            index: 0,
            url: redact(url),
            source: Failure::Cache { path: self.cache.clone(), source },
        })?;
        Ok(bytes)
    }

    /// Brings everything into the cache, the largest first, and tells `ready` as each arrives (on
    /// the calling thread, in any order). The first failure ends it all, and so does a `Break` (as
    /// [`Failure::Cancelled`]).
    pub fn all(
        &self,
        wants: Vec<Want>,
        ready: &mut dyn FnMut(usize, Got) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let total: Option<u64> = wants.iter().map(|w| w.size).sum();
        let mut order: Vec<usize> = (0..wants.len()).collect();
        order.sort_by_key(|&i| wants[i].size.unwrap_or(u64::MAX));
        let names: Vec<String> = wants.iter().map(|w| w.what.clone()).collect();
        let threads = self.limits.parallel.min(wants.len());
        let wants = Arc::new(wants);
        let queue = Arc::new(Mutex::new(order));
        let bytes = Arc::new(AtomicU64::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let (tell, told) = mpsc::channel();
        // The threads are not joined: a person who presses Ctrl-C must not wait for a stalled
        // server. They own all they touch, see `over` at the next byte, and take their partial file
        // with them.
        for _ in 0..threads {
            let (this, wants, queue, bytes, over, tell) = (
                self.clone(),
                Arc::clone(&wants),
                Arc::clone(&queue),
                Arc::clone(&bytes),
                Arc::clone(&over),
                tell.clone(),
            );
            std::thread::Builder::new()
                .name("download".to_owned())
                .spawn(move || {
                    loop {
                        let Some(index) = queue.lock().map(|mut q| q.pop()).unwrap_or(None) else {
                            return;
                        };
                        let result = this.bring(&wants[index], &bytes, &over);
                        if over.load(Ordering::Relaxed) || tell.send((index, result)).is_err() {
                            return;
                        }
                    }
                })
                .map_err(|source| Error {
                    index: 0,
                    url: String::new(),
                    source: Failure::Broken(source),
                })?;
        }
        drop(tell);
        let outcome = self.listen(&wants, &names, total, &bytes, &told, ready);
        over.store(true, Ordering::Relaxed);
        if bytes.load(Ordering::Relaxed) > 0 {
            (self.sink)(Event::ProgressEnd { task: "download" });
        }
        outcome
    }

    fn listen(
        &self,
        wants: &[Want],
        names: &[String],
        total: Option<u64>,
        bytes: &AtomicU64,
        told: &mpsc::Receiver<(usize, Result<Got, Failure>)>,
        ready: &mut dyn FnMut(usize, Got) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut left = wants.len();
        let mut what = format!("{} files", wants.len());
        let mut shown = 0;
        while left > 0 {
            let news = told.recv_timeout(Duration::from_millis(50));
            if (self.stop)() {
                return Err(Error {
                    index: 0,
                    url: redact(&wants[0].url),
                    source: Failure::Cancelled,
                });
            }
            match news {
                Ok((index, Ok(got))) => {
                    left -= 1;
                    if !names[index].is_empty() {
                        what.clone_from(&names[index]);
                    }
                    if ready(index, got).is_break() {
                        return Err(Error {
                            index,
                            url: redact(&wants[index].url),
                            source: Failure::Cancelled,
                        });
                    }
                }
                Ok((index, Err(source))) => {
                    return Err(Error { index, url: redact(&wants[index].url), source });
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let source = Failure::Broken(io::Error::other("a download thread died"));
                    return Err(Error { index: 0, url: redact(&wants[0].url), source });
                }
            }
            let done = bytes.load(Ordering::Relaxed);
            if done != shown {
                shown = done;
                (self.sink)(Event::Progress {
                    task: "download",
                    what: what.clone(),
                    done,
                    total,
                    bytes: true,
                });
            }
        }
        Ok(())
    }

    /// From the cache, else from the network.
    fn bring(&self, want: &Want, count: &AtomicU64, over: &AtomicBool) -> Result<Got, Failure> {
        let cached =
            want.sha256.as_ref().filter(|_| want.keep).and_then(|digest| self.cached(digest));
        if let Some(got) = cached.filter(|got| want.size.is_none_or(|size| size == got.size)) {
            return Ok(got);
        }
        let mut done = None;
        retry(self, over, &mut || {
            done = Some(self.attempt(want, count, over)?);
            Ok(())
        })?;
        Ok(done.expect("a retry that succeeds has set it"))
    }

    fn attempt(&self, want: &Want, count: &AtomicU64, over: &AtomicBool) -> Result<Got, Failure> {
        let partial = self.cache.join("partial");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: files::Error| Failure::Cache { path, source: error.into() }
        };
        let mut aside = Aside::new(&partial).map_err(failed(&partial))?;
        let (sha256, size) =
            match (self.stream(&want.url, want, &mut aside, count, over), &want.or_else) {
                (Err(Failure::Status(404)), Some(url)) => {
                    self.stream(url, want, &mut aside, count, over)?
                }
                (outcome, _) => outcome?,
            };
        if !want.keep {
            let file = aside.into_file().map_err(failed(&partial))?;
            return Ok(Got { sha256, size, path: PathBuf::new(), loose: Some(file) });
        }
        let path = self.place(&sha256);
        aside.keep_unsynced(&path, 0o644).map_err(failed(&path))?;
        Ok(Got { sha256, size, path, loose: None })
    }

    /// One request; every byte goes to `out`, and the whole is what was wanted or it is an error.
    fn stream(
        &self,
        url: &str,
        want: &Want,
        out: &mut dyn Write,
        count: &AtomicU64,
        over: &AtomicBool,
    ) -> Result<(Digest, u64), Failure> {
        let response = http::get(&self.agent, url).map_err(|error| match error {
            http::NoAnswer::BadUrl => Failure::BadUrl,
            http::NoAnswer::Redirect(why) => Failure::Redirect(why),
            http::NoAnswer::Request(error) => Failure::of(error, &self.limits),
        })?;
        let cap = want.size.unwrap_or(want.cap).min(want.cap);
        let announced: Option<u64> = response
            .headers()
            .get("content-length")
            .and_then(|v| v.to_str().ok())
            .and_then(|text| text.parse().ok());
        if announced.is_some_and(|n| n > cap) {
            return Err(Failure::TooLarge { cap });
        }
        let mut body = response.into_body().into_reader();
        let mut hasher = Hasher::new();
        let mut size = 0_u64;
        let mut buffer = vec![0; 128 * 1024];
        let outcome = loop {
            if over.load(Ordering::Relaxed) || (self.stop)() {
                break Err(Failure::Cancelled);
            }
            let n = match body.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => match (error.kind(), want.size.or(announced)) {
                    (io::ErrorKind::UnexpectedEof, Some(expected)) => {
                        break Err(Failure::Truncated { got: size, expected });
                    }
                    _ => break Err(Failure::of_io(error, &self.limits)),
                },
            };
            size += n as u64;
            if size > cap {
                break Err(Failure::TooLarge { cap });
            }
            hasher.update(&buffer[..n]);
            count.fetch_add(n as u64, Ordering::Relaxed);
            if let Err(source) = out.write_all(&buffer[..n]) {
                break Err(Failure::Cache { path: self.cache.clone(), source });
            }
        };
        let outcome = outcome.and_then(|()| match want.size.or(announced) {
            Some(expected) if size < expected => Err(Failure::Truncated { got: size, expected }),
            _ => Ok(()),
        });
        let got = hasher.finish();
        let outcome = outcome.and_then(|()| match want.sha256 {
            Some(expected) if expected != got => Err(Failure::WrongHash { expected, got }),
            _ => Ok(()),
        });
        if let Err(failure) = outcome {
            // What came to nothing must not count twice in the progress.
            count.fetch_sub(size.min(count.load(Ordering::Relaxed)), Ordering::Relaxed);
            return Err(failure);
        }
        Ok((got, size))
    }
}

fn retry(
    fetcher: &Fetcher,
    over: &AtomicBool,
    attempt: &mut dyn FnMut() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut pause = fetcher.limits.pause;
    let mut tries = 1;
    loop {
        match attempt() {
            Err(failure) if failure.may_pass() && tries < fetcher.limits.tries => {
                let slice = Duration::from_millis(20);
                let mut slept = Duration::ZERO;
                while slept < pause {
                    if over.load(Ordering::Relaxed) || (fetcher.stop)() {
                        return Err(Failure::Cancelled);
                    }
                    std::thread::sleep(slice.min(pause - slept));
                    slept += slice;
                }
                pause *= 2;
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Takes user name and password out of a URL, so that it can be shown.
pub fn redact(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

/// Removes what bakes that died left. A failure only means that the next one sweeps.
fn sweep(partial: &Path) {
    let Ok(entries) = fs::read_dir(partial) else { return };
    for entry in entries.flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if age.is_some_and(|age| age > Duration::from_secs(24 * 3600)) {
            let folder = entry.file_type().is_ok_and(|t| t.is_dir());
            let _ = if folder {
                fs::remove_dir_all(entry.path())
            } else {
                fs::remove_file(entry.path())
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::silent;

    #[test]
    fn credentials_are_never_shown() {
        for (url, shown) in [
            ("http://me:secret@host/p@th", "http://host/p@th"),
            ("https://host/a", "https://host/a"),
            ("http://me@host", "http://host"),
            ("http://a@b:c@host/x", "http://host/x"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }

    #[test]
    fn cached_content_is_checked_before_it_is_used() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let fetcher =
            Fetcher::new(dir.path(), Limits::default(), &[], silent(), Arc::new(|| false))
                .expect("a new cache");
        let digest = Digest::of(b"good");
        fs::write(fetcher.place(&digest), b"good").expect("the cache is writable");
        assert_eq!(fetcher.cached(&digest).map(|g| g.size), Some(4));
        fs::write(fetcher.place(&digest), b"evil").expect("the cache is writable");
        assert!(fetcher.cached(&digest).is_none());
        assert!(!fetcher.place(&digest).exists());
    }

    #[test]
    fn other_schemes_are_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let fetcher =
            Fetcher::new(dir.path(), Limits::default(), &[], silent(), Arc::new(|| false))
                .expect("a new cache");
        let error = fetcher.document("file:///etc/passwd", 10).expect_err("not a web address");
        assert!(matches!(error.source, Failure::BadUrl));
    }
}
