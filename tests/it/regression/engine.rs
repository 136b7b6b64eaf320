//! What was once reported wrong, as tests of what must hold: engine.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::lab::{Lab, Run, run};
use crate::tier;

fn lab() -> Option<Lab> {
    if !tier::sandbox() {
        return None;
    }
    let lab = Lab::new();
    lab.tiny_root();
    Some(lab)
}

fn recipe(lab: &Lab, steps: &str) {
    lab.write(
        "tiny.toml",
        &format!("[image]\nname = \"tiny\"\nversion = \"1\"\n[base]\npath = \"root\"\n{steps}"),
    );
}

/// Bakes in the store `store` and returns what it says.
fn bake(lab: &Lab, store: &str, more: &[&str]) -> Run {
    run(lab.command(["build", "tiny.toml"].iter().chain(more)).env("BAKE_STORE", lab.path(store)))
}

/// The digest that a build printed.
fn digest(run: &Run) -> &str {
    assert_eq!(run.code, 0, "{}", run.err);
    run.out.split_whitespace().nth(1).expect("name:version and a digest")
}

/// A build that runs its first step, which waits.
struct Running(Child, Box<dyn BufRead>);

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        while !(line.contains("\"type\":\"step\"") && line.contains("\"step\":1")) {
            line.clear();
            assert_ne!(lines.read_line(&mut line).expect("readable"), 0, "it ended early");
        }
        Self(child, Box::new(lines))
    }

    /// Exit code and last line.
    fn end(mut self) -> (i32, serde_json::Value) {
        let mut text = String::new();
        self.1.read_to_string(&mut text).expect("readable");
        let code = self.0.wait().expect("it ends").code().unwrap_or(-1);
        let last = text.lines().last().expect("a last line");
        (code, serde_json::from_str(last).expect("JSON"))
    }
}

/// A1: what a step is given was read before anything ran, once, and is what its key says.
#[test]
fn an_input_edited_during_a_build_is_neither_stale_nor_in_the_cache() {
    let Some(lab) = lab() else { return };
    let files = [
        ("t.j2", "{{ name }} one\n"),
        ("s.sh", "echo one > /script\n"),
        ("k.asc", include_str!("../../../src/archive/keys/bookworm-stable.asc")),
        ("prod.toml", "word = \"one\"\n"),
    ];
    for (name, text) in files {
        lab.write(name, text);
    }
    lab.write("root/etc/apt/.keep", "");
    recipe(
        &lab,
        r#"
[vars]
word = "none"
[[step]]
run = "sleep 1; echo {{ word }} > /word"
[[step]]
template = "t.j2"
to = "/template"
[[step]]
script = "s.sh"
[[step]]
repository = "r"
url = "https://example.org/"
suite = "s"
components = ["c"]
key = "k.asc"
"#,
    );
    let text = fs::read_to_string(lab.path("tiny.toml")).expect("ours");
    let vars = ["--vars-file", "prod.toml"];
    let clean = bake(&lab, "clean", &vars);
    let args = ["build", "tiny.toml", "--json"];
    let running = Running::start(lab.command(args.iter().chain(&vars)));
    for (name, text) in files.into_iter().chain([("tiny.toml", &*text)]) {
        lab.write(
            name,
            &text.replace("one", "two").replace("sleep", "exit").replace("BEGIN", "END"),
        );
    }
    let (code, last) = running.end();
    for (name, _) in files {
        lab.write(name, files.iter().find(|(other, _)| *other == name).expect("ours").1);
    }
    lab.write("tiny.toml", &text);
    assert_eq!((code, last["digest"].as_str()), (0, Some(digest(&clean))), "{last}");
    // And from the cache that it left.
    assert_eq!(lab.bake(["rm", "tiny:1"]).code, 0);
    let again = bake(&lab, "store", &vars);
    assert_eq!(digest(&again), digest(&clean));
    assert!(again.err.contains("cached"), "{}", again.err);
}

