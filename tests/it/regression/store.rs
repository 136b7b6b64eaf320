//! What was once reported wrong, as tests of what must hold: store.

use std::fs;
use std::path::Path;

use bake::digest::Digest;
use bake::event::{Event, Sink, silent};
use bake::image::{Descriptor, MEDIA_EMPTY, MEDIA_MANIFEST, Manifest};
use bake::inspect::{list, verify};
use bake::layer::{Error, Form, Limits, Wrong, pack, unpack};
use bake::output::{self, Exported, Format, Options, Source};
use bake::store::{MEDIA_TESTS, Store, Version};

use crate::layer_lab::{Raw, tar};
use crate::store_lab;
use crate::tier;

/// A store with one image, in a directory for all else.
struct Lab {
    dir: tempfile::TempDir,
    store: Store,
    web: Version,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(&dir.path().join("store")).expect("open");
        let web = store_lab::publish(&store, "web:1", "one");
        Self { dir, store, web }
    }

    fn export(
        &self,
        format: Format,
        dest: &Path,
        options: Options,
    ) -> Result<Exported, output::Error> {
        let blob = |digest: &Digest| self.store.blob(digest).map_err(std::io::Error::other);
        let source =
            Source { reference: &self.web.reference, manifest: &self.web.manifest, blob: &blob };
        output::export(&source, format, dest, &options, None)
    }

    /// The upper of its two layers.
    fn layer(&self) -> Digest {
        let bytes = self.store.read_blob(&self.web.manifest.digest).expect("read");
        bake::image::Manifest::parse(&bytes).expect("a manifest").layers[1].digest
    }

    /// The names beside the store, and its own.
    fn names(&self) -> Vec<String> {
        let list = fs::read_dir(self.dir.path()).expect("list");
        let mut names: Vec<String> = list
            .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        names
    }
}

/// A5: overlayfs obeys its own attributes on a lower directory. None of them comes from a tar.
#[test]
fn no_tar_has_an_attribute_of_the_overlay_file_system() {
    for name in ["opaque", "whiteout", "redirect", "metacopy", "origin", "overlay.opaque"] {
        let key = format!("SCHILY.xattr.user.overlay.{name}");
        let bytes = tar(&[Raw::pax(b'x', &[(&key, b"y")]), Raw::file("opt", b"").mode(0o6755)]);
        for form in [Form::Tree, Form::Overlay] {
            let dir = tempfile::tempdir().expect("a directory");
            let error = unpack(&mut &bytes[..], dir.path(), form, &Limits::default());
            let Err(Error::Entry { why: Wrong::Reserved(found), .. }) = error else {
                panic!("{key}: {error:?}")
            };
            assert!(found.contains(&format!("user.overlay.{name}")), "{found}");
        }
    }
}

/// A5: nor from a step, whose own `user.overlay.x` overlayfs keeps as `user.overlay.overlay.x`.
#[test]
fn no_step_gives_an_attribute_of_the_overlay_file_system_to_a_layer() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("d")).expect("mkdir");
    let set = |name: &str| xattr::set(dir.path().join("d"), name, b"y");
    if set("user.overlay.overlay.opaque").is_err() {
        tier::skip("the directory of temporary files has no attributes");
        return;
    }
    let packed = |dir: &Path| pack(dir, 0, &mut std::io::sink()).map(drop);
    let error = packed(dir.path()).expect_err("a step has set it").to_string();
    assert!(error.contains("user.overlay.opaque belongs to the overlay file system"), "{error}");
    // What overlayfs notes for itself is no attribute of the image.
    xattr::remove(dir.path().join("d"), "user.overlay.overlay.opaque").expect("xattr");
    set("user.overlay.origin").expect("xattr");
    packed(dir.path()).expect("overlayfs's own note");
}

/// B2: a file beside the destination is its owner's, whatever it is called.
#[test]
fn an_export_touches_no_other_file() {
    let lab = Lab::new();
    let at = |name: &str| lab.dir.path().join(name);
    fs::write(at("o.tar.partial"), "mine").expect("write");
    fs::create_dir_all(at("root.partial/root")).expect("mkdir");
    fs::write(at("root.partial/bake.lock"), "mine").expect("write");
    let options = Options { force: false, drop_owners: true, ..Options::default() };
    lab.export(Format::Tar, &at("o.tar"), options.clone()).expect("export");
    lab.export(Format::Dir, &at("root"), options.clone()).expect("export");
    assert_eq!(fs::read(at("o.tar.partial")).expect("read"), b"mine");
    assert_eq!(fs::read(at("root.partial/bake.lock")).expect("read"), b"mine");
    assert_eq!(lab.names(), ["o.tar", "o.tar.partial", "root", "root.partial", "store"]);
}

