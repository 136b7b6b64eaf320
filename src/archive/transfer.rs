//! One transfer: a request whose every byte is counted, hashed and bounded, and its repetition.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::failure::Failure;
use super::http::{self, Limits};
use crate::digest::{Digest, Hasher};
use crate::secret::Value;
use crate::web::{self, Authorities};

/// What may come.
#[derive(Debug, Clone)]
pub(super) struct Bounds<'a> {
    /// The only content that will do.
    pub(super) sha256: Option<Digest>,
    /// The only size that will do.
    pub(super) size: Option<u64>,
    /// More bytes than this are refused.
    pub(super) cap: u64,
    /// What the server is given in the header `Authorization`.
    pub(super) credentials: Option<&'a Value>,
}

/// How far all transfers together have come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bytes that came.
    pub(super) bytes: AtomicU64,
    /// Whether nobody waits for more.
    pub(super) over: AtomicBool,
}

/// What transfers have in common. Cheap to clone.
#[derive(Clone)]
pub(super) struct Transfer {
    /// Made for the first request: it reads every certificate that the system trusts, which would
    /// be a third of a build that has nothing to do.
    agent: Arc<OnceLock<ureq::Agent>>,
    authorities: Authorities,
    limits: Limits,
    stop: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Transfer {
    /// `authorities` and `stop`: as in [`super::fetch::Fetcher::new`].
    pub(super) fn new(
        limits: Limits,
        authorities: &Authorities,
        stop: Arc<dyn Fn() -> bool + Send + Sync>,
    ) -> Self {
        Self { agent: Arc::default(), authorities: authorities.clone(), limits, stop }
    }

    /// Transfers at once.
    pub(super) fn parallel(&self) -> usize {
        self.limits.parallel
    }

    /// Whether everything is to end.
    pub(super) fn stopped(&self) -> bool {
        (self.stop)()
    }

    /// Sends one request for `url`. Every byte goes to `out`, and the whole is within `bounds` or
    /// it is an error. `cache` is named where `out` cannot be written.
    pub(super) fn stream(
        &self,
        url: &str,
        bounds: &Bounds<'_>,
        out: &mut dyn Write,
        progress: &Progress,
        cache: &Path,
    ) -> Result<(Digest, u64), Failure> {
        let count = &progress.bytes;
        let agent = self.agent.get_or_init(|| http::agent(&self.limits, &self.authorities));
        let response = http::get(agent, url, bounds.credentials).map_err(|error| match error {
            http::NoAnswer::BadUrl => Failure::BadUrl,
            http::NoAnswer::BadCredentials => Failure::BadCredentials,
            http::NoAnswer::Redirect(why) => web::Failure::Redirect(why).into(),
            http::NoAnswer::Request(error) => Failure::of(error, self.limits.patience()),
        })?;
        let cap = bounds.size.unwrap_or(bounds.cap).min(bounds.cap);
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
            if progress.over.load(Ordering::Relaxed) || self.stopped() {
                break Err(Failure::Cancelled);
            }
            let n = match body.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => match (error.kind(), bounds.size.or(announced)) {
                    (io::ErrorKind::UnexpectedEof, Some(expected)) => {
                        break Err(web::Failure::Truncated { got: size, expected }.into());
                    }
                    _ => break Err(web::Failure::of_io(error, self.limits.patience()).into()),
                },
            };
            size += n as u64;
            if size > cap {
                break Err(Failure::TooLarge { cap });
            }
            hasher.update(&buffer[..n]);
            count.fetch_add(n as u64, Ordering::Relaxed);
            if let Err(source) = out.write_all(&buffer[..n]) {
                break Err(Failure::Cache { path: cache.to_owned(), source });
            }
        };
        let outcome = outcome.and_then(|()| match bounds.size.or(announced) {
            Some(expected) if size < expected => {
                Err(web::Failure::Truncated { got: size, expected }.into())
            }
            _ => Ok(()),
        });
        let got = hasher.finish();
        let outcome = outcome.and_then(|()| match bounds.sha256 {
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

    /// Tries until it succeeds, fails for good, or has been tried often enough.
    pub(super) fn retry<T>(
        &self,
        progress: &Progress,
        attempt: &mut dyn FnMut() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut pause = self.limits.pause;
        let mut tries = 1;
        loop {
            match attempt() {
                Err(failure) if failure.may_pass() && tries < self.limits.tries => {
                    let slice = Duration::from_millis(20);
                    let mut slept = Duration::ZERO;
                    while slept < pause {
                        if progress.over.load(Ordering::Relaxed) || self.stopped() {
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
}