/// A1, C1: files that are copied are read again when they are packed, and compared.
#[test]
fn a_copied_file_edited_during_a_build_fails_it_by_name() {
    let Some(lab) = lab() else { return };
    lab.write("site/a", "one\n");
    lab.write("site/b", "one\n");
    recipe(&lab, "[[step]]\nrun = \"sleep 1\"\n[[step]]\ncopy = \"site/\"\nto = \"/srv/\"\n");
    let clean = bake(&lab, "clean", &[]);
    let running = Running::start(lab.command(["build", "tiny.toml", "--json"]));
    lab.write("site/b", "two\n");
    let (code, last) = running.end();
    assert_eq!(code, 1, "{last}");
    assert!(last.to_string().contains("site/b\\\" changed while it was read"), "{last}");
    assert_eq!(lab.bake(["list", "-q"]).out, "");
    lab.write("site/b", "one\n");
    assert_eq!(digest(&bake(&lab, "store", &[])), digest(&clean));
}

/// A2: attributes of the root directory are a change, in the layer of the step that made it.
#[test]
fn attributes_of_the_root_belong_to_the_step_that_set_them() {
    let Some(lab) = lab() else { return };
    lab.write("root/like/.keep", "");
    if xattr::set(lab.path("root/like"), "user.a", b"1").is_err() {
        tier::skip("this file system has no user attributes");
        return;
    }
    let set =
        "cp -rT --preserve=xattr /like /copy; rm /copy/.keep; cp -rT --preserve=xattr /copy /";
    recipe(
        &lab,
        &format!(
            "[[step]]\nrun = \"{set}; rm -r /copy\"\n[[step]]\nrun = \"true\"\n[[step]]\nrun = \"echo x > /x\"\n"
        ),
    );
    let cold = bake(&lab, "store", &[]);
    let layers = |at: &str| {
        let shown =
            run(lab.command(["history", "tiny:1", "--json"]).env("BAKE_STORE", lab.path(at)));
        assert_eq!(shown.code, 0, "{}", shown.err);
        let entry = |line: &str| {
            let mut entry: serde_json::Value = serde_json::from_str(line).expect("an object");
            // It is published twice.
            entry.as_object_mut().expect("an object").remove("published");
            entry
        };
        shown.out.lines().map(entry).collect::<Vec<_>>()
    };
    let before = layers("store");
    assert_eq!(lab.bake(["rm", "tiny:1"]).code, 0);
    let warm = bake(&lab, "store", &[]);
    assert_eq!((digest(&warm), layers("store")), (digest(&cold), before));
    for step in ["1", "2", "3"] {
        assert_eq!(lab.bake(["rm", "tiny:1"]).code, 0);
        let part = bake(&lab, "store", &[&format!("--no-cache={step}")]);
        assert_eq!(digest(&part), digest(&cold), "step {step} again");
    }
    assert_eq!(digest(&bake(&lab, "other", &[])), digest(&cold));
}

/// A3: of a step's name nothing reaches the image; what reaches it is in the key.
#[test]
fn a_name_changes_no_version_and_what_changes_one_is_in_the_key() {
    let Some(lab) = lab() else { return };
    let step = "[[step]]\nrun = \"echo x > /x\"\n";
    recipe(&lab, step);
    let first = bake(&lab, "store", &[]);
    recipe(&lab, &format!("{step}name = \"the x\"\n"));
    let named = bake(&lab, "store", &[]);
    assert_eq!(digest(&named), digest(&first));
    assert!(named.err.contains("already baked"), "{}", named.err);
    assert_eq!(lab.bake(["rm", "tiny:1"]).code, 0);
    assert_eq!(digest(&bake(&lab, "store", &[])), digest(&first));
    assert_eq!(digest(&bake(&lab, "other", &[])), digest(&first));
    // The base's path is in the image's labels: another one is another build.
    fs::rename(lab.path("root"), lab.path("elsewhere")).expect("our own directory");
    let text = fs::read_to_string(lab.path("tiny.toml")).expect("ours");
    lab.write("tiny.toml", &text.replace("\"root\"", "\"elsewhere\""));
    let moved = bake(&lab, "store", &[]);
    assert_eq!(moved.code, 1, "{}", moved.err);
    assert!(moved.err.contains("already published with other content"), "{}", moved.err);
}

