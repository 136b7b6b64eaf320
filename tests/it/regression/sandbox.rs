//! What was once reported wrong, as tests of what must hold: sandbox.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use bake::apply;
use bake::image::Identity;
use bake::job::{Action, Call, Job};
use bake::rootfs::accounts::Accounts;
use bake::sandbox::{CallError, Circumstances, Ended, Failure, Ping};

use crate::lab;
use crate::sandbox_lab::{Lab, Ran, exec, ping, sh};
use crate::store_hostile::Mounted;
use crate::tier;

/// B13: who a program runs as, who owns a file and who must own it are one reader's answer.
#[test]
fn userns_a_user_has_the_same_ids_wherever_it_is_written() {
    let Some(lab) = Lab::new() else { return };
    let layer = lab.layer("accounts");
    let passwd = "root:x:0:0::/root:/bin/sh\napp:x:1000:1234::/:/bin/sh\n";
    let group = "root:x:0:\napp:x:1234:\nextra:x:44:\n";
    fs::create_dir(layer.join("etc")).unwrap();
    fs::write(layer.join("etc/passwd"), passwd).unwrap();
    fs::write(layer.join("etc/group"), group).unwrap();
    let accounts = Accounts::new(passwd.as_bytes(), group.as_bytes());
    for (user, expected) in [
        ("app", "1000:1234"),
        ("1000", "1000:1234"),
        ("1000:extra", "1000:44"),
        ("2000", "2000:0"),
        ("2000:2001", "2000:2001"),
    ] {
        let mut exec = exec(&["sh", "-c", "echo $(id -u):$(id -g)"]);
        exec.user = user.to_owned();
        let root = Some(lab.overlay(vec![layer.clone(), lab.tools()]));
        let ran = lab.run(Job { root, ..lab.job(vec![Action::Exec(exec)]) });
        assert_eq!(ran.line(), expected, "{user}");
        let ids = accounts.ids(user).unwrap();
        assert_eq!(format!("{}:{}", ids.uid, ids.gid), expected, "{user}");
    }
    for none in ["+5", "1000:+5", "-1", "4294967295", "00x"] {
        assert!(accounts.ids(none).is_err(), "{none}");
    }
}

#[track_caller]
fn seen(ran: &Ran) -> Circumstances {
    match &ran.ended {
        Ended::Failed { seen, .. } => *seen,
        other => panic!("{other:?} {ran:#?}"),
    }
}

/// E12: that a step tried to reach a network is known by the kernel's own counters, whatever the
/// program prints, and not of steps that fail for another reason.
#[test]
fn userns_a_step_that_tried_to_reach_a_network_is_known_by_it() {
    let Some(lab) = Lab::new() else { return };
    let udp = "my $a = pack(q(S n a4 x8), 2, PORT, pack(q(C4), ADDRESS)); socket(S, 2, 2, 0); send(S, q(x), 0, $a); exit 1";
    let tcp = "my $a = pack(q(S n a4 x8), 2, PORT, pack(q(C4), ADDRESS)); socket(S, 2, 1, 0); connect(S, $a); exit 1";
    let check = |program: &str, address: &str, port: &str, expected: bool| {
        let program = program.replace("ADDRESS", address).replace("PORT", port);
        let ran = lab.run(lab.job(vec![Action::Exec(exec(&["perl", "-e", &program]))]));
        assert_eq!(seen(&ran).no_network, expected, "{program}");
    };
    // A host of another network, by its address; a name server that is not there.
    check(tcp, "192, 0, 2, 1", "443", true);
    check(udp, "192, 0, 2, 1", "53", true);
    check(udp, "127, 0, 0, 1", "53", true);
    // A service of its own that does not run is no matter of the network, and neither is `false`,
    // in a namespace that another job had before.
    check(tcp, "127, 0, 0, 1", "5432", false);
    for _ in 0..3 {
        assert!(!seen(&lab.sh("echo 'Could not resolve host'; exit 1")).no_network);
    }
}

/// Errors cross the border of the sandbox as numbers: nobody has to read their text.
#[test]
fn userns_a_full_disk_is_known_by_its_number() {
    let Some(lab) = Lab::new() else { return };
    let full = CallError::System { doing: "write".into(), path: "/x".into(), errno: libc::ENOSPC };
    let ran = lab.run(lab.job(vec![ping(Ping { fail: Some(full), ..Ping::default() })]));
    let Ended::Failed { how, .. } = &ran.ended else { panic!("{ran:#?}") };
    assert!(how.no_room());
    let ran = lab.run(lab.job(vec![sh("echo 'No space left on device' >&2; exit 1")]));
    let Ended::Failed { how: Failure::Exit(1), seen, .. } = &ran.ended else { panic!("{ran:#?}") };
    assert!(!seen.no_room);
}

/// A cgroup of its own that gives a program so many processes and threads; gone when dropped.
struct Pids(PathBuf);

