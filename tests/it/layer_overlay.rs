//! What the kernel's overlay makes of unpacked layers, and what pack makes of the kernel's upper
//! directory, must be what the layers say.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use bake::layer::{Form, Limits, pack, unpack};

use crate::layer_lab::{Raw, listing, tar};
use crate::tier;

fn layers() -> [Vec<u8>; 2] {
    [
        tar(&[
            Raw::dir("etc"),
            Raw::file("etc/a", b"1"),
            Raw::file("etc/b", b"1"),
            Raw::dir("opt"),
            Raw::file("opt/old", b"1"),
            Raw::dir("opt/sub"),
            Raw::file("opt/sub/old", b"1"),
            Raw::dir("srv"),
            Raw::file("srv/x", b"1"),
            Raw::dir("srv/deep/er"),
            Raw::file("one", b"hard"),
            Raw::link(b'1', "two", "one"),
            Raw::link(b'2', "link", "etc"),
        ]),
        tar(&[
            Raw::file("etc/.wh.a", b""),
            Raw::dir("opt").mode(0o700),
            Raw::file("opt/.wh..wh..opq", b""),
            Raw::file("opt/new", b"2"),
            Raw::dir("opt/sub"),
            Raw::file("link", b"a file now"),
        ]),
    ]
}

/// Changes of every kind that overlay stores in its own way.
const STEP: &str = "
    set -e
    rm -r opt && mkdir opt && echo new > opt/file
    rm etc/b one && ln two three && ln -s /nowhere link2
    mv srv moved && mkdir srv
    chmod 2750 etc && : > etc/empty && mkfifo pipe && chmod 600 pipe
    mkdir gone && rmdir gone
    : > hidden && rm hidden
";

#[test]
fn root_tools_the_kernel_agrees() {
    if !tier::root() || !tier::tool("unshare") || !tier::tool("mount") {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name);
    for name in ["lower0", "lower1", "upper", "work", "merged", "before", "after", "tree"] {
        fs::create_dir(at(name)).expect("mkdir");
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    for (n, layer) in layers().iter().enumerate() {
        unpack(&mut &layer[..], &at(&format!("lower{n}")), Form::Overlay, &Limits::default())
            .expect("a layer");
        unpack(&mut &layer[..], &at("tree"), Form::Tree, &Limits::default()).expect("a layer");
    }
    // The mount dies with the namespace.
    let script = format!(
        "set -e; umask 022
        mount -t tmpfs tmpfs work && mkdir work/u work/w
        mount -t overlay overlay -o userxattr,lowerdir=lower1:lower0,upperdir=work/u,workdir=work/w merged
        cp -a merged/. before
        (cd merged; {STEP})
        cp -a merged/. after
        cp -a --preserve=all work/u/. upper"
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .current_dir(dir.path())
        .output()
        .expect("run unshare");
    if !output.status.success() {
        assert!(tier::skip(&format!(
            "overlay cannot be mounted: {}",
            String::from_utf8_lossy(&output.stderr)
        )));
        return;
    }
    assert_eq!(listing(&at("before")), listing(&at("tree")));
    let mut layer = vec![];
    pack(&at("upper"), 1_700_000_000, &mut layer).expect("pack");
    unpack(&mut &layer[..], &at("tree"), Form::Tree, &Limits::default()).expect("the step's layer");
    assert_eq!(listing(&at("after")), listing(&at("tree")));
    mount_again(dir.path(), &layer);
}

/// The step's layer as a third lower directory shows the same as the step saw.
fn mount_again(dir: &Path, layer: &[u8]) {
    fs::create_dir(dir.join("lower2")).expect("mkdir");
    fs::create_dir(dir.join("again")).expect("mkdir");
    unpack(&mut &layer[..], &dir.join("lower2"), Form::Overlay, &Limits::default())
        .expect("the step's layer");
    let script = "set -e; umask 022; mount -t overlay overlay -o userxattr,lowerdir=lower2:lower1:lower0 merged; cp -a merged/. again";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .current_dir(dir)
        .output()
        .expect("run unshare");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(listing(&dir.join("again")), listing(&dir.join("after")));
}
