//! user and group inside an image root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::{Value, json};

use crate::apply_lab::{EPOCH, Lab, fails};
use crate::tier;

const HASH: &str = "$6$abcdefgh$0123456789012345678901234567890123456789012345678901234567890123456789012345678901234x";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me@here";

fn user(name: &str, more: Value) -> Value {
    let mut op = json!({
        "op": "user", "name": name, "uid": null, "gid": null, "home": null, "shell": null, "groups": [],
        "system": true, "comment": null, "password": null, "ssh_keys": [],
    });
    for (key, value) in more.as_object().unwrap() {
        op[key] = value.clone();
    }
    op
}

fn group(name: &str, gid: Option<u32>, system: bool) -> Value {
    json!({ "op": "group", "name": name, "gid": gid, "system": system })
}

fn ids(uid: u32, gid: u32, home: &str) -> Value {
    json!({ "uid": uid, "gid": gid, "home": home })
}

#[test]
fn ids_not_given_are_the_lowest_free() {
    let lab = Lab::new();
    lab.put("/etc/group", "root:x:0:\nmessagebus:x:100:\nstaff:x:1000:\n");
    assert_eq!(lab.apply(group("a", None, true)).unwrap(), json!({ "gid": 101 }));
    assert_eq!(lab.apply(group("b", None, false)).unwrap(), json!({ "gid": 1001 }));
    assert_eq!(lab.apply(group("c", Some(4242), false)).unwrap(), json!({ "gid": 4242 }));
    // The user's own group takes his number where it is free.
    assert_eq!(lab.apply(user("sys", json!({}))).unwrap(), ids(100, 102, "/nonexistent"));
    assert_eq!(
        lab.apply(user("sys2", json!({ "uid": 500 }))).unwrap(),
        ids(500, 500, "/nonexistent")
    );
    assert_eq!(
        lab.apply(user("sys3", json!({ "gid": 4242, "home": "/var/lib/x" }))).unwrap(),
        ids(101, 4242, "/var/lib/x")
    );
    let expected = "root:x:0:\nmessagebus:x:100:\nstaff:x:1000:\na:x:101:\nb:x:1001:\nc:x:4242:\nsys:x:102:\nsys2:x:500:\n";
    assert_eq!(lab.text("/etc/group"), expected);
    assert!(!lab.exists("/var/lib/x"), "a system user's home is not made");
}

