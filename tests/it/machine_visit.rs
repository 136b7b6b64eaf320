//! A machine under test, with a thread in place of QEMU and the guest: what is read on its console,
//! what is asked inside, and what a test of it comes to.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use bake::machine::{Asked, Check, Patience, Trouble, Visit, Visited};
use bake::step::Probe;

/// What a guest answers to the scripts that are asked in it: the first entry whose words are in a
/// script gives exit status and output. Words that are not there: no answer at all.
type Answers = &'static [(&'static str, i32, &'static str)];

/// How a guest lives.
#[derive(Clone, Copy)]
struct Guest {
    /// What it prints on its console at the start.
    prints: &'static str,
    /// Whether and what it answers.
    answers: Option<Answers>,
    /// It goes when it is asked to.
    ends: bool,
    /// It goes at once, when it has printed.
    gone: bool,
}

const UP: Answers = &[
    ("is-system-running", 0, "running\n"),
    ("poweroff", 0, ""),
    ("list-jobs", 0, ""),
    ("echo fine", 0, "fine\n"),
    ("echo sad", 3, "so sad\n"),
    ("stat", 0, "644 0 0\n"),
    ("cat", 0, "vm-web\n"),
];

/// In place of an exit status: the port breaks off, and the console a moment later.
const DIES_HERE: i32 = -1;

const GOOD: Guest = Guest { prints: "Welcome\n", answers: Some(UP), ends: true, gone: false };

/// Lives until it is asked to end, or has gone.
fn live(dir: &Path, guest: Guest) {
    let listen = |name: &str| UnixListener::bind(dir.join(name)).expect("a socket");
    let (monitor, port, console) = (listen("monitor"), listen("port"), listen("console"));
    let take = |listener: &UnixListener| listener.accept().expect("a visitor").0;
    let (mut monitor, mut port, mut console) = (take(&monitor), take(&port), take(&console));
    console.write_all(guest.prints.as_bytes()).expect("a reader");
    if guest.gone {
        return;
    }
    let Some(answers) = guest.answers else {
        // Whoever cannot be asked sees the button.
        let mut pressed = String::new();
        let _ = BufReader::new(&mut monitor).read_line(&mut pressed);
        if !guest.ends {
            let _ = console.read(&mut [0]);
        }
        return;
    };
    port.write_all(b"bake 1\n").expect("a reader");
    let mut reader = BufReader::new(port.try_clone().expect("a socket"));
    loop {
        let mut lines = String::new();
        if reader.read_line(&mut lines).unwrap_or(0) == 0 {
            return;
        }
        let mut script = String::new();
        for _ in 0..lines.trim().parse().expect("a number") {
            reader.read_line(&mut script).expect("a line");
        }
        let found = answers.iter().find(|(words, ..)| script.contains(words));
        let Some((words, status, output)) = found else { continue };
        if *status == DIES_HERE {
            port.shutdown(Shutdown::Both).expect("a socket");
            thread::sleep(Duration::from_millis(500));
            return;
        }
        let answer = format!("{status} {}\n{output}", output.len());
        if port.write_all(answer.as_bytes()).is_err() || *words == "poweroff" && guest.ends {
            return;
        }
    }
}

fn asked(asked: Asked) -> Check {
    Check { asked: vec![("it is so".to_owned(), asked)], within: Duration::from_millis(700) }
}

fn run(command: &str) -> Asked {
    Asked::Run {
        argv: ["sh", "-c", command].map(str::to_owned).into(),
        env: [].into(),
        cwd: "/".to_owned(),
        user: "root".to_owned(),
        file: None,
    }
}

fn visit(guest: Guest, checks: Vec<Check>, may_fail: &[&str]) -> (Visited, Vec<u64>, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let may_fail: BTreeSet<String> = may_fail.iter().map(|unit| (*unit).to_owned()).collect();
    let patience = Patience {
        life: Some(Duration::from_secs(2)),
        up: Duration::from_secs(20),
        off: Duration::from_secs(5),
    };
    let visit = Visit { checks, may_fail, ports: vec![], patience };
    let at = dir.path();
    let mut counts = vec![];
    let visited = thread::scope(|scope| {
        scope.spawn(move || live(at, guest));
        visit.carry_out(at, &mut |count| counts.push(count))
    });
    let log = std::fs::read_to_string(at.join("console.log")).unwrap_or_default();
    (visited, counts, log)
}

#[track_caller]
fn trouble(guest: Guest, checks: Vec<Check>) -> Trouble {
    visit(guest, checks, &[]).0.trouble.expect("trouble")
}

#[test]
fn machine_that_is_well_is_asked_and_ended() {
    let file = Probe::File {
        path: "/etc/hostname".to_owned(),
        mode: Some(0o644),
        owner: None,
        contains: Some("vm-web".to_owned()),
        sha256: None,
    };
    let checks = vec![asked(run("echo fine")), asked(Asked::Look(file))];
    let (visited, counts, log) = visit(GOOD, checks, &[]);
    assert_eq!(visited.trouble, None);
    assert!(visited.up.is_some() && visited.held.len() == 2, "{visited:?}");
    assert_eq!(counts, [0, 1, 2]);
    assert_eq!(log, "Welcome\n");
}

