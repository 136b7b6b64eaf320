//! A whole image to a repository: blobs first, then manifests by digest, each read back, the tag
//! last. Until then nobody who asks for a tag sees anything of it; what is there already is not
//! sent.
//!
//! ```text
//! tag? ─► blobs (config, layers, attestations; several at once) ─► manifests ─► referrers ─► tag
//! ```

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use ureq::http::Method;

use super::auth::Scope;
use super::client::{Request, Trouble};
use super::error::Error;
use super::repository::{Document, MANIFEST, Repository};
use super::transport::Payload;
use super::upload::{Open, Progress, Sent, Upload};
use crate::digest::{Digest, HashReader};
use crate::event::{Event, Sink};
use crate::image::{Descriptor, Index, Kind, Manifest, kind};
use crate::threads;

/// Most indexes inside each other.
const DEPTH: usize = 4;

/// The bar of what is sent.
const TASK: &str = "push";

/// What is pushed.
pub struct Source<'a> {
    /// The image's manifest, or its index.
    pub manifest: &'a Descriptor,
    /// Manifests that speak about it, or about one that it names: attestations, signatures.
    pub referrers: &'a [Descriptor],
    /// Opens a blob, a manifest too.
    pub open: &'a Open<'a>,
    /// Returns a repository of the same registry that may have a blob.
    pub from: &'a (dyn Fn(&Digest) -> Option<String> + Sync),
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// What the tag names now.
    pub digest: Digest,
    /// What it named before.
    pub before: Option<Digest>,
    /// Everything was there already.
    pub already: bool,
    /// Blobs that were sent.
    pub sent: usize,
    /// Blobs that were taken from other repositories of the registry.
    pub mounted: usize,
    /// Bytes of the blobs that were sent.
    pub bytes: u64,
    /// All its blobs: what the repository has now.
    pub blobs: Vec<Digest>,
}

/// A manifest that is to be there.
struct Part {
    descriptor: Descriptor,
    bytes: Vec<u8>,
}

/// Everything that is to be there.
#[derive(Default)]
struct Plan {
    blobs: BTreeMap<Digest, Descriptor>,
    /// Those that others name come before these.
    manifests: Vec<Part>,
    /// What speaks about a manifest, as a list of referrers has it.
    referrers: BTreeMap<Digest, Vec<Descriptor>>,
}

impl Repository {
    /// Pushes an image under `tag`. A tag that names other content is left as it is, and that is
    /// an error, unless `move_tag`. What fails leaves every tag as it was.
    ///
    /// # Errors
    /// [`Error::TagTaken`], [`Error::NotStored`] where the registry does not have what it took,
    /// [`Error::Local`] and [`Error::Damaged`] where what is pushed cannot be read here, and
    /// whatever can go wrong on the way.
    pub fn push(
        &self,
        source: &Source<'_>,
        tag: &str,
        move_tag: bool,
        sink: &Sink,
    ) -> Result<Pushed, Error> {
        let this = self.with_scope(Scope::push(&self.name().repository));
        let mut plan = Plan::default();
        plan.add(source, source.manifest, 0)?;
        for referrer in source.referrers {
            plan.add(source, referrer, 0)?;
            let part = plan.manifests.last().expect("it was added");
            if let Some((subject, named)) = as_referrer(part) {
                plan.referrers.entry(subject).or_default().push(named);
            }
        }
        let before = this.tag(tag)?;
        this.check_tag(tag, before, source.manifest.digest, move_tag)?;
        let mut pushed = Pushed {
            digest: source.manifest.digest,
            before,
            already: before == Some(source.manifest.digest),
            sent: 0,
            mounted: 0,
            bytes: 0,
            blobs: plan.blobs.keys().copied().collect(),
        };
        this.blobs(&plan, source, &mut pushed, sink)?;
        for part in &plan.manifests {
            pushed.already &= !this.put(part)?;
        }
        for (subject, referrers) in &plan.referrers {
            pushed.already &= !this.list_referrers(subject, referrers)?;
        }
        let own = |part: &&Part| part.descriptor.digest == source.manifest.digest;
        let root = plan.manifests.iter().find(own).expect("it was added first");
        let now = if pushed.sent + pushed.mounted > 0 { this.tag(tag)? } else { before };
        this.check_tag(tag, now, source.manifest.digest, move_tag)?;
        if now != Some(source.manifest.digest) {
            this.send(tag, &root.descriptor.media_type, &root.bytes)?;
            this.read_back(tag, root)?;
        }
        Ok(pushed)
    }

