//! `bake drift`: a root unpacked from an image is exact; whatever is done to it is named, and
//! nothing else.

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use bake::event::silent;
use bake::inspect::{DriftOptions, Picture, Verdict};

use crate::drift_lab::*;
use crate::lab::{Lab, run};
use crate::store_lab::reference;
use crate::tier;

#[test]
fn root_what_was_unpacked_is_exact() {
    if !tier::root() {
        return;
    }
    let (lab, _) = unpacked();
    let plain = lab.bake(["drift", "--root", "root"]);
    assert_eq!(plain.code, 0, "{}\n{}", plain.out, plain.err);
    assert!(plain.out.starts_with("exact  web:1.0.0  sha256:"), "{}", plain.out);
    let json =
        report(&lab.bake(["drift", "--root", "root", "--json", "--host", "alpha", "--strict"]));
    assert_eq!(
        (&json["v"], &json["type"], &json["verdict"]),
        (&1.into(), &"drift".into(), &"exact".into())
    );
    assert_eq!(
        (&json["name"], &json["version"], &json["host"]),
        (&"web".into(), &"1.0.0".into(), &"alpha".into())
    );
    assert_eq!(json["claims"], "web:1.0.0");
    // Every name that the layers make but for /proc and /tmp; the top is not mentioned in them.
    assert_eq!(json["counts"]["compared"], 24, "{json}");
    // The same with nothing but the manifest, and through a link to the root.
    let wrote = lab.bake(["export", "web:1.0.0", "--format", "manifest", "--output", "web.mtree"]);
    assert_eq!(wrote.code, 0, "{}", wrote.err);
    symlink("root", lab.path("link")).expect("link");
    fs::rename(lab.path("store"), lab.path("away")).expect("rename");
    for root in ["root", "link"] {
        let plain = lab.bake(["drift", "web.mtree", "--root", root]);
        assert_eq!(plain.code, 0, "{}\n{}", plain.out, plain.err);
    }
    let mut piped = lab.command(["drift", "-", "--root", "root"]);
    let piped =
        piped.stdin(fs::File::open(lab.path("web.mtree")).expect("open")).output().expect("run");
    assert!(piped.status.success());
}

/// Does one thing to a fresh root and says what drift makes of it.
fn after(act: impl FnOnce(&Path)) -> Vec<String> {
    let (lab, root) = unpacked();
    act(&root);
    let drifted = lab.bake(["drift", "--root", "root", "--json"]);
    let report = report(&drifted);
    let verdict = if report["changes"].as_array().expect("a list").is_empty() {
        ("exact", 0)
    } else {
        ("drifted", 3)
    };
    assert_eq!((report["verdict"].as_str().expect("a verdict"), drifted.code), verdict);
    let text = lab.bake(["drift", "--root", "root"]);
    assert!(!text.out.contains('\u{1b}') && !text.err.contains('\u{1b}'), "{}", text.out);
    assert_eq!(
        text.out.lines().count(),
        1 + report["changes"].as_array().expect("a list").len(),
        "{}",
        text.out
    );
    changes(&report)
}

