//! Death and failing system calls in the middle of a publish and a removal, from outside the
//! program: at every call that changes the disk, one by one, by strace. (`src/store/crash.rs` does
//! the same between the effects, without any tool.)

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use bake::store::Store;

use crate::store_lab::*;
use crate::tier;

/// Calls by which the store changes the disk.
const CALLS: &[&str] = &[
    "fsync",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "chmod",
    "fchmod",
    "flock",
];

const DONE: i32 = 40;
const REFUSED: i32 = 41;

/// What the victim does: a publish of two versions, then a removal; or, from nothing, the making of
/// the store too.
fn live(dir: &Path) -> Result<(), bake::store::Error> {
    let store = Store::open(dir)?;
    let staging = store.staging()?;
    let versions = [
        Parts::new("one").try_put(&staging, "web:1")?,
        Parts::new("two").try_put(&staging, "app:1")?,
    ];
    store.publish(&staging, &versions)?;
    drop(staging);
    store.remove(&reference("web:1")).map(drop)
}

#[test]
fn child() {
    let Some(dir) = std::env::var_os("BAKE_STRACE_CHILD") else { return };
    std::process::exit(if live(Path::new(&dir)).is_ok() { DONE } else { REFUSED });
}

/// Runs the victim under strace, which writes its calls of one kind into `log`, and does some
/// `harm` to one of them.
fn run(dir: &Path, log: &Path, call: &str, harm: Option<&str>) -> ExitStatus {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "signal=none", "-e", &format!("trace={call}"), "-o"]).arg(log);
    if let Some(harm) = harm {
        strace.args(["-e", &format!("inject={call}:{harm}")]);
    }
    strace
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "store_crash::child"]);
    strace.env("BAKE_STRACE_CHILD", dir).stdout(Stdio::null()).stderr(Stdio::null());
    strace.status().expect("run strace")
}

/// How often a victim that is left alone makes the call; nothing where tracing is forbidden.
fn count(call: &str) -> Option<usize> {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("log");
    let status = run(&dir.path().join("store"), &log, call, None);
    let text = std::fs::read_to_string(log).unwrap_or_default();
    (status.code() == Some(DONE))
        .then(|| text.lines().filter(|line| line.contains(&format!("{call}("))).count())
}

/// Makes sure that one more open repairs everything, that the store is one of three things, and
/// that the next build works.
fn check(dir: &Path, what: &str) -> Vec<String> {
    let store = Store::open(dir).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    drop(store.dead_stagings().expect("dead staging directories"));
    check_whole(&store);
    let left: Vec<_> = std::fs::read_dir(dir.join("scratch"))
        .expect("list")
        .map(|e| e.expect("entry").file_name())
        .collect();
    assert!(left.iter().all(|name| name == "lock"), "{what}: {left:?}");
    let found = names(&store);
    assert!(
        found.is_empty() || found == ["app:1", "web:1"] || found == ["app:1"],
        "{what}: {found:?}"
    );
    publish(&store, "web:1", "one");
    publish(&store, "web:2", "three");
    check_whole(&store);
    found
}

fn at_every_call(harm: &str, ended: impl Fn(ExitStatus) -> bool) {
    if !tier::tool("strace") {
        return;
    }
    let mut points = 0;
    for call in CALLS {
        let Some(calls) = count(call) else {
            tier::skip("strace may not trace here");
            return;
        };
        for n in 1..=calls {
            let dir = tempfile::tempdir().expect("a directory");
            let dir = dir.path().join("store");
            let what = format!("{harm} at {call} number {n}");
            let status = run(&dir, Path::new("/dev/null"), call, Some(&format!("{harm}:when={n}")));
            let done = status.code() == Some(DONE);
            assert!(done || ended(status), "{what}: {status:?}");
            let found = check(&dir, &what);
            // Some failures do no harm; some calls are made in another thread, where they count by
            // themselves.
            assert!(!done || found == ["app:1"], "{what}: {found:?}");
            points += usize::from(!done);
        }
    }
    assert!(points > 30, "only {points} points");
}

