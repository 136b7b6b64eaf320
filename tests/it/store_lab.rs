//! What the store's tests share: small real images, and a look at a store as others see it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bake::digest::Digest;
use bake::image::{
    Descriptor, History, ImageConfig, MEDIA_CONFIG, MEDIA_EMPTY, MEDIA_LAYER_GZIP, MEDIA_MANIFEST,
    Manifest, Platform, Reference,
};
use bake::store::{Error, Staging, Store, Version};

pub(crate) const EPOCH: i64 = 1_700_000_000;

pub(crate) fn reference(text: &str) -> Reference {
    text.parse().expect("a reference")
}

/// A tar with these files (a name that ends in `/` is a directory), root's, of the epoch.
pub(crate) fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(vec![]);
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        let (kind, mode) = if name.ends_with('/') {
            (tar::EntryType::Directory, 0o755)
        } else {
            (tar::EntryType::Regular, 0o644)
        };
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(EPOCH as u64);
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content.as_bytes()).expect("to memory");
    }
    builder.into_inner().expect("to memory")
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(bytes).expect("to memory");
    encoder.finish().expect("to memory")
}

/// An image in parts, to be changed before it is put together.
pub(crate) struct Parts {
    pub(crate) config: ImageConfig,
    /// Media type, and bytes as stored.
    pub(crate) layers: Vec<(&'static str, Vec<u8>)>,
}

impl Parts {
    /// Two layers: one that all images share, and one with `content` in `/etc/motd`.
    pub(crate) fn new(content: &str) -> Self {
        let mut config = ImageConfig::new(EPOCH, &Platform::host());
        config.config.cmd = vec!["/bin/sh".to_owned()];
        config.config.labels.insert("made.by".to_owned(), "a test".to_owned());
        config.config.exposed_ports.insert("80/tcp".to_owned());
        let mut layers = vec![];
        let base = tar(&[("bin/", ""), ("bin/sh", "#!"), ("etc/", "")]);
        for (tar, by) in
            [(base, "the base"), (tar(&[("etc/", ""), ("etc/motd", content)]), "write the motd")]
        {
            config.rootfs.diff_ids.push(Digest::of(&tar));
            config.history.push(History::new(EPOCH, by, "", false));
            layers.push((MEDIA_LAYER_GZIP, gzip(&tar)));
        }
        config.history.push(History::new(EPOCH, "config", "", true));
        Self { config, layers }
    }

    pub(crate) fn put(&self, staging: &Staging, name: &str) -> Version {
        self.try_put(staging, name).expect("put")
    }

    pub(crate) fn try_put(&self, staging: &Staging, name: &str) -> Result<Version, Error> {
        let put = |media: &str, bytes: &[u8]| {
            staging.put(bytes).map(|(digest, size)| Descriptor::new(media, digest, size))
        };
        let layers =
            self.layers.iter().map(|(media, bytes)| put(media, bytes)).collect::<Result<_, _>>()?;
        let config = put(MEDIA_CONFIG, &self.config.to_json())?;
        let manifest = put(MEDIA_MANIFEST, &Manifest::new(config, layers).to_json())?;
        Ok(Version::new(reference(name), manifest))
    }
}

/// Puts a small image into the staging directory.
pub(crate) fn image(staging: &Staging, name: &str, content: &str) -> Version {
    Parts::new(content).put(staging, name)
}

/// Puts what speaks about `subject` into the staging directory: an artifact with one file.
pub(crate) fn referrer(staging: &Staging, subject: &Descriptor, text: &str) -> Descriptor {
    let put = |media: &str, bytes: &[u8]| {
        staging.put(bytes).map(|(digest, size)| Descriptor::new(media, digest, size)).expect("put")
    };
    let mut manifest =
        Manifest::new(put(MEDIA_EMPTY, b"{}"), vec![put("text/plain", text.as_bytes())]);
    manifest.artifact_type = Some("text/plain".to_owned());
    manifest.subject =
        Some(Descriptor::new(subject.media_type.clone(), subject.digest, subject.size));
    let mut descriptor = put(MEDIA_MANIFEST, &manifest.to_json());
    descriptor.artifact_type = manifest.artifact_type;
    descriptor
}

/// Publishes a small image.
pub(crate) fn publish(store: &Store, name: &str, content: &str) -> Version {
    let staging = store.staging().expect("staging");
    let version = image(&staging, name, content);
    store.publish(&staging, std::slice::from_ref(&version)).expect("publish");
    version
}

/// Everything in a directory: each path with its mode and content.
pub(crate) fn tree(dir: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(dir) {
        let entry = entry.expect("walk");
        let meta = entry.metadata().expect("stat");
        let bytes = if meta.is_file() { fs::read(entry.path()).expect("read") } else { vec![] };
        let name = entry.path().strip_prefix(dir).expect("inside").to_string_lossy().into_owned();
        found.insert(name, (meta.permissions().mode(), bytes));
    }
    found
}

/// Waits until files are stamped with a later time than those that were just written: file times
/// have a coarse clock.
pub(crate) fn tick() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().expect("a directory");
    let stamp = || {
        let path = dir.path().join("stamp");
        fs::write(&path, "").expect("write");
        let meta = fs::metadata(&path).expect("stat");
        fs::remove_file(&path).expect("remove");
        (meta.ctime(), meta.ctime_nsec())
    };
    let first = stamp();
    while !coarse_after(first) {
        std::hint::spin_loop();
    }
}

fn coarse_after((seconds, nanos): (i64, i64)) -> bool {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    (now.tv_sec, now.tv_nsec) > (seconds, nanos)
}

/// The versions in the store, as text.
pub(crate) fn names(store: &Store) -> Vec<String> {
    store
        .versions()
        .expect("versions")
        .iter()
        .map(|version| version.reference.to_string())
        .collect()
}

/// Makes sure that every version is whole, bit by bit, and that nothing lies around.
pub(crate) fn check_whole(store: &Store) {
    for version in store.versions().expect("versions") {
        let manifest =
            Manifest::parse(&store.read_blob(&version.manifest.digest).expect("manifest"))
                .expect("a manifest");
        for blob in manifest.descriptors() {
            store.blob_of(blob).expect("of its size");
            store.read_blob(&blob.digest).expect("of its digest");
        }
    }
    assert_eq!(store.strays().expect("strays"), []);
}
