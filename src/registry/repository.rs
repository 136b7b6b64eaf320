//! A repository to pull from: what a tag names, manifests and blobs that are what their digest says.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use ureq::http::Method;

use super::answer::Answer;
use super::auth::Scope;
use super::client::{Client, Request, Trouble};
use super::error::Error;
use super::options::{Limits, Options};
use super::transport::Payload;
use crate::digest::{Digest, Hasher};
use crate::image::{
    Descriptor, Kind, MEDIA_DOCKER_INDEX, MEDIA_DOCKER_MANIFEST, MEDIA_INDEX, MEDIA_MANIFEST,
    RemoteName, kind,
};
use crate::web::Failure;

/// Largest manifest (distribution-spec, "Pushing Manifests": what registries have to take).
pub(super) const MANIFEST: u64 = 4 << 20;

/// Media types of Docker's schema 1.
const SCHEMA_ONE: &[&str] = &[
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// A manifest or an index as it was read: bytes that are what `descriptor` says.
#[derive(Debug, Clone)]
pub struct Document {
    /// Media type, digest and size.
    pub descriptor: Descriptor,
    /// [`Kind::Manifest`] or [`Kind::Index`].
    pub kind: Kind,
    /// Its JSON.
    pub bytes: Vec<u8>,
}

/// A repository in a registry. Cheap to clone; `Send + Sync`. Nothing is asked before the first
/// request.
#[derive(Clone)]
pub struct Repository {
    pub(super) client: Arc<Client>,
    scope: Scope,
}

impl Repository {
    /// Makes the repository of `name`, whose tag and digest make no difference here.
    pub fn new(name: &RemoteName, options: &Options) -> Self {
        let scope = Scope::pull(&name.repository);
        Self { client: Arc::new(Client::new(name, options)), scope }
    }

    /// Returns the host (and port), the repository, and what was named in it.
    pub fn name(&self) -> &RemoteName {
        &self.client.name
    }

    /// Asks what `wanted` (a tag, or a digest as text; see [`RemoteName::wanted`]) names now,
    /// without reading it where the registry says enough about it. It is what the registry says:
    /// [`Repository::manifest`] checks.
    ///
    /// # Errors
    /// Where it is not there ([`Error::NotFound`]), and whatever can go wrong on the way.
    pub fn resolve(&self, wanted: &str) -> Result<Descriptor, Error> {
        match self.head(wanted)? {
            Some(found) => Ok(found),
            None => Ok(self.manifest(wanted)?.descriptor),
        }
    }

    /// Asks for the head of a manifest. Nothing where that does not say enough.
    fn head(&self, wanted: &str) -> Result<Option<Descriptor>, Error> {
        let doing = self.doing(wanted);
        let answer = self.client.send(&self.read_manifest(Method::HEAD, wanted))?;
        match answer.status {
            200 => {}
            404 => return Err(Error::NotFound { doing }),
            // Some know no HEAD.
            301..=308 | 400 | 405 => return Ok(None),
            _ => return Err(self.client.unexpected(answer, &doing)),
        }
        let digest = answer.header("docker-content-digest").and_then(|text| text.parse().ok());
        let media = answer.header("content-type").map(essence).unwrap_or_default();
        let (Some(digest), Some(size)) = (digest, answer.length()) else { return Ok(None) };
        if !matches!(kind(media), Kind::Manifest | Kind::Index) || size == 0 || size > MANIFEST {
            return Ok(None);
        }
        Ok(Some(Descriptor::new(media, digest, size)))
    }

    /// Reads the manifest or index that `wanted` (a tag, or a digest as text) names. Its bytes are
    /// those of the digest where one was asked for, and of the digest that the registry says; its
    /// media type is what the registry says and what it says itself.
    ///
    /// # Errors
    /// Where it is not there ([`Error::NotFound`]), is of Docker's schema 1
    /// ([`Error::SchemaOne`]), larger than 4 MiB ([`Error::TooLarge`]), or not what it is called
    /// ([`Error::Lie`]); and whatever can go wrong on the way.
    pub fn manifest(&self, wanted: &str) -> Result<Document, Error> {
        let doing = self.doing(wanted);
        let mut backoff = self.client.backoff();
        loop {
            match self.read_whole(wanted, &doing) {
                Ok((answer, bytes)) => return self.judge(wanted, &answer, bytes),
                Err(trouble) => self.client.again(&mut backoff, trouble)?,
            }
        }
    }

    /// Returns it with requests for more than reading.
    pub(super) fn with_scope(&self, scope: Scope) -> Self {
        Self { client: Arc::clone(&self.client), scope }
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    fn doing(&self, wanted: &str) -> String {
        format!("read {}", self.what(wanted))
    }

    /// Returns how a manifest or a blob is called.
    pub(super) fn what(&self, wanted: &str) -> String {
        let joint = if wanted.contains(':') { '@' } else { ':' };
        format!("{}{joint}{wanted}", self.client.name.place())
    }

    fn read_manifest<'a>(&'a self, method: Method, wanted: &str) -> Request<'a> {
        let accept = [MEDIA_MANIFEST, MEDIA_INDEX, MEDIA_DOCKER_MANIFEST, MEDIA_DOCKER_INDEX];
        Request {
            method,
            to: format!("manifests/{wanted}").into(),
            headers: vec![("accept", accept.join(", "))],
            payload: Payload::Nothing,
            scope: &self.scope,
            doing: self.doing(wanted),
        }
    }

    fn read_whole(&self, wanted: &str, doing: &str) -> Result<(Headers, Vec<u8>), Trouble> {
        let answer = self.client.once(&self.read_manifest(Method::GET, wanted))?;
        if answer.status != 200 {
            return Err(self.client.unexpected(answer, doing).into());
        }
        let headers = Headers {
            media: answer.header("content-type").map(|text| essence(text).to_owned()),
            digest: answer.header("docker-content-digest").map(str::to_owned),
        };
        let too_large = || Error::TooLarge { what: self.what(wanted), cap: MANIFEST };
        Ok((headers, self.read_body(answer, doing, too_large)?))
    }

    /// Reads an answer of at most [`MANIFEST`] bytes.
    pub(super) fn read_body(
        &self,
        answer: Answer,
        doing: &str,
        too_large: impl Fn() -> Error,
    ) -> Result<Vec<u8>, Trouble> {
        let length = answer.length();
        if length.is_some_and(|length| length > MANIFEST) {
            return Err(too_large().into());
        }
        let mut bytes = vec![];
        let limits = self.client.limits();
        let mut pace = Pace::new(limits);
        let mut reader = answer.into_reader();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read =
                reader.read(&mut buffer).map_err(|error| Failure::of_io(error, limits.patience()));
            let n = read.and_then(|n| pace.passed(n).map(|()| n));
            match n {
                Ok(0) => break,
                Ok(n) => bytes.extend_from_slice(&buffer[..n]),
                Err(failure) => return Err(self.client.broken(failure, doing)),
            }
            if bytes.len() as u64 > MANIFEST {
                return Err(too_large().into());
            }
        }
        let got = bytes.len() as u64;
        match length {
            Some(expected) if got < expected => {
                Err(self.client.broken(Failure::Truncated { got, expected }, doing))
            }
            _ => Ok(bytes),
        }
    }

    fn judge(&self, wanted: &str, headers: &Headers, bytes: Vec<u8>) -> Result<Document, Error> {
        let lie = |why: String| Error::Lie { what: self.what(wanted), why };
        let found = Digest::of(&bytes);
        if wanted.contains(':') && wanted != found.to_string() {
            return Err(lie(format!("its bytes are {found}")));
        }
        // Digests of other algorithms are not compared: nobody asked for one.
        if let Some(named) = headers.digest.as_deref().filter(|text| text.starts_with("sha256:"))
            && named != found.to_string()
        {
            return Err(lie(format!("it is called {named}, its bytes are {found}")));
        }
        let header = headers.media.as_deref().unwrap_or_default();
        let value: Value = match serde_json::from_slice(&bytes) {
            Ok(value @ Value::Object(_)) => value,
            _ => return Err(lie("it is no JSON object".to_owned())),
        };
        let own = value.get("mediaType").and_then(Value::as_str);
        if SCHEMA_ONE.contains(&header) || value.get("schemaVersion") == Some(&Value::from(1)) {
            return Err(Error::SchemaOne { what: self.what(wanted) });
        }
        // One text that two readers take for two things (CVE-2021-41190).
        let has = |key: &str| value.get(key).is_some_and(|value| !value.is_null());
        let (layers, manifests) = (has("layers") || has("config"), has("manifests"));
        if layers && manifests {
            return Err(lie("it has layers and manifests".to_owned()));
        }
        let known = |media: &&str| matches!(kind(media), Kind::Manifest | Kind::Index);
        let media = match (Some(header).filter(known), own) {
            (Some(header), Some(own)) if header != own => {
                return Err(lie(format!("it is sent as {header:?} and calls itself {own:?}")));
            }
            (Some(header), _) => header,
            (None, Some(own)) if known(&own) => own,
            (None, None) if manifests && is_vague(header) => MEDIA_INDEX,
            (None, None) if layers && is_vague(header) => MEDIA_MANIFEST,
            (None, own) => {
                let media = own.unwrap_or(header);
                return Err(lie(format!("it is {media:?}, neither a manifest nor an index")));
            }
        };
        let (kind, fits) = match kind(media) {
            Kind::Index => (Kind::Index, manifests && !layers),
            _ => (Kind::Manifest, layers && !manifests),
        };
        if !fits {
            return Err(lie(format!("it is sent as {media:?} and has not what belongs to that")));
        }
        let descriptor = Descriptor::new(media, found, bytes.len() as u64);
        Ok(Document { descriptor, kind, bytes })
    }

    /// Whether the registry has the blob, and with this size.
    ///
    /// # Errors
    /// Whatever can go wrong on the way; that it is not there is none.
    pub fn has_blob(&self, blob: &Descriptor) -> Result<bool, Error> {
        let doing = format!("look for {}", self.what(&blob.digest.to_string()));
        let answer = self.client.send(&Request {
            method: Method::HEAD,
            to: format!("blobs/{}", blob.digest).into(),
            headers: vec![],
            payload: Payload::Nothing,
            scope: &self.scope,
            doing: doing.clone(),
        })?;
        match answer.status {
            200 => Ok(answer.length().is_none_or(|length| length == blob.size)),
            // It is kept elsewhere, where only a GET is answered.
            301..=308 => Ok(true),
            404 => Ok(false),
            _ => Err(self.client.unexpected(answer, &doing)),
        }
    }

    /// Streams the blob to `out`: exactly `blob.size` bytes of `blob.digest`, else it is an error.
    /// What was written by then is not to be used. A cut connection goes on where it was cut.
    /// `progress` is called with the bytes that came since the last call.
    ///
    /// # Errors
    /// Where it is not there, is not what its descriptor says, or `out` takes it not; and whatever
    /// can go wrong on the way.
    pub fn blob(
        &self,
        blob: &Descriptor,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Error> {
        let what = self.what(&blob.digest.to_string());
        let mut incoming = Incoming { what, blob, out, progress, hasher: Hasher::new(), got: 0 };
        let mut backoff = self.client.backoff();
        loop {
            let before = incoming.got;
            let trouble = match self.stream(&mut incoming) {
                Ok(()) => return incoming.finish(),
                Err(trouble) => trouble,
            };
            if incoming.got - before >= self.client.limits().progress() {
                backoff.progressed();
            }
            self.client.again(&mut backoff, trouble)?;
        }
    }

    /// One request for what is still missing of a blob.
    fn stream(&self, incoming: &mut Incoming<'_>) -> Result<(), Trouble> {
        let Incoming { blob, got, .. } = incoming;
        let (start, size) = (*got, blob.size);
        let doing = format!("read {}", incoming.what);
        let headers = match start {
            0 => vec![],
            start => vec![("range", format!("bytes={start}-{}", size.saturating_sub(1)))],
        };
        let answer = self.client.once(&Request {
            method: Method::GET,
            to: format!("blobs/{}", blob.digest).into(),
            headers,
            payload: Payload::Nothing,
            scope: &self.scope,
            doing: doing.clone(),
        })?;
        let skip = match answer.status {
            200 => start,
            206 if start > 0 && range_start(&answer) == Some(start) => 0,
            206 => return Err(incoming.lie("it answers with another part".to_owned()).into()),
            _ => return Err(self.client.unexpected(answer, &doing).into()),
        };
        let expected = size - start + skip;
        if let Some(length) = answer.length()
            && length != expected
        {
            let why = format!("it has {} bytes, {size} were announced", length + start - skip);
            return Err(incoming.lie(why).into());
        }
        let limits = self.client.limits();
        let mut reader = answer.into_reader();
        match incoming.take(&mut reader, skip, limits) {
            Ok(()) => Ok(()),
            Err(Stopped::Error(error)) => Err(error.into()),
            Err(Stopped::Failure(failure)) => Err(self.client.broken(failure, &doing)),
        }
    }
}

