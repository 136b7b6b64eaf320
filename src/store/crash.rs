//! Tests that end a publish or a removal at every point where it touches the disk: by SIGKILL, by
//! one error, by a disk that is dead from there on. Afterwards one open must be enough to make
//! everything as before, or as after, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;

use super::disk::fault::{self, Fault};
use super::*;
use crate::digest::Digest;
use crate::image::{
    Descriptor, ImageConfig, MEDIA_CONFIG, MEDIA_EMPTY, MEDIA_LAYER, MEDIA_MANIFEST, Manifest,
    Platform, Reference,
};

/// Puts a small image into the staging area; images of different `content` share one layer.
pub(super) fn image(staging: &Staging, reference: &str, content: &str) -> Version {
    let put = |media: &str, bytes: &[u8]| {
        let (digest, size) = staging.put(bytes).expect("put");
        Descriptor::new(media, digest, size)
    };
    let shared = put(MEDIA_LAYER, b"a layer that all share");
    let own = put(MEDIA_LAYER, content.as_bytes());
    let mut config = ImageConfig::new(0, &Platform::linux("amd64"));
    config.rootfs.diff_ids = vec![shared.digest, own.digest];
    let config = put(MEDIA_CONFIG, &config.to_json());
    let manifest = put(MEDIA_MANIFEST, &Manifest::new(config, vec![shared, own]).to_json());
    Version::new(reference.parse().expect("a reference"), manifest)
}

/// Puts what speaks about an image into the staging area: a manifest with one file, whose subject
/// is the image.
fn with_referrer(staging: &Staging, mut version: Version) -> Version {
    let put = |media: &str, bytes: &[u8]| {
        let (digest, size) = staging.put(bytes).expect("put");
        Descriptor::new(media, digest, size)
    };
    let file = put("text/plain", version.manifest.digest.to_string().as_bytes());
    let mut manifest = Manifest::new(put(MEDIA_EMPTY, b"{}"), vec![file]);
    manifest.artifact_type = Some("text/plain".to_owned());
    manifest.subject = Some(version.manifest.clone());
    version.referrers.push(put(MEDIA_MANIFEST, &manifest.to_json()));
    version
}

/// Everything that others can see: each file with its mode and content. Staging directories are
/// nobody's business.
fn tree(dir: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in
        walkdir::WalkDir::new(dir).into_iter().filter_entry(|entry| entry.file_name() != "scratch")
    {
        let entry = entry.expect("walk");
        let mode = entry.metadata().expect("stat").permissions().mode();
        let bytes = if entry.file_type().is_file() {
            fs::read(entry.path()).expect("read")
        } else {
            vec![]
        };
        found.insert(
            entry.path().strip_prefix(dir).expect("inside").to_string_lossy().into_owned(),
            (mode, bytes),
        );
    }
    found
}

pub(super) fn names(store: &Store) -> Vec<String> {
    store
        .versions()
        .expect("versions")
        .iter()
        .map(|version| version.reference.to_string())
        .collect()
}

/// Opens the store as the next bake would, and makes sure that everything in it is whole and
/// nothing is left over.
pub(super) fn recovered(dir: &Path) -> Store {
    let readable = Store::open_to_read(dir).expect("readable before any repair");
    drop(readable);
    let store = Store::open(dir).expect("the next open repairs");
    drop(store.dead_stagings().expect("dead stagings"));
    assert_eq!(store.strays().expect("strays"), []);
    let scratch: Vec<_> = fs::read_dir(dir.join("scratch"))
        .expect("scratch")
        .map(|e| e.expect("entry").file_name())
        .collect();
    assert!(scratch.iter().all(|name| name == "lock"), "{scratch:?}");
    for version in store.versions().expect("versions") {
        let manifest =
            Manifest::parse(&store.read_blob(&version.manifest.digest).expect("manifest"))
                .expect("a manifest");
        for blob in manifest.descriptors() {
            store.blob_of(blob).expect("whole");
            store.read_blob(&blob.digest).expect("right");
        }
    }
    store
}

