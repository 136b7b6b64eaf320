//! A layer tar to a directory: what comes out, and what is refused, each with its entry named and
//! nothing outside touched.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use bake::layer::{
    Devices, DirOverSymlink, Error, Form, Limits, Options, Wrong, unpack, unpack_with,
};
use proptest::prelude::*;

use crate::layer_lab::{Raw, any_entry, listing, tar};
use crate::tier;

fn into(dir: &Path, form: Form, bytes: &[u8]) -> Result<bake::layer::Packed, Error> {
    unpack(&mut &bytes[..], dir, form, &Limits::default())
}

/// A directory with a sibling that nothing may touch.
struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("root")).expect("mkdir");
        fs::create_dir(dir.path().join("outside")).expect("mkdir");
        fs::write(dir.path().join("outside/f"), "untouched").expect("write");
        Self(dir)
    }

    fn root(&self) -> std::path::PathBuf {
        self.0.path().join("root")
    }

    fn unharmed(&self) {
        let mut names: Vec<_> = fs::read_dir(self.0.path())
            .expect("list")
            .map(|e| e.expect("list").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["outside", "root"]);
        assert_eq!(listing(&self.0.path().join("outside")).len(), 1);
        assert_eq!(fs::read(self.0.path().join("outside/f")).expect("read"), b"untouched");
    }
}

