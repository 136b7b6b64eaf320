//! Ways out that somebody once had, each tried from inside.

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use bake::job::{Action, Job};
use bake::sandbox::{Cancel, Exec, JobEvent, Network};

use crate::sandbox_lab::{Lab, exec, helper, sh};
use crate::tier;

/// Runs one system call in perl as the step's root and gives its error number; 0 if it worked.
fn errno(lab: &Lab, number: libc::c_long, arguments: &str) -> i32 {
    let script = format!(
        "my @a = ({arguments}); $! = 0; my $r = syscall({number}, @a); print $r < 0 ? $!+0 : 0, qq(\\n)"
    );
    lab.run(lab.job(vec![Action::Exec(exec(&["perl", "-e", &script]))])).line().parse().unwrap()
}

#[test]
fn userns_calls_that_make_namespaces_are_refused() {
    let Some(lab) = Lab::new() else { return };
    let check = |name: &str, number: libc::c_long, arguments: &str, expected: i32| {
        assert_eq!(errno(&lab, number, arguments), expected, "{name}");
    };
    for flag in [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWUTS,
    ] {
        check("unshare", libc::SYS_unshare, &format!("{flag}"), libc::EPERM);
        check(
            "clone",
            libc::SYS_clone,
            &format!("{}, 0, 0, 0, 0", flag | libc::SIGCHLD),
            libc::EPERM,
        );
    }
    check("clone3", libc::SYS_clone3, "0, 0", libc::ENOSYS);
    check("setns", libc::SYS_setns, "0, 0", libc::EPERM);
    check("mount", libc::SYS_mount, "q(none), q(/tmp), q(tmpfs), 0, 0", libc::EPERM);
    check("umount2", libc::SYS_umount2, "q(/proc), 2", libc::EPERM);
    check("pivot_root", libc::SYS_pivot_root, "q(.), q(.)", libc::EPERM);
    check("open_tree", libc::SYS_open_tree, "-100, q(/), 1", libc::EPERM);
    check("fsopen", libc::SYS_fsopen, "q(tmpfs), 0", libc::EPERM);
    check("bpf", libc::SYS_bpf, "0, 0, 0", libc::EPERM);
    check("keyctl", libc::SYS_keyctl, "0, 0, 0, 0, 0", libc::EPERM);
    check("perf_event_open", libc::SYS_perf_event_open, "0, 0, 0, 0, 0", libc::EPERM);
    check("userfaultfd", libc::SYS_userfaultfd, "0", libc::EPERM);
    check("io_uring_setup", libc::SYS_io_uring_setup, "0, 0", libc::ENOSYS);
    check("syslog", libc::SYS_syslog, "3, 0, 0", libc::EPERM);
    check("open_by_handle_at", libc::SYS_open_by_handle_at, "0, 0, 0", libc::EPERM);
    check("socket AF_VSOCK", libc::SYS_socket, "40, 1, 0", libc::EAFNOSUPPORT);
    check("a call of the future", 600, "0", libc::ENOSYS);
    check("ptrace the init", libc::SYS_ptrace, "16, 1, 0, 0", libc::EPERM);
    check(
        "read the init's memory",
        libc::SYS_process_vm_readv,
        "1, do { our $b = q(12345678); pack(q(QQ), unpack(q(Q), pack(q(p), $b)), 8) }, 1, pack(q(QQ), 4194304, 8), 1, 0",
        libc::EPERM,
    );
    check("getpid, to see that the test works", libc::SYS_getpid, "0", 0);
}

