//! What a machine needs and an image lacks: all of it at once, before anything is made of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::lab::{Lab, run};
use crate::tier;

/// Two kernels, and nothing else that a machine needs.
const RECIPE: &str = r#"
[image]
name = "m"
version = "1"

[base]
scratch = true

[[step]]
file."/boot/vmlinuz-6.1" = "kernel"
file."/boot/vmlinuz-6.2" = "kernel"
file."/usr/lib/modules/6.1/modules.builtin" = "kernel/erofs.ko\nkernel/dm-verity.ko\nkernel/overlay.ko\n"
file."/usr/lib/modules/6.2/modules.builtin" = "kernel/erofs.ko\n"
file."/usr/lib/systemd/boot/notes" = "no stub"

[[step]]
symlink = "/lib"
target = "usr/lib"

[[output]]
format = "tar"
path = "m.tar"

[[output]]
format = "disk"
path = "m.raw"
data."/srv/data" = "data"
"#;

#[test]
fn all_that_is_lacking_is_reported_at_the_line_of_the_output_and_nothing_is_made() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    // A program is asked for its version before any step, and not run: nothing comes so far.
    let tools = lab.path("tools");
    fs::create_dir(&tools).expect("our own directory");
    let program = tools.join("mkfs.erofs");
    fs::write(&program, "#!/bin/sh\necho mkfs.erofs 1.8.6\n").expect("our own file");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("our own file");
    let recipe = lab.write("m.toml", RECIPE);
    let mut command = lab.command(["build", recipe.to_str().expect("UTF-8"), "--tools", "host"]);
    let path = std::env::var("PATH").unwrap_or_default();
    let built = run(command.env("PATH", format!("{}:{path}", tools.display())));
    assert_eq!(built.code, 1, "{}", built.err);
    let line = RECIPE.lines().position(|line| line.contains("m.raw")).expect("it is there") + 1;
    for part in [
        &*format!("m.toml:{line}"),
        "it has several kernels (6.1, 6.2)",
        "it has no init (/sbin/init)",
        "it has no boot stub (/usr/lib/systemd/boot/efi/linux",
        "it has no directory /proc",
        "a data disk goes to /srv/data, which its read-only root has not",
        "the kernel 6.1 has no ext4",
        "the kernel 6.2 has no dm_verity, overlay, ext4",
        "hint: install the package `systemd-sysv`",
        "hint: make it: a step `mkdir = \"/srv/data\"`",
        "nothing was published",
    ] {
        assert!(built.err.contains(part), "{part}: {}", built.err);
    }
    assert!(!lab.path("m.tar").exists() && !lab.path("m.raw").exists(), "an output was made");
    assert_eq!(lab.bake(["list"]).out, "");
}
