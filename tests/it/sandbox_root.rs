//! The root a job sees: overlay, stubs, policy files, mounts; and that nothing of bake's reaches
//! the image.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use bake::job::{Action, Ended, Job};
use bake::sandbox::{Failure, Mount, Network, Owners, Ping, PolicyFile};

use crate::sandbox_lab::{Lab, listing, ping, sh};

fn policy(at: &str, text: &str, mode: u32) -> PolicyFile {
    PolicyFile { at: at.into(), bytes: text.into(), mode }
}

fn usual_files() -> Vec<PolicyFile> {
    vec![
        policy("/etc/resolv.conf", "nameserver 192.0.2.1\n", 0o644),
        policy("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755),
        policy("/etc/hosts", "127.0.0.1 localhost\n", 0o644),
    ]
}

/// A job that does nothing, in any root.
fn nothing() -> Vec<Action> {
    vec![ping(Ping::default())]
}

#[test]
fn userns_a_step_that_does_nothing_leaves_nothing() {
    let Some(lab) = Lab::new() else { return };
    let check = |what: &str, make: &dyn Fn(&Path)| {
        let lower = lab.layer(what);
        make(&lower);
        let root = lab.overlay(vec![lower]);
        let before = fs::metadata(&root.upper).unwrap();
        let ran = lab
            .run(Job { root: Some(root.clone()), files: usual_files(), ..lab.job(nothing()) })
            .ok();
        assert_eq!(listing(&ran.upper), [""; 0], "{what}");
        let after = fs::metadata(&root.upper).unwrap();
        assert_eq!(
            (before.mode(), before.mtime(), before.mtime_nsec()),
            (after.mode(), after.mtime(), after.mtime_nsec()),
            "{what}"
        );
    };
    let dirs = |at: &Path, names: &[&str]| {
        names.iter().for_each(|name| fs::create_dir_all(at.join(name)).unwrap())
    };
    check("empty", &|_| {});
    check("whole", &|at| dirs(at, &["proc", "sys", "dev", "run", "tmp", "etc", "usr/sbin"]));
    check("no-parents", &|at| dirs(at, &["var"]));
    check("etc-elsewhere", &|at| {
        dirs(at, &["data/etc"]);
        symlink("data/etc", at.join("etc")).unwrap();
    });
    check("sbin-merged", &|at| {
        dirs(at, &["usr/bin", "etc"]);
        symlink("bin", at.join("usr/sbin")).unwrap();
    });
    check("resolv-into-run", &|at| {
        dirs(at, &["etc"]);
        symlink("../run/systemd/resolve/stub-resolv.conf", at.join("etc/resolv.conf")).unwrap();
    });
    check("resolv-dangling", &|at| {
        dirs(at, &["etc"]);
        symlink("/nowhere/at/all", at.join("etc/resolv.conf")).unwrap();
    });
    check("tmp-elsewhere", &|at| {
        dirs(at, &["var/tmp", "etc"]);
        symlink("var/tmp", at.join("tmp")).unwrap();
    });
    check("files-there", &|at| {
        dirs(at, &["etc", "usr/sbin"]);
        fs::write(at.join("etc/resolv.conf"), "mine").unwrap();
        fs::write(at.join("usr/sbin/policy-rc.d"), "mine").unwrap();
    });
    // No layer at all.
    let ran = lab
        .run(Job { root: Some(lab.overlay(vec![])), files: usual_files(), ..lab.job(nothing()) })
        .ok();
    assert_eq!(listing(&ran.upper), [""; 0]);
}

#[test]
fn userns_policy_files_are_seen_and_never_kept() {
    let Some(lab) = Lab::new() else { return };
    let lower = lab.layer("above-tools");
    fs::create_dir(lower.join("etc")).unwrap();
    fs::set_permissions(lower.join("etc"), fs::Permissions::from_mode(0o751)).unwrap();
    symlink("../run/resolve/stub.conf", lower.join("etc/resolv.conf")).unwrap();
    fs::write(lower.join("etc/hosts"), "the image's own").unwrap();
    let root = lab.overlay(vec![lower.clone(), lab.tools()]);
    let script = "cat /etc/resolv.conf /etc/hosts; /usr/sbin/policy-rc.d; echo $?; stat -c '%a %u %g' /etc /usr/sbin/policy-rc.d
        for f in /etc/resolv.conf /etc/hosts /usr/sbin/policy-rc.d; do (echo x > $f) 2>/dev/null && echo written; chmod 777 $f 2>/dev/null && echo changed; rm -f $f 2>/dev/null; done
        test -e /etc/hosts && echo still; echo new > /etc/motd; touch /usr/sbin/other";
    let ran =
        lab.run(Job { root: Some(root), files: usual_files(), ..lab.job(vec![sh(script)]) }).ok();
    let expected = ["nameserver 192.0.2.1", "127.0.0.1 localhost", "101", "751 0 0", "755 0 0"];
    assert_eq!(ran.out[..5], expected, "{ran:#?}");
    assert!(
        ran.out.contains(&"still".into())
            && !ran.out.iter().any(|l| l == "written" || l == "changed"),
        "{ran:#?}"
    );
    let mut kept = listing(&ran.upper);
    // A link may be removed: the step's own doing, and a whiteout.
    kept.retain(|path| path != "etc/resolv.conf");
    assert_eq!(kept, ["etc", "etc/motd", "usr", "usr/sbin", "usr/sbin/other"]);
    assert_eq!(fs::metadata(ran.upper.join("etc")).unwrap().mode() & 0o7777, 0o751);
}

#[test]
fn userns_directories_above_stubs_look_like_the_images() {
    let Some(lab) = Lab::new() else { return };
    let lower = lab.layer("etc-with-marks");
    fs::create_dir(lower.join("etc")).unwrap();
    let marked = xattr::set(lower.join("etc"), "user.mark", b"here").is_ok();
    fs::set_permissions(lower.join("etc"), fs::Permissions::from_mode(0o2710)).unwrap();
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 5);
    fs::File::open(lower.join("etc")).unwrap().set_modified(time).unwrap();
    let root = lab.overlay(vec![lower, lab.tools()]);
    let ran = lab
        .run(Job {
            root: Some(root),
            files: usual_files(),
            ..lab.job(vec![sh("stat -c '%a %Y' /etc; chmod g+w /etc")])
        })
        .ok();
    assert_eq!(ran.line(), "2710 1000000000");
    let kept = fs::metadata(ran.upper.join("etc")).unwrap();
    assert_eq!((kept.mode() & 0o7777, kept.mtime(), kept.mtime_nsec()), (0o2730, 1_000_000_000, 5));
    if marked {
        assert_eq!(
            xattr::get(ran.upper.join("etc"), "user.mark").unwrap().as_deref(),
            Some(&b"here"[..])
        );
    }
    assert_eq!(listing(&ran.upper), ["etc"]);
}

