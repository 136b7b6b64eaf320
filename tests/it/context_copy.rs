//! What a copy step takes of the context, and what it refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bake::context::Context;
use bake::digest::Digest;
use bake::step::Op;
use serde_json::json;

use crate::apply_lab::{Lab, link};

fn op(from: &[&str], to: &str, exclude: &[&str]) -> Op {
    let op = json!({ "op": "copy", "from": from, "to": to, "owner": "0:0", "mode": null, "exclude": exclude });
    serde_json::from_value(op).unwrap()
}

fn lab(files: &[&str]) -> Lab {
    let lab = Lab::new();
    files.iter().for_each(|f| lab.put_source(f, f));
    lab
}

/// Places of the files and links that are taken.
fn places(context: &Context, op: &Op) -> Result<Vec<String>, String> {
    let entries = context.list(op).map_err(|e| e.to_string())?;
    let files = entries.iter().filter(|e| e.kind != bake::context::Kind::Directory);
    Ok(files.map(|e| e.place.display().to_string()).collect())
}

#[track_caller]
fn takes(lab: &Lab, op: &Op, expected: &[&str]) {
    assert_eq!(places(&lab.context(), op).unwrap(), expected, "{op:?}");
}

#[track_caller]
fn refuses(lab: &Lab, op: &Op, parts: &[&str]) {
    let text = places(&lab.context(), op).expect_err("it was taken");
    parts.iter().for_each(|part| assert!(text.contains(part), "no {part:?} in: {text}"));
    assert!(lab.context().digest(op).is_err());
}

fn digest(lab: &Lab, op: &Op) -> Digest {
    lab.context().digest(op).unwrap()
}

#[test]
fn paths_and_globs() {
    let lab = lab(&[
        "a.conf",
        "b.conf",
        ".hidden.conf",
        "site/x.html",
        "site/css/y.css",
        "site/css/z.map",
        "conf/d/one.conf",
        "brace{}",
    ]);
    takes(&lab, &op(&["a.conf"], "/x", &[]), &[""]);
    takes(&lab, &op(&["./a.conf"], "/x/", &[]), &["a.conf"]);
    takes(&lab, &op(&["*.conf"], "/x/", &[]), &[".hidden.conf", "a.conf", "b.conf"]);
    takes(&lab, &op(&["{a,b}.conf"], "/x/", &[]), &["a.conf", "b.conf"]);
    takes(&lab, &op(&["[!b].conf"], "/x/", &[]), &["a.conf"]);
    takes(&lab, &op(&["**/*.conf"], "/x/", &[]), &[".hidden.conf", "a.conf", "b.conf", "one.conf"]);
    takes(&lab, &op(&["si?e"], "/x", &[]), &["css/y.css", "css/z.map", "x.html"]);
    takes(&lab, &op(&["site/*"], "/x/", &[]), &["x.html", "y.css", "z.map"]);
    takes(&lab, &op(&["site", "a.conf"], "/x/", &["*.map"]), &["a.conf", "css/y.css", "x.html"]);
    takes(&lab, &op(&["site"], "/x/", &["/css"]), &["css/y.css", "css/z.map", "x.html"]);
    takes(&lab, &op(&["site"], "/x/", &["/site/css/"]), &["x.html"]);
    takes(&lab, &op(&["site"], "/x/", &["*.map", "!z.map"]), &["css/y.css", "css/z.map", "x.html"]);
}

#[test]
fn what_is_not_there_is_reported_with_what_is() {
    let lab = lab(&["site/index.html", "a.conf", "b.conf"]);
    refuses(&lab, &op(&["iste/"], "/x", &[]), &["no \"iste\"", "\"site\""]);
    refuses(
        &lab,
        &op(&["site/indx.html"], "/x", &[]),
        &["no \"site/indx.html\"", "\"site/index.html\""],
    );
    refuses(&lab, &op(&["a.conf/x"], "/x", &[]), &["no \"a.conf/x\""]);
    refuses(&lab, &op(&["a.conf/"], "/x", &[]), &["a.conf", "not a directory"]);
    refuses(&lab, &op(&["*.cnf"], "/x/", &[]), &["\"*.cnf\" matches nothing"]);
    refuses(&lab, &op(&["sites/*"], "/x/", &[]), &["no \"sites\"", "\"site\""]);
    refuses(&lab, &op(&["*.conf"], "/x", &[]), &["2 sources", "\"/x/\""]);
    refuses(
        &lab,
        &op(&["a.conf"], "/x", &["*.conf"]),
        &["\"a.conf\" is left out by exclude, pattern \"*.conf\""],
    );
    refuses(&lab, &op(&["*.conf"], "/x", &["*.conf"]), &["2 matches are left out"]);
    refuses(&lab, &op(&[""], "/x", &[]), &["is empty"]);
    refuses(&lab, &op(&["/etc/passwd"], "/x", &[]), &["absolute"]);
    refuses(&lab, &op(&["../x"], "/x", &[]), &["`..`"]);
    refuses(&lab, &op(&["a/../../x"], "/x", &[]), &["`..`"]);
    refuses(&lab, &op(&["[a"], "/x", &[]), &["copy", "not a pattern"]);
    let missing = Context::open(&lab.source("nowhere"), &[], &[]).unwrap_err().to_string();
    assert!(missing.contains("nowhere"), "{missing}");
}