/// What the head of an answer says about a manifest.
struct Headers {
    media: Option<String>,
    digest: Option<String>,
}

/// A blob on its way in.
struct Incoming<'a> {
    what: String,
    blob: &'a Descriptor,
    out: &'a mut dyn Write,
    progress: &'a mut dyn FnMut(u64),
    hasher: Hasher,
    /// Bytes that were written.
    got: u64,
}

enum Stopped {
    Error(Error),
    Failure(Failure),
}

impl Incoming<'_> {
    /// Writes what comes, without its first `skip` bytes, which came before.
    fn take(
        &mut self,
        reader: &mut dyn Read,
        mut skip: u64,
        limits: &Limits,
    ) -> Result<(), Stopped> {
        let mut pace = Pace::new(limits);
        let mut buffer = vec![0; 128 << 10];
        loop {
            let n = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(Stopped::Failure(Failure::of_io(error, limits.patience())));
                }
            };
            pace.passed(n).map_err(Stopped::Failure)?;
            let old = usize::try_from(skip).unwrap_or(usize::MAX).min(n);
            skip -= old as u64;
            let new = &buffer[old..n];
            if self.got + new.len() as u64 > self.blob.size {
                let why = format!("it has more than the {} bytes announced", self.blob.size);
                return Err(Stopped::Error(self.lie(why)));
            }
            self.hasher.update(new);
            self.out.write_all(new).map_err(|source| {
                Stopped::Error(Error::Local { doing: format!("write {}", self.what), source })
            })?;
            self.got += new.len() as u64;
            (self.progress)(new.len() as u64);
        }
        if self.got < self.blob.size {
            let (got, expected) = (self.got, self.blob.size);
            return Err(Stopped::Failure(Failure::Truncated { got, expected }));
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Error> {
        let found = self.hasher.clone().finish();
        if found != self.blob.digest {
            return Err(self.lie(format!("its bytes are {found}")));
        }
        Ok(())
    }

    fn lie(&self, why: String) -> Error {
        Error::Lie { what: self.what.clone(), why }
    }
}

