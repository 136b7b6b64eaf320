//! The SSH agent of who builds, for the steps that say so.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::chown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::build_secrets::Place;
use crate::lab::{copy_program, run};

/// An agent that knows one key by name, and remembers what it is asked.
struct Agent {
    socket: PathBuf,
    asked: Arc<Mutex<Vec<u8>>>,
}

fn answer(mut stream: UnixStream, asked: &Mutex<Vec<u8>>) {
    let mut length = [0; 4];
    while stream.read_exact(&mut length).is_ok() {
        let mut question = vec![0; u32::from_be_bytes(length) as usize];
        if stream.read_exact(&mut question).is_err() {
            return;
        }
        asked.lock().expect("whole").push(question[0]);
        let text = b"\x0cthe answer of the agent";
        let mut answer = u32::try_from(text.len()).expect("short").to_be_bytes().to_vec();
        answer.extend_from_slice(text);
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

impl Agent {
    fn new(place: &Place) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("agent-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let socket = place.lab.path(&name);
        let listener = UnixListener::bind(&socket).expect("a socket of the test");
        if let Some((uid, gid)) = place.user() {
            chown(&socket, Some(uid), Some(gid)).expect("we are root");
        }
        let asked: Arc<Mutex<Vec<u8>>> = Arc::default();
        let all = Arc::clone(&asked);
        // It ends with the process: the kernel closes what it waits for.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let asked = Arc::clone(&all);
                std::thread::spawn(move || answer(stream, &asked));
            }
        });
        Self { socket, asked }
    }

    fn asked(&self) -> Vec<u8> {
        self.asked.lock().expect("whole").clone()
    }
}

fn places() -> impl Iterator<Item = Place> {
    [Place::new(), Place::of_user()].into_iter().flatten()
}

/// Asks the agent: which keys are there, then to remove all of them, and prints what comes back.
/// Perl's own calls need no module.
const ASK: &str = r#"
perl -e '
    socket(my $agent, 1, 1, 0) or die "socket: $!";
    connect($agent, pack("S a*", 1, "$ENV{SSH_AUTH_SOCK}\0")) or die "connect: $!";
    for my $question (11, 19) {
        syswrite($agent, pack("N C", 1, $question)) or die "write: $!";
        sysread($agent, my $length, 4) == 4 or die "read: $!";
        sysread($agent, my $answer, unpack("N", $length)) or die "read: $!";
        print $question == 11 ? $answer : unpack("H*", $answer), "\n";
    }
'
"#;

fn recipe(place: &Place, name: &str, keys: &str) {
    copy_program(&place.lab.path("root"), "perl");
    place.recipe(name, &format!("[[step]]\nrun = '''{ASK}'''\n{keys}\n"));
}

#[test]
fn root_net_a_step_asks_the_agent_for_keys_and_cannot_remove_them() {
    for place in places() {
        for (name, user) in [("root", "0:0"), ("app", "app")] {
            let agent = Agent::new(&place);
            recipe(&place, name, &format!("ssh = true\nas = \"{user}\""));
            let ssh = format!("--ssh={}", agent.socket.display());
            let ran = place.bake(&["build", "--progress=plain", &ssh, &format!("{name}.toml")]);
            assert_eq!(ran.code, 0, "{}", ran.err);
            assert!(ran.err.contains("the answer of the agent"), "{}", ran.err);
            assert!(ran.err.contains("| 05"), "SSH_AGENT_FAILURE: {}", ran.err);
            assert_eq!(agent.asked(), [11], "the agent was asked for its keys alone");
            // Nothing of it is in the image.
            let ran = place.bake(&["run", &format!("{name}:1"), "ls", "-a", "/dev/bake"]);
            assert!(!ran.out.contains("ssh-agent"), "{}", ran.out);
        }
    }
}

#[test]
fn root_net_the_variable_is_enough_and_a_step_that_does_not_say_so_has_no_agent() {
    for place in places() {
        let agent = Agent::new(&place);
        recipe(&place, "with", "ssh = true");
        let mut command = place.command(&["build", "--ssh", "with.toml"]);
        command.env("SSH_AUTH_SOCK", &agent.socket);
        let ran = run(&mut command);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(agent.asked(), [11]);
        place.recipe("without", "[[step]]\nrun = 'test -z \"${SSH_AUTH_SOCK:-}\"'\n");
        let mut command = place.command(&["build", "--ssh", "without.toml"]);
        command.env("SSH_AUTH_SOCK", &agent.socket);
        assert_eq!(run(&mut command).code, 0);
    }
}

#[test]
fn root_net_a_missing_agent_ends_the_build_before_any_step() {
    for place in places() {
        recipe(&place, "with", "ssh = true");
        let ran = place.bake(&["build", "with.toml"]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains("it uses an SSH agent, and none is given"), "{}", ran.err);
        assert!(ran.err.contains("--ssh"), "{}", ran.err);
        let mut command = place.command(&["build", "--ssh", "with.toml"]);
        command.env_remove("SSH_AUTH_SOCK");
        let ran = run(&mut command);
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(ran.err.contains("SSH_AUTH_SOCK is not set"), "{}", ran.err);
        let ran = place.bake(&["build", "--ssh=/nowhere/agent", "with.toml"]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains("it uses the SSH agent at /nowhere/agent"), "{}", ran.err);
        fs::write(place.lab.path("file"), "no socket").expect("a file");
        let ran = place.bake(&["build", "--ssh=file", "with.toml"]);
        assert_eq!(ran.code, 1, "{}", ran.err);
    }
}
