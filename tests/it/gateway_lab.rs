//! An outside world for the networks of steps: a network namespace that stands for the host's, with
//! public addresses (those for documentation) and private ones, servers on all of them, and names.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use bake::gateway::{self, Gateway, HostTrust, Report};
use bake::job::{Action, Ended};
use bake::reach::Reach;
use bake::sandbox::{Cancel, PolicyFile};
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;

use crate::sandbox_lab::{Lab, Ran, exec};
use crate::sandbox_user::somebody;
use crate::tier;

/// Public, and the host's.
pub(crate) const ADDRESSES: &[&str] = &[
    "203.0.113.7/24",
    "203.0.113.8/24",
    "198.51.100.7/24",
    "10.1.2.3/8",
    "169.254.169.254/16",
    "192.168.77.1/24",
    "172.16.5.5/12",
    "100.64.0.9/10",
];

/// Names that the host knows.
const HOSTS: &str = "127.0.0.1 localhost inner.example\n203.0.113.7 web.example files.web.example \
    Mixed.Example\n203.0.113.8 other.example direct.example\n10.1.2.3 db.example\n203.0.113.7 both.example\n10.1.2.3 \
    both.example\n2001:db8::7 six.example\n169.254.169.254 metadata.example\n";

/// Gives back what it gets.
pub(crate) const ECHO: u16 = 7007;
/// Takes all, and answers after the end with the number of bytes and their sum.
pub(crate) const SINK: u16 = 9100;
/// Sends [`MUCH`] bytes.
pub(crate) const SOURCE: u16 = 9200;
/// Answers `early` and closes without having read anything.
pub(crate) const EARLY: u16 = 9300;
/// Never says anything.
pub(crate) const SILENT: u16 = 9400;

/// Bytes of a long transfer.
pub(crate) const MUCH: usize = 50 << 20;

/// A byte of a long transfer.
pub(crate) fn byte(at: usize) -> u8 {
    (at.wrapping_mul(31) >> 3) as u8
}

const MARK: &str = "BAKE_TEST_OUTSIDE";

/// Runs `cases` in an outside world: as root, and as a user with subordinate ids. `name`: of the
/// test that calls this.
pub(crate) fn outside(name: &str, cases: impl FnOnce() + Send) {
    if std::env::var_os(MARK).is_some() {
        return cases();
    }
    if !tier::root() || !tier::sandbox() || !tier::tool("ip") || !tier::tool("perl") {
        return;
    }
    thread::scope(|scope| {
        let inside = || {
            world();
            cases();
            again_as_user(name);
        };
        if let Err(panic) = scope.spawn(inside).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Turns this thread's network and mounts into the outside world's.
fn world() {
    let flags = UnshareFlags::FS | UnshareFlags::NEWNS | UnshareFlags::NEWNET;
    // SAFETY: no descriptors are unshared, and this thread alone gets directories of its own.
    unsafe { rustix::thread::unshare_unsafe(flags) }.expect("root may");
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .expect("root may");
    let dir = tempfile::tempdir().expect("a directory");
    for (name, text) in [("hosts", HOSTS), ("resolv.conf", "nameserver 203.0.113.53\n")] {
        let file = dir.path().join(name);
        fs::write(&file, text).expect("our own file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("our own file");
        let at = format!("/etc/{name}");
        rustix::mount::mount(&file, &at, "", MountFlags::BIND, None).expect("root may");
    }
    let ip = |args: &str| {
        let made = Command::new("ip").args(args.split(' ')).status().expect("ip starts");
        assert!(made.success(), "ip {args}");
    };
    ip("link set lo up");
    for address in ADDRESSES.iter().chain(&["203.0.113.53/24"]) {
        ip(&format!("addr add {address} dev lo"));
    }
    // A host may do without IPv6.
    let _ = Command::new("ip").args("addr add 2001:db8::7/128 dev lo nodad".split(' ')).status();
    name_server();
    let serve = |port: u16, each: fn(TcpStream)| {
        let listener = TcpListener::bind(("0.0.0.0", port)).expect("a free port");
        accept(listener, each);
        if let Ok(listener) = TcpListener::bind(("2001:db8::7", port)) {
            accept(listener, each);
        }
    };
    for port in [80, 443, 22, ECHO, 8081, 5432] {
        serve(port, echo);
    }
    serve(3128, proxy);
    serve(SINK, sink);
    serve(SOURCE, source);
    serve(EARLY, |mut stream| drop(stream.write_all(b"early")));
    serve(SILENT, |stream| thread::sleep(Duration::from_secs(600).min(until_gone(&stream))));
}

/// Nobody is there to wait for: the socket ends with the test.
fn until_gone(stream: &TcpStream) -> Duration {
    let mut stream = stream;
    while matches!(stream.read(&mut [0; 1024]), Ok(1..)) {}
    Duration::ZERO
}

fn accept(listener: TcpListener, each: fn(TcpStream)) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || each(stream));
        }
    });
}

