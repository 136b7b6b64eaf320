//! Machines that are booted before they are published: those that are not well are not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::lab::{Lab, Run, run};
use crate::machine_lab::FakeMachine;
use crate::{tier, vm_boot};

/// The example as another version, with more steps, and only the test of the machine itself.
fn version(recipe: &Path, version: &str, steps: &str, test: &str) -> std::path::PathBuf {
    let text = fs::read_to_string(recipe).expect("the example");
    let text = text.replace("version = \"2.0.0\"", &format!("version = \"{version}\""));
    let (image, tests) = text.split_once("\n[[test]]").expect("tests");
    let (_, outputs) = tests.split_once("[[output]]").expect("outputs");
    let (outputs, _) = outputs.split_once("[[output]]").expect("two outputs");
    let path = recipe.with_file_name(format!("{version}.toml"));
    let text = format!("{image}\n{steps}\n[[output]]{outputs}\n[[test]]\nboot = true\n{test}\n");
    fs::write(&path, text).expect("our own file");
    // The same packages, so that the steps are cached.
    let lock = recipe.with_extension("lock");
    if lock.exists() {
        fs::copy(lock, path.with_extension("lock")).expect("our own file");
    }
    path
}

fn unit(name: &str, service: &str) -> String {
    format!(
        "[[step]]\nfile = \"/etc/systemd/system/{name}.service\"\ncontent = '''\n\
            [Unit]\nDescription=For a test\n\n[Service]\n{service}\n\n[Install]\nWantedBy=multi-user.target\n'''\n\n\
            [[step]]\nservice = \"{name}\"\n\n"
    )
}

#[track_caller]
fn refused(lab: &Lab, recipe: &Path, version: &str) -> Run {
    let built = lab.bake(["build", recipe.to_str().expect("UTF-8")]);
    assert_eq!(built.code, 1, "{}", built.err);
    let listed = lab.bake(["list"]);
    assert!(!listed.out.contains(version), "{}", listed.out);
    let dir = fs::read_dir(recipe.parent().expect("a directory")).expect("the directory");
    for entry in dir {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        assert!(!name.contains(".qcow2") && !name.starts_with(".bake"), "{name} was left");
    }
    built
}

#[test]
fn net_a_machine_that_is_not_well_is_not_published() {
    if !vm_boot::ready() {
        return;
    }
    let lab = Lab::new();
    let recipe = vm_boot::recipe(&lab);

    // A unit fails, and another that may.
    let failing = "Type=oneshot\nExecStart=/bin/sh -c 'echo the disk of answers is missing; \
        echo 42 >/opt/answers'";
    let steps = unit("bad", failing) + &unit("allowed", "Type=oneshot\nExecStart=/bin/false");
    let bad = version(&recipe, "2.1.0", &steps, "may_fail = [\"allowed.service\"]");
    let built = refused(&lab, &bad, "2.1.0");
    assert!(built.err.contains("bad.service failed"), "{}", built.err);
    assert!(built.err.contains("bad.service| the disk of answers is missing"), "{}", built.err);
    let why = "bad.service could not write to /opt/answers: the root is read-only";
    assert!(built.err.contains(why), "{}", built.err);
    assert!(built.err.contains("belongs on a data disk"), "{}", built.err);
    assert!(!built.err.contains("allowed.service|"), "{}", built.err);

    // The kernel panics.
    let panic = unit("panic", "ExecStart=/bin/sh -c 'echo c >/proc/sysrq-trigger'");
    let panic = version(&recipe, "2.2.0", &panic, "");
    let built = refused(&lab, &panic, "2.2.0");
    assert!(built.err.contains("the kernel panicked: "), "{}", built.err);
    assert!(built.err.contains("console| "), "{}", built.err);

    // A service does not stop.
    let stubborn =
        "ExecStart=/bin/sleep infinity\nExecStop=/bin/sleep infinity\nTimeoutStopSec=infinity";
    let hang = version(&recipe, "2.3.0", &unit("hang", stubborn), "");
    let built = refused(&lab, &hang, "2.3.0");
    assert!(built.err.contains("hang.service does not stop"), "{}", built.err);
}

/// Without QEMU no step runs.
#[test]
fn no_step_runs_where_the_host_has_no_qemu() {
    let lab = Lab::new();
    let tools = lab.path("tools");
    fs::create_dir(&tools).expect("our own directory");
    let program = |name: &str, script: &str| {
        let path = tools.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("our own file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    };
    program("mkfs.erofs", "echo mkfs.erofs 1.8.6");
    fs::write(
        lab.path("m.toml"),
        "[image]\nname = 'm'\nversion = '1'\n[base]\nscratch = true\n\
            [[step]]\nrun = 'true'\n[[test]]\nboot = true\n",
    )
    .expect("our own file");
    let build = || {
        let recipe = lab.path("m.toml");
        let mut command = lab.command(["build", recipe.to_str().expect("UTF-8")]);
        run(command.args(["--tools", "host"]).env("PATH", &tools))
    };
    let built = build();
    assert_ne!(built.code, 0, "{}", built.err);
    assert!(built.err.contains("cannot run qemu-system-x86_64"), "{}", built.err);
    assert!(built.err.contains("qemu-system-x86 7.0.0 or newer"), "{}", built.err);
    assert!(built.err.contains("--no-test"), "{}", built.err);
    assert!(!built.err.contains("[1/1]"), "a step ran: {}", built.err);

    program("qemu-system-x86_64", "echo QEMU emulator version 5.2.0");
    let built = build();
    assert_ne!(built.code, 0, "{}", built.err);
    assert!(built.err.contains("the host's qemu-system-x86_64 is 5.2.0"), "{}", built.err);
    assert!(!built.err.contains("[1/1]"), "a step ran: {}", built.err);
    assert_eq!(lab.bake(["list"]).out, "");
}

/// QEMU is killed once the firmware has shown life, as a kernel without memory does it.
#[test]
fn tools_a_qemu_that_is_killed_publishes_nothing_and_is_named() {
    let firmware = "/usr/share/OVMF/OVMF_CODE_4M.fd";
    if !tier::tool("qemu-system-x86_64") || !Path::new(firmware).exists() {
        return;
    }
    let Some(bench) = FakeMachine::new() else { return };
    let qemu = run(Command::new("sh").args(["-c", "command -v qemu-system-x86_64"])).out;
    let qemu = qemu.trim();
    bench.program(
        "qemu-system-x86_64",
        &format!(
            "case $1 in -version|--version) exec {qemu} \"$@\";; esac\n\
            (until [ -s \"$TMPDIR/console.log\" ] || [ ! -d \"$TMPDIR\" ]; do sleep 0.1; done; \
            kill -9 $$) &\n\
            exec {qemu} \"$@\""
        ),
    );
    let output = "[[output]]\nformat = \"disk\"\npath = \"out/x\"\n[[test]]\nboot = true\n";
    bench.write("1", output);
    let words = ["the machine ended by itself", "QEMU failed: signal: 9 (SIGKILL)"];
    bench.refused(&[], &words);
    assert!(bench.outputs().is_empty(), "{:?}", bench.outputs());
}
