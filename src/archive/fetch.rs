//! Downloads, by content: several at once, verified while they stream, written whole or not at all.
//!
//! ```text
//! CACHE/sha256/<hex>    verified content: packages, downloads, keys; checked again whenever it is used
//! CACHE/partial/…       being written by some bake; what a dead one left is swept after a day
//! ```

use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::transfer::{Bounds, Progress, Transfer};
use crate::digest::{Digest, HashReader};
use crate::event::{Event, Sink};
use crate::files::{self, Aside};
use crate::secret::Value;
use crate::web::{self, Authorities};

pub use super::failure::{Error, Failure, redact};
pub use super::http::Limits;

/// Something to download.
#[derive(Debug, Clone)]
pub struct Want {
    /// http or https URL.
    pub url: String,
    /// Where it is as well, asked where the first answers that it is not there.
    pub or_else: Option<String>,
    /// What the server of `url`, and no other, is given in the header `Authorization`.
    pub credentials: Option<Value>,
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

/// The downloader and its cache directory. Cheap to clone; `Send + Sync`.
#[derive(Clone)]
pub struct Fetcher {
    cache: PathBuf,
    transfer: Transfer,
    sink: Sink,
}

impl Fetcher {
    /// Uses the directory `cache`, made if missing. `authorities`: whom https trusts. `stop` is
    /// asked often; once that is true everything ends with [`Failure::Cancelled`].
    pub fn new(
        cache: &Path,
        limits: Limits,
        authorities: &Authorities,
        sink: Sink,
        stop: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Result<Self, Failure> {
        for part in ["sha256", "partial"] {
            let path = cache.join(part);
            fs::create_dir_all(&path).map_err(|source| Failure::Cache { path, source })?;
        }
        sweep(&cache.join("partial"));
        let transfer = Transfer::new(limits, authorities, stop);
        Ok(Self { cache: cache.to_owned(), transfer, sink })
    }

    /// The cache directory.
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
            credentials: None,
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

    /// Brings everything into the cache, the largest first, and calls `ready` as each arrives (on
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
        let threads = self.transfer.parallel().min(wants.len());
        let wants = Arc::new(wants);
        let queue = Arc::new(Mutex::new(order));
        let progress = Arc::new(Progress::default());
        let (sender, arrived) = mpsc::channel();
        // The threads are not joined: a person who presses Ctrl-C must not wait for a stalled
        // server. They own all they touch, see `over` at the next byte, and take their partial file
        // with them.
        for _ in 0..threads {
            let (this, wants, queue, progress, sender) = (
                self.clone(),
                Arc::clone(&wants),
                Arc::clone(&queue),
                Arc::clone(&progress),
                sender.clone(),
            );
            std::thread::Builder::new()
                .name("download".to_owned())
                .spawn(move || {
                    loop {
                        let Some(index) = queue.lock().map(|mut q| q.pop()).unwrap_or(None) else {
                            return;
                        };
                        let result = this.bring(&wants[index], &progress);
                        let over = progress.over.load(Ordering::Relaxed);
                        if over || sender.send((index, result)).is_err() {
                            return;
                        }
                    }
                })
                .map_err(|source| Error {
                    index: 0,
                    url: String::new(),
                    source: web::Failure::Broken(source).into(),
                })?;
        }
        drop(sender);
        let outcome = self.listen(&wants, total, &progress.bytes, &arrived, ready);
        progress.over.store(true, Ordering::Relaxed);
        if progress.bytes.load(Ordering::Relaxed) > 0 {
            (self.sink)(Event::ProgressEnd { task: "download" });
        }
        outcome
    }

    fn listen(
        &self,
        wants: &[Want],
        total: Option<u64>,
        bytes: &AtomicU64,
        arrived: &mpsc::Receiver<(usize, Result<Got, Failure>)>,
        ready: &mut dyn FnMut(usize, Got) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let mut left = wants.len();
        let mut what = format!("{} files", wants.len());
        let mut shown = 0;
        while left > 0 {
            let next = arrived.recv_timeout(Duration::from_millis(50));
            if self.transfer.stopped() {
                return Err(Error {
                    index: 0,
                    url: redact(&wants[0].url),
                    source: Failure::Cancelled,
                });
            }
            match next {
                Ok((index, Ok(got))) => {
                    left -= 1;
                    if !wants[index].what.is_empty() {
                        what.clone_from(&wants[index].what);
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
                    let died = io::Error::other("a download thread died");
                    let source = web::Failure::Broken(died).into();
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
    fn bring(&self, want: &Want, progress: &Progress) -> Result<Got, Failure> {
        let cached =
            want.sha256.as_ref().filter(|_| want.keep).and_then(|digest| self.cached(digest));
        if let Some(got) = cached.filter(|got| want.size.is_none_or(|size| size == got.size)) {
            return Ok(got);
        }
        self.transfer.retry(progress, &mut || self.attempt(want, progress))
    }

    fn attempt(&self, want: &Want, progress: &Progress) -> Result<Got, Failure> {
        let partial = self.cache.join("partial");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: files::Error| Failure::Cache { path, source: error.into() }
        };
        let mut aside = Aside::new(&partial).map_err(failed(&partial))?;
        let Want { sha256, size, cap, credentials, .. } = want;
        let bounds =
            Bounds { sha256: *sha256, size: *size, cap: *cap, credentials: credentials.as_ref() };
        let mut stream =
            |url: &str| self.transfer.stream(url, &bounds, &mut aside, progress, &self.cache);
        let (sha256, size) = match (stream(&want.url), &want.or_else) {
            (Err(Failure::Status(404)), Some(url)) => stream(url)?,
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
}

/// Removes what bakes that died left. A failure only means that the next one sweeps.
fn sweep(partial: &Path) {
    let Ok(entries) = fs::read_dir(partial) else { return };
    for entry in entries.flatten() {
        let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
        if age.is_some_and(|age| age > Duration::from_secs(24 * 3600)) {
            let directory = entry.file_type().is_ok_and(|t| t.is_dir());
            let _ = if directory {
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
    fn cached_content_is_checked_before_it_is_used() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let fetcher = Fetcher::new(
            dir.path(),
            Limits::default(),
            &Authorities::default(),
            silent(),
            Arc::new(|| false),
        )
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
        let dir = tempfile::tempdir().expect("a temporary directory");
        let fetcher = Fetcher::new(
            dir.path(),
            Limits::default(),
            &Authorities::default(),
            silent(),
            Arc::new(|| false),
        )
        .expect("a new cache");
        let error = fetcher.document("file:///etc/passwd", 10).expect_err("not a web address");
        assert!(matches!(error.source, Failure::BadUrl));
    }
}
