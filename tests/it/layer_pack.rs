//! A directory to a layer tar: what is written, in which form, and that the same tree is always the
//! same bytes.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use bake::layer::{
    Builder, Entry, Error, Form, Kind, Limits, Metadata, Packed, TarReader, pack, unpack,
};
use proptest::prelude::*;
use rustix::fs::{FileType, Mode};

use crate::tier;

const EPOCH: i64 = 1_700_000_000;

fn packed(dir: &Path) -> (Vec<u8>, Packed) {
    let mut tar = vec![];
    let packed = pack(dir, EPOCH, &mut tar).expect("pack");
    assert_eq!(packed.bytes, tar.len() as u64);
    (tar, packed)
}

fn entries(tar: &[u8]) -> Vec<Entry> {
    let mut reader = TarReader::new(tar, &Limits::default());
    let mut all = vec![];
    while let Some(entry) = reader.next().expect("our own tar") {
        all.push(entry);
    }
    assert_eq!(reader.counted(), Packed { entries: all.len() as u64, bytes: tar.len() as u64 });
    all
}

fn list(tar: &[u8]) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = |entry: &Entry| match &entry.kind {
        Kind::Dir => format!("{}/", text(&entry.path)),
        Kind::File => text(&entry.path),
        Kind::Link(target) => format!("{} = {}", text(&entry.path), text(target)),
        Kind::Symlink(target) => format!("{} -> {}", text(&entry.path), text(target)),
        Kind::Fifo => format!("{} |", text(&entry.path)),
        Kind::Device => format!("{} dev", text(&entry.path)),
        Kind::Whiteout => format!("{} gone", text(&entry.path)),
        Kind::Opaque => format!("{}/ opaque", text(&entry.path)),
    };
    entries(tar).iter().map(line).collect()
}

/// A directory for a tree, 0755 whatever the umask.
fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    dir
}

fn set_time(path: &Path, seconds: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 999_999_999 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .expect("utimensat");
}

fn node(path: &Path, kind: FileType, device: u64) -> bool {
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, Mode::from_raw_mode(0o600), device).is_ok()
}

#[test]
fn nothing_changed_is_no_entry() {
    if !tier::root() {
        return;
    }
    let dir = tree();
    let (tar, packed) = packed(dir.path());
    assert_eq!((packed.entries, tar.len()), (0, 1024));
}

