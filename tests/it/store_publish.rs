//! Publish, resolve, list, remove: what a store promises when nothing goes wrong, and to one who
//! asks for the wrong thing.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use bake::digest::Digest;
use bake::image::{Descriptor, Index, MEDIA_MANIFEST, Manifest};
use bake::store::{Error, Published, Store, Version};

use crate::store_lab::*;

#[test]
fn what_is_published_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("deep/store")).expect("open");
    let one = publish(&store, "web:1.0.0", "one");
    let app = publish(&store, "app:1", "one");
    let two = publish(&store, "web:0.9.0", "two");
    assert_eq!(names(&store), ["app:1", "web:1.0.0", "web:0.9.0"]);
    let digest = |text: &str| store.resolve(&reference(text)).expect(text).manifest.digest;
    assert_eq!(digest("web:1.0.0"), one.manifest.digest);
    assert_eq!(digest("web"), two.manifest.digest, "the newest published, not the greatest");
    let by_digest =
        store.resolve(&reference(&format!("web@{}", one.manifest.digest))).expect("by digest");
    assert_eq!(by_digest.reference, reference("web:1.0.0"));
    assert_eq!(app.manifest.digest, one.manifest.digest, "names are not part of the content");
    store
        .resolve(&reference(&format!("web:0.9.0@{}", one.manifest.digest)))
        .expect_err("of another version");
    // What a reader of layouts sees.
    let index =
        Index::parse(&fs::read(store.dir().join("index.json")).expect("read")).expect("an index");
    assert_eq!(index.validate(), Vec::<String>::new());
    let refs: Vec<&str> = index
        .manifests
        .iter()
        .map(|entry| entry.annotations["org.opencontainers.image.ref.name"].as_str())
        .collect();
    assert_eq!(refs, ["web:1.0.0", "app:1", "web:0.9.0"]);
    assert_eq!(
        fs::read(store.dir().join("oci-layout")).expect("read"),
        br#"{"imageLayoutVersion":"1.0.0"}"#
    );
    check_whole(&store);
    let again = Store::open_to_read(store.dir()).expect("open to read");
    assert_eq!(names(&again), names(&store));
}

#[test]
fn a_version_is_one_content_for_ever() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    let first = publish(&store, "web:1", "one");
    let before = tree(dir.path());
    let staging = store.staging().expect("staging");
    let same = image(&staging, "web:1", "one");
    assert_eq!(store.publish(&staging, &[same]).expect("the same again"), [Published::Already]);
    let other = image(&staging, "web:1", "other");
    let fresh = image(&staging, "web:2", "fresh");
    match store.publish(&staging, &[fresh.clone(), other.clone()]) {
        Err(Error::VersionTaken { reference, have, want }) => {
            assert_eq!(reference.to_string(), "web:1");
            assert_eq!((have, want), (first.manifest.digest, other.manifest.digest));
        }
        result => panic!("{result:?}"),
    }
    drop(staging);
    assert!(tree(dir.path()) == before, "all or none: web:2 is not there either");
    // Two contents for one version in one publish.
    let staging = store.staging().expect("staging");
    let (a, b) = (image(&staging, "x:1", "a"), image(&staging, "x:1", "b"));
    assert!(matches!(store.publish(&staging, &[a.clone(), b]), Err(Error::VersionTaken { .. })));
    assert_eq!(
        store.publish(&staging, &[a.clone(), a]).expect("twice the same"),
        [Published::New, Published::Already]
    );
    assert_eq!(names(&store), ["web:1", "x:1"]);
    check_whole(&store);
}

#[test]
fn several_versions_appear_together() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    let staging = store.staging().expect("staging");
    let versions = [image(&staging, "web:1", "one"), image(&staging, "worker:1", "two")];
    assert_eq!(
        store.publish(&staging, &versions).expect("publish"),
        [Published::New, Published::New]
    );
    assert_eq!(store.publish(&staging, &[]).expect("nothing"), []);
    drop(staging);
    assert_eq!(names(&store), ["web:1", "worker:1"]);
    check_whole(&store);
}

