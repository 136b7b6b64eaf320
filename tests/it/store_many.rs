//! Many writers at once, threads and processes: one wins each version, and the index is always
//! whole.

use std::path::Path;
use std::process::{Command, Stdio};

use bake::store::{Error, Published, Store};

use crate::store_lab::*;

const WRITERS: usize = 8;

/// What a writer got.
const NEW: i32 = 40;
const ALREADY: i32 = 41;
const TAKEN: i32 = 42;

fn write(dir: &Path, name: &str, content: &str) -> i32 {
    let store = Store::open(dir).expect("open");
    let staging = store.staging().expect("staging");
    let version = image(&staging, name, content);
    match store.publish(&staging, &[version]) {
        Ok(published) if published == [Published::New] => NEW,
        Ok(_) => ALREADY,
        Err(Error::VersionTaken { .. }) => TAKEN,
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn child() {
    let Ok(task) = std::env::var("BAKE_STORE_CHILD") else { return };
    let mut parts = task.split('|');
    let mut next = || parts.next().expect("three parts");
    let (dir, name, content) = (next(), next(), next());
    std::process::exit(write(dir.as_ref(), name, content));
}

fn check(name: impl Fn(usize) -> String, content: impl Fn(usize) -> String, expected: [usize; 3]) {
    let count = |codes: &[i32]| {
        [NEW, ALREADY, TAKEN].map(|code| codes.iter().filter(|found| **found == code).count())
    };
    // Processes, which also make the store together.
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store");
    let spawn = |n: usize| {
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        child.args(["--exact", "store_many::child"]).stdout(Stdio::null());
        child
            .env("BAKE_STORE_CHILD", format!("{}|{}|{}", path.display(), name(n), content(n)))
            .spawn()
            .expect("spawn")
    };
    let children: Vec<_> = (0..WRITERS).map(spawn).collect();
    let codes: Vec<i32> = children
        .into_iter()
        .map(|mut child| child.wait().expect("wait").code().expect("no signal"))
        .collect();
    assert_eq!(count(&codes), expected, "{codes:?}");
    let store = Store::open(&path).expect("open");
    assert_eq!(names(&store).len(), expected[0]);
    assert!(store.dead_stagings().expect("dead").len() <= WRITERS);
    check_whole(&store);
    // Threads, each with a store of its own, and readers beside them.
    let dir = tempfile::tempdir().expect("a directory");
    let codes: Vec<i32> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| {
                let (dir, name, content) = (dir.path(), name(n), content(n));
                scope.spawn(move || write(dir, &name, &content))
            })
            .collect();
        let reader = scope.spawn(|| {
            for _ in 0..50 {
                let store = Store::open_to_read(dir.path()).expect("always readable");
                for version in store.versions().expect("whole") {
                    store.read_blob(&version.manifest.digest).expect("what is listed is there");
                }
            }
        });
        reader.join().expect("no panic");
        writers.into_iter().map(|writer| writer.join().expect("no panic")).collect()
    });
    assert_eq!(count(&codes), expected, "{codes:?}");
    let store = Store::open(dir.path()).expect("open");
    assert_eq!(names(&store).len(), expected[0]);
    assert!(store.dead_stagings().expect("dead").is_empty());
    check_whole(&store);
}

#[test]
fn different_versions_all_appear() {
    check(|n| format!("web:{n}"), |n| n.to_string(), [WRITERS, 0, 0]);
}

#[test]
fn one_wins_a_version_with_different_contents() {
    check(|_| "web:1".to_owned(), |n| n.to_string(), [1, 0, WRITERS - 1]);
}

#[test]
fn all_agree_on_the_same_content() {
    check(|_| "web:1".to_owned(), |_| "same".to_owned(), [1, WRITERS - 1, 0]);
}

#[test]
fn publishers_and_removers_do_not_lose_each_others_blobs() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    std::thread::scope(|scope| {
        for n in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..8 {
                    // All share their layers, so that each removal looks at blobs that others are
                    // about to need.
                    let name = format!("web:{n}.{round}");
                    publish(store, &name, "shared");
                    if round % 2 == 0 {
                        store.remove(&reference(&name)).expect("remove");
                    }
                }
            });
        }
    });
    assert_eq!(names(&store).len(), 16);
    check_whole(&store);
}

#[test]
fn holder() {
    let Some(dir) = std::env::var_os("BAKE_STAGING_CHILD") else { return };
    let store = Store::open(dir.as_ref()).expect("open");
    let staging = store.staging().expect("staging");
    staging.put(b"half a layer").expect("put");
    std::fs::write(Path::new(&dir).join("cache/ready"), staging.id()).expect("write");
    // Until killed: nobody writes to this end.
    let mut nothing = String::new();
    std::io::stdin().read_line(&mut nothing).expect("read");
}

#[test]
fn only_the_staging_directories_of_the_dead_are_swept() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(dir.path()).expect("open");
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.args(["--exact", "store_many::holder"]).env("BAKE_STAGING_CHILD", dir.path());
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("spawn");
    let ready = dir.path().join("cache/ready");
    while !ready.exists() {
        assert!(child.try_wait().expect("wait").is_none(), "it lives");
        std::thread::yield_now();
    }
    assert!(store.dead_stagings().expect("dead").is_empty());
    child.kill().expect("kill");
    child.wait().expect("wait");
    let dead = store.dead_stagings().expect("dead");
    assert_eq!(dead.len(), 1);
    assert!(store.dead_stagings().expect("dead").is_empty(), "claimed once");
    let corner = dead[0].dir().to_owned();
    assert!(corner.join("blobs").is_dir());
    drop(dead);
    assert!(!corner.exists());
    // One that was born half way, without a lock, counts as dead too; what is no directory is let
    // alone.
    std::fs::create_dir(dir.path().join("scratch/20000101T000000000-half")).expect("mkdir");
    std::fs::write(dir.path().join("scratch/file"), "x").expect("write");
    assert_eq!(store.dead_stagings().expect("dead").len(), 1);
    assert!(!dir.path().join("scratch/20000101T000000000-half").exists());
    assert!(dir.path().join("scratch/file").exists());
}
