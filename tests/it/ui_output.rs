//! stdout and stderr as people and scripts have them: closed, full, a pipe that nobody reads, a
//! narrow or dumb terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::lab::{Lab, Run, run};
use crate::tier;

/// A lab with a published image.
fn lab() -> Option<Lab> {
    if !tier::sandbox() {
        return None;
    }
    let lab = Lab::new();
    lab.write("tiny.toml", "[image]\nname = \"tiny\"\nversion = \"1\"\n[base]\nscratch = true\n[[step]]\nmkdir = \"/a\"\n");
    assert_eq!(lab.bake(["fmt", "tiny.toml"]).code, 0);
    let built = lab.bake(["build", "tiny.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
    Some(lab)
}

/// One of each command that only reports something.
const REPORTING: &[&[&str]] = &[
    &["list"],
    &["list", "--json"],
    &["show", "tiny"],
    &["verify"],
    &["plan", "tiny.toml"],
    &["check", "tiny.toml"],
    &["fmt", "--check", "tiny.toml"],
    &["doctor"],
    &["schema"],
    &["completions", "bash"],
    &["man"],
    &["new", "--list"],
    &["build", "tiny.toml"],
];

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let Some(lab) = lab() else { return };
    for args in REPORTING {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let printed = run_with(lab.command(*args).stdout(writer));
        assert_eq!(printed.code, 0, "{args:?}: {}", printed.err);
        assert!(!printed.err.contains("panicked"), "{args:?}: {}", printed.err);
    }
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let Some(lab) = lab() else { return };
    for args in [
        &["list"][..],
        &["list", "--json"],
        &["schema"],
        &["man"],
        &["completions", "bash"],
        &["build", "tiny.toml"],
    ] {
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        let printed = run_with(lab.command(args).stdout(full));
        assert_eq!(printed.code, 12, "{args:?}: {}", printed.err);
        assert!(
            printed.err.contains("cannot write the result to stdout")
                && printed.err.contains("No space left"),
            "{args:?}: {}",
            printed.err
        );
    }
    // The story is not the result.
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    let mut command = lab.command(["build", "tiny.toml"]);
    let printed = command.stdin(Stdio::null()).stderr(full).output().expect("bake starts");
    assert!(
        printed.status.success() && printed.stdout.starts_with(b"tiny:1 sha256:"),
        "{printed:?}"
    );
}

#[test]
fn nothing_needs_stdin_or_an_open_stderr() {
    let Some(lab) = lab() else { return };
    for args in REPORTING {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "exec \"$0\" \"$@\" <&- 2>&-", env!("CARGO_BIN_EXE_bake")]).args(*args);
        shell
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", lab.path("home"))
            .env("BAKE_STORE", lab.path("store"));
        let printed = run(shell.current_dir(lab.path("")));
        assert_eq!(printed.code, 0, "{args:?}: {}", printed.out);
    }
}

/// Runs bake in a terminal of its own and returns what that got to see.
fn in_terminal(lab: &Lab, columns: u16, term: &str, args: &str) -> Run {
    let script = format!("stty cols {columns} rows 24; exec \"$BAKE\" {args}");
    let mut command = Command::new("script");
    command
        .args(["-q", "-e", "-c", &script, "/dev/null"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", lab.path("home"));
    command
        .env("BAKE", env!("CARGO_BIN_EXE_bake"))
        .env("BAKE_STORE", lab.path("store"))
        .env("TERM", term)
        .env("SHELL", "/bin/sh");
    run(command.current_dir(lab.path("")))
}

#[test]
fn a_dumb_terminal_gets_plain_lines() {
    if !tier::tool("script") {
        return;
    }
    let Some(lab) = lab() else { return };
    let plain = in_terminal(&lab, 80, "dumb", "build tiny.toml --set-version 2");
    assert_eq!(plain.code, 0, "{}", plain.out);
    assert!(plain.out.contains("mkdir /a\r\n") && !plain.out.contains('\u{1b}'), "{:?}", plain.out);
    let doctor = in_terminal(&lab, 80, "dumb", "doctor");
    assert!(
        doctor.out.contains("bake can build here") && !doctor.out.contains('\u{1b}'),
        "{:?}",
        doctor.out
    );
    let colored = in_terminal(&lab, 80, "xterm", "doctor");
    assert!(colored.out.contains('\u{1b}'), "{:?}", colored.out);
    // stdout is no terminal, though stderr is one.
    let piped = in_terminal(&lab, 80, "xterm", "doctor | cat");
    assert!(
        piped.out.contains("bake can build here") && !piped.out.contains('\u{1b}'),
        "{:?}",
        piped.out
    );
}

/// Runs a command with its own stdout, and returns what it says on stderr.
fn run_with(command: &mut Command) -> Run {
    let mut child =
        command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("bake starts");
    let mut err = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().expect("piped"), &mut err)
        .expect("text");
    let status = child.wait().expect("our own child");
    Run { code: status.code().unwrap_or(-1), out: String::new(), err }
}

/// Ctrl-C at a terminal: nothing of what moved stays. The terminal would write `^C` behind the last
/// line, which ends at the edge, and so move everything that is to be cleared by one line; and
/// afterwards the terminal shows it again.
#[test]
fn nothing_that_moved_stays_after_ctrl_c() {
    if !tier::sandbox() || !tier::tool("script") || !tier::tool("stty") {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    let step = "[[step]]\nrun = \"echo mark''er; sleep 1000\"\n";
    lab.write(
        "tiny.toml",
        &format!("[image]\nname = \"tiny\"\nversion = \"1\"\n[base]\npath = \"root\"\n{step}"),
    );
    let line =
        "stty cols 60 rows 24; trap : INT; \"$BAKE\" build tiny.toml; echo \"code $?\"; stty -a";
    let mut command = Command::new("script");
    command
        .args(["-q", "-e", "-c", line, "/dev/null"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", lab.path("home"));
    command
        .env("BAKE", env!("CARGO_BIN_EXE_bake"))
        .env("BAKE_STORE", lab.path("store"))
        .env("TERM", "xterm")
        .env("SHELL", "/bin/sh")
        .current_dir(lab.path(""));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script starts");
    let (mut stdin, mut stdout) =
        (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let mut printed = vec![];
    let mut part = [0; 4096];
    while !String::from_utf8_lossy(&printed).contains("marker") {
        let got = stdout.read(&mut part).expect("a pipe");
        assert!(got > 0, "{}", String::from_utf8_lossy(&printed));
        printed.extend_from_slice(&part[..got]);
    }
    stdin.write_all(b"\x03").expect("it is taken");
    let before = printed.len();
    stdout.read_to_end(&mut printed).expect("a pipe");
    child.wait().expect("it ends");
    let after = String::from_utf8_lossy(&printed[before..]).into_owned();
    let (story, modes) = after.split_once("code 130").unwrap_or_else(|| panic!("{after:?}"));
    assert!(story.contains("interrupted") && !story.contains("^C"), "{story:?}");
    assert!(modes.contains(" echoctl"), "{modes:?}");
}