#[test]
fn the_ignore_file_is_obeyed_and_not_copied() {
    let lab = lab(&["a", "b.log", "keep.log", "target/x", "sub/target", "sub/c.log"]);
    lab.put_source(".bakeignore", "# what builds leave\n*.log\n!keep.log\ntarget/\n\n");
    takes(&lab, &op(&["."], "/x/", &[]), &["a", "keep.log", "sub/target"]);
    takes(&lab, &op(&["*"], "/x/", &[]), &["a", "keep.log", "target"]);
    refuses(
        &lab,
        &op(&["target/x"], "/x", &[]),
        &["\"target/x\" is left out by .bakeignore:4, pattern \"target/\""],
    );
    refuses(&lab, &op(&[".bakeignore"], "/x", &[]), &["left out by bake itself"]);
    assert_eq!(
        lab.context().read(Path::new("b.log"), 100).unwrap(),
        b"b.log",
        "templates and scripts are not copied"
    );
    lab.put_source(".bakeignore", "ok\na{b\n");
    let error = Context::open(&lab.source(""), &[], &[]).unwrap_err().to_string();
    assert!(error.contains(".bakeignore:2") && error.contains("a{b"), "{error}");
}

#[test]
fn what_bake_itself_writes_is_left_out() {
    let lab = lab(&["web.lock", "a", "store/blobs/x"]);
    let reason = |why: &str| why.to_owned();
    let left_out = [
        (PathBuf::from("web.lock"), reason("bake: its lock file")),
        ("store".into(), reason("bake: the store")),
    ];
    let context = Context::open(&lab.source(""), &left_out, &[]).unwrap();
    assert_eq!(places(&context, &op(&["."], "/x", &[])).unwrap(), ["a"]);
    assert!(
        places(&context, &op(&["web.lock"], "/x", &[]))
            .unwrap_err()
            .contains("left out by bake: its lock file")
    );
}

#[test]
fn nothing_outside_is_read() {
    let lab = lab(&["in/file"]);
    fs::write(lab.dir.path().join("secret"), "secret").unwrap();
    fs::create_dir(lab.dir.path().join("outside")).unwrap();
    fs::write(lab.dir.path().join("outside/file"), "secret").unwrap();
    link(&lab.source("out-file"), "../secret");
    link(&lab.source("out-directory"), "../outside");
    link(&lab.source("absolute"), "/etc/passwd");
    link(&lab.source("twice"), "out-directory");
    link(&lab.source("inner"), "in");
    link(&lab.source("inner-file"), "in/file");
    link(&lab.source("dangling"), "not/there");
    for (from, named) in [
        ("out-file", "out-file"),
        ("out-directory", "out-directory"),
        ("out-directory/", "out-directory"),
        ("out-directory/file", "out-directory"),
        ("absolute", "absolute"),
        ("twice/file", "twice"),
        ("out-directory/*", "out-directory"),
        ("abs*", "absolute"),
    ] {
        refuses(
            &lab,
            &op(&[from], "/x/", &[]),
            &[&format!("\"{named}\" is a symlink that leads out of the context")],
        );
    }
    for path in ["out-file", "absolute", "twice/file"] {
        let error = lab.context().read(Path::new(path), 1000).unwrap_err().to_string();
        assert!(error.contains("leads out of the context"), "{error}");
        assert!(lab.context().open_file(Path::new(path)).is_err());
    }
    // Inside, links on the way are followed, and links themselves are copied as links; so are those
    // that a copied directory has.
    takes(&lab, &op(&["inner/file"], "/x", &[]), &[""]);
    takes(&lab, &op(&["inner/"], "/x", &[]), &["file"]);
    let kinds: Vec<_> =
        lab.context().list(&op(&["."], "/x", &[])).unwrap().into_iter().map(|e| e.kind).collect();
    assert!(kinds.contains(&bake::context::Kind::Link("../secret".into())), "{kinds:?}");
    for from in ["inner", "inner-file", "dangling"] {
        let entries = lab.context().list(&op(&[from], "/x", &[])).unwrap();
        assert!(
            matches!(&entries[..], [one] if matches!(one.kind, bake::context::Kind::Link(_))),
            "{entries:?}"
        );
    }
}