#[test]
fn root_each_change_is_named_and_nothing_else() {
    if !tier::root() {
        return;
    }
    let check = |act: &dyn Fn(&Path), expected: &[&str]| assert_eq!(after(act), expected);
    check(
        &|root| fs::write(root.join("etc/motd"), "welcomf\n").expect("flip"),
        &["changed /etc/motd content"],
    );
    check(
        &|root| fs::write(root.join("etc/motd"), "longer than before\n").expect("write"),
        &["changed /etc/motd content"],
    );
    check(&|root| chmod(&root.join("bin/su"), 0o755), &["changed /bin/su mode"]);
    check(
        &|root| chown(root.join("srv/own"), Some(33), Some(0)).expect("chown"),
        &["changed /srv/own owner"],
    );
    check(&|root| fs::write(root.join("opt/new"), "x").expect("write"), &["added /opt/new"]);
    check(
        &|root| xattr::remove(root.join("bin/ping"), "security.capability").expect("setcap -r"),
        &["changed /bin/ping capability"],
    );
    check(
        &|root| xattr::set(root.join("bin/su"), "security.capability", CAPABILITY).expect("setcap"),
        &["changed /bin/su capability"],
    );
    check(
        &|root| xattr::set(root.join("opt/noted"), "user.note", b"m").expect("setfattr"),
        &["changed /opt/noted xattr"],
    );
    check(
        &|root| xattr::set(root.join("opt"), "user.more", b"m").expect("setfattr"),
        &["changed /opt xattr"],
    );
    check(&|root| fs::remove_file(root.join("etc/motd")).expect("rm"), &["removed /etc/motd"]);
    check(&|root| fs::remove_dir_all(root.join("opt")).expect("rm"), &["removed /opt"]);
    check(&|root| chmod(&root.join("opt"), 0o755), &["changed /opt mode"]);
    check(&|root| chmod(&root.join("opt/pipe"), 0o666), &["changed /opt/pipe mode"]);
    check(
        &|root| {
            fs::remove_file(root.join("bin/sh")).expect("rm");
            symlink("bash", root.join("bin/sh")).expect("ln");
        },
        &["changed /bin/sh target"],
    );
    check(
        &|root| {
            fs::remove_file(root.join("bin/sh")).expect("rm");
            fs::write(root.join("bin/sh"), "dash").expect("write");
        },
        &["changed /bin/sh kind"],
    );
    check(
        &|root| {
            fs::remove_dir_all(root.join("usr/share")).expect("rm");
            symlink("/etc", root.join("usr/share")).expect("ln");
        },
        &["changed /usr/share kind"],
    );
    check(
        &|root| {
            fs::copy(root.join("usr/share/one"), root.join("usr/share/x")).expect("cp");
            fs::rename(root.join("usr/share/x"), root.join("usr/share/two")).expect("mv");
        },
        &["changed /usr/share/two hard-link"],
    );
    check(
        &|root| fs::hard_link(root.join("bin/su"), root.join("bin/su2")).expect("ln"),
        &["added /bin/su2"],
    );
    // A file with another time, or one that was written again with what it had, is the same file.
    check(&|root| fs::write(root.join("etc/motd"), "welcome\n").expect("write"), &[]);
}

#[test]
fn root_several_changes_at_once() {
    if !tier::root() {
        return;
    }
    let (lab, root) = unpacked();
    fs::write(root.join("bin/ping"), "pong!").expect("write");
    chmod(&root.join("bin/ping"), 0o700);
    chown(root.join("bin/ping"), Some(7), Some(7)).expect("chown");
    fs::create_dir_all(root.join("opt/app/lib/deep")).expect("mkdir");
    fs::write(root.join("opt/app/lib/deep/x"), vec![0; 1000]).expect("write");
    fs::remove_dir_all(root.join("usr/share")).expect("rm");
    let text = lab.bake(["drift", "--root", "root"]);
    assert_eq!(text.code, 3);
    let lines: Vec<&str> = text.out.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            // Writing to a file, and giving it away, drops its capabilities.
            "changed  /bin/ping  content (4 B → 5 B), mode 0755 → 0700, owner 0:0 → 7:7, capability cap_net_raw=ep → none",
            "added    /opt/app/  3 names in it, 1.0 kB",
            "removed  /usr/share/  3 names in it, 29 B",
        ],
        "{}",
        text.out
    );
    assert!(text.err.contains("1 changed, 1 added, 1 removed"), "{}", text.err);
    let all = report(&lab.bake(["drift", "--root", "root", "--json", "--all"]));
    assert_eq!(all["counts"]["added"], 4, "{all}");
    assert_eq!(all["counts"]["removed"], 4);
    let one = &all["changes"][0];
    assert_eq!(one["before"]["xattrs"]["security.capability"], "cap_net_raw=ep");
    assert_eq!(
        (&one["after"]["mode"], &one["after"]["uid"], &one["after"]["size"]),
        (&"0700".into(), &7.into(), &5.into())
    );
}

