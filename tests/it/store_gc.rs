//! Garbage collection: what goes, what stays whatever is asked for, and that what is reported is
//! what is done.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bake::digest::Digest;
use bake::files::Lock;
use bake::image::rfc3339;
use bake::store::{Garbage, Kind, Rules, Store, Who};

use crate::store_lab::*;

const DAY: Duration = Duration::from_secs(86_400);

fn ann() -> Who {
    Who { user: "ann".to_owned(), sudo: None, host: "kiln".to_owned() }
}

struct Lab {
    dir: tempfile::TempDir,
    store: Store,
}

fn lab(versions: &[&str]) -> Lab {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    for version in versions {
        publish(&store, version, version);
    }
    Lab { dir, store }
}

/// Rules under which what lies around goes at once.
fn rules() -> Rules {
    Rules { grace: Duration::ZERO, ..Rules::default() }
}

/// Everything but the scratch directory, which an open store makes a lock in.
fn seen(dir: &Path) -> std::collections::BTreeMap<String, (u32, Vec<u8>)> {
    let mut seen = tree(dir);
    seen.retain(|name, _| !name.starts_with("scratch"));
    seen
}

impl Lab {
    /// Says what would go, makes sure that saying changes nothing and is what is then done, and
    /// returns it.
    fn collect(&self, rules: &Rules) -> Garbage {
        tick();
        let before = seen(self.dir.path());
        let planned = self.store.garbage(rules).expect("plan");
        assert!(seen(self.dir.path()) == before, "looking changes nothing");
        let trash = self.store.staging().expect("staging");
        let done = self.store.collect(rules, Some(&trash)).expect("collect");
        trash.discard().expect("discard");
        assert_eq!(planned, done);
        check_whole(&self.store);
        assert_eq!(self.store.garbage(rules).expect("plan").amounts, [], "nothing is left to do");
        done
    }

    /// The versions that stay under these rules.
    fn kept(&self, keep: Option<usize>, older_than: Option<Duration>) -> Vec<String> {
        let gone =
            self.store.garbage(&Rules { keep, older_than, ..rules() }).expect("plan").versions;
        let gone: Vec<_> = gone.into_iter().map(|version| version.reference.to_string()).collect();
        names(&self.store).into_iter().filter(|name| !gone.contains(name)).collect()
    }

    fn promote(&self, image: &str, channel: &str) {
        self.store.promote(&reference(image), channel, &ann()).expect("promote");
    }

    /// Writes a file that was last used so long ago.
    fn file(&self, name: &str, text: &str, age: Duration) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("mkdir");
        fs::write(&path, text).expect("write");
        aged(&path, age);
        path
    }

    /// Makes a version look as if it had been published so many days ago.
    fn published(&self, version: &str, days: u32) {
        let path = self.dir.path().join("index.json");
        let mut index: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        for entry in index["manifests"].as_array_mut().expect("a list") {
            if entry["annotations"]["org.opencontainers.image.ref.name"] == version {
                entry["annotations"]["bake.published"] =
                    rfc3339((now - u64::from(days) * DAY.as_secs()) as i64).into();
            }
        }
        fs::write(&path, serde_json::to_vec(&index).expect("JSON")).expect("write");
    }
}

fn aged(path: &Path, age: Duration) {
    let then = SystemTime::now() - age;
    fs::File::open(path)
        .expect("open")
        .set_times(fs::FileTimes::new().set_accessed(then).set_modified(then))
        .expect("touch");
}

fn count(garbage: &Garbage, kind: Kind) -> u64 {
    garbage.amounts.iter().filter(|amount| amount.kind == kind).map(|amount| amount.count).sum()
}

#[test]
fn no_version_goes_unless_a_rule_says_so() {
    let lab = lab(&["web:1", "web:2"]);
    lab.published("web:1", 1000);
    let before = seen(lab.dir.path());
    assert_eq!(lab.collect(&rules()), Garbage::default());
    assert!(seen(lab.dir.path()) == before);
}