#[test]
fn tools_strace_killed_at_every_call() {
    // strace ends as its child did.
    at_every_call("signal=KILL", |status| status.signal() == Some(9) || status.code() == Some(137));
}

#[test]
fn tools_strace_no_room_at_every_call() {
    at_every_call("error=ENOSPC", |status| status.code() == Some(REFUSED));
}

#[test]
fn tools_strace_the_disk_fails_at_every_call() {
    at_every_call("error=EIO", |status| status.code() == Some(REFUSED));
}

/// Power can fail between any two of these, and the disk may have done what was not flushed in any
/// order.
#[test]
fn tools_strace_everything_is_flushed_before_it_is_named() {
    if !tier::tool("strace") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let (store, log) = (dir.path().join("store"), dir.path().join("log"));
    Store::open(&store).expect("open");
    let mut strace = Command::new("strace");
    strace
        .args([
            "-f",
            "-qq",
            "-y",
            "-s",
            "4096",
            "-e",
            "signal=none",
            "-e",
            "trace=fsync,rename,renameat,renameat2,unlink",
            "-o",
        ])
        .arg(&log);
    strace
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "store_crash::child"]);
    let status = strace
        .env("BAKE_STRACE_CHILD", &store)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("run strace");
    if status.code() != Some(DONE) {
        tier::skip("strace may not trace here");
        return;
    }
    let text = std::fs::read_to_string(&log).expect("read");
    let lines: Vec<&str> = text.lines().collect();
    let name = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let flushed = |path: &str| {
        lines.iter().position(|line| line.contains("fsync(") && line.contains(&format!("<{path}>")))
    };
    let flushed_after = |path: &str, at: usize| {
        lines[at..]
            .iter()
            .position(|line| line.contains("fsync(") && line.contains(&format!("<{path}>")))
            .map(|n| at + n)
    };
    let renames_to = |part: &str| {
        let to = |line: &&str| {
            line.contains("rename")
                && line.rsplit_once(", \"").is_some_and(|(_, to)| to.starts_with(part))
        };
        lines.iter().enumerate().filter(|(_, line)| to(line)).map(|(n, _)| n).collect::<Vec<_>>()
    };
    let index = *renames_to(&name(&store.join("index.json"))).first().expect("an index");
    let journal = *renames_to(&name(&store.join("publish.json"))).first().expect("a journal");
    let blobs = renames_to(&name(&store.join("blobs/sha256")));
    assert_eq!(blobs.len(), 7, "{text}");
    let journal_flushed = flushed_after(&name(&store), journal).expect("the journal is flushed");
    for blob in &blobs {
        let from = lines[*blob].split('"').nth(1).expect("a path");
        assert!(flushed(from).is_some_and(|at| at < journal), "the bytes of {from}");
        assert!(journal_flushed < *blob && *blob < index);
    }
    let last = *blobs.last().expect("blobs");
    assert!(
        flushed_after(&name(&store.join("blobs/sha256")), last).is_some_and(|at| at < index),
        "the names of the blobs"
    );
    // Written without a name where the file system can do that: `#inode (deleted)`.
    let aside = lines[index].split('"').nth(1).expect("a path");
    let unnamed = name(&store.join("#"));
    assert!(
        lines[last..index].iter().any(|line| {
            let of = |path: &str| line.contains(&format!("<{path}"));
            line.contains("fsync(") && (of(aside) || of(&unnamed))
        }),
        "the bytes of the index\n{text}"
    );
    let index_flushed = flushed_after(&name(&store), index).expect("the name of the index");
    let gone = lines
        .iter()
        .position(|line| line.contains("unlink") && line.contains("publish.json"))
        .expect("the journal goes");
    assert!(index_flushed < gone);
}
