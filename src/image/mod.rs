//! OCI words: descriptors, manifests, indexes, configs, references, platforms, times. Structs with
//! fields in a fixed order and sorted maps, so that the same image is always the same JSON bytes
//! (the `oci-spec` crate keeps annotations and labels in hash maps). Reading is tolerant: `null`
//! where Go writes it, Docker's media types, fields nobody here knows (kept, and written again
//! after the known ones). Judging is separate and strict: each `validate` returns every flaw it
//! sees, and whoever uses a stored image reads it by `read`.
//!
//! Not here: blobs and files (`store`), layer tars (`layer`), the network (`registry`).

mod config;
mod descriptor;
mod identity;
mod manifest;
mod media;
mod platform;
mod read;
mod reference;
mod remote;
mod time;

pub use config::{Config, Healthcheck, History, ImageConfig, RootFs};
pub use descriptor::{Descriptor, Unreadable};
pub use identity::{IDENTITY_FILE, Identity};
pub use manifest::{Index, MAX_LAYERS, Manifest};
pub use media::{
    ANNOTATION_CREATED, ANNOTATION_DESCRIPTION, ANNOTATION_DRIFT_IGNORE, ANNOTATION_REF_NAME,
    ANNOTATION_TITLE, ANNOTATION_VERSION, Kind, MEDIA_CONFIG, MEDIA_DOCKER_CONFIG,
    MEDIA_DOCKER_INDEX, MEDIA_DOCKER_LAYER, MEDIA_DOCKER_LAYER_GZIP, MEDIA_DOCKER_MANIFEST,
    MEDIA_EMPTY, MEDIA_INDEX, MEDIA_LAYER, MEDIA_LAYER_GZIP, MEDIA_LAYER_ZSTD, MEDIA_MANIFEST,
    kind,
};
pub use platform::{NotAPlatform, Platform};
pub use read::{Flawed, Image, Judged, judge_config, judge_index, judge_manifest, wrong_size};
pub use reference::{BadReference, Reference};
pub use remote::{BadRemoteName, DOCKER_HUB, RemoteName, host_of};
pub use time::{epoch_of, rfc3339};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::descriptor::{from_json, to_json};
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn a_descriptor_keeps_what_it_does_not_know() {
        let text = format!(
            r#"{{"mediaType":"{MEDIA_LAYER}","digest":"{}","size":3,"annotations":null,"urls":["https://example.org/x"],"data":"YWJj"}}"#,
            Digest::of("abc")
        );
        let read: Descriptor = from_json(text.as_bytes(), "descriptor").expect("valid");
        assert_eq!(read.size, 3);
        let again = String::from_utf8(to_json(&read)).expect("JSON is UTF-8");
        assert!(again.ends_with(r#""data":"YWJj","urls":["https://example.org/x"]}"#), "{again}");
    }

    #[test]
    fn kinds_are_distinguished() {
        assert_eq!(kind(MEDIA_DOCKER_MANIFEST), Kind::Manifest);
        assert_eq!(kind(MEDIA_LAYER_ZSTD), Kind::Layer);
        assert_eq!(kind("text/plain"), Kind::Other);
    }

    proptest! {
        /// Good texts with a piece cut out, doubled or replaced: read or refused, never a panic,
        /// and what is read is written stably.
        #[test]
        fn damaged_texts_do_no_harm(which in 0..3, at in 0usize..600, len in 0usize..40, with in "[\\[\\]{}\",:0-9a-z-]{0,12}") {
            let blob = Descriptor::new(MEDIA_LAYER, Digest::of("l"), 5);
            let manifest = Manifest::new(Descriptor::new(MEDIA_CONFIG, Digest::of("c"), 7), vec![blob.clone()]);
            let mut config = ImageConfig::new(0, &Platform::linux("arm64"));
            config.config.volumes.insert("/data".to_owned());
            config.history.push(History::new(0, "x", "y", false));
            let index = Index { manifests: vec![blob.with_platform(Platform::host())], ..Index::default() };
            let mut text = [manifest.to_json(), config.to_json(), index.to_json()][which as usize].clone();
            let at = at.min(text.len());
            let end = (at + len).min(text.len());
            text.splice(at..end, with.into_bytes());
            if let Ok(read) = Manifest::parse(&text) {
                read.validate();
                prop_assert_eq!(Manifest::parse(&read.to_json()).expect("own bytes"), read);
            }
            if let Ok(read) = ImageConfig::parse(&text) {
                read.validate();
                prop_assert_eq!(ImageConfig::parse(&read.to_json()).expect("own bytes"), read);
            }
            if let Ok(read) = Index::parse(&text) {
                read.validate();
                prop_assert_eq!(Index::parse(&read.to_json()).expect("own bytes"), read);
            }
        }
    }
}
