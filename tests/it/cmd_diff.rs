//! `bake diff`, `bake history` and the sizes of `bake show`: what a person would name.

use std::fs;

use serde_json::{Value, json};

use crate::drift_lab::{CAPABILITY, Claims, HOSTILE, publish};
use crate::lab::{Lab, Run};
use crate::layer_lab::{Raw, tar};

/// A stanza of dpkg's status.
fn stanza(name: &str, version: &str) -> String {
    format!(
        "Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n\n"
    )
}

fn base() -> Vec<u8> {
    let status = [stanza("libc6", "2.36-9"), stanza("tool", "1.9-1"), stanza("old", "3")].concat();
    tar(&[
        Raw::link(b'2', "bin", "usr/bin"),
        Raw::dir("etc"),
        Raw::file("etc/motd", b"one\n"),
        Raw::dir("usr/bin"),
        Raw::file("usr/bin/old", b"the old program").mode(0o755),
        Raw::file("usr/bin/tool", b"tool one").mode(0o755),
        Raw::file("usr/lib/libc.so", b"libc"),
        Raw::dir("usr/share/old"),
        Raw::file("usr/share/old/a", b"a"),
        Raw::file("usr/share/old/b", b"b"),
        Raw::file("var/lib/dpkg/info/libc6:amd64.list", b"/.\n/usr\n/usr/lib\n/usr/lib/libc.so\n"),
        Raw::file(
            "var/lib/dpkg/info/old.list",
            b"/.\n/usr\n/bin\n/bin/old\n/usr/share/old\n/usr/share/old/a\n/usr/share/old/b\n",
        ),
        Raw::file("var/lib/dpkg/info/tool.list", b"/.\n/usr\n/bin\n/bin/tool\n"),
        Raw::file("var/lib/dpkg/status", status.as_bytes()),
    ])
}

/// A step that upgrades `tool`, removes `old` and installs `new`, as apt leaves it.
fn packages() -> Vec<u8> {
    let status =
        [stanza("libc6", "2.36-9"), stanza("tool", "1.10-1"), stanza("new", "0.1")].concat();
    tar(&[
        Raw::file("etc/new.conf", b"packaged"),
        Raw::link(b'2', "etc/enabled", "new.conf"),
        Raw::file("usr/bin/.wh.old", b""),
        Raw::file("usr/bin/new", b"new").mode(0o755),
        Raw::file("usr/bin/tool", b"tool two").mode(0o755),
        Raw::file("usr/share/.wh.old", b""),
        Raw::file("var/lib/dpkg/info/.wh.old.list", b""),
        Raw::file("var/lib/dpkg/info/new.list", b"/.\n/etc\n/etc/new.conf\n/bin/new\n"),
        Raw::file("var/lib/dpkg/info/tool.list", b"/.\n/usr\n/bin\n/bin/tool\n"),
        Raw::file("var/lib/dpkg/status", status.as_bytes()),
    ])
}

/// What a person did: a file of a package, files of nobody, and everything that can differ.
fn edits() -> Vec<u8> {
    tar(&[
        Raw::file("etc/motd", b"two\n").mode(0o600),
        Raw::file("etc/new.conf", b"edited by a step"),
        Raw::dir("opt/app"),
        Raw::file("opt/app/a", b"1"),
        Raw::file("opt/app/b", b"22"),
        Raw::pax(b'x', &[("SCHILY.xattr.security.capability", CAPABILITY)]),
        Raw::file("usr/lib/libc.so", b"libc"),
    ])
}

fn object(run: &Run) -> Value {
    serde_json::from_str(run.out.trim()).unwrap_or_else(|_| panic!("{} {}", run.out, run.err))
}

fn two() -> Lab {
    let lab = Lab::new();
    publish(&lab, "web:1.0.0", &[base()], &Claims::default());
    let claims = Claims { volumes: vec!["/srv".to_owned()], ignore: vec![] };
    publish(&lab, "web:2.0.0", &[base(), packages(), edits()], &claims);
    lab
}

#[test]
fn packages_and_files_are_named_as_a_person_would() {
    let lab = two();
    let printed = lab.bake(["diff", "web:1.0.0", "web:2.0.0"]);
    let stored = printed.out.lines().last().expect("a line").to_owned();
    assert!(stored.starts_with("stored: ") && stored.ends_with("1 of 3 layers shared"), "{stored}");
    let expected = "\
web:1.0.0 → web:2.0.0

packages: 1 added, 1 removed, 1 in another version
  added     new   0.1             +19 B
  removed   old   3               -17 B
  upgraded  tool  1.9-1 → 1.10-1      =

files: 8 added, 5 removed, 4 changed
  changed  /etc/motd  content, mode 0644 → 0600
  added    /etc/new.conf  16 B
  added    /opt/  3 names in it, 3 B
  changed  /usr/lib/libc.so  capability none → cap_net_raw=ep
  and 10 that go with the packages above (--all names them)

config
  volumes  none → /srv

";
    assert_eq!(printed.out.strip_suffix(&format!("{stored}\n")), Some(expected), "{}", printed.err);
    assert_eq!(printed.code, 3);
    let all = lab.bake(["diff", "web:1.0.0", "web:2.0.0", "--all"]);
    assert!(
        all.out.contains("\n  changed  /usr/bin/tool  content\n")
            && all.out.contains("\n  removed  /usr/share/old/a  1 B\n"),
        "{}",
        all.out
    );
    let back = lab.bake(["diff", "web:2.0.0", "web:1.0.0"]);
    assert!(back.out.contains("  downgraded  tool  1.10-1 → 1.9-1"), "{}", back.out);
}