    /// Returns what a tag names.
    fn tag(&self, tag: &str) -> Result<Option<Digest>, Error> {
        match self.resolve(tag) {
            Ok(found) => Ok(Some(found.digest)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn check_tag(
        &self,
        tag: &str,
        found: Option<Digest>,
        own: Digest,
        move_tag: bool,
    ) -> Result<(), Error> {
        match found.filter(|found| *found != own && !move_tag) {
            Some(found) => Err(Error::TagTaken { name: self.what(tag), found }),
            None => Ok(()),
        }
    }

    /// Sees to it that every blob is there.
    fn blobs(
        &self,
        plan: &Plan,
        source: &Source<'_>,
        pushed: &mut Pushed,
        sink: &Sink,
    ) -> Result<(), Error> {
        let mut order: Vec<&Descriptor> = plan.blobs.values().collect();
        // The largest is taken first: from the end.
        order.sort_by_key(|blob| blob.size);
        let total = order.iter().map(|blob| blob.size).sum();
        let parallel = self.client.limits().parallel.clamp(1, order.len().max(1));
        let (progress, queue) = (Progress::default(), Mutex::new(order));
        let what = self.name().place();
        let (sender, done) = mpsc::channel();
        let (mut shown, mut outcome) = (0, Ok(()));
        thread::scope(|scope| {
            for _ in 0..parallel {
                let (sender, progress, queue) = (sender.clone(), &progress, &queue);
                let work = move || {
                    while !progress.over.load(Ordering::Relaxed) {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
                        let Some(blob) = next else { return };
                        let result = self.blob_there(blob, source, progress);
                        // Nobody waits any more where another blob has failed.
                        let _ = sender.send((blob, result));
                    }
                };
                if let Err(error) = threads::scoped(scope, work) {
                    let doing = "start a thread".to_owned();
                    outcome = Err(Error::Local { doing, source: error });
                    break;
                }
            }
            drop(sender);
            loop {
                match done.recv_timeout(Duration::from_millis(50)) {
                    Ok((blob, Ok(Some(sent)))) => {
                        match sent {
                            Sent::Mounted => pushed.mounted += 1,
                            Sent::Uploaded => {
                                (pushed.sent, pushed.bytes) =
                                    (pushed.sent + 1, pushed.bytes + blob.size);
                            }
                        }
                        pushed.already = false;
                    }
                    Ok((_, Ok(None))) | Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Ok((_, Err(error))) => {
                        // Those that end because of the first one say nothing new.
                        if outcome.is_ok() {
                            outcome = Err(error);
                        }
                    }
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                }
                if outcome.is_err() {
                    progress.over.store(true, Ordering::Relaxed);
                }
                let now = progress.bytes.load(Ordering::Relaxed);
                if now != shown {
                    shown = now;
                    let what = what.clone();
                    sink(Event::Progress {
                        task: TASK,
                        what,
                        done: now.min(total),
                        total: Some(total),
                        bytes: true,
                    });
                }
            }
        });
        if shown > 0 {
            sink(Event::ProgressEnd { task: TASK });
        }
        outcome
    }

    /// Sees to it that one blob is there. Nothing where it was.
    fn blob_there(
        &self,
        blob: &Descriptor,
        source: &Source<'_>,
        progress: &Progress,
    ) -> Result<Option<Sent>, Error> {
        if self.has_blob(blob)? {
            progress.bytes.fetch_add(blob.size, Ordering::Relaxed);
            return Ok(None);
        }
        check_size(source, blob)?;
        let from = (source.from)(&blob.digest).filter(|from| *from != self.name().repository);
        let upload = Upload {
            client: &self.client,
            blob,
            open: source.open,
            from: from.as_deref(),
            progress,
            shown: AtomicU64::new(0),
            scope: self.scope(),
        };
        let sent = match upload.run() {
            Ok(sent) => sent,
            // It may be right that it is refused.
            Err(error @ Error::Status { .. }) => {
                check_digest(source, blob)?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        // Storage may take a moment to show what it took.
        let mut backoff = self.client.backoff();
        while !self.has_blob(blob)? {
            let (registry, what) = (self.name().registry.clone(), blob.digest.to_string());
            let error = Error::NotStored { registry, what };
            self.client.again(&mut backoff, Trouble { error, passing: true, after: None })?;
        }
        Ok(Some(sent))
    }

    /// Sees to it that a manifest is there, under its digest. Whether it was sent.
    fn put(&self, part: &Part) -> Result<bool, Error> {
        let digest = part.descriptor.digest.to_string();
        match self.manifest(&digest) {
            Ok(Document { descriptor, .. })
                if descriptor.media_type == part.descriptor.media_type =>
            {
                return Ok(false);
            }
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        self.send(&digest, &part.descriptor.media_type, &part.bytes)?;
        self.read_back(&digest, part)?;
        Ok(true)
    }

    pub(super) fn send(&self, wanted: &str, media: &str, bytes: &[u8]) -> Result<(), Error> {
        let doing = format!("write {}", self.what(wanted));
        let answer = self.client.send(&Request {
            method: Method::PUT,
            to: format!("manifests/{wanted}").into(),
            headers: vec![("content-type", media.to_owned())],
            payload: Payload::Bytes(bytes),
            scope: self.scope(),
            doing: doing.clone(),
        })?;
        match answer.status {
            200..=299 => {
                answer.drain();
                Ok(())
            }
            _ => Err(self.client.unexpected(answer, &doing)),
        }
    }

    /// Reads a manifest that was sent just now: whoever asks for it gets these bytes.
    fn read_back(&self, wanted: &str, part: &Part) -> Result<(), Error> {
        let mut backoff = self.client.backoff();
        loop {
            let (what, registry) = (self.what(wanted), self.name().registry.clone());
            let error = match self.manifest(wanted) {
                Ok(found) if found.descriptor.digest == part.descriptor.digest => return Ok(()),
                Ok(found) => {
                    let why = format!("it answers with {} after a write", found.descriptor.digest);
                    Error::Lie { what, why }
                }
                Err(Error::NotFound { .. }) => Error::NotStored { registry, what },
                Err(error) => return Err(error),
            };
            // Storage may take a moment to show what it took.
            self.client.again(&mut backoff, Trouble { error, passing: true, after: None })?;
        }
    }
}

impl Plan {
    /// Adds a manifest or an index, and all that it names, before it.
    fn add(&mut self, source: &Source<'_>, named: &Descriptor, depth: usize) -> Result<(), Error> {
        let damaged = |why: String| Error::Damaged { digest: named.digest, why };
        if named.size > MANIFEST {
            return Err(damaged(format!("a manifest of more than {MANIFEST} bytes")));
        }
        let mut bytes = vec![];
        open(source, &named.digest)?
            .take(MANIFEST + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| Error::Local { doing: format!("read {}", named.digest), source })?;
        if Digest::of(&bytes) != named.digest || bytes.len() as u64 != named.size {
            return Err(damaged("its bytes are others".to_owned()));
        }
        let unreadable = |error: crate::image::Unreadable| damaged(error.source.to_string());
        if kind(&named.media_type) == Kind::Index {
            if depth >= DEPTH {
                return Err(damaged("indexes inside each other without end".to_owned()));
            }
            for one in &Index::parse(&bytes).map_err(unreadable)?.manifests {
                self.add(source, one, depth + 1)?;
            }
        } else {
            let manifest = Manifest::parse(&bytes).map_err(unreadable)?;
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                self.blobs.insert(blob.digest, blob.clone());
            }
        }
        let descriptor =
            Descriptor::new(named.media_type.clone(), named.digest, bytes.len() as u64);
        // The one that was added last stands last, even where it was there.
        self.manifests.retain(|part| part.descriptor.digest != descriptor.digest);
        self.manifests.push(Part { descriptor, bytes });
        Ok(())
    }
}

/// Returns what a manifest speaks about, and the manifest as a list of referrers has it
/// (distribution-spec, "Listing Referrers").
fn as_referrer(part: &Part) -> Option<(Digest, Descriptor)> {
    let manifest = Manifest::parse(&part.bytes).ok()?;
    let subject = manifest.subject.as_ref()?.digest;
    let mut one = part.descriptor.clone();
    let config = manifest.config.media_type.clone();
    one.artifact_type = Some(manifest.artifact_type.unwrap_or(config));
    one.annotations = manifest.annotations;
    Some((subject, one))
}

fn open(source: &Source<'_>, digest: &Digest) -> Result<std::fs::File, Error> {
    (source.open)(digest)
        .map_err(|error| Error::Local { doing: format!("read {digest}"), source: error })
}

/// A blob of another size would end a request in the middle.
fn check_size(source: &Source<'_>, blob: &Descriptor) -> Result<(), Error> {
    let file = open(source, &blob.digest)?;
    let size = file.metadata().map(|meta| meta.len());
    match size {
        Ok(size) if size == blob.size => Ok(()),
        Ok(size) => {
            let why = format!("it has {size} bytes, {} are named", blob.size);
            Err(Error::Damaged { digest: blob.digest, why })
        }
        Err(source) => Err(Error::Local { doing: format!("read {}", blob.digest), source }),
    }
}

fn check_digest(source: &Source<'_>, blob: &Descriptor) -> Result<(), Error> {
    let mut reader = HashReader::new(open(source, &blob.digest)?);
    io::copy(&mut reader, &mut io::sink())
        .map_err(|source| Error::Local { doing: format!("read {}", blob.digest), source })?;
    let (_, found, _) = reader.finish();
    if found == blob.digest {
        return Ok(());
    }
    Err(Error::Damaged { digest: blob.digest, why: format!("its bytes are {found}") })
}