#[test]
fn userns_an_upper_directory_can_be_used_again() {
    let Some(lab) = Lab::new() else { return };
    let root = lab.overlay(vec![]);
    // As a base is made: a call fills the upper directory through the overlay, so its directories
    // are opaque; then steps run in it.
    let tools = lab.tools();
    let mount =
        Mount { from: tools, at: "/dev/bake/tools".into(), read_only: true, owners: Owners::Image };
    let first =
        lab.run(Job { root: Some(root.clone()), mounts: vec![mount], ..lab.job(nothing()) });
    first.ok();
    let mut second = lab.overlay(vec![lab.tools()]);
    lab.run(Job {
        root: Some(second.clone()),
        ..lab.job(vec![sh(
            "rm -r /etc /var; mkdir /etc /var; rmdir /run /tmp 2>/dev/null; echo x > /etc/keep",
        )])
    })
    .ok();
    let before =
        (listing(&second.upper), fs::metadata(second.upper.join("etc")).unwrap().mtime_nsec());
    let script = "cat /etc/hosts /etc/keep; /usr/sbin/policy-rc.d; echo $?; cat /var/lib/deep/file";
    let mut files = usual_files();
    files.push(policy("/var/lib/deep/file", "deep\n", 0o644));
    second.work.set_file_name("w-2");
    fs::create_dir(&second.work).unwrap();
    let ran = lab.run(Job { root: Some(second.clone()), files, ..lab.job(vec![sh(script)]) }).ok();
    assert_eq!(ran.out, ["127.0.0.1 localhost", "x", "101", "deep"]);
    assert_eq!(
        (listing(&second.upper), fs::metadata(second.upper.join("etc")).unwrap().mtime_nsec()),
        before
    );
}

