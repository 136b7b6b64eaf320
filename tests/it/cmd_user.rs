//! The gate, machines and shells as an unprivileged user: run as root, the other tests have only
//! seen root's way.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::build_gate::busybox_root;
use crate::lab::{Lab, Run, run};
use crate::sandbox_lab::alive;
use crate::sandbox_user::somebody;
use crate::tier;

/// A lab of a user, with the root of [`busybox_root`].
struct Theirs {
    lab: Lab,
    uid: u32,
    gid: u32,
}

impl Theirs {
    fn new() -> Option<Self> {
        if !tier::root() || !tier::sandbox() || !tier::tool("busybox") {
            return None;
        }
        let Some((_, uid, gid)) = somebody() else {
            tier::skip("no user of this host has subordinate ids (adduser makes one that has)");
            return None;
        };
        let lab = Lab::new();
        busybox_root(&lab);
        chown(lab.path(""), Some(uid), Some(gid)).expect("we are root");
        Some(Self { lab, uid, gid })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.lab.command(args);
        command.uid(self.uid).gid(self.gid);
        command
    }

    fn bake(&self, args: &[&str]) -> Run {
        run(&mut self.command(args))
    }

    /// Runs a shell script in a machine of `web:1` with these options.
    fn sh(&self, options: &[&str], script: &str) -> Run {
        self.bake(&[&["run", "web:1"], options, &["--", "sh", "-c", script]].concat())
    }

    fn recipe(&self, more: &str) {
        let config = "[config]\nuser = \"app\"\nworkdir = \"/www\"\nenv.COLOR = \"blue\"\n";
        self.lab.write(
            "web.toml",
            &format!(
                "[image]\nname = \"web\"\nversion = \"1\"\n[base]\npath = \"root\"\n{more}{config}"
            ),
        );
    }

    /// Nothing of theirs runs or lies about.
    #[track_caller]
    fn is_left(&self) {
        assert!(self.lab.scratch().is_empty(), "{:?}", self.lab.scratch());
        assert_eq!(alive(&self.lab.path("store").to_string_lossy()), Vec::<u32>::new());
    }
}

fn serves(command: &str, page: &str) -> String {
    format!(
        "[[test]]\nname = \"serves\"\nstart = [[\"sh\", \"-c\", {command:?}]]\nhttp = \"http://127.0.0.1/\"\ncontains = \"{page}\"\ntimeout = \"5s\"\n"
    )
}

const HTTPD: &str = "echo here I am; exec httpd -f -p 80 -h /www";

