//! `bake build` on a host that does not give what it needs: no room on the disk, a store that
//! cannot be written, no user namespaces.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use crate::lab::{Lab, run};
use crate::sandbox_user::somebody;
use crate::store_hostile::Mounted;
use crate::tier;

fn recipe(version: &str, steps: &str) -> String {
    format!("[image]\nname = \"tiny\"\nversion = \"{version}\"\n[base]\npath = \"root\"\n{steps}")
}

#[test]
fn root_a_full_disk_leaves_the_images_as_they_were() {
    if !tier::root() || !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    let disk = lab.path("store");
    fs::create_dir(&disk).expect("our own directory");
    let mounted = Mounted::tmpfs(&disk, "64m");
    lab.write("tiny.toml", &recipe("1", "[[step]]\nrun = \"seq 1000 > /a\"\n"));
    let built = lab.bake(["build", "tiny.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
    let (before, listed) = (lab.images_hash(), lab.bake(["list"]).out);

    // More than there is, in a step.
    lab.write("tiny.toml", &recipe("2", "[[step]]\nrun = \"seq 20000000 > /a\"\n"));
    let failed = lab.bake(["build", "tiny.toml"]);
    assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{}", failed.err);
    assert!(
        failed.err.contains("No space left on device") && failed.err.contains("step 1 of 1 failed"),
        "{}",
        failed.err
    );
    assert!(failed.err.contains("hint: make room"), "{}", failed.err);
    assert_eq!((lab.images_hash(), lab.bake(["list"]).out), (before, listed.clone()));
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());

    // Room for less and less of a build that needs it everywhere: layers, blobs, cache, index.
    lab.write(
        "tiny.toml",
        &recipe("2", "[[step]]\nrun = \"seq 900000 > /a\"\n[[step]]\nrun = \"seq 900000 > /b\"\n"),
    );
    let mut failures = 0;
    for left in [0, 8, 100, 1000, 4000, 8000, 12_000, 14_000, 16_000] {
        let ballast = disk.join("cache/ballast");
        let free = rustix::fs::statvfs(&disk).expect("a file system");
        let size = (free.f_bavail * free.f_frsize).saturating_sub(left * 1024);
        fs::write(&ballast, vec![1; usize::try_from(size).expect("small")]).expect("it fits");
        let ended = lab.bake(["build", "tiny.toml"]);
        fs::remove_file(&ballast).expect("our own file");
        if ended.code == 0 {
            break;
        }
        failures += 1;
        assert!(
            [1, 11].contains(&ended.code) && ended.out.is_empty(),
            "{left} KiB: {} {}",
            ended.code,
            ended.err
        );
        assert!(
            ended.err.contains("No space left on device") && ended.err.contains("make room"),
            "{left} KiB: {}",
            ended.err
        );
        assert!(!ended.err.contains("panicked"), "{left} KiB: {}", ended.err);
        assert_eq!(
            (lab.images_hash(), lab.bake(["list"]).out),
            (before, listed.clone()),
            "{left} KiB"
        );
        assert!(lab.scratch().is_empty(), "{left} KiB: {:?}", lab.scratch());
    }
    assert!(failures > 4, "{failures}");
    let built = lab.bake(["build", "tiny.toml"]);
    assert_eq!(built.code, 0, "with room again: {}", built.err);
    let verified = lab.bake(["verify"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
    drop(mounted);
}

#[test]
fn root_a_store_that_cannot_be_written_is_exit_11() {
    if !tier::root() || !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.write("tiny.toml", "[image]\nname = \"tiny\"\nversion = \"1\"\n[base]\nscratch = true\n");
    let disk = lab.path("store");
    fs::create_dir(&disk).expect("our own directory");
    let mounted = Mounted::tmpfs(&disk, "8m");
    assert_eq!(lab.bake(["build", "tiny.toml"]).code, 0);
    let (before, listed) = (lab.images_hash(), lab.bake(["list"]).out);
    mounted.read_only();
    let failed = lab.bake(["build", "tiny.toml", "--set-version", "2"]);
    assert_eq!((failed.code, failed.out.as_str()), (11, ""), "{}", failed.err);
    assert!(
        failed.err.contains("cannot be written") && failed.err.contains("--store DIR"),
        "{}",
        failed.err
    );
    assert_eq!((lab.images_hash(), lab.bake(["list"]).out), (before, listed));
    for reading in [&["verify"][..], &["show", "tiny"]] {
        let printed = lab.bake(reading);
        assert_eq!(printed.code, 0, "{reading:?}: {}", printed.err);
    }
    drop(mounted);
}

#[test]
fn a_store_that_is_none_is_exit_11() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.write("tiny.toml", "[image]\nname = \"tiny\"\nversion = \"1\"\n[base]\nscratch = true\n");
    lab.write("other/thesis.txt", "years of work");
    for (store, why) in [
        ("tiny.toml", "is a file; a store is a directory"),
        (
            "other",
            "is not a store: it is no OCI image layout and not empty (it has \"thesis.txt\")",
        ),
        ("/proc/store", "/proc/store: "),
    ] {
        let failed = lab.bake(["build", "--store", store, "tiny.toml"]);
        assert_eq!((failed.code, failed.out.as_str()), (11, ""), "{store}: {}", failed.err);
        assert!(
            failed.err.replace("\n  because", "").contains(why)
                && failed.err.contains("--store DIR"),
            "{store}: {}",
            failed.err
        );
    }
    assert_eq!(fs::read_dir(lab.path("other")).expect("as it was").count(), 1);
}

/// Copies what a build of `tiny.toml` needs to a directory that every user can read.
fn public(lab: &Lab) -> std::path::PathBuf {
    let place = lab.path("public");
    fs::create_dir(&place).expect("our own directory");
    fs::copy(env!("CARGO_BIN_EXE_bake"), place.join("bake")).expect("a copy of bake");
    fs::write(
        place.join("tiny.toml"),
        "[image]\nname = \"tiny\"\nversion = \"1\"\n[base]\nscratch = true\n",
    )
    .expect("our own file");
    place
}

fn refused(command: &mut Command, place: &Path, why: &str) {
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("BAKE_STORE", place.join("store"))
        .current_dir(place);
    let failed = run(command);
    assert_eq!((failed.code, failed.out.as_str()), (10, ""), "{}", failed.err);
    for part in ["this host cannot run bake's sandbox", why, "hint: ", "bake doctor"] {
        assert!(failed.err.contains(part), "{part}: {}", failed.err);
    }
    let published = fs::read_dir(place.join("store/blobs/sha256")).map_or(0, Iterator::count);
    assert_eq!(published, 0);
}

#[test]
fn a_root_of_a_user_namespace_only_is_recognised() {
    if !tier::sandbox() || !tier::tool("unshare") {
        return;
    }
    let lab = Lab::new();
    let place = public(&lab);
    let mut command = Command::new("unshare");
    command.args([
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        "echo 0 > /proc/sys/user/max_user_namespaces; exec ./bake build tiny.toml",
    ]);
    refused(&mut command, &place, "only inside a user namespace");
}

/// Where a limit (or a policy) forbids user namespaces: a user namespace that knows all ids, in
/// which none may be made below it.
#[test]
fn root_a_user_without_user_namespaces_gets_the_limit_named() {
    if !tier::root() || !tier::sandbox() || !tier::tool("unshare") || !tier::tool("setpriv") {
        return;
    }
    let Some((_, uid, gid)) = somebody() else {
        tier::skip("no user of this host has subordinate ids (useradd makes one that has)");
        return;
    };
    let lab = Lab::new();
    let place = public(&lab);
    chown(&place, Some(uid), Some(gid)).expect("root may");
    fs::set_permissions(place.join("bake"), fs::Permissions::from_mode(0o755))
        .expect("our own file");
    let inner = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces\nexec setpriv --reuid {uid} --regid {gid} --clear-groups ./bake build tiny.toml\n"
    );
    fs::write(place.join("inner.sh"), inner).expect("our own file");
    // Capabilities in the new namespace come with the first program started after its ids are
    // mapped.
    let outer = "mkfifo ready go; unshare --user sh -c 'echo > ready; read x < go; exec sh inner.sh' & read x < ready; \
        echo 0 0 4294967295 > /proc/$!/uid_map; echo 0 0 4294967295 > /proc/$!/gid_map; echo > go; wait $!";
    let mut command = Command::new("timeout");
    refused(
        command.args(["60", "sh", "-c", outer]),
        &place,
        "make a user namespace: No space left on device",
    );
    let text = fs::read_to_string("/proc/sys/user/max_user_namespaces").expect("readable");
    assert_ne!(text.trim(), "0", "the host's own limit is untouched");
}
