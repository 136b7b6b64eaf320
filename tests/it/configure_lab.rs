//! What the tests of `ansible`, `puppet` and `chef` steps share: programs that stand in for them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::build_gate::busybox_root;
use crate::lab::{Lab, Run};
use crate::tier;

/// A lab whose root has busybox, these further ones of its programs, and at `path` of the lab a
/// script that does what `text` says.
pub(crate) fn stand_in(applets: &[&str], path: &str, text: &str) -> Option<Lab> {
    if !tier::sandbox() || !tier::tool("busybox") {
        return None;
    }
    let lab = Lab::new();
    busybox_root(&lab);
    for name in applets {
        let _ = std::os::unix::fs::symlink("busybox", lab.path("root/bin").join(name));
    }
    let program = lab.write(path, &format!("#!/bin/sh\n{text}"));
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("our own file");
    Some(lab)
}

/// Writes `a.toml`, of one step with these keys.
pub(crate) fn recipe(lab: &Lab, keys: &str) {
    let head = "[image]\nname = \"a\"\nversion = \"1\"\n[base]\npath = \"root\"\n[[step]]\n";
    lab.write("a.toml", &format!("{head}{keys}\n"));
}

/// Bakes it.
pub(crate) fn build(lab: &Lab) -> Run {
    lab.bake(["build", "a.toml"])
}
