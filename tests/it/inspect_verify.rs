//! `verify` finds whatever the strictest reader of a layout would refuse, and names the image and
//! the file.

use std::fs;
use std::sync::{Arc, Mutex};

use bake::digest::Digest;
use bake::event::{Event, silent};
use bake::image::{
    Descriptor, MEDIA_INDEX, MEDIA_LAYER, MEDIA_LAYER_GZIP, MEDIA_LAYER_ZSTD, MEDIA_MANIFEST,
    Manifest,
};
use bake::inspect::{Level, Report, verify};
use bake::store::{Store, Version};

use crate::store_lab::*;

fn all(store: &Store) -> Report {
    verify(store, &[], &silent()).expect("the store can be read")
}

/// Makes sure that exactly these problems are found, each recognised by a part of its text.
#[track_caller]
fn expect(report: &Report, level: Level, expected: &[&str]) {
    let found: Vec<&str> =
        report.problems.iter().filter(|p| p.level == level).map(|p| p.what.as_str()).collect();
    let fits = found.len() == expected.len()
        && expected.iter().all(|part| found.iter().any(|what| what.contains(part)));
    assert!(fits, "expected {expected:?}, found {:#?}", report.problems);
}

/// Publishes an image with a flaw in it.
fn check(change: impl FnOnce(&mut Parts), expected: &[&str]) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    publish(&store, "good:1", "good");
    let staging = store.staging().expect("staging");
    let mut parts = Parts::new("bad");
    change(&mut parts);
    let version = parts.put(&staging, "bad:1");
    store.publish(&staging, &[version]).expect("publish");
    drop(staging);
    let report = all(&store);
    expect(&report, Level::Error, expected);
    expect(&report, Level::Warning, &[]);
    assert_eq!(report.is_good(), expected.is_empty());
    assert!(
        report.problems.iter().all(|problem| problem.images == ["bad:1"]),
        "{:?}",
        report.problems
    );
    assert!(verify(&store, &[reference("good:1")], &silent()).expect("verify").problems.is_empty());
    assert_eq!(
        verify(&store, &[reference("bad")], &silent()).expect("verify").problems,
        report.problems
    );
}

/// Replaces the top layer by this tar.
fn layer(parts: &mut Parts, media: &'static str, stored: Vec<u8>, tar: &[u8]) {
    parts.config.rootfs.diff_ids[1] = Digest::of(tar);
    parts.layers[1] = (media, stored);
}

#[test]
fn a_good_store_has_no_problems() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    let empty = all(&store);
    assert_eq!((empty.images, empty.blobs, empty.bytes, empty.problems.len()), (0, 0, 0, 0));
    publish(&store, "web:1", "one");
    publish(&store, "web:2", "two");
    let events = Arc::new(Mutex::new(vec![]));
    let sink: bake::event::Sink = {
        let events = events.clone();
        Arc::new(move |event| events.lock().expect("no panic").push(event))
    };
    let report = verify(&store, &[], &sink).expect("verify");
    assert_eq!(report.problems, []);
    assert_eq!((report.images, report.blobs), (2, 7));
    let bytes: u64 = fs::read_dir(dir.path().join("blobs/sha256"))
        .expect("list")
        .map(|e| e.expect("entry").metadata().expect("stat").len())
        .sum();
    assert_eq!(report.bytes, bytes);
    let events = events.lock().expect("no panic");
    assert!(matches!(events.last(), Some(Event::ProgressEnd { task: "verify" })));
    let most = events.iter().filter_map(|event| match event {
        Event::Progress { done, total, .. } => Some((*done, *total)),
        _ => None,
    });
    let (done, total) = most.max().expect("progress");
    assert_eq!(Some(done), total);
    assert_eq!(all(&Store::open_to_read(&dir.path().join("none")).expect("open")).problems, []);
}

#[test]
fn every_form_of_layer_is_read() {
    let tar = tar(&[("etc/", ""), ("etc/x", "x")]);
    check(|parts| layer(parts, MEDIA_LAYER, tar.clone(), &tar), &[]);
    check(
        |parts| layer(parts, MEDIA_LAYER_ZSTD, zstd::encode_all(&tar[..], 3).expect("zstd"), &tar),
        &[],
    );
    // Several members and frames in one blob.
    let (a, b) = tar.split_at(700);
    check(|parts| layer(parts, MEDIA_LAYER_GZIP, [gzip(a), gzip(b)].concat(), &tar), &[]);
    let frames =
        [zstd::encode_all(a, 3).expect("zstd"), zstd::encode_all(b, 3).expect("zstd")].concat();
    check(|parts| layer(parts, MEDIA_LAYER_ZSTD, frames, &tar), &[]);
}

