//! Programs of another processor in the sandbox.

use std::fs;
use std::process::Command;

use bake::job::Action;
use bake::sandbox::emulation;

use crate::platforms_lab::{program, runs};
use crate::sandbox_lab::{Lab, exec};

/// A processor that this machine has not, and that programs are known for.
const OTHER: &str = if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" };

/// What the host has registered.
fn registered() -> Vec<String> {
    let entries = fs::read_dir("/proc/sys/fs/binfmt_misc").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn userns_programs_of_another_processor_run() {
    if !runs(OTHER) {
        return;
    }
    let before = registered();
    let Some(lab) = Lab::emulating(&emulation(OTHER)) else { return };
    let layer = lab.layer("foreign");
    program(&layer.join("bin/hello"), OTHER, "from afar");
    let ran = |lab: &Lab| {
        let mut job = lab.job(vec![Action::Exec(exec(&["/bin/hello"]))]);
        job.root = Some(lab.overlay(vec![layer.clone(), lab.tools()]));
        lab.run(job)
    };
    // A registration outlives the job: a second finds it as well.
    for _ in 0..2 {
        let done = ran(&lab);
        assert_eq!(done.line(), "from afar");
        assert_eq!(fs::read_to_string(done.upper.join("made")).expect("made"), "from afar\n");
    }
    // Programs of this machine run beside it, and nobody inside sees how.
    let mounts = lab.sh("cat /proc/self/mounts").ok();
    assert!(!mounts.out.iter().any(|line| line.contains("binfmt_misc")), "{mounts:#?}");
    assert_eq!(registered(), before, "what the host has registered");
}

#[test]
fn the_smallest_programs_are_programs() {
    let dir = tempfile::tempdir().expect("a directory");
    let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let at = dir.path().join("hello");
    program(&at, own, "hello");
    let mut command = Command::new("unshare");
    let done = command.args(["-Ur", "--root"]).arg(dir.path()).arg("/hello").output();
    let done = done.expect("unshare starts");
    assert!(done.status.success(), "{done:?}");
    assert_eq!(String::from_utf8_lossy(&done.stdout), "hello\n");
}
