//! `bake run`: a throwaway machine of a published image, as a person and a script see it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use crate::build_gate::busybox_root;
use crate::lab::{Lab, Run, run};
use crate::sandbox_lab::alive;
use crate::tier;

/// A lab with the published image `web:1`: busybox, user `app`, directory `/www`, which starts a
/// web server on port 80.
pub(crate) fn lab() -> Option<Lab> {
    if !tier::sandbox() || !tier::tool("busybox") {
        return None;
    }
    let lab = Lab::new();
    busybox_root(&lab);
    lab.write(
        "web.toml",
        "[image]\nname = \"team/web\"\nversion = \"1\"\n[base]\npath = \"root\"\n[config]\nuser = \"app\"\nworkdir = \"/www\"\nenv.COLOR = \"blue\"\n\
         cmd = [\"httpd\", \"-f\", \"-v\", \"-p\", \"80\", \"-h\", \"/www\"]\n",
    );
    let built = lab.bake(["build", "web.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
    Some(lab)
}

/// Runs a shell script in a machine with these options.
fn sh(lab: &Lab, options: &[&str], script: &str) -> Run {
    let command = ["--", "sh", "-c", script];
    lab.bake(["run", "team/web:1"].iter().chain(options).chain(&command))
}

/// Starts a machine that says `ready` on its first line, and waits for that.
fn started(command: &mut Command) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("bake starts");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    (child, out)
}

fn kill(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).expect("it is ours and not reaped");
}

#[test]
fn the_program_ends_as_it_ends() {
    let Some(lab) = lab() else { return };
    let before = lab.images_hash();
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
        ("exit 255", 255),
    ] {
        let ran = sh(&lab, &[], script);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (code, "", ""), "{script}");
    }
    let ran = sh(&lab, &[], "id -un; pwd; echo $COLOR; echo oops >&2");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "app\n/www\nblue\n", "oops\n"));
    let ran = lab.bake(["run", "team/web", "--", "/no/such/program"]);
    assert_eq!((ran.code, ran.out.as_str()), (127, ""), "{}", ran.err);
    assert!(ran.err.contains("there is no program /no/such/program"), "{}", ran.err);
    assert_eq!(lab.images_hash(), before);
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn options_take_the_place_of_what_the_image_says() {
    let Some(lab) = lab() else { return };
    let script = "echo $COLOR $B; id -u; pwd";
    let ran = sh(&lab, &["-e", "COLOR=red", "--env", "B=x=y", "-u", "root", "-w", "/etc"], script);
    assert_eq!(ran.out, "red x=y\n0\n/etc\n", "{}", ran.err);
    let ran = lab.bake(["run", "team/web:1", "--entrypoint", "echo", "--", "a b", "c"]);
    assert_eq!(ran.out, "a b c\n", "{}", ran.err);
    let ran = sh(&lab, &["-u", "stranger"], "true");
    assert_eq!(ran.code, 127, "{}", ran.err);
    assert!(ran.err.contains("stranger"), "{}", ran.err);
    let ran = sh(
        &lab,
        &[],
        "cat /etc/hostname /proc/sys/kernel/hostname; echo x > /etc/hostname || echo refused",
    );
    assert_eq!(ran.out, "web\nweb\nrefused\n", "{}", ran.err);
}

