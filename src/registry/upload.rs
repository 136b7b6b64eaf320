//! One blob to a registry (distribution-spec, "Pushing Blobs"): mounted where the registry has it
//! elsewhere, else sent in chunks, each from where the registry has come to.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ureq::http::Method;

use super::answer::Answer;
use super::auth::{Scope, escape};
use super::client::{Client, Request, Trouble};
use super::error::Error;
use super::transport::{Payload, Reopen};
use crate::digest::Digest;
use crate::image::Descriptor;
use crate::web;

/// Up to so many bytes a blob is sent in one request, with the digest in it.
const SMALL: u64 = 1 << 20;

/// Smallest chunk that is tried where connections break.
const SMALLEST: u64 = 16 << 10;

/// How often a blob is begun anew because the registry does not know its upload any more, or found
/// something else in it.
const BEGINNINGS: u32 = 5;

/// Opens a blob that is to be sent.
pub(super) type Open<'a> = dyn Fn(&Digest) -> io::Result<File> + Sync + 'a;

/// How far all uploads together have come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bytes that are there.
    pub(super) bytes: AtomicU64,
    /// Whether nobody waits for more.
    pub(super) over: AtomicBool,
}

/// How a blob got there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// From another repository.
    Mounted,
    /// From here.
    Uploaded,
}

/// A blob on its way out.
pub(super) struct Upload<'a> {
    pub(super) client: &'a Client,
    pub(super) blob: &'a Descriptor,
    pub(super) open: &'a Open<'a>,
    /// A repository of the same registry that may have it.
    pub(super) from: Option<&'a str>,
    pub(super) progress: &'a Progress,
    /// What of it counts in the progress.
    pub(super) shown: AtomicU64,
    pub(super) scope: &'a Scope,
}

/// How far one has come.
struct Session {
    /// Where the next request goes; nothing before the first.
    location: Option<String>,
    /// Bytes that the registry has.
    offset: u64,
    /// Bytes of the next chunk.
    chunk: u64,
    /// Least bytes of a chunk that is not the last.
    least: u64,
    /// All in one request.
    whole: bool,
    /// The registry takes chunks.
    patch: bool,
    from: Option<String>,
    beginnings: u32,
}

