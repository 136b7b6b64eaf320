//! Images as the OCI describes them (image-spec, "manifest.md", "image-index.md"): from what names
//! one to its config, through indexes; and the layout that keeps them in files
//! ("image-layout.md"), as skopeo, podman, umoci, buildah and `docker save` write it.

use serde_json::Value;

use super::error::Error;
use super::files::Files;
use super::found::{self, Found, FoundManifest, Layer, SmallBlobs, same_platform};
use crate::digest::Digest;
use crate::image::{
    self, ANNOTATION_REF_NAME, Descriptor, Index, Kind, Manifest, Platform, judge_index, kind,
    wrong_size,
};
use crate::layer::Compression;
use crate::trial::compression;

/// Largest index, manifest or config.
pub(super) const MOST: u64 = 16 << 20;

/// Most indexes inside each other.
const DEPTH: usize = 4;

/// Where containerd and Docker write what an image is called.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// How the media types of Docker's first manifests begin.
const SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1";

impl SmallBlobs for Files {
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let bytes = self.small(&path(&descriptor.digest), MOST)?;
        let found = Digest::of(&bytes);
        let wrong = |why: String| {
            Files::wrong(self, format!("has a blob {} that {why}", descriptor.digest))
        };
        if bytes.len() as u64 != descriptor.size {
            return Err(wrong(wrong_size(bytes.len() as u64, descriptor.size)));
        }
        if found != descriptor.digest {
            return Err(wrong(format!("is corrupt: its bytes are {found}")));
        }
        Ok(bytes)
    }

    fn wrong(&self, why: String) -> Error {
        Files::wrong(self, why)
    }
}

/// Finds the image called `wanted` in a layout, or the only one, for `platform`.
pub(super) fn find(
    files: &Files,
    wanted: Option<&str>,
    platform: &Platform,
) -> Result<Found, Error> {
    image(files, &named(files, wanted)?, platform)
}

/// Finds the image called `wanted` in a layout, or the only one.
fn named(files: &Files, wanted: Option<&str>) -> Result<Descriptor, Error> {
    let bytes = files.small("index.json", MOST)?;
    let index = Index::parse(&bytes)
        .map_err(|error| files.wrong(format!("has a damaged index.json: {}", error.source)))?;
    if let Some(flaw) = index.validate().first() {
        return Err(files.wrong(format!("has an index.json that {flaw}")));
    }
    let images = |one: &&Descriptor| {
        let known = matches!(kind(&one.media_type), Kind::Manifest | Kind::Index);
        (known || one.media_type.starts_with(SCHEMA_1)) && one.artifact_type.is_none()
    };
    let all: Vec<&Descriptor> = index.manifests.iter().filter(images).collect();
    let names = |one: &Descriptor| -> Vec<String> {
        [CONTAINERD_NAME, ANNOTATION_REF_NAME]
            .iter()
            .filter_map(|key| one.annotations.get(*key).cloned())
            .collect()
    };
    let called =
        |one: &&&Descriptor| wanted.is_none_or(|name| names(one).iter().any(|n| n == name));
    let fitting: Vec<&&Descriptor> = all.iter().filter(called).collect();
    match fitting[..] {
        [one] => Ok((*one).clone()),
        [] if all.is_empty() => Err(files.wrong("has no image")),
        _ => {
            let shown = |one: &&Descriptor| {
                names(one).into_iter().next().unwrap_or_else(|| one.digest.to_string())
            };
            Err(files.which(wanted, all.iter().map(shown).collect()))
        }
    }
}

/// Returns the descriptor of a manifest of the layout by its digest alone; `None` where it is not
/// there.
pub(super) fn by_digest(files: &Files, digest: &Digest) -> Result<Option<Descriptor>, Error> {
    if !files.has(&path(digest))? {
        return Ok(None);
    }
    let bytes = files.small(&path(digest), MOST)?;
    let value: Option<Value> = serde_json::from_slice(&bytes).ok();
    let own = value.as_ref().and_then(|value| value.get("mediaType")).and_then(Value::as_str);
    let media_type = own.unwrap_or(image::MEDIA_MANIFEST);
    Ok(Some(Descriptor::new(media_type, *digest, bytes.len() as u64)))
}

