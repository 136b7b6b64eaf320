//! However a job ends, nothing of it is left: timeouts, cancelling, panics, and the death of bake
//! itself.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bake::job::{Action, Ended};
use bake::sandbox::{Cancel, Exec, Failure, JobEvent};

use crate::sandbox_lab::{Lab, alive, exec, sh};

/// A step with a daemon that ignores every polite signal, and never ends. Its processes carry
/// `token`.
fn stubborn(token: &str) -> String {
    format!(
        "setsid sh -c 'trap \"\" TERM HUP INT QUIT; echo ready; while :; do sleep 1000; done' {token} & while :; do sleep 1000; done # {token}"
    )
}

/// Mounts on, or of, anything of this lab: other labs, and other runs beside this one, have theirs.
fn mounts(lab: &Lab) -> Vec<String> {
    let mark = lab.dir.path().to_string_lossy().into_owned();
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.lines().filter(|line| line.contains(&mark)).map(str::to_owned).collect()
}

#[test]
fn userns_a_timeout_kills_everything() {
    let Some(lab) = Lab::new() else { return };
    let token = format!("timeout-{}", std::process::id());
    let limit = Duration::from_millis(300);
    let before = mounts(&lab);
    let slow =
        Action::Exec(Exec { timeout: Some(limit), ..exec(&["sh", "-c", &stubborn(&token)]) });
    let ran = lab.run(lab.job(vec![sh("echo first"), slow, sh("echo never")]));
    assert!(
        matches!(ran.ended, Ended::Failed { action: 1, how: Failure::TimedOut { after, .. }, .. } if after == limit),
        "{ran:?}"
    );
    assert_eq!(ran.out, ["first", "ready"]);
    assert!(alive(&token).is_empty());
    assert_eq!(mounts(&lab), before);
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
    let ran = lab.run_with(lab.job(vec![sh(&stubborn(&token))]), &cancel, &mut |event| {
        if matches!(event, JobEvent::Line { .. }) {
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
        lab.session.run(job, &Cancel::new().unwrap(), &mut |event| {
            assert!(!matches!(event, JobEvent::Line { .. }), "wanted")
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
    assert!(matches!(ran.ended, Ended::Failed { action: 0, how: Failure::Exit(4), .. }), "{ran:?}");
    assert!(alive(&token).is_empty());
}

#[test]
fn userns_flooding_output_does_not_stop_a_timeout() {
    let Some(lab) = Lab::new() else { return };
    let flood = Action::Exec(Exec { timeout: Some(Duration::from_millis(300)), ..exec(&["yes"]) });
    let mut lines = 0_u64;
    let ended = lab.session.run(lab.job(vec![flood]), &Cancel::new().unwrap(), &mut |event| {
        lines += u64::from(matches!(event, JobEvent::Line { .. }))
    });
    assert!(matches!(ended, Ok(Ended::Failed { how: Failure::TimedOut { .. }, .. })), "{ended:?}");
    assert!(lines > 0);
}

/// Not a test of its own: the builder that [`userns_killing_bake_leaves_nothing`] starts and kills.
/// Jobs, one after the other, with every event on standard output.
#[test]
fn userns_builder() {
    let Some(token) = std::env::var("BAKE_TEST_BUILDER").ok() else { return };
    let Some(lab) = Lab::new() else { return };
    println!("dir {}", lab.dir.path().display());
    for _ in 0..3 {
        let job = lab.job(vec![sh("echo line"), sh(&format!("echo {token}; true")), sh("true")]);
        lab.run_with(job, &Cancel::new().unwrap(), &mut |event| println!("{event:?}")).ok();
    }
    lab.run_with(lab.job(vec![sh(&stubborn(&token))]), &Cancel::new().unwrap(), &mut |event| {
        println!("{event:?}")
    });
}

#[test]
fn userns_killing_bake_leaves_nothing() {
    // Looked at first, as the builder's own skip would go unseen.
    let Some(cleaner) = Lab::new() else { return };
    let before = mounts(&cleaner);
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
            let left = [alive(&token), children_of(&token)].concat();
            if left.is_empty() {
                break;
            }
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "still there after {kill_after}: {left:?}"
            );
            std::thread::yield_now();
        }
        assert_eq!(mounts(&cleaner), before);
        // The scratch directory is all that stays; the next build sweeps it.
        for entry in fs::read_dir(cleaner.scratch()).unwrap() {
            cleaner.session.remove_tree(&entry.unwrap().path()).unwrap();
        }
    }
}

/// What the builder that was started with `token` in its environment has started itself, and what
/// these have: a process keeps the environment it was started with.
fn children_of(token: &str) -> Vec<u32> {
    let mark = format!("BAKE_TEST_BUILDER={token}");
    let named = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    alive("bake-sandbox").into_iter().filter(named).collect()
}
