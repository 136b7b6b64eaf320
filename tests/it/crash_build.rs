//! SIGKILL at any moment of a build: never half an image, no process and no mount left, and the
//! next build just works.

use std::process::Stdio;
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::lab::{Lab, kills};
use crate::tier;

/// Kills in one run of the test, unless `BAKE_KILLS` says otherwise; spread evenly over the time a
/// build takes.
const KILLS: u32 = 60;

/// Mounts on, or of, anything in this lab.
pub(crate) fn mounts(lab: &Lab) -> Vec<String> {
    let mark = lab.path("").to_string_lossy().into_owned();
    let all = fs::read_to_string("/proc/self/mountinfo").expect("readable");
    all.lines()
        .filter(|line| line.contains(mark.trim_end_matches('/')))
        .map(str::to_owned)
        .collect()
}

/// Processes whose environment names this lab's store, or that run a program from its roots.
pub(crate) fn processes(lab: &Lab) -> Vec<String> {
    let mark = lab.path("").to_string_lossy().into_owned();
    let entries = fs::read_dir("/proc").expect("readable").flatten();
    let pids = entries
        .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    pids.filter_map(|pid| {
        let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let text = String::from_utf8_lossy(&[cmdline, environ].concat()).into_owned();
        (text.contains(&mark) || text.contains("crash-build-marker")).then_some(text)
    })
    .collect()
}

#[test]
fn a_killed_build_leaves_nothing() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    let steps = "[[step]]\nrun = \": {{ version }}; seq 20000 > /a; sleep 0.02 & true\"\n[[step]]\nmkdir = [\"/x\", \"/y\"]\n\
        [[step]]\nrun = \"env crash_build_marker=crash-build-marker sleep 0.05; chown 1000:1000 /a; chmod 000 /x\"\n[[step]]\nfile = \"/etc/f\"\ncontent = \"x\"\n";
    let recipe = |version: &str| {
        format!(
            "[image]\nname = \"tiny\"\nversion = \"{version}\"\n[base]\npath = \"root\"\n{steps}"
        )
    };
    lab.write("tiny.toml", &recipe("1"));
    let start = Instant::now();
    let whole = lab.bake(["build", "tiny.toml"]);
    let takes = start.elapsed();
    assert_eq!(whole.code, 0, "{}", whole.err);
    let mut published = 0;
    let kills = kills(KILLS);
    for n in 0..kills {
        let version = format!("2.{n}");
        lab.write("tiny.toml", &recipe(&version));
        let mut command = lab.command(["build", "-q", "tiny.toml"]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("bake starts");
        // Moments, not synchronisation: wherever the kill falls, the same must hold.
        thread::sleep(
            takes.mul_f64(f64::from(n) / f64::from(kills) * 1.1)
                + Duration::from_micros(u64::from(n) * 37 % 1000),
        );
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        let deadline = Instant::now() + Duration::from_secs(10);
        while !processes(&lab).is_empty() {
            assert!(
                Instant::now() < deadline,
                "left running after kill {n}: {:?}",
                processes(&lab)
            );
            thread::yield_now();
        }
        assert_eq!(mounts(&lab), Vec::<String>::new(), "mounts after kill {n}");
        let listed = lab.bake(["list", "--json"]).out;
        let there = listed.lines().any(|line| line.contains(&format!("\"{version}\"")));
        published += u32::from(there);
        if !there && n % 10 != 0 {
            // Blobs moved before the index was renamed are taken back by the next run; until then
            // they harm nobody.
            continue;
        }
        let next = lab.bake(["build", "-q", "tiny.toml"]);
        assert_eq!(next.code, 0, "the next build after kill {n}: {}", next.err);
        assert!(lab.scratch().is_empty(), "swept after kill {n}: {:?}", lab.scratch());
    }
    let verified = lab.bake(["verify"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
    assert!(published < kills, "no kill fell into a build");
}