#[test]
fn bytes_pass_as_they_are() {
    let Some(lab) = lab() else { return };
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n * 7 % 256) as u8).collect();
    let mut child = lab
        .command(["run", "team/web:1", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("bake starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let given = bytes.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&given));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic").expect("all is taken");
    assert!(output.status.success() && output.stdout == bytes, "{} bytes", output.stdout.len());
    // A reader that goes away ends the writer, not bake.
    let mut child = lab
        .command(["run", "team/web:1", "--", "yes"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("bake starts");
    let mut out = child.stdout.take().expect("a pipe");
    out.read_exact(&mut [0; 100]).expect("it writes");
    drop(out);
    assert_eq!(child.wait().expect("it ends").code(), Some(128 + 13), "by SIGPIPE, as in a shell");
}

#[test]
fn a_machine_is_thrown_away_but_volumes_stay() {
    let Some(lab) = lab() else { return };
    fs::create_dir(lab.path("data")).expect("our own directory");
    let data = format!("{}:/data", lab.path("data").display());
    let options = ["-u", "root", "-v", &data];
    let ran = sh(
        &lab,
        &options,
        "echo kept > /data/file; echo gone > /www/index.html; echo gone > /made; cat /www/index.html",
    );
    assert_eq!((ran.code, ran.out.as_str()), (0, "gone\n"), "{}", ran.err);
    let ran = sh(&lab, &options, "cat /data/file /www/index.html; test ! -e /made");
    assert_eq!((ran.code, ran.out.as_str()), (0, "kept\nblue\n"), "{}", ran.err);
    assert_eq!(fs::read_to_string(lab.path("data/file")).expect("it stayed"), "kept\n");
    let read_only = format!("{data}:ro");
    let ran =
        sh(&lab, &["-u", "root", "--volume", &read_only], "cat /data/file; echo x > /data/other");
    assert_eq!(ran.out, "kept\n");
    assert!(ran.code != 0 && ran.err.contains("Read-only"), "{}", ran.err);
    assert!(!lab.path("data/other").exists());
    // A relative directory, and one that the image has already.
    let ran = sh(&lab, &["-v", "data:/www"], "cat /www/file");
    assert_eq!(ran.out, "kept\n", "{}", ran.err);
    for (volume, why) in
        [("/no/such/directory:/data", "/no/such/directory"), ("no.toml:/data", "no.toml")]
    {
        let ran = sh(&lab, &["-v", volume], "true");
        assert!(ran.code == 1 && ran.err.contains(why), "{}", ran.err);
    }
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn a_published_port_leads_inside() {
    let Some(lab) = lab() else { return };
    // A port that was free just now.
    let port =
        TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let published = format!("{port}:80");
    let script = "echo ready; exec httpd -f -p 80 -h /www";
    let (mut child, _out) = started(&mut lab.command([
        "run",
        "team/web:1",
        "--publish",
        &published,
        "--",
        "sh",
        "-c",
        script,
    ]));
    let url = format!("http://127.0.0.1:{port}/");
    let mut seen = String::new();
    // Until the server listens a connection is closed at once.
    for _ in 0..2000 {
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else { continue };
        let asked = stream.write_all(format!("GET / HTTP/1.0\r\nHost: {url}\r\n\r\n").as_bytes());
        seen.clear();
        if asked.is_ok() && stream.read_to_string(&mut seen).is_ok() && seen.ends_with("blue\n") {
            break;
        }
    }
    assert!(seen.ends_with("blue\n"), "{seen}");
    let taken = lab.bake(["run", "team/web:1", "--publish", &published, "--", "true"]);
    assert_eq!(taken.code, 1, "{}", taken.err);
    assert!(taken.err.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{}", taken.err);
    // One that stays connected does not keep the machine.
    let idle = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    kill(&child, rustix::process::Signal::TERM);
    assert_eq!(child.wait().expect("it ends").code(), Some(143));
    drop(idle);
    assert!(
        TcpListener::bind(("127.0.0.1", port)).is_ok()
            || std::net::TcpStream::connect(("127.0.0.1", port)).is_err()
    );
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn the_network_is_its_own_unless_asked() {
    let Some(lab) = lab() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        // Closing with the question unread would break the connection off instead of ending it.
        let mut asked = vec![];
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a question");
            asked.extend(byte);
        }
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nfrom the host\n").expect("an answer");
    });
    let script = format!("wget -qO- http://127.0.0.1:{port}/");
    let ran = sh(&lab, &[], &script);
    assert!(ran.code != 0 && ran.err.contains("refused"), "{}", ran.err);
    let ran = sh(&lab, &["--network", "host"], &script);
    assert_eq!((ran.code, ran.out.as_str()), (0, "from the host\n"), "{}", ran.err);
    answers.join().expect("no panic");
}

#[test]
fn signals_go_to_the_program_and_nothing_is_left() {
    let Some(lab) = lab() else { return };
    let script = "trap 'echo ended; exit 42' TERM; echo ready; while true; do sleep 0.1; done";
    let (mut child, mut out) =
        started(&mut lab.command(["run", "team/web:1", "--", "sh", "-c", script]));
    kill(&child, rustix::process::Signal::TERM);
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("text");
    assert_eq!((child.wait().expect("it ends").code(), rest.as_str()), (Some(42), "ended\n"));
    // One that does not listen is asked twice.
    let token = "97531.125";
    let script =
        format!("trap 'echo no' TERM; echo ready; sleep {token} & while true; do sleep 0.1; done");
    let (mut child, mut out) =
        started(&mut lab.command(["run", "team/web:1", "--", "sh", "-c", &script]));
    kill(&child, rustix::process::Signal::TERM);
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    assert_eq!(line, "no\n");
    kill(&child, rustix::process::Signal::TERM);
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(alive(token), Vec::<u32>::new());
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
    // Killed itself, it leaves no process; the next run sweeps the rest.
    let token = "97531.250";
    let script = format!("echo ready; sleep {token} & sleep {token}");
    let (mut child, mut out) =
        started(&mut lab.command(["run", "team/web:1", "--", "sh", "-c", &script]));
    child.kill().expect("it is ours");
    child.wait().expect("it ends");
    // The pipe closes when the last process inside has gone.
    out.read_to_string(&mut String::new()).expect("the end");
    let gone = (0..2000).any(|_| {
        std::thread::yield_now();
        alive(token).is_empty()
    });
    assert!(gone, "{:?}", alive(token));
    assert_eq!(sh(&lab, &[], "true").code, 0);
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn a_terminal_is_passed_on_as_one() {
    let Some(lab) = lab() else { return };
    if !tier::tool("script") {
        return;
    }
    let bake = env!("CARGO_BIN_EXE_bake");
    let inside = "test -t 0 && test -t 1 && test -t 2 && cat /proc/self/stat | (read -r a b c d e f g h; test $g != 0) && echo a terminal; exit 5";
    let typed = format!("{bake} run team/web:1 -- sh -c '{inside}'; echo \"code $?\"; stty -a");
    let mut command = lab.command([""; 0]);
    let env: Vec<_> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    command = Command::new("script");
    command.args(["-qec", &typed, "/dev/null"]).env_clear().envs(env).current_dir(lab.path(""));
    let ran = run(&mut command);
    assert!(
        ran.out.contains("a terminal\r\n") && ran.out.contains("code 5"),
        "{}{}",
        ran.out,
        ran.err
    );
    // Raw mode is gone with the program.
    assert!(ran.out.contains(" icanon ") && ran.out.contains(" echo "), "{}", ran.out);
}

#[test]
fn a_revoked_version_runs_with_a_warning() {
    let Some(lab) = lab() else { return };
    assert_eq!(lab.bake(["promote", "team/web:1", "production"]).code, 0);
    assert_eq!(sh(&lab, &[], "true").err, "");
    assert_eq!(lab.bake(["revoke", "team/web:1", "--why", "a flaw"]).code, 0);
    for image in ["team/web:1", "team/web@production"] {
        let ran = lab.bake(["run", image, "--", "sh", "-c", "echo ran; exit 4"]);
        assert_eq!((ran.code, ran.out.as_str()), (4, "ran\n"), "{}", ran.err);
        assert!(ran.err.contains("warning: team/web:1 is revoked: a flaw"), "{}", ran.err);
    }
}

#[test]
fn root_a_running_machine_is_compared_by_its_pid() {
    if !tier::root() {
        return;
    }
    let Some(lab) = lab() else { return };
    let script = "echo ready; while read -r line; do eval \"$line\"; echo done; done";
    let mut command = lab.command(["run", "team/web:1", "-u", "root", "--", "sh", "-c", script]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("bake starts");
    let (mut say, mut out) =
        (child.stdin.take().expect("a pipe"), BufReader::new(child.stdout.take().expect("a pipe")));
    let mut line = || {
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        line
    };
    assert_eq!(line(), "ready\n");
    let pid = child.id().to_string();
    let drift = || lab.bake(["drift", "--pid", &pid]);
    let exact = drift();
    assert!(
        exact.code == 0
            && exact.out.starts_with("exact  team/web:1  sha256:")
            && exact.out.ends_with("  on web\n"),
        "{}",
        exact.out
    );
    writeln!(say, "echo x > /www/index.html; echo y > /made; chown app /etc/passwd")
        .expect("it listens");
    assert_eq!(line(), "done\n");
    let drifted = drift();
    let names: Vec<_> = drifted
        .out
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(drifted.code, 3);
    assert_eq!(
        names,
        ["changed /etc/passwd", "added /made", "changed /www/index.html"],
        "{}",
        drifted.out
    );
    drop(say);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    let gone = lab.bake(["drift", "--pid", &pid]);
    assert_eq!((gone.code, gone.out.as_str()), (2, ""));
    assert!(
        gone.err.contains(&format!("cannot look at the process {pid}"))
            && gone.err.contains("--root DIR"),
        "{}",
        gone.err
    );
    assert_eq!(lab.bake(["drift", "--pid", &pid, "--root", "/"]).code, 2, "one or the other");
}

#[test]
fn what_cannot_be_run_is_an_error() {
    let Some(lab) = lab() else { return };
    let check = |args: &[&str], code: i32, why: &str| {
        let ran = lab.bake(["run"].iter().chain(args));
        assert_eq!((ran.code, ran.out.as_str()), (code, ""), "{args:?}: {}", ran.err);
        assert!(ran.err.contains(why), "{args:?}: {}", ran.err);
    };
    check(&["team/web:2"], 1, "team/web:2");
    check(
        &["team/web:1", "--network", "host", "--publish", "8080:80"],
        2,
        "--publish without a network of its own",
    );
    check(&["team/web:1", "--publish", "80"], 2, "PORT:INSIDE");
    check(&["team/web:1", "--volume", "/tmp"], 2, "DIR:PATH");
    check(&["team/web:1", "--network", "bridge"], 2, "bridge");
    let ran = lab.bake(["run", "team/web:1", "--json", "--", "true"]);
    assert_eq!(ran.code, 2, "{}", ran.out);
    lab.write("empty.toml", "[image]\nname = \"empty\"\nversion = \"1\"\n[base]\nscratch = true\n");
    assert_eq!(lab.bake(["build", "empty.toml"]).code, 0);
    check(&["empty"], 2, "names nothing to run");
    check(&["empty", "--", "/bin/sh"], 127, "there is no program /bin/sh");
}