/// C2, C6: a failed export leaves nothing, a killed one nothing that is in anybody's way; the next
/// one removes it.
#[test]
fn a_failed_or_killed_export_blocks_no_later_one() {
    let lab = Lab::new();
    let at = |name: &str| lab.dir.path().join(name);
    let options = Options { force: false, drop_owners: true, ..Options::default() };
    // As killed at each of its steps: begun, filled, and with the directory that it has replaced.
    for (n, left) in ["", "root/etc", "root/half"].into_iter().enumerate() {
        fs::create_dir_all(at(&format!(".bake-aside-000000000000000{n}")).join(left))
            .expect("mkdir");
    }
    fs::write(at(".bake-aside-00000000000000ff"), "half a tar").expect("write");
    // Another one at work in the same directory is left alone.
    let living = bake::files::AsideDir::new(lab.dir.path()).expect("begin");
    assert_eq!(lab.names().len(), 2, "{:?}", lab.names());
    let blob = lab.store.blob_path(&lab.layer());
    let bytes = fs::read(&blob).expect("read");
    fs::write(&blob, [&bytes[..bytes.len() - 9], &[0; 9]].concat()).expect("write");
    for format in [Format::Tar, Format::Dir] {
        lab.export(format, &at("out"), options.clone()).expect_err("a layer is damaged");
        assert_eq!(lab.names().len(), 2, "{:?}", lab.names());
    }
    fs::write(&blob, &bytes).expect("write");
    for force in [false, true] {
        lab.export(Format::Dir, &at("out"), Options { force, ..options.clone() }).expect("export");
    }
    drop(living);
    assert_eq!(lab.names(), ["out", "store"]);
}

/// B11: the name of a new store, and of the directories made for it, is on the disk before
/// anything is published in it.
#[test]
fn tools_strace_the_parents_of_a_new_store_are_synced() {
    if let Some(dir) = std::env::var_os("BAKE_NEW_STORE") {
        Store::open(Path::new(&dir)).expect("open");
        return;
    }
    if !tier::tool("strace") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("log");
    let status = std::process::Command::new("strace")
        .args(["-f", "-qq", "-y", "-e", "trace=fsync", "-o"])
        .arg(&log)
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "regression::store::tools_strace_the_parents_of_a_new_store_are_synced"])
        .env("BAKE_NEW_STORE", dir.path().join("a/b/store"))
        .stdout(std::process::Stdio::null())
        .status()
        .expect("run strace");
    let text = fs::read_to_string(log).unwrap_or_default();
    if !status.success() && text.is_empty() {
        tier::skip("strace may not trace here");
        return;
    }
    for parent in ["", "/a", "/a/b"] {
        let synced = format!("<{}{parent}>", dir.path().display());
        assert!(text.contains(&synced), "{synced}\n{text}");
    }
}

