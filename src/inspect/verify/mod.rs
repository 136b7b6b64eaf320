//! Whether everything in a store is what it says it is: the union of what the strict readers of OCI
//! layouts would refuse.
//!
//! What is judged, and nothing of it is taken for granted because another part was fine:
//! ```text
//! index.json   entries readable, names once and well-formed          manifest   size, digest, media type, shape
//! config       size, digest, shape, diff_ids and history as many     layers     size, digest, compression as its media type says,
//! channels     each points at a version that is there                           diff_id, a tar that is safe and means one thing
//! the directory   nothing that belongs to nothing (warnings)
//! ```
//! Whatever cannot be read is a problem, never a reason to look away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde::Serialize;

use self::blob::Claim;
use super::error::describe;
use crate::digest::Digest;
use crate::event::{Event, Sink};
use crate::image::{
    ANNOTATION_REF_NAME, Descriptor, Judged, Kind, Reference, judge_config, judge_index,
    judge_manifest, kind,
};
use crate::store::{ChannelFile, Error, MEDIA_TESTS, NoDescriptor, SMALL, Store, TESTS_ANNOTATION};
use crate::threads;

mod blob;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something is not what it says: do not use it.
    Error,
    /// Odd, but no image is worse for it.
    Warning,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// How bad.
    pub level: Level,
    /// The versions that are affected (`name:version`); empty where it is about the store itself.
    pub images: Vec<String>,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, as a fragment: `has 3 bytes, its descriptor says 4`.
    pub what: String,
}

/// What a verification looked at, and what it found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Errors first, each kind in order of its images.
    pub problems: Vec<Problem>,
    /// Images looked at: the named entries of the index.
    pub images: usize,
    /// What else the index lists: attestations, lists of tests.
    pub artifacts: usize,
    /// Blobs looked at, each once.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Report {
    /// Whether no image is worse than it says: warnings do not count.
    pub fn is_good(&self) -> bool {
        self.problems.iter().all(|problem| problem.level != Level::Error)
    }
}

/// The blobs still to be read whole, and the problems so far.
struct Walk<'a> {
    store: &'a Store,
    problems: Vec<Problem>,
    /// What manifests say about each blob that is read as a stream, and which images say so.
    streams: BTreeMap<Digest, BTreeMap<Claim, BTreeSet<String>>>,
    /// Blobs that were read whole already.
    small: BTreeMap<Digest, u64>,
}

/// Verifies the images that `references` name, or, where it is empty, everything in the store. An
/// error means that the store itself cannot be read or that a reference names nothing; all else is
/// a problem in the report. Reads every blob once or twice, on as many threads as rayon has, in
/// bounded memory; reports to `sink` how far it is (task `verify`).
pub fn verify(store: &Store, references: &[Reference], sink: &Sink) -> Result<Report, Error> {
    let mut walk =
        Walk { store, problems: vec![], streams: BTreeMap::new(), small: BTreeMap::new() };
    let mut roots = vec![];
    if references.is_empty() {
        roots = walk.whole_store()?;
    }
    for reference in references {
        let version = store.resolve(reference)?;
        roots.push((version.reference.to_string(), version.manifest));
    }
    for (image, root) in &roots {
        walk.follow(image, root);
        walk.tests(image, root)?;
    }
    let bytes = walk.read_streams(sink) + walk.small.values().sum::<u64>();
    let blobs = walk.streams.len() + walk.small.len();
    let mut problems = walk.problems;
    problems.sort();
    problems.dedup();
    still_there(store, &roots, &mut problems)?;
    // What has no name in the index speaks about an image, or is a part of one.
    let (images, artifacts): (Vec<_>, Vec<_>) =
        roots.iter().partition(|(_, root)| root.annotations.contains_key(ANNOTATION_REF_NAME));
    Ok(Report { problems, images: images.len(), artifacts: artifacts.len(), blobs, bytes })
}

/// Takes out the problems of images that have left the index since: a removal takes their blobs
/// while they are being read.
fn still_there(
    store: &Store,
    roots: &[(String, Descriptor)],
    problems: &mut Vec<Problem>,
) -> Result<(), Error> {
    if problems.is_empty() {
        return Ok(());
    }
    let now: Vec<Digest> = store.entries()?.into_iter().flatten().map(|one| one.digest).collect();
    let left: BTreeSet<&str> = roots
        .iter()
        .filter(|(_, root)| !now.contains(&root.digest))
        .map(|(name, _)| name.as_str())
        .collect();
    problems.retain_mut(|problem| {
        let before = problem.images.len();
        problem.images.retain(|image| !left.contains(image.as_str()));
        before == 0 || !problem.images.is_empty()
    });
    Ok(())
}

