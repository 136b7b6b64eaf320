//! Squashfs, erofs and ext4: checked by their own programs, read back name by name, and the same
//! bytes from other stores and users.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;

use bake::digest::Digest;
use bake::layer::{Builder, Metadata};

use crate::lab::{Lab, run};
use crate::sandbox_user::somebody;
use crate::tier;

/// A version 2 file capability: `cap_net_raw` permitted and effective.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn meta(mode: u32, uid: u32, gid: u32, mtime: i64) -> Metadata {
    Metadata { mode, uid, gid, mtime, ..Metadata::default() }
}

/// A root with everything that a file system may lose; with `lost`, also what squashfs does lose.
/// `high`: also of owners beyond those that an ordinary user has.
fn root(path: &Path, lost: bool, high: bool) {
    let mut tar = Builder::keeping_times(fs::File::create(path).expect("our own file"));
    let old = 981_173_106;
    let capable = with(meta(0o755, 0, 0, old + 2), b"security.capability", &CAPABILITY);
    tar.dir(b"", &meta(0o755, 0, 0, old + 7)).expect("a directory");
    // In the order of names.
    let plain = meta(0o644, 0, 0, old);
    let noted = with(with(plain.clone(), b"user.note", b"here"), b"user.long", &[b'v'; 600]);
    let mut files = vec![
        (b"big".to_vec(), plain.clone(), vec![7; 3 << 20]),
        (b"capable".to_vec(), capable, b"x".to_vec()),
        (b"empty".to_vec(), meta(0o640, 1000, 60_000, old + 1), vec![]),
        (vec![b'l'; 200], meta(0o600, 0, 0, old + 5), b"long".to_vec()),
        (b"noted".to_vec(), noted, b"n".to_vec()),
        (b"setuid".to_vec(), meta(0o4755, 0, 8, old + 3), b"s".to_vec()),
        (b"sparse".to_vec(), meta(0o644, 0, 0, old + 6), vec![0; 2 << 20]),
    ];
    if lost {
        files.insert(6, (b"shared".to_vec(), with(plain, ACL, &acl()), b"s".to_vec()));
    }
    for (name, meta, bytes) in &files {
        tar.file(name, meta, bytes.len() as u64, &mut &bytes[..]).expect("a file");
    }
    tar.dir(b"tmp", &meta(0o1777, 0, 0, old + 8)).expect("a directory");
    tar.dir(b"tmp/deep", &meta(0o700, 33, 33, old + 9)).expect("a directory");
    tar.fifo(b"tmp/fifo", &meta(0o622, 0, 0, old + 12)).expect("a fifo");
    tar.link(b"tmp/hard", &meta(0o640, 1000, 60_000, old + 1), b"empty").expect("a hard link");
    let target = format!("../{}", "t".repeat(150));
    tar.symlink(b"tmp/link", &meta(0o777, 5, 6, old + 10), target.as_bytes()).expect("a symlink");
    tar.symlink(b"tmp/short", &meta(0o777, 0, 0, old + 11), b"x").expect("a symlink");
    let owners = if high { (4_000_000, 70_000) } else { (33, 34) };
    let owned = meta(0o644, owners.0, owners.1, old + 4);
    tar.file("é".as_bytes(), &owned, 1, &mut &b"u"[..]).expect("a file");
    tar.file(b"\xff", &meta(0o644, 0, 0, old), 1, &mut &b"u"[..]).expect("a file");
    tar.finish().expect("a tar");
}

const ACL: &[u8] = b"system.posix_acl_access";

/// An access control list: of the owner, the user 33, the group, all of them, and others.
fn acl() -> Vec<u8> {
    let one = |tag: u8, id: u32| [&[tag, 0, 4, 0][..], &id.to_le_bytes()].concat();
    let all = [(1, !0), (2, 33), (4, !0), (16, !0), (32, !0)].map(|(tag, id)| one(tag, id));
    [&[2, 0, 0, 0][..], &all.concat()].concat()
}

fn with(mut meta: Metadata, name: &[u8], value: &[u8]) -> Metadata {
    meta.xattrs.insert(name.to_vec(), value.to_vec());
    meta
}

