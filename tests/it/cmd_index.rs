//! `bake index create`: images for several platforms under one version.

use std::fs;

use bake::image::{
    Descriptor, Image, ImageConfig, Index, MEDIA_CONFIG, MEDIA_INDEX, Manifest, Platform, Reference,
};
use bake::store::{Error, Published, Staging, Store, TESTED_ANNOTATION, Version};

use crate::lab::{Lab, Run};

fn good(run: Run) -> Run {
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    run
}

fn named(text: &str) -> Reference {
    text.parse().expect("a reference")
}

/// Puts an image without layers into a staging area.
fn image(staging: &Staging, architecture: &str, user: &str) -> Descriptor {
    let mut config = ImageConfig::new(0, &Platform::linux(architecture));
    user.clone_into(&mut config.config.user);
    let (digest, size) = staging.put(&config.to_json()).expect("a config");
    let manifest = Manifest::new(Descriptor::new(MEDIA_CONFIG, digest, size), vec![]);
    let bytes = manifest.to_json();
    let (digest, size) = staging.put(&bytes).expect("a manifest");
    Descriptor::new(manifest.media_type.as_deref().unwrap_or_default(), digest, size)
}

/// A store with `a:1` for amd64, `b:1` for arm64, and `c:1`, another one for arm64.
fn store(lab: &Lab) -> Store {
    let store = Store::open(&lab.path("store")).expect("a store");
    let staging = store.staging().expect("a staging area");
    let images = [("a:1", "amd64", "me"), ("b:1", "arm64", "me"), ("c:1", "arm64", "you")];
    let versions = images.map(|(name, architecture, user)| {
        let image = image(&staging, architecture, user);
        Version::new(named(name), image.with_annotation(TESTED_ANNOTATION, "yes"))
    });
    store.publish(&staging, &versions).expect("published");
    store
}

#[test]
fn images_for_several_platforms_become_one_version() {
    let lab = Lab::new();
    let store = store(&lab);
    let made = good(lab.bake(["index", "create", "web:1", "b:1", "a:1"]));
    let version = store.resolve(&named("web:1")).expect("published");
    assert_eq!(made.out, format!("web:1 {}\n", version.manifest.digest));
    assert_eq!(version.manifest.media_type, MEDIA_INDEX);
    let index = store.image_index(&version.manifest).expect("a strict index");
    let platforms: Vec<_> =
        index.manifests.iter().map(|one| one.platform.clone().expect("one").to_string()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    assert!(index.manifests.iter().all(|one| one.annotations.is_empty()));
    assert_eq!(version.manifest.annotations[TESTED_ANNOTATION], "yes");

    // The same images in another order, and the index itself, are the same index.
    let again = good(lab.bake(["--json", "index", "create", "web:1", "web:1", "a:1", "b:1"]));
    assert!(again.out.contains("\"already\":true"), "{}", again.out);
    let (_, done) = store.merge(&named("copy:1"), &[named("web:1")]).expect("flattened");
    assert_eq!(done, Published::New);
    assert_eq!(
        store.resolve(&named("copy:1")).expect("there").manifest.digest,
        version.manifest.digest
    );

    // Its images stay when the versions that they came from go.
    good(lab.bake(["rm", "a:1", "b:1", "copy:1"]));
    good(lab.bake(["verify", "web:1"]));
    for command in [&["list"][..], &["show", "web:1"], &["promote", "web:1", "live"]] {
        good(lab.bake(command));
    }
    let out = ["--format", "oci", "--platform", "linux/arm64", "--output", "out"];
    good(lab.bake(["export", "web:1"].iter().chain(&out)));
    let layout = Index::parse(&fs::read(lab.path("out/index.json")).expect("written"));
    let one = layout.expect("an index").manifests.remove(0);
    assert_eq!(one.digest, index.manifests[1].digest);
    let Image { config, .. } = store.image(&one).expect("whole");
    assert_eq!(config.architecture, "arm64");
    let missing = lab.bake([
        "export",
        "web:1",
        "--format",
        "oci",
        "--output",
        "no",
        "--platform",
        "linux/riscv64",
    ]);
    assert_eq!(missing.code, 1, "{}", missing.err);
    assert!(missing.err.contains("it has linux/amd64, linux/arm64"), "{}", missing.err);
    assert!(!lab.path("no").exists());

    // Nothing of it is left once it goes.
    good(lab.bake(["rm", "--force", "web:1", "c:1"]));
    let blobs = fs::read_dir(lab.path("store/blobs/sha256")).expect("a directory");
    assert_eq!(blobs.count(), 0);
    assert!(lab.scratch().is_empty());
}

#[test]
fn what_is_no_image_for_a_platform_of_its_own_makes_no_index() {
    let lab = Lab::new();
    let store = store(&lab);
    let before = lab.images_hash();
    for (parts, why) in [
        (&["a:1", "b:1", "c:1"][..], "b:1 and c:1 are both for linux/arm64"),
        (&["a:1", "a:1"], "an index is for several platforms, and there is linux/amd64"),
        (&["a:1", "d:1"], "d:1"),
    ] {
        let run = lab.bake(["index", "create", "web:1"].iter().chain(parts));
        assert_eq!(run.code, 1, "{}", run.err);
        assert!(run.err.contains(why), "{}", run.err);
    }
    assert_eq!(lab.bake(["index", "create", "web", "a:1", "b:1"]).code, 2);
    let taken = store.merge(&named("c:1"), &[named("a:1"), named("b:1")]);
    assert!(matches!(taken, Err(Error::VersionTaken { .. })), "{taken:?}");
    assert_eq!(lab.images_hash(), before);
    good(lab.bake(["revoke", "b:1", "--why", "bad"]));
    let revoked = store.merge(&named("web:1"), &[named("a:1"), named("b:1")]);
    assert!(matches!(revoked, Err(Error::Revoked { .. })), "{revoked:?}");
    assert!(lab.scratch().is_empty());
}