#[test]
fn special_files_are_named() {
    let lab = lab(&["d/file"]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        lab.source("d/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(lab.source("d/socket")).unwrap();
    refuses(&lab, &op(&["d"], "/x", &["socket"]), &["\"d/pipe\" is a fifo"]);
    refuses(&lab, &op(&["d"], "/x", &["pipe"]), &["\"d/socket\" is a socket"]);
    takes(&lab, &op(&["d"], "/x", &["pipe", "socket"]), &["file"]);
    assert!(
        lab.context()
            .read(Path::new("d/pipe"), 100)
            .unwrap_err()
            .to_string()
            .contains("not a regular file")
    );
}

#[test]
fn two_sources_of_one_place() {
    let lab = lab(&["a/conf", "b/conf", "c/conf/x", "d/other"]);
    refuses(
        &lab,
        &op(&["{a,b}/conf"], "/x/", &[]),
        &["\"a/conf\" and \"b/conf\" would both become /x/conf"],
    );
    refuses(&lab, &op(&["a", "c"], "/x/", &[]), &["\"a/conf\" and \"c/conf\""]);
    let entries = lab.context().list(&op(&["a/", "b/", "d/"], "/x/", &[])).unwrap();
    let sources: Vec<_> = entries.iter().map(|e| e.source.display().to_string()).collect();
    assert_eq!(
        sources,
        ["a", "b/conf", "d/other"],
        "the later of two items wins, as two steps would"
    );
}

#[test]
fn the_digest_is_of_content_and_of_nothing_else() {
    let lab = lab(&["d/file", "d/sub/other"]);
    let copy = op(&["d"], "/x", &[]);
    let first = digest(&lab, &copy);
    // The umask of a checkout, times and owners do not count.
    fs::set_permissions(lab.source("d/file"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(lab.source("d/sub"), fs::Permissions::from_mode(0o700)).unwrap();
    let file = fs::File::options().write(true).open(lab.source("d/file")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(digest(&lab, &copy), first);
    // Everything that reaches the image does.
    let mut seen = vec![first];
    let mut differs = |what: &str| {
        let now = digest(&lab, &copy);
        assert!(!seen.contains(&now), "{what} makes no difference");
        seen.push(now);
    };
    fs::set_permissions(lab.source("d/file"), fs::Permissions::from_mode(0o700)).unwrap();
    differs("the executable bit");
    lab.put_source("d/file", "new text");
    differs("the content");
    fs::rename(lab.source("d/file"), lab.source("d/renamed")).unwrap();
    differs("the name");
    fs::create_dir(lab.source("d/empty")).unwrap();
    differs("an empty directory");
    link(&lab.source("d/link"), "a");
    differs("a link");
    fs::remove_file(lab.source("d/link")).unwrap();
    link(&lab.source("d/link"), "b");
    differs("a link's target");
    fs::remove_file(lab.source("d/link")).unwrap();
    lab.put_source("d/link", "b");
    differs("a link's kind");
}

#[test]
fn names_of_any_bytes_and_length_arrive() {
    use std::os::unix::ffi::OsStrExt;
    let lab = Lab::new();
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(200));
    lab.put_source(&format!("in/{long}"), "long");
    let target = format!("../{}//./{}", "t".repeat(150), "\u{fc}\n=");
    link(&lab.source("in/link"), &target);
    let odd = std::ffi::OsStr::from_bytes(b"o\xffd\nd .wh.x");
    fs::write(lab.source("in").join(odd), "odd").unwrap();
    lab.copy(&["in"], "/out", json!({})).unwrap();
    assert_eq!(lab.text(&format!("/out/{long}")), "long");
    assert_eq!(lab.target("/out/link"), target);
    assert_eq!(fs::read(lab.at("/out").join(odd)).unwrap(), b"odd");
}

#[test]
fn a_file_that_changes_between_key_and_copy_is_an_error() {
    let lab = lab(&["d/file"]);
    let copy = op(&["d"], "/x", &[]);
    let context = lab.context();
    context.digest(&copy).unwrap();
    lab.put_source("d/file", "other");
    let error = lab.layer(&context, &copy, std::io::sink()).unwrap_err();
    assert_eq!(
        error,
        "\"d/file\" changed while it was read; build again when nothing writes to it"
    );
}

#[test]
fn a_file_that_grows_while_it_is_read_is_an_error() {
    struct Grow(PathBuf);
    impl std::io::Write for Grow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            // The reader is in the middle of the file when this is called.
            std::io::Write::write_all(
                &mut fs::File::options().append(true).open(&self.0)?,
                b"more",
            )?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lab = lab(&["d/file"]);
    lab.put_source("d/file", vec![b'x'; 1 << 20]);
    let error =
        lab.layer(&lab.context(), &op(&["d"], "/x", &[]), Grow(lab.source("d/file"))).unwrap_err();
    assert!(error.contains("\"d/file\" changed while it was read"), "{error}");
}

#[test]
fn a_full_disk_under_the_stream_is_an_error() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lab = lab(&["d/file"]);
    let error = lab.layer(&lab.context(), &op(&["d"], "/x", &[]), Full).unwrap_err();
    assert_eq!(error, "cannot write the layer");
}

#[test]
fn reading_has_a_limit() {
    let lab = lab(&["template"]);
    assert_eq!(lab.context().read(Path::new("template"), 8).unwrap(), b"template");
    assert!(lab.context().read(Path::new("template"), 7).is_err());
    assert!(
        lab.context()
            .read(Path::new("tempalte"), 7)
            .unwrap_err()
            .to_string()
            .contains("\"template\"")
    );
}