#[test]
fn the_same_as_json() {
    let lab = two();
    let printed = lab.bake(["diff", "web:1.0.0", "web:2.0.0", "--json"]);
    let diff = object(&printed);
    assert_eq!(
        (printed.code, &diff["v"], &diff["type"], &diff["alike"]),
        (3, &1.into(), &"diff".into(), &false.into())
    );
    assert_eq!(diff["counts"], json!({"added": 8, "removed": 5, "changed": 4, "folded": 10}));
    assert_eq!(
        diff["packages"][2],
        json!({"name": "tool", "change": "changed", "before": "1.9-1", "after": "1.10-1", "bytes_before": 8, "bytes_after": 8, "files": 1})
    );
    assert_eq!(diff["config"], json!([{"name": "volumes", "before": null, "after": "/srv"}]));
    let changes = diff["changes"].as_array().expect("a list");
    assert_eq!(changes.len(), 4);
    assert_eq!(
        (&changes[1]["path"], &changes[1]["package"]),
        (&"/etc/new.conf".into(), &"new".into())
    );
    assert_eq!(changes[2]["inside"], json!({"names": 3, "bytes": 3}));
    let shared: Vec<_> = diff["after"]["steps"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|step| step["shared"].clone())
        .collect();
    assert_eq!(shared, [true, false, false]);
    let all = object(&lab.bake(["diff", "web:1.0.0", "web:2.0.0", "--json", "--all"]));
    assert_eq!(all["changes"].as_array().map(Vec::len), Some(17));
}

#[test]
fn sizes_stand_in_tables() {
    let lab = two();
    let printed = lab.bake(["diff", "web:1.0.0", "web:2.0.0", "--stat"]);
    assert_eq!(printed.code, 3);
    let lines: Vec<String> = printed
        .out
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in [
        "web:1.0.0 web:2.0.0 CHANGE",
        "names 21 24 +8 -5 ~4",
        "STEP web:1.0.0 web:2.0.0 CHANGE",
        "old 17 B -17 B",
        "tool 8 B 8 B =",
    ] {
        assert!(lines.iter().any(|found| found == line), "{line}: {}", printed.out);
    }
    assert!(
        lines.iter().any(|line| line.starts_with("bake: step 1 ") && line.contains('+')),
        "{}",
        printed.out
    );
}

#[test]
fn what_is_the_same_is_alike() {
    let lab = two();
    let same = lab.bake(["diff", "web:1.0.0", "web:1.0.0"]);
    assert_eq!(same.code, 0, "{}", same.err);
    assert!(same.out.starts_with("web:1.0.0 and web:1.0.0 are one image, sha256:"), "{}", same.out);
    // The same files from other layers.
    publish(
        &lab,
        "web:1.0.1",
        &[base(), tar(&[Raw::file("etc/x", b"")]), tar(&[Raw::file("etc/.wh.x", b"")])],
        &Claims::default(),
    );
    let other = lab.bake(["diff", "web:1.0.0", "web:1.0.1"]);
    assert_eq!(
        (other.code, other.out.contains("hold the same packages, files and settings")),
        (0, true),
        "{}",
        other.out
    );
    assert_eq!(object(&lab.bake(["diff", "web:1.0.0", "web:1.0.1", "--json"]))["alike"], true);
    // The same layers need not be read, and say nothing new: only the config differs.
    let claims = Claims { volumes: vec!["/x".to_owned()], ignore: vec![] };
    publish(&lab, "web:1.0.2", &[base()], &claims);
    let config = lab.bake(["diff", "web:1.0.0", "web:1.0.2"]);
    assert_eq!(config.code, 3);
    assert!(
        config.out.contains("volumes  none → /x") && !config.out.contains("files:"),
        "{}",
        config.out
    );
}

