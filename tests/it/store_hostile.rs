//! Torn, cut, foreign and unwritable stores: each is reported with what is wrong with it, and
//! nothing is lost or made worse.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bake::digest::Digest;
use bake::store::{Error, Published, Store};

use crate::store_lab::*;
use crate::tier;

/// A store with one image, changed by `harm`; neither opening may succeed, and both must leave it
/// as it is.
fn check(harm: impl Fn(&Path), expected: impl Fn(&Error) -> bool) {
    let dir = tempfile::tempdir().expect("a directory");
    publish(&Store::open(dir.path()).expect("open"), "web:1", "one");
    harm(dir.path());
    let before = tree(dir.path());
    for result in [Store::open(dir.path()), Store::open_to_read(dir.path())] {
        let error = result.expect_err("harmed");
        assert!(expected(&error), "{error:?}");
        assert!(error.is_store_unusable());
    }
    assert!(tree(dir.path()) == before, "left as it is");
}

fn write(name: &str, text: &str) -> impl Fn(&Path) {
    move |dir| fs::write(dir.join(name), text).expect("write")
}

#[test]
fn a_damaged_index_is_not_overwritten() {
    let damaged = |error: &Error| matches!(error, Error::Damaged { path, .. } if path.ends_with("index.json"));
    check(write("index.json", ""), damaged);
    check(write("index.json", r#"{"schemaVersion":2,"manif"#), damaged);
    check(write("index.json", "\0\0\0\0"), damaged);
    check(write("index.json", r#"{"schemaVersion":2,"manifests":"x"}"#), damaged);
    check(|dir| fs::remove_file(dir.join("index.json")).expect("remove"), damaged);
}

#[test]
fn a_newer_store_is_refused_with_who_can_read_it() {
    let newer = |error: &Error| {
        matches!(error, Error::Newer { .. })
            && error.to_string().contains("bake 2.1.0 or newer can")
    };
    check(write("bake.json", r#"{"format":2,"needs":"2.1.0","other":[]}"#), newer);
    check(write("bake.json", r#"{"format":1,"features":["x"],"needs":"2.1.0"}"#), newer);
    check(write("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#), |error| {
        matches!(error, Error::Newer { .. })
    });
    check(write("bake.json", "{"), |error| matches!(error, Error::Damaged { .. }));
    check(write("oci-layout", "1.0.0"), |error| matches!(error, Error::Damaged { .. }));
}

#[test]
fn a_directory_with_other_things_is_no_store() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("thesis.txt"), "x").expect("write");
    for result in [Store::open(dir.path()), Store::open_to_read(dir.path())] {
        assert!(
            matches!(result.expect_err("not a store"), Error::NotAStore { found, .. } if found == "thesis.txt")
        );
    }
    assert_eq!(tree(dir.path()).len(), 2);
    assert!(matches!(
        Store::open(&dir.path().join("thesis.txt")),
        Err(Error::NotADirectory { .. })
    ));
}

#[test]
fn small_losses_are_made_good() {
    let dir = tempfile::tempdir().expect("a directory");
    publish(&Store::open(dir.path()).expect("open"), "web:1", "one");
    for name in ["oci-layout", "bake.json", "lock"] {
        fs::remove_file(dir.path().join(name)).expect("remove");
        assert_eq!(
            names(&Store::open_to_read(dir.path()).expect("readable")),
            ["web:1"],
            "without {name}"
        );
        Store::open(dir.path()).expect("open");
        assert!(dir.path().join(name).exists(), "{name}");
    }
    for name in ["scratch", "cache", "logs"] {
        fs::remove_dir_all(dir.path().join(name)).expect("remove");
        publish(&Store::open(dir.path()).expect("open"), "web:1", "one");
    }
}

#[test]
fn blobs_are_verified() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    let version = publish(&store, "web:1", "one");
    let digest = version.manifest.digest;
    let path = store.blob_path(&digest);
    let good = fs::read(&path).expect("read");
    let corrupt = || matches!(store.read_blob(&digest), Err(Error::Corrupt { .. }));
    let mut flipped = good.clone();
    flipped[10] ^= 1;
    fs::write(&path, &flipped).expect("write");
    assert!(corrupt());
    store.blob_of(&version.manifest).expect("the size is right");
    fs::write(&path, &good[..good.len() - 1]).expect("write");
    assert!(corrupt());
    assert!(matches!(store.blob_of(&version.manifest), Err(Error::Corrupt { .. })));
    // One that was cut is mended by publishing the same again.
    let staging = store.staging().expect("staging");
    assert_eq!(
        store.publish(&staging, &[image(&staging, "web:1", "one")]).expect("publish"),
        [Published::Already]
    );
    check_whole(&store);
    fs::remove_file(&path).expect("remove");
    assert!(matches!(store.read_blob(&digest), Err(Error::MissingBlob { .. })));
    std::os::unix::fs::symlink("/etc/passwd", &path).expect("symlink");
    assert!(corrupt(), "a link is not followed");
    fs::remove_file(&path).expect("remove");
    fs::create_dir(&path).expect("mkdir");
    assert!(corrupt());
    fs::remove_dir(&path).expect("remove");
    fs::File::create(&path).expect("create").set_len(17 << 20).expect("grow");
    assert!(matches!(store.read_blob(&digest), Err(Error::TooBig { .. })));
}

#[test]
fn a_fifo_for_a_blob_is_not_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    let digest = Digest::of("x");
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        store.blob_path(&digest),
        rustix::fs::FileType::Fifo,
        mode,
        0,
    )
    .expect("fifo");
    assert!(matches!(store.read_blob(&digest), Err(Error::Corrupt { .. })));
}

#[test]
fn removing_beside_a_damaged_image_deletes_no_blob() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    let one = publish(&store, "web:1", "one");
    publish(&store, "web:2", "two");
    let before = fs::read_dir(dir.path().join("blobs/sha256")).expect("list").count();
    fs::OpenOptions::new()
        .write(true)
        .open(store.blob_path(&one.manifest.digest))
        .expect("open")
        .write_at(b"?", 0)
        .expect("harm");
    store.remove(&reference("web:2")).expect("remove");
    assert_eq!(
        fs::read_dir(dir.path().join("blobs/sha256")).expect("list").count(),
        before,
        "who knows what web:1 needs"
    );
    assert_eq!(names(&store), ["web:1"]);
}

#[test]
fn names_cannot_leave_the_store() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("store")).expect("open");
    for name in ["..", ".", "", "a/b", "/etc", "../x"] {
        assert!(matches!(store.cache(name), Err(Error::Name { .. })), "{name}");
        assert!(matches!(store.logs(name), Err(Error::Name { .. })), "{name}");
    }
    assert!(store.logs("20261123").expect("logs").is_dir());
}

