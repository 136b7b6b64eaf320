//! `index.json`: the truth about which versions there are. Entries and fields that bake did not write are kept as they are.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Map;
use serde_json::Value;

use super::Store;
use super::Version;
use crate::digest::Digest;
use crate::image::ANNOTATION_REF_NAME;
use crate::image::Descriptor;
use crate::image::Kind;
use crate::image::MEDIA_INDEX;
use crate::image::Reference;
use crate::image::kind;

/// Longest `index.json` that is read: some hundred thousand versions.
pub(super) const LIMIT: u64 = 256 << 20;

/// Annotation of an entry without a name: the digest of the manifest that it speaks about, so that nobody has to read it to know.
const ANNOTATION_SUBJECT: &str = "bake.subject";

/// The index, with its entries in order of publication.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct IndexFile {
    fields: Map<String, Value>,
    entries: Vec<Value>,
}

impl IndexFile {
    /// The index of a store without versions.
    pub(super) fn empty() -> Self {
        let mut fields = Map::new();
        fields.insert("schemaVersion".to_owned(), 2.into());
        fields.insert("mediaType".to_owned(), MEDIA_INDEX.into());
        fields.insert("manifests".to_owned(), Value::Null);
        Self { fields, entries: vec![] }
    }

    /// Reads an index; an error says what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes).map_err(|e| format!("not JSON: {e}"))?;
        let Value::Object(mut fields) = value else { return Err("not a JSON object".to_owned()) };
        match fields.get("schemaVersion") {
            Some(version) if version.as_u64() == Some(2) => {}
            Some(other) => return Err(format!("schemaVersion is {other}, not 2")),
            None => return Err("schemaVersion is missing".to_owned()),
        }
        // Its place among the fields is kept, so that rewriting moves nothing.
        let entries = match fields.insert("manifests".to_owned(), Value::Null) {
            Some(Value::Array(entries)) => entries,
            Some(Value::Null) => vec![],
            Some(_) => return Err("manifests is not a list".to_owned()),
            None => return Err("manifests is missing".to_owned()),
        };
        Ok(Self { fields, entries })
    }

    /// Returns its bytes: compact JSON, in the order read and appended.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut fields = self.fields.clone();
        fields.insert("manifests".to_owned(), Value::Array(self.entries.clone()));
        serde_json::to_vec(&fields).expect("JSON values are writable")
    }

    /// Returns every entry as a descriptor, where it is one that names a sha256 blob.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = Option<Descriptor>> {
        self.entries.iter().map(|entry| Descriptor::deserialize(entry).ok())
    }

    /// Returns the versions, oldest publication first. When a foreign tool has written a version twice the first counts, as
    /// it does for other readers.
    pub(super) fn versions(&self) -> Vec<Version> {
        let mut seen = BTreeMap::new();
        for (n, manifest) in self.descriptors().enumerate() {
            let Some(manifest) = manifest else { continue };
            let Some(reference) = version_of(&manifest) else { continue };
            seen.entry(reference).or_insert((n, manifest));
        }
        let mut versions: Vec<_> = seen.into_iter().map(|(reference, (n, manifest))| (n, Version::new(reference, manifest))).collect();
        versions.sort_by_key(|(n, _)| *n);
        versions.into_iter().map(|(_, version)| version).collect()
    }

    /// Appends a version, and those of its referrers that are not there yet.
    pub(super) fn push(&mut self, version: &Version) {
        let entry = version.manifest.clone().with_annotation(ANNOTATION_REF_NAME, version.reference.to_string());
        self.entries.push(serde_json::to_value(entry).expect("a descriptor is writable"));
        self.push_referrers(version);
    }

    /// Brings the entry of a version up to date: sets the annotations given, and appends those of its referrers that are not there yet.
    pub(super) fn renew(&mut self, version: &Version) {
        for entry in &mut self.entries {
            let Ok(mut manifest) = Descriptor::deserialize(&*entry) else { continue };
            if version_of(&manifest).as_ref() != Some(&version.reference) {
                continue;
            }
            let before = manifest.annotations.clone();
            manifest.annotations.extend(version.manifest.annotations.clone());
            if manifest.annotations != before {
                *entry = serde_json::to_value(manifest).expect("a descriptor is writable");
            }
        }
        self.push_referrers(version);
    }

    fn push_referrers(&mut self, version: &Version) {
        let known: BTreeSet<Digest> = self.descriptors().flatten().filter(is_nameless).map(|entry| entry.digest).collect();
        let subject = version.manifest.digest.to_string();
        for referrer in version.referrers.iter().filter(|referrer| !known.contains(&referrer.digest)) {
            let entry = referrer.clone().with_annotation(ANNOTATION_SUBJECT, &subject);
            self.entries.push(serde_json::to_value(entry).expect("a descriptor is writable"));
        }
    }

    /// Takes every entry of a version out.
    pub(super) fn remove(&mut self, reference: &Reference) {
        self.retain(|manifest| version_of(manifest).as_ref() != Some(reference));
    }

    /// Takes out the entries without a name that have one of these digests.
    pub(super) fn remove_nameless(&mut self, digests: &BTreeSet<Digest>) {
        self.retain(|manifest| !is_nameless(manifest) || !digests.contains(&manifest.digest));
    }

    /// Keeps what `keep` says, and what is no descriptor of a sha256 blob.
    fn retain(&mut self, keep: impl Fn(&Descriptor) -> bool) {
        self.entries.retain(|entry| Descriptor::deserialize(entry).map_or(true, |manifest| keep(&manifest)));
    }

    /// Returns the entries without a name that speak about another manifest. Those of other tools are read for it; what cannot be
    /// read speaks about nothing.
    pub(super) fn referrers(&self, store: &Store) -> Vec<Referrer> {
        let mut found = vec![];
        for manifest in self.descriptors().flatten().filter(is_nameless) {
            let told = manifest.annotations.get(ANNOTATION_SUBJECT).and_then(|subject| subject.parse().ok());
            if let Some(subject) = told.or_else(|| subject_of(store, &manifest)) {
                found.push(Referrer { manifest, subject });
            }
        }
        found
    }
}