#[test]
fn rules_for_versions() {
    let lab = lab(&["web:1", "app:1", "web:2", "web:3", "app:2", "web:4"]);
    assert_eq!(lab.kept(Some(9), None).len(), 6);
    assert_eq!(lab.kept(Some(2), None), ["app:1", "app:2", "web:3", "web:4"]);
    assert_eq!(lab.kept(Some(1), None), ["app:2", "web:4"]);
    assert_eq!(lab.kept(Some(0), None), Vec::<String>::new());
    // By age: what is old goes, but the last of a name.
    for (version, days) in [("web:1", 50), ("web:2", 40), ("app:1", 60), ("app:2", 60)] {
        lab.published(version, days);
    }
    assert_eq!(lab.kept(None, Some(45 * DAY)), ["app:2", "web:2", "web:3", "web:4"]);
    assert_eq!(lab.kept(None, Some(Duration::ZERO)), ["app:2", "web:4"]);
    // Both must hold.
    assert_eq!(lab.kept(Some(3), Some(45 * DAY)), ["app:1", "app:2", "web:2", "web:3", "web:4"]);
    assert_eq!(lab.kept(Some(1), Some(45 * DAY)), ["app:2", "web:2", "web:3", "web:4"]);
    // Channels keep, also the version that a step back leads to.
    lab.promote("web:1", "old");
    lab.promote("web:2", "new");
    lab.promote("web:3", "new");
    assert_eq!(lab.kept(Some(1), None), ["app:2", "web:1", "web:2", "web:3", "web:4"]);
    // What is revoked is none of the last, and goes unless a channel holds it.
    for bad in ["web:3", "web:4", "app:2"] {
        lab.store.revoke(&reference(bad), "bad", &ann()).expect("revoke");
    }
    assert_eq!(lab.kept(Some(1), None), ["app:1", "web:1", "web:2", "web:3"]);
    let done = lab.collect(&Rules { keep: Some(1), ..rules() });
    assert_eq!(count(&done, Kind::Versions), 2);
    assert!(count(&done, Kind::Blobs) >= 4 && done.bytes() > 0);
    assert_eq!(names(&lab.store), ["app:1", "web:1", "web:2", "web:3"]);
    lab.store.promote_back(&reference("web@new"), &ann()).expect("it is still there");
}

#[test]
fn what_speaks_about_a_version_goes_with_it() {
    let lab = lab(&["web:1"]);
    let before = seen(lab.dir.path());
    let staging = lab.store.staging().expect("staging");
    let mut old = image(&staging, "app:1", "old");
    old.referrers.push(referrer(&staging, &old.manifest, "tested"));
    let digest = old.manifest.digest;
    lab.store.publish(&staging, &[old]).expect("publish");
    drop(staging);
    publish(&lab.store, "app:2", "new");
    lab.collect(&Rules { keep: Some(1), ..rules() });
    assert!(lab.store.referrers(&digest).expect("referrers").is_empty());
    lab.store.remove(&reference("app:2")).expect("remove");
    assert!(seen(lab.dir.path()) == before);
}

#[test]
fn blobs_that_nothing_needs_go_after_a_while() {
    let lab = lab(&["web:1"]);
    let before = seen(lab.dir.path());
    let stray = Digest::of("stray");
    fs::write(lab.store.blob_path(&stray), "stray").expect("write");
    let other = lab.dir.path().join("blobs/sha256/README");
    fs::write(&other, "no blob").expect("write");
    tick();
    let patient = Rules::default();
    assert_eq!(
        lab.store.garbage(&patient).expect("plan").amounts,
        [],
        "another tool may be about to name it"
    );
    let done = lab.store.collect(&rules(), None).expect("collect");
    assert_eq!(count(&done, Kind::Blobs), 1);
    assert!(other.exists(), "what is named like no blob is none of ours");
    fs::remove_file(other).expect("remove");
    assert!(seen(lab.dir.path()) == before);
}

#[test]
fn where_an_image_cannot_be_read_no_blob_goes() {
    let lab = lab(&["web:1", "web:2"]);
    let broken = lab.store.resolve(&reference("web:2")).expect("there").manifest.digest;
    fs::write(lab.store.blob_path(&broken), "damaged").expect("write");
    fs::write(lab.store.blob_path(&Digest::of("stray")), "stray").expect("write");
    tick();
    let done = lab.store.collect(&rules(), None).expect("collect");
    assert_eq!(count(&done, Kind::Blobs), 0);
    assert!(done.notes.iter().any(|note| note.contains("bake verify")), "{:?}", done.notes);
    assert!(lab.store.blob_path(&Digest::of("stray")).exists());
    // A version can go all the same.
    let done = lab.store.collect(&Rules { keep: Some(1), ..rules() }, None).expect("collect");
    assert_eq!(done.versions.len(), 1);
    assert_eq!(names(&lab.store), ["web:2"]);
}

