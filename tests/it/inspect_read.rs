//! `list` and `show`, and what other tools make of a store: skopeo, umoci and podman must take it
//! as it is.

use std::fs;
use std::path::Path;
use std::process::Command;

use bake::image::{Descriptor, Index, MEDIA_INDEX, Manifest, Platform};
use bake::inspect::{list, show};
use bake::store::{Store, Version};

use crate::store_lab::*;
use crate::tier;

#[test]
fn rows() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    assert_eq!(list(&store).expect("list"), []);
    let two = publish(&store, "web:2.0.0", "two");
    publish(&store, "web:10.0.0", "ten");
    publish(&store, "app:1", "one");
    let rows = list(&store).expect("list");
    let names: Vec<String> =
        rows.iter().map(|row| format!("{}:{}", row.name, row.version)).collect();
    assert_eq!(names, ["app:1", "web:2.0.0", "web:10.0.0"]);
    let row = &rows[1];
    assert_eq!(row.digest, Some(two.manifest.digest));
    assert_eq!(row.created.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(row.platform, Some(Platform::host()));
    assert_eq!((row.layers, &row.problem), (Some(2), &None));
    let manifest =
        Manifest::parse(&store.read_blob(&two.manifest.digest).expect("read")).expect("a manifest");
    let size = two.manifest.size + manifest.descriptors().map(|blob| blob.size).sum::<u64>();
    assert_eq!(row.size, Some(size));
    // A damaged image is a row that says so.
    fs::write(store.blob_path(&two.manifest.digest), "x").expect("write");
    let row = list(&store).expect("list").remove(1);
    assert_eq!((row.size, row.layers, row.created), (None, None, None));
    assert!(row.problem.expect("a problem").contains("is corrupt"));
}

#[test]
fn details() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    let one = publish(&store, "web:1", "one");
    let details = show(&store, &reference("web"), None).expect("show");
    assert_eq!(details.reference, reference("web:1"));
    assert_eq!((details.digest, details.manifest), (one.manifest.digest, one.manifest.digest));
    assert_eq!(details.config.cmd, ["/bin/sh"]);
    assert_eq!(details.config.labels["made.by"], "a test");
    let by: Vec<_> = details.layers.iter().map(|layer| layer.created_by.as_deref()).collect();
    assert_eq!(by, [Some("the base"), Some("write the motd")]);
    let made: Vec<_> = details.history.iter().map(|step| step.layer).collect();
    assert_eq!(made, [Some(0), Some(1), None]);
    assert_eq!(
        details.layers[0].diff_id,
        Some(bake::digest::Digest::of(tar(&[("bin/", ""), ("bin/sh", "#!"), ("etc/", "")])))
    );
    assert_eq!(Some(details.size), list(&store).expect("list")[0].size);
    show(&store, &reference("web:2"), None).expect_err("not there");
    serde_json::to_string(&details).expect("data that can be written");
}

#[test]
fn an_index_shows_the_image_of_this_machine() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    let staging = store.staging().expect("staging");
    let mut other = Parts::new("other");
    other.config.architecture = "s390x".to_owned();
    let other = other.put(&staging, "x:1").manifest.with_platform(Platform::linux("s390x"));
    let ours = image(&staging, "x:1", "ours").manifest.with_platform(Platform::host());
    let index = Index { manifests: vec![other.clone(), ours.clone()], ..Index::default() };
    let (digest, size) = staging.put(&index.to_json()).expect("put");
    let version = Version::new(reference("multi:1"), Descriptor::new(MEDIA_INDEX, digest, size));
    store.publish(&staging, &[version]).expect("publish");
    drop(staging);
    let details = show(&store, &reference("multi"), None).expect("show");
    assert_eq!((details.digest, details.manifest), (digest, ours.digest));
    assert_eq!(details.members.len(), 2);
    let row = list(&store).expect("list").remove(0);
    assert_eq!((row.layers, row.platform), (Some(3), Some(Platform::linux("s390x"))));
    assert_eq!(
        bake::inspect::verify(&store, &[], &bake::event::silent()).expect("verify").problems,
        []
    );
    store.remove(&reference("multi:1")).expect("remove");
    assert_eq!(fs::read_dir(dir.path().join("blobs/sha256")).expect("list").count(), 0);
}