const OUTPUTS: &str = r#"
[[output]]
format = "ext4"
path = "out/ext4"
label = "root"
[[output]]
format = "erofs"
path = "out/erofs"
label = "root"
[[output]]
format = "squashfs"
path = "out/squashfs"
[[output]]
format = "oci"
path = "out/oci"
[[output]]
format = "oci-archive"
path = "out/oci.tar"
[[output]]
format = "docker-archive"
path = "out/docker.tar"
[[output]]
format = "tar"
path = "out/tar"
[[output]]
format = "manifest"
path = "out/mtree"
"#;

fn recipe(more: &str) -> String {
    let image = "[image]\nname = \"web\"\nversion = \"1\"\nepoch = 1000000000\n";
    format!("{image}[base]\npath = \"root.tar\"\n{more}")
}

fn lab(lost: bool, text: &str) -> Lab {
    let lab = Lab::new();
    fs::create_dir(lab.path("out")).expect("our own directory");
    root(&lab.path("root.tar"), lost, false);
    lab.write("web.toml", text);
    lab
}

fn digests(lab: &Lab) -> Vec<Digest> {
    let out = lab.path("out");
    let one = |name: &str| Digest::of(fs::read(out.join(name)).expect("an output"));
    let files = ["ext4", "erofs", "squashfs", "oci.tar", "docker.tar", "tar", "mtree"];
    let mut all: Vec<Digest> = files.into_iter().map(one).collect();
    // The files of the layout, and what they are called.
    let layout = walkdir::WalkDir::new(out.join("oci")).sort_by_file_name();
    for entry in layout.into_iter().map(|entry| entry.expect("readable")) {
        let name = entry.path().strip_prefix(&out).expect("below").to_string_lossy().into_owned();
        let file = entry.file_type().is_file();
        let digest = if file { one(&name).to_string() } else { String::new() };
        all.push(Digest::of(format!("{name} {digest}")));
    }
    all
}

/// Every name below a directory with all that a file system keeps of it.
fn tree(dir: &Path) -> BTreeMap<String, String> {
    let mut first: BTreeMap<u64, String> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(dir).sort_by_file_name() {
        let entry = entry.expect("readable");
        let (path, meta) = (entry.path(), entry.metadata().expect("readable"));
        let name = path.strip_prefix(dir).expect("below").to_string_lossy().into_owned();
        let same = match meta.is_dir() {
            true => String::new(),
            false => first.entry(meta.ino()).or_insert_with(|| name.clone()).clone(),
        };
        let content = match meta.file_type() {
            kind if kind.is_file() => Digest::of(fs::read(path).expect("readable")).short(),
            kind if kind.is_symlink() => {
                fs::read_link(path).expect("readable").display().to_string()
            }
            _ => String::new(),
        };
        let xattrs: Vec<_> = xattr::list(path).into_iter().flatten().collect();
        let xattrs: Vec<_> =
            xattrs.iter().map(|name| (name, xattr::get(path, name).expect("readable"))).collect();
        let (mode, uid, gid, time) = (meta.mode(), meta.uid(), meta.gid(), meta.mtime());
        // The image says nothing of the top.
        let time = if name.is_empty() { 0 } else { time };
        let what = format!("{mode:o} {uid}:{gid} {time} {same} {content} {xattrs:?}");
        found.insert(name, what);
    }
    found
}

/// Runs a script in the toolbox that bake has baked, with the lab at `/w`.
fn in_toolbox(lab: &Lab, script: &str) -> String {
    let volume = format!("{}:/w", lab.path("").display());
    let run = lab.bake(["run", "-v", &volume, "bake-toolbox:1", "--", "sh", "-euc", script]);
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    run.out
}