/// A mount that is gone with the value.
pub(crate) struct Mounted(std::path::PathBuf);

impl Mounted {
    pub(crate) fn tmpfs(at: &Path, size: &str) -> Self {
        let options = std::ffi::CString::new(format!("size={size}")).expect("no zero");
        rustix::mount::mount(
            "tmpfs",
            at,
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            options.as_c_str(),
        )
        .expect("mount");
        Self(at.to_owned())
    }

    /// An overlay of empty directories in `parts`.
    pub(crate) fn overlay(at: &Path, parts: &Path) -> Self {
        for part in ["lower", "upper", "work"] {
            fs::create_dir_all(parts.join(part)).expect("our own directory");
        }
        let parts = parts.display();
        let options = format!("lowerdir={parts}/lower,upperdir={parts}/upper,workdir={parts}/work");
        let options = std::ffi::CString::new(options).expect("no zero");
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("overlay", at, "overlay", flags, options.as_c_str()).expect("mount");
        Self(at.to_owned())
    }

    pub(crate) fn read_only(&self) {
        rustix::mount::mount_remount(&self.0, rustix::mount::MountFlags::RDONLY, "")
            .expect("remount");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).expect("unmount");
    }
}

#[test]
fn root_a_full_disk_changes_nothing() {
    if !tier::root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mount = Mounted::tmpfs(dir.path(), "512k");
    let path = dir.path().join("store");
    let store = Store::open(&path).expect("open");
    publish(&store, "web:1", "one");
    let before = tree(&path);
    // Full while the staging directory is written.
    let staging = store.staging().expect("staging");
    let big = vec![7; 1 << 20];
    assert!(matches!(staging.put(&big), Err(Error::Full { .. })));
    // Full at the moment of the publish.
    let version = image(&staging, "web:2", "two");
    let stuffing = dir.path().join("stuffing");
    let mut file = fs::File::create(&stuffing).expect("create");
    assert!(std::io::Write::write_all(&mut file, &big).is_err(), "full now");
    drop(file);
    assert!(matches!(
        store.publish(&staging, std::slice::from_ref(&version)),
        Err(Error::Full { .. })
    ));
    assert!(matches!(store.remove(&reference("web:1")), Err(Error::Full { .. })));
    let mut after = tree(&path);
    after.retain(|name, _| !name.starts_with("scratch/2"));
    assert!(after == before, "{:?}", after.keys());
    fs::remove_file(&stuffing).expect("remove");
    store.publish(&staging, &[version]).expect("there is room again");
    drop(staging);
    check_whole(&store);
    drop(mount);
}

