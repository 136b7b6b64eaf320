//! Tests that end a publish with outputs at every point where it touches the disk, as crash.rs does:
//! after the next open all outputs are those of the version that is published, or there is neither.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use rustix::io::Errno;

use super::crash::{image, names, recovered};
use super::disk::fault::{self, Fault};
use super::{Error, Placement, Staging, Store};
use crate::files::{self, Aside, AsideDir};

/// Outputs made aside, as the room `output` leaves them.
#[derive(Default)]
struct Made {
    files: Vec<Aside>,
    dirs: Vec<AsideDir>,
    placements: Vec<Placement>,
}

impl Made {
    fn file(&mut self, path: &Path, content: &str) {
        let mut aside = Aside::new(files::parent(path)).expect("begin");
        std::io::Write::write_all(&mut aside, content.as_bytes()).expect("write");
        let made = aside.ready(0o644).expect("ready").to_owned();
        self.placements.push(Placement::new(&made, path).expect("there"));
        self.files.push(aside);
    }

    fn dir(&mut self, path: &Path, content: &str) {
        let aside = AsideDir::new(files::parent(path)).expect("begin");
        let root = aside.path().join("root");
        fs::create_dir(&root).expect("mkdir");
        fs::write(root.join("inside"), content).expect("write");
        self.placements.push(Placement::new(&root, path).expect("there"));
        self.dirs.push(aside);
    }
}

/// Three outputs, one of them a directory, one of them in another directory.
fn outputs(out: &Path, content: &str) -> Made {
    let mut made = Made::default();
    made.file(&out.join("file"), content);
    made.dir(&out.join("dir"), content);
    made.file(&out.join("other/file"), content);
    made
}

/// What lies in the directory of the outputs once dead writers' files are swept.
fn found(out: &Path) -> BTreeMap<String, String> {
    files::sweep(out);
    files::sweep(&out.join("other"));
    let all = walkdir::WalkDir::new(out).into_iter().map(|entry| entry.expect("readable"));
    let files = all.filter(|entry| entry.file_type().is_file());
    let name = |path: &Path| path.strip_prefix(out).expect("below").display().to_string();
    let read = |path: &Path| fs::read_to_string(path).expect("readable");
    files.map(|entry| (name(entry.path()), read(entry.path()))).collect()
}

fn all_of(content: &str) -> BTreeMap<String, String> {
    ["dir/inside", "file", "other/file"].map(|name| (name.to_owned(), content.to_owned())).into()
}

fn publish(store: &Store, staging: &Staging, name: &str, made: &Made) -> Result<(), Error> {
    let version = image(staging, name, name);
    store.publish_with(&[(staging, &[version])], &made.placements).map(drop)
}

/// A version with outputs, another that replaces them, and that again with outputs alone.
fn life(dir: &Path, out: &Path) {
    let store = Store::open(dir).expect("open");
    let staging = store.staging().expect("staging");
    publish(&store, &staging, "web:1", &outputs(out, "1")).expect("publish");
    publish(&store, &staging, "web:2", &outputs(out, "2")).expect("publish");
    publish(&store, &staging, "web:2", &outputs(out, "3")).expect("publish");
    store.publish_with(&[], &outputs(out, "4").placements).expect("place");
}

/// Not a test of its own: the process that is killed.
#[test]
fn child() {
    let (Some(dir), Some(point)) =
        (std::env::var_os("BAKE_CRASH_OUTPUT_DIR"), std::env::var("BAKE_CRASH_POINT").ok())
    else {
        return;
    };
    let dir = Path::new(&dir);
    fault::plan(Fault::Kill(point.parse().expect("a number")));
    life(&dir.join("store"), &dir.join("out"));
}

fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(dir.path().join("out/other")).expect("mkdir");
    dir
}

#[test]
fn killed_at_any_point_all_outputs_are_of_the_version_that_is_there() {
    let mut seen = vec![];
    for point in 0.. {
        let dir = directory();
        let out = dir.path().join("out");
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        child.args(["--exact", "store::crash_output::child", "--nocapture"]);
        child.env("BAKE_CRASH_OUTPUT_DIR", dir.path()).env("BAKE_CRASH_POINT", point.to_string());
        let output = child.output().expect("run");
        let ended = output.status.success();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(ended || output.status.signal() == Some(9), "point {point}: {text}");
        let store = recovered(&dir.path().join("store"));
        let (versions, found) = (names(&store), found(&out));
        let right = match versions.len() {
            0 => found.is_empty(),
            1 => found == all_of("1"),
            _ => ["2", "3", "4"].iter().any(|content| found == all_of(content)),
        };
        assert!(right, "point {point}: {versions:?} {found:?}");
        let now = found.get("file").cloned().unwrap_or_default();
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        if ended {
            assert!(point > 60, "only {point} points");
            break;
        }
    }
    assert_eq!(seen, ["", "1", "2", "3", "4"]);
}