#[test]
fn userns_what_an_earlier_step_deleted_can_be_mounted_on() {
    let Some(lab) = Lab::new() else { return };
    let lower = lab.layer("with-hosts");
    fs::create_dir(lower.join("etc")).unwrap();
    fs::write(lower.join("etc/hosts"), "the image's own").unwrap();
    let first = lab.overlay(vec![lower.clone(), lab.tools()]);
    let script = "rm -r /etc/hosts /usr/sbin /run /var; mkdir /usr/sbin /var; touch /usr/sbin/new";
    lab.run(Job { root: Some(first.clone()), ..lab.job(vec![sh(script)]) }).ok();
    let mut files = usual_files();
    files.push(policy("/var/lib/file", "file\n", 0o644));
    let second = lab.overlay(vec![first.upper, lower, lab.tools()]);
    let script = "cat /etc/hosts /var/lib/file; ls /usr/sbin; test -d /run || echo no run";
    let ran = lab.run(Job { root: Some(second), files, ..lab.job(vec![sh(script)]) }).ok();
    assert_eq!(ran.out, ["127.0.0.1 localhost", "file", "new", "policy-rc.d", "no run"]);
    assert_eq!(listing(&ran.upper), [""; 0]);
}

fn hosts_link(at: &Path, target: &str) {
    fs::create_dir(at.join("etc")).unwrap();
    symlink(target, at.join("etc/hosts")).unwrap();
}

#[test]
fn userns_an_image_that_stands_in_the_way_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let check = |what: &str, make: &dyn Fn(&Path), part: &str| {
        let lower = lab.layer(what);
        make(&lower);
        let ran = lab.run(Job {
            root: Some(lab.overlay(vec![lower])),
            files: usual_files(),
            ..lab.job(nothing())
        });
        match ran.ended {
            Ended::Failed { action: 0, how: Failure::Start(why), .. } => {
                assert!(why.contains(part), "{what}: {why}")
            }
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(listing(&ran.upper), [""; 0], "{what}");
    };
    check(
        "proc-link",
        &|at| symlink("/etc", at.join("proc")).unwrap(),
        "/proc in the image is a symbolic link",
    );
    check(
        "dev-link",
        &|at| symlink("../../var", at.join("dev")).unwrap(),
        "/dev in the image is a symbolic link",
    );
    check(
        "sys-file",
        &|at| fs::write(at.join("sys"), "").unwrap(),
        "/sys in the image is not a directory",
    );
    check(
        "etc-file",
        &|at| fs::write(at.join("etc"), "").unwrap(),
        "/etc/resolv.conf lies below a file",
    );
    check(
        "resolv-dir",
        &|at| fs::create_dir_all(at.join("etc/resolv.conf")).unwrap(),
        "etc/resolv.conf in the image is a directory",
    );
    check(
        "resolv-proc",
        &|at| hosts_link(at, "/proc/1/root/etc/hosts"),
        "/etc/hosts leads to /proc/1/root/etc/hosts",
    );
    check("resolv-fd", &|at| hosts_link(at, "/dev/fd/3"), "/dev/fd lies behind a symlink");
    check(
        "etc-proc",
        &|at| symlink("proc/self/root", at.join("etc")).unwrap(),
        "leads to /proc/self/root/resolv.conf",
    );
    check("tmp-root", &|at| symlink("/", at.join("tmp")).unwrap(), "whole root");
    check("etc-loop", &|at| symlink("etc", at.join("etc")).unwrap(), "too many symbolic links");
}

