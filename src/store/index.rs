//! `index.json`: the truth about which versions there are. Entries and fields that bake did not
//! write are kept as they are.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::error::{Error, reading};
use super::tested::{PLATFORMS_ANNOTATION, TESTED_ANNOTATION, TESTS_ANNOTATION, UNTESTED};
use super::{Store, Version, disk};
use crate::digest::Digest;
use crate::image::{ANNOTATION_REF_NAME, Descriptor, Kind, MEDIA_INDEX, Reference, kind};

/// Longest `index.json` that is read: some hundred thousand versions.
pub(super) const LIMIT: u64 = 256 << 20;

/// Annotation of an entry without a name: the digest of the manifest that it speaks about, so that
/// nobody has to read it to know.
pub(super) const ANNOTATION_SUBJECT: &str = "bake.subject";

/// Annotation of a version's entry: when it was published, RFC 3339. Images do not say so, as they
/// are made to be the same for ever.
pub const PUBLISHED_ANNOTATION: &str = "bake.published";

/// Annotation of a version's entry: the keys of its steps, as [`step_keys`] writes them. Not in the
/// image: what a step was made from may change while what it makes stays the same, and then the
/// image must stay the same too.
pub const STEP_KEYS_ANNOTATION: &str = "bake.step-keys";

/// Writes the keys of steps, one for each entry of the image's history, as one line: the first
/// digits of each (as [`Digest::short`]; the index has them of every version), `-` for a step
/// without a key.
pub fn step_keys(keys: impl Iterator<Item = Option<Digest>>) -> String {
    keys.map(|key| key.map_or_else(|| "-".to_owned(), |key| key.short()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Reads what [`step_keys`] has written; what is no beginning of a key is none.
pub fn read_step_keys(line: &str) -> impl Iterator<Item = Option<String>> {
    let digits =
        |key: &str| key.len() == 12 && key.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    line.split(' ').map(move |key| digits(key).then(|| key.to_owned()))
}

/// The index, with its entries in order of publication. All texts are those that were read: writing
/// it changes nothing but what was added or taken out.
#[derive(Debug, Clone)]
pub(super) struct IndexFile {
    /// All fields in their order; that of `manifests` is not looked at.
    fields: Vec<(String, Box<RawValue>)>,
    entries: Vec<Entry>,
}

/// An entry as it was written, and what it says where it names a sha256 blob.
#[derive(Debug, Clone)]
struct Entry {
    text: Box<RawValue>,
    descriptor: Result<Descriptor, NoDescriptor>,
}

/// An entry of `index.json` that names no sha256 blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoDescriptor {
    /// What it is called, as far as that can be read.
    pub name: Option<String>,
    /// What is wrong with it; `None` where it names a blob by another digest, as others may.
    pub flaw: Option<String>,
}

impl Entry {
    fn new(descriptor: Descriptor) -> Self {
        Self {
            text: serde_json::value::to_raw_value(&descriptor).expect("a descriptor is writable"),
            descriptor: Ok(descriptor),
        }
    }

    fn read(text: Box<RawValue>) -> Self {
        let read = serde_json::from_str::<Descriptor>(text.get());
        Self { descriptor: read.map_err(|error| NoDescriptor::judge(text.get(), &error)), text }
    }
}

impl NoDescriptor {
    /// Says what the entry `text`, which cannot be read because of `error`, is called, and whether
    /// it is one that others can read.
    fn judge(text: &str, error: &serde_json::Error) -> Self {
        let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let name = value["annotations"][ANNOTATION_REF_NAME].as_str().map(str::to_owned);
        let is_version = name.as_deref().is_some_and(|name| version_called(name).is_some());
        // image-spec, "descriptor.md": algorithm ":" encoded. What bake calls a version is of
        // sha256 always.
        let foreign = |digest: &str| {
            digest.split_once(':').is_some_and(|(algorithm, encoded)| {
                let word = |text: &str, more: &str| {
                    !text.is_empty()
                        && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
                };
                algorithm != "sha256" && word(algorithm, "+._-") && word(encoded, "=_-")
            })
        };
        let fine = value["digest"].as_str().is_some_and(foreign) && value["size"].is_u64();
        let flaw = (is_version || !fine).then(|| error.to_string());
        Self { name, flaw }
    }
}

impl IndexFile {
    /// The index of a store without versions.
    pub(super) fn empty() -> Self {
        let text = format!(r#"{{"schemaVersion":2,"mediaType":"{MEDIA_INDEX}","manifests":[]}}"#);
        Self::parse(text.as_bytes()).expect("an index")
    }

    /// Reads an index; an error says what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Fields(fields) = serde_json::from_slice(bytes).map_err(|e| {
            if e.is_data() { "not a JSON object".to_owned() } else { format!("not JSON: {e}") }
        })?;
        let field = |name: &str| {
            let mut found =
                fields.iter().filter(|(key, _)| key == name).map(|(_, value)| value.get());
            match (found.next(), found.next()) {
                (Some(value), None) => Ok(value),
                (None, _) => Err(format!("{name} is missing")),
                // Which of them counts, readers do not agree on.
                (Some(_), Some(_)) => Err(format!("{name} is there twice")),
            }
        };
        let version = field("schemaVersion")?;
        if version != "2" {
            return Err(format!("schemaVersion is {version}, not 2"));
        }
        let texts: Option<Vec<Box<RawValue>>> = serde_json::from_str(field("manifests")?)
            .map_err(|_| "manifests is not a list".to_owned())?;
        let entries = texts.unwrap_or_default().into_iter().map(Entry::read);
        Ok(Self { entries: entries.collect(), fields })
    }

    /// Returns its bytes: compact JSON, in the order read and appended.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(
            256 + self.entries.iter().map(|entry| entry.text.get().len() + 1).sum::<usize>(),
        );
        out.push(b'{');
        for (n, (name, value)) in self.fields.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend(serde_json::to_vec(name).expect("a string is writable"));
            out.push(b':');
            if name != "manifests" {
                out.extend(value.get().as_bytes());
                continue;
            }
            out.push(b'[');
            for (n, entry) in self.entries.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                out.extend(entry.text.get().as_bytes());
            }
            out.push(b']');
        }
        out.push(b'}');
        out
    }

    /// Returns every entry as a descriptor, where it is one that names a sha256 blob.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = Option<&Descriptor>> {
        self.entries.iter().map(|entry| entry.descriptor.as_ref().ok())
    }

    /// Returns every entry, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Result<Descriptor, NoDescriptor>> {
        self.entries.iter().map(|entry| &entry.descriptor)
    }

    /// Returns the versions whose entries are damaged, and what is wrong with each: they are there,
    /// and what they are is unknown.
    pub(super) fn damaged(&self) -> impl Iterator<Item = (Reference, &str)> {
        self.entries().filter_map(|entry| {
            let NoDescriptor { name, flaw } = entry.as_ref().err()?;
            Some((version_called(name.as_deref()?)?, flaw.as_deref()?))
        })
    }

    /// Returns the versions, oldest publication first. When a foreign tool has written a version
    /// twice the first counts, as it does for other readers.
    pub(super) fn versions(&self) -> Vec<Version> {
        let mut seen = HashSet::new();
        let mut versions = vec![];
        for manifest in self.descriptors().flatten() {
            // A reference has one spelling, so the text can stand for it.
            if let Some(name) = manifest.annotations.get(ANNOTATION_REF_NAME)
                && let Some(reference) = version_of(manifest)
                && seen.insert(name)
            {
                versions.push(Version::new(reference, manifest.clone()));
            }
        }
        versions
    }

    /// Returns one version.
    pub(super) fn get(&self, reference: &Reference) -> Option<&Descriptor> {
        if !reference.is_version() {
            return None;
        }
        let name = reference.to_string();
        self.descriptors()
            .flatten()
            .find(|manifest| manifest.annotations.get(ANNOTATION_REF_NAME) == Some(&name))
    }

    /// Appends a version, and those of its referrers that are not there yet. `now`: when that is,
    /// RFC 3339.
    pub(super) fn push(&mut self, version: &Version, now: &str) {
        let entry = version
            .manifest
            .clone()
            .with_annotation(ANNOTATION_REF_NAME, version.reference.to_string());
        self.entries.push(Entry::new(entry.with_annotation(PUBLISHED_ANNOTATION, now)));
        self.push_referrers(version);
    }

    /// Brings the entry of a version up to date: sets the annotations given, and appends those of
    /// its referrers that are not there yet.
    pub(super) fn renew(&mut self, version: &Version) {
        for entry in &mut self.entries {
            let Some(manifest) = entry
                .descriptor
                .as_ref()
                .ok()
                .filter(|manifest| version_of(manifest).as_ref() == Some(&version.reference))
            else {
                continue;
            };
            let mut renewed = manifest.clone();
            renewed.annotations.extend(version.manifest.annotations.clone());
            // What has passed these very tests stays passed, also where somebody leaves them out
            // later.
            let of = |one: &Descriptor, name: &str| one.annotations.get(name).cloned();
            // (Of an index each image has been asked that.)
            let same = of(manifest, TESTS_ANNOTATION) == of(&renewed, TESTS_ANNOTATION)
                && of(&renewed, PLATFORMS_ANNOTATION).is_none();
            if same && of(&renewed, TESTED_ANNOTATION).as_deref() == Some(UNTESTED) {
                renewed.annotations.extend(
                    of(manifest, TESTED_ANNOTATION).map(|was| (TESTED_ANNOTATION.to_owned(), was)),
                );
            }
            if renewed != *manifest {
                *entry = Entry::new(renewed);
            }
        }
        self.push_referrers(version);
    }

    fn push_referrers(&mut self, version: &Version) {
        let subject = version.manifest.digest.to_string();
        for referrer in &version.referrers {
            let known = |entry: &Descriptor| is_nameless(entry) && entry.digest == referrer.digest;
            if !self.descriptors().flatten().any(known) {
                // What speaks about an image of an index says which.
                let of = referrer.annotations.get(ANNOTATION_SUBJECT).unwrap_or(&subject);
                let entry = referrer.clone().with_annotation(ANNOTATION_SUBJECT, of);
                self.entries.push(Entry::new(entry));
            }
        }
    }

    /// Takes every entry of these versions out.
    pub(super) fn remove(&mut self, references: &BTreeSet<Reference>) {
        self.retain(|manifest| {
            version_of(manifest).is_none_or(|reference| !references.contains(&reference))
        });
    }

    /// Takes out the entries without a name that have one of these digests.
    pub(super) fn remove_nameless(&mut self, digests: &BTreeSet<Digest>) {
        self.retain(|manifest| !is_nameless(manifest) || !digests.contains(&manifest.digest));
    }

    /// Keeps what `keep` says, and what is no descriptor of a sha256 blob.
    fn retain(&mut self, keep: impl Fn(&Descriptor) -> bool) {
        self.entries.retain(|entry| entry.descriptor.as_ref().map_or(true, &keep));
    }

    /// Returns the entries without a name that speak about another manifest. Those of other tools
    /// are read for it; what cannot be read speaks about nothing.
    pub(super) fn referrers(&self, store: &Store) -> Vec<Referrer> {
        let mut found = vec![];
        for manifest in self.descriptors().flatten().filter(|entry| is_nameless(entry)) {
            let annotated = annotated_subject(manifest);
            if let Some(subject) = annotated.or_else(|| subject_of(store, manifest)) {
                found.push(Referrer { manifest: manifest.clone(), subject });
            }
        }
        found
    }
}

