//! Where a copy goes and what its layer then holds: the image's links, directories that are there,
//! and what is no change at all.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bake::apply;
use bake::step::Op;
use serde_json::json;

use crate::apply_lab::{EPOCH, Lab, fails, link};

fn mode(lab: &Lab, path: &str, mode: u32) {
    fs::set_permissions(lab.at(path), fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_layer_has_what_is_new_and_the_directories_above_as_they_are() {
    let lab = Lab::new();
    lab.directory("/usr/share");
    mode(&lab, "/usr/share", 0o2751);
    lab.put_source("d/sub/f", "f");
    let names = lab.copy(&["d"], "/usr/share/new", json!({})).unwrap();
    assert_eq!(
        names,
        ["usr", "usr/share", "usr/share/new", "usr/share/new/sub", "usr/share/new/sub/f"]
    );
    assert_eq!((lab.mode("/usr/share"), lab.mode("/usr/share/new")), (0o2751, 0o755));
    lab.put_source("d/sub/g", "g");
    let names = lab.copy(&["d"], "/usr/share/new", json!({})).unwrap();
    assert_eq!(
        names,
        ["usr", "usr/share", "usr/share/new", "usr/share/new/sub", "usr/share/new/sub/g"]
    );
    assert_eq!(lab.copy(&["d"], "/usr/share/new", json!({})).unwrap(), Vec::<String>::new());
    lab.put_source("empty/.keep", "");
    fs::remove_file(lab.source("empty/.keep")).unwrap();
    assert_eq!(lab.copy(&["empty"], "/usr/share", json!({})).unwrap(), Vec::<String>::new());
    assert_eq!(
        lab.copy(&["empty"], "/usr/share/e", json!({})).unwrap(),
        ["usr", "usr/share", "usr/share/e"]
    );
}

#[test]
fn a_file_is_no_change_only_if_content_mode_and_owner_are_the_same() {
    let lab = Lab::new();
    lab.put_source("f", "text");
    let copies = |what: &str, expected: bool| {
        let names = lab.copy(&["f"], "/srv/f", json!({})).unwrap();
        assert_eq!(!names.is_empty(), expected, "{what}");
        assert_eq!((lab.text("/srv/f"), lab.mode("/srv/f")), ("text".to_owned(), 0o644), "{what}");
    };
    copies("nothing there", true);
    copies("the same", false);
    mode(&lab, "/srv/f", 0o600);
    copies("another mode", true);
    lab.put("/srv/f", "texT");
    copies("other text of the same size", true);
    lab.put("/srv/f", "longer text");
    copies("another size", true);
    fs::hard_link(lab.at("/srv/f"), lab.at("/srv/other")).unwrap();
    copies("one of two names", false);
    fs::remove_file(lab.at("/srv/f")).unwrap();
    lab.link("/srv/f", "other");
    copies("a link to the very same", true);
    assert_eq!(lab.text("/srv/other"), "text");
    link(&lab.source("l"), "t");
    assert_eq!(lab.copy(&["l"], "/srv/l", json!({})).unwrap(), ["srv", "srv/l"]);
    assert_eq!(lab.copy(&["l"], "/srv/l", json!({})).unwrap(), Vec::<String>::new());
}

#[test]
fn links_of_the_image_decide_where_the_layer_has_it() {
    let lab = Lab::new();
    lab.directory("/usr/lib/deep");
    lab.link("/lib", "usr/lib");
    lab.link("/usr/up", "../lib/../lib/deep");
    lab.put_source("root/lib/a", "a");
    lab.put_source("root/usr/up/b", "b");
    lab.put_source("root/zz", "z");
    let names = lab.copy(&["root"], "/", json!({})).unwrap();
    assert_eq!(names, ["usr", "usr/lib", "usr/lib/a", "usr/lib/deep", "usr/lib/deep/b", "zz"]);
    assert_eq!(lab.target("/lib"), "usr/lib");
}

#[test]
fn two_ways_to_one_place_are_taken_one_after_the_other() {
    let lab = Lab::new();
    lab.directory("/usr/bin");
    lab.link("/bin", "usr/bin");
    lab.put("/usr/bin/same", "one");
    lab.put_source("root/bin/x", "first");
    lab.put_source("root/usr/bin/x", "second");
    lab.put_source("root/bin/same", "two");
    lab.put_source("root/usr/bin/same", "one");
    let names = lab.copy(&["root"], "/", json!({})).unwrap();
    assert_eq!(names, ["usr", "usr/bin", "usr/bin/same", "usr/bin/x"]);
    assert_eq!(
        (lab.text("/usr/bin/x"), lab.text("/usr/bin/same")),
        ("second".to_owned(), "one".to_owned())
    );
    // What the copy has put itself is in the way as well, and is followed as well.
    let lab = Lab::new();
    lab.link("/bin", "made/here");
    lab.put_source("a/made/here/x", "x");
    lab.put_source("a/zzz", "z");
    lab.put_source("b/bin/y", "y");
    fails(lab.copy(&["b"], "/", json!({})), &["/bin", "symlink to nowhere"]);
    lab.link("/usr", "made/here");
    lab.put_source("a/usr/y", "y");
    let names = lab.copy(&["a"], "/", json!({})).unwrap();
    assert_eq!(names, ["made", "made/here", "made/here/x", "made/here/y", "zzz"]);
    let lab = Lab::new();
    lab.directory("/data");
    lab.link("/link", "data");
    lab.put_source("c/data/n", "a file");
    lab.put_source("c/link/n/m", "in a directory of that name");
    fails(lab.copy(&["c"], "/", json!({})), &["/link/n", "is not a directory"]);
}

#[test]
fn a_circle_is_reported_as_one() {
    let lab = Lab::new();
    lab.link("/a", "b");
    lab.link("/b", "/a");
    lab.put_source("f", "f");
    fails(lab.copy(&["f"], "/a/", json!({})), &["/a", "leads in a circle"]);
    assert_eq!(
        lab.copy(&["f"], "/a", json!({})).unwrap(),
        ["a"],
        "a link to no directory gives way to a file"
    );
}

#[test]
fn names_and_owners_that_no_layer_has_are_refused() {
    let lab = Lab::new();
    lab.put_source("d/.wh.f", "f");
    fails(lab.copy(&["d"], "/d", json!({})), &[".wh.f", "reserved for whiteouts"]);
    lab.put_source("f", "f");
    fails(lab.copy(&["f"], "/", json!({ "from": ["f"], "to": "/x/../y" })), &["`..`"]);
}

#[test]
fn what_is_not_there_yet_is_asked_for() {
    let lab = Lab::new();
    lab.directory("/srv");
    lab.link("/www", "srv/tree/public");
    lab.put_source("f", "f");
    let check = |to: &str, unseen: &[&str], expected: bool| {
        let op: Op =
            serde_json::from_value(json!({ "op": "copy", "from": ["f"], "to": to, "owner": "0:0", "mode": null, "exclude": [] })).unwrap();
        let (mut asked, mut answer) = (vec![], vec![]);
        lab.context().ask(&op, &mut asked).unwrap();
        let root = apply::Root::open(&lab.at("/"), EPOCH).unwrap();
        let unseen: Vec<String> = unseen.iter().map(|path| (*path).to_owned()).collect();
        let found = apply::survey(&root, to, "0:0", &unseen, &asked[..], &mut answer).unwrap();
        assert_eq!(found, expected, "{to} without {unseen:?}");
    };
    check("/srv/other", &["/srv/tree"], true);
    check("/srv/tree", &["/srv/tree"], false);
    check("/srv/tree/deep/er", &["/srv/tree"], false);
    check("/srv/other", &["/srv"], false);
    check("/srv/other", &["/"], false);
    check("/srv/other", &["/etc/passwd"], false);
    check("/srv/other", &["/etc/nginx"], true);
    // Through a link of the image into what is not there.
    check("/www/", &["/srv/tree"], false);
    check("/www", &["/srv/tree"], false);
}
