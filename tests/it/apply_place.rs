//! copy, file, mkdir, symlink, remove and repository inside an image root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::json;

use crate::apply_lab::{EPOCH, Lab, fails, link, me};
use crate::tier;

fn file(path: &str, text: &str) -> serde_json::Value {
    json!({ "op": "write", "path": path, "content": { "text": text }, "append": false, "owner": null, "mode": null })
}

fn append(path: &str, text: &str) -> serde_json::Value {
    json!({ "op": "write", "path": path, "content": { "text": text }, "append": true, "owner": null, "mode": null })
}

fn mkdir(path: &str, mode: u32) -> serde_json::Value {
    json!({ "op": "mkdir", "paths": [path], "owner": me(), "mode": mode })
}

fn symlink(path: &str, target: &str) -> serde_json::Value {
    json!({ "op": "symlink", "path": path, "target": target })
}

fn remove(paths: &[&str]) -> serde_json::Value {
    json!({ "op": "remove", "paths": paths })
}

#[test]
fn a_directory_s_contents_go_into_to() {
    for (from, to) in [("site", "/srv/www"), ("site/", "/srv/www/"), ("./site", "/srv/www")] {
        let lab = Lab::new();
        lab.put_source("site/index.html", "hello");
        lab.put_source("site/bin/run", "#!/bin/sh\n");
        fs::set_permissions(lab.source("site/bin/run"), fs::Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(lab.source("site/index.html"), fs::Permissions::from_mode(0o600))
            .unwrap();
        fs::create_dir(lab.source("site/empty")).unwrap();
        link(&lab.source("site/bin/again"), "../..//./index.html");
        lab.copy(&[from], to, json!({})).unwrap();
        let expected = "srv/www 755 /\nsrv/www/bin 755 /\nsrv/www/bin/again -> ../..//./index.html\nsrv/www/bin/run 755 #!/bin/sh\\n\nsrv/www/empty 755 /\nsrv/www/index.html 644 hello\n";
        assert_eq!(lab.tree("/srv/www"), expected, "{from} {to}");
        for path in
            ["/srv/www", "/srv/www/bin", "/srv/www/bin/again", "/srv/www/index.html", "/srv"]
        {
            assert_eq!(fs::symlink_metadata(lab.at(path)).unwrap().mtime(), EPOCH, "{path}");
        }
        let before = lab.marks();
        lab.copy(&[from], to, json!({})).unwrap();
        assert_eq!(before, lab.marks(), "copying the same again is no change");
    }
}

#[test]
fn a_file_goes_to_a_name_or_into_a_directory() {
    let lab = Lab::new();
    lab.put_source("a.txt", "a");
    lab.put_source("b.txt", "b");
    lab.copy(&["a.txt"], "/x/name", json!({})).unwrap();
    lab.copy(&["a.txt"], "/y/", json!({})).unwrap();
    lab.copy(&["a.txt", "b.txt"], "/z/", json!({ "mode": 0o640 })).unwrap();
    lab.copy(&["*.txt"], "/w/", json!({})).unwrap();
    assert_eq!(lab.tree("/x"), "x 755 /\nx/name 644 a\n");
    assert_eq!(lab.tree("/y"), "y 755 /\ny/a.txt 644 a\n");
    assert_eq!(lab.tree("/z"), "z 755 /\nz/a.txt 640 a\nz/b.txt 640 b\n");
    assert_eq!(lab.tree("/w"), "w 755 /\nw/a.txt 644 a\nw/b.txt 644 b\n");
    fails(lab.copy(&["a.txt", "b.txt"], "/z", json!({})), &["2 sources", "\"/z/\""]);
}

#[test]
fn mode_is_for_files_and_directories_get_x_where_they_get_r() {
    let lab = Lab::new();
    lab.put_source("d/sub/f", "f");
    lab.copy(&["d"], "/new", json!({ "mode": 0o640 })).unwrap();
    assert_eq!(lab.tree("/new"), "new 750 /\nnew/sub 750 /\nnew/sub/f 640 f\n");
}

#[test]
fn existing_directories_keep_their_owner_and_mode() {
    let lab = Lab::new();
    lab.directory("/tmp");
    fs::set_permissions(lab.at("/tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    lab.put_source("rootfs/tmp/x", "x");
    lab.copy(&["rootfs/"], "/", json!({})).unwrap();
    assert_eq!(lab.mode("/tmp"), 0o1777);
    assert_eq!(lab.text("/tmp/x"), "x");
}

#[test]
fn linked_directories_are_followed_inside_the_root() {
    let lab = Lab::new();
    lab.directory("/usr/bin");
    lab.link("/bin", "usr/bin");
    lab.link("/sbin", "/usr/bin");
    lab.link("/out", "../../../../../../../../usr/bin");
    lab.put_source("tool", "t");
    lab.put_source("d/other", "o");
    lab.copy(&["tool"], "/bin/", json!({})).unwrap();
    lab.copy(&["d"], "/sbin", json!({})).unwrap();
    lab.copy(&["tool"], "/out/third", json!({})).unwrap();
    assert_eq!(
        lab.tree("/usr/bin"),
        "usr/bin 755 /\nusr/bin/other 644 o\nusr/bin/third 644 t\nusr/bin/tool 644 t\n"
    );
    assert_eq!(lab.target("/bin"), "usr/bin");
}

#[test]
fn links_of_the_image_do_not_lead_out_of_it() {
    let lab = Lab::new();
    let outside = lab.dir.path().join("victim");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "untouched").unwrap();
    let outside = outside.to_str().unwrap();
    lab.link("/evil", outside);
    lab.link("/evil-file", &format!("{outside}/file"));
    lab.link("/up", "../victim");
    lab.put_source("f", "attack");
    fails(lab.copy(&["f"], "/evil/", json!({})), &["/evil", "symlink to nowhere"]);
    fails(lab.copy(&["f"], "/up/", json!({})), &["/up", "symlink to nowhere"]);
    fails(lab.apply(mkdir("/evil", 0o777)), &["/evil"]);
    lab.apply(file("/evil-file", "new")).unwrap();
    lab.link("/evil-append", &format!("{outside}/file"));
    fails(lab.apply(append("/evil-append", "more")), &["/evil-append"]);
    lab.apply(remove(&["/evil/file", "/up/*"])).unwrap();
    assert_eq!(fs::read_to_string(format!("{outside}/file")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(outside).unwrap().count(), 1);
    assert_eq!(lab.text("/evil-file"), "new");
}

#[test]
fn a_file_never_takes_a_directory_s_place_nor_a_directory_a_file_s() {
    let lab = Lab::new();
    lab.directory("/usr/bin");
    lab.link("/bin", "usr/bin");
    lab.put("/file", "x");
    lab.put_source("f", "f");
    lab.put_source("d/usr", "a file");
    lab.put_source("e/file/x", "a directory");
    fails(lab.copy(&["f"], "/usr/bin", json!({})), &["/usr/bin", "\"/usr/bin/\""]);
    fails(lab.copy(&["f"], "/bin", json!({})), &["/bin", "symlink to a directory"]);
    fails(lab.copy(&["d"], "/", json!({})), &["/usr", "is a directory"]);
    fails(lab.copy(&["e"], "/", json!({})), &["/file", "not a directory"]);
    fails(lab.copy(&["d"], "/file", json!({})), &["/file", "not a directory"]);
    fails(lab.copy(&["f"], "/file/", json!({})), &["/file", "not a directory"]);
    fails(lab.apply(file("/usr", "x")), &["/usr"]);
    fails(lab.apply(file("/usr/bin/", "x")), &["ends in `/`"]);
    fails(lab.apply(mkdir("/file", 0o755)), &["/file", "not a directory"]);
    fails(lab.apply(symlink("/usr", "/x")), &["/usr", "never replaces"]);
    assert_eq!(lab.text("/file"), "x");
}

#[test]
fn a_longer_or_shorter_file_is_replaced_and_the_same_is_kept() {
    let lab = Lab::new();
    let long = "x".repeat(200_000);
    for (old, new) in [
        ("", "a"),
        ("a", ""),
        ("abc", "abd"),
        ("abc", "abcd"),
        ("abcd", "abc"),
        (&long, &long[1..]),
        (&long[1..], &long),
    ] {
        lab.put("/f", old);
        lab.apply(file("/f", new)).unwrap();
        assert_eq!(lab.text("/f"), new);
        lab.settled(file("/f", new));
    }
    let changed = format!("{}y{}", &long[..150_000], &long[..40_000]);
    lab.apply(file("/f", &changed)).unwrap();
    assert_eq!(lab.text("/f"), changed);
    assert_eq!(fs::read_dir(lab.at("/")).unwrap().count(), 2, "nothing is left aside");
}

#[test]
fn replacing_a_file_leaves_its_other_names_alone() {
    let lab = Lab::new();
    lab.put("/a", "old");
    fs::hard_link(lab.at("/a"), lab.at("/b")).unwrap();
    lab.apply(file("/a", "new")).unwrap();
    assert_eq!((lab.text("/a").as_str(), lab.text("/b").as_str()), ("new", "old"));
    fs::hard_link(lab.at("/b"), lab.at("/c")).unwrap();
    let op = json!({ "op": "write", "path": "/c", "content": { "text": "old" }, "append": false, "owner": null, "mode": 0o600 });
    lab.apply(op).unwrap();
    assert_eq!((lab.mode("/c"), lab.mode("/b")), (0o600, 0o644));
}

#[test]
fn files_are_written_through_nothing() {
    let lab = Lab::new();
    lab.put("/usr/lib/os-release", "ID=x\n");
    lab.link("/etc/os-release", "../usr/lib/os-release");
    lab.apply(file("/etc/os-release", "ID=y\n")).unwrap();
    assert_eq!(lab.text("/usr/lib/os-release"), "ID=x\n");
    assert_eq!(lab.text("/etc/os-release"), "ID=y\n");
    assert!(!fs::symlink_metadata(lab.at("/etc/os-release")).unwrap().is_symlink());
}

#[test]
fn appending_makes_extends_and_follows() {
    let lab = Lab::new();
    lab.apply(append("/etc/new", "one\n")).unwrap();
    lab.apply(append("/etc/new", "two\n")).unwrap();
    assert_eq!(lab.text("/etc/new"), "one\ntwo\n");
    assert_eq!(lab.mode("/etc/new"), 0o644);
    lab.put("/usr/lib/env", "A=1\n");
    fs::set_permissions(lab.at("/usr/lib/env"), fs::Permissions::from_mode(0o600)).unwrap();
    lab.link("/etc/env", "/usr/lib/env");
    lab.apply(append("/etc/env", "B=2\n")).unwrap();
    assert_eq!(
        (lab.text("/usr/lib/env").as_str(), lab.mode("/usr/lib/env")),
        ("A=1\nB=2\n", 0o600)
    );
    lab.settled(append("/etc/env", ""));
    fails(lab.apply(append("/etc", "x")), &["/etc", "not a file"]);
}

#[test]
fn templates_come_as_an_open_file() {
    let lab = Lab::new();
    let op = json!({ "op": "write", "path": "/etc/app/conf", "content": { "template": "conf.j2" }, "append": false, "owner": me(), "mode": 0o600 });
    lab.apply_with(op, b"rendered").unwrap();
    assert_eq!(lab.tree("/etc/app"), "etc/app 755 /\netc/app/conf 600 rendered\n");
}

#[test]
fn directories_are_made_and_brought_to_mode() {
    let lab = Lab::new();
    lab.apply(mkdir("/var/lib/web/", 0o750)).unwrap();
    assert_eq!(lab.tree("/var"), "var 755 /\nvar/lib 755 /\nvar/lib/web 750 /\n");
    lab.settled(mkdir("/var/lib/web", 0o750));
    lab.apply(mkdir("/var/lib/web", 0o1777)).unwrap();
    assert_eq!(lab.mode("/var/lib/web"), 0o1777);
    lab.link("/data", "/var/lib/web");
    lab.apply(mkdir("/data", 0o700)).unwrap();
    assert_eq!((lab.mode("/var/lib/web"), lab.target("/data").as_str()), (0o700, "/var/lib/web"));
    fails(lab.apply(mkdir("/a/../b", 0o700)), &["`..`"]);
    // What is there may stay as it is; what is missing is made all the same.
    let kept = |path| {
        let mut op = mkdir(path, 0o711);
        op["kept"] = json!(true);
        op
    };
    lab.apply(kept("/data/new")).unwrap();
    lab.apply(kept("/data")).unwrap();
    assert_eq!((lab.mode("/var/lib/web"), lab.mode("/var/lib/web/new")), (0o700, 0o711));
    lab.put("/file", "");
    fails(lab.apply(kept("/file")), &["/file", "not a directory"]);
}

#[test]
fn symlinks_replace_files_and_links() {
    let lab = Lab::new();
    lab.directory("/d");
    lab.put("/log", "x");
    lab.link("/to-d", "/d");
    lab.apply(symlink("/log", "/dev/stdout")).unwrap();
    lab.apply(symlink("/to-d", "./e//f")).unwrap();
    lab.apply(symlink("/new/deep/link", "x")).unwrap();
    assert_eq!(
        (lab.target("/log").as_str(), lab.target("/to-d").as_str()),
        ("/dev/stdout", "./e//f")
    );
    assert_eq!(lab.target("/new/deep/link"), "x");
    lab.settled(symlink("/log", "/dev/stdout"));
    assert!(lab.exists("/d"));
}

#[test]
fn removing_takes_paths_globs_and_nothing_for_granted() {
    let lab = Lab::new();
    for path in
        ["/doc/a/x", "/doc/b", "/doc/.c", "/keep/x.map", "/keep/x.js", "/keep/sub/y.map", "/one"]
    {
        lab.put(path, "x");
    }
    lab.link("/keep/link", "/doc");
    lab.apply(remove(&[
        "/doc/*",
        "/one",
        "/keep/**/*.map",
        "/not/there",
        "/nor/*/this",
        "/keep/link",
    ]))
    .unwrap();
    assert_eq!(lab.tree("/doc"), "doc 755 /\n");
    assert_eq!(lab.tree("/keep"), "keep 755 /\nkeep/sub 755 /\nkeep/x.js 644 x\n");
    assert!(!lab.exists("/one"));
    lab.settled(remove(&["/doc/*", "/one", "/keep/**/*.map", "/not/there"]));
    fails(lab.apply(remove(&["/"])), &["whole image"]);
    fails(lab.apply(remove(&["/a/../etc"])), &["`..`"]);
    fails(lab.apply(remove(&["/etc/[x"])), &["/etc/[x", "glob"]);
    assert!(lab.exists("/etc/passwd"));
}

#[test]
fn unknown_owners_are_named_with_what_looks_alike() {
    let lab = Lab::with_shadow_group();
    lab.put_source("f", "f");
    fails(
        lab.copy(&["f"], "/f", json!({ "owner": "www-dat:www-data" })),
        &["no user \"www-dat\"", "\"www-data\"", "`user` step"],
    );
    fails(
        lab.copy(&["f"], "/f", json!({ "owner": "root:shadwo" })),
        &["no group \"shadwo\"", "\"shadow\""],
    );
    fails(lab.copy(&["f"], "/f", json!({ "owner": ":x" })), &["name:group"]);
    fs::remove_file(lab.at("/etc/passwd")).unwrap();
    fails(lab.copy(&["f"], "/f", json!({ "owner": "app:app" })), &["no user \"app\""]);
    assert!(!lab.exists("/f"));
}

#[test]
fn root_owners_are_looked_up_in_the_image() {
    if !tier::root() {
        return;
    }
    let lab = Lab::with_shadow_group();
    lab.put_source("d/f", "f");
    link(&lab.source("d/l"), "f");
    for (owner, expected) in [
        ("www-data:shadow", (33, 42)),
        ("www-data", (33, 33)),
        ("1234:5", (1234, 5)),
        ("7", (7, 0)),
        ("33", (33, 33)),
        ("33:shadow", (33, 42)),
    ] {
        lab.copy(&["d"], "/x", json!({ "owner": owner })).unwrap();
        assert_eq!((lab.owner("/x/f"), lab.owner("/x/l")), (expected, expected), "{owner}");
    }
    assert_eq!(lab.owner("/x"), (33, 42), "a directory that was there keeps its owner");
    assert_eq!(lab.owner("/"), (0, 0));
    let op =
        json!({ "op": "mkdir", "paths": ["/x"], "owner": "www-data:www-data", "mode": 0o2750 });
    lab.apply(op.clone()).unwrap();
    assert_eq!((lab.owner("/x"), lab.mode("/x")), ((33, 33), 0o2750));
    lab.settled(op);
    lab.put_source("s", "s");
    lab.copy(&["s"], "/x/s", json!({ "owner": "33:42", "mode": 0o4755 })).unwrap();
    assert_eq!((lab.owner("/x/s"), lab.mode("/x/s")), ((33, 42), 0o4755));
}

#[test]
fn root_what_a_mount_hides_is_not_written_to() {
    if !tier::root() {
        return;
    }
    let lab = Lab::new();
    // The root's own /proc stands for any mount that exists during a build only.
    let root = bake::apply::Root::open("/".as_ref(), EPOCH).unwrap();
    let op = serde_json::from_value(file("/proc/bake-test", "x")).unwrap();
    let error = bake::apply::carry_out(&root, &op, None, &mut |_| {}).unwrap_err().text();
    assert!(
        error.contains("/proc/bake-test would not stay in the image: /proc is a mount"),
        "{error}"
    );
    drop(lab);
}

#[test]
fn a_repository_is_a_deb822_file_and_its_key() {
    let lab = Lab::new();
    let op = |name: &str, suite: &str, components: &[&str]| json!({ "op": "repository", "name": name, "url": "https://nginx.org/packages/debian/", "suite": suite, "components": components, "key": "k" });
    let armoured =
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==\n-----END PGP PUBLIC KEY BLOCK-----\n";
    fails(lab.apply_with(op("nginx", "bookworm", &["nginx"]), armoured), &["no apt"]);
    lab.directory("/etc/apt");
    lab.apply_with(op("nginx", "bookworm", &["nginx", "extra"]), armoured).unwrap();
    let expected = "Types: deb\nURIs: https://nginx.org/packages/debian/\nSuites: bookworm\nComponents: nginx extra\nSigned-By: /etc/apt/keyrings/nginx.asc\n";
    assert_eq!(lab.text("/etc/apt/sources.list.d/nginx.sources"), expected);
    assert_eq!(lab.text("/etc/apt/keyrings/nginx.asc").as_bytes(), armoured);
    lab.apply_with(op("flat", "./", &[]), b"\x99\x01\x0d\x04binary").unwrap();
    let expected = "Types: deb\nURIs: https://nginx.org/packages/debian/\nSuites: ./\nSigned-By: /etc/apt/keyrings/flat.gpg\n";
    assert_eq!(lab.text("/etc/apt/sources.list.d/flat.sources"), expected);
    assert_eq!(lab.mode("/etc/apt/keyrings/flat.gpg"), 0o644);
    fails(lab.apply_with(op("../x", "bookworm", &["main"]), armoured), &["../x"]);
    fails(lab.apply_with(op("x", "book worm", &["main"]), armoured), &["suite"]);
    fails(lab.apply_with(op("x", "bookworm", &["main\nTrusted: yes"]), armoured), &["component"]);
    fails(lab.apply_with(op("x", "bookworm", &[]), armoured), &["needs components"]);
    fails(lab.apply_with(op("x", "./", &["main"]), armoured), &["takes no components"]);
    fails(
        lab.apply_with(op("x", "bookworm", &["main"]), b"<html>"),
        &["not an OpenPGP public key"],
    );
    fails(
        lab.apply_with(op("x", "bookworm", &["main"]), b"-----BEGIN PGP PRIVATE KEY BLOCK-----"),
        &["private key"],
    );
}