impl Store {
    /// Reads `index.json`: its bytes and what they say.
    pub(super) fn index(&self) -> Result<(Vec<u8>, IndexFile), Error> {
        let path = self.dir.join("index.json");
        let Some(bytes) = disk::read(&path, LIMIT).map_err(reading)? else {
            // `judge` has refused a store where its absence would mean a loss.
            let empty = IndexFile::empty();
            return Ok((empty.to_json(), empty));
        };
        let index = IndexFile::parse(&bytes).map_err(|why| Error::Damaged { path, why })?;
        Ok((bytes, index))
    }
}

/// The fields of a JSON object, each as it was written.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = vec![];
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// An entry that speaks about another manifest.
#[derive(Debug, Clone)]
pub(super) struct Referrer {
    pub(super) manifest: Descriptor,
    pub(super) subject: Digest,
}

/// Returns what an entry without a name is annotated to speak about.
pub(super) fn annotated_subject(manifest: &Descriptor) -> Option<Digest> {
    manifest.annotations.get(ANNOTATION_SUBJECT)?.parse().ok()
}

/// Reads what a manifest speaks about.
fn subject_of(store: &Store, manifest: &Descriptor) -> Option<Digest> {
    if !matches!(kind(&manifest.media_type), Kind::Manifest | Kind::Index) {
        return None;
    }
    // Both kinds have the field in the same place.
    let bytes = store.read_blob(&manifest.digest).ok()?;
    subject_in(&bytes).map(|subject| subject.digest)
}