#[test]
fn root_a_read_only_store_can_be_read() {
    if !tier::root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mount = Mounted::tmpfs(dir.path(), "1m");
    let store = Store::open(dir.path()).expect("open");
    publish(&store, "web:1", "one");
    mount.read_only();
    assert!(matches!(Store::open(dir.path()), Err(Error::Unwritable { .. })));
    assert!(matches!(store.staging(), Err(Error::Unwritable { .. })));
    let store = Store::open_to_read(dir.path()).expect("open to read");
    assert_eq!(names(&store), ["web:1"]);
    check_whole(&store);
    assert!(matches!(Store::open(&dir.path().join("new")), Err(Error::Unwritable { .. })));
    drop(mount);
}

/// Stores that earlier formats wrote must be read, verified and written to for ever. Git keeps no
/// empty directories: they are among what an open makes good.
#[test]
fn stores_of_every_format_are_read_and_written() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/store");
    for format in ["format-1"] {
        let dir = tempfile::tempdir().expect("a directory");
        for entry in walkdir::WalkDir::new(fixtures.join(format)).min_depth(1) {
            let entry = entry.expect("walk");
            let to =
                dir.path().join(entry.path().strip_prefix(fixtures.join(format)).expect("inside"));
            if entry.file_type().is_dir() {
                fs::create_dir(to).expect("mkdir");
            } else {
                fs::copy(entry.path(), to).expect("copy");
            }
        }
        let store = Store::open_to_read(dir.path()).expect("readable");
        let written = ["app:1", "web:1.0.0", "web:2.0.0"];
        assert_eq!(names(&store), written, "{format}");
        let report = bake::inspect::verify(&store, &[], &bake::event::silent()).expect("verify");
        assert_eq!(report.problems, [], "{format}");
        assert_eq!((report.images, report.blobs), (3, 7), "{format}");
        let store = Store::open(dir.path()).expect("open");
        assert!(
            matches!(store.resolve(&reference("web")), Ok(version) if version.reference == reference("web:2.0.0")),
            "{format}"
        );
        publish(&store, "web:3.0.0", "three");
        store.remove(&reference("web:3.0.0")).expect("remove");
        let index = fs::read(fixtures.join(format).join("index.json")).expect("read");
        assert!(
            fs::read(dir.path().join("index.json")).expect("read") == index,
            "{format}: as it was"
        );
    }
}
