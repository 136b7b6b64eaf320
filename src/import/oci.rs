//! An OCI image layout (image-spec, "image-layout.md"), as skopeo, podman, umoci, buildah and
//! `docker save` write it.

use super::error::Error;
use super::files::Files;
use super::found::{self, Found, Layer};
use crate::digest::Digest;
use crate::image::{
    self, ANNOTATION_REF_NAME, Descriptor, Index, Kind, Manifest, Platform, judge_index, kind,
    wrong_size,
};
use crate::layer::Compression;
use crate::trial::compression;

/// Largest index, manifest or config.
const MOST: u64 = 16 << 20;

/// Most indexes inside each other.
const DEPTH: usize = 4;

/// Where containerd and Docker write what an image is called.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Finds the image called `wanted`, or the only one, for this machine.
pub(super) fn find(files: &Files, wanted: Option<&str>) -> Result<Found, Error> {
    let bytes = files.small("index.json", MOST)?;
    let index = Index::parse(&bytes)
        .map_err(|error| files.wrong(format!("has a damaged index.json: {}", error.source)))?;
    if let Some(flaw) = index.validate().first() {
        return Err(files.wrong(format!("has an index.json that {flaw}")));
    }
    let images = |one: &&Descriptor| {
        matches!(kind(&one.media_type), Kind::Manifest | Kind::Index) && one.artifact_type.is_none()
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
        [one] => image(files, one, 0),
        [] if all.is_empty() => Err(files.wrong("has no image")),
        _ => {
            let shown = |one: &&Descriptor| {
                names(one).into_iter().next().unwrap_or_else(|| one.digest.to_string())
            };
            Err(files.which(wanted, all.iter().map(shown).collect()))
        }
    }
}

/// Returns the bytes of the blob that `descriptor` names.
fn blob(files: &Files, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    let bytes = files.small(&path(&descriptor.digest), MOST)?;
    let found = Digest::of(&bytes);
    let wrong = |why: String| files.wrong(format!("has a blob {} that {why}", descriptor.digest));
    if bytes.len() as u64 != descriptor.size {
        return Err(wrong(wrong_size(bytes.len() as u64, descriptor.size)));
    }
    if found != descriptor.digest {
        return Err(wrong(format!("is corrupt: its bytes are {found}")));
    }
    Ok(bytes)
}

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Reads the image that `descriptor` names; of an index the one for this machine.
fn image(files: &Files, descriptor: &Descriptor, depth: usize) -> Result<Found, Error> {
    let bytes = blob(files, descriptor)?;
    if kind(&descriptor.media_type) != Kind::Index {
        return manifest(files, descriptor, bytes);
    }
    if depth == DEPTH {
        return Err(files.wrong(format!("has more than {DEPTH} indexes inside each other")));
    }
    let index = judge_index(descriptor, &bytes).strict(descriptor);
    let index = index.map_err(|flawed| files.wrong(format!("is not what it says: {flawed}")))?;
    let host = Platform::host();
    let fits = |one: &&Descriptor| {
        let same = |p: &Platform| (&p.os, &p.architecture) == (&host.os, &host.architecture);
        one.platform.as_ref().is_some_and(same)
    };
    let next = index.manifests.iter().find(fits).or(match &index.manifests[..] {
        // What holds one thing need not say what that runs on.
        [one] if one.platform.is_none() => Some(one),
        _ => None,
    });
    let Some(next) = next else {
        let have = index.manifests.iter().filter_map(|one| one.platform.as_ref());
        let have: Vec<String> = have.map(ToString::to_string).collect();
        return Err(files.wrong(format!("has no image for {host}, only for {}", have.join(", "))));
    };
    image(files, next, depth + 1)
}

fn manifest(files: &Files, descriptor: &Descriptor, bytes: Vec<u8>) -> Result<Found, Error> {
    let wrong =
        |why: String| files.wrong(format!("has a manifest {} that {why}", descriptor.digest));
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
    if let Some(flaw) = manifest.validate().first() {
        return Err(wrong(flaw.clone()));
    }
    if manifest.artifact_type.is_some() {
        return Err(wrong("is an artifact, no image".to_owned()));
    }
    let config_bytes = blob(files, &manifest.config)?;
    let config = found::config(files, &manifest.config, &config_bytes, manifest.layers.len())?;
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
    Ok(Found { manifest: ours.then_some((manifest, bytes)), config_bytes, config, layers })
}