fn echo(mut stream: TcpStream) {
    let mut bytes = [0; 64 * 1024];
    while let Ok(got @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..got]).is_err() {
            return;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}

fn sink(mut stream: TcpStream) {
    let (mut bytes, mut count, mut wrong) = (vec![0; 1 << 20], 0, 0);
    while let Ok(got @ 1..) = stream.read(&mut bytes) {
        wrong += bytes[..got].iter().zip(count..).filter(|(b, at)| **b != byte(*at)).count();
        count += got;
    }
    let _ = stream.write_all(format!("{count} {wrong}\n").as_bytes());
}

/// A proxy: makes connections and says so; of requests it gives back the heads.
fn proxy(mut stream: TcpStream) {
    let (mut head, mut byte) = (vec![], [0]);
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let Some(to) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else {
        let _ = stream.write_all(head.trim_end().replace("\r\n", "|").as_bytes());
        return;
    };
    let Ok(mut other) = TcpStream::connect(to) else {
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n");
        return;
    };
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    let _ = stream.write_all(format!("to {to} ").as_bytes());
    let mut back = other.try_clone().expect("a copy");
    let mut there = stream.try_clone().expect("a copy");
    let up = thread::spawn(move || {
        let _ = std::io::copy(&mut there, &mut other);
        let _ = other.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut back, &mut stream);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = up.join();
}

fn source(mut stream: TcpStream) {
    let bytes: Vec<u8> = (0..MUCH).map(byte).collect();
    let _ = stream.write_all(&bytes);
}

/// A name server that knows of nothing.
fn name_server() {
    let socket = UdpSocket::bind("203.0.113.53:53").expect("a free port");
    thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((got, from)) = socket.recv_from(&mut message) {
            if got > 12 {
                message[2] |= 0x80;
                message[3] = 3;
                let _ = socket.send_to(&message[..got], from);
            }
        }
    });
}