#[test]
fn root_what_is_no_ones_is_left_out() {
    if !tier::root() {
        return;
    }
    let lab = Lab::new();
    let claims = Claims {
        volumes: vec!["/var/lib/web".to_owned()],
        ignore: vec!["/etc/app.conf".to_owned(), "*.pyc".to_owned(), "/srv/cache/".to_owned()],
    };
    publish(&lab, "web:1.0.0", &layers("web", "1.0.0"), &claims);
    let root = unpack(&lab, "web:1.0.0", "root");
    for (path, text) in [
        ("etc/hosts", "127.0.0.1 me\n"),
        ("etc/hostname", "me\n"),
        ("etc/machine-id", "1\n"),
        ("etc/ssh/ssh_host_rsa_key", "secret"),
        ("var/log/syslog", "line\n"),
        ("var/log/nginx/access.log", "line\n"),
        ("run/x.pid", "1"),
        ("tmp/x", "x"),
        ("proc/x", "x"),
        ("sys/x", "x"),
        ("dev/x", "x"),
        ("var/lib/web/data", "1"),
        ("var/lib/web/more/data", "2"),
        ("etc/app.conf", "x"),
        ("usr/lib/bake/x.pyc", "x"),
        ("srv/cache/deep/x", "x"),
    ] {
        fs::create_dir_all(root.join(path).parent().expect("a directory")).expect("mkdir");
        fs::write(root.join(path), text).expect("write");
    }
    // The directories themselves are not left out; an image for machines has them.
    fs::remove_dir_all(root.join("etc/ssh")).expect("rm");
    let plain = report(&lab.bake(["drift", "--root", "root", "--json"]));
    assert_eq!(changes(&plain), ["added /var/log"], "{plain}");
    let more = report(&lab.bake(["drift", "--root", "root", "--json", "--ignore", "/var/log/"]));
    assert_eq!(more["verdict"], "exact", "{more}");
    let strict = report(&lab.bake(["drift", "--root", "root", "--json", "--strict"]));
    assert_eq!(
        changes(&strict),
        [
            "added /etc/hostname",
            "changed /etc/hosts content",
            "added /etc/machine-id",
            "added /var/log"
        ]
    );
    let bad = lab.bake(["drift", "--root", "root", "--ignore", "/[z-a]"]);
    assert_eq!(bad.code, 2, "{}", bad.err);
    assert!(bad.err.contains("/[z-a]"), "{}", bad.err);
    // The manifest carries the rules.
    lab.bake(["export", "web:1.0.0", "--format", "manifest", "--output", "web.mtree"]);
    let manifest = report(&lab.bake(["drift", "./web.mtree", "--root", "root", "--json"]));
    assert_eq!(changes(&manifest), ["added /var/log"]);
}