impl Pids {
    /// `None` where this host has no cgroups for it that may be used.
    fn new() -> Option<Self> {
        // Version 1 has a tree for each controller, version 2 one for all.
        let tree = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"]
            .iter()
            .map(|tree| Path::new(tree).join(format!("bake-test-{}", std::process::id())))
            .find(|tree| {
                fs::create_dir(tree).is_ok()
                    && (tree.join("pids.max").exists() || fs::remove_dir(tree).is_err())
            });
        if tree.is_none() {
            tier::skip("no cgroup with a limit of processes can be made");
        }
        tree.map(Self)
    }

    fn command(&self, most: usize, bake: &Command) -> Command {
        fs::write(self.0.join("pids.max"), most.to_string()).unwrap();
        let mut command = Command::new("sh");
        let enter = "echo $$ > \"$1/cgroup.procs\" && shift && exec \"$@\"";
        command
            .args(["-c", enter, "sh"])
            .arg(&self.0)
            .arg(bake.get_program())
            .args(bake.get_args());
        for (name, value) in bake.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.current_dir(bake.get_current_dir().unwrap());
        command
    }
}

impl Drop for Pids {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// C5: where no threads or processes are to be had, work is done on fewer, or ends with an error
/// that says so, never with a panic; and nothing is left.
#[test]
fn root_few_threads_are_no_reason_to_panic() {
    if !tier::root() || !tier::sandbox() {
        return;
    }
    let Some(pids) = Pids::new() else { return };
    let lab = lab::Lab::new();
    lab.tiny_root();
    for n in 0..80 {
        lab.write(&format!("files/{n}/{n}"), "x");
    }
    lab.write(
        "tiny.toml",
        "[image]\nname = \"tiny\"\nversion = \"1\"\n[base]\npath = \"root\"\n[[step]]\ncopy = \"files/\"\nto = \"/srv/\"\n[[step]]\nrun = \"seq 10 > /a\"\n",
    );
    let mut built = false;
    for most in [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 18, 30] {
        for args in [&["check", "tiny.toml"][..], &["build", "tiny.toml", "--no-cache"]] {
            let ran = lab::run(&mut pids.command(most, &lab.command(args)));
            assert!(!ran.err.contains("panicked"), "{most} {args:?}: {}", ran.err);
            match ran.code {
                0 => built |= args[0] == "build",
                1 | 10 | 11 => assert!(
                    ran.err.contains("Resource temporarily unavailable")
                        || ran.err.contains("cannot start a thread"),
                    "{most} {args:?}: {}",
                    ran.err
                ),
                code => panic!("{most} {args:?}: exit {code}: {}", ran.err),
            }
        }
        assert!(lab.scratch().is_empty(), "{most}: {:?}", lab.scratch());
    }
    assert!(built, "thirty are enough");
    assert_eq!(lab::run(&mut pids.command(1, &lab.command(["verify"]))).code, 0);
}

/// B14: os-release(5) reads `/etc/os-release` first: where both are files, both say what image it
/// is.
#[test]
fn userns_the_identity_is_in_every_os_release() {
    let Some(lab) = Lab::new() else { return };
    let identity = || Identity {
        v: 1,
        name: "web".to_owned(),
        version: "2.0.0".to_owned(),
        base: "path root".to_owned(),
        created: "1970-01-01T00:16:40Z".to_owned(),
    };
    for (name, linked) in [("two-files", false), ("linked", true)] {
        let layer = lab.layer(name);
        for dir in ["etc", "usr/lib"] {
            fs::create_dir_all(layer.join(dir)).unwrap();
        }
        fs::write(layer.join("usr/lib/os-release"), "ID=debian\n").unwrap();
        if linked {
            std::os::unix::fs::symlink("../usr/lib/os-release", layer.join("etc/os-release"))
                .unwrap();
        } else {
            fs::write(layer.join("etc/os-release"), "ID=other\nIMAGE_ID=old\n").unwrap();
        }
        let call = Call::Apply(apply::Call::Identity { identity: identity(), epoch: 1000 });
        let root = Some(lab.overlay(vec![layer, lab.tools()]));
        let show = sh(
            "cat /etc/os-release; readlink /etc/os-release || echo file; cat /usr/lib/os-release",
        );
        let ran = lab.run(Job { root, ..lab.job(vec![Action::call(call), show]) }).ok();
        let fields = ["IMAGE_ID=web", "IMAGE_VERSION=2.0.0"];
        let (first, link) =
            if linked { ("ID=debian", "../usr/lib/os-release") } else { ("ID=other", "file") };
        assert_eq!(ran.out, [&[first], &fields[..], &[link, "ID=debian"], &fields[..]].concat());
    }
}

/// D2: an id beyond the first 65,536 belongs to a file where the host can map it.
#[test]
fn root_ids_of_directory_services_are_kept() {
    if !tier::root() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let script = "echo x > /big; chown 1885580785:70000 /big; stat -c %u:%g /big; mkdir /home; mkdir -m 700 /home/adwin; chown 2147483646 /home/adwin; stat -c %u /home/adwin";
    let mut inside =
        exec(&["sh", "-c", "id -u; id -g; echo y > /tmp/mine; stat -c %u:%g /tmp/mine"]);
    inside.user = "1885580785:70000".to_owned();
    let ran = lab.run(lab.job(vec![sh(script), Action::Exec(inside)])).ok();
    let ids = "1885580785:70000";
    assert_eq!(ran.out, [ids, "2147483646", "1885580785", "70000", ids]);
    let meta = fs::metadata(ran.upper.join("big")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (1_885_580_785, 70_000), "on disk, too");
}

/// D2: an id that the host cannot map fails the step by name, also where the program goes on.
#[test]
fn userns_an_id_that_cannot_be_is_never_dropped_unsaid() {
    let Some(lab) = Lab::new() else { return };
    let ran = lab.sh("echo x > /f; chown 4294967294 /f 2>/dev/null; mkdir /d; echo went on");
    let Ended::Failed { how, .. } = &ran.ended else { panic!("{ran:#?}") };
    assert_eq!(*how, Failure::Unmapped(4_294_967_294));
    assert!(how.reasons()[0].contains("4294967294"), "{how:?}");
    // Where the program minds, its own failure stands, and the id beside it.
    let ran = lab.sh("set -e; echo x > /f; chown 0:4294967294 /f");
    assert!(matches!(ran.ended, Ended::Failed { how: Failure::Exit(1), .. }), "{ran:#?}");
    assert_eq!(seen(&ran).unmapped, Some(4_294_967_294));
    // Asked of a descriptor, by a process in the background, and with nothing to complain about.
    let fchown = "open(F, q(>), q(/g)); exit !!chown(4294967293, -1, *F)";
    let ran = lab.run(lab.job(vec![Action::Exec(exec(&["perl", "-e", fchown]))]));
    assert!(matches!(ran.ended, Ended::Failed { how: Failure::Unmapped(4_294_967_293), .. }));
    let ran = lab.sh("echo x > /f; (chown 4294967294 /f & wait) 2>/dev/null; true");
    assert!(matches!(ran.ended, Ended::Failed { how: Failure::Unmapped(_), .. }), "{ran:#?}");
    assert!(lab.sh("touch /f; chown 33:33 /f; chown -h 5 /f").done());
}

/// C9: a store where overlayfs cannot write (a container's own file system) is refused before
/// anything is done, with its type and what to do; the doctor says so too.
#[test]
fn root_a_store_on_overlayfs_says_what_to_do_and_works_elsewhere() {
    if !tier::root() || !tier::sandbox() {
        return;
    }
    let lab = lab::Lab::new();
    lab.tiny_root();
    fs::create_dir(lab.path("store")).unwrap();
    let _mounted = Mounted::overlay(&lab.path("store"), &lab.path("parts"));
    lab.write(
        "tiny.toml",
        "[image]\nname = \"tiny\"\nversion = \"1\"\n[base]\npath = \"root\"\n[[step]]\nrun = \"seq 10 > /a\"\n",
    );
    for (args, code) in [(&["build", "tiny.toml"][..], 10), (&["doctor"], 10)] {
        let ran = lab.bake(args);
        let printed = format!("{}{}", ran.out, ran.err);
        assert_eq!(ran.code, code, "{args:?}: {printed}");
        assert!(printed.contains("is on overlay"), "{args:?}: {printed}");
        assert!(
            printed.contains("--store DIR") && printed.contains("--tmpfs"),
            "{args:?}: {printed}"
        );
    }
    // With a directory elsewhere to work in it is a store like any other.
    let bake = |args: &[&str]| {
        let ran = lab.bake(["--work-dir", "work"].iter().chain(args));
        assert_eq!(ran.code, 0, "{args:?}: {}{}", ran.out, ran.err);
        ran
    };
    bake(&["doctor"]);
    bake(&["build", "tiny.toml"]);
    bake(&["build", "tiny.toml", "--set-version", "2", "--no-cache"]);
    bake(&["run", "tiny:2", "--", "/bin/sh", "-c", "test -s /a"]);
    bake(&["verify"]);
    let layers = || {
        let own = fs::read_dir(lab.path("work")).unwrap().next().unwrap().unwrap().path();
        assert_eq!(fs::read_dir(own.join("staging")).unwrap().count(), 0);
        fs::read_dir(own.join("layers")).unwrap().count()
    };
    assert!(layers() > 0);
    let in_store = fs::read_dir(lab.path("store/cache/layers"));
    assert_eq!(in_store.map_or(0, Iterator::count), 0);
    bake(&["rm", "tiny:2"]);
    bake(&["gc", "--cache-older-than", "0s"]);
    assert_eq!(layers(), 0);
    assert_eq!(lab.bake(["build", "tiny.toml", "--set-version", "3"]).code, 10);
    // What another user has made there is not used.
    let own = fs::read_dir(lab.path("work")).unwrap().next().unwrap().unwrap().path();
    std::os::unix::fs::chown(&own, Some(4321), None).unwrap();
    let ran = lab.bake(["--work-dir", "work", "build", "tiny.toml", "--set-version", "3"]);
    assert!(ran.code != 0 && ran.err.contains("4321"), "{} {}", ran.code, ran.err);
    let there = lab.bake(["doctor", "--store", "elsewhere"]);
    assert_eq!(there.code, 0, "{}", there.out);
    assert!(there.out.contains("file system: "), "{}", there.out);
}