/// B5: whatever is wrong with the entry of a version, the version is there: `verify` says so,
/// `list` shows it, its name is taken, and nothing else has it.
#[test]
fn a_version_with_a_damaged_entry_is_there_and_damaged() {
    let hex = "0".repeat(64);
    let digests = [
        "sha256:../../etc/passwd".to_owned(),
        format!("sha256:{}", "A".repeat(64)),
        format!("sha512:{hex}{hex}"),
        hex,
        String::new(),
    ];
    let sizes = ["-1", "18446744073709551616", "1.5", "\"7\"", "null"];
    let lab = Lab::new();
    let index = lab.store.dir().join("index.json");
    let good = fs::read_to_string(&index).expect("read");
    let (digest, size) = (lab.web.manifest.digest.to_string(), lab.web.manifest.size);
    let bad_digests =
        digests.iter().map(|bad| good.replace(&format!("\"{digest}\""), &format!("\"{bad}\"")));
    let bad_sizes = sizes
        .iter()
        .map(|bad| good.replace(&format!("\"size\":{size}"), &format!("\"size\":{bad}")));
    for text in bad_digests.chain(bad_sizes) {
        assert_ne!(text, good);
        fs::write(&index, &text).expect("write");
        let report = verify(&lab.store, &[], &silent()).expect("readable");
        assert!(!report.is_good(), "{text}");
        assert!(report.problems.iter().any(|problem| problem.images == ["web:1"]), "{report:?}");
        let rows = list(&lab.store).expect("readable");
        assert_eq!((rows.len(), rows[0].digest), (1, None), "{text}");
        assert!(rows[0].problem.is_some());
        let staging = lab.store.staging().expect("staging");
        let other = store_lab::image(&staging, "web:1", "other");
        let refused = lab.store.publish(&staging, &[other]).expect_err("the name is taken");
        assert!(refused.to_string().contains("its entry web:1 cannot be read"), "{refused}");
        for name in ["web:1", "web"] {
            lab.store.resolve(&store_lab::reference(name)).expect_err("damaged");
        }
        assert_eq!(fs::read_to_string(&index).expect("read"), text);
    }
}

/// B5: what an entry says of the image's tests is true. E11: only images are counted as images.
#[test]
fn a_false_digest_of_the_tests_is_found() {
    let lab = Lab::new();
    let staging = lab.store.staging().expect("staging");
    let mut web = store_lab::image(&staging, "web:2", "two");
    let artifact = |text: &str| {
        let (digest, size) = staging.put(text.as_bytes()).expect("put");
        let list = Descriptor::new(MEDIA_TESTS, digest, size);
        let (empty, two) = staging.put(b"{}").expect("put");
        let mut manifest = Manifest::new(Descriptor::new(MEDIA_EMPTY, empty, two), vec![list]);
        manifest.artifact_type = Some(MEDIA_TESTS.to_owned());
        manifest.subject = Some(web.manifest.clone());
        let (artifact, size) = staging.put(&manifest.to_json()).expect("put");
        let mut artifact = Descriptor::new(MEDIA_MANIFEST, artifact, size);
        artifact.artifact_type = manifest.artifact_type;
        (artifact, digest)
    };
    let (artifact, tests) = artifact("the tests");
    web.referrers = vec![artifact];
    web.manifest = web.manifest.with_annotation("bake.tests", tests.to_string());
    lab.store.publish(&staging, &[web]).expect("publish");
    let report = verify(&lab.store, &[], &silent()).expect("readable");
    assert!(report.is_good(), "{report:?}");
    assert_eq!((report.images, report.artifacts), (2, 1));
    let index = lab.store.dir().join("index.json");
    let good = fs::read_to_string(&index).expect("read");
    for bad in [Digest::of("other").to_string(), "sha256:zz".to_owned(), String::new()] {
        let named = format!("\"bake.tests\":\"{tests}\"");
        fs::write(&index, good.replace(&named, &format!("\"bake.tests\":\"{bad}\"")))
            .expect("write");
        let report = verify(&lab.store, &[], &silent()).expect("readable");
        assert!(report.problems.iter().any(|one| one.what.contains("its tests are")), "{bad}");
        assert!(!report.is_good());
    }
}

/// C4: what a removal has taken meanwhile is no problem of the store.
#[test]
fn verify_reports_no_version_that_is_gone_by_then() {
    let lab = Lab::new();
    store_lab::publish(&lab.store, "app:1", "two");
    let index = lab.store.dir().join("index.json");
    let before = fs::read_to_string(&index).expect("read");
    // The first byte that is read is the signal: the version is in the list, and its blobs go.
    let (dir, layer) = (lab.store.dir().to_owned(), lab.layer());
    fs::write(lab.store.blob_path(&layer), "cut short").expect("write");
    let once = std::sync::Once::new();
    let sink: Sink = std::sync::Arc::new(move |event| {
        if matches!(event, Event::Progress { .. }) {
            once.call_once(|| {
                let store = Store::open(&dir).expect("open");
                store.remove(&store_lab::reference("web:1")).expect("remove");
            });
        }
    });
    let report = verify(&lab.store, &[], &sink).expect("readable");
    assert_eq!(report.problems, []);
    // And what is there is reported.
    fs::write(&index, before).expect("write");
    assert!(!verify(&lab.store, &[], &silent()).expect("readable").is_good());
}