#[test]
fn a_failing_disk_leaves_all_outputs_as_they_were_or_all_of_the_new_version() {
    for fault in [Fault::Once as fn(usize, Errno) -> Fault, Fault::Dead] {
        for point in 0.. {
            let dir = directory();
            let (store, out) = (dir.path().join("store"), dir.path().join("out"));
            let store = Store::open(&store).expect("open");
            let staging = store.staging().expect("staging");
            publish(&store, &staging, "web:1", &outputs(&out, "1")).expect("publish");
            let made = outputs(&out, "2");
            fault::plan(fault(point, Errno::IO));
            let result = publish(&store, &staging, "web:2", &made);
            let passed = fault::plan(Fault::None);
            drop((made, staging));
            let once = matches!(fault(0, Errno::IO), Fault::Once(..));
            if result.is_err() && once {
                assert_eq!(found(&out), all_of("1"), "point {point}");
            }
            drop(store);
            let store = recovered(&dir.path().join("store"));
            let new = names(&store).len() == 2;
            assert_eq!(found(&out), all_of(if new { "2" } else { "1" }), "point {point}");
            assert!(new || result.is_err(), "point {point}");
            if point >= passed {
                assert!(point > 15, "only {point} points");
                break;
            }
        }
    }
}

#[test]
fn an_output_that_cannot_take_its_place_takes_the_version_back() {
    let dir = directory();
    let (store, out) = (dir.path().join("store"), dir.path().join("out"));
    let store = Store::open(&store).expect("open");
    let staging = store.staging().expect("staging");
    publish(&store, &staging, "web:1", &outputs(&out, "1")).expect("publish");
    // What was made last is gone.
    let made = outputs(&out, "2");
    let gone = dir.path().join("gone");
    fs::rename(out.join("other"), &gone).expect("rename");
    publish(&store, &staging, "web:2", &made).expect_err("it has no place");
    fs::rename(&gone, out.join("other")).expect("rename");
    drop(made);
    assert_eq!(names(&store), ["web:1"]);
    assert_eq!(found(&out), all_of("1"));
    assert!(!dir.path().join("store/publish.json").exists());
}

/// A directory of outputs that went away after a death stops nobody.
#[test]
fn a_journal_about_what_is_gone_is_about_nothing() {
    let dir = directory();
    let (path, out) = (dir.path().join("store"), dir.path().join("out"));
    let store = Store::open(&path).expect("open");
    let staging = store.staging().expect("staging");
    fault::plan(Fault::Dead(9, Errno::IO));
    publish(&store, &staging, "web:1", &outputs(&out, "1")).expect_err("a dead disk");
    fault::plan(Fault::None);
    assert!(path.join("publish.json").exists());
    fs::remove_dir_all(&out).expect("remove");
    drop(staging);
    recovered(&path);
    assert!(!path.join("publish.json").exists());
}

/// Whoever can write into a store must not make others rename what they cannot.
#[test]
fn a_journal_moves_nothing_but_what_bake_itself_names_so() {
    let dir = directory();
    let (path, out) = (dir.path().join("store"), dir.path().join("out"));
    drop(Store::open(&path).expect("open"));
    let index = crate::digest::Digest::of(fs::read(path.join("index.json")).expect("readable"));
    fs::write(out.join("victim"), "mine").expect("write");
    fs::write(out.join("planted"), "theirs").expect("write");
    let inode = std::os::unix::fs::MetadataExt::ino(
        &fs::symlink_metadata(out.join("planted")).expect("there"),
    );
    for doing in ["place", "publish"] {
        let journal = serde_json::json!({ "v": 1, "doing": doing, "index": index, "blobs": [],
            "outputs": [{ "made": out.join("planted"), "waiting": out.join("planted"),
                "path": out.join("victim"), "inode": inode }] });
        fs::write(path.join("publish.json"), journal.to_string()).expect("write");
        recovered(&path);
        assert_eq!(fs::read_to_string(out.join("victim")).expect("readable"), "mine");
        assert_eq!(fs::read_to_string(out.join("planted")).expect("readable"), "theirs");
    }
}
