//! Real Debian images from the real archive: the README's example as root and as a user, its
//! readers, its failures.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use crate::lab::{Lab, Run, run};
use crate::sandbox_user::somebody;
use crate::tier;

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("our own directory");
    for entry in fs::read_dir(from).expect("the examples").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target)
                .unwrap_or_else(|error| panic!("{}: {error}", entry.path().display()));
        }
    }
}

/// A lab with the web examples in `web/`.
fn lab() -> Option<Lab> {
    if !tier::root() || !tier::sandbox() {
        return None;
    }
    let lab = Lab::new();
    copy_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/web"), &lab.path("web"));
    // Another run of the examples may have left its choice of packages.
    let _ = fs::remove_file(lab.path("web/nginx.lock"));
    Some(lab)
}

/// Runs bake as `uid`, from a copy that this user may read, with everything else different too:
/// directory, umask, time zone, language.
fn bake_as(lab: &Lab, uid: u32, gid: u32) -> Run {
    let home = lab.path("their");
    copy_tree(&lab.path("web"), &home.join("deeper/web"));
    fs::copy(env!("CARGO_BIN_EXE_bake"), home.join("bake")).expect("a copy of bake");
    give(&home, uid, gid);
    let script = "umask 077; exec ./bake build --locked deeper/web/nginx.toml";
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid",
        &uid.to_string(),
        "--regid",
        &gid.to_string(),
        "--clear-groups",
        "--inh-caps=-all",
        "--",
        "sh",
        "-c",
        script,
    ]);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", &home);
    run(command.env("TZ", "Asia/Tokyo").env("LANG", "tr_TR.UTF-8").current_dir(&home))
}

fn give(path: &Path, uid: u32, gid: u32) {
    chown(path, Some(uid), Some(gid)).expect("root may");
    if path.is_dir() {
        fs::read_dir(path)
            .expect("our own directory")
            .flatten()
            .for_each(|entry| give(&entry.path(), uid, gid));
    }
}

#[test]
fn root_net_the_web_example_bakes_the_same_for_a_user_and_serves() {
    let Some(lab) = lab() else { return };
    let built = lab.bake(["build", "web/nginx.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
    assert!(built.out.starts_with("web:2.0.0 sha256:"), "{}", built.out);
    let again = lab.bake(["build", "web/nginx.toml"]);
    assert_eq!((again.code, &again.out), (0, &built.out), "{}", again.err);
    assert!(again.err.contains("already baked"), "{}", again.err);

    // From the lock alone, without its index, in another store: the same bytes.
    let mut elsewhere = lab.command(["build", "--locked", "web/nginx.toml"]);
    let elsewhere = run(elsewhere.env("BAKE_STORE", lab.path("second")).env("TZ", "America/Lima"));
    assert_eq!((elsewhere.code, &elsewhere.out), (0, &built.out), "{}", elsewhere.err);
    match somebody() {
        Some((name, uid, gid)) => {
            let theirs = bake_as(&lab, uid, gid);
            assert_eq!((theirs.code, &theirs.out), (0, &built.out), "as {name}: {}", theirs.err);
        }
        None => {
            tier::skip("no user of this host has subordinate ids (useradd makes one that has)");
        }
    }
    readers(&lab);
    serves(&lab);
}

/// What other tools make of the store.
fn readers(lab: &Lab) {
    if !tier::tool("skopeo") || !tier::tool("umoci") || !tier::tool("podman") {
        return;
    }
    let image = format!("oci:{}:web:2.0.0", lab.path("store").display());
    let inspected = run(Command::new("skopeo").args(["inspect", &image]));
    assert_eq!(inspected.code, 0, "{}", inspected.err);
    let facts: serde_json::Value = serde_json::from_str(&inspected.out).expect("JSON");
    assert_eq!(facts["Labels"]["org.opencontainers.image.version"], "2.0.0");
    let copied = run(Command::new("skopeo").args([
        "copy",
        "-q",
        &image,
        &format!("oci:{}:web:2.0.0", lab.path("copied").display()),
    ]));
    assert_eq!(copied.code, 0, "{}", copied.err);
    let store = format!("{}:web:2.0.0", lab.path("store").display());
    let unpacked =
        run(Command::new("umoci").args(["unpack", "--image", &store]).arg(lab.path("bundle")));
    assert_eq!(unpacked.code, 0, "{}", unpacked.err);
    // podman derives a name from the path, and takes no capitals in it: a temporary directory has
    // some.
    let plain = tempfile::Builder::new()
        .prefix("bakepull")
        .rand_bytes(0)
        .suffix(&std::process::id().to_string())
        .tempdir_in("/var/tmp")
        .expect("a directory");
    // What a reader sees of a store: the layout.
    copy_tree(&lab.path("store/blobs"), &plain.path().join("store/blobs"));
    for file in ["oci-layout", "index.json"] {
        fs::copy(lab.path("store").join(file), plain.path().join("store").join(file))
            .expect("a file of the layout");
    }
    let pulled = run(Command::new("podman")
        .args(["--storage-driver", "vfs", "--root"])
        .arg(plain.path().join("root"))
        .arg("--runroot")
        .arg(plain.path().join("run"))
        .args(["pull", "-q", &format!("oci:{}:web:2.0.0", plain.path().join("store").display())]));
    assert_eq!(pulled.code, 0, "{}", pulled.err);
    let _ = Command::new("umount").arg("-q").arg(plain.path().join("root/vfs")).output();
}

/// The server of the unpacked image answers, in namespaces of its own.
fn serves(lab: &Lab) {
    let root = lab.path("served");
    let exported = lab.bake([
        "export",
        "web:2.0.0",
        "--format",
        "dir",
        "--output",
        root.to_str().expect("a plain path"),
    ]);
    assert_eq!(exported.code, 0, "{}", exported.err);
    // The log of requests goes to stdout, and may come after the answer.
    let ask = "ip link set lo up; nginx >/dev/null; n=0; until exec 3<>/dev/tcp/127.0.0.1/80; do n=$((n+1)); [ $n -lt 200 ] || exit 9; sleep 0.05; done 2>/dev/null; \
        printf 'GET /healthz HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n' >&3; cat <&3";
    let script = "mount -t proc proc \"$0/proc\"; mount --rbind /dev \"$0/dev\"; exec chroot \"$0\" /bin/bash -c \"$1\"";
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script])
        .arg(&root)
        .arg(ask);
    let answer = run(&mut command);
    assert!(
        answer.out.contains("HTTP/1.1 200 OK") && answer.out.trim_end().ends_with("ok"),
        "{} {}",
        answer.out,
        answer.err
    );
}