/// Runs this very test once more in the same world.
fn again_as_user(name: &str) {
    let Some((user, uid, gid)) = somebody() else {
        tier::skip("no user of this host has subordinate ids (adduser makes one that has)");
        return;
    };
    let dir =
        tempfile::Builder::new().prefix("bake-test-").tempdir_in("/tmp").expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("our own");
    let (tests, bake, base) =
        (dir.path().join("tests"), dir.path().join("bake"), dir.path().join("base"));
    fs::copy(std::env::current_exe().expect("this program"), &tests).expect("a copy");
    fs::copy(crate::sandbox_lab::helper(), &bake).expect("a copy");
    fs::create_dir(&base).expect("our own");
    std::os::unix::fs::chown(&base, Some(uid), Some(gid)).expect("root may");
    let ids = [format!("--reuid={uid}"), format!("--regid={gid}")];
    let mut command = Command::new("setpriv");
    command.args(ids).args(["--clear-groups", "--inh-caps=-all", "--"]).arg(&tests);
    command.args([name, "--exact", "--nocapture"]);
    command.env("BAKE_TEST_HELPER", &bake).env("BAKE_TEST_BASE", &base).env(MARK, "1");
    command.env("HOME", &base).env("USER", &user).current_dir(&base);
    let output = command.output().expect("setpriv starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "as {user}: {text}{why}");
}

/// What a script did with a network, and how it ended.
pub(crate) struct Done {
    pub(crate) ran: Ran,
    pub(crate) report: Report,
    pub(crate) took: Duration,
}

impl Done {
    pub(crate) fn out(&self) -> String {
        self.ran.out.join("\n")
    }

    /// What was refused, as people read it.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.report.refused.iter().map(ToString::to_string).collect()
    }

    /// Hosts, ports and connections.
    pub(crate) fn reached(&self) -> Vec<(String, u16, u64)> {
        let reached = self.report.reached.iter();
        reached.map(|one| (one.host.clone(), one.port, one.connections)).collect()
    }
}

/// What a list of a recipe means; nothing: every public host.
pub(crate) fn reach(list: &[&str]) -> Reach {
    if list.is_empty() {
        return Reach::Internet;
    }
    Reach::only(list.iter().map(|text| text.parse().expect("an entry")).collect())
}

/// Runs a program in a network that reaches `list`.
pub(crate) fn with_network(lab: &Lab, list: &[&str], argv: &[&str], cancel: &Cancel) -> Done {
    with_trust(lab, list, HostTrust::default(), argv, cancel)
}

fn with_trust(lab: &Lab, list: &[&str], trust: HostTrust, argv: &[&str], cancel: &Cancel) -> Done {
    let (gateway, network) = Gateway::open(reach(list), Arc::new(trust)).expect("a network");
    let mut job = lab.job(vec![Action::Exec(exec(argv))]);
    job.network = network;
    let at = "/etc/resolv.conf".into();
    job.files.push(PolicyFile { at, bytes: gateway::resolv_conf(), mode: 0o644 });
    let hosts = b"127.0.0.1 localhost\n".to_vec();
    job.files.push(PolicyFile { at: "/etc/hosts".into(), bytes: hosts, mode: 0o644 });
    let begun = Instant::now();
    let ran = lab.run_with(job, cancel, &mut |_| {});
    let took = begun.elapsed();
    Done { ran, report: gateway.finish(true), took }
}

/// Runs a script of bash.
pub(crate) fn sh(lab: &Lab, list: &[&str], script: &str) -> Done {
    with_network(lab, list, &["bash", "-c", script], &Cancel::new().expect("a pipe"))
}

/// Runs a script of perl, with what it needs to connect: `to(HOST, PORT)` gives a socket or the
/// number of the error.
pub(crate) fn perl(lab: &Lab, list: &[&str], script: &str) -> Done {
    perl_by(lab, list, HostTrust::default(), script)
}

/// The same on a host that goes out by `trust`.
pub(crate) fn perl_by(lab: &Lab, list: &[&str], trust: HostTrust, script: &str) -> Done {
    let script = format!(
        "$| = 1; $SIG{{PIPE}} = 'IGNORE'; sub at {{ pack('S n a4 x8', 2, $_[1], \
            scalar gethostbyname($_[0]) || return) }} sub to {{ my $s; my $a = at(@_) or return \
            'unknown'; socket($s, 2, 1, 0) or die; connect($s, $a) ? $s : $! + 0 }}\n{script}"
    );
    let cancel = Cancel::new().expect("a pipe");
    with_trust(lab, list, trust, &["perl", "-e", &script], &cancel)
}

/// Makes sure that it went well.
#[track_caller]
pub(crate) fn fine(done: Done) -> Done {
    assert!(matches!(done.ran.ended, Ended::Done(_)), "{:?} {:?}", done.ran, done.report);
    done
}