impl Walk<'_> {
    /// Judges the directory and `index.json`; returns the entries with what they are called.
    fn whole_store(&mut self) -> Result<Vec<(String, Descriptor)>, Error> {
        let index = self.store.dir().join("index.json");
        let layout = self.store.dir().join("oci-layout");
        if self.store.dir().exists() && !layout.exists() {
            self.problem(
                Level::Error,
                &[],
                layout,
                "is missing: other tools will not read the store (any build writes it again)",
            );
        }
        for stray in self.store.strays()? {
            self.problem(Level::Warning, &[], stray.path, stray.why);
        }
        let mut roots: Vec<(String, Descriptor)> = vec![];
        let mut foreign = 0;
        for entry in self.store.entries()? {
            let entry = match entry {
                Ok(entry) => entry,
                Err(NoDescriptor { flaw: None, .. }) => {
                    foreign += 1;
                    continue;
                }
                Err(NoDescriptor { name, flaw: Some(flaw) }) => {
                    let called = match &name {
                        Some(name) => format!("has an entry called {name:?}"),
                        None => "has an entry without a name".to_owned(),
                    };
                    let what = format!("{called} that cannot be read: {flaw}");
                    let images: Vec<String> = name.into_iter().collect();
                    self.problem(Level::Error, &images, index.clone(), &what);
                    continue;
                }
            };
            let name = match entry.annotations.get(ANNOTATION_REF_NAME) {
                None => format!("@{}", entry.digest),
                Some(name) => {
                    if roots.iter().any(|(other, _)| other == name) {
                        self.problem(
                            Level::Error,
                            std::slice::from_ref(name),
                            index.clone(),
                            &format!("has two entries called {name:?}"),
                        );
                    }
                    if name.parse::<Reference>().is_err() {
                        self.problem(
                            Level::Warning,
                            &[],
                            index.clone(),
                            &format!("has an entry called {name:?}, which bake cannot name"),
                        );
                    }
                    name.clone()
                }
            };
            roots.push((name, entry));
        }
        if foreign > 0 {
            let what =
                format!("has {foreign} entries that name no sha256 blob; they were not verified");
            self.problem(Level::Warning, &[], index, &what);
        }
        self.channels()?;
        Ok(roots)
    }

    /// Judges the channels: each must point at a version that is there, with the content that it
    /// had when it was promoted.
    fn channels(&mut self) -> Result<(), Error> {
        let versions = self.store.versions()?;
        for ChannelFile { reference, path, channel } in self.store.each_channel()? {
            let what = match channel {
                Ok(None) => continue,
                Ok(Some(channel)) if versions.iter().any(|version| channel.points_at(version)) => {
                    continue;
                }
                Ok(Some(channel)) => {
                    let (name, to, at) = (
                        &reference.name,
                        &channel.to,
                        reference.channel.as_deref().unwrap_or_default(),
                    );
                    format!(
                        "{reference} points at {name}:{} ({}), which is not in the index (`bake \
                            promote {name}:VERSION {at}` points it at \
                         another version, `bake promote --back {reference}` at the one before)",
                        to.version, to.digest
                    )
                }
                Err(error) => {
                    format!("the history of {reference} cannot be read: {}", describe(&error))
                }
            };
            self.problem(Level::Error, &[], path, &what);
        }
        Ok(())
    }

    fn problem(&mut self, level: Level, images: &[String], path: PathBuf, what: &str) {
        self.problems.push(Problem { level, images: images.to_vec(), path, what: what.to_owned() });
    }

    /// Reports a flaw of a blob of one image.
    fn flaw(&mut self, image: &str, digest: &Digest, what: &str) {
        self.problem(Level::Error, &[image.to_owned()], self.store.blob_path(digest), what);
    }

    /// Judges a manifest or index and everything below it.
    fn follow(&mut self, image: &str, root: &Descriptor) {
        let mut seen = BTreeSet::new();
        let mut todo = vec![root.clone()];
        while let Some(next) = todo.pop() {
            if !seen.insert(next.digest) {
                continue;
            }
            match kind(&next.media_type) {
                Kind::Manifest => self.manifest(image, &next, &mut todo),
                Kind::Index => {
                    if let Some(index) = self.read(image, &next, judge_index) {
                        todo.extend(index.manifests);
                    }
                }
                Kind::Config | Kind::Layer => self.flaw(
                    image,
                    &next.digest,
                    &format!("is listed as an image, but is a {}", next.media_type),
                ),
                Kind::Other if next.media_type.is_empty() => {
                    self.flaw(image, &next.digest, "is listed without a media type")
                }
                Kind::Other => self.stream(image, &next, None, false),
            }
        }
    }

    fn manifest(&mut self, image: &str, descriptor: &Descriptor, todo: &mut Vec<Descriptor>) {
        let Some(manifest) = self.read(image, descriptor, judge_manifest) else { return };
        // What an artifact speaks about may live elsewhere; where it is here it is judged.
        todo.extend(manifest.subject.into_iter().filter(|subject| self.store.has(&subject.digest)));
        if kind(&manifest.config.media_type) != Kind::Config {
            for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                self.stream(image, blob, None, false);
            }
            return;
        }
        let layers = manifest.layers.len();
        let judge = |descriptor: &Descriptor, bytes: &[u8]| judge_config(descriptor, bytes, layers);
        let config = self.read(image, &manifest.config, judge);
        let diff_ids = config.map(|config| config.rootfs.diff_ids).unwrap_or_default();
        for (n, layer) in manifest.layers.iter().enumerate() {
            self.stream(
                image,
                layer,
                diff_ids.get(n).copied(),
                kind(&layer.media_type) == Kind::Layer,
            );
        }
    }

    /// Reads a small blob whole and reports what `judge` objects to.
    fn read<T>(
        &mut self,
        image: &str,
        descriptor: &Descriptor,
        judge: impl Fn(&Descriptor, &[u8]) -> Judged<T>,
    ) -> Option<T> {
        if descriptor.size > SMALL {
            self.flaw(
                image,
                &descriptor.digest,
                &format!("would have {} bytes, too many for a manifest or config", descriptor.size),
            );
            return None;
        }
        match self.store.read_blob(&descriptor.digest) {
            Ok(bytes) => {
                self.small.insert(descriptor.digest, bytes.len() as u64);
                let Judged { value, flaws } = judge(descriptor, &bytes);
                for what in flaws {
                    self.flaw(image, &descriptor.digest, &what);
                }
                value
            }
            Err(error) => {
                self.flaw(image, &descriptor.digest, &describe(&error));
                None
            }
        }
    }

    /// Judges what the entry of an image says of its tests: their list must be one that speaks
    /// about this very image, the newest of them.
    fn tests(&mut self, image: &str, entry: &Descriptor) -> Result<(), Error> {
        let Some(named) = entry.annotations.get(TESTS_ANNOTATION) else { return Ok(()) };
        if named == "none" {
            return Ok(());
        }
        let referrers = self.store.referrers(&entry.digest)?;
        let newest =
            referrers.iter().rfind(|one| one.artifact_type.as_deref() == Some(MEDIA_TESTS));
        let list = newest.and_then(|artifact| {
            let bytes = self.store.read_blob(&artifact.digest).ok()?;
            judge_manifest(artifact, &bytes).value?.layers.into_iter().next()
        });
        if list.is_none_or(|list| list.digest.to_string() != *named) {
            let index = self.store.dir().join("index.json");
            let what = format!(
                "says of {image} that its tests are {named:?}, and no list of tests in the store \
                    is that"
            );
            self.problem(Level::Error, &[image.to_owned()], index, &what);
        }
        Ok(())
    }

    /// Remembers a blob that is to be read as a stream.
    fn stream(
        &mut self,
        image: &str,
        descriptor: &Descriptor,
        diff_id: Option<Digest>,
        layer: bool,
    ) {
        let claim = Claim {
            size: descriptor.size,
            media_type: descriptor.media_type.clone(),
            diff_id,
            layer,
        };
        self.streams
            .entry(descriptor.digest)
            .or_default()
            .entry(claim)
            .or_default()
            .insert(image.to_owned());
    }

    /// Reads all streams in parallel; returns their bytes.
    fn read_streams(&mut self, sink: &Sink) -> u64 {
        let total = self
            .streams
            .values()
            .filter_map(|claims| claims.keys().map(|claim| claim.size).max())
            .fold(0, u64::saturating_add);
        let done = AtomicU64::new(0);
        let report = |what: &Digest, n: u64| {
            let done = done.fetch_add(n, Ordering::Relaxed) + n;
            sink(Event::Progress {
                task: "verify",
                what: what.short(),
                done,
                total: Some(total),
                bytes: true,
            });
        };
        let store = self.store;
        let streams: Vec<_> = self.streams.iter().collect();
        let read = || {
            streams
                .par_iter()
                .map(|(digest, claims)| {
                    let seen = blob::read(store, digest, claims.keys(), &|n| report(digest, n));
                    let mut problems = vec![];
                    for (claim, images) in *claims {
                        for what in seen.judge(digest, claim) {
                            let images = images.iter().cloned().collect();
                            problems.push(Problem {
                                level: Level::Error,
                                images,
                                path: store.blob_path(digest),
                                what,
                            });
                        }
                    }
                    (seen.size, problems)
                })
                .collect()
        };
        let found: Vec<(u64, Vec<Problem>)> = threads::in_pool(read);
        sink(Event::ProgressEnd { task: "verify" });
        let bytes = found.iter().map(|(size, _)| size).sum();
        self.problems.extend(found.into_iter().flat_map(|(_, problems)| problems));
        bytes
    }
}