#[test]
fn userns_files_of_the_host_are_out_of_reach() {
    let Some(lab) = Lab::new() else { return };
    let secret = lab.dir.path().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(lab.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = secret.display();
    let script = format!(
        "for f in {path} /proc/1/root{path} /proc/self/root{path} /proc/1/cwd/secret /proc/1/exe /proc/1/mem /proc/1/environ /proc/1/maps; do
             (cat $f >/dev/null) 2>/dev/null && echo read $f; done
         ls /proc/1/fd /proc/1/root /proc/1/cwd /proc/1/map_files 2>/dev/null; readlink /proc/1/exe /proc/1/root /proc/1/ns/mnt
         perl -e 'mkdir q(/d); opendir(D, q(/)); chroot(q(/d)); chdir(q(..)) for 1..20; chroot(q(.)); print join(q( ), sort grep {{ /^(usr|etc|secret)$/ }} (opendir(E, q(.)), readdir(E))), qq(\\n); -e q({path}) and print qq(out\\n)'
         cat /proc/self/mountinfo | grep -c {name}; echo done",
        name = lab.dir.path().file_name().unwrap().display()
    );
    let ran = lab.sh(&script);
    assert_eq!(ran.out, ["etc usr", "0", "done"], "{ran:#?}");
}

#[test]
fn userns_no_descriptor_leaks() {
    let Some(lab) = Lab::new() else { return };
    // As some library of the big process would: a descriptor that is not close-on-exec.
    let open = fs::File::open("/").unwrap();
    let leaked = rustix::io::fcntl_dupfd_cloexec(&open, 77).unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    assert!(leaked.as_raw_fd() >= 77);
    let script = "for my $n (0..4000) { my $t = readlink(qq(/proc/self/fd/$n)); print qq($n $t\\n) if defined $t && $t !~ m(^/proc) }";
    let job = lab.job(vec![
        Action::Exec(exec(&["perl", "-e", script])),
        Action::Exec(exec(&["perl", "-e", script])),
    ]);
    let ran = lab.run(job).ok();
    let shapes: Vec<String> =
        ran.out.iter().map(|line| line.split([':', '[']).next().unwrap().to_owned()).collect();
    assert_eq!(
        shapes,
        ["0 /dev/null", "1 pipe", "2 pipe", "0 /dev/null", "1 pipe", "2 pipe"],
        "{ran:#?}"
    );
}

#[test]
fn userns_the_host_is_not_to_be_seen() {
    let Some(lab) = Lab::new() else { return };
    let script = "ls /proc | grep -c '^[0-9]'; env; hostname; cat /proc/sys/kernel/hostname; ls /sys | wc -l
        grep -E '^(NoNewPrivs|Seccomp|CapInh|CapBnd|CapAmb):' /proc/self/status | tr -d '\\t'
        grep -c : /proc/net/dev; cat /proc/keys /proc/kcore /proc/timer_list 2>/dev/null | head -c 1 | wc -c
        (: < /dev/tty) 2>/dev/null || echo no terminal; kill -9 1; echo alive; cat /proc/1/cmdline";
    let mut given = exec(&["sh", "-c", &script.replace("| tr -d '\\t'", "| sed 's/\\t//'")]);
    given.env.insert("ONLY".into(), "this".into());
    let ran = lab.run(lab.job(vec![Action::Exec(given)]));
    let mut out = ran.out.clone();
    let processes: usize = out.remove(0).parse().unwrap();
    assert!(processes <= 4, "{ran:#?}");
    out.retain(|line| {
        !line.starts_with("PATH=")
            && !line.starts_with("PWD=")
            && !line.starts_with("_=")
            && !line.starts_with("SHLVL=")
    });
    let expected = [
        "ONLY=this",
        "inside",
        "inside",
        "0",
        "CapInh:0000000000000000",
        "CapBnd:00000000a00425fb",
        "CapAmb:0000000000000000",
        "NoNewPrivs:1",
        "Seccomp:2",
        "1",
        "0",
        "no terminal",
        "alive",
        "bake-sandbox\0",
    ];
    assert_eq!(out, expected, "{ran:#?}");
}

#[test]
fn userns_masked_and_read_only_files_of_proc() {
    let Some(lab) = Lab::new() else { return };
    let script = "for f in sys/kernel/core_pattern sys/vm/swappiness sys/kernel/hostname sys/net/ipv4/ip_forward sysrq-trigger irq/default_smp_affinity; do
            test -e /proc/$f && (echo 1 > /proc/$f) 2>/dev/null && echo wrote $f; done
        for f in kcore keys timer_list sched_debug latency_stats interrupts kmsg; do test -s /proc/$f && test -n \"$(head -c1 /proc/$f | wc -c | grep 1)\" && echo read $f; done
        for d in acpi scsi asound; do ls -A /proc/$d 2>/dev/null; done; (mount -o remount,rw /proc/sys) 2>/dev/null && echo remounted; umount /proc/sys 2>/dev/null && echo uncovered; echo done";
    assert_eq!(lab.sh(script).line(), "done");
}

#[test]
fn root_device_nodes_of_a_layer_cannot_be_opened() {
    if !tier::root() {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let lower = lab.layer("devices");
    let kind = rustix::fs::FileType::CharacterDevice;
    let mode = rustix::fs::Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, lower.join("zero"), kind, mode, rustix::fs::makedev(1, 5))
        .unwrap();
    fs::set_permissions(lower.join("zero"), fs::Permissions::from_mode(0o666)).unwrap();
    let root = lab.overlay(vec![lower, lab.tools()]);
    let script = "test -c /zero && echo there; head -c 1 /zero >/dev/null 2>&1 && echo read; cp -a /zero /copy 2>/dev/null && head -c 1 /copy 2>/dev/null && echo copied; echo done";
    let ran = lab.run(Job { root: Some(root), ..lab.job(vec![sh(script)]) });
    assert_eq!(ran.out, ["there", "done"], "{ran:#?}");
}

#[test]
fn userns_abstract_sockets_of_the_host_are_out_of_reach() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    use std::os::unix::net::UnixListener;
    use std::os::unix::net::UnixStream;
    let Some(lab) = Lab::new() else { return };
    let name = format!("bake-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    UnixStream::connect_addr(&address).unwrap();
    let script = format!(
        "socket(S, 1, 1, 0) or die; print connect(S, pack(q(S a*), 1, qq(\\0{name}))) ? qq(in\\n) : qq(out\\n)"
    );
    let own = "socket(L, 1, 1, 0); bind(L, pack(q(S a*), 1, qq(\\0own))) or die; listen(L, 1); socket(S, 1, 1, 0); print connect(S, pack(q(S a*), 1, qq(\\0own))) ? qq(in\\n) : qq(out\\n)";
    for network in [Network::None, Network::Host] {
        let actions = vec![
            Action::Exec(exec(&["perl", "-e", &script])),
            Action::Exec(exec(&["perl", "-e", own])),
        ];
        let host = matches!(network, Network::Host);
        let ran = lab.run(Job { network, ..lab.job(actions) }).ok();
        if host && !landlock_scopes() {
            eprintln!("the kernel's Landlock is too old to close this with the host's network");
            continue;
        }
        assert_eq!(ran.out, ["out", "in"], "the host's network: {host}");
    }
}

/// Whether the kernel's Landlock is on and knows scopes (ABI 6): as `landlock_create_ruleset` for
/// its version shows.
fn landlock_scopes() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map_while(|n| n.parse::<u32>().ok());
    let recent = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 12);
    let listed = fs::read_to_string("/sys/kernel/security/lsm")
        .map_or(true, |text| text.contains("landlock"));
    recent && listed
}