#[test]
fn configs_and_layers_must_agree() {
    check(
        |parts| parts.config.rootfs.diff_ids[0] = Digest::of("x"),
        &["the config's diff_id says"],
    );
    check(
        |parts| parts.config.rootfs.diff_ids.truncate(1),
        &["history speaks of 2 layers, rootfs has 1", "has 1 diff_ids, the manifest has 2 layers"],
    );
    check(|parts| parts.config.history.truncate(1), &["history speaks of 1 layers"]);
    check(|parts| parts.config.rootfs.kind = "x".to_owned(), &["rootfs.type"]);
    check(|parts| parts.config.created = Some("now".to_owned()), &["RFC 3339"]);
    check(|parts| parts.layers[0].0 = MEDIA_LAYER_ZSTD, &["is gzip, its media type says zstd"]);
    check(
        |parts| parts.layers[0].0 = MEDIA_LAYER,
        &["is gzip, its media type says not compressed"],
    );
    check(|parts| parts.layers[0].0 = "text/plain", &["layer 1 has media type"]);
}

#[test]
fn layers_must_be_whole_and_safe() {
    let good = tar(&[("etc/", ""), ("etc/x", "x")]);
    let cut = gzip(&good);
    let cut = cut[..cut.len() - 9].to_vec();
    check(|parts| layer(parts, MEDIA_LAYER_GZIP, cut, &good), &["layer"]);
    let half = good[..1000].to_vec();
    check(|parts| layer(parts, MEDIA_LAYER_GZIP, gzip(&half), &half), &["it ends in the middle"]);
    check(|parts| layer(parts, MEDIA_LAYER, b"no tar at all".to_vec(), b"no tar at all"), &["tar"]);
    let mut harmed = good.clone();
    harmed[10] ^= 1;
    check(|parts| layer(parts, MEDIA_LAYER_GZIP, gzip(&harmed), &harmed), &["checksum"]);
    for files in [
        &[("a", "1"), ("a", "2")][..],
        &[("a", "1"), (".wh.a", "")],
        &[("a", "1"), ("a/", "")],
        &[("a", "1"), ("a/b", "2")],
        &[("a/b/c", "1"), ("a", "2")],
        &[(".wh.a", ""), ("a/b/c", "1")],
    ] {
        let tar = tar(files);
        check(
            |parts| layer(parts, MEDIA_LAYER_GZIP, gzip(&tar), &tar),
            &["two things about this name"],
        );
    }
    let fine = tar(&[
        ("a/b", "1"),
        ("a/", ""),
        ("a/", ""),
        ("c/.wh.d", ""),
        (".wh.c", ""),
        ("a/.wh..wh..opq", ""),
    ]);
    check(|parts| layer(parts, MEDIA_LAYER_GZIP, gzip(&fine), &fine), &[]);
    for (name, what) in
        [("../x", "`..`"), ("a/../../x", "`..`"), ("/etc/x", "absolute"), (".wh..wh.x", ".wh.")]
    {
        let tar = raw_tar(name);
        check(|parts| layer(parts, MEDIA_LAYER_GZIP, gzip(&tar), &tar), &[what]);
    }
}

/// A tar with one empty file of a name that the builder would refuse.
fn raw_tar(name: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_mode(0o644);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    [header.as_bytes().to_vec(), vec![0; 1024]].concat()
}

#[test]
fn harmed_blobs_are_found_with_all_their_images() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    let one = publish(&store, "web:1", "one");
    publish(&store, "web:2", "two");
    let manifest =
        Manifest::parse(&store.read_blob(&one.manifest.digest).expect("read")).expect("a manifest");
    let shared = store.blob_path(&manifest.layers[0].digest);
    let good = fs::read(&shared).expect("read");
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for (bytes, expected) in [
        (&flipped[..], &["is corrupt: its bytes are"][..]),
        (&good[1..], &["bytes, its descriptor says", "is corrupt"]),
    ] {
        fs::write(&shared, bytes).expect("write");
        let report = all(&store);
        expect(&report, Level::Error, expected);
        assert_eq!(report.problems[0].images, ["web:1", "web:2"]);
        assert_eq!(report.problems[0].path, shared);
    }
    fs::remove_file(&shared).expect("remove");
    expect(&all(&store), Level::Error, &["is missing"]);
    fs::write(&shared, &good).expect("write");
    assert!(all(&store).is_good());
    // Manifests and configs.
    for digest in [one.manifest.digest, manifest.config.digest] {
        let path = store.blob_path(&digest);
        let good = fs::read(&path).expect("read");
        fs::write(&path, b"{}").expect("write");
        let report = all(&store);
        expect(&report, Level::Error, &["is corrupt: expected"]);
        assert_eq!(report.problems[0].images, ["web:1"]);
        fs::write(&path, good).expect("write");
    }
    assert!(all(&store).is_good());
}