/// What the child does: everything that writes, from an empty directory on.
fn life(dir: &Path) {
    let store = Store::open(dir).expect("open");
    let (one, two) = (store.staging().expect("staging"), store.staging().expect("staging"));
    let (web, app) =
        (with_referrer(&one, image(&one, "web:1", "one")), image(&two, "app:1", "two"));
    store.publish_all(&[(&one, &[web]), (&two, &[app])]).expect("publish");
    store.promote(&"app:1".parse().expect("a reference"), "production", &who()).expect("promote");
    store.revoke(&"web:1".parse().expect("a reference"), "a flaw", &who()).expect("revoke");
    store.remove(&"web:1".parse().expect("a reference")).expect("remove");
}

fn who() -> Who {
    Who { user: "ann".to_owned(), sudo: None, host: "kiln".to_owned() }
}

/// Not a test of its own: the process that is killed.
#[test]
fn child() {
    let (Some(dir), Some(point)) =
        (std::env::var_os("BAKE_CRASH_DIR"), std::env::var("BAKE_CRASH_POINT").ok())
    else {
        return;
    };
    fault::plan(Fault::Kill(point.parse().expect("a number")));
    life(Path::new(&dir));
}

#[test]
fn killed_at_any_point() {
    let mut seen = vec![];
    for point in 0.. {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = &dir.path().join("store");
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        child.args(["--exact", "store::crash::child", "--nocapture"]);
        let output = child
            .env("BAKE_CRASH_DIR", dir)
            .env("BAKE_CRASH_POINT", point.to_string())
            .output()
            .expect("run");
        let ended = output.status.success();
        assert!(
            ended || output.status.signal() == Some(9),
            "point {point}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let store = recovered(dir);
        let found = names(&store);
        assert!(
            found.is_empty() || found == ["app:1", "web:1"] || found == ["app:1"],
            "point {point}: {found:?}"
        );
        if seen.last() != Some(&found) {
            seen.push(found);
        }
        let staging = store.staging().expect("staging");
        let again = [image(&staging, "web:1", "one"), image(&staging, "web:2", "three")];
        store.publish(&staging, &again).expect("the next build just works");
        drop(staging);
        let histories = store.channel_histories().expect("readable");
        assert!(histories.iter().all(|(_, history)| history.len() <= 1), "{histories:?}");
        store
            .promote(&"web:2".parse().expect("a reference"), "production", &who())
            .expect("promote");
        store.revocations().expect("readable");
        recovered(dir);
        if ended {
            assert!(point > 40, "only {point} points");
            break;
        }
    }
    assert_eq!(
        seen,
        [vec![], vec!["app:1".to_owned(), "web:1".to_owned()], vec!["app:1".to_owned()]]
    );
}

/// Runs `act` with a disk that fails at point 0, 1, … until it gets through.
fn check_failing(
    fault: fn(usize, Errno) -> Fault,
    act: impl Fn(&Store, &Staging) -> Result<(), Error>,
    after: &[&str],
) {
    for errno in [Errno::NOSPC, Errno::IO] {
        for point in 0.. {
            let dir = tempfile::tempdir().expect("a directory");
            let store = Store::open(dir.path()).expect("open");
            let staging = store.staging().expect("staging");
            let old = image(&staging, "old:1", "old");
            let gone = image(&staging, "gone:1", "gone");
            store.publish(&staging, &[old, gone]).expect("publish");
            let before = tree(dir.path());
            fault::plan(fault(point, errno));
            let result = act(&store, &staging);
            let passed = fault::plan(Fault::None);
            let once = matches!(fault(0, errno), Fault::Once(..));
            match &result {
                Err(error) => {
                    assert!(error.is_store_unusable(), "{error}");
                    assert_eq!(
                        errno == Errno::NOSPC,
                        matches!(error, Error::Full { .. }),
                        "{error:?}"
                    );
                    if once {
                        assert!(
                            tree(dir.path()) == before,
                            "point {point}: {:?}",
                            tree(dir.path()).keys()
                        );
                        act(&store, &staging)
                            .expect("the same staging, once the disk is well again");
                    }
                }
                Ok(()) => assert_eq!(names(&store), after, "point {point}"),
            }
            drop(staging);
            let store = recovered(dir.path());
            let found = names(&store);
            assert!(
                found == after || !once && found == ["gone:1", "old:1"],
                "point {point}: {found:?}"
            );
            if point >= passed {
                assert!(point > 5, "only {point} points");
                break;
            }
        }
    }
}

fn publish_two(store: &Store, staging: &Staging) -> Result<(), Error> {
    let other = store.staging()?;
    let (one, two) =
        (with_referrer(staging, image(staging, "web:1", "one")), image(&other, "web:2", "two"));
    store.publish_all(&[(staging, &[one]), (&other, &[two])]).map(drop)
}

fn remove_one(store: &Store, _staging: &Staging) -> Result<(), Error> {
    store.remove(&"gone:1".parse().expect("a reference")).map(drop)
}

#[test]
fn one_error_at_any_point_changes_nothing() {
    check_failing(Fault::Once, publish_two, &["gone:1", "old:1", "web:1", "web:2"]);
    check_failing(Fault::Once, remove_one, &["old:1"]);
}

#[test]
fn a_dead_disk_is_repaired_by_the_next_open() {
    check_failing(Fault::Dead, publish_two, &["gone:1", "old:1", "web:1", "web:2"]);
    check_failing(Fault::Dead, remove_one, &["old:1"]);
}

/// What the child does: versions, cache, logs, and a collection of most of it.
fn collected_life(dir: &Path) {
    let (store, rules) = half_empty(dir);
    fault::plan(planned());
    store.collect(&rules, None).expect("collect");
}

/// A store where much is to be freed.
fn half_empty(dir: &Path) -> (Store, Rules) {
    let store = Store::open(dir).expect("open");
    let staging = store.staging().expect("staging");
    let versions = ["web:1", "web:2", "app:1"]
        .map(|name| with_referrer(&staging, image(&staging, name, name)));
    store.publish(&staging, &versions).expect("publish");
    fs::create_dir_all(dir.join("cache/steps")).expect("mkdir");
    fs::create_dir_all(dir.join("logs/old")).expect("mkdir");
    for name in ["cache/steps/abcd", "logs/old/1.log"] {
        fs::write(dir.join(name), "x").expect("write");
    }
    let stray = dir.join("blobs/sha256").join(Digest::of("stray").hex());
    fs::write(&stray, "stray").expect("write");
    // Files have a coarse clock, and what came in its present moment stays.
    let written = fs::metadata(&stray).expect("stat");
    let coarse = || rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    while (coarse().tv_sec, coarse().tv_nsec) <= (written.ctime(), written.ctime_nsec()) {
        std::hint::spin_loop();
    }
    (store, half_empty_rules())
}

/// Whatever stopped a collection: the versions that are listed are whole, and the next one does the
/// rest.
fn check_collected(dir: &Path, point: usize) -> Vec<String> {
    let store = Store::open(dir).expect("open");
    drop(store.dead_stagings().expect("dead stagings"));
    let found = names(&store);
    assert!(
        found == ["app:1", "web:1", "web:2"] || found == ["app:1", "web:2"],
        "point {point}: {found:?}"
    );
    let rules = half_empty_rules();
    store.collect(&rules, None).expect("the next one");
    assert_eq!(names(&store), ["app:1", "web:2"], "point {point}");
    assert_eq!(store.garbage(&rules).expect("plan").amounts, [], "point {point}");
    drop(store);
    recovered(dir);
    found
}

fn half_empty_rules() -> Rules {
    let zero = Duration::ZERO;
    Rules {
        keep: Some(1),
        cache_older_than: zero,
        logs_older_than: zero,
        grace: zero,
        ..Rules::default()
    }
}

fn planned() -> Fault {
    Fault::Kill(std::env::var("BAKE_CRASH_POINT").expect("given").parse().expect("a number"))
}

/// Not a test of its own: the process that is killed.
#[test]
fn collecting_child() {
    let Some(dir) = std::env::var_os("BAKE_CRASH_GC_DIR") else { return };
    collected_life(Path::new(&dir));
}

#[test]
fn a_collection_killed_at_any_point_leaves_a_right_store() {
    let mut seen = vec![];
    for point in 0.. {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = &dir.path().join("store");
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        child.args(["--exact", "store::crash::collecting_child", "--nocapture"]);
        let output = child
            .env("BAKE_CRASH_GC_DIR", dir)
            .env("BAKE_CRASH_POINT", point.to_string())
            .output()
            .expect("run");
        let ended = output.status.success();
        assert!(
            ended || output.status.signal() == Some(9),
            "point {point}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let found = check_collected(dir, point);
        if seen.last() != Some(&found.len()) {
            seen.push(found.len());
        }
        if ended {
            assert!(point > 10, "only {point} points");
            break;
        }
    }
    assert_eq!(seen, [3, 2]);
}

#[test]
fn a_collection_on_a_failing_disk_leaves_a_right_store() {
    for fault in [Fault::Once as fn(usize, Errno) -> Fault, Fault::Dead] {
        for point in 0.. {
            let dir = tempfile::tempdir().expect("a directory");
            let (store, rules) = half_empty(dir.path());
            fault::plan(fault(point, Errno::IO));
            let result = store.collect(&rules, None);
            let passed = fault::plan(Fault::None);
            drop(store);
            let found = check_collected(dir.path(), point);
            assert!(result.is_err() || found.len() == 2, "point {point}: {found:?}");
            if point >= passed {
                assert!(point > 10, "only {point} points");
                break;
            }
        }
    }
}

#[test]
fn what_failed_is_not_remembered() {
    for fault in [Fault::Once as fn(usize, Errno) -> Fault, Fault::Dead] {
        for point in 0.. {
            let dir = tempfile::tempdir().expect("a directory");
            let store = Store::open(dir.path()).expect("open");
            let staging = store.staging().expect("staging");
            store.publish(&staging, &[image(&staging, "web:1", "one")]).expect("publish");
            let web: Reference = "web:1".parse().expect("a reference");
            fault::plan(fault(point, Errno::NOSPC));
            let promoted = store.promote(&web, "production", &who());
            let revoked = promoted.is_ok().then(|| store.revoke(&web, "a flaw", &who()));
            let passed = fault::plan(Fault::None);
            drop(staging);
            let store = recovered(dir.path());
            assert_eq!(
                store.channels().expect("readable").len(),
                usize::from(promoted.is_ok()),
                "point {point}"
            );
            let in_force = store.revocations().expect("readable").len();
            assert_eq!(in_force, usize::from(matches!(revoked, Some(Ok(_)))), "point {point}");
            if in_force == 0 {
                store.promote(&web, "production", &who()).expect("once the disk is well again");
                store.revoke(&web, "a flaw", &who()).expect("once the disk is well again");
            }
            if point >= passed {
                assert!(point > 10, "only {point} points");
                break;
            }
        }
    }
}

#[test]
fn a_writer_that_never_ends_is_not_waited_for_for_ever() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut store = Store::open(dir.path()).expect("open");
    store.patience = Duration::ZERO;
    let staging = store.staging().expect("staging");
    let version = image(&staging, "web:1", "one");
    let held = store.lock().expect("free");
    assert!(matches!(
        store.publish(&staging, std::slice::from_ref(&version)),
        Err(Error::Busy { waited: 0, .. })
    ));
    // What it has begun is not repaired while it lives.
    fs::write(dir.path().join("publish.json"), "{").expect("write");
    Store::open(dir.path()).expect("opening waits for nobody");
    fs::remove_file(dir.path().join("publish.json")).expect("remove");
    drop(held);
    store.publish(&staging, &[version]).expect("free again");
}