#[test]
fn several_images_appear_together_or_not_at_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    let taken = publish(&store, "app:1", "taken");
    let before = tree(dir.path());
    let (one, two) = (store.staging().expect("staging"), store.staging().expect("staging"));
    let web = image(&one, "web:1", "one");
    // Made in one staging directory, its blobs in the other.
    let lent = Version::new(reference("lent:1"), image(&one, "x:1", "lent").manifest);
    let other = image(&two, "app:1", "other");
    match store.publish_all(&[(&one, std::slice::from_ref(&web)), (&two, &[lent.clone(), other])]) {
        Err(Error::VersionTaken { reference, have, .. }) => {
            assert_eq!((reference.to_string(), have), ("app:1".to_owned(), taken.manifest.digest))
        }
        result => panic!("{result:?}"),
    }
    let mut after = tree(dir.path());
    after.retain(|name, _| !name.starts_with("scratch"));
    assert!(
        before.iter().filter(|(name, _)| !name.starts_with("scratch")).eq(after.iter()),
        "nothing of either staging directory"
    );
    let app = image(&two, "app:2", "two");
    let published = store
        .publish_all(&[(&one, std::slice::from_ref(&web)), (&two, &[lent, app, web.clone()])])
        .expect("publish");
    assert_eq!(published, [Published::New, Published::New, Published::New, Published::Already]);
    drop((one, two));
    assert_eq!(names(&store), ["app:1", "app:2", "lent:1", "web:1"]);
    check_whole(&store);
}

#[test]
fn what_speaks_about_a_version_comes_and_goes_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    publish(&store, "old:1", "old");
    let before = tree(dir.path());
    let staging = store.staging().expect("staging");
    let mut web = image(&staging, "web:1", "one");
    let attestation = referrer(&staging, &web.manifest, "tested");
    web.referrers.push(attestation.clone());
    let stranger = referrer(&staging, &image(&staging, "x:1", "other").manifest, "of another");
    let mut wrong = web.clone();
    wrong.referrers.push(stranger);
    assert!(matches!(store.publish(&staging, &[wrong]), Err(Error::Incomplete { .. })));
    web.manifest.annotations.insert("bake.tested".to_owned(), "yes".to_owned());
    store.publish(&staging, std::slice::from_ref(&web)).expect("publish");
    // The same content under a second name, and what speaks about it given again.
    let mut twin = web.clone();
    twin.reference = reference("web:2");
    store.publish(&staging, &[twin]).expect("publish");
    drop(staging);
    check_whole(&store);
    let found = store.referrers(&web.manifest.digest).expect("referrers");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].digest, found[0].artifact_type.as_deref()),
        (attestation.digest, Some("text/plain"))
    );
    assert_eq!(
        store.resolve(&reference("web:1")).expect("there").manifest.annotations["bake.tested"],
        "yes"
    );
    assert_eq!(names(&store), ["old:1", "web:1", "web:2"], "what speaks about a version is none");
    store.remove(&reference("web:1")).expect("remove");
    assert_eq!(
        store.referrers(&web.manifest.digest).expect("referrers").len(),
        1,
        "web:2 is still there"
    );
    check_whole(&store);
    store.remove(&reference("web:2")).expect("remove");
    assert!(
        tree(dir.path())
            .iter()
            .filter(|(name, _)| *name != "scratch/lock")
            .eq(before.iter().filter(|(name, _)| *name != "scratch/lock"))
    );
}