#[test]
fn what_nobody_has_used_leaves_the_cache() {
    let lab = lab(&["web:1"]);
    let (kept, gone, newer) = (Digest::of("kept"), Digest::of("gone"), Digest::of("newer"));
    let key = |n: &str| format!("cache/steps/{0}{1}", &n[..2], "0".repeat(62));
    let entry = |blob: &Digest| {
        format!(r#"{{"v":1,"layer":{{"digest":"{blob}","size":4}},"seconds":1.0,"build":"x"}}"#)
    };
    let old = 15 * DAY;
    let stay = [
        lab.file(&key("aa"), &entry(&kept), DAY),
        // What a later bake writes is not understood, and kept all the same.
        lab.file(&key("bb"), &format!(r#"{{"v":99,"blobs":["{newer}"]}}"#), DAY),
        lab.file(&format!("cache/blobs/{}", kept.hex()), "kept", old),
        lab.file(&format!("cache/blobs/{}", newer.hex()), "newer", old),
        lab.file("cache/packages/sha256/fresh", "x", DAY),
        lab.file("cache/builds/fresh", "x", DAY),
        lab.file("cache/locks/fresh", "", DAY),
        lab.file("cache/locks/held", "", old),
        lab.file("elsewhere/precious", "x", 100 * DAY),
        lab.file("logs/fresh/1.log", "x", DAY),
        lab.file("logs/written/1.log", "x", DAY),
    ];
    let go = [
        lab.file(&key("cc"), &entry(&gone), old),
        lab.file(&key("dd"), &entry(&kept), old),
        lab.file(&format!("cache/blobs/{}", gone.hex()), "gone", old),
        lab.file("cache/blobs/.bake-aside-left", "x", old),
        lab.file("cache/packages/sha256/stale", "x", old),
        lab.file("cache/packages/deep/er/stale", "x", old),
        lab.file("cache/builds/stale", "x", old),
        lab.file("cache/of-a-later-bake/stale", "x", old),
        lab.file("cache/locks/stale", "", old),
        lab.file("cache/layers/lost.used", "", old),
        lab.file("logs/stale/1.log", "x", 31 * DAY),
    ];
    aged(&lab.dir.path().join("logs/stale"), 31 * DAY);
    // A directory that leads out of the store is none of ours.
    std::os::unix::fs::symlink(lab.dir.path().join("elsewhere"), lab.dir.path().join("cache/link"))
        .expect("symlink");
    let held = Lock::shared(&lab.dir.path().join("cache/locks/held")).expect("lock");
    tick();
    let planned = lab.store.garbage(&rules()).expect("plan");
    let done = lab.store.collect(&rules(), None).expect("collect");
    assert_eq!(planned, done);
    drop(held);
    for path in stay {
        assert!(path.exists(), "{}", path.display());
    }
    for path in go {
        assert!(!path.exists(), "{}", path.display());
    }
    let counts = [Kind::Steps, Kind::CacheBlobs, Kind::Packages, Kind::Cache, Kind::Logs]
        .map(|kind| count(&done, kind));
    assert_eq!(counts, [2, 2, 2, 4, 1]);
    fs::remove_dir_all(lab.dir.path().join("elsewhere")).expect("remove");
    check_whole(&lab.store);
}

#[test]
fn a_layer_that_is_published_and_remembered_frees_its_room_once() {
    let lab = lab(&["web:1", "web:2"]);
    let layer = layer_of(&lab.store, "web:1");
    fs::create_dir_all(lab.dir.path().join("cache/blobs")).expect("mkdir");
    let cached = lab.dir.path().join("cache/blobs").join(layer.hex());
    fs::hard_link(lab.store.blob_path(&layer), &cached).expect("link");
    tick();
    let room = fs::metadata(&cached).expect("stat").blocks() * 512;
    let bytes = |done: &Garbage, kind: Kind| {
        done.amounts
            .iter()
            .filter(|amount| amount.kind == kind)
            .map(|amount| amount.bytes)
            .sum::<u64>()
    };
    let plain = Rules { cache_older_than: Duration::ZERO, ..rules() };
    let only_cache = lab.store.garbage(&plain).expect("plan");
    assert_eq!((count(&only_cache, Kind::CacheBlobs), only_cache.bytes()), (1, 0));
    let both = lab.store.garbage(&Rules { keep: Some(1), ..plain }).expect("plan");
    assert_eq!(count(&both, Kind::Blobs), 3);
    // The last of its names takes the bytes along: that of the version, which goes after the cache.
    assert_eq!((bytes(&both, Kind::CacheBlobs), bytes(&both, Kind::Blobs)), (0, 3 * room));
}

fn layer_of(store: &Store, name: &str) -> Digest {
    let version = store.resolve(&reference(name)).expect("there");
    let manifest =
        bake::image::Manifest::parse(&store.read_blob(&version.manifest.digest).expect("read"))
            .expect("a manifest");
    manifest.layers.last().expect("a layer").digest
}

#[test]
fn unpacked_layers_go_unless_somebody_stands_on_them() {
    let lab = lab(&[]);
    let old = 15 * DAY;
    for name in ["stale", "held", "fresh"] {
        lab.file(&format!("cache/layers/{name}/etc/motd"), name, old);
        lab.file(
            &format!("cache/layers/{name}.used"),
            "this boot",
            if name == "fresh" { DAY } else { old },
        );
    }
    // One that was moved in a moment ago, by a build that has not written its mark yet.
    lab.file("cache/layers/new/etc/motd", "new", old);
    let held = Lock::shared(&lab.dir.path().join("cache/layers/held.used")).expect("lock");
    let planned = lab.store.garbage(&rules()).expect("plan");
    assert_eq!(count(&planned, Kind::Layers), 1);
    assert!(planned.bytes() > 0);
    assert_eq!(
        count(&lab.store.collect(&rules(), None).expect("collect"), Kind::Layers),
        0,
        "nowhere to move it to"
    );
    let trash = lab.store.staging().expect("staging");
    let done = lab.store.collect(&rules(), Some(&trash)).expect("collect");
    assert_eq!(done, planned);
    assert_eq!(
        fs::read_to_string(trash.dir().join("layer-stale/etc/motd")).expect("moved"),
        "stale"
    );
    drop((trash, held));
    let mut left: Vec<_> = fs::read_dir(lab.dir.path().join("cache/layers"))
        .expect("list")
        .map(|entry| entry.expect("entry").file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["fresh", "fresh.used", "held", "held.used", "new"]);
}

#[test]
fn what_a_running_build_has_used_stays() {
    let lab = lab(&["web:1"]);
    let now = Rules {
        cache_older_than: Duration::ZERO,
        logs_older_than: Duration::ZERO,
        ..Rules::default()
    };
    let stale = lab.file("cache/packages/stale", "x", DAY);
    let build = lab.store.staging().expect("staging");
    let used = lab.file("cache/packages/used", "x", Duration::from_secs(60));
    let log = lab.store.logs(build.id()).expect("logs").join("1.log");
    fs::write(&log, "x").expect("write");
    lab.store.collect(&now, None).expect("collect");
    assert!(used.exists() && log.exists() && !stale.exists());
    // Its blobs are its own, whatever the cache loses.
    let version = image(&build, "web:2", "two");
    lab.store.collect(&Rules { keep: Some(0), ..now.clone() }, None).expect("collect");
    lab.store.publish(&build, &[version]).expect("publish");
    drop(build);
    assert_eq!(names(&lab.store), ["web:2"]);
    tick();
    lab.store.collect(&now, None).expect("collect");
    assert!(!used.exists() && !log.exists());
    check_whole(&lab.store);
}

#[test]
fn the_scratch_of_the_dead_is_reported_and_left_to_the_sweep() {
    let lab = lab(&[]);
    lab.file("scratch/20000101T000000000-dead/step-1/u/file", "some bytes", DAY);
    let planned = lab.store.garbage(&rules()).expect("plan");
    assert_eq!(count(&planned, Kind::Scratch), 1);
    assert!(planned.bytes() > 0);
    assert_eq!(lab.store.dead_stagings().expect("dead").len(), 1, "looking claims nothing");
}

#[test]
fn builds_and_collections_at_once_lose_nothing() {
    let lab = lab(&[]);
    let (store, rules) =
        (&lab.store, Rules { keep: Some(2), cache_older_than: Duration::ZERO, ..rules() });
    std::thread::scope(|scope| {
        let builders: Vec<_> = (0..3)
            .map(|n| {
                scope.spawn(move || {
                    for round in 0..10 {
                        // All share a layer that the collections keep trying to free.
                        publish(store, &format!("web-{n}:{round}"), &format!("{n} {round}"));
                    }
                })
            })
            .collect();
        let collector = scope.spawn(|| {
            for _ in 0..30 {
                store.collect(&rules, None).expect("collect");
            }
        });
        collector.join().expect("no panic");
        builders.into_iter().for_each(|builder| builder.join().expect("no panic"));
    });
    tick();
    store.collect(&rules, None).expect("collect");
    let expected: Vec<String> =
        (0..3).flat_map(|n| [format!("web-{n}:8"), format!("web-{n}:9")]).collect();
    assert_eq!(names(store), expected);
    check_whole(store);
}

#[test]
fn a_store_that_is_only_read_is_only_looked_at() {
    let lab = lab(&["web:1", "web:2"]);
    let store = Store::open_to_read(lab.dir.path()).expect("open");
    let rules = Rules { keep: Some(1), ..rules() };
    assert_eq!(store.garbage(&rules).expect("plan").versions.len(), 1);
    assert!(matches!(store.collect(&rules, None), Err(bake::store::Error::OpenToRead { .. })));
    let none = Store::open_to_read(&lab.dir.path().join("none")).expect("an empty one");
    assert_eq!(none.garbage(&rules).expect("plan"), Garbage::default());
}