#[test]
fn root_the_gate_of_a_user() {
    let Some(theirs) = Theirs::new() else { return };
    let who = "[[test]]\nrun = \"test $(id -un) = app && test ! -w /www/index.html\"\nas = \"app\"\n\
        [[test]]\nfile = \"/www/index.html\"\nowner = \"root:root\"\ncontains = \"blue\"\n";
    theirs.recipe(&format!("{who}{}", serves(HTTPD, "green").replace("5s", "1500ms")));
    let failed = theirs.bake(&["build", "web.toml"]);
    assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{}", failed.err);
    for part in ["test 3 of 3 failed: serves", "does not contain \"green\"", "sh| here I am"] {
        assert!(failed.err.contains(part), "{part}: {}", failed.err);
    }
    assert_eq!(theirs.bake(&["list", "--json"]).out, "");
    theirs.is_left();
    theirs.recipe(&format!("{who}{}", serves(HTTPD, "blue")));
    let built = theirs.bake(&["build", "web.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
    assert!(built.err.contains("[test 3/3] passed: serves"), "{}", built.err);
    assert!(theirs.bake(&["show", "web:1"]).out.contains("tested      yes, "));
    let again = theirs.bake(&["test", "web:1"]);
    assert_eq!(again.code, 0, "{}", again.err);
    theirs.is_left();
}

#[test]
fn root_the_machine_of_a_user() {
    let Some(theirs) = Theirs::new() else { return };
    theirs.recipe("");
    let built = theirs.bake(&["build", "web.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
        let ran = theirs.sh(&[], script);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (code, "", ""), "{script}");
    }
    let ran = theirs.sh(&[], "id -un; pwd; echo $COLOR");
    assert_eq!((ran.code, ran.out.as_str()), (0, "app\n/www\nblue\n"), "{}", ran.err);
    // What root of the machine writes to a volume is the user's own; the rest is thrown away.
    let data = theirs.lab.path("data");
    fs::create_dir(&data).expect("our own directory");
    chown(&data, Some(theirs.uid), Some(theirs.gid)).expect("we are root");
    let volume = format!("{}:/data", data.display());
    let ran = theirs.sh(
        &["-u", "root", "-v", &volume],
        "echo kept > /data/file; echo gone > /www/index.html; cat /www/index.html",
    );
    assert_eq!((ran.code, ran.out.as_str()), (0, "gone\n"), "{}", ran.err);
    let ran = theirs.sh(
        &["-v", &volume],
        "cat /data/file /www/index.html; touch /data/other 2> /dev/null || echo refused",
    );
    assert_eq!((ran.code, ran.out.as_str()), (0, "kept\nblue\nrefused\n"), "{}", ran.err);
    let file = fs::metadata(data.join("file")).expect("it stayed");
    assert_eq!((file.uid(), file.gid()), (theirs.uid, theirs.gid));
    let read_only = format!("{volume}:ro");
    let ran = theirs.sh(&["-u", "root", "-v", &read_only], "cat /data/file; echo x > /data/other");
    assert!(
        ran.code != 0 && ran.out == "kept\n" && ran.err.contains("Read-only"),
        "{}{}",
        ran.out,
        ran.err
    );
    // What the user may not read, the machine may not either.
    fs::create_dir(theirs.lab.path("roots")).expect("our own directory");
    fs::set_permissions(
        theirs.lab.path("roots"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .expect("our own directory");
    let ran = theirs.sh(&["-u", "root", "-v", "roots:/data"], "ls /data");
    assert!(ran.code != 0, "{}", ran.out);
    theirs.is_left();
}

#[test]
fn root_a_published_port_of_a_user() {
    let Some(theirs) = Theirs::new() else { return };
    theirs.recipe("");
    let built = theirs.bake(&["build", "web.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
    // A port that was free a moment ago.
    let port =
        TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let published = format!("{port}:80");
    let mut command = theirs.command(&[
        "run",
        "web:1",
        "-u",
        "root",
        "--publish",
        &published,
        "--",
        "sh",
        "-c",
        HTTPD,
    ]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("bake starts");
    let mut first = [0; 10];
    child
        .stdout
        .as_mut()
        .expect("a pipe")
        .read_exact(&mut first)
        .expect("it says that it is there");
    let mut seen = String::new();
    // Until the server listens a connection is closed at once.
    for _ in 0..2000 {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { continue };
        seen.clear();
        if stream.write_all(b"GET / HTTP/1.0\r\n\r\n").is_ok()
            && stream.read_to_string(&mut seen).is_ok()
            && seen.ends_with("blue\n")
        {
            break;
        }
    }
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::TERM,
    )
    .expect("it is ours");
    child.wait().expect("it ends");
    assert!(seen.ends_with("blue\n"), "{seen}");
    theirs.is_left();
}

#[test]
fn root_the_shells_of_a_user() {
    let Some(theirs) = Theirs::new() else { return };
    if !tier::tool("script") {
        return;
    }
    theirs.recipe("[[step]]\nrun = \"echo one > /one\"\n[[step]]\nname = \"bad\"\nrun = \"echo two > /two; exit 3\"\n");
    let typed = |args: &str, lines: &str| {
        let mut command = Command::new("script");
        command.args([
            "-qec",
            &format!("{} {args}; echo \"code $?\"", env!("CARGO_BIN_EXE_bake")),
            "/dev/null",
        ]);
        let env: Vec<_> = theirs
            .command(&[])
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        command
            .env_clear()
            .envs(env)
            .current_dir(theirs.lab.path(""))
            .uid(theirs.uid)
            .gid(theirs.gid);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script starts");
        // What is typed before anybody asks waits in the terminal.
        child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("it is taken");
        let output = child.wait_with_output().expect("it ends");
        String::from_utf8_lossy(&output.stdout).replace('\r', "")
    };
    let look = "echo \"<$(echo /one* /two*) $(id -u)>\"; test -t 0 && echo a-terminal; echo x > /three\nexit 9\n";
    let printed = typed("build web.toml --on-failure=shell --progress=plain", look);
    for part in
        ["exit status 3", "</one /two 0>", "a-terminal\n", "step 2 of 2 failed: bad", "code 1"]
    {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    theirs.is_left();
    let printed = typed("shell web.toml --at bad --progress=plain", look);
    assert!(
        printed.contains("</one /two* 0>")
            && printed.contains("a-terminal\n")
            && printed.contains("code 0"),
        "{printed}"
    );
    assert_eq!(theirs.bake(&["list", "--json"]).out, "");
    theirs.is_left();
}