#[test]
fn hostile_names_stay_names() {
    let lab = Lab::new();
    let evil = "p\u{1b}[31m\u{1b}]0;x\u{7}";
    let status = stanza(evil, "1\u{1b}[2J");
    publish(&lab, "a:1", &[tar(&[Raw::dir("usr/share")])], &Claims::default());
    let files =
        [Raw::new(b'0', HOSTILE).data(b"x"), Raw::file("var/lib/dpkg/status", status.as_bytes())];
    publish(&lab, "a:2", &[tar(&[Raw::dir("usr/share")]), tar(&files)], &Claims::default());
    for args in [
        vec!["diff", "a:1", "a:2"],
        vec!["diff", "a:1", "a:2", "--all"],
        vec!["diff", "a:1", "a:2", "--stat"],
        vec!["show", "a:2", "--packages"],
    ] {
        let printed = lab.bake(&args);
        assert!(
            printed.out.chars().all(|c| c == '\n' || !c.is_control()),
            "{args:?} {:?}",
            printed.out
        );
        assert!(printed.code == 3 || printed.code == 0, "{}", printed.err);
    }
    let raw = lab.bake(["diff", "a:1", "a:2", "--json"]);
    assert!(!raw.out.contains('\u{1b}'));
    let changes = &object(&raw)["changes"];
    assert!(
        changes.as_array().expect("a list").iter().any(|change| change["path_hex"].is_string()),
        "{changes}"
    );
}

#[test]
fn a_damaged_layer_is_reported() {
    let lab = two();
    let json = object(&lab.bake(["show", "web:2.0.0", "--json"]));
    let layer = json["layers"][2]["digest"]
        .as_str()
        .expect("a digest")
        .trim_start_matches("sha256:")
        .to_owned();
    let path = lab.path("store/blobs/sha256").join(layer);
    let mut bytes = fs::read(&path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("write");
    for args in [
        vec!["diff", "web:1.0.0", "web:2.0.0"],
        vec!["show", "web:2.0.0", "--directories"],
        vec!["drift", "web:2.0.0", "--root", "."],
    ] {
        let failed = lab.bake(&args);
        assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{args:?} {}", failed.err);
        assert!(failed.err.contains("hint: `bake verify`"), "{}", failed.err);
    }
    assert_eq!(lab.bake(["diff", "web:1.0.0", "web:9"]).code, 1);
    assert_eq!(lab.bake(["diff", "web:1.0.0", "web:9:9"]).code, 2);
}

#[test]
fn a_history_says_which_step_made_what() {
    let lab = two();
    let printed = lab.bake(["history", "web:2.0.0"]);
    assert_eq!(printed.code, 0, "{}", printed.err);
    let lines: Vec<&str> = printed.out.lines().collect();
    assert_eq!(lines.len(), 4, "{}", printed.out);
    assert!(lines[0].starts_with("STEP") && lines[2].contains("bake: step 1"), "{}", printed.out);
    let raw = lab.bake(["history", "web:2.0.0", "--json"]);
    let steps: Vec<Value> =
        raw.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(steps.len(), 3);
    assert_eq!(
        (&steps[1]["type"], &steps[1]["step"], &steps[1]["by"]),
        (&"history".into(), &1.into(), &"bake: step 1".into())
    );
    assert!(
        steps[1]["layer"].as_str().is_some_and(|layer| layer.starts_with("sha256:"))
            && steps[1]["size"].is_u64()
    );
    assert_eq!(
        (&steps[1]["key"], &steps[1]["created"]),
        (&Value::Null, &"2023-11-14T22:13:20Z".into())
    );
}

#[test]
fn sizes_by_directory_and_by_package() {
    let lab = two();
    let directories = lab.bake(["show", "web:2.0.0", "--directories"]);
    assert_eq!(directories.code, 0, "{}", directories.err);
    let lines: Vec<String> = directories
        .out
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in ["SIZE FILES DIRECTORY", "3 B 2 /opt/", "3 B 2 /opt/app/", "20 B 2 /etc/"] {
        assert!(lines.iter().any(|found| found == line), "{line}: {}", directories.out);
    }
    let packages = lab.bake(["show", "web:2.0.0", "--packages"]);
    let lines: Vec<String> = packages
        .out
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for line in
        ["SIZE FILES PACKAGE VERSION", "19 B 2 new 0.1", "8 B 2 tool 1.10-1", "4 B 1 libc6 2.36-9"]
    {
        assert!(lines.iter().any(|found| found == line), "{line}: {}", packages.out);
    }
    let json = object(&lab.bake(["show", "web:2.0.0", "--json", "--packages", "--directories"]));
    assert_eq!(json["type"], "show");
    assert_eq!(
        json["packages"][0],
        json!({"name": "new", "version": "0.1", "bytes": 19, "files": 2})
    );
    let opt = json["folders"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one["path"] == "/opt")
        .expect("/opt");
    assert_eq!((&opt["bytes"], &opt["files"]), (&3.into(), &2.into()));
    assert_eq!(object(&lab.bake(["show", "web:2.0.0", "--json"])).get("folders"), None);
}