#[test]
fn what_does_not_hold_together_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    let before = tree(dir.path());
    let staging = store.staging().expect("staging");
    let good = image(&staging, "web:1", "one");
    let mut wrong_size = good.clone();
    wrong_size.manifest.size += 1;
    let missing =
        Version::new(reference("web:1"), Descriptor::new(MEDIA_MANIFEST, Digest::of("nothing"), 7));
    let mut manifest =
        Manifest::parse(&fs::read(staging.path(&good.manifest.digest)).expect("read"))
            .expect("a manifest");
    manifest.layers[0] =
        Descriptor::new(manifest.layers[0].media_type.clone(), Digest::of("no such layer"), 4);
    let (digest, size) = staging.put(&manifest.to_json()).expect("put");
    let no_layer = Version::new(reference("web:1"), Descriptor::new(MEDIA_MANIFEST, digest, size));
    for version in [wrong_size, missing, no_layer] {
        assert!(matches!(store.publish(&staging, &[version]), Err(Error::Incomplete { .. })));
    }
    let (digest, size) = staging.put(b"no manifest").expect("put");
    let garbage = Version::new(reference("web:1"), Descriptor::new(MEDIA_MANIFEST, digest, size));
    assert!(matches!(store.publish(&staging, &[garbage]), Err(Error::Content { .. })));
    let nameless = Version::new(reference("web"), good.manifest);
    assert!(matches!(store.publish(&staging, &[nameless]), Err(Error::NoVersion { .. })));
    drop(staging);
    let mut after = tree(dir.path());
    after.retain(|name, _| name != "scratch/lock");
    assert!(after == before, "{:?}", after.keys());
}

#[test]
fn what_is_removed_is_gone_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    publish(&store, "web:1", "one");
    let before = tree(dir.path());
    publish(&store, "web:2", "two");
    publish(&store, "app:1", "one");
    // A staging directory in flight does not lose what it has.
    let staging = store.staging().expect("staging");
    let later = image(&staging, "web:3", "two");
    let removed = store.remove(&reference("web:2")).expect("remove");
    assert_eq!(removed.reference.to_string(), "web:2");
    assert_eq!(names(&store), ["app:1", "web:1"]);
    check_whole(&store);
    store.publish(&staging, &[later]).expect("publish");
    drop(staging);
    store.remove(&reference("web:3")).expect("remove");
    store.remove(&reference("app:1")).expect("remove");
    assert!(tree(dir.path()) == before, "as if it had never been");
    assert!(matches!(store.remove(&reference("web")), Err(Error::NoVersion { .. })));
    assert!(matches!(store.remove(&reference("web:9")), Err(Error::NotFound { .. })));
    // The number may be used again, as the person wanted.
    publish(&store, "web:2", "something else");
    check_whole(&store);
}

#[test]
fn who_asks_for_the_wrong_name_gets_the_right_one_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    for version in 1..=7 {
        publish(&store, &format!("web:1.{version}.0"), "x");
    }
    publish(&store, "database:1", "y");
    let near = |text: &str| match store.resolve(&reference(text)) {
        Err(Error::NotFound { near, .. }) => near,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(near("web:1.3.1")[0], "web:1.3.0");
    assert_eq!(near("web:9")[0], "web:1.7.0", "the newest");
    assert_eq!(near("wbe:1.1.0"), ["web:1.7.0"]);
    assert_eq!(near("datbase"), ["database:1"]);
    assert_eq!(near("nothing-like-it"), Vec::<String>::new());
}