/// Unpacks in both forms; both must say the same.
fn refused(entries: &[Raw]) -> (String, Wrong) {
    let bytes = tar(entries);
    let [one, two] = [Form::Overlay, Form::Tree].map(|form| {
        let lab = Lab::new();
        let error = into(&lab.root(), form, &bytes).expect_err("must be refused");
        lab.unharmed();
        match error {
            Error::Entry { entry, why } => (entry, why),
            Error::Tar { why } => (String::new(), why),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(one, two);
    one
}

fn accepted(form: Form, entries: &[Raw]) -> Vec<String> {
    let lab = Lab::new();
    into(&lab.root(), form, &tar(entries)).expect("accepted");
    lab.unharmed();
    listing(&lab.root())
}

fn named(entry: &str, why: Wrong) -> (String, Wrong) {
    (entry.to_owned(), why)
}

#[test]
fn names_that_leave_or_lie_are_refused() {
    for (name, why) in [
        ("../f", Wrong::DotDot),
        ("a/../../f", Wrong::DotDot),
        ("a/..", Wrong::DotDot),
        ("..", Wrong::DotDot),
        ("/etc/passwd", Wrong::Absolute),
        ("//etc/passwd", Wrong::Absolute),
        (".wh.", Wrong::Whiteout),
        (".wh..", Wrong::Whiteout),
        (".wh...", Wrong::Whiteout),
        ("a/.wh.", Wrong::Whiteout),
        ("a/.wh..", Wrong::Whiteout),
        ("a/.wh...", Wrong::Whiteout),
        (".wh.d/f", Wrong::Whiteout),
        (".wh..wh.aufs", Wrong::Whiteout),
        ("f/", Wrong::Slash),
        (".", Wrong::Empty),
    ] {
        assert_eq!(refused(&[Raw::file(name, b"")]), named(name, why), "{name}");
    }
    assert_eq!(refused(&[Raw::new(b'0', b"").data(b"x")]), named("", Wrong::Empty));
    assert_eq!(
        refused(&[Raw::pax(b'x', &[("path", b"a/../../b")]), Raw::file("ok", b"")]),
        named("a/../../b", Wrong::DotDot)
    );
    assert_eq!(
        refused(&[Raw::pax(b'x', &[("path", b"/b")]), Raw::file("ok", b"")]),
        named("/b", Wrong::Absolute)
    );
    assert_eq!(
        refused(&[Raw::pax(b'x', &[("path", b"ok\0/../x")]), Raw::file("ok", b"")]).1,
        Wrong::Empty
    );
    assert_eq!(
        refused(&[Raw::new(b'L', b"././@LongLink").data(b"../b\0"), Raw::file("ok", b"")]),
        named("../b", Wrong::DotDot)
    );
    let long = "n".repeat(256);
    assert_eq!(
        refused(&[Raw::pax(b'x', &[("path", long.as_bytes())]), Raw::file("ok", b"")]).1,
        Wrong::TooLong
    );
    let deep = "n/".repeat(2049);
    assert_eq!(
        refused(&[Raw::pax(b'x', &[("path", deep.as_bytes())]), Raw::dir("ok")]).1,
        Wrong::TooLong
    );
    assert_eq!(
        refused(&[Raw::new(b'5', b".wh.d/")]).1,
        Wrong::Whiteout,
        "a directory that deletes"
    );
    assert_eq!(refused(&[Raw::file(".wh.f", b"contents")]).1, Wrong::Whiteout);
    assert_eq!(refused(&[Raw::link(b'2', "d/.wh..wh..opq", "x")]).1, Wrong::Whiteout);
}

#[test]
fn the_same_name_twice_is_refused() {
    let file = |name: &str| Raw::file(name, if name.starts_with(".wh.") { b"" } else { b"x" });
    let check =
        |entries: &[Raw], last: &str, why: Wrong| assert_eq!(refused(entries), named(last, why));
    check(&[file("f"), file("f")], "f", Wrong::Duplicate);
    check(&[file("f"), file("./f")], "f", Wrong::Duplicate);
    check(&[file("f"), Raw::dir("f")], "f", Wrong::Duplicate);
    check(&[Raw::dir("f"), file("f")], "f", Wrong::Duplicate);
    check(&[Raw::dir("f"), Raw::link(b'2', "f", "/")], "f", Wrong::Duplicate);
    check(&[file("f"), Raw::link(b'2', "f", "../outside"), file("f/f")], "f", Wrong::Duplicate);
    check(&[Raw::link(b'2', "f", "x"), Raw::dir("f")], "f", Wrong::Duplicate);
    check(&[file("f"), Raw::link(b'1', "g", "f"), file("g")], "g", Wrong::Duplicate);
    check(&[file("d/f"), file("d")], "d", Wrong::Conflict);
    check(&[file("f"), file("f/g")], "f/g", Wrong::Way);
    check(&[file("f"), file(".wh.f")], "f", Wrong::Conflict);
    check(&[file("d/f"), file(".wh.d")], "d", Wrong::Conflict);
    check(&[file(".wh.f"), file(".wh.f")], "f", Wrong::Conflict);
    // Through a link the same file has two names.
    check(
        &[Raw::dir("d"), Raw::link(b'2', "l", "d"), file("d/f"), file("l/f")],
        "l/f",
        Wrong::Duplicate,
    );
    assert_eq!(
        accepted(Form::Tree, &[Raw::dir("d/"), file("d/f"), Raw::dir("./d").mode(0o700)]),
        ["d/ 700", "d/f 644 x"]
    );
}

#[test]
fn a_deleted_name_that_comes_back_is_refused() {
    for form in [Form::Overlay, Form::Tree] {
        if form == Form::Overlay && !rustix::process::geteuid().is_root() {
            continue;
        }
        for back in [Raw::file("f", b"x"), Raw::dir("f"), Raw::file("f/g", b"x")] {
            let lab = Lab::new();
            let error = into(&lab.root(), form, &tar(&[Raw::file(".wh.f", b""), back]))
                .expect_err("refused")
                .to_string();
            assert!(error.contains("two ways") || error.contains("on its way"), "{error}");
        }
    }
}

#[test]
fn devices_are_refused_or_left_out() {
    for kind in [b'3', b'4'] {
        let device = Raw::new(kind, b"dev/null");
        assert_eq!(refused(&[Raw::dir("dev"), device.clone()]), named("dev/null", Wrong::Device));
        let lab = Lab::new();
        let options = Options { devices: Devices::Skip, ..Options::layer(Form::Tree) };
        let bytes = tar(&[Raw::dir("./"), Raw::dir("./dev/"), device, Raw::file("./f", b"x")]);
        unpack_with(&mut &bytes[..], &lab.root(), &options).expect("accepted");
        assert_eq!(listing(&lab.root()), ["dev/ 755", "f 644 x"]);
    }
}

#[test]
fn links_are_followed_inside_only() {
    for target in
        ["/../../outside", "../../../../outside", "/outside", "../outside", "d/../../outside"]
    {
        let entries = [Raw::dir("d"), Raw::link(b'2', "l", target), Raw::file("l/f", b"x")];
        let found = accepted(Form::Tree, &entries);
        assert!(found.contains(&"outside/f 644 x".to_owned()), "{target}: {found:?}");
    }
    let found = accepted(
        Form::Overlay,
        &[
            Raw::dir("a/b"),
            Raw::link(b'2', "one", "/a"),
            Raw::link(b'2', "a/two", "../one/b/./"),
            Raw::file("one/two/f", b"x"),
        ],
    );
    assert!(found.contains(&"a/b/f 644 x".to_owned()), "{found:?}");
    // A link itself is made as written, wherever it points.
    assert_eq!(
        accepted(Form::Tree, &[Raw::link(b'2', "l", "/etc/../../x//y")]),
        ["l -> /etc/../../x//y"]
    );
    assert_eq!(
        refused(&[Raw::link(b'2', "a", "b"), Raw::link(b'2', "b", "a"), Raw::file("a/f", b"")]),
        named("a/f", Wrong::Way)
    );
    assert_eq!(
        refused(&[Raw::link(b'2', "a", "a/a"), Raw::file("a/f", b"")]),
        named("a/f", Wrong::Way)
    );
    assert_eq!(refused(&[Raw::link(b'2', "l", "")]).1, Wrong::Empty);
}

#[test]
fn hard_links_lead_to_earlier_files_inside() {
    let file = Raw::file("d/f", b"x");
    let found = accepted(
        Form::Overlay,
        &[file.clone(), Raw::link(b'1', "g", "d/f"), Raw::link(b'1', "h", "./g")],
    );
    assert_eq!(found, ["d/ 755", "d/f 644 x", "g 644 x", "h 644 x"]);
    let target = |name: &str| Wrong::Target(name.to_owned());
    assert_eq!(refused(&[Raw::link(b'1', "g", "f"), Raw::file("f", b"")]), named("g", target("f")));
    assert_eq!(refused(&[Raw::link(b'1', "g", "g")]), named("g", target("g")));
    assert_eq!(refused(&[Raw::dir("d"), Raw::link(b'1', "g", "d")]), named("g", target("d")));
    assert_eq!(refused(&[Raw::link(b'1', "g", "../outside/f")]).1, Wrong::DotDot);
    assert_eq!(refused(&[Raw::link(b'1', "g", "/outside/f")]).1, Wrong::Absolute);
    assert_eq!(refused(&[Raw::link(b'1', "g", ".")]).1, target(""));
    // Through a link out of the root: there is nothing there.
    let entries = [Raw::link(b'2', "l", "/../outside"), Raw::link(b'1', "g", "l/f")];
    assert_eq!(refused(&entries), named("g", target("l/f")));
    assert_eq!(
        refused(&[Raw::file("f", b""), Raw::link(b'1', "g", "f").octal(124, 12, 5)]).1,
        Wrong::Size
    );
}

#[test]
fn sizes_with_two_readings_are_refused() {
    let pax = |size: &str| Raw::pax(b'x', &[("size", size.as_bytes())]);
    let file = Raw::file("f", b"12345");
    assert_eq!(accepted(Form::Tree, &[pax("5"), file.clone()]), ["f 644 12345"]);
    for (size, why) in [
        ("4", Wrong::Size),
        ("0", Wrong::Size),
        ("512", Wrong::Size),
        ("-5", Wrong::Number("size")),
        ("5.0", Wrong::Number("size")),
    ] {
        assert_eq!(refused(&[pax(size), file.clone()]), named("f", why), "{size}");
    }
    assert_eq!(
        refused(&[pax("9999999999999"), Raw::new(b'0', b"f")]).1,
        Wrong::Bytes(Limits::default().bytes)
    );
    assert_eq!(
        refused(&[pax("99999999999999999999999"), Raw::new(b'0', b"f")]).1,
        Wrong::Number("size")
    );
    for kind in [b'1', b'2', b'5', b'6'] {
        let entry = Raw::link(kind, "e", "f").octal(124, 12, 512);
        assert_eq!(
            refused(&[Raw::file("f", b""), entry, Raw::file("hidden", b"")]),
            named("e", Wrong::Size),
            "{}",
            char::from(kind)
        );
    }
    assert_eq!(refused(&[Raw::new(b'0', b"f").field(124, b"12x\0")]).1, Wrong::Number("size"));
}

#[test]
fn damaged_sparse_entries_are_refused() {
    for key in [
        "GNU.sparse.major",
        "GNU.sparse.size",
        "GNU.sparse.map",
        "GNU.sparse.name",
        "SCHILY.realsize",
    ] {
        assert_eq!(
            refused(&[Raw::pax(b'x', &[(key, b"1")]), Raw::file("f", b"x")]),
            named("f", Wrong::Sparse),
            "{key}"
        );
    }
    assert_eq!(refused(&[Raw::new(b'S', b"f").field(257, b"ustar  \0")]).1, Wrong::Sparse);
    let map = |size: &str, map: &str| {
        let records: [(&str, &[u8]); 2] =
            [("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", map.as_bytes())];
        [Raw::pax(b'x', &records), Raw::file("f", b"xyz")]
    };
    assert_eq!(accepted(Form::Tree, &map("9", "1,1,4,2")), ["f 644 \0x\0\0yz\0\0\0"]);
    for (size, list) in [
        ("5", "1,1,4,2"),
        ("9", "4,2,1,1"),
        ("9", "1,2,2,1"),
        ("9", "1,1,4"),
        ("9", "1,1,4,3"),
        ("9", "1,1,x,2"),
        ("9", "1,1,18446744073709551615,2"),
        ("", "1,1,4,2"),
    ] {
        assert_eq!(refused(&map(size, list)).1, Wrong::Sparse, "{size} {list}");
    }
}

#[test]
fn extended_headers_must_be_clear() {
    let file = || Raw::file("f", b"");
    let extended = |entries: &[Raw]| match refused(entries).1 {
        Wrong::Extended(why) => why,
        other => panic!("{other:?}"),
    };
    let path = |name: &str| Raw::pax(b'x', &[("path", name.as_bytes())]);
    assert_eq!(extended(&[path("a"), path("b"), file()]), "there are two for one entry");
    assert_eq!(
        extended(&[Raw::pax(b'x', &[("path", b"a"), ("path", b"b")]), file()]),
        "a record is there twice"
    );
    assert_eq!(
        extended(&[path("a"), Raw::new(b'L', b"x").data(b"b\0"), file()]),
        "the name is given twice"
    );
    assert_eq!(
        extended(&[
            Raw::new(b'K', b"x").data(b"b\0"),
            Raw::pax(b'x', &[("linkpath", b"a")]),
            Raw::link(b'2', "f", "c")
        ]),
        "the name is given twice"
    );
    assert_eq!(extended(&[file(), path("a")]), "it belongs to no entry");
    for body in ["", "x", "12 path=a\n", "5 path=a\n", "9 path=ab\n", "9 path a\n"] {
        let entries = [Raw::new(b'x', b"pax").data(body.as_bytes()), file()];
        if body.is_empty() {
            assert_eq!(accepted(Form::Tree, &entries), ["f 644 "]);
        } else {
            assert_eq!(extended(&entries), "a record is malformed", "{body:?}");
        }
    }
    for (key, value) in [
        ("path", "../x"),
        ("size", "7"),
        ("uid", "0"),
        ("linkpath", "x"),
        ("SCHILY.xattr.user.x", "y"),
        ("GNU.sparse.major", "1"),
    ] {
        assert_eq!(
            extended(&[Raw::pax(b'g', &[(key, value.as_bytes())]), file()]),
            "it changes all entries",
            "{key}"
        );
    }
    assert_eq!(
        accepted(Form::Tree, &[Raw::pax(b'g', &[("comment", b"6f1b")]), file()]),
        ["f 644 "]
    );
    assert_eq!(
        refused(&[Raw::new(b'x', b"pax").octal(124, 12, 2 << 20), file()]).1,
        Wrong::TooLong
    );
    assert_eq!(refused(&[Raw::new(b'V', b"label")]).1, Wrong::Type(b'V'));
    assert_eq!(refused(&[Raw::new(b'M', b"more")]).1, Wrong::Type(b'M'));
}

#[test]
fn ids_and_attributes_that_an_image_cannot_have_are_refused() {
    let id = |id| Wrong::Id { what: "owner", id };
    assert_eq!(
        refused(&[Raw::pax(b'x', &[("uid", b"4294967295")]), Raw::file("f", b"")]),
        named("f", id(4_294_967_295))
    );
    assert_eq!(
        refused(&[Raw::pax(b'x', &[("gid", b"-1")]), Raw::file("f", b"")]).1,
        Wrong::Number("group")
    );
    assert_eq!(
        refused(&[Raw::file("f", b"").field(108, b"\x80\0\0\0\xff\xff\xff\xff")]).1,
        id(4_294_967_295)
    );
    let attribute = |name: &str, value: &[u8]| {
        refused(&[Raw::pax(b'x', &[(name, value)]), Raw::file("f", b"")]).1
    };
    let name = |name: &str| Wrong::Attribute(name.to_owned());
    assert_eq!(
        attribute("SCHILY.xattr.security.capability", b"short"),
        name("security.capability")
    );
    assert_eq!(
        attribute("SCHILY.xattr.security.capability", &[&[1, 0, 0, 3][..], &[0; 20]].concat()),
        name("security.capability")
    );
    assert_eq!(attribute("SCHILY.xattr.user.big", &vec![0; 65_537]), name("user.big"));
    assert_eq!(attribute("SCHILY.acl.access", b"user::rwx"), name("SCHILY.acl.access"));
    assert_eq!(
        refused(&[Raw::pax(b'x', &[("SCHILY.xattr.user.x", b"y")]), Raw::link(b'2', "l", "t")]).1,
        name("user.x")
    );
    // What belongs to a host is left out.
    let labels = [("SCHILY.xattr.security.selinux", &b"label"[..]), ("uname", b"joe")];
    assert_eq!(accepted(Form::Tree, &[Raw::pax(b'x', &labels), Raw::file("f", b"")]), ["f 644 "]);
}

#[test]
fn bombs_end_early() {
    let lab = Lab::new();
    let check = |entries: &[Raw], limits: Limits, why: Wrong| {
        let error =
            unpack(&mut &tar(entries)[..], &lab.root(), Form::Tree, &limits).expect_err("refused");
        assert!(
            matches!(&error, Error::Entry { why: found, .. } | Error::Tar { why: found } if *found == why),
            "{error:?}"
        );
    };
    let many: Vec<_> = (0..20).map(|n| Raw::file(&format!("f{n}"), b"")).collect();
    check(&many, Limits { entries: 19, bytes: 100 }, Wrong::Entries(19));
    check(
        &[Raw::file("a", &[0; 60]), Raw::file("b", &[0; 60])],
        Limits { entries: 9, bytes: 100 },
        Wrong::Bytes(100),
    );
    check(
        &[Raw::new(b'0', b"huge").octal(124, 12, 0o77_777_777_777)],
        Limits { entries: 9, bytes: 100 },
        Wrong::Bytes(100),
    );
    // Extended headers alone, again and again.
    let comments: Vec<_> = (0..50).map(|_| Raw::pax(b'g', &[("comment", b"x")])).collect();
    check(&comments, Limits { entries: 30, bytes: 100 }, Wrong::Entries(30));
}

#[test]
fn a_tar_that_ends_early_is_an_error() {
    let whole = tar(&[
        Raw::dir("d"),
        Raw::file("d/f", &[7; 1500]),
        Raw::pax(b'x', &[("path", b"long")]),
        Raw::file("g", b"x"),
    ]);
    for cut in (0..whole.len()).step_by(512).chain([1, 511, 513, 1200, whole.len() - 1]) {
        let lab = Lab::new();
        let error = into(&lab.root(), Form::Tree, &whole[..cut]).expect_err("cut");
        assert!(matches!(error, Error::Tar { why: Wrong::Truncated }), "{cut}: {error:?}");
        lab.unharmed();
    }
    for byte in [0, 100, 148, 156, 257, 300] {
        let mut damaged = whole.clone();
        damaged[byte] ^= 1;
        assert!(
            matches!(
                into(&Lab::new().root(), Form::Tree, &damaged),
                Err(Error::Tar { why: Wrong::Checksum })
            ),
            "{byte}"
        );
    }
    let read = |more: &[u8]| into(&Lab::new().root(), Form::Tree, &[&whole[..], more].concat());
    assert_eq!(read(&[0; 9216]).expect("records of GNU tar").bytes, whole.len() as u64 + 9216);
    for more in [&whole[..], b"x", &[&[0; 4096][..], b"x"].concat()] {
        assert!(matches!(read(more), Err(Error::Tar { why: Wrong::Trailing })));
    }
    let one_zero_block =
        [&whole[..whole.len() - 512], &Raw::file("h", b"").bytes(), &[0; 1024]].concat();
    assert!(matches!(
        into(&Lab::new().root(), Form::Tree, &one_zero_block),
        Err(Error::Tar { why: Wrong::Trailing })
    ));
    assert!(matches!(
        into(&Lab::new().root(), Form::Tree, b"not a tar"),
        Err(Error::Tar { why: Wrong::Truncated })
    ));
    assert!(matches!(
        into(&Lab::new().root(), Form::Tree, &[b'x'; 2048]),
        Err(Error::Tar { why: Wrong::Checksum })
    ));
}

#[test]
fn layers_upon_layers_in_a_tree() {
    let lab = Lab::new();
    let layer = |entries: &[Raw]| into(&lab.root(), Form::Tree, &tar(entries)).expect("a layer");
    layer(&[
        Raw::dir("etc"),
        Raw::file("etc/a", b"1"),
        Raw::file("etc/b", b"1"),
        Raw::dir("var/lib"),
        Raw::file("var/lib/x", b"1"),
        Raw::dir("opt"),
        Raw::file("opt/old", b"1"),
        Raw::dir("opt/sub"),
        Raw::file("opt/sub/old", b"1"),
        Raw::link(b'2', "bin", "opt"),
        Raw::file("kind", b"file"),
        Raw::dir("was-dir/below"),
    ]);
    layer(&[
        Raw::file("etc/.wh.a", b""),
        Raw::file("etc/b", b"2").mode(0o4755),
        Raw::file(".wh.var", b""),
        Raw::file("opt/new", b"2"),
        Raw::file("opt/sub/new", b"2"),
        Raw::file("opt/.wh..wh..opq", b""),
        Raw::dir("kind").mode(0o1777),
        Raw::file("was-dir", b"2"),
        Raw::file(".wh.never-was", b""),
        Raw::file("no/such/.wh.thing", b""),
    ]);
    assert_eq!(
        listing(&lab.root()),
        [
            "bin -> opt",
            "etc/ 755",
            "etc/b 4755 2",
            "kind/ 1777",
            "opt/ 755",
            "opt/new 644 2",
            "opt/sub/ 755",
            "opt/sub/new 644 2",
            "was-dir 644 2"
        ]
    );
    layer(&[
        Raw::file("bin/tool", b"3"),
        Raw::link(b'1', "etc/same", "opt/new"),
        Raw::file("bin/.wh.sub", b""),
    ]);
    assert_eq!(fs::metadata(lab.root().join("etc/same")).expect("stat").nlink(), 2);
    assert!(
        lab.root().join("opt/tool").exists() && !lab.root().join("opt/sub").exists(),
        "through the link"
    );
    layer(&[Raw::dir("bin"), Raw::file("bin/own", b"4")]);
    assert!(
        lab.root().join("bin").symlink_metadata().expect("stat").is_dir(),
        "a directory replaces a link"
    );
    let error = into(&lab.root(), Form::Tree, &tar(&[Raw::file("was-dir/x", b"")]))
        .expect_err("below a file");
    assert_eq!(
        error.to_string(),
        "cannot unpack the tar entry \"was-dir/x\": a directory on its way is a file, or a symlink without end"
    );
    lab.unharmed();
}

#[test]
fn directories_go_through_links_where_asked() {
    let lab = Lab::new();
    fs::create_dir_all(lab.root().join("usr/bin")).expect("mkdir");
    symlink("usr/bin", lab.root().join("bin")).expect("symlink");
    symlink("gone", lab.root().join("sbin")).expect("symlink");
    let bytes =
        tar(&[Raw::dir("./bin/").mode(0o700), Raw::file("./bin/sh", b"x"), Raw::dir("sbin")]);
    unpack_with(
        &mut &bytes[..],
        &lab.root(),
        &Options { links: DirOverSymlink::Follow, ..Options::layer(Form::Tree) },
    )
    .expect("unpack");
    assert_eq!(
        listing(&lab.root()),
        ["bin -> usr/bin", "sbin/ 755", "usr/ 755", "usr/bin/ 700", "usr/bin/sh 644 x"]
    );
}

#[test]
fn root_overlay_marks_are_what_overlay_reads() {
    if !tier::root() {
        return;
    }
    let lab = Lab::new();
    let bytes = tar(&[
        Raw::dir("d"),
        Raw::file("d/.wh..wh..opq", b""),
        Raw::file("d/.wh.f", b""),
        Raw::file("x/y/.wh.z", b""),
    ]);
    into(&lab.root(), Form::Overlay, &bytes).expect("unpack");
    assert_eq!(listing(&lab.root()), ["d/ 755", "d/f dev 0", "x/ 755", "x/y/ 755", "x/y/z dev 0"]);
    let get = |name: &str, key: &str| xattr::get(lab.root().join(name), key).expect("xattr");
    assert_eq!(get("d", "user.overlay.opaque").as_deref(), Some(&b"y"[..]));
}

#[test]
fn root_the_form_for_overlay_packs_back_to_the_same_bytes() {
    if !tier::root() {
        return;
    }
    let (one, two) = (Lab::new(), Lab::new());
    let bytes = tar(&[
        Raw::dir("./").mode(0o700),
        Raw::dir("d").mode(0o2775),
        Raw::file("d/.wh..wh..opq", b""),
        Raw::file("d/.wh.gone", b""),
        Raw::pax(b'x', &[("SCHILY.xattr.user.x", b"1"), ("SCHILY.xattr.user.empty", b"")]),
        Raw::file("d/f", b"x").mode(0o6711).octal(108, 8, 65_535),
        Raw::link(b'1', "g", "d/f"),
        Raw::new(b'6', b"pipe").mode(0o622),
        Raw::link(b'2', "s", "x").octal(108, 8, 33),
    ]);
    into(&one.root(), Form::Overlay, &bytes).expect("unpack");
    let pack = |lab: &Lab| {
        let mut out = vec![];
        bake::layer::pack(&lab.root(), 500, &mut out).expect("pack");
        out
    };
    let first = pack(&one);
    into(&two.root(), Form::Overlay, &first).expect("unpack");
    assert_eq!(pack(&two), first);
    let text = String::from_utf8_lossy(&first).into_owned();
    for name in
        ["d/.wh..wh..opq", "d/.wh.gone", "SCHILY.xattr.user.x=1", "SCHILY.xattr.user.empty="]
    {
        assert!(text.contains(name), "{name}");
    }
}

#[test]
fn root_owners_modes_times_and_attributes_are_exact() {
    if !tier::root() {
        return;
    }
    let lab = Lab::new();
    let mut acl = vec![2, 0, 0, 0];
    for (tag, permissions, id) in [
        (1u16, 7u16, u32::MAX),
        (2, 6, 1000),
        (4, 5, u32::MAX),
        (16, 7, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        acl.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let bytes = tar(&[
        Raw::pax(b'x', &[("SCHILY.xattr.system.posix_acl_default", &acl[..]), ("mtime", b"12.75")]),
        Raw::dir("d").mode(0o2750).octal(116, 8, 42),
        Raw::file("d/plain", b"x").mode(0o640),
        Raw::dir("d/sub").mode(0o700),
        Raw::pax(
            b'x',
            &[
                ("SCHILY.xattr.security.capability", &capability),
                ("SCHILY.xattr.system.posix_acl_access", &acl),
            ],
        ),
        Raw::file("d/ping", b"x").mode(0o4770).octal(108, 8, 7).octal(116, 8, 65_535),
    ]);
    into(&lab.root(), Form::Tree, &bytes).expect("unpack");
    let stat = |name: &str| {
        let meta = fs::symlink_metadata(lab.root().join(name)).expect("stat");
        (meta.permissions().mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime())
    };
    assert_eq!(stat("d"), (0o2750, 0, 42, 12));
    assert_eq!(stat("d/plain"), (0o640, 0, 0, 1000), "no group from the directory's setgid bit");
    assert_eq!(stat("d/sub"), (0o700, 0, 0, 1000));
    assert_eq!(stat("d/ping"), (0o4770, 7, 65_535, 1000));
    let get = |name: &str, key: &str| xattr::get(lab.root().join(name), key).expect("xattr");
    assert_eq!(get("d/ping", "security.capability").as_deref(), Some(&capability[..]));
    assert_eq!(get("d/ping", "system.posix_acl_access").as_deref(), Some(&acl[..]));
    assert_eq!(get("d", "system.posix_acl_default").as_deref(), Some(&acl[..]));
    for name in ["d/plain", "d/sub"] {
        assert_eq!(get(name, "system.posix_acl_access"), None, "{name} inherits nothing");
        assert_eq!(get(name, "system.posix_acl_default"), None, "{name} inherits nothing");
    }
    // Into a directory that has the default ACL already, and replacing what it was.
    into(
        &lab.root(),
        Form::Tree,
        &tar(&[
            Raw::file("d/later", b"").mode(0o664),
            Raw::dir("d/new"),
            Raw::dir("d").mode(0o755),
        ]),
    )
    .expect("unpack");
    assert_eq!((stat("d/later").0, get("d/later", "system.posix_acl_access")), (0o664, None));
    assert_eq!(
        (
            stat("d").0,
            get("d", "system.posix_acl_default"),
            get("d/new", "system.posix_acl_default")
        ),
        (0o755, None, None)
    );
}

/// Runs in a process of its own, where the umask can be changed without a word to the other tests.
#[test]
fn the_umask_has_no_say() {
    const INSIDE: &str = "BAKE_TEST_UMASK_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        let lab = Lab::new();
        let entries = [
            Raw::dir("a/b").mode(0o777),
            Raw::file("a/b/f", b"x").mode(0o666),
            Raw::file("c/f", b"x"),
            Raw::new(b'6', b"p").mode(0o622),
        ];
        into(&lab.root(), Form::Overlay, &tar(&entries)).expect("unpack");
        assert_eq!(
            listing(&lab.root()),
            ["a/ 755", "a/b/ 777", "a/b/f 666 x", "c/ 755", "c/f 644 x", "p | 622"]
        );
        assert_eq!(fs::metadata(lab.root()).expect("stat").permissions().mode() & 0o7777, 0o755);
        return;
    }
    let exe = std::env::current_exe().expect("a path");
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "umask 077; exec \"$0\" --exact layer_unpack::the_umask_has_no_say"])
        .arg(exe)
        .env(INSIDE, "1");
    let output = shell.output().expect("run sh");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn closed_directories_can_be_filled() {
    let entries = [
        Raw::dir("d").mode(0o500),
        Raw::file("d/f", b"x").mode(0o400),
        Raw::dir("d/e").mode(0o000),
        Raw::file("d/g", b""),
    ];
    let lab = Lab::new();
    into(&lab.root(), Form::Tree, &tar(&entries)).expect("unpack");
    let mode = |name: &str| {
        fs::symlink_metadata(lab.root().join(name)).expect("stat").permissions().mode() & 0o7777
    };
    assert_eq!((mode("d"), mode("d/f"), mode("d/e"), mode("d/g")), (0o500, 0o400, 0, 0o644));
    bake::files::remove_tree(&lab.root().join("d")).expect("remove");
}

#[test]
fn whole_systems_packed_by_others_are_read() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(dir.path().join("in/etc/deep")).expect("mkdir");
    fs::write(dir.path().join("in/etc/f"), "x").expect("write");
    fs::hard_link(dir.path().join("in/etc/f"), dir.path().join("in/etc/g")).expect("link");
    fs::write(dir.path().join(format!("in/etc/deep/{}", "n".repeat(140))), "long").expect("write");
    symlink("t".repeat(150), dir.path().join("in/etc/link")).expect("symlink");
    for format in ["gnu", "oldgnu", "pax", "posix", "ustar", "v7"] {
        if matches!(format, "ustar" | "v7") {
            let _ = fs::remove_file(dir.path().join(format!("in/etc/deep/{}", "n".repeat(140))));
            let _ = fs::remove_file(dir.path().join("in/etc/link"));
        }
        let output = Command::new("tar")
            .args([
                &format!("--format={format}"),
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "-C",
            ])
            .arg(dir.path().join("in"))
            .args(["-c", ".", "./etc", "--hard-dereference"])
            .output();
        let Ok(output) = output else {
            assert!(tier::skip("tar cannot be run"));
            return;
        };
        assert!(output.status.success(), "{format}: {}", String::from_utf8_lossy(&output.stderr));
        if !rustix::process::geteuid().is_root() {
            return;
        }
        // GNU tar was given `./etc` twice: directories may repeat, files may not.
        let lab = Lab::new();
        let error = into(&lab.root(), Form::Tree, &output.stdout).expect_err("files repeat");
        assert!(error.to_string().contains("twice"), "{format}: {error}");
        let once = Command::new("tar")
            .args([&format!("--format={format}"), "-C"])
            .arg(dir.path().join("in"))
            .args(["-c", "."])
            .output()
            .expect("tar");
        let lab = Lab::new();
        into(&lab.root(), Form::Tree, &once.stdout).unwrap_or_else(|e| panic!("{format}: {e}"));
        assert_eq!(listing(&lab.root()), listing(&dir.path().join("in")), "{format}");
    }
}

#[test]
fn names_that_are_not_utf8_are_kept() {
    let lab = Lab::new();
    let bytes = tar(&[
        Raw::new(b'5', b"d\xff"),
        Raw::new(b'0', b"d\xff/\xc3\x28\n").data(b"x"),
        Raw::pax(b'x', &[("path", b"d\xff/\xfe")]),
        Raw::file("y", b"z"),
    ]);
    into(&lab.root(), Form::Tree, &bytes).expect("unpack");
    use std::os::unix::ffi::OsStrExt;
    let path = |name: &[u8]| lab.root().join(std::ffi::OsStr::from_bytes(name));
    assert_eq!(fs::read(path(b"d\xff/\xc3\x28\n")).expect("read"), b"x");
    assert_eq!(fs::read(path(b"d\xff/\xfe")).expect("read"), b"z");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_tar_nothing_outside_is_touched(layers in prop::collection::vec(prop::collection::vec(any_entry(), 0..12), 1..4), overlay in any::<bool>()) {
        let lab = Lab::new();
        let form = if overlay { Form::Overlay } else { Form::Tree };
        for layer in layers {
            let _ = into(&lab.root(), form, &tar(&layer));
        }
        lab.unharmed();
        bake::files::remove_tree(&lab.root()).expect("removable");
    }

    #[test]
    fn a_flipped_byte_never_panics(at in 0usize..4096, bit in 0u8..8) {
        let mut bytes = tar(&[Raw::dir("d"), Raw::pax(b'x', &[("path", b"d/long"), ("mtime", b"1.5")]), Raw::file("f", b"data"), Raw::link(b'2', "l", "d")]);
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let lab = Lab::new();
        let _ = into(&lab.root(), Form::Tree, &bytes);
        lab.unharmed();
    }
}