/// An entry that speaks about another manifest.
#[derive(Debug, Clone)]
pub(super) struct Referrer {
    pub(super) manifest: Descriptor,
    pub(super) subject: Digest,
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
    let reference: Reference = manifest.annotations.get(ANNOTATION_REF_NAME)?.parse().ok()?;
    (reference.version.is_some() && reference.digest.is_none()).then_some(reference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::MEDIA_MANIFEST;

    fn version(name: &str, content: &str) -> Version {
        Version::new(name.parse().expect("valid"), Descriptor::new(MEDIA_MANIFEST, Digest::of(content), 7))
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
        index.push(&version("web:1", "a"));
        index.push(&version("web:2", "b"));
        index.push(&version("app:1", "a"));
        let names: Vec<String> = index.versions().iter().map(|v| v.reference.to_string()).collect();
        assert_eq!(names, ["web:1", "web:2", "app:1"]);
        for name in ["web:1", "web:2", "app:1"] {
            index.remove(&name.parse().expect("valid"));
        }
        assert_eq!(String::from_utf8(index.to_json()).expect("UTF-8"), text);
    }

    #[test]
    fn the_first_of_two_equal_names_counts() {
        let mut index = IndexFile::empty();
        index.push(&version("web:1", "a"));
        index.push(&version("web:1", "b"));
        let versions = index.versions();
        assert_eq!(versions.len(), 1);
        assert_eq!(versions[0].manifest.digest, Digest::of("a"));
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
        ] {
            let error = IndexFile::parse(text.as_bytes()).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
        let empty = IndexFile::empty();
        assert_eq!(IndexFile::parse(&empty.to_json()).expect("own bytes").versions().len(), 0);
    }
}