/// Runs a program, whose home and temporary files stay in `home`.
fn run(home: &Path, program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command
        .args(args)
        .env("HOME", home)
        .env("TMPDIR", home)
        .env("XDG_RUNTIME_DIR", home)
        .current_dir(home);
    let output = command.output().expect(program);
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {err}");
    out.into_owned()
}

/// A store with two versions of an image, in a directory of its own.
fn two_versions() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("store")).expect("open");
    publish(&store, "web:1.0.0", "one");
    publish(&store, "web:2.0.0", "two");
    (dir, store)
}

#[test]
fn tools_skopeo_inspects_and_copies() {
    if !tier::tool("skopeo") {
        return;
    }
    let (dir, store) = two_versions();
    let before = tree(store.dir());
    let image = format!("oci:{}:web:2.0.0", store.dir().display());
    let text = run(dir.path(), "skopeo", &["inspect", &image]);
    let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let details = show(&store, &reference("web:2.0.0"), None).expect("show");
    assert_eq!(found["Digest"], details.digest.to_string());
    assert_eq!(found["Labels"]["made.by"], "a test");
    assert_eq!(found["Layers"].as_array().map(Vec::len), Some(2));
    let copy = format!("oci:{}:copy:1", dir.path().join("copy").display());
    run(dir.path(), "skopeo", &["--insecure-policy", "copy", "--preserve-digests", &image, &copy]);
    assert!(tree(store.dir()) == before, "reading leaves no trace");
    // What skopeo wrote is a layout that bake reads, verifies and can make a store of.
    let copied = Store::open(&dir.path().join("copy")).expect("open");
    assert_eq!(show(&copied, &reference("copy:1"), None).expect("show").digest, details.digest);
    assert_eq!(
        bake::inspect::verify(&copied, &[], &bake::event::silent()).expect("verify").problems,
        []
    );
    // And what it writes into a store beside bake's own versions is kept.
    let into = format!("oci:{}:foreign", store.dir().display());
    run(dir.path(), "skopeo", &["--insecure-policy", "copy", &image, &into]);
    publish(&store, "web:3.0.0", "three");
    assert_eq!(names(&store), ["web:1.0.0", "web:2.0.0", "web:3.0.0"]);
    run(dir.path(), "skopeo", &["inspect", &into]);
    store.remove(&reference("web:2.0.0")).expect("remove");
    run(dir.path(), "skopeo", &["inspect", &into]);
    check_whole(&store);
}

#[test]
fn tools_root_umoci_unpacks() {
    if !tier::tool("umoci") || !tier::root() {
        return;
    }
    let (dir, store) = two_versions();
    for (version, content) in [("1.0.0", "one"), ("2.0.0", "two")] {
        let bundle = dir.path().join(version);
        let image = format!("{}:web:{version}", store.dir().display());
        run(dir.path(), "umoci", &["unpack", "--image", &image, &bundle.to_string_lossy()]);
        assert_eq!(fs::read_to_string(bundle.join("rootfs/etc/motd")).expect("read"), content);
    }
}

#[test]
fn tools_root_podman_pulls() {
    if !tier::tool("podman") || !tier::root() {
        return;
    }
    let (dir, store) = two_versions();
    let place = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (root, runroot) = (place("root"), place("run"));
    let podman = |args: &[&str]| {
        let global = ["--storage-driver", "vfs", "--root", &root, "--runroot", &runroot];
        run(dir.path(), "podman", &[&global, args].concat())
    };
    fs::write(dir.path().join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)
        .expect("write");
    let policy = place("policy.json");
    // Podman makes a name of the path, and takes only lower-case ones: a relative path is one.
    let image = "oci:store:web:2.0.0";
    let id = podman(&["pull", "-q", "--signature-policy", &policy, image]);
    let details = show(&store, &reference("web:2.0.0"), None).expect("show");
    assert_eq!(id.trim(), details.config_digest.hex());
}