#[test]
fn a_root_that_nobody_knows_is_unknown() {
    let lab = Lab::new();
    fs::create_dir_all(lab.path("root/usr/lib/bake")).expect("mkdir");
    let plain = lab.bake(["drift", "--root", "root"]);
    assert_eq!((plain.code, plain.out.as_str()), (3, "unknown image  no image\n"), "{}", plain.err);
    assert!(plain.err.contains("does not say which image it is"), "{}", plain.err);
    for (text, name) in [
        (r#"{"v":1,"name":"web","version":"9","base":"x","created":"x"}"#, Some("web")),
        (
            r#"{"v":1,"name":"\u001b[2JX","version":"9 9","base":"x","created":"x"}"#,
            Some("\u{1b}[2JX"),
        ),
        (r#"{"v":2,"name":"web","version":"9","base":"x","created":"x"}"#, None),
        ("not JSON", None),
    ] {
        lab.write("root/usr/lib/bake/image.json", text);
        let json = report(&lab.bake(["drift", "--root", "root", "--json"]));
        assert_eq!(
            (json["verdict"].as_str(), json["name"].as_str()),
            (Some("unknown image"), name),
            "{text}"
        );
        let plain = lab.bake(["drift", "--root", "root"]);
        assert_eq!(plain.code, 3);
        assert!(!plain.out.contains('\u{1b}') && !plain.err.contains('\u{1b}'), "{}", plain.out);
    }
    assert!(!lab.path("store").exists(), "a look makes no store");
    // Named images and files that are not there are mistakes, not verdicts.
    assert_eq!(lab.bake(["drift", "web:9", "--root", "root"]).code, 1);
    assert_eq!(lab.bake(["drift", "./gone", "--root", "root"]).code, 1);
    assert_eq!(lab.bake(["drift", "--root", "gone"]).code, 2);
    lab.write("text", "x\n");
    let other = lab.bake(["drift", "text", "--root", "root"]);
    assert_eq!(other.code, 2);
    assert!(
        other.err.contains("not a manifest made by bake") && other.err.contains("hint: "),
        "{}",
        other.err
    );
}

#[test]
fn root_a_manifest_of_another_image_says_so() {
    if !tier::root() {
        return;
    }
    let (lab, _) = unpacked();
    publish(&lab, "db:3", &layers("db", "3"), &Claims::default());
    let other = lab.bake(["drift", "db:3", "--root", "root"]);
    assert_eq!(other.code, 3);
    assert!(other.out.starts_with("drifted  db:3"), "{}", other.out);
    assert!(other.err.contains("root itself says that it is web:1.0.0"), "{}", other.err);
    let json = report(&lab.bake(["drift", "db:3", "--root", "root", "--json"]));
    assert_eq!((&json["name"], &json["claims"]), (&"db".into(), &"web:1.0.0".into()));
    assert_eq!(changes(&json), ["changed /usr/lib/bake/image.json content"]);
}

#[test]
fn root_hostile_names_stay_names() {
    if !tier::root() {
        return;
    }
    let (lab, root) = unpacked();
    let hostile = std::ffi::OsStr::from_bytes(HOSTILE);
    fs::write(root.join(hostile), "even").expect("write");
    let added = std::ffi::OsStr::from_bytes(b"opt/\x1b[2J\xfe\nremoved  _etc_passwd");
    fs::write(root.join(added), "x").expect("write");
    let text = lab.bake(["drift", "--root", "root"]);
    assert!(text.out.bytes().all(|b| b == b'\n' || b >= b' '), "{:?}", text.out);
    assert_eq!(text.out.lines().count(), 3, "{}", text.out);
    assert!(
        text.out.contains(r"added    /opt/\u{1b}[2J\xfe\u{a}removed  _etc_passwd"),
        "{}",
        text.out
    );
    let raw = lab.bake(["drift", "--root", "root", "--json"]);
    let json = report(&raw);
    assert!(!raw.out.contains('\u{1b}'));
    let hex: String = added.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(json["changes"][0]["path_hex"], hex.as_str());
    assert_eq!(
        json["changes"][1]["path"],
        format!("/{}", String::from_utf8_lossy(HOSTILE)).as_str()
    );
}

#[test]
fn root_odd_files_are_not_opened() {
    if !tier::root() {
        return;
    }
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let (lab, root) = unpacked();
    let make = |path: &str, kind, dev| {
        let _ = fs::remove_file(root.join(path));
        mknodat(CWD, root.join(path), kind, Mode::RWXU, dev).expect("mknod");
    };
    make("etc/motd", FileType::Fifo, 0);
    make("opt/fifo", FileType::Fifo, 0);
    // The null device: nothing is read from it.
    make("opt/noted", FileType::CharacterDevice, makedev(1, 3));
    let _listener = std::os::unix::net::UnixListener::bind(root.join("opt/socket")).expect("bind");
    // A loop, and a very deep tree.
    symlink("loop", root.join("loop")).expect("ln");
    let mut deep = root.join("deep");
    for _ in 0..50 {
        deep.push("d".repeat(60));
    }
    fs::create_dir_all(&deep).expect("mkdir");
    let json = report(&lab.bake(["drift", "--root", "root", "--json"]));
    let expected = [
        "added /deep",
        "changed /etc/motd kind",
        "added /loop",
        "added /opt/fifo",
        "changed /opt/noted kind",
        "added /opt/socket",
    ];
    assert_eq!(changes(&json), expected);
    assert_eq!(json["changes"][0]["inside"]["names"], 50);
}

#[test]
fn root_a_root_in_motion_ends_in_a_report() {
    if !tier::root() {
        return;
    }
    let (lab, root) = unpacked();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0u32;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                let text = if n.is_multiple_of(2) { "welcome\n" } else { "welcomf\n" };
                fs::write(root.join("etc/motd"), text).expect("write");
                let _ = fs::rename(root.join("opt"), root.join("opt2"));
                let _ = fs::remove_file(root.join("bin/su"));
                let _ = fs::rename(root.join("opt2"), root.join("opt"));
                let _ = symlink("/etc/passwd", root.join("bin/su"));
                let _ = fs::remove_dir_all(root.join("usr/share/more"));
                let _ = fs::create_dir_all(root.join("usr/share/more/and/more"));
            }
        });
        for _ in 0..20 {
            let drifted = lab.bake(["drift", "--root", "root", "--json"]);
            let json = report(&drifted);
            assert_eq!((drifted.code, json["verdict"].as_str()), (3, Some("drifted")), "{json}");
            let known = ["/etc/motd", "/opt", "/bin/su", "/usr/share/more"];
            for change in json["changes"].as_array().expect("a list") {
                let path = change["path"].as_str().expect("a path");
                assert!(known.iter().any(|known| path.starts_with(known)), "{change}");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn root_what_cannot_be_read_is_never_exact() {
    if !tier::root() {
        return;
    }
    let (lab, root) = unpacked();
    lab.bake(["export", "web:1.0.0", "--format", "manifest", "--output", "web.mtree"]);
    let wrote = fs::read(lab.path("web.mtree")).expect("read");
    chmod(&lab.path("web.mtree"), 0o644);
    // /opt is 0750.
    let nobody = || {
        run(lab.command(["drift", "web.mtree", "--root", "root", "--json"]).uid(65_534).gid(65_534))
    };
    let failed = nobody();
    let json: serde_json::Value = serde_json::from_str(failed.out.trim()).expect("JSON");
    assert_eq!(
        (failed.code, &json["type"], &json["kind"]),
        (1, &"failed".into(), &"unreadable".into()),
        "{json}"
    );
    assert!(json["message"].as_str().expect("text").contains("the first is /opt"), "{json}");
    // What differs is a fact, whatever else could not be read.
    fs::write(root.join("etc/motd"), "x").expect("write");
    let json = report(&nobody());
    assert_eq!(
        (changes(&json), &json["counts"]["unreadable"]),
        (vec!["changed /etc/motd content".to_owned()], &1.into())
    );
    assert_eq!(json["unreadable"][0]["path"], "/opt");
    assert_eq!(fs::read(lab.path("web.mtree")).expect("read"), wrote);
}

#[test]
fn root_ids_of_a_container_are_moved() {
    if !tier::root() {
        return;
    }
    let (lab, root) = unpacked();
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::fs::PermissionsExt;
    let mut done = std::collections::BTreeSet::new();
    for entry in walkdir::WalkDir::new(&root) {
        let entry = entry.expect("walk");
        let meta = fs::symlink_metadata(entry.path()).expect("stat");
        if !done.insert(meta.ino()) {
            continue;
        }
        let capability = xattr::get(entry.path(), "security.capability").ok().flatten();
        rustix::fs::chownat(
            rustix::fs::CWD,
            entry.path(),
            Some(rustix::fs::Uid::from_raw(meta.uid() + 100_000)),
            Some(rustix::fs::Gid::from_raw(meta.gid() + 100_000)),
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        )
        .expect("chown");
        // chown takes away setuid bits and capabilities.
        if !meta.is_symlink() {
            chmod(entry.path(), meta.permissions().mode() & 0o7777);
        }
        if let Some(mut value) = capability {
            // Revision 3 with the root id of the namespace: what a container's own setcap leaves.
            value[3] = 3;
            value.extend(100_000u32.to_le_bytes());
            xattr::set(entry.path(), "security.capability", &value).expect("setcap");
        }
    }
    let moved = lab.bake(["drift", "--root", "root", "--owner-shift", "100000"]);
    assert_eq!(moved.code, 0, "{}\n{}", moved.out, moved.err);
    let plain = lab.bake(["drift", "--root", "root"]);
    assert_eq!(plain.code, 3);
    assert!(plain.err.contains("give --owner-shift 100000"), "{}", plain.err);
    chown(root.join("etc/motd"), Some(0), Some(0)).expect("chown");
    let host = report(&lab.bake(["drift", "--root", "root", "--owner-shift", "100000", "--json"]));
    assert_eq!(
        changes(&host),
        ["changed /etc/motd owner"],
        "the host's root is not the container's"
    );
}

#[test]
fn root_mounts_over_nothing_are_left_out_and_others_looked_into() {
    if !tier::root() || !tier::tool("unshare") {
        return;
    }
    let (lab, _) = unpacked();
    fs::create_dir(lab.path("root/srv/disk")).expect("mkdir");
    fs::create_dir(lab.path("root/opt/etc")).expect("mkdir");
    let script = "set -e; mount -t tmpfs x root/srv/disk; echo x > root/srv/disk/x; cp -a root/etc/. copy; mount --bind copy root/etc; \
        echo y > root/etc/motd; exec \"$0\" drift --root root --json";
    fs::create_dir(lab.path("copy")).expect("mkdir");
    let mut command = Command::new("unshare");
    command.args([
        "-m",
        "--propagation",
        "private",
        "sh",
        "-c",
        script,
        env!("CARGO_BIN_EXE_bake"),
    ]);
    command.current_dir(lab.path("")).env("BAKE_STORE", lab.path("store"));
    let json = report(&run(&mut command));
    // A disk in a directory that the image does not have is not the image's business; one over the
    // image's files is.
    assert_eq!(changes(&json), ["changed /etc/motd content", "added /opt/etc"], "{json}");
    assert_eq!(json["skipped"], serde_json::json!(["/srv/disk"]));
}

#[test]
fn root_the_stat_cache_spares_reading_but_hides_nothing() {
    if !tier::root() {
        return;
    }
    let (lab, root) = unpacked();
    let store = bake::store::Store::open_to_read(&lab.path("store")).expect("the store");
    let picture = Picture::of(&store, &reference("web:1.0.0"), None).expect("the image");
    let claim = bake::inspect::claim(&root).expect("a claim");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs() as i64;
    // An hour later nothing is too young to be remembered.
    let options =
        DriftOptions { cache: Some(lab.path("cache")), now: now + 3600, ..DriftOptions::default() };
    let drift =
        || bake::inspect::drift(&root, &claim, &picture, &options, &silent()).expect("a report");
    let files = 10;
    let first = drift();
    assert_eq!((first.verdict, first.counts.cached), (Verdict::Exact, 0));
    let second = drift();
    assert_eq!(
        (second.verdict, second.counts.cached, second.counts.compared),
        (Verdict::Exact, files, first.counts.compared)
    );
    // The same size and mtime: only ctime shows it.
    let times = fs::metadata(root.join("etc/motd")).expect("stat").modified().expect("mtime");
    let mut file = fs::File::options().write(true).open(root.join("etc/motd")).expect("open");
    file.write_all(b"welcomf\n").expect("write");
    file.set_modified(times).expect("set");
    drop(file);
    xattr::set(root.join("opt/noted"), "user.note", b"m").expect("setfattr");
    let third = drift();
    assert_eq!((third.verdict, third.counts.cached), (Verdict::Drifted, files - 2));
    let paths: Vec<_> = third
        .changes
        .iter()
        .map(|change| String::from_utf8_lossy(&change.path).into_owned())
        .collect();
    assert_eq!(paths, ["etc/motd", "opt/noted"]);
    // What was different is reported from the cache too.
    let fourth = drift();
    assert_eq!((fourth.changes.len(), fourth.counts.changed), (2, 2));
    let young = DriftOptions { now, cache: Some(lab.path("other")), ..DriftOptions::default() };
    let drift =
        || bake::inspect::drift(&root, &claim, &picture, &young, &silent()).expect("a report");
    drift();
    assert_eq!(drift().counts.cached, 0, "files of this very moment are read again");
    fs::create_dir(lab.path("directory")).expect("mkdir");
    let failed = lab.bake(["drift", "--root", "root", "--stat-cache", "directory"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
}