/// Returns the `subject` of the manifest or index in `bytes`.
pub(super) fn subject_in(bytes: &[u8]) -> Option<Descriptor> {
    #[derive(Deserialize)]
    struct Subject {
        subject: Option<Descriptor>,
    }
    serde_json::from_slice::<Subject>(bytes).ok()?.subject
}

fn is_nameless(manifest: &Descriptor) -> bool {
    !manifest.annotations.contains_key(ANNOTATION_REF_NAME)
}

/// Returns the version that an entry is called, where it is called one.
fn version_of(manifest: &Descriptor) -> Option<Reference> {
    version_called(manifest.annotations.get(ANNOTATION_REF_NAME)?)
}

fn version_called(name: &str) -> Option<Reference> {
    let reference: Reference = name.parse().ok()?;
    reference.is_version().then_some(reference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::MEDIA_MANIFEST;

    const NOW: &str = "2026-11-23T09:00:00Z";

    fn version(name: &str, content: &str) -> Version {
        Version::new(
            name.parse().expect("valid"),
            Descriptor::new(MEDIA_MANIFEST, Digest::of(content), 7),
        )
    }

    #[test]
    fn what_others_wrote_is_kept() {
        let text = format!(
            r#"{{"manifests":[{{"size":1,"digest":"sha512:{}","x":1}},{{"mediaType":"m","digest":"{}","size":2,"annotations":{{"org.opencontainers.image.ref.name":"latest"}}}}],"schemaVersion":2,"vendor":{{"b":1,"a":2}}}}"#,
            "0".repeat(128),
            Digest::of("x")
        );
        let mut index = IndexFile::parse(text.as_bytes()).expect("valid");
        assert_eq!(String::from_utf8(index.to_json()).expect("UTF-8"), text);
        assert!(index.versions().is_empty());
        index.push(&version("web:1", "a"), NOW);
        index.push(&version("web:2", "b"), NOW);
        index.push(&version("app:1", "a"), NOW);
        let names: Vec<String> = index.versions().iter().map(|v| v.reference.to_string()).collect();
        assert_eq!(names, ["web:1", "web:2", "app:1"]);
        index.remove(&["web:1", "web:2", "app:1"].map(|name| name.parse().expect("valid")).into());
        assert_eq!(String::from_utf8(index.to_json()).expect("UTF-8"), text);
    }

    #[test]
    fn the_first_of_two_equal_names_counts() {
        let mut index = IndexFile::empty();
        index.push(&version("web:1", "a"), NOW);
        index.push(&version("web:1", "b"), NOW);
        let versions = index.versions();
        assert_eq!(versions.len(), 1);
        assert_eq!(versions[0].manifest.digest, Digest::of("a"));
        let get =
            |name: &str| index.get(&name.parse().expect("valid")).map(|manifest| manifest.digest);
        assert_eq!((get("web:1"), get("web:2"), get("web")), (Some(Digest::of("a")), None, None));
    }

    #[test]
    fn garbage_is_refused_with_a_reason() {
        for (text, why) in [
            ("", "not JSON"),
            ("{", "not JSON"),
            ("[]", "object"),
            ("{}", "schemaVersion is missing"),
            (r#"{"schemaVersion":1}"#, "schemaVersion is 1"),
            (r#"{"schemaVersion":2}"#, "manifests is missing"),
            (r#"{"schemaVersion":2,"manifests":{}}"#, "not a list"),
            (r#"{"schemaVersion":2,"manifests":[],"manifests":[]}"#, "manifests is there twice"),
            (r#"{"schemaVersion":2.5,"manifests":[]}"#, "schemaVersion is 2.5"),
            (r#"{"schemaVersion":2,"manifests":[]} x"#, "not JSON"),
        ] {
            let error = IndexFile::parse(text.as_bytes()).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
        let empty = IndexFile::empty();
        assert_eq!(IndexFile::parse(&empty.to_json()).expect("own bytes").versions().len(), 0);
    }
}
