//! `bake boot`: what is refused, and what a QEMU that fails is reported as.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bake::dissect::{self, Bytes};

use crate::lab::{Lab, run};
use crate::tier;

#[test]
fn what_cannot_be_booted_is_refused_before_anything_is_done() {
    let lab = Lab::new();
    lab.write("disk.raw", "no disk");
    lab.write("seed/user-data", "#cloud-config\n");
    lab.write("wrong/meta-data/file", "");
    for (args, message) in [
        (&["./none.raw"][..], "./none.raw is not the file of a disk"),
        (&["none:1"], "none:1"),
        (&["./disk.raw", "--data", "none.raw"], "truncate -s 2G none.raw"),
        (&["./disk.raw", "--data", "disk.raw:a serial"], "at most 20 letters"),
        (&["./disk.raw", "--credential", "none"], "expected NAME:FILE"),
        (&["./disk.raw", "--credential", "a name:disk.raw"], "at most 28 letters"),
        (&["./disk.raw", "--credential", "key:none"], "cannot be given as the credential `key`"),
        (&["./disk.raw", "--credential", "key:."], "it is no file"),
        (&["./disk.raw", "--seed", "seed"], "seed has no file `meta-data`, without which"),
        (&["./disk.raw", "--seed", "seed"], "`echo 'instance-id: i-1' >seed/meta-data` makes one"),
        (&["./disk.raw", "--seed", "wrong"], "wrong/meta-data cannot be part of a seed"),
        (&["./disk.raw", "--seed", "none"], "cannot read none"),
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

/// The disk that QEMU is given, as it is while QEMU runs.
#[test]
fn a_seed_is_a_disk_that_is_only_read_with_the_files_of_the_directory() {
    if !Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd").exists() {
        assert!(tier::skip("UEFI firmware is not installed"));
        return;
    }
    let lab = Lab::new();
    lab.write("disk.raw", "no disk");
    let files = [
        ("meta-data", "instance-id: i-1\nlocal-hostname: alpha\n".to_owned()),
        ("network-config", "version: 2\n".to_owned()),
        ("user-data", format!("#cloud-config\n# {}\n", "long ".repeat(2000))),
        ("vendor-data", String::new()),
    ];
    for (name, text) in &files {
        lab.write(&format!("seed/{name}"), text);
    }
    let copy = "for word; do case $word in if=none,id=seed,format=raw,readonly=on,file=*) \
        cp \"${word##*file=}\" copy;; esac; done";
    let version = "[ \"$1\" != -version ] || { echo QEMU emulator version 8.0.0; exit; }";
    let fake =
        lab.write("tools/qemu-system-x86_64", &format!("#!/bin/sh\n{version}\n{copy}\nexit 3\n"));
    fs::set_permissions(fake, fs::Permissions::from_mode(0o755)).expect("our own file");
    let mut command = lab.command(["boot", "./disk.raw", "--tools", "host", "--seed", "seed"]);
    let path = format!("{}:/usr/bin:/bin", lab.path("tools").display());
    assert_eq!(run(command.env("PATH", path)).code, 10);
    let disk = fs::File::open(lab.path("copy")).expect("the disk of the seed");
    let disk = dissect::open(disk).expect("a disk").bytes;
    let found: Vec<(String, String)> = dissect::boot_files(&dissect::whole(&disk).expect("a disk"))
        .expect("a FAT")
        .into_iter()
        .map(|file| {
            let mut bytes = vec![0; usize::try_from(file.content.size()).expect("few")];
            file.content.read_at(0, &mut bytes).expect("a file");
            (file.path, String::from_utf8(bytes).expect("UTF-8"))
        })
        .collect();
    assert_eq!(found, files.map(|(name, text)| (name.to_owned(), text)));
    // Nothing of it is left: it may hold secrets.
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
    if tier::tool("fsck.fat") {
        let copy = lab.path("copy").display().to_string();
        crate::disk_parts::succeeds("fsck.fat", &["-n", &copy]);
    }
}

/// A QEMU whose machine gives up for want of ticks, as on a host that has no time for it, twice.
#[test]
fn tools_a_machine_that_the_host_has_no_time_for_is_started_again() {
    if !tier::tool("python3") || !Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd").exists() {
        return;
    }
    let lab = Lab::new();
    lab.write("disk.raw", "no disk");
    let fake = lab.write("tools/qemu-system-x86_64", BUSY);
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).expect("our own file");
    let mut command = lab.command(["boot", "./disk.raw", "--tools", "host"]);
    let path = format!("{}:/usr/bin:/bin", lab.path("tools").display());
    let ran = run(command.env("PATH", path));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.err.matches("it is started again").count(), 2, "{}", ran.err);
    assert_eq!(ran.out.matches("IO-APIC").count(), 2, "{}", ran.out);
    assert!(ran.out.ends_with("it is up\r\n"), "{}", ran.out);
    assert_eq!(fs::read_to_string(lab.path("tools/starts")).expect("starts"), "xxx");
}

const BUSY: &str = r#"#!/usr/bin/python3
import os, re, socket, sys
if sys.argv[1] == "-version":
    sys.exit(print("QEMU emulator version 8.0.0"))
connections = []
for name in ["monitor", "console"]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(re.search("path=([^,]*/%s)," % name, " ".join(sys.argv)).group(1))
    listener.listen()
    connections.append(listener)
monitor, console = [listener.accept()[0] for listener in connections]
starts = os.path.join(os.path.dirname(os.path.abspath(__file__)), "starts")
with open(starts, "a") as file:
    file.write("x")
if os.path.getsize(starts) == 3:
    console.sendall(b"it is up\r\n")
else:
    console.sendall(b"[ 0.2] Kernel panic - not syncing: IO-APIC + timer doesn't work!\r\n")
    while b"quit" not in monitor.recv(4096):
        pass
"#;