#[test]
fn userns_the_usual_places_are_there() {
    let Some(lab) = Lab::new() else { return };
    let root = lab.overlay(vec![lab.tools()]);
    let script = "stat -c '%n %a %F' /tmp /sys /dev /dev/shm /dev/pts /dev/null /dev/full /dev/tty
        readlink /dev/fd /dev/stdin /dev/stdout /dev/stderr /dev/ptmx
        ls -A /sys /tmp | grep -v : ; head -c 4 /dev/urandom | wc -c; echo x > /dev/null; echo shared > /dev/shm/x
        perl -e 'open(P, \"+<\", \"/dev/ptmx\") or die \"ptmx: $!\"; print \"pty\\n\"'; hostname; ls /dev | tr '\\n' ' '";
    let ran = lab
        .run(Job { root: Some(root), ..lab.job(vec![sh(&script.replace("tr '\\n' ' '", "cat"))]) })
        .ok();
    let expected = [
        "/tmp 1777 directory",
        "/sys 555 directory",
        "/dev 755 directory",
        "/dev/shm 1777 directory",
        "/dev/pts 755 directory",
        "/dev/null 666 character special file",
        "/dev/full 666 character special file",
        "/dev/tty 666 character special file",
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
        "pts/ptmx",
        "4",
        "pty",
        "inside",
    ];
    let got: Vec<&str> =
        ran.out.iter().map(String::as_str).filter(|line| !line.is_empty()).collect();
    assert_eq!(got[..16], expected, "{ran:#?}");
    assert_eq!(
        got[16..].join(" "),
        "bake fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    );
}

#[test]
fn userns_mounts_show_directories_of_the_host() {
    let Some(lab) = Lab::new() else { return };
    let theirs = lab.dir.path().join("theirs-hidden-name");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("file"), "hello\n").unwrap();
    fs::set_permissions(theirs.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
    if lab.host.id_mode == bake::sandbox::IdMode::Root {
        for path in [theirs.clone(), theirs.join("file")] {
            std::os::unix::fs::chown(path, Some(12345), Some(12346)).unwrap();
        }
    }
    let cache = lab.scratch().join("cache");
    fs::create_dir(&cache).unwrap();
    let mounts = vec![
        Mount {
            from: theirs,
            at: "/dev/bake/context".into(),
            read_only: true,
            owners: Owners::Mine,
        },
        Mount {
            from: cache.clone(),
            at: "/dev/bake/deep/cache".into(),
            read_only: false,
            owners: Owners::Image,
        },
        Mount {
            from: cache.clone(),
            at: "/var/new/place".into(),
            read_only: true,
            owners: Owners::Image,
        },
    ];
    let script = "cat /dev/bake/context/file; stat -c '%u %g' /dev/bake/context/file /dev/bake/context
        (echo x > /dev/bake/context/file) 2>/dev/null || echo refused; (echo x > /var/new/place/x) 2>/dev/null || echo refused
        echo kept > /dev/bake/deep/cache/made; chown 33:44 /dev/bake/deep/cache/made; cat /var/new/place/made
        grep -c hidden-name /proc/self/mountinfo";
    let job = lab.job(vec![sh(script)]);
    let ran = lab.run(Job { mounts, ..job });
    assert_eq!(ran.out, ["hello", "0 0", "0 0", "refused", "refused", "kept", "0"], "{ran:#?}");
    assert_eq!(fs::read_to_string(cache.join("made")).unwrap(), "kept\n");
    if lab.host.id_mode == bake::sandbox::IdMode::Root {
        let meta = fs::metadata(cache.join("made")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (33, 44));
    }
    assert_eq!(listing(&ran.upper), [""; 0]);
    lab.session.remove_tree(&cache).unwrap();
    assert!(!cache.exists());
    lab.session.remove_tree(&cache).unwrap();
    assert!(lab.session.remove_tree(&lab.layers()).is_err());
    assert!(lab.session.remove_tree(&lab.scratch()).is_err());
    assert!(lab.session.remove_tree(&lab.scratch().join("../layers")).is_err());
}

#[test]
fn userns_owners_and_modes_mean_what_they_say() {
    let Some(lab) = Lab::new() else { return };
    // Every line: a thing a build step must be able to do, or must not.
    let script = r#"
ok() { if eval "$1" >/dev/null 2>&1; then echo "ok"; else echo "FAIL: $1"; fi; }
no() { if eval "$1" >/dev/null 2>&1; then echo "ALLOWED: $1"; else echo "ok"; fi; }
cd /srv/base
ok 'echo x > new && test "$(stat -c %u:%g new)" = 0:0'
ok 'chown 33:33 new && test "$(stat -c %u:%g new)" = 33:33'
ok 'chown 65534:65534 new'
no 'chown 4294967294 new'
ok 'chmod 4755 new && test "$(stat -c %a new)" = 4755'
ok 'chmod 2755 new && test "$(stat -c %a new)" = 2755'
ok 'chown 1:2 file && test "$(stat -c %u:%g file)" = 1:2 && grep -q lower file'
ok 'echo more >> file'
ok 'rm gone && test ! -e gone'
ok 'rm -r tree && test ! -e tree'
ok 'mkdir tree && test -z "$(ls -A tree)"'
ok 'mv move moved && test -e moved && test ! -e move'
ok 'mv dir dir2 && grep -q in dir2/inner'
ok 'ln file hard && test "$(stat -c %h hard)" = 2'
ok 'ln -s nowhere soft && chown -h 5:6 soft && test "$(stat -c %u:%g soft)" = 5:6'
ok 'mkfifo fifo'
ok 'dd if=/dev/zero of=sparse bs=1 count=1 seek=1000000'
ok 'touch -d @1000000000 file && test "$(stat -c %Y file)" = 1000000000'
ok 'chmod 000 file && cat file'
no 'mknod dev c 1 3'
no 'mknod blk b 8 0'
no 'mknod white c 0 0'
command -v setfattr >/dev/null && ok 'setfattr -n user.a -v b file'
command -v setfattr >/dev/null && no 'setfattr -n trusted.a -v b file'
command -v setfattr >/dev/null && no 'setfattr -n security.foo -v b file'
command -v setcap >/dev/null && ok 'cp /bin/true cap && setcap cap_net_raw+ep cap && getcap cap | grep -q cap_net_raw'
command -v setfacl >/dev/null && ok 'setfacl -m u:33:r new && getfacl -n new | grep -q user:33:r'
no 'echo 1 > /proc/sys/kernel/panic_on_oops'
no 'echo x > /proc/sys/kernel/hostname'
no 'echo b > /proc/sysrq-trigger'
"#;
    let lower = lab.layer("base");
    let base = lower.join("srv/base");
    for dir in ["tree/a/b", "dir"] {
        fs::create_dir_all(base.join(dir)).unwrap();
    }
    for (name, text) in
        [("file", "lower\n"), ("gone", ""), ("tree/a/x", ""), ("move", "m"), ("dir/inner", "in\n")]
    {
        fs::write(base.join(name), text).unwrap();
    }
    let root = lab.overlay(vec![lower, lab.tools()]);
    let ran = lab.run(Job { root: Some(root), ..lab.job(vec![sh(script)]) });
    let bad: Vec<_> = ran.out.iter().filter(|line| *line != "ok").collect();
    assert!(bad.is_empty() && ran.out.len() >= 25, "{bad:#?} {ran:#?}");
}

#[test]
fn userns_calls_see_the_two_directories() {
    let Some(lab) = Lab::new() else { return };
    let file = lab.scratch().join("given");
    fs::create_dir_all(file.join("locked/in")).unwrap();
    fs::set_permissions(file.join("locked"), fs::Permissions::from_mode(0o000)).unwrap();
    lab.session.remove_tree(&file).unwrap();
    assert!(!file.exists());
    let job = Job {
        root: None,
        mounts: vec![],
        files: vec![],
        secrets: bake::sandbox::ShownSecrets::default(),
        hostname: "c".into(),
        network: Network::None,
        allowance: bake::sandbox::Allowance::default(),
        actions: nothing(),
    };
    lab.run(job).ok();
}

#[test]
fn userns_directories_outside_the_session_are_refused() {
    let Some(lab) = Lab::new() else { return };
    let outside: PathBuf = lab.dir.path().into();
    let mut root = lab.overlay(vec![]);
    root.lower = vec![outside.clone()];
    let job = Job { root: Some(root.clone()), ..lab.job(nothing()) };
    assert!(lab.session.run(job, &bake::sandbox::Cancel::new().unwrap(), &mut |_| {}).is_err());
    // A link that a step left in scratch is not followed.
    symlink("/etc", lab.scratch().join("link")).unwrap();
    root.lower = vec![lab.scratch().join("link")];
    let job = Job { root: Some(root), ..lab.job(nothing()) };
    assert!(lab.session.run(job, &bake::sandbox::Cancel::new().unwrap(), &mut |_| {}).is_err());
}

#[test]
fn userns_inode_numbers_stay_when_files_are_written() {
    let Some(lab) = Lab::new() else { return };
    let look = "stat -c '%n %d %i' / /etc /etc/passwd /usr/bin/sh /root | sort";
    let script = format!(
        "{look}; echo more >> /etc/passwd; touch /usr/bin/sh /root/new; {look}; stat -c %d / /etc /etc/group /usr/bin/sh | sort -u | wc -l"
    );
    let ran = lab.run(Job { files: usual_files(), ..lab.job(vec![sh(&script)]) }).ok();
    assert_eq!(ran.out[..5], ran.out[5..10], "{ran:#?}");
    assert_eq!(ran.out[10], "1", "one device: {ran:#?}");
    // 32-bit programs cannot ask for larger ones.
    let inodes =
        ran.out[..5].iter().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    let large = inodes.filter(|inode| *inode > u64::from(u32::MAX)).count();
    assert_eq!(large, 0, "{ran:#?}");
}
