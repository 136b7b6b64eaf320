//! Docker's archive: what `docker save` wrote before it wrote OCI layouts as well, and what `podman
//! save` and skopeo write as `docker-archive`. A `manifest.json` names the config and the layers;
//! only the config says what the layers must be.

use serde::Deserialize;

use super::error::Error;
use super::files::Files;
use super::found::{self, Found, Layer};
use crate::digest::Digest;
use crate::image::{self, Descriptor};

/// Largest `manifest.json` or config.
const MOST: u64 = 16 << 20;

/// An image of the archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Finds the image of the tag `wanted`, or the only one.
pub(super) fn find(files: &Files, wanted: Option<&str>) -> Result<Found, Error> {
    let bytes = files.small("manifest.json", MOST)?;
    let all: Vec<Listed> = serde_json::from_slice(&bytes)
        .map_err(|error| files.wrong(format!("has a damaged manifest.json: {error}")))?;
    let tags = |one: &Listed| one.repo_tags.clone().unwrap_or_default();
    let called = |one: &&Listed| wanted.is_none_or(|tag| tags(one).iter().any(|t| t == tag));
    let fitting: Vec<&Listed> = all.iter().filter(called).collect();
    let one = match fitting[..] {
        [one] => one,
        [] if all.is_empty() => return Err(files.wrong("has no image")),
        _ => {
            let shown = |one: &Listed| tags(one).into_iter().next().unwrap_or(one.config.clone());
            return Err(files.which(wanted, all.iter().map(shown).collect()));
        }
    };
    let config_bytes = files.small(&one.config, MOST)?;
    let named = Digest::of(&config_bytes);
    let descriptor = Descriptor::new(image::MEDIA_CONFIG, named, config_bytes.len() as u64);
    let paths = one.layers.clone().unwrap_or_default();
    let config =
        found::config(&descriptor, &config_bytes, paths.len()).map_err(|why| files.wrong(why))?;
    let layer = |(path, diff_id): (String, &Digest)| Layer {
        path,
        expected: None,
        how: None,
        diff_id: *diff_id,
    };
    let layers = paths.into_iter().zip(&config.rootfs.diff_ids).map(layer).collect();
    Ok(Found { manifest: None, config_bytes, config, layers })
}
