//! Death and failing system calls in the middle of a publish and a removal, from outside the program: at every call that
//! changes the disk, one by one, by strace. (`src/store/crash.rs` does the same between the effects, without any tool.)

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::process::ExitStatus;

use bake::store::Store;

use crate::store_lab::*;
use crate::tier;

/// Calls by which the store changes the disk.
const CALLS: &[&str] = &["fsync", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "chmod", "fchmod", "flock"];

const DONE: i32 = 40;
const REFUSED: i32 = 41;

/// What the victim does: a publish of two versions, then a removal; or, from nothing, the making of the store too.
fn live(dir: &Path) -> Result<(), bake::store::Error> {
    let store = Store::open(dir)?;
    let draft = store.draft()?;
    let versions = [Parts::new("one").try_put(&draft, "web:1")?, Parts::new("two").try_put(&draft, "app:1")?];
    store.publish(&draft, &versions)?;
    drop(draft);
    store.remove(&reference("web:1")).map(drop)
}

#[test]
fn child() {
    let Some(dir) = std::env::var_os("BAKE_STRACE_CHILD") else { return };
    std::process::exit(if live(Path::new(&dir)).is_ok() { DONE } else { REFUSED });
}

/// Runs the victim under strace, which writes its calls of one kind into `log`, and does some `harm` to one of them.
fn run(dir: &Path, log: &Path, call: &str, harm: Option<&str>) -> ExitStatus {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "signal=none", "-e", &format!("trace={call}"), "-o"]).arg(log);
    if let Some(harm) = harm {
        strace.args(["-e", &format!("inject={call}:{harm}")]);
    }
    strace.arg(std::env::current_exe().expect("this program")).args(["--exact", "store_crash::child"]);
    strace.env("BAKE_STRACE_CHILD", dir).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    strace.status().expect("run strace")
}

/// How often a victim that is left alone makes the call; nothing where tracing is forbidden.
fn count(call: &str) -> Option<usize> {
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("log");
    let status = run(&dir.path().join("store"), &log, call, None);
    let text = std::fs::read_to_string(log).unwrap_or_default();
    (status.code() == Some(DONE)).then(|| text.lines().filter(|line| line.contains(&format!("{call}("))).count())
}

/// Makes sure that one more open repairs everything, that the store is one of three things, and that the next build works.
fn check(dir: &Path, what: &str) -> Vec<String> {
    let store = Store::open(dir).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    drop(store.dead_drafts().expect("dead drafts"));
    check_whole(&store);
    let left: Vec<_> = std::fs::read_dir(dir.join("scratch")).expect("list").map(|e| e.expect("entry").file_name()).collect();
    assert!(left.iter().all(|name| name == "lock"), "{what}: {left:?}");
    let found = names(&store);
    assert!(found.is_empty() || found == ["app:1", "web:1"] || found == ["app:1"], "{what}: {found:?}");
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
            let dir = tempfile::tempdir().expect("a folder");
            let dir = dir.path().join("store");
            let what = format!("{harm} at {call} number {n}");
            let status = run(&dir, Path::new("/dev/null"), call, Some(&format!("{harm}:when={n}")));
            let done = status.code() == Some(DONE);
            assert!(done || ended(status), "{what}: {status:?}");
            let found = check(&dir, &what);
            // Some failures do no harm; some calls are made in another thread, where they count by themselves.
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
