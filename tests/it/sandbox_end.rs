//! However a job ends, nothing of it is left: timeouts, cancelling, panics, and the death of bake
//! itself.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bake::sandbox::{Action, Cancel, Ended, Exec, Failure, Heard};

use crate::sandbox_lab::{Lab, alive, exec, sh};

/// A step with a daemon that ignores every polite signal, and never ends. Its processes carry
/// `token`.
fn stubborn(token: &str) -> String {
    format!(
        "setsid sh -c 'trap \"\" TERM HUP INT QUIT; echo ready; while :; do sleep 1000; done' {token} & while :; do sleep 1000; done # {token}"
    )
}

/// Mounts of this host's that could be ours: of a session's folders, or on a folder that a job
/// mounts on. Others come and go.
fn mounts() -> usize {
    let ours = |line: &&str| {
        let at = line.split(' ').nth(4).unwrap_or_default();
        ["/tmp", "/run", "/var", "/usr", "/etc"].contains(&at) || line.contains("/scratch/")
    };
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(ours).count()
}

#[test]
fn userns_a_timeout_kills_everything() {
    let Some(lab) = Lab::new() else { return };
    let token = format!("timeout-{}", std::process::id());
    let limit = Duration::from_millis(300);
    let before = mounts();
    let slow =
        Action::Exec(Exec { timeout: Some(limit), ..exec(&["sh", "-c", &stubborn(&token)]) });
    let ran = lab.run(lab.job(vec![sh("echo first"), slow, sh("echo never")]));
    assert!(
        matches!(ran.ended, Ended::Failed { action: 1, how: Failure::TimedOut(after) } if after == limit),
        "{ran:?}"
    );
    assert_eq!(ran.out, ["first", "ready"]);
    assert!(alive(&token).is_empty());
    assert_eq!(mounts(), before);
    // The next job of the session is none the worse.
    lab.sh("true").ok();
}

#[test]
fn userns_cancel_ends_jobs_now_and_later() {
    let Some(lab) = Lab::new() else { return };
    let token = format!("cancel-{}", std::process::id());
    let cancel = Cancel::new().unwrap();
    let from_another_thread = cancel.clone();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let firing = std::thread::spawn(move || {
        is_ready.recv().unwrap();
        from_another_thread.fire();
    });
    let ran = lab.run_with(lab.job(vec![sh(&stubborn(&token))]), &cancel, &mut |heard| {
        if matches!(heard, Heard::Line { .. }) {
            ready.send(()).unwrap();
        }
    });
    firing.join().unwrap();
    assert!(matches!(ran.ended, Ended::Cancelled), "{ran:?}");
    assert!(alive(&token).is_empty());
    assert!(cancel.fired());
    assert!(matches!(
        lab.run_with(lab.job(vec![sh("echo no")]), &cancel, &mut |_| {}).ended,
        Ended::Cancelled
    ));
}

#[test]
fn userns_a_panic_of_the_listener_kills_everything() {
    let Some(lab) = Lab::new() else { return };
    let token = format!("panic-{}", std::process::id());
    let job = lab.job(vec![sh(&stubborn(&token))]);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        lab.session.run(job, &Cancel::new().unwrap(), &mut |heard| {
            assert!(!matches!(heard, Heard::Line { .. }), "wanted")
        })
    }));
    assert!(result.is_err());
    assert!(alive(&token).is_empty());
}

#[test]
fn userns_a_failing_step_kills_its_daemons() {
    let Some(lab) = Lab::new() else { return };
    let token = format!("failing-{}", std::process::id());
    let script =
        format!("setsid sh -c 'trap \"\" TERM; while :; do sleep 1000; done' {token} & exit 4");
    let ran = lab.run(lab.job(vec![sh(&script)]));
    assert!(matches!(ran.ended, Ended::Failed { action: 0, how: Failure::Exit(4) }), "{ran:?}");
    assert!(alive(&token).is_empty());
}

#[test]
fn userns_flooding_output_does_not_stop_a_timeout() {
    let Some(lab) = Lab::new() else { return };
    let flood = Action::Exec(Exec { timeout: Some(Duration::from_millis(300)), ..exec(&["yes"]) });
    let mut lines = 0_u64;
    let ended = lab.session.run(lab.job(vec![flood]), &Cancel::new().unwrap(), &mut |heard| {
        lines += u64::from(matches!(heard, Heard::Line { .. }))
    });
    assert!(matches!(ended, Ok(Ended::Failed { how: Failure::TimedOut(_), .. })), "{ended:?}");
    assert!(lines > 0);
}

/// Not a test of its own: the builder that [`userns_killing_bake_leaves_nothing`] starts and kills.
/// Jobs, one after the other, telling everything on standard output.
#[test]
fn userns_builder() {
    let Some(token) = std::env::var("BAKE_TEST_BUILDER").ok() else { return };
    let Some(lab) = Lab::new() else { return };
    println!("dir {}", lab.dir.path().display());
    for _ in 0..3 {
        let job = lab.job(vec![sh("echo line"), sh(&format!("echo {token}; true")), sh("true")]);
        lab.run_with(job, &Cancel::new().unwrap(), &mut |heard| println!("{heard:?}")).ok();
    }
    lab.run_with(lab.job(vec![sh(&stubborn(&token))]), &Cancel::new().unwrap(), &mut |heard| {
        println!("{heard:?}")
    });
}

#[test]
fn userns_killing_bake_leaves_nothing() {
    // Looked at first, as the builder's own skip would go unseen.
    let Some(cleaner) = Lab::new() else { return };
    let before = mounts();
    for kill_after in [1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 17, 18] {
        let token = format!("killed-{}-{kill_after}", std::process::id());
        let mut builder = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sandbox_end::userns_builder", "--nocapture", "--test-threads=1"])
            .env("BAKE_TEST_BUILDER", &token)
            .env("BAKE_TEST_BASE", cleaner.scratch())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut seen = 0;
        for line in BufReader::new(builder.stdout.take().unwrap()).lines().map_while(Result::ok) {
            seen += usize::from(
                line.contains("dir /") || line.starts_with("Line") || line.starts_with("Action"),
            );
            if seen == kill_after {
                break;
            }
        }
        assert_eq!(seen, kill_after, "the builder ended early");
        builder.kill().unwrap();
        builder.wait().unwrap();
        // The kernel kills in its own time; what must not be is that somebody stays.
        let start = Instant::now();
        loop {
            let left = [alive(&token), orphans()].concat();
            if left.is_empty() {
                break;
            }
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "still there after {kill_after}: {left:?}"
            );
            std::thread::yield_now();
        }
        assert_eq!(mounts(), before);
        // The scratch folder is all that stays; the next build sweeps it.
        for entry in fs::read_dir(cleaner.scratch()).unwrap() {
            cleaner.session.remove_tree(&entry.unwrap().path()).unwrap();
        }
    }
}

/// Helpers whose bake is gone.
fn orphans() -> Vec<u32> {
    let line =
        |pid: &str| fs::read(Path::new("/proc").join(pid).join("cmdline")).unwrap_or_default();
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1).map(str::to_owned))
    };
    let exe = std::env::current_exe().unwrap();
    let name = exe.file_name().unwrap().to_string_lossy().into_owned();
    alive("bake-sandbox")
        .into_iter()
        .filter(|pid| {
            let Some(parent) = parent(*pid) else { return false };
            let line = line(&parent);
            let line = String::from_utf8_lossy(&line);
            // Those of tests that run at the same time have a living parent.
            !line.contains(&name) && !line.contains("bake")
        })
        .collect()
}
