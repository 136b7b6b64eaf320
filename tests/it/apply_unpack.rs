//! download inside an image root: files placed, archives unpacked.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};
use tar::EntryType;

use crate::apply_lab::{EPOCH, Lab, fails, me};
use crate::tier;

const URL: &str = "https://example.org/dl/tool%2B1-amd64.tar.gz?token=x/y#z";

fn op(to: &str, unpack: bool, strip: u32) -> Value {
    json!({ "op": "download", "url": URL, "sha256": null, "to": to, "owner": me(), "mode": null, "unpack": unpack, "strip": strip })
}

/// A tar of (name, type, mode, content or link target), names written as they are.
fn tar(entries: &[(&str, EntryType, u32, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(vec![]);
    for (name, kind, mode, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_mtime(1);
        // Ids of somebody's machine.
        header.set_uid(197_609);
        header.set_gid(197_121);
        let is_file = *kind == EntryType::Regular;
        header.set_size(if is_file { text.len() as u64 } else { 0 });
        if !is_file {
            header.set_link_name_literal(text).unwrap();
        }
        header.set_cksum();
        tar.append(&header, if is_file { text.as_bytes() } else { b"" }).unwrap();
    }
    tar.into_inner().unwrap()
}

const DIR: EntryType = EntryType::Directory;
const FILE: EntryType = EntryType::Regular;
const LINK: EntryType = EntryType::Symlink;
const HARD: EntryType = EntryType::Link;

fn release() -> Vec<u8> {
    tar(&[
        ("tool-1/", DIR, 0o777, ""),
        ("tool-1/bin/", DIR, 0o555, ""),
        ("tool-1/bin/tool", FILE, 0o6755, "binary"),
        ("tool-1/bin/alias", LINK, 0o777, "tool"),
        ("tool-1/bin/hard", HARD, 0o644, "tool-1/bin/tool"),
        ("tool-1/README", FILE, 0o664, "read me"),
        ("LICENSE", FILE, 0o644, "dropped by strip"),
    ])
}

#[test]
fn a_file_is_placed_at_a_name_or_in_a_directory() {
    let lab = Lab::new();
    lab.apply_with(op("/usr/bin/tool", false, 0), b"bytes").unwrap();
    lab.apply_with(op("/opt/", false, 0), b"bytes").unwrap();
    assert_eq!(lab.tree("/opt"), "opt 755 /\nopt/tool+1-amd64.tar.gz 644 bytes\n");
    assert_eq!((lab.text("/usr/bin/tool").as_str(), lab.mode("/usr/bin/tool")), ("bytes", 0o644));
    for url in [
        "https://example.org",
        "https://example.org/",
        "https://example.org/a/%2e%2e",
        "https://example.org/%2F",
        "https://example.org/%zz",
    ] {
        let mut op = op("/opt/", false, 0);
        op["url"] = json!(url);
        fails(lab.apply_with(op, b"x"), &[url, "no file name"]);
    }
}

#[test]
fn archives_of_every_compression_are_unpacked() {
    let plain = release();
    let gzip = {
        let mut out = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        out.write_all(&plain).unwrap();
        out.finish().unwrap()
    };
    let xz = {
        let mut out = liblzma::write::XzEncoder::new(vec![], 1);
        out.write_all(&plain).unwrap();
        out.finish().unwrap()
    };
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for bytes in [plain, gzip, xz, zstd] {
        let lab = Lab::new();
        let done = lab.apply_with(op("/opt/tool", true, 1), &bytes).unwrap();
        assert_eq!(done, json!({ "files": 4, "bytes": 13 }));
        let expected = "opt/tool 755 /\nopt/tool/README 664 read me\nopt/tool/bin 555 /\nopt/tool/bin/alias -> tool\nopt/tool/bin/hard 755 binary\nopt/tool/bin/tool 755 binary\n";
        assert_eq!(lab.tree("/opt/tool"), expected);
        let meta = |path: &str| fs::metadata(lab.at(path)).unwrap();
        assert_eq!(meta("/opt/tool/bin/tool").ino(), meta("/opt/tool/bin/hard").ino());
        for path in ["/opt/tool", "/opt/tool/bin", "/opt/tool/bin/tool"] {
            assert_eq!(meta(path).mtime(), EPOCH, "{path}");
        }
    }
}

#[test]
fn mode_and_strip() {
    let lab = Lab::new();
    let mut with_mode = op("/a/", true, 0);
    with_mode["mode"] = json!(0o640);
    lab.apply_with(with_mode, &release()).unwrap();
    assert_eq!(
        (lab.mode("/a/tool-1/bin"), lab.mode("/a/tool-1/bin/tool"), lab.mode("/a/LICENSE")),
        (0o750, 0o640, 0o640)
    );
    lab.apply_with(op("/b", true, 2), &release()).unwrap();
    assert_eq!(lab.tree("/b"), "b 755 /\nb/alias -> tool\nb/hard 755 binary\nb/tool 755 binary\n");
    lab.apply_with(op("/c", true, 9), &release()).unwrap();
    assert_eq!(lab.tree("/c"), "c 755 /\n");
}

#[test]
fn unpacking_again_is_no_change_but_for_hard_links() {
    let lab = Lab::new();
    let archive =
        tar(&[("d/", DIR, 0o755, ""), ("d/f", FILE, 0o644, "x"), ("d/l", LINK, 0o777, "f")]);
    lab.apply_with(op("/opt", true, 0), &archive).unwrap();
    let before = lab.marks();
    lab.apply_with(op("/opt", true, 0), &archive).unwrap();
    assert_eq!(before, lab.marks());
}

#[test]
fn existing_links_of_the_image_are_followed_at_its_root() {
    let lab = Lab::new();
    lab.directory("/usr/bin");
    lab.link("/bin", "/usr/bin");
    lab.apply_with(
        op("/", true, 0),
        &tar(&[("bin/tool", FILE, 0o755, "x"), ("bin/", DIR, 0o700, "")]),
    )
    .unwrap();
    assert_eq!(lab.text("/usr/bin/tool"), "x");
    assert_eq!(lab.mode("/usr/bin"), 0o755);
}

#[test]
fn nothing_leaves_the_directory() {
    type Member = (&'static str, EntryType, u32, &'static str);
    let evil: &[(&[Member], &str)] = &[
        (&[("../x", FILE, 0o644, "x")], "`..`"),
        (&[("a/../../x", FILE, 0o644, "x")], "`..`"),
        (&[("/etc/passwd", FILE, 0o644, "x")], "absolute"),
        (&[("l", LINK, 0o777, "/etc"), ("l/passwd", FILE, 0o644, "x")], "symlink out of"),
        (&[("l", LINK, 0o777, "../../etc"), ("l/passwd", FILE, 0o644, "x")], "symlink out of"),
        (
            &[("l", LINK, 0o777, ".."), ("m", LINK, 0o777, "l/.."), ("m/x", FILE, 0o644, "x")],
            "symlink out of",
        ),
        (&[("l", LINK, 0o777, "/etc"), ("l/d/", DIR, 0o755, "")], "symlink out of"),
        (&[("l", LINK, 0o777, "/etc"), ("h", HARD, 0o644, "l/passwd")], "symlink out of"),
        (&[("h", HARD, 0o644, "../../etc/passwd")], "`..`"),
        (&[("h", HARD, 0o644, "nothing")], "hard link to"),
        (&[("l", LINK, 0o777, "/etc/passwd"), ("h", HARD, 0o644, "l")], "not a file"),
        (&[("dev", EntryType::Char, 0o644, "")], "device"),
        (&[("pipe", EntryType::Fifo, 0o644, "")], "fifo"),
        (&[(".wh.x", FILE, 0o644, "")], "whiteout"),
        (&[("f", FILE, 0o644, "x"), ("f/x", FILE, 0o644, "x")], "not a directory"),
        (&[("d/", DIR, 0o755, ""), ("d", FILE, 0o644, "x")], "is a directory"),
        (&[("./", LINK, 0o777, "/etc")], ""),
    ];
    for (entries, part) in evil {
        let lab = Lab::new();
        let before = (lab.tree("/etc"), fs::metadata(lab.at("/etc/passwd")).unwrap().ino());
        fails(lab.apply_with(op("/opt/tool", true, 0), &tar(entries)), &[part]);
        assert_eq!(
            (lab.tree("/etc"), fs::metadata(lab.at("/etc/passwd")).unwrap().ino()),
            before,
            "{entries:?}"
        );
        assert!(!lab.exists("/x") && !lab.exists("/opt/x"));
    }
    // A link that points out is only a link, and a file of its name takes its place.
    let lab = Lab::new();
    lab.apply_with(
        op("/opt", true, 0),
        &tar(&[("l", LINK, 0o777, "/etc/passwd"), ("l", FILE, 0o644, "mine")]),
    )
    .unwrap();
    assert_eq!(lab.text("/opt/l"), "mine");
    assert!(lab.text("/etc/passwd").starts_with("root:"));
}

#[test]
fn what_is_no_archive_is_reported() {
    let lab = Lab::new();
    let whole = release();
    for (bytes, part) in [
        (&b"PK\x03\x04rest"[..], "a zip archive"),
        (b"BZh91AY", "cannot"),
        (b"!<arch>\ndebian", "`packages` step"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"<!doctype html>", "cannot"),
        (b"", "cannot"),
        (b"\x1f\x8b\x08\x00garbage", "cannot"),
        (&whole[..700], "cannot"),
        (&whole[..2048], "cannot"),
        (&[0; 1024], "empty archive"),
    ] {
        fails(lab.apply_with(op("/opt", true, 0), bytes), &[URL, part]);
    }
}

#[test]
fn bombs_are_refused() {
    let lab = Lab::new();
    // 3 GiB of zeros as the content of an extended header, in a few kilobytes.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(3 << 30);
    header.set_cksum();
    let zeros = std::io::Read::take(std::io::repeat(0), 1 << 20);
    let bomb = zstd::encode_all(std::io::Read::chain(&header.as_bytes()[..], zeros), 3).unwrap();
    fails(lab.apply_with(op("/opt", true, 0), &bomb), &[URL, "too long"]);
}

#[test]
fn root_everything_gets_the_owner_asked_for() {
    if !tier::root() {
        return;
    }
    let lab = Lab::with_shadow_group();
    let mut op = op("/opt/tool", true, 1);
    op["owner"] = json!("www-data:shadow");
    lab.apply_with(op, &release()).unwrap();
    for path in [
        "/opt/tool",
        "/opt/tool/bin",
        "/opt/tool/bin/tool",
        "/opt/tool/bin/alias",
        "/opt/tool/README",
    ] {
        assert_eq!(lab.owner(path), (33, 42), "{path}");
    }
    assert_eq!(lab.owner("/opt"), (0, 0));
}
