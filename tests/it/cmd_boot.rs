//! `bake boot`: what is refused, and what a QEMU that fails is reported as.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::lab::{Lab, run};
use crate::tier;

#[test]
fn what_cannot_be_booted_is_refused_before_anything_is_done() {
    let lab = Lab::new();
    lab.write("disk.raw", "no disk");
    for (args, message) in [
        (&["./none.raw"][..], "./none.raw is not the file of a disk"),
        (&["none:1"], "none:1"),
        (&["./disk.raw", "--data", "none.raw"], "truncate -s 2G none.raw"),
        (&["./disk.raw", "--data", "disk.raw:a serial"], "at most 20 letters"),
        (&["./disk.raw", "--credential", "none"], "expected NAME:FILE"),
        (&["./disk.raw", "--credential", "a name:disk.raw"], "at most 28 letters"),
        (&["./disk.raw", "--credential", "key:none"], "cannot be given as the credential `key`"),
        (&["./disk.raw", "--credential", "key:."], "it is no file"),
        (&["./disk.raw", "--wait", "https://127.0.0.1/"], "expected http://ADDRESS:PORT/PATH"),
        (&["./disk.raw", "--persist", "own.raw", "--snapshot"], "cannot be used with"),
        (&["./disk.raw", "--publish", "80:80/udp"], "a machine has ports of tcp only"),
        (&["./disk.raw", "--memory", "1MiB"], "expected 128MiB or more"),
        (&["./disk.raw", "--json"], "--json and the console both want stdout"),
    ] {
        let ran = lab.bake([&["boot"], args].concat());
        assert_ne!(ran.code, 0, "{args:?}");
        let all = format!("{}{}", ran.err, ran.out);
        assert!(all.contains(message), "{args:?}: {all}");
        assert!(!lab.path("own.raw").exists());
    }
}

/// A host whose QEMU is missing, or does not start the machine.
#[test]
fn a_qemu_that_fails_is_named_with_what_it_printed() {
    if !tier::tool("qemu-system-x86_64") || !Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd").exists() {
        return;
    }
    let lab = Lab::new();
    lab.write("disk.raw", "no disk");
    let tools = lab.path("tools");
    fs::create_dir(&tools).expect("our own directory");
    let boot = || {
        let mut command = lab.command(["boot", "./disk.raw", "--tools", "host"]);
        run(command.env("PATH", format!("{}:/usr/bin:/bin", tools.display())))
    };
    let fake = tools.join("qemu-system-x86_64");
    let version = "[ \"$1\" != -version ] || { echo QEMU emulator version 8.0.0; exit; }";
    let script = format!("#!/bin/sh\n{version}\necho the device is on fire >&2\nexit 3\n");
    fs::write(&fake, script).expect("our own file");
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).expect("our own file");
    let ran = boot();
    assert_eq!(ran.code, 10, "{}", ran.err);
    assert!(ran.err.contains("QEMU failed") && ran.err.contains("exit status: 3"), "{}", ran.err);
    assert!(ran.err.contains("the device is on fire"), "{}", ran.err);

    let mut command = lab.command(["boot", "./disk.raw", "--tools", "host"]);
    fs::remove_file(&fake).expect("our own file");
    let ran = run(command.env("PATH", &tools));
    assert_eq!(ran.code, 10, "{}", ran.err);
    assert!(ran.err.contains("cannot run qemu-system-x86_64"), "{}", ran.err);
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}