/// Watches that enough comes: one byte a second keeps a connection open for ever.
struct Pace<'a> {
    limits: &'a Limits,
    since: Instant,
    bytes: u64,
}

impl<'a> Pace<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self { limits, since: Instant::now(), bytes: 0 }
    }

    fn passed(&mut self, n: usize) -> Result<(), Failure> {
        self.bytes += n as u64;
        let took = self.since.elapsed();
        if n == 0 || took < self.limits.stall {
            return Ok(());
        }
        let least = u128::from(Limits::SLOWEST) * took.as_millis() / 1000;
        if u128::from(self.bytes) < least {
            return Err(Failure::Timeout(self.limits.stall));
        }
        (self.since, self.bytes) = (Instant::now(), 0);
        Ok(())
    }
}

/// Returns a media type without its parameters.
pub(super) fn essence(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim()
}

/// Whether a media type says nothing: what servers send that know no manifests.
fn is_vague(media: &str) -> bool {
    matches!(media, "" | "application/json" | "application/octet-stream" | "text/plain")
}

/// Returns where the part begins that an answer is (RFC 9110 section 14.4).
fn range_start(answer: &Answer) -> Option<u64> {
    let text = answer.header("content-range")?.strip_prefix("bytes ")?;
    text.split('-').next()?.trim().parse().ok()
}