#[test]
fn foreign_entries_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    let digest = Digest::of("x");
    fs::create_dir_all(dir.path().join("blobs/sha256")).expect("mkdir");
    fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).expect("write");
    let entry = format!(
        r#"{{"digest":"{digest}","size":1,"mediaType":"{MEDIA_MANIFEST}","annotations":{{"org.opencontainers.image.ref.name":"latest"}},"urls":["u"]}}"#
    );
    fs::write(
        dir.path().join("index.json"),
        format!(r#"{{"schemaVersion":2,"manifests":[{entry}],"annotations":{{"k":"v"}}}}"#),
    )
    .expect("write");
    let store = Store::open(dir.path()).expect("a layout becomes a store");
    publish(&store, "web:1", "one");
    store.remove(&reference("web:1")).expect("remove");
    publish(&store, "web:2", "two");
    let text = fs::read_to_string(dir.path().join("index.json")).expect("read");
    assert!(text.starts_with(&format!(r#"{{"schemaVersion":2,"manifests":[{entry},"#)), "{text}");
    assert!(text.ends_with(r#""annotations":{"k":"v"}}"#), "{text}");
    assert_eq!(names(&store), ["web:2"]);
}

#[test]
fn a_dropped_staging_directory_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    drop(store.staging().expect("staging"));
    let before = tree(dir.path());
    let staging = store.staging().expect("staging");
    image(&staging, "web:1", "one");
    drop(staging.blob().expect("blob"));
    let deep = staging.dir().join("step/work/work");
    fs::create_dir_all(&deep).expect("mkdir");
    fs::set_permissions(&deep, fs::Permissions::from_mode(0o0)).expect("chmod");
    assert!(store.dead_stagings().expect("dead").is_empty(), "it lives");
    assert!(
        staging.dir().starts_with(store.dir().join("scratch"))
            && staging.dir().ends_with(staging.id())
    );
    staging.discard().expect("discard");
    assert!(tree(dir.path()) == before);
    let mut ids: Vec<String> =
        (0..100).map(|_| store.staging().expect("staging").id().to_owned()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 100);
}

#[test]
fn files_are_adopted_by_link_or_copy() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("store")).expect("open");
    let staging = store.staging().expect("staging");
    let file = store.cache("layers").expect("cache").join("f");
    for (mode, linked) in [(0o644, true), (0o600, false)] {
        let content = format!("content {mode:o}");
        fs::write(&file, &content).expect("write");
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("chmod");
        let digest = Digest::of(&content);
        staging.adopt(&file, &digest).expect("adopt");
        staging.adopt(&file, &digest).expect("again");
        let meta = fs::metadata(staging.path(&digest)).expect("there");
        assert_eq!((meta.nlink() == 2, meta.mode() & 0o777), (linked, 0o644));
        assert!(staging.open(&digest).expect("open").is_some());
        fs::remove_file(&file).expect("remove");
    }
    std::os::unix::fs::symlink("/etc/passwd", &file).expect("symlink");
    staging.adopt(&file, &Digest::of("x")).expect_err("a link");
    staging.adopt(&dir.path().join("no"), &Digest::of("x")).expect_err("nothing");
}

#[test]
fn reading_leaves_no_trace() {
    let dir = tempfile::tempdir().expect("a directory");
    let none = dir.path().join("none");
    let store = Store::open_to_read(&none).expect("an empty one");
    assert!(names(&store).is_empty());
    assert!(store.strays().expect("strays").is_empty());
    assert!(matches!(store.staging(), Err(Error::OpenToRead { .. })));
    assert!(!none.exists());
    let store = Store::open(dir.path()).expect("open");
    let one = publish(&store, "web:1", "one");
    let before = tree(dir.path());
    let store = Store::open_to_read(dir.path()).expect("open");
    store.resolve(&reference("web")).expect("there");
    store.read_blob(&one.manifest.digest).expect("read");
    store.strays().expect("strays");
    assert!(tree(dir.path()) == before);
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    // The umask belongs to the process: the test runs itself with another one.
    if std::env::var_os("BAKE_UMASK_CHILD").is_none() {
        for umask in ["000", "077"] {
            let run = format!(
                "umask {umask}; exec \"$0\" --exact store_publish::modes_do_not_depend_on_the_umask"
            );
            let mut shell = std::process::Command::new("sh");
            shell
                .arg("-c")
                .arg(run)
                .arg(std::env::current_exe().expect("this program"))
                .env("BAKE_UMASK_CHILD", "1");
            let output = shell.output().expect("run");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("store")).expect("open");
    publish(&store, "web:1", "one");
    for (name, (mode, _)) in tree(store.dir()) {
        let expected = match name.as_str() {
            "cache" | "scratch" | "logs" => 0o40700,
            "" | "blobs" | "blobs/sha256" => 0o40755,
            // Empty, and nobody needs to read them.
            "lock" | "scratch/lock" => continue,
            _ => 0o100_644,
        };
        assert_eq!(mode, expected, "{name}");
    }
}
