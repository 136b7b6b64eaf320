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
        output::export(&source, format, dest, options)
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
    let options = Options { force: false, drop_owners: true };
    lab.export(Format::Tar, &at("o.tar"), options).expect("export");
    lab.export(Format::Dir, &at("root"), options).expect("export");
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
    let options = Options { force: false, drop_owners: true };
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
        lab.export(format, &at("out"), options).expect_err("a layer is damaged");
        assert_eq!(lab.names().len(), 2, "{:?}", lab.names());
    }
    fs::write(&blob, &bytes).expect("write");
    for force in [false, true] {
        lab.export(Format::Dir, &at("out"), Options { force, ..options }).expect("export");
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

/// B5: whatever is wrong with the entry of a version, the version is there: `verify` says so, `list`
/// shows it, its name is taken, and nothing else has it.
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
        let draft = lab.store.draft().expect("draft");
        let other = store_lab::image(&draft, "web:1", "other");
        let refused = lab.store.publish(&draft, &[other]).expect_err("the name is taken");
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
    let draft = lab.store.draft().expect("draft");
    let mut web = store_lab::image(&draft, "web:2", "two");
    let artifact = |text: &str| {
        let (digest, size) = draft.put(text.as_bytes()).expect("put");
        let list = Descriptor::new(MEDIA_TESTS, digest, size);
        let (empty, two) = draft.put(b"{}").expect("put");
        let mut manifest = Manifest::new(Descriptor::new(MEDIA_EMPTY, empty, two), vec![list]);
        manifest.artifact_type = Some(MEDIA_TESTS.to_owned());
        manifest.subject = Some(web.manifest.clone());
        let (artifact, size) = draft.put(&manifest.to_json()).expect("put");
        let mut artifact = Descriptor::new(MEDIA_MANIFEST, artifact, size);
        artifact.artifact_type = manifest.artifact_type;
        (artifact, digest)
    };
    let (artifact, tests) = artifact("the tests");
    web.referrers = vec![artifact];
    web.manifest = web.manifest.with_annotation("bake.tests", tests.to_string());
    lab.store.publish(&draft, &[web]).expect("publish");
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
    let draft = lab.store.draft().expect("draft");
    let mut parts = store_lab::Parts::new("bad");
    parts.config.rootfs.diff_ids[1] = Digest::of("another tar");
    let bad = parts.put(&draft, "bad:1");
    lab.store.publish(&draft, &[bad]).expect("publish");
    drop(draft);
    assert!(!verify(&lab.store, &[], &silent()).expect("readable").is_good());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_bake"))
        .args(["run", "bad:1", "--store"])
        .arg(lab.store.dir())
        .args(["--", "/bin/sh"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("run");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(told.contains("the config's diff_id says"), "{told}");
}