/// A7: one build takes one content from an address.
#[test]
fn an_address_is_pinned_once_in_a_build() {
    let Some(lab) = lab() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for (count, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let body = format!("answer {count}\n");
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len());
            let _ = write!(stream, "{head}Connection: close\r\n\r\n{body}");
        }
    });
    let download =
        |to: &str| format!("[[step]]\ndownload = \"http://{address}/f\"\nto = \"{to}\"\n");
    let compare = "[[step]]\nrun = \"test \\\"$(cat /a)\\\" = \\\"$(cat /b)\\\"\"\n";
    recipe(&lab, &format!("{}{}{compare}", download("/a"), download("/b")));
    let built = bake(&lab, "store", &[]);
    assert_eq!(built.code, 0, "{}", built.err);
    let lock = fs::read_to_string(lab.path("tiny.lock")).expect("a lock file");
    assert_eq!(lock.matches("[[download]]").count(), 1, "{lock}");
}

/// A7: a recipe that asks for the epoch is evaluated twice and read once.
#[test]
fn tools_a_recipe_is_read_once() {
    let Some(lab) = lab() else { return };
    if !tier::tool("strace") {
        return;
    }
    recipe(&lab, "[[step]]\nrun = \"echo {{ epoch }} > /epoch\"\n");
    let bake = env!("CARGO_BIN_EXE_bake");
    let log = lab.path("log");
    let mut command = Command::new("strace");
    command.args(["-f", "-e", "trace=open,openat,openat2", "-o"]).arg(&log);
    command.args([bake, "build", "tiny.toml"]).env("BAKE_STORE", lab.path("store"));
    let built = run(command.current_dir(lab.path("")));
    assert_eq!(built.code, 0, "{}", built.err);
    let log = fs::read_to_string(log).expect("a log");
    let opened =
        log.lines().filter(|line| line.contains("\"tiny.toml\"") && !line.contains("ENOENT"));
    assert_eq!(opened.count(), 1, "{log}");
}

/// A build that asks no server trusts none: reading every certificate of the system was a third of it.
#[test]
fn tools_a_build_without_network_reads_no_certificates() {
    let Some(lab) = lab() else { return };
    if !tier::tool("strace") {
        return;
    }
    recipe(&lab, "[[step]]\nrun = \"echo x > /x\"\n");
    lab.write("authorities.pem", "");
    let log = lab.path("log");
    let mut command = Command::new("strace");
    command.args(["-f", "-e", "trace=open,openat,openat2", "-o"]).arg(&log);
    command.args([env!("CARGO_BIN_EXE_bake"), "build", "tiny.toml"]);
    command.env("BAKE_STORE", lab.path("store")).env("SSL_CERT_FILE", lab.path("authorities.pem"));
    let built = run(command.current_dir(lab.path("")));
    assert_eq!(built.code, 0, "{}", built.err);
    let log = fs::read_to_string(log).expect("a log");
    assert!(!log.contains("authorities.pem") && log.contains("tiny.toml"), "{log}");
}

/// C10: another way to the same content is the same version.
#[test]
fn the_same_image_from_another_shell_is_already_published() {
    let Some(lab) = lab() else { return };
    recipe(&lab, "[[step]]\nrun = \"echo x > /x\"\n");
    let first = bake(&lab, "store", &[]);
    recipe(&lab, "[[step]]\nrun = \"echo x > /x\"\nshell = [\"/bin/sh\", \"-c\"]\n");
    for _ in 0..2 {
        let other = bake(&lab, "store", &[]);
        assert_eq!(digest(&other), digest(&first));
        assert!(other.err.contains("already baked"), "{}", other.err);
    }
    assert!(Path::new(&lab.path("store/index.json")).exists());
}

/// A step that does again what the one before it did gives the same layer, which overlayfs takes
/// only once.
#[test]
fn a_step_that_is_done_twice_is_one_layer_to_those_above() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    let step = |command: &str| format!("[[step]]\nrun = \"{command}\"\n");
    let (same, other) = (step("echo x > /made"), step("rm /made"));
    lab.write(
        "web.toml",
        &format!(
            "[image]\nname = 'web'\nversion = '1'\n[base]\npath = 'root'\n{same}{same}{other}{same}\
                {}[[test]]\nrun = 'test -e /made'\n",
            step("cat /made")
        ),
    );
    let built = lab.bake(["build", "web.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
}