/// B6: what `verify` refuses does not start.
#[test]
fn an_image_whose_layers_are_not_what_its_config_says_does_not_run() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    let staging = lab.store.staging().expect("staging");
    let mut parts = store_lab::Parts::new("bad");
    parts.config.rootfs.diff_ids[1] = Digest::of("another tar");
    let bad = parts.put(&staging, "bad:1");
    lab.store.publish(&staging, &[bad]).expect("publish");
    drop(staging);
    assert!(!verify(&lab.store, &[], &silent()).expect("readable").is_good());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_bake"))
        .args(["run", "bad:1", "--store"])
        .arg(lab.store.dir())
        .args(["--", "/bin/sh"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("run");
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(printed.contains("the config's diff_id says"), "{printed}");
}

/// The file system of a store with little room: a tmpfs, mounted where nobody else sees it.
fn on_a_small_disk(test: &str, then: impl FnOnce(&Path)) {
    // In a mount namespace of its own, which goes with the process.
    let Some(dir) = std::env::var_os("BAKE_SMALL_DISK") else {
        let dir = tempfile::tempdir().expect("a directory");
        let script = "mount -t tmpfs -o size=4m,mode=755 none \"$BAKE_SMALL_DISK\" && exec \"$0\" --exact \"$1\" --nocapture";
        let output = std::process::Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(std::env::current_exe().expect("this program"))
            .arg(test)
            .env("BAKE_SMALL_DISK", dir.path())
            .output()
            .expect("run unshare");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{printed}");
        assert!(printed.contains("1 passed"), "{printed}");
        return;
    };
    then(Path::new(&dir));
}

/// Fills the disk of `dir` to the last byte.
fn fill(dir: &Path) {
    use std::io::Write;
    let mut file = fs::File::create(dir.join("full")).expect("create");
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
}

/// C3: on a full disk what frees room works.
#[test]
fn root_a_full_disk_can_be_freed() {
    if !tier::root() || !tier::tool("unshare") {
        return;
    }
    on_a_small_disk("regression::store::root_a_full_disk_can_be_freed", |disk| {
        let store = Store::open(&disk.join("store")).expect("open");
        for n in 1..=4 {
            store_lab::publish(&store, &format!("web:{n}"), &format!("{n}"));
        }
        let cached = store.cache("packages").expect("cache").join("old");
        fs::write(&cached, "x").expect("write");
        fill(disk);
        fs::write(disk.join("more"), "x").expect_err("the disk is full");
        // As another process would find it.
        let store = Store::open(&disk.join("store")).expect("open");
        store.remove(&store_lab::reference("web:1")).expect("rm");
        fill(disk);
        let rules = bake::store::Rules {
            keep: Some(1),
            cache_older_than: std::time::Duration::ZERO,
            grace: std::time::Duration::ZERO,
            ..Default::default()
        };
        store_lab::tick();
        let done = store.collect(&rules, None).expect("gc");
        assert_eq!(done.versions.len(), 2);
        assert!(!cached.exists());
        assert_eq!(store_lab::names(&store), ["web:4"]);
        fs::remove_file(disk.join("full")).expect("remove");
        store_lab::check_whole(&store);
        let store = Store::open(&disk.join("store")).expect("open");
        assert!(store.dir().join("reserve").exists(), "for the next time");
    });
}

/// C3: what a collection says to have removed is gone, and nothing else.
#[test]
fn a_collection_that_fails_says_what_it_removed() {
    let lab = Lab::new();
    store_lab::publish(&lab.store, "web:2", "two");
    let rules = bake::store::Rules {
        keep: Some(1),
        cache_older_than: std::time::Duration::ZERO,
        ..Default::default()
    };
    let cached = lab.store.cache("packages").expect("cache").join("old");
    fs::write(&cached, "x").expect("write");
    store_lab::tick();
    // The journal cannot be written.
    fs::create_dir(lab.store.dir().join("publish.json")).expect("mkdir");
    let error = lab.store.collect(&rules, None).expect_err("no journal");
    let bake::store::Error::Collect { removed, .. } = error else { panic!("{error}") };
    assert!(!cached.exists());
    let kinds: Vec<_> = removed.amounts.iter().map(|one| (one.kind, one.count)).collect();
    assert_eq!(kinds, [(bake::store::Kind::Packages, 1)]);
    assert_eq!(removed.versions, []);
    assert_eq!(store_lab::names(&lab.store).len(), 2);
}

/// B10: bytes are freed when the writers' lock is free again.
#[test]
fn tools_strace_a_collection_removes_no_blob_under_the_lock() {
    let collect = |store: &Store| {
        let zero = std::time::Duration::ZERO;
        let rules = bake::store::Rules { keep: Some(1), grace: zero, ..Default::default() };
        store.collect(&rules, None).expect("collect")
    };
    if let Some(dir) = std::env::var_os("BAKE_GC_STORE") {
        assert_eq!(collect(&Store::open(Path::new(&dir)).expect("open")).versions.len(), 1);
        return;
    }
    if !tier::tool("strace") {
        return;
    }
    let lab = Lab::new();
    store_lab::publish(&lab.store, "web:2", "two");
    let stray = lab.store.blob_path(&Digest::of("stray"));
    fs::write(&stray, "stray").expect("write");
    store_lab::tick();
    let log = lab.dir.path().join("log");
    let status = std::process::Command::new("strace")
        .args(["-f", "-qq", "-y", "-e", "trace=flock,close,unlink,unlinkat,rename,renameat2", "-o"])
        .arg(&log)
        .arg(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "regression::store::tools_strace_a_collection_removes_no_blob_under_the_lock",
        ])
        .env("BAKE_GC_STORE", lab.store.dir())
        .stdout(std::process::Stdio::null())
        .status()
        .expect("run strace");
    let text = fs::read_to_string(log).unwrap_or_default();
    if !status.success() && text.is_empty() {
        tier::skip("strace may not trace here");
        return;
    }
    let lock = format!("<{}/lock>", lab.store.dir().display());
    let last = |what: &dyn Fn(&str) -> bool| text.lines().rposition_of(what);
    let released = last(&|line| line.contains("close(") && line.contains(&lock));
    let removed: Vec<usize> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.contains("unlink") && line.contains(&Digest::of("stray").hex()))
        .map(|(n, _)| n)
        .collect();
    assert_eq!(removed.len(), 1, "{text}");
    assert!(released.is_some_and(|at| at < removed[0]), "{text}");
    assert!(!stray.exists());
}