#[test]
fn the_directory_and_the_index_are_judged() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    let one = publish(&store, "web:1", "one");
    let stray = Digest::of("stray");
    fs::write(store.blob_path(&stray), "stray").expect("write");
    fs::write(dir.path().join("blobs/sha256/README"), "x").expect("write");
    fs::write(dir.path().join("notes.txt"), "x").expect("write");
    let report = all(&store);
    expect(
        &report,
        Level::Warning,
        &["no image needs this blob", "not named like a blob", "not part of a store"],
    );
    assert!(report.is_good());
    fs::remove_file(dir.path().join("oci-layout")).expect("remove");
    expect(&all(&store), Level::Error, &["is missing: other tools"]);
    // Two entries of one name, one that lies about size and type, one that is nothing.
    let path = dir.path().join("index.json");
    let text = fs::read_to_string(&path).expect("read");
    let entry = serde_json::to_string(
        &one.manifest.clone().with_annotation("org.opencontainers.image.ref.name", "web:1"),
    )
    .expect("json");
    let mut lie = one.manifest.clone().with_annotation("org.opencontainers.image.ref.name", "Lie");
    lie.size += 1;
    lie.media_type = "application/vnd.docker.distribution.manifest.v2+json".to_owned();
    let lie = serde_json::to_string(&lie).expect("json");
    fs::write(
        &path,
        text.replace("]}", &format!(r#",{entry},{lie},{{"digest":"sha512:0","size":1}}]}}"#)),
    )
    .expect("write");
    let report = all(&store);
    expect(
        &report,
        Level::Error,
        &[
            "is missing: other tools",
            "two entries called \"web:1\"",
            "its descriptor says",
            "calls itself",
        ],
    );
    assert!(report.problems.iter().any(
        |p| p.level == Level::Warning && p.what.contains("1 entries that name no sha256 blob")
    ));
}

#[test]
fn one_text_for_two_readers_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    let staging = store.staging().expect("staging");
    let good = image(&staging, "good:1", "x");
    let mut manifest =
        Manifest::parse(&fs::read(staging.path(&good.manifest.digest)).expect("read"))
            .expect("a manifest");
    manifest.extra.insert("manifests".to_owned(), serde_json::json!([]));
    let (digest, size) = staging.put(&manifest.to_json()).expect("put");
    let two = Version::new(reference("two:1"), Descriptor::new(MEDIA_MANIFEST, digest, size));
    let as_index = Version::new(reference("index:1"), Descriptor::new(MEDIA_INDEX, digest, size));
    store.publish(&staging, &[good, two, as_index]).expect("publish");
    drop(staging);
    expect(
        &all(&store),
        Level::Error,
        &[
            "has `manifests` like an index",
            "not application/vnd.oci.image.index",
            "like a manifest",
            "calls itself",
        ],
    );
}

#[test]
fn a_bomb_is_not_unpacked() {
    // A gigabyte and a half of zeros in a file is about six kilobytes of zstd.
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    let staging = store.staging().expect("staging");
    let mut parts = Parts::new("bomb");
    let zeros = vec![0; 16 << 20];
    let frame = zstd::encode_all(&zeros[..], 3).expect("zstd");
    let mut header = tar::Header::new_ustar();
    header.set_path("zeros").expect("a path");
    header.set_mode(0o644);
    header.set_size(96 * zeros.len() as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    let mut stored = zstd::encode_all(&header.as_bytes()[..], 3).expect("zstd");
    for _ in 0..96 {
        stored.extend_from_slice(&frame);
    }
    stored.extend(zstd::encode_all(&[0; 1024][..], 3).expect("zstd"));
    parts.layers[1] = (MEDIA_LAYER_ZSTD, stored);
    let version = parts.put(&staging, "bomb:1");
    store.publish(&staging, &[version]).expect("publish");
    drop(staging);
    expect(&all(&store), Level::Error, &["bomb"]);
}