#[test]
fn a_user_that_is_as_written_is_no_change() {
    let lab = Lab::new();
    lab.put("/etc/gshadow", "root:*::\nsudo:*::\n");
    lab.put("/usr/sbin/nologin", "");
    let op = user(
        "app",
        json!({ "uid": 999, "groups": ["sudo", "www-data"], "comment": "The app", "home": "/srv" }),
    );
    assert_eq!(lab.apply(op.clone()).unwrap(), ids(999, 999, "/srv"));
    lab.settled(op);
    let day = EPOCH / 86_400;
    assert_eq!(
        lab.text("/etc/passwd").lines().last(),
        Some("app:x:999:999:The app:/srv:/usr/sbin/nologin")
    );
    assert_eq!(lab.text("/etc/group"), "root:x:0:\nwww-data:x:33:app\nsudo:x:27:app\napp:x:999:\n");
    assert_eq!(lab.text("/etc/gshadow"), "root:*::\nsudo:*::app\napp:!::\n");
    assert_eq!(lab.text("/etc/shadow"), format!("app:!:{day}:0:99999:7:::\n"));
    let names: Vec<_> = fs::read_dir(lab.at("/etc"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 4, "no backup, lock or passing file: {names:?}");
}

#[test]
fn lines_that_are_not_ours_stay_byte_for_byte() {
    let lab = Lab::new();
    let text = b"root:x:0:0:root:/root:/bin/bash\n#comment\n\nbroken\n+::::::\nodd:\xff:1";
    lab.put("/etc/passwd", text);
    fs::set_permissions(lab.at("/etc/passwd"), fs::Permissions::from_mode(0o600)).unwrap();
    lab.apply(user("app", json!({ "uid": 5, "gid": 33 }))).unwrap();
    let expected = [&text[..], b"\napp:x:5:33::/nonexistent:/bin/false\n"].concat();
    assert_eq!(fs::read(lab.at("/etc/passwd")).unwrap(), expected);
    assert_eq!(lab.mode("/etc/passwd"), 0o600);
    assert_eq!(fs::metadata(lab.at("/etc/passwd")).unwrap().mtime(), EPOCH);
}

#[test]
fn files_that_are_missing_are_made() {
    let lab = Lab::new();
    fs::remove_dir_all(lab.at("/etc")).unwrap();
    lab.apply(user("app", json!({}))).unwrap();
    assert_eq!(lab.text("/etc/passwd"), "app:x:100:100::/nonexistent:/bin/false\n");
    assert_eq!(lab.text("/etc/group"), "app:x:100:\n");
    assert_eq!(
        (lab.mode("/etc/passwd"), lab.mode("/etc/group"), lab.mode("/etc/shadow")),
        (0o644, 0o644, 0o600)
    );
    assert!(!lab.exists("/etc/gshadow"));
}

#[test]
fn root_shadow_belongs_to_its_group() {
    if !tier::root() {
        return;
    }
    let lab = Lab::with_shadow_group();
    lab.apply(user("app", json!({}))).unwrap();
    assert_eq!((lab.owner("/etc/shadow"), lab.mode("/etc/shadow")), ((0, 42), 0o640));
}

#[test]
fn account_files_may_be_links_inside_the_image() {
    let lab = Lab::new();
    fs::rename(lab.at("/etc"), lab.at("/real")).unwrap();
    lab.directory("/etc");
    lab.link("/etc/passwd", "/real/passwd");
    lab.link("/etc/group", "../real/group");
    lab.apply(group("app", None, true)).unwrap();
    assert!(lab.text("/real/group").ends_with("app:x:100:\n"));
    assert_eq!(lab.target("/etc/group"), "../real/group");
    assert!(!lab.exists("/real/shadow"));
}

#[test]
fn changes_are_brought_to_what_is_there() {
    let lab = Lab::new();
    lab.put("/etc/shadow", "root:*:1:0:99999:7:::\nwww-data:*:1:0:99999:7:::\n");
    lab.apply(user("www-data", json!({ "shell": "/bin/sh", "comment": "web" }))).unwrap();
    assert!(lab.text("/etc/passwd").ends_with("www-data:x:33:33:web:/var/www:/bin/sh\n"));
    assert_eq!(
        lab.text("/etc/shadow"),
        "root:*:1:0:99999:7:::\nwww-data:*:1:0:99999:7:::\n",
        "a locked password stays as it is"
    );
    assert!(!lab.exists("/var/www"));
    lab.apply(user("www-data", json!({ "password": HASH }))).unwrap();
    let day = EPOCH / 86_400;
    assert_eq!(
        lab.text("/etc/shadow"),
        format!("root:*:1:0:99999:7:::\nwww-data:{HASH}:{day}:0:99999:7:::\n")
    );
    lab.apply(user("www-data", json!({}))).unwrap();
    assert!(lab.text("/etc/shadow").contains("www-data:!:"), "no password = locked");
    lab.apply(group("www-data", Some(3333), false)).unwrap();
    assert!(lab.text("/etc/group").contains("www-data:x:3333:\n"));
    assert!(
        lab.text("/etc/passwd").ends_with("www-data:x:33:3333:web:/var/www:/bin/sh\n"),
        "its primary group goes with it"
    );
    fails(lab.apply(group("www-data", Some(27), false)), &["id 27 already belongs to \"sudo\""]);
    fails(lab.apply(user("new", json!({ "uid": 33 }))), &["id 33 already belongs to \"www-data\""]);
    fails(lab.apply(user("www-data", json!({ "uid": 0 }))), &["id 0 already belongs to \"root\""]);
    fails(
        lab.apply(user("sudo", json!({ "gid": 555 }))),
        &["no group has the id 555", "`group` step"],
    );
    fails(
        lab.apply(user("new", json!({ "groups": ["sduo"] }))),
        &["no group \"sduo\"", "\"sudo\""],
    );
    assert!(!lab.text("/etc/passwd").contains("new"), "a step that fails leaves no half of a user");
}

#[test]
fn what_would_break_the_files_is_refused() {
    let lab = Lab::new();
    let before = lab.marks();
    for (more, part) in [
        (json!({ "home": "/a:b" }), "home"),
        (json!({ "home": "a" }), "absolute"),
        (json!({ "home": "/a/../b" }), "`..`"),
        (json!({ "shell": "/bin/sh\nroot2:x:0:0::/:/bin/sh" }), "shell"),
        (json!({ "comment": "a:b" }), "comment"),
        (json!({ "password": "secret" }), "crypt hash"),
        (json!({ "password": "$6$a$x:0:0\n" }), "crypt hash"),
        (json!({ "ssh_keys": [KEY, "-----BEGIN OPENSSH PRIVATE KEY-----"] }), "line 2 of ssh_keys"),
    ] {
        fails(lab.apply(user("app", more.clone())), &[part]);
    }
    for bad in ["", "a b", "a:b", "0", "-x", "a\nb"] {
        fails(lab.apply(user(bad, json!({}))), &["at most 32"]);
        fails(lab.apply(group(bad, None, true)), &["at most 32"]);
    }
    assert_eq!(before, lab.marks());
}

#[test]
fn an_epoch_of_zero_does_not_ask_for_a_new_password() {
    let lab = Lab::new();
    let root = bake::apply::Root::open(&lab.at("/"), 0).unwrap();
    let op = serde_json::from_value(user("app", json!({}))).unwrap();
    bake::apply::carry_out(&root, &op, None, &mut |_| {}).unwrap();
    assert_eq!(lab.text("/etc/shadow"), "app:!::0:99999:7:::\n");
}

#[test]
fn root_homes_are_made_from_the_skeleton() {
    if !tier::root() {
        return;
    }
    let lab = Lab::new();
    lab.put("/etc/skel/.profile", "p");
    lab.put("/etc/skel/bin/x", "x");
    lab.link("/etc/skel/link", "bin/x");
    fs::set_permissions(lab.at("/etc/skel/bin/x"), fs::Permissions::from_mode(0o4755)).unwrap();
    lab.put("/bin/bash", "");
    let op = user("ann", json!({ "system": false, "ssh_keys": [KEY, " ssh-rsa AAAAB3 two "] }));
    assert_eq!(lab.apply(op.clone()).unwrap(), ids(1000, 1000, "/home/ann"));
    let expected = format!(
        "home/ann 755 /\nhome/ann/.profile 644 p\nhome/ann/.ssh 700 /\nhome/ann/.ssh/authorized_keys 600 {KEY}\\nssh-rsa AAAAB3 two\\n\nhome/ann/bin 755 /\nhome/ann/bin/x 755 x\nhome/ann/link -> bin/x\n"
    );
    assert_eq!(lab.tree("/home/ann"), expected);
    for path in
        ["/home/ann", "/home/ann/.profile", "/home/ann/link", "/home/ann/.ssh/authorized_keys"]
    {
        assert_eq!(lab.owner(path), (1000, 1000), "{path}");
    }
    assert_eq!(lab.owner("/home"), (0, 0));
    assert!(lab.text("/etc/passwd").ends_with("ann:x:1000:1000::/home/ann:/bin/bash\n"));
    assert!(
        lab.text("/etc/shadow").starts_with("ann:*:"),
        "a key must open an account that has no password"
    );
    lab.settled(op);
    // A new id takes the files of the home along, and those of others stay.
    fs::write(lab.at("/home/ann/root's"), "").unwrap();
    lab.apply(user("ann", json!({ "system": false, "uid": 2000 }))).unwrap();
    assert_eq!(
        (lab.owner("/home/ann/bin/x"), lab.owner("/home/ann/link")),
        ((2000, 1000), (2000, 1000))
    );
    assert_eq!(lab.owner("/home/ann/root's"), (0, 0));
    lab.put("/home/bob/mine", "x");
    lab.apply(user("bob", json!({ "system": false }))).unwrap();
    assert_eq!(
        lab.tree("/home/bob"),
        "home/bob 755 /\nhome/bob/mine 644 x\n",
        "a home that is there is left alone"
    );
    fails(lab.apply(user("svc", json!({ "ssh_keys": [KEY] }))), &["no home directory", "`home`"]);
}