/// Where a blob is in a layout.
pub(super) fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Reads the image that `descriptor` names; of an index the one for `platform`.
///
/// # Errors
/// Where it is not what it says. A single image for another platform is none.
pub(super) fn image(
    blobs: &dyn SmallBlobs,
    descriptor: &Descriptor,
    platform: &Platform,
) -> Result<Found, Error> {
    let mut next = descriptor.clone();
    for _ in 0..=DEPTH {
        let bytes = blobs.blob(&next)?;
        if kind(&next.media_type) != Kind::Index {
            let config = |descriptor: &Descriptor| blobs.blob(descriptor);
            let found = manifest(&next, bytes, &config, &|why| blobs.wrong(why))?;
            let is = found::platform(&found.config);
            if let Some(named) = next.platform.filter(|named| !same_platform(named, &is)) {
                return Err(blobs.wrong(format!(
                    "has a manifest {} for {is}, and its index says {named}",
                    next.digest
                )));
            }
            return Ok(found);
        }
        let index = judge_index(&next, &bytes).strict(&next);
        let index =
            index.map_err(|flawed| blobs.wrong(format!("is not what it says: {flawed}")))?;
        next = chosen(&index, platform).cloned().ok_or_else(|| {
            let have = index.manifests.iter().filter_map(|one| one.platform.as_ref());
            let have: Vec<String> = have.map(ToString::to_string).collect();
            let only = if have.is_empty() { "none at all".to_owned() } else { have.join(", ") };
            blobs.wrong(format!("has no image for {platform}, only for {only}"))
        })?;
    }
    Err(blobs.wrong(format!("has more than {DEPTH} indexes inside each other")))
}

/// Returns what of an index is for `platform`: with its very variant, where that is there.
fn chosen<'i>(index: &'i Index, platform: &Platform) -> Option<&'i Descriptor> {
    let fits = |exact: bool| {
        move |one: &&Descriptor| {
            one.platform.as_ref().is_some_and(|is| {
                same_platform(is, platform) && (!exact || is.variant == platform.variant)
            })
        }
    };
    let found = index.manifests.iter().find(fits(true));
    found.or_else(|| index.manifests.iter().find(fits(false))).or(match &index.manifests[..] {
        // What holds one thing need not say what that runs on.
        [one] if one.platform.is_none() => Some(one),
        _ => None,
    })
}

/// Reads the manifest of an image, and its config by `config`.
pub(super) fn manifest(
    descriptor: &Descriptor,
    bytes: Vec<u8>,
    config: &dyn Fn(&Descriptor) -> Result<Vec<u8>, Error>,
    wrong: &dyn Fn(String) -> Error,
) -> Result<Found, Error> {
    let not_whole = wrong;
    let wrong = |why: String| not_whole(format!("has a manifest {} that {why}", descriptor.digest));
    let first = serde_json::from_slice::<Value>(&bytes).ok();
    let version = first.as_ref().and_then(|value| value.get("schemaVersion"));
    if descriptor.media_type.starts_with(SCHEMA_1) || version == Some(&Value::from(1)) {
        return Err(wrong(
            "is of Docker's schema 1 (schemaVersion is 1), which names neither config nor sizes"
                .to_owned(),
        ));
    }
    let mut manifest = Manifest::parse(&bytes)
        .map_err(|error| wrong(format!("cannot be read: {}", error.source)))?;
    // A descriptor and what it names must agree on what that is (CVE-2021-41190).
    let own = manifest.media_type.clone();
    if own.as_ref().is_some_and(|own| *own != descriptor.media_type) {
        let named = &descriptor.media_type;
        return Err(wrong(format!(
            "calls itself {:?}, and is named as {named:?}",
            own.unwrap_or_default()
        )));
    }
    manifest.media_type.get_or_insert(descriptor.media_type.clone());
    if let Some(flaw) = manifest.layers.iter().enumerate().find_map(foreign) {
        return Err(wrong(flaw));
    }
    if let Some(flaw) = manifest.validate().first() {
        return Err(wrong(flaw.clone()));
    }
    if manifest.artifact_type.is_some() {
        return Err(wrong("is an artifact, no image".to_owned()));
    }
    let config_bytes = config(&manifest.config)?;
    let config =
        found::config(&manifest.config, &config_bytes, manifest.layers.len()).map_err(not_whole)?;
    let mut layers = vec![];
    for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        let how: Compression = compression(&layer.media_type)
            .ok_or_else(|| wrong(format!("has a layer of type {:?}", layer.media_type)))?;
        layers.push(Layer {
            path: path(&layer.digest),
            expected: Some((layer.digest, layer.size)),
            how: Some(how),
            diff_id: *diff_id,
        });
    }
    let ours = own.as_deref() == Some(image::MEDIA_MANIFEST)
        && manifest.config.media_type == image::MEDIA_CONFIG
        && manifest.layers.iter().all(|layer| layer.media_type.starts_with("application/vnd.oci."));
    let manifest = Some(FoundManifest { manifest, bytes, ours });
    Ok(Found { manifest, config_bytes, config, layers })
}

/// Says where a layer is one that other registries must not keep, or that is fetched from an
/// address of its own (image-spec, "layer.md", "Non-Distributable Layers").
fn foreign((at, layer): (usize, &Descriptor)) -> Option<String> {
    let named = ["foreign", "nondistributable"];
    let by_type = named.iter().any(|word| layer.media_type.contains(word));
    let urls = layer.extra.get("urls").and_then(Value::as_array);
    let by_urls = urls.and_then(|urls| urls.first());
    let from = by_urls.map_or(String::new(), |url| format!(" from {url}"));
    (by_type || by_urls.is_some()).then(|| {
        let (at, media_type) = (at + 1, &layer.media_type);
        format!("has a foreign layer, {at} of type {media_type:?}{from}: bake takes none of these")
    })
}