impl Upload<'_> {
    /// Sends it.
    pub(super) fn run(&self) -> Result<Sent, Error> {
        let mut session = Session {
            location: None,
            offset: 0,
            chunk: self.client.limits().chunk,
            least: 0,
            whole: self.blob.size <= SMALL,
            patch: true,
            from: self.from.map(str::to_owned),
            beginnings: 0,
        };
        let mut backoff = self.client.backoff();
        let mut furthest = 0;
        loop {
            let trouble = match self.step(&mut session) {
                Ok(Some(sent)) => {
                    self.count(self.blob.size);
                    return Ok(sent);
                }
                Ok(None) => {
                    // It was begun, or all of it is there: neither happens often.
                    if session.offset == 0 || session.offset == self.blob.size {
                        backoff.progressed();
                    }
                    continue;
                }
                Err(trouble) => trouble,
            };
            if self.progress.over.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let passing = trouble.passing;
            self.client.again(&mut backoff, trouble)?;
            if passing && session.location.is_some() {
                self.recover(&mut session);
            }
            if session.offset >= self.client.limits().progress().saturating_add(furthest) {
                furthest = session.offset;
                backoff.progressed();
            }
        }
    }

    /// One request. Something where that was the last.
    fn step(&self, session: &mut Session) -> Result<Option<Sent>, Trouble> {
        let Some(location) = session.location.clone() else { return self.begin(session) };
        if session.whole || session.offset == self.blob.size {
            return self.finish(session, &location).map(Some);
        }
        self.chunk(session, &location).map(|()| None)
    }

    /// Asks for an upload, or for the blob of another repository.
    fn begin(&self, session: &mut Session) -> Result<Option<Sent>, Trouble> {
        session.beginnings += 1;
        if session.beginnings > BEGINNINGS {
            let (registry, what) = (self.client.name.registry.clone(), self.doing());
            let why = format!("{registry} forgets what was sent");
            return Err(Error::Lie { what, why }.into());
        }
        self.count(0);
        (session.offset, session.least) = (0, 0);
        let from = session.from.take();
        let mut to = "blobs/uploads/".to_owned();
        let mut scope = self.scope.clone();
        if let Some(from) = &from {
            to.push_str(&format!("?mount={}&from=", self.blob.digest));
            escape(from, &mut to);
            scope = scope.and_pull(from);
        }
        let answer = match self.request(Method::POST, &to, vec![], Payload::Bytes(b""), &scope) {
            Ok(answer) => answer,
            // What may not be read there is sent from here.
            Err(Trouble {
                error:
                    Error::Denied { .. } | Error::Unauthorized { .. } | Error::NoCredentials { .. },
                ..
            }) if from.is_some() => return Ok(None),
            Err(trouble) => return Err(trouble),
        };
        match answer.status {
            201 if from.is_some() => {
                answer.drain();
                Ok(Some(Sent::Mounted))
            }
            202 => {
                let least =
                    answer.header("oci-chunk-min-length").and_then(|text| text.parse().ok());
                session.least = least.unwrap_or(0);
                self.follow(session, answer)?;
                Ok(None)
            }
            _ => Err(self.client.unexpected(answer, &self.doing()).into()),
        }
    }

    /// Sends the next chunk.
    fn chunk(&self, session: &mut Session, location: &str) -> Result<(), Trouble> {
        let (start, size) = (session.offset, self.blob.size);
        let end = size.min(start.saturating_add(session.chunk.max(session.least).max(1)));
        let mut headers = vec![("content-type", "application/octet-stream".to_owned())];
        // What is sent in one go is no chunk to some registries, and needs none of this.
        if start > 0 || end < size {
            headers.push(("content-range", format!("{start}-{}", end - 1)));
        }
        let open = self.part(start, end);
        let payload = Payload::Open(&open, end - start);
        let answer = self.request(Method::PATCH, location, headers, payload, self.scope);
        let answer = answer.inspect_err(|_| self.count(start))?;
        match answer.status {
            202 | 204 => {
                let offset = match reached(&answer) {
                    None | Some(0) if end == 1 => 1,
                    reached => reached.unwrap_or(end).min(size),
                };
                self.follow(session, answer)?;
                if offset <= start {
                    let what = self.doing();
                    let why = "it takes chunks and does not keep them".to_owned();
                    return Err(Error::Lie { what, why }.into());
                }
                session.offset = offset;
                self.count(offset);
                session.chunk = session.chunk.saturating_mul(2).min(self.client.limits().chunk);
                Ok(())
            }
            // No chunks here (distribution-spec, "Pushing a blob monolithically").
            404 | 405 | 501 if start == 0 => {
                answer.drain();
                (session.patch, session.whole, session.location) = (false, true, None);
                Ok(())
            }
            404 | 410 => {
                answer.drain();
                session.location = None;
                Ok(())
            }
            // It has come less far, or further, than it answered before.
            416 => {
                let error = self.client.unexpected(answer, &self.doing());
                Err(Trouble { error, passing: true, after: None })
            }
            _ => Err(self.client.unexpected(answer, &self.doing()).into()),
        }
    }

    /// Ends the upload: with all of it, or with nothing more than its digest.
    fn finish(&self, session: &mut Session, location: &str) -> Result<Sent, Trouble> {
        let joint = if location.contains('?') { '&' } else { '?' };
        let mut to = format!("{location}{joint}digest=");
        escape(&self.blob.digest.to_string(), &mut to);
        let headers = vec![("content-type", "application/octet-stream".to_owned())];
        let open = self.part(0, self.blob.size);
        let payload = match session.whole {
            true => Payload::Open(&open, self.blob.size),
            false => Payload::Bytes(b""),
        };
        let answer = self.request(Method::PUT, &to, headers, payload, self.scope)?;
        let most = if session.whole && answer.status == 400 { 2 } else { BEGINNINGS };
        match answer.status {
            201 | 204 => {
                answer.drain();
                Ok(Sent::Uploaded)
            }
            // It lost it, or found something else in what came in parts: from the beginning. What
            // came in one piece is found to be something else once more, and then for good.
            400 | 404 | 410 | 416 if session.beginnings < most => {
                session.location = None;
                let error = self.client.unexpected(answer, &self.doing());
                Err(Trouble { error, passing: true, after: None })
            }
            _ => Err(self.client.unexpected(answer, &self.doing()).into()),
        }
    }

    /// Finds out how far an upload has come that broke.
    fn recover(&self, session: &mut Session) {
        if session.whole && session.patch {
            // In parts from now on, so that the next time less is lost.
            session.whole = false;
        } else if session.whole {
            session.location = None;
            return;
        }
        let before = session.offset;
        if self.ask(session).is_none() {
            session.location = None;
        }
        if session.offset <= before {
            let left = self.blob.size - session.offset;
            session.chunk = (session.chunk.min(left) / 16).max(SMALLEST);
        }
    }

    /// Asks how far the upload has come (distribution-spec, "Pushing a blob in chunks"). Nothing
    /// where that is not known any more.
    fn ask(&self, session: &mut Session) -> Option<()> {
        let location = session.location.clone()?;
        // Tried again as anything else that breaks: without an answer all of it is to be sent anew.
        let asked = self.client.send(&Request {
            method: Method::GET,
            to: location.into(),
            headers: vec![],
            payload: Payload::Nothing,
            scope: self.scope,
            doing: self.doing(),
        });
        let answer = asked.ok().filter(|answer| matches!(answer.status, 200 | 202 | 204))?;
        session.offset = reached(&answer)?.min(self.blob.size);
        self.count(session.offset);
        self.follow(session, answer).ok()
    }

    /// Takes in where the next request goes.
    fn follow(&self, session: &mut Session, answer: Answer) -> Result<(), Trouble> {
        if let Some(location) = answer.header("location") {
            let next = web::target(&answer.url, location).map_err(|why| Error::Lie {
                what: self.doing(),
                why: format!("of where it is to be sent: {why}"),
            })?;
            session.location = Some(next);
        } else if session.location.is_none() {
            let why = "it does not say where to send it (Location)".to_owned();
            return Err(Error::Lie { what: self.doing(), why }.into());
        }
        answer.drain();
        Ok(())
    }

    fn request(
        &self,
        method: Method,
        to: &str,
        headers: Vec<(&'static str, String)>,
        payload: Payload<'_>,
        scope: &Scope,
    ) -> Result<Answer, Trouble> {
        let (to, doing) = (to.into(), self.doing());
        self.client.once(&Request { method, to, headers, payload, scope, doing })
    }

    fn doing(&self) -> String {
        format!("send {}@{}", self.client.name.place(), self.blob.digest)
    }

    /// Returns the bytes from `start` to `end`.
    fn part(&self, start: u64, end: u64) -> Part<'_> {
        Part { upload: self, start, end }
    }

    /// Notes in the progress that `offset` bytes are there.
    fn count(&self, offset: u64) {
        let before = self.shown.swap(offset, Ordering::Relaxed);
        self.progress.bytes.fetch_add(offset.wrapping_sub(before), Ordering::Relaxed);
    }
}

/// A part of a blob.
struct Part<'a> {
    upload: &'a Upload<'a>,
    start: u64,
    end: u64,
}

impl Reopen for Part<'_> {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        let Upload { blob, open, progress, shown, .. } = self.upload;
        let mut file = open(&blob.digest)?;
        file.seek(SeekFrom::Start(self.start))?;
        Ok(Box::new(Counted { inner: file.take(self.end - self.start), progress, shown }))
    }
}

/// Counts what is read, and ends when nobody waits for it.
struct Counted<'a, R> {
    inner: R,
    progress: &'a Progress,
    shown: &'a AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.progress.over.load(Ordering::Relaxed) {
            return Err(io::Error::other("nobody waits for it any more"));
        }
        let n = self.inner.read(buffer)?;
        self.shown.fetch_add(n as u64, Ordering::Relaxed);
        self.progress.bytes.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Returns how many bytes an upload has, as its answer says: `Range: 0-41` is 42. Of none some
/// registries say `0-0`.
fn reached(answer: &Answer) -> Option<u64> {
    let text = answer.header("range")?;
    let last = text.trim_start_matches("bytes=").split_once('-')?.1.trim().parse::<u64>().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}