trait Lines {
    fn rposition_of(self, what: &dyn Fn(&str) -> bool) -> Option<usize>;
}

impl Lines for std::str::Lines<'_> {
    fn rposition_of(self, what: &dyn Fn(&str) -> bool) -> Option<usize> {
        self.enumerate().filter(|(_, line)| what(line)).map(|(n, _)| n).last()
    }
}

/// B17: a store is in no directory that another user can empty or fill.
#[test]
fn root_another_users_directory_is_no_store_of_root() {
    if !tier::root() {
        return;
    }
    use std::os::unix::fs::{PermissionsExt, chown};
    let dir = tempfile::tempdir().expect("a directory");
    let theirs = dir.path().join("theirs");
    for mode in [0o777, 0o755] {
        fs::create_dir(&theirs).expect("mkdir");
        fs::set_permissions(&theirs, fs::Permissions::from_mode(mode)).expect("chmod");
        chown(&theirs, Some(12_345), Some(12_345)).expect("chown");
        let error = Store::open(&theirs).expect_err("another user's").to_string();
        assert!(error.contains("belongs to user 12345"), "{error}");
        assert_eq!(fs::read_dir(&theirs).expect("list").count(), 0, "nothing was made");
        fs::remove_dir(&theirs).expect("remove");
    }
    // A store that was made before is root's, until everybody may write to it.
    drop(Store::open(&theirs).expect("root's own"));
    chown(&theirs, Some(12_345), Some(12_345)).expect("chown");
    drop(Store::open(&theirs).expect("another user's store"));
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o777)).expect("chmod");
    Store::open(&theirs).expect_err("open to everybody");
}