#[test]
fn root_everything_a_tree_can_hold() {
    if !tier::root() {
        return;
    }
    let dir = tree();
    let at = |name: &str| dir.path().join(name);
    for (name, mode) in [("b", 0o1777), ("b/d", 0o2750), ("b-c", 0o755)] {
        fs::create_dir(at(name)).expect("mkdir");
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).expect("chmod");
    }
    fs::write(at("b/d/suid"), "program").expect("write");
    chown(at("b/d/suid"), Some(65_535), Some(33)).expect("chown");
    fs::set_permissions(at("b/d/suid"), fs::Permissions::from_mode(0o6755)).expect("chmod");
    fs::hard_link(at("b/d/suid"), at("a")).expect("link");
    symlink("/nowhere/../x", at("b/link")).expect("symlink");
    assert!(node(&at("b/pipe"), FileType::Fifo, 0));
    assert!(node(&at("b/gone"), FileType::CharacterDevice, 0));
    fs::write(at("b/z"), "").expect("write");
    drop(std::os::unix::net::UnixListener::bind(at("socket")).expect("socket"));
    xattr::set(at("b/z"), "user.note", b"x=\ny").expect("xattr");
    xattr::set(at("b/d"), "user.overlay.opaque", b"y").expect("xattr");
    xattr::set(at("b/d"), "user.overlay.origin", b"host").expect("xattr");
    xattr::set(at("b/d"), "user.mine", b"mine").expect("xattr");
    xattr::set(at("b/d"), "trusted.other", b"host").expect("xattr");
    let mut capability = [0; 20];
    capability[..8].copy_from_slice(&[1, 0, 0, 2, 0, 0x20, 0, 0]);
    xattr::set(at("b/z"), "security.capability", &capability).expect("xattr");
    set_time(&at("b/z"), EPOCH - 5);
    set_time(&at("b/link"), -7);
    set_time(&at("b"), 5);
    let (tar, packed) = packed(dir.path());
    assert_eq!(
        list(&tar),
        [
            "a",
            "b/",
            "b/gone gone",
            "b/d/",
            "b/d/ opaque",
            "b/d/suid = a",
            "b/link -> /nowhere/../x",
            "b/pipe |",
            "b/z",
            "b-c/"
        ]
    );
    assert_eq!(packed.entries, 10);
    let all = entries(&tar);
    let of = |path: &str| {
        all.iter().find(|e| e.path == path.as_bytes()).map(|e| e.meta.clone()).expect("an entry")
    };
    assert_eq!(
        of("a"),
        Metadata { mode: 0o6755, uid: 65_535, gid: 33, mtime: EPOCH, ..Metadata::default() }
    );
    assert_eq!(
        (of("b").mode, of("b").mtime),
        (0o1777, EPOCH),
        "a directory's own time is the epoch"
    );
    assert_eq!(of("b/link").mtime, 0, "before 1970 is 1970");
    assert_eq!(of("b/z").mtime, EPOCH - 5);
    let attributes = |path: &str| {
        of(path)
            .xattrs
            .into_iter()
            .map(|(k, v)| (String::from_utf8(k).expect("ascii"), v))
            .collect::<Vec<_>>()
    };
    assert_eq!(attributes("b/d"), [("user.mine".to_owned(), b"mine".to_vec())]);
    assert_eq!(
        attributes("b/z"),
        [
            ("security.capability".to_owned(), capability.to_vec()),
            ("user.note".to_owned(), b"x=\ny".to_vec())
        ]
    );
}

#[test]
fn root_the_top_directory_has_an_entry_only_where_it_is_unusual() {
    if !tier::root() {
        return;
    }
    let dir = tree();
    fs::write(dir.path().join("f"), "").expect("write");
    assert_eq!(list(&packed(dir.path()).0), ["f"]);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).expect("chmod");
    assert_eq!(list(&packed(dir.path()).0), ["/", "f"]);
    // Over something unusual it has one in any case, over something usual only by itself.
    let over = |mode: u32, below: u32| {
        let under = tempfile::tempdir().expect("a directory");
        fs::set_permissions(under.path(), fs::Permissions::from_mode(below)).expect("chmod");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).expect("chmod");
        let mut tar = vec![];
        bake::layer::pack_over(dir.path(), EPOCH, under.path(), &mut tar).expect("pack");
        list(&tar)
    };
    assert_eq!(over(0o755, 0o755), ["f"]);
    for (mode, below) in [(0o755, 0o750), (0o750, 0o755), (0o750, 0o750)] {
        assert_eq!(over(mode, below), ["/", "f"], "{mode:o} over {below:o}");
    }
}