#[test]
fn root_net_what_cannot_be_had_leaves_nothing() {
    let Some(lab) = lab() else { return };
    lab.tiny_root();
    lab.write("tiny.toml", "[image]\nname = \"tiny\"\nversion = \"1\"\n[base]\npath = \"root\"\n");
    assert_eq!(lab.bake(["build", "tiny.toml"]).code, 0);
    let (before, listed) = (lab.images_hash(), lab.bake(["list"]).out);
    let head = "[image]\nname = \"web\"\nversion = \"1\"\n[base]\ndebian = \"bookworm\"\n[[step]]\nmkdir = \"/a\"\n[[step]]\nmkdir = \"/b\"\n[[step]]\n";
    let cases = [
        (
            "run = \"apt-get install -y no-such-package\"\nnetwork = true\n",
            "Unable to locate package no-such-package",
        ),
        ("packages = [\"no-such-package\"]\n", "no-such-package"),
        ("packages = [\"nginx-light=0.1\"]\n", "0.1"),
    ];
    for (step, why) in cases {
        lab.write("web.toml", &format!("{head}{step}"));
        let failed = lab.bake(["build", "web.toml"]);
        assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{step}: {}", failed.err);
        assert!(
            failed.err.contains("step 3 of 3 failed") && failed.err.contains("web.toml:11"),
            "{step}: {}",
            failed.err
        );
        assert!(failed.err.contains(why), "{step}: {}", failed.err);
        assert_eq!((lab.images_hash(), lab.bake(["list"]).out), (before, listed.clone()), "{step}");
        assert!(lab.scratch().is_empty() && !lab.path("web.lock").exists(), "{step}");
    }
    // A mirror where nobody listens: port 9 of this machine.
    let failed = lab.bake(["build", "web.toml", "--debian-mirror", "http://127.0.0.1:9/debian"]);
    assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{}", failed.err);
    assert!(
        failed.err.contains("web.toml:5") && failed.err.contains("127.0.0.1:9"),
        "{}",
        failed.err
    );
    assert_eq!(lab.images_hash(), before);
    lab.write("web.toml", &format!("{head}file = \"/c\"\ncontent = \"c\"\n"));
    let next = lab.bake(["build", "web.toml"]);
    assert_eq!(next.code, 0, "the same version then bakes: {}", next.err);
}