#[test]
fn userns_loopback_works_without_a_network() {
    let Some(lab) = Lab::new() else { return };
    let script = "socket(L, 2, 1, 0); bind(L, pack(q(S n a4 x8), 2, 7777, pack(q(C4), 127, 0, 0, 1))) or die qq(bind $!); listen(L, 1);
        socket(S, 2, 1, 0); connect(S, pack(q(S n a4 x8), 2, 7777, pack(q(C4), 127, 0, 0, 1))) or die qq(connect $!);
        socket(T, 2, 1, 0); print connect(T, pack(q(S n a4 x8), 2, 53, pack(q(C4), 192, 0, 2, 1))) ? qq(out\\n) : qq(alone\\n)";
    let ran = lab.run(lab.job(vec![Action::Exec(exec(&["perl", "-e", script]))]));
    assert_eq!(ran.line(), "alone");
}

#[test]
fn userns_the_program_itself_is_out_of_reach() {
    let Some(lab) = Lab::new() else { return };
    let before = (fs::metadata(helper()).unwrap(), digest(&helper()));
    let lower = lab.layer("evil");
    // The kernel starts the interpreter named here while /proc/self/exe still is bake's own
    // program.
    fs::write(lower.join("evil"), "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(lower.join("evil"), fs::Permissions::from_mode(0o755)).unwrap();
    let job = lab.job(vec![Action::Exec(Exec { env: [].into(), ..exec(&["/evil"]) })]);
    lab.run(Job { root: Some(lab.overlay(vec![lower, lab.tools()])), ..job });
    // And what runs there is a sealed copy in memory, or the file through a read-only mount with no
    // path: seen from outside while a job runs.
    let mut seen = 0;
    lab.run_with(lab.job(vec![sh("echo now")]), &Cancel::new().unwrap(), &mut |event| {
        if matches!(event, JobEvent::Line { .. }) {
            seen += helpers_of_this_process().len();
            for pid in helpers_of_this_process() {
                // A user may not look into what became root of a namespace of its own; root may.
                if let Ok(program) = fs::read_link(format!("/proc/{pid}/exe")) {
                    let shown = program.to_string_lossy();
                    assert!(shown.starts_with("/memfd:bake") || shown == "/", "{shown}");
                    let mount = rustix::fs::statvfs(format!("/proc/{pid}/exe")).unwrap();
                    assert!(
                        shown != "/"
                            || mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY)
                    );
                }
            }
        }
    })
    .ok();
    assert!(seen > 0);
    let after = (fs::metadata(helper()).unwrap(), digest(&helper()));
    assert_eq!(
        (before.0.mode(), before.0.mtime_nsec(), before.0.ctime_nsec(), before.1),
        (after.0.mode(), after.0.mtime_nsec(), after.0.ctime_nsec(), after.1)
    );
}

fn helpers_of_this_process() -> Vec<u32> {
    let own = std::process::id().to_string();
    let parent = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1).map(str::to_owned))
    };
    crate::sandbox_lab::alive("bake-sandbox")
        .into_iter()
        .filter(|pid| parent(pid) == Some(own.clone()))
        .collect()
}

fn digest(path: &Path) -> Vec<u8> {
    use sha2::Digest;
    let mut bytes = vec![];
    fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    sha2::Sha256::digest(&bytes).to_vec()
}