/// Builds one and the same tree in two ways that must not show.
fn build(dir: &Path, backwards: bool) {
    let mut names: Vec<String> = (0..60).map(|n| format!("file-{n}")).collect();
    if backwards {
        names.reverse();
    }
    let mut directories = vec!["usr", "usr/share", "usr/lib"];
    if backwards {
        directories = vec!["usr", "usr/lib", "usr/share"];
    }
    for directory in directories {
        fs::create_dir(dir.join(directory)).expect("mkdir");
        fs::set_permissions(dir.join(directory), fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    for name in &names {
        for directory in ["usr/share", "usr/lib"] {
            let path = dir.join(directory).join(name);
            fs::write(&path, name.repeat(name.len() * 50)).expect("write");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
            set_time(&path, if backwards { EPOCH + 50 } else { EPOCH + 7 });
            for key in if backwards { ["user.b", "user.a"] } else { ["user.a", "user.b"] } {
                xattr::set(&path, key, name.as_bytes()).expect("xattr");
            }
        }
    }
    let pair = [dir.join("usr/lib/file-1"), dir.join("usr/share/hard")];
    fs::hard_link(&pair[0], &pair[1]).expect("link");
    symlink("lib", dir.join("usr/lib64")).expect("symlink");
    set_time(&dir.join("usr/lib64"), if backwards { EPOCH * 2 } else { EPOCH });
}

#[test]
fn the_same_tree_is_the_same_bytes() {
    let (one, two) = (tree(), tree());
    build(one.path(), false);
    build(two.path(), true);
    assert_eq!(packed(one.path()), packed(two.path()));
    assert_eq!(packed(one.path()), packed(one.path()));
}

#[test]
fn root_golden_bytes() {
    if !tier::root() {
        return;
    }
    let dir = tree();
    fs::create_dir(dir.path().join("etc")).expect("mkdir");
    fs::set_permissions(dir.path().join("etc"), fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::write(dir.path().join("etc/hostname"), "web\n").expect("write");
    fs::set_permissions(dir.path().join("etc/hostname"), fs::Permissions::from_mode(0o644))
        .expect("chmod");
    xattr::set(dir.path().join("etc/hostname"), "user.x", b"\xff").expect("xattr");
    symlink("x".repeat(101), dir.path().join("etc/long")).expect("symlink");
    assert!(node(&dir.path().join("etc/motd"), FileType::CharacterDevice, 0));
    assert_eq!(
        bake::digest::Digest::of(packed(dir.path()).0).hex(),
        "81cc0b04ec508d45cf4a8c8f386cd3d5d2d1ddf6f4bd6b08d3d33969565cb97f"
    );
}

#[test]
fn names_keep_their_bytes() {
    let dir = tree();
    let names: Vec<Vec<u8>> = vec![
        b"\xff\xfe raw".to_vec(),
        "ümläut".into(),
        b"new\nline".to_vec(),
        b" space ".to_vec(),
        b"-rf".to_vec(),
        b"back\\slash".to_vec(),
        b"\x01\x7f".to_vec(),
        vec![b'n'; 255],
        [vec![0xfe; 200], b"x".to_vec()].concat(),
    ];
    let deep = "d".repeat(90);
    for directory in ["", &deep, &format!("{deep}/{deep}")] {
        fs::create_dir_all(dir.path().join(directory)).expect("mkdir");
        for name in &names {
            fs::write(dir.path().join(directory).join(std::ffi::OsStr::from_bytes(name)), name)
                .expect("write");
        }
    }
    symlink(std::ffi::OsStr::from_bytes(&[b'\xe9'; 300]), dir.path().join("link"))
        .expect("symlink");
    let (tar, _) = packed(dir.path());
    let other = tree();
    unpack(&mut &tar[..], other.path(), Form::Tree, &Limits::default()).expect("unpack");
    for directory in ["", &deep, &format!("{deep}/{deep}")] {
        for name in &names {
            let path = other.path().join(directory).join(std::ffi::OsStr::from_bytes(name));
            assert_eq!(&fs::read(&path).unwrap_or_else(|e| panic!("{path:?}: {e}")), name);
        }
    }
    assert_eq!(
        fs::read_link(other.path().join("link")).expect("link").as_os_str().as_bytes(),
        [0xe9; 300]
    );
    assert_eq!(packed(other.path()).0, tar);
}

#[test]
fn root_what_cannot_be_packed_is_named() {
    if !tier::root() {
        return;
    }
    let check = |prepare: &dyn Fn(&Path), expected: &str| {
        let dir = tree();
        fs::create_dir(dir.path().join("d")).expect("mkdir");
        prepare(&dir.path().join("d"));
        let error = pack(dir.path(), EPOCH, &mut vec![]).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(
        &|d| assert!(node(&d.join("null"), FileType::CharacterDevice, rustix::fs::makedev(1, 3))),
        "cannot pack \"d/null\": it is a device",
    );
    check(
        &|d| assert!(node(&d.join("disk"), FileType::BlockDevice, rustix::fs::makedev(8, 0))),
        "cannot pack \"d/disk\": it is a device",
    );
    check(
        &|d| fs::write(d.join(".wh.x"), "").expect("write"),
        "cannot pack \"d/.wh.x\": names beginning with `.wh.`",
    );
    check(
        &|d| assert!(node(&d.join(".wh.x"), FileType::CharacterDevice, 0)),
        "cannot pack \"d/.wh.x\"",
    );
    check(
        &|d| xattr::set(d, "trusted.overlay.redirect", b"x").expect("xattr"),
        "cannot pack \"d\": it has a mark of overlayfs",
    );
    check(
        &|d| xattr::set(d, "user.overlay.metacopy", b"").expect("xattr"),
        "redirect, metacopy, whiteout",
    );
    check(
        &|d| xattr::set(d, "user.a=b", b"").expect("xattr"),
        "extended attribute \"user.a=b\" cannot be kept",
    );
}

/// A tar that is written to a place which grows the file being packed.
struct Meddler<'a>(&'a Path, u64);

impl Write for Meddler<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        if self.1 == 0 {
            fs::OpenOptions::new().append(true).open(self.0)?.write_all(b"more")?;
        }
        self.1 += 1;
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_changes_while_read_is_named() {
    let dir = tree();
    fs::write(dir.path().join("log"), vec![7; 3 << 20]).expect("write");
    let error =
        pack(dir.path(), EPOCH, &mut Meddler(&dir.path().join("log"), 0)).expect_err("changed");
    assert_eq!(error.to_string(), "cannot pack \"log\": it changed while it was read");
}

#[test]
fn a_full_place_is_an_error() {
    let dir = tree();
    fs::write(dir.path().join("f"), vec![7; 3 << 20]).expect("write");
    let mut full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let error = pack(dir.path(), EPOCH, &mut full).expect_err("no space");
    assert!(matches!(error, Error::Write { .. }), "{error}");
    assert!(
        pack(&dir.path().join("missing"), EPOCH, &mut vec![])
            .expect_err("no directory")
            .to_string()
            .starts_with("cannot open the directory")
    );
}

#[test]
fn a_deep_tree_is_packed_with_few_descriptors() {
    let dir = tree();
    let path = "d/".repeat(1500);
    fs::create_dir_all(dir.path().join(&path)).expect("mkdir");
    fs::write(dir.path().join("d/z"), "after").expect("write");
    fs::write(dir.path().join(&path).join("f"), "deep").expect("write");
    let (tar, packed) = packed(dir.path());
    // One more for the top directory where that is not root's.
    assert_eq!(packed.entries, if rustix::process::geteuid().is_root() { 1502 } else { 1503 });
    assert_eq!(list(&tar).last().map(String::as_str), Some("d/z"));
    let other = tree();
    unpack(&mut &tar[..], other.path(), Form::Tree, &Limits::default()).expect("unpack");
    assert_eq!(fs::read(other.path().join(&path).join("f")).expect("read"), b"deep");
    bake::files::remove_tree(&dir.path().join("d")).expect("remove");
    bake::files::remove_tree(&other.path().join("d")).expect("remove");
}

/// A file of 9 GiB without 9 GiB: only the header is looked at.
#[test]
fn a_size_beyond_octal_stands_in_the_extended_header() {
    let size = 9 << 30;
    let mut start = vec![];
    struct First<'a>(&'a mut Vec<u8>);
    impl Write for First<'_> {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            if self.0.len() > 4096 {
                return Err(std::io::Error::other("enough"));
            }
            self.0.extend_from_slice(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let meta = Metadata { mode: 0o644, ..Metadata::default() };
    Builder::new(First(&mut start), EPOCH)
        .file(b"big", &meta, size, &mut std::io::repeat(0))
        .expect_err("enough");
    let entry =
        TarReader::new(&start[..], &Limits::default()).next().expect("an entry").expect("an entry");
    assert_eq!((entry.path, entry.size), (b"big".to_vec(), size));
}

#[test]
fn root_gnu_tar_lists_and_unpacks_the_same() {
    if !tier::root() {
        return;
    }
    if Command::new("tar").arg("--version").stdout(Stdio::null()).status().is_err() {
        assert!(tier::skip("tar cannot be run"));
        return;
    }
    let dir = tree();
    build(dir.path(), false);
    let long = "l".repeat(120);
    fs::create_dir_all(dir.path().join(&long).join(&long)).expect("mkdir");
    fs::write(dir.path().join(&long).join(&long).join("\u{e9}"), "x").expect("write");
    fs::hard_link(dir.path().join(&long).join(&long).join("\u{e9}"), dir.path().join("zz"))
        .expect("link");
    symlink("t".repeat(400), dir.path().join("z-long")).expect("symlink");
    assert!(node(&dir.path().join("pipe"), FileType::Fifo, 0));
    let (tar, _) = packed(dir.path());
    let other = tree();
    let path = other.path().join("layer.tar");
    fs::write(&path, &tar).expect("write");
    let run = |args: &[&str]| {
        let output = Command::new("tar")
            .args(args)
            .arg("-f")
            .arg(&path)
            .env("LC_ALL", "C")
            .output()
            .expect("run tar");
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("escaped by tar")
    };
    let ours: Vec<String> = entries(&tar)
        .iter()
        .map(|e| {
            let slash = if e.kind == Kind::Dir { "/" } else { "" };
            e.path
                .iter()
                .map(|b| if b.is_ascii() { char::from(*b).to_string() } else { format!("\\{b:o}") })
                .collect::<String>()
                + slash
        })
        .collect();
    assert_eq!(run(&["-t"]).lines().collect::<Vec<_>>(), ours);
    let out = tree();
    run(&[
        "-x",
        "-p",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=user.*",
        "-C",
        out.path().to_str().expect("utf-8"),
    ]);
    assert_eq!(packed(out.path()).0, tar);
    assert_eq!(fs::metadata(out.path().join("zz")).expect("stat").nlink(), 2);
}

/// A random tree as a list of (path, what).
fn plant(dir: &Path, plan: &[(Vec<u8>, u8, Vec<u8>)]) {
    for (name, what, data) in plan {
        let mut path = dir.to_owned();
        for (n, part) in name.chunks(3).enumerate() {
            let part: Vec<u8> =
                part.iter().map(|b| if matches!(b, 0 | b'/') { b'_' } else { *b }).collect();
            if part == b"." || part == b".." {
                return;
            }
            path.push(std::ffi::OsStr::from_bytes(&part));
            if (n + 1) * 3 < name.len() {
                let _ = fs::create_dir(&path);
            }
        }
        match what % 4 {
            0 => drop(fs::create_dir(&path)),
            1 => drop(symlink(
                std::ffi::OsStr::from_bytes(&data.iter().map(|b| b | 1).collect::<Vec<_>>()),
                &path,
            )),
            2 => drop(node(&path, FileType::Fifo, 0)),
            _ => drop(fs::write(&path, data)),
        }
        if path.is_file() {
            let _ = xattr::set(&path, "user.data", data);
            set_time(&path, i64::from(*what) * 10_000_000);
            let _ = fs::set_permissions(
                &path,
                fs::Permissions::from_mode(
                    (0o600 + u32::from(*what))
                        | if rustix::process::geteuid().is_root() { 0 } else { 0o400 },
                ),
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_survives_the_round_trip(
        plan in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..9), any::<u8>(), prop::collection::vec(any::<u8>(), 0..600)), 0..40)
    ) {
        let (one, two) = (tree(), tree());
        plant(one.path(), &plan);
        let (tar, counted) = packed(one.path());
        let unpacked = unpack(&mut &tar[..], two.path(), Form::Tree, &Limits::default()).expect("our own tar");
        prop_assert_eq!(&counted, &unpacked);
        prop_assert_eq!(packed(two.path()).0, tar);
    }
}