#[test]
fn machine_whose_check_does_not_hold_is_reported_with_what_it_printed() {
    let (visited, counts, _) =
        visit(GOOD, vec![asked(run("echo fine")), asked(run("echo sad"))], &[]);
    let trouble = visited.trouble.expect("trouble");
    assert_eq!(trouble.why, ["it does not hold that it is so", "exit status 3"]);
    assert_eq!(trouble.tail, ["check| so sad"]);
    assert_eq!((visited.held.len(), counts.as_slice()), (1, &[0, 1][..]));
    let wrong = Probe::File {
        path: "/f".to_owned(),
        mode: Some(0o600),
        owner: None,
        contains: Some("red".to_owned()),
        sha256: None,
    };
    let trouble = self::trouble(GOOD, vec![asked(Asked::Look(wrong))]);
    let why = trouble.why.join("\n");
    assert!(why.contains("mode 0644 instead of 0600"), "{why}");
    assert!(why.contains("/f does not contain \"red\""), "{why}");
}

#[test]
fn machine_with_a_failed_unit_fails_by_name_with_its_journal() {
    const FAILED: Answers = &[
        ("is-system-running", 1, "degraded\nbad.service loaded failed failed A bad one\n"),
        ("journalctl", 0, "no such luck\nMain process exited\n"),
        ("poweroff", 0, ""),
    ];
    let guest = Guest { answers: Some(FAILED), ..GOOD };
    let found = trouble(guest, vec![]);
    assert_eq!(found.why, ["bad.service failed"]);
    assert_eq!(found.tail, ["bad.service| no such luck", "bad.service| Main process exited"]);
    assert_eq!(found.hints, [""; 0]);
    // Unless it may.
    let (visited, ..) = visit(guest, vec![], &["bad.service"]);
    assert_eq!(visited.trouble, None);
}

#[test]
fn machine_whose_unit_writes_to_the_root_is_reported_with_the_place() {
    const FAILED: Answers = &[
        ("is-system-running", 1, "degraded\nbad.service loaded failed failed A bad one\n"),
        (
            "journalctl",
            0,
            "cannot create /opt/b: Read-only file system\n\
                cannot create /opt/a: Read-only file system\n\
                cannot create /opt/b: Read-only file system\n",
        ),
        ("poweroff", 0, ""),
    ];
    let found = trouble(Guest { answers: Some(FAILED), ..GOOD }, vec![]);
    let why = "bad.service could not write to /opt/a, /opt/b: the root is read-only";
    assert_eq!(found.why, ["bad.service failed", why]);
    assert!(found.hints[0].contains("data disk"), "{found:?}");
}

#[test]
fn machine_that_panics_is_not_waited_for() {
    let lines = "[ 1.0] Kernel panic - not syncing: Attempted to kill init!\n[ 1.1] Rebooting\n";
    for answers in [None, Some(UP)] {
        let begun = Instant::now();
        let guest = Guest { prints: lines, answers, ..GOOD };
        let found = trouble(guest, vec![]);
        assert_eq!(found.why, ["the kernel panicked: Attempted to kill init!"]);
        assert!(!found.starved, "{found:?}");
        assert!(found.tail.iter().any(|line| line.ends_with("Rebooting")), "{found:?}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    }
    let lines = "You are in emergency mode. After logging in, type journalctl -xb\n";
    let found = trouble(Guest { prints: lines, answers: None, ..GOOD }, vec![]);
    assert_eq!(found.why, ["it is in emergency mode"]);
}

#[test]
fn machine_whose_clock_got_no_time_is_known_by_that() {
    let lines = "[ 0.2] Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with \
        apic=debug and send a report.  Then try booting with the 'noapic' option.\n";
    let found = trouble(Guest { prints: lines, answers: None, ..GOOD }, vec![]);
    assert!(found.starved, "{found:?}");
}

#[test]
fn machine_that_ends_by_itself_fails() {
    let lines = "bye\n[ 9.0] reboot: Power down\n";
    let found = trouble(Guest { gone: true, prints: lines, ..GOOD }, vec![]);
    assert_eq!(found.why, ["the machine ended by itself"]);
    assert_eq!(found.tail, ["console| bye", "console| [ 9.0] reboot: Power down"]);
}

#[test]
fn machine_whose_qemu_is_killed_is_reported_as_that() {
    let killed = [
        "the machine ended by itself",
        "nothing on its console announced that: QEMU may have been killed",
    ];
    let found = trouble(Guest { gone: true, prints: "bye\n", ..GOOD }, vec![]);
    assert_eq!(found.why, killed);
    // In the middle of a question: the port ends before the console does.
    const DIES: Answers = &[("is-system-running", DIES_HERE, "")];
    let found = trouble(Guest { answers: Some(DIES), ..GOOD }, vec![]);
    assert_eq!(found.why, killed);
}

#[test]
fn machine_without_life_is_known_by_that() {
    let found = trouble(Guest { prints: "", answers: None, ..GOOD }, vec![]);
    assert!(found.lifeless, "{found:?}");
}

#[test]
fn machine_that_does_not_end_is_reported_with_what_hinders_it() {
    const HANGS: Answers = &[
        ("is-system-running", 0, "running\n"),
        ("poweroff", 0, ""),
        ("list-jobs", 0, "7 poweroff.target start waiting\n9 hang.service stop running\n"),
    ];
    let guest = Guest { answers: Some(HANGS), ends: false, ..GOOD };
    let (visited, ..) = visit(guest, vec![], &[]);
    let why = visited.trouble.expect("trouble").why;
    assert_eq!(why, ["the machine did not end within 5 s", "hang.service does not stop"]);
}

#[test]
fn machine_without_systemd_is_looked_at_from_outside() {
    let guest =
        Guest { prints: "[ 1.0] bake: nobody answers inside: no systemd\n", answers: None, ..GOOD };
    let (visited, ..) = visit(guest, vec![], &[]);
    assert_eq!(visited.trouble, None);
    let found = trouble(guest, vec![asked(run("true"))]);
    assert!(found.why[1].contains("nobody answers inside"), "{found:?}");
}