#[test]
fn root_net_file_systems_are_clean_and_read_back_as_the_image() {
    if !tier::root() || !tier::sandbox() {
        return;
    }
    let lab = lab(false, &recipe(OUTPUTS));
    root(&lab.path("root.tar"), false, true);
    let built = lab.bake(["build", "web.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
    assert!(!built.err.contains("does not hold"), "{}", built.err);
    let export = lab.bake(["export", "web:1", "-f", "dir", "-o", "image"]);
    assert_eq!(export.code, 0, "{}", export.err);
    in_toolbox(
        &lab,
        "export LC_ALL=C.UTF-8
        fsck.ext4 -nf /w/out/ext4
        fsck.erofs --extract=/w/erofs --preserve --xattrs /w/out/erofs
        unsquashfs -s /w/out/squashfs
        unsquashfs -d /w/squashfs /w/out/squashfs",
    );
    let image = tree(&lab.path("image"));
    assert!(image.len() >= 16, "{image:?}");
    assert_eq!(tree(&lab.path("squashfs")), image);
    // fsck.erofs changes owners after it has set capabilities, which clears them.
    let mut extracted = image.clone();
    let capable = extracted.get_mut("capable").expect("it is there");
    *capable = capable.split('[').next().expect("all before it").to_owned() + "[]";
    assert_eq!(tree(&lab.path("erofs")), extracted);
    let bytes = fs::read(lab.path("out/erofs")).expect("an output");
    assert!(bytes.windows(20).any(|some| some == CAPABILITY));
    as_the_kernel_sees_it(&lab, &image);
    let stat = in_toolbox(
        &lab,
        "export LC_ALL=C.UTF-8
        for what in 'ea_list /capable' 'ea_list /noted' 'stat /empty' 'stat /tmp/hard' 'stat /tmp' stats; do
            debugfs -R \"$what\" /w/out/ext4
        done",
    );
    assert!(stat.contains("security.capability (20) = 01 00 00 02 00 20"), "{stat}");
    assert!(
        stat.contains("user.note (4) = \"here\"") && stat.contains("user.long (600)"),
        "{stat}"
    );
    assert_eq!(stat.matches("Links: 2").count(), 2, "{stat}");
    assert!(stat.contains(&format!("mtime: 0x{:08x}", 981_173_106 + 1)), "{stat}");
    assert!(stat.contains("Filesystem volume name:   root"), "{stat}");
    let text = recipe(OUTPUTS).replace("version = \"1\"", "version = \"2\"");
    root(&lab.path("root.tar"), false, false);
    lab.write("web.toml", &text);
    assert_eq!(lab.bake(["build", "web.toml"]).code, 0);
    same_bytes_elsewhere(&lab, &text);
}

/// Mounts each in a mount namespace of its own, which takes mount and loop device with it when it
/// ends, and compares a copy of all that is in it.
fn as_the_kernel_sees_it(lab: &Lab, image: &BTreeMap<String, String>) {
    fs::create_dir(lab.path("mnt")).expect("our own directory");
    for format in ["ext4", "erofs", "squashfs"] {
        let copy = format!("seen-{format}");
        let script = format!("mount -o loop,ro -t {format} out/{format} mnt && cp -a mnt {copy}");
        let mut command = std::process::Command::new("unshare");
        let run = run(command.args(["-m", "sh", "-c", &script]).current_dir(lab.path("")));
        if run.code != 0 {
            tier::skip(&format!("{format} cannot be mounted here"));
            continue;
        }
        let mut seen = tree(&lab.path(&copy));
        if format == "ext4" {
            assert!(seen.remove("lost+found").is_some());
        }
        assert_eq!(seen, *image, "{format}");
    }
}

/// Another store, an ordinary user, another directory: the toolbox is baked anew, and all bytes are
/// the same.
fn same_bytes_elsewhere(first: &Lab, text: &str) {
    let before = digests(first);
    let again = first.bake(["build", "--json", "web.toml"]);
    assert_eq!(
        again.out.matches("\"cached\":true,").count()
            + again.out.matches("\"cached\":true}").count(),
        9,
        "{}",
        again.out
    );
    fs::remove_file(first.path("out/erofs")).expect("there");
    assert_eq!(first.bake(["build", "web.toml"]).code, 0);
    assert_eq!(digests(first), before);
    let Some((_, uid, gid)) = somebody() else {
        tier::skip("no user of this host has subordinate ids (adduser makes one that has)");
        return;
    };
    let second = lab(false, text);
    for path in ["", "out", "root.tar", "web.toml"] {
        chown(second.path(path), Some(uid), Some(gid)).expect("we are root");
    }
    let built = run(second.command(["build", "web.toml"]).uid(uid).gid(gid));
    assert_eq!(built.code, 0, "{}", built.err);
    let digest = |lab: &Lab| lab.bake(["show", "bake-toolbox:1", "--json"]).out;
    let of = |text: String| text.split("sha256:").nth(1).map(|rest| rest[..64].to_owned());
    assert_eq!(of(digest(first)), of(digest(&second)), "the toolbox is the same");
    assert_eq!(digests(&second), before);
    assert!(second.scratch().is_empty(), "{:?}", second.scratch());
}

#[test]
fn net_the_lock_file_pins_the_programs() {
    if !tier::sandbox() {
        return;
    }
    let erofs = "[[output]]\nformat = \"erofs\"\npath = \"out/erofs\"\n";
    let lab = lab(false, &recipe(""));
    assert_eq!(lab.bake(["build", "web.toml"]).code, 0);
    assert!(!fs::read_to_string(lab.path("web.lock")).unwrap_or_default().contains("toolbox"));
    // Also where the image is published already.
    lab.write("web.toml", &recipe(erofs));
    let refused = lab.bake(["build", "--locked", "web.toml"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("does not pin the toolbox"), "{}", refused.err);
    let built = lab.bake(["build", "web.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
    let lock = fs::read_to_string(lab.path("web.lock")).expect("a lock file");
    assert!(lock.contains("[toolbox]\nimage = \"bake-toolbox:1\"\ndigest = \"sha256:"), "{lock}");
    for args in
        [&["build", "--locked", "web.toml"][..], &["lock", "web.toml"], &["build", "web.toml"]]
    {
        let run = lab.bake(args);
        assert_eq!(run.code, 0, "{}", run.err);
        assert_eq!(fs::read_to_string(lab.path("web.lock")).expect("a lock file"), lock);
    }
    // Another toolbox makes other bytes: that is for a person to decide.
    let place = lock.find("digest = \"sha256:").expect("there") + "digest = \"sha256:".len();
    let other = format!("{}{}{}", &lock[..place], "0".repeat(64), &lock[place + 64..]);
    lab.write("web.lock", &other);
    let refused = lab.bake(["build", "web.toml"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("pins the toolbox sha256:0000"), "{}", refused.err);
    assert_eq!(fs::read_to_string(lab.path("web.lock")).expect("a lock file"), other);
    let renewed = lab.bake(["lock", "--update", "web.toml"]);
    assert_eq!(renewed.code, 0, "{}", renewed.err);
    assert_eq!(fs::read_to_string(lab.path("web.lock")).expect("a lock file"), lock);
}

#[test]
fn net_what_a_format_does_not_hold_is_named_or_refused() {
    if !tier::sandbox() {
        return;
    }
    let lab = lab(true, &recipe(OUTPUTS));
    let built = lab.bake(["build", "web.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
    let words = "warning: out/squashfs: squashfs does not hold access control lists, which are \
        left out of /shared";
    assert!(built.err.contains(words), "{}", built.err);
    assert_eq!(built.err.matches("does not hold").count(), 1, "{}", built.err);
    // A file system that is too small: no version, and what was there stays.
    let before = digests(&lab);
    let text = recipe(&OUTPUTS.replace(
        "label = \"root\"\n[[output]]\nformat = \"erofs\"",
        "size = \"4MiB\"\n[[output]]\nformat = \"erofs\"",
    ));
    lab.write("web.toml", &text.replace("version = \"1\"", "version = \"2\""));
    let small = lab.bake(["build", "web.toml"]);
    assert_eq!(small.code, 1, "{}", small.err);
    for word in ["cannot make the output out/ext4", "too few", "web.toml:"] {
        assert!(small.err.contains(word), "{}", small.err);
    }
    assert_eq!(digests(&lab), before);
    assert!(!lab.bake(["list"]).out.contains("web   2"));
    // As large as asked for.
    lab.write("web.toml", &text.replace("4MiB", "64MiB"));
    assert_eq!(lab.bake(["build", "web.toml"]).code, 0);
    assert_eq!(fs::metadata(lab.path("out/ext4")).expect("there").len(), 64 << 20);
    let exported = lab.bake(["export", "web:1", "-f", "squashfs", "-o", "exported"]);
    assert_eq!(exported.code, 0, "{}", exported.err);
    assert_eq!(Digest::of(fs::read(lab.path("exported")).expect("there")), before[2]);
    // What an ext4 cannot hold at all.
    let mut tar = Builder::new(fs::File::create(lab.path("root.tar")).expect("our own"), 0);
    tar.file(b"lost+found", &meta(0o644, 0, 0, 0), 0, &mut &b""[..]).expect("a file");
    tar.finish().expect("a tar");
    lab.write("web.toml", &recipe(OUTPUTS).replace("version = \"1\"", "version = \"3\""));
    let refused = lab.bake(["build", "web.toml"]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    let words = "ext4 cannot hold \"/lost+found\": an ext4 has a directory of that name";
    assert!(refused.err.contains(words), "{}", refused.err);
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn the_hosts_programs_are_looked_at() {
    if !tier::sandbox() {
        return;
    }
    let lab = lab(false, &recipe(""));
    assert_eq!(lab.bake(["build", "web.toml"]).code, 0);
    let export = |script: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = lab.write("bin/mkfs.erofs", &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own file");
        let mut command =
            lab.command(["export", "web:1", "--tools", "host", "-f", "erofs", "-o", "exported"]);
        let run = run(command.env("PATH", lab.path("bin")));
        (run.code, run.err)
    };
    let (code, text) = export("echo mkfs.erofs 1.5");
    assert_ne!(code, 0);
    assert!(text.contains("the host's mkfs.erofs is 1.5.0"), "{text}");
    assert!(text.contains("erofs-utils 1.8.0 or newer"), "{text}");
    let (code, text) = export("echo what");
    assert!(code != 0 && text.contains("cannot find out the version"), "{text}");
    let (code, text) =
        export("[ $1 = --version ] && echo mkfs.erofs 1.8.6 && exit; echo broken; exit 3");
    assert!(code != 0 && text.contains("mkfs.erofs failed") && text.contains("broken"), "{text}");
    assert!(!lab.path("exported").exists());
    // It reads all of the tar, and makes a file.
    let (code, text) = export(
        "[ $1 = --version ] && echo mkfs.erofs 1.8.6 && exit
        for last; do :; done; while read -r x; do :; done; echo made > $last",
    );
    assert_eq!(code, 0, "{text}");
    assert_eq!(fs::read_to_string(lab.path("exported")).expect("there"), "made\n");
}

#[test]
fn options_go_with_their_formats() {
    let lab = lab(false, "");
    let check = |more: &str, words: &str| {
        let output = format!(
            "[[output]]\nformat = \"{}\"\npath = \"out/x\"\n{}\n",
            more.split(' ').next().expect("a format"),
            more.split_once(' ').expect("options").1
        );
        lab.write("web.toml", &recipe(&output));
        let run = lab.bake(["check", "web.toml"]);
        assert_eq!(run.code, 2, "{}", run.err);
        assert!(run.err.contains(words), "{words:?} is not in {}", run.err);
    };
    check("erofs size = \"1GiB\"", "`size` does not go with the format `erofs`");
    check("squashfs label = \"x\"", "`label` does not go with the format `squashfs`");
    check("ext4 compression = \"zstd\"", "`compression` does not go with the format `ext4`");
    check("erofs compression = \"xz\"", "`erofs` is not compressed with xz");
    check("squashfs compression = \"lz4hc\"", "`squashfs` is not compressed with lz4hc");
    check("erofs compression = \"lz\"", "unknown compression \"lz\"");
    check("ext4 label = \"0123456789abcdefg\"", "is too long");
    for size in ["1", "1G", "GiB", "0MiB", "99999999999TiB", "-1MiB"] {
        check(&format!("ext4 size = \"{size}\""), "is not a size");
    }
}
