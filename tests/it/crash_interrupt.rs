//! Ctrl-C at any moment of a build: exit code 130, nothing published, nothing left; and the next
//! build just works.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::crash_build::{mounts, processes};
use crate::lab::Lab;
use crate::tier;

/// Moments, spread over the time a build takes.
const MOMENTS: u32 = 12;

#[test]
fn an_interrupted_build_leaves_nothing() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    let steps = "[[step]]\nrun = \"seq 20000 > /a; sleep 0.05\"\n[[step]]\nrun = \"sleep 0.05; (sleep 600 &) ; touch /b\"\n\
        [[step]]\nfile = \"/etc/f\"\ncontent = \"x\"\n";
    lab.write(
        "tiny.toml",
        &format!("[image]\nname = \"tiny\"\nversion = \"0\"\n[base]\npath = \"root\"\n{steps}"),
    );
    let start = Instant::now();
    let whole = lab.bake(["build", "--no-cache", "tiny.toml"]);
    let takes = start.elapsed();
    assert_eq!(whole.code, 0, "{}", whole.err);
    let mut interrupted = 0;
    for n in 0..MOMENTS {
        let version = (n + 1).to_string();
        let before = lab.images_hash();
        let mut command =
            lab.command(["build", "--no-cache", "--set-version", &version, "tiny.toml"]);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("bake starts");
        // Moments, not synchronisation: wherever the signal falls, the same must hold.
        thread::sleep(takes.mul_f64(f64::from(n) / f64::from(MOMENTS)));
        let pid =
            Pid::from_raw(i32::try_from(child.id()).expect("a process id")).expect("not zero");
        // As a terminal does, though there only the whole foreground group is asked.
        let sent = kill_process(pid, Signal::INT);
        let ended = child.wait_with_output().expect("our own child");
        let printed = String::from_utf8_lossy(&ended.stderr);
        match (ended.status.code(), ended.status.signal()) {
            (Some(0), _) => {}
            (Some(130), _) => {
                interrupted += 1;
                assert!(
                    ended.stdout.is_empty()
                        && printed.contains("interrupted")
                        && printed.contains("nothing was published"),
                    "{n}: {printed}"
                );
                assert_eq!(lab.images_hash(), before, "{n}: {printed}");
            }
            // So early that nobody listened yet: as any program.
            (None, Some(2)) => assert_eq!(lab.images_hash(), before, "{n}"),
            other => panic!("{n}: {other:?} {sent:?}: {printed}"),
        }
        assert!(lab.scratch().is_empty(), "{n}: {:?}", lab.scratch());
        let deadline = Instant::now() + Duration::from_secs(10);
        while !processes(&lab).is_empty() {
            assert!(Instant::now() < deadline, "left running after {n}: {:?}", processes(&lab));
            thread::yield_now();
        }
        assert_eq!(mounts(&lab), Vec::<String>::new(), "{n}");
    }
    assert!(interrupted > 0, "no signal fell into a build");
    let next = lab.bake(["build", "--set-version", "100", "tiny.toml"]);
    assert_eq!(next.code, 0, "{}", next.err);
    let verified = lab.bake(["verify"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
}