/// B17: nobody else may write to what a build leaves, whatever the umask was.
#[test]
fn nothing_in_a_store_is_open_to_all_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    fs::write(
        at("web.toml"),
        "[image]\nname = \"web\"\nversion = \"1\"\n\n[base]\nscratch = true\n\n[[step]]\nfile = \"/motd\"\ncontent = \"hi\"\n",
    )
    .expect("write");
    if !tier::sandbox() {
        return;
    }
    let output = std::process::Command::new("sh")
        .args(["-c", "umask 000 && exec \"$0\" build web.toml --store new/store"])
        .arg(env!("CARGO_BIN_EXE_bake"))
        .current_dir(dir.path())
        .output()
        .expect("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for entry in walkdir::WalkDir::new(at("new")) {
        let entry = entry.expect("walk");
        let mode = entry.metadata().expect("stat").permissions().mode();
        assert!(mode & 0o022 == 0, "{}: {mode:o}", entry.path().display());
    }
    let cached = walkdir::WalkDir::new(at("new")).into_iter().flatten();
    let aside: Vec<_> = cached
        .filter(|one| bake::files::is_aside(one.file_name()))
        .map(|one| one.into_path())
        .collect();
    assert_eq!(aside, Vec::<std::path::PathBuf>::new(), "C6: nothing is left aside");
}

/// B16: what cannot be removed of a dead build is a warning of the next one, and no more.
#[test]
fn root_a_dead_build_that_cannot_be_removed_stops_no_other() {
    if !tier::root() || !tier::tool("chattr") || !tier::sandbox() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    drop(Store::open(&at("store")).expect("open"));
    let dead = at("store/scratch/20000101T000000000-dead");
    fs::create_dir_all(dead.join("step-1")).expect("mkdir");
    fs::write(dead.join("lock"), "").expect("write");
    let chattr = |flag: &str| {
        std::process::Command::new("chattr").arg(flag).arg(&dead).status().expect("run").success()
    };
    if !chattr("+i") {
        tier::skip("this file system has no immutable files");
        return;
    }
    fs::write(
        at("web.toml"),
        "[image]\nname = \"web\"\nversion = \"1\"\n\n[base]\nscratch = true\n\n[[step]]\nfile = \"/motd\"\ncontent = \"hi\"\n",
    )
    .expect("write");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_bake"))
        .args(["build", "web.toml", "--store", "store"])
        .current_dir(dir.path())
        .output()
        .expect("run");
    assert!(chattr("-i"));
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("which a build that died has left"), "{printed}");
}

/// C7: an unpacked layer, which is never synced, is believed in the life of its file system only: a
/// disk that was taken away and came back may have lost half of it.
#[test]
fn root_tools_an_unpacked_layer_is_not_believed_after_a_remount() {
    let test = "regression::store::root_tools_an_unpacked_layer_is_not_believed_after_a_remount";
    if let Some(dir) = std::env::var_os("BAKE_REMOUNTED") {
        let store = Store::open(&Path::new(&dir).join("store")).expect("open");
        let (cache, staging) =
            (store.step_cache().expect("cache"), store.staging().expect("staging"));
        if std::env::var_os("BAKE_REMOUNTED_AGAIN").is_none() {
            let unpacked = staging.dir().join("u");
            fs::create_dir(&unpacked).expect("mkdir");
            let kept = cache.keep_unpacked("one", &unpacked, &staging.dir().join("old"));
            assert!(kept.expect("keep").is_some());
            assert!(cache.unpacked("one").expect("look").is_some(), "believed while it lives");
        } else {
            assert!(store.dir().join("cache/layers/one").is_dir());
            assert!(cache.unpacked("one").expect("look").is_none(), "not believed any more");
        }
        return;
    }
    if !tier::root() || !["unshare", "mkfs.ext4", "losetup"].into_iter().all(tier::tool) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let script = r#"
        set -e
        truncate -s 32M disk && mkfs.ext4 -q disk && mkdir at
        mount -o loop disk at || exit 99
        BAKE_REMOUNTED=$PWD/at "$0" --exact "$1" --nocapture
        umount at && mount -o loop disk at
        BAKE_REMOUNTED_AGAIN=1 BAKE_REMOUNTED=$PWD/at "$0" --exact "$1" --nocapture
        umount at
    "#;
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(std::env::current_exe().expect("this program"))
        .arg(test)
        .current_dir(dir.path())
        .output()
        .expect("run unshare");
    if output.status.code() == Some(99) {
        tier::skip("no loop device can be mounted here");
        return;
    }
    let printed = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    assert_eq!(printed.matches("1 passed").count(), 2, "{printed}");
}
