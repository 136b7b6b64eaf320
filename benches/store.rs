//! Index operations against the number of versions in one store: `cargo bench --bench store [--
//! N…]`.
//!
//! Each store is written as a plain layout, one small image a version (one name, one layer that all
//! share), and adopted by bake. Printed: the median wall time of one operation in this process, in
//! milliseconds.

use std::fs;
use std::path::Path;
use std::time::Instant;

use bake::digest::Digest;
use bake::image::{
    Descriptor, ImageConfig, Index, MEDIA_CONFIG, MEDIA_LAYER, MEDIA_MANIFEST, Manifest, Platform,
    Reference,
};
use bake::inspect;
use bake::store::{Rules, Store, Version, Who};

const ROUNDS: usize = 7;

fn main() {
    let asked: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if asked.is_empty() { vec![100, 1_000, 10_000, 30_000] } else { asked };
    println!(
        "| versions | index.json | open | resolve | newest | channel | versions | list | publish | promote | rm | gc --dry-run |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for size in sizes {
        measure(size);
    }
}

fn measure(size: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    lay_out(dir.path(), size);
    let store = Store::open(dir.path()).expect("open");
    let by = Who { user: "bench".to_owned(), sudo: None, host: "bench".to_owned() };
    let middle = reference(&format!("web:{}", size / 2));
    let promoted = std::cell::Cell::new(0);
    store.promote(&middle, "production", &by).expect("promote");
    let bytes = fs::metadata(dir.path().join("index.json")).expect("there").len();
    let mut fresh = 0;
    let mut cells = vec![format!("{size}"), format!("{:.1} MB", bytes as f64 / 1e6)];
    let mut row = |ms: f64| cells.push(format!("{ms:.2}"));
    row(median(|| drop(Store::open(dir.path()).expect("open"))));
    row(median(|| drop(store.resolve(&middle).expect("there"))));
    row(median(|| drop(store.resolve(&reference("web")).expect("there"))));
    row(median(|| drop(store.resolve(&reference("web@production")).expect("there"))));
    row(median(|| drop(store.versions().expect("versions"))));
    row(median(|| drop(inspect::list(&store).expect("list"))));
    row(median(|| {
        fresh += 1;
        let staging = store.staging().expect("staging");
        let put = |media: &str, bytes: &[u8]| {
            staging
                .put(bytes)
                .map(|(digest, size)| Descriptor::new(media, digest, size))
                .expect("put")
        };
        let mut config = ImageConfig::new(0, &Platform::linux("amd64"));
        config.config.cmd = vec![format!("fresh-{fresh}")];
        let manifest =
            Manifest::new(put(MEDIA_CONFIG, &config.to_json()), vec![put(MEDIA_LAYER, b"shared")]);
        let version = Version::new(
            reference(&format!("fresh:{fresh}")),
            put(MEDIA_MANIFEST, &manifest.to_json()),
        );
        store.publish(&staging, &[version]).expect("publish");
    }));
    row(median(|| {
        promoted.set(promoted.get() + 1);
        store
            .promote(&reference(&format!("web:{}", promoted.get())), "production", &by)
            .expect("promote");
    }));
    row(median(|| {
        store.remove(&reference(&format!("fresh:{fresh}"))).expect("remove");
        fresh -= 1;
    }));
    row(median(|| {
        drop(store.garbage(&Rules { keep: Some(size / 2), ..Rules::default() }).expect("plan"))
    }));
    println!("| {} |", cells.join(" | "));
}

fn reference(text: &str) -> Reference {
    text.parse().expect("a reference")
}

fn median(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

/// Writes a layout of `size` images, without the flushes that so many publishes would cost.
fn lay_out(dir: &Path, size: usize) {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("mkdir");
    let put = |media: &str, bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).expect("write");
        Descriptor::new(media, digest, bytes.len() as u64)
    };
    let layer = put(MEDIA_LAYER, b"shared");
    let mut index = Index::default();
    for n in 0..size {
        let mut config = ImageConfig::new(0, &Platform::linux("amd64"));
        config.config.cmd = vec![n.to_string()];
        let manifest = Manifest::new(put(MEDIA_CONFIG, &config.to_json()), vec![layer.clone()]);
        let entry = put(MEDIA_MANIFEST, &manifest.to_json());
        let entry = entry.with_annotation("org.opencontainers.image.ref.name", format!("web:{n}"));
        let entry = entry.with_annotation("bake.build-key", Digest::of(n.to_string()).to_string());
        index.manifests.push(entry.with_annotation("bake.published", "2026-11-23T09:00:00Z"));
    }
    fs::write(dir.join("index.json"), index.to_json()).expect("write");
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write");
}
