//! What was once reported wrong, as tests of what must hold: archive.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use bake::digest::Digest;
use bake::job::Action;
use bake::sandbox::{Ended, Exec, Failure};

use crate::base_lab::net;
use crate::base_mirror::{OURS, Reply, Server, deb_with};
use crate::lab::{Lab, Run, good};
use crate::{sandbox_lab, tier};

/// Ends a child that a failing test leaves behind.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Ends {
    fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().expect("bake starts"))
    }

    /// Returns the exit code, if it ends within a minute.
    fn code(&mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) {
            if let Some(status) = self.0.try_wait().expect("our own child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

fn recipe(lab: &Lab, name: &str, steps: &str) {
    let head = format!("[image]\nname = \"{name}\"\nversion = \"1\"\n[base]\npath = \"root\"\n");
    lab.write(&format!("{name}.toml"), &format!("{head}{steps}"));
}

/// E3
#[test]
fn a_build_waits_for_a_step_of_another_no_longer_than_it_takes() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let server = Server::start(move |_| {
        while !gate.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Reply::Bytes(b"x".to_vec())
    });
    let slow = format!("[[step]]\ndownload = \"{}/x\"\nto = \"/x\"\n", server.url);
    recipe(&lab, "first", &slow);
    recipe(&lab, "second", "[[step]]\nrun = \"echo 2 > /two\"\n");
    let mut first = Ends::start(&mut lab.command(["build", "--json", "first.toml"]));
    let lines = BufReader::new(first.0.stdout.take().expect("a pipe")).lines();
    for line in lines {
        let object: Value = serde_json::from_str(&line.expect("readable")).expect("JSON");
        if object["type"] == "step-done" && object["step"] == 0 {
            break;
        }
    }
    let second = Ends::start(&mut lab.command(["build", "second.toml"])).code();
    open.store(true, Ordering::Relaxed);
    assert_eq!(second, Some(0));
}

/// Leaves a program that keeps debconf waiting.
const HANGS: &str = "#!/bin/sh\n. /usr/share/debconf/confmodule\nsleep 1000 &\n";

/// A repository signed by a key of the tests, of packages by name, version and further fields.
fn repository(packages: &'static [(&'static str, &'static str, &'static str)]) -> Server {
    Server::start(move |path| {
        let mut files = vec![];
        let mut index = String::new();
        for (name, version, fields) in packages {
            let script = if *name == "hangs" { HANGS } else { "" };
            let bytes = deb_with(name, version, fields, script);
            let (size, hex) = (bytes.len(), Digest::of(&bytes).hex());
            let file = format!("{name}_{version}_all.deb");
            index += &format!(
                "Package: {name}\nVersion: {version}\nArchitecture: all\n{fields}Filename: ./{file}\nSize: {size}\nSHA256: {hex}\n\n"
            );
            files.push((file, bytes));
        }
        match path.trim_start_matches('/').trim_start_matches("./") {
            "InRelease" => Reply::Bytes(OURS.sign(&format!(
                "Date: Thu, 01 Jan 2026 00:00:00 UTC\nSuite: ours\nSHA256:\n {} {} Packages\n",
                Digest::of(&index).hex(),
                index.len()
            ))),
            "Packages" => Reply::Bytes(index.into_bytes()),
            asked => match files.into_iter().find(|(name, _)| name == asked) {
                Some((_, bytes)) => Reply::Bytes(bytes),
                None => Reply::Status(404),
            },
        }
    })
}

/// A recipe over Debian with the repository at `url`.
fn debian(lab: &Lab, name: &str, url: &str, steps: &str) {
    lab.write("ours.asc", &String::from_utf8(OURS.public()).expect("armored"));
    let head = format!(
        "[image]\nname = \"{name}\"\nversion = \"1\"\n[base]\ndebian = \"bookworm\"\n\
         [[step]]\nrepository = \"ours\"\nurl = \"{url}\"\nsuite = \"./\"\nkey = \"ours.asc\"\n"
    );
    lab.write(&format!("{name}.toml"), &format!("{head}{steps}"));
}

/// The numbers of the steps that ran.
fn ran(run: &Run) -> Vec<u64> {
    let done = run.out.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    done.filter(|object| object["type"] == "step-done" && object["cached"] == false)
        .map(|object| object["step"].as_u64().expect("a number"))
        .collect()
}

fn pin(package: &str, pin: &str, priority: i32) -> String {
    format!(
        "[[step]]\nfile = \"/etc/apt/preferences.d/pin\"\ncontent = \"Package: {package}\\nPin: {pin}\\nPin-Priority: {priority}\\n\"\n"
    )
}

/// E1, A6, D7
#[test]
fn root_net_what_is_chosen_is_remembered_and_is_what_the_root_asks_for() {
    if !tier::root() || !tier::sandbox() || !net() {
        return;
    }
    let lab = Lab::new();
    let server = repository(&[
        ("theirs", "1.0", ""),
        ("theirs", "2.0", ""),
        ("needy", "1.0", "Depends: theirs\n"),
    ]);
    let lock = || std::fs::read_to_string(lab.path("web.lock")).expect("a lock");
    let build = |more: &[&str]| lab.bake(["build", "--json", "web.toml"].iter().chain(more));

    // E1: without any lock, the good steps of a failed build stay cached.
    let install = "[[step]]\npackages = [\"theirs\"]\n";
    debian(&lab, "web", &server.url, &format!("{install}[[step]]\nrun = \"false\"\n"));
    let failed = build(&[]);
    assert_eq!((failed.code, ran(&failed)), (1, vec![0, 1, 2]), "{}", failed.out);
    assert!(!lab.path("web.lock").exists());
    let failed = build(&[]);
    assert_eq!((failed.code, ran(&failed)), (1, vec![]), "{}", failed.out);

    // A6: a step that changes what apt prefers is part of what the lock answers, a step that does
    // not is not.
    let pinned = |version: &str, motd: &str| {
        let file = format!("[[step]]\nrun = \"echo {motd} > /etc/motd\"\n");
        let pin = pin("theirs", &format!("version {version}"), 1001);
        debian(&lab, "web", &server.url, &format!("{file}{pin}{install}"));
    };
    pinned("1.0", "one");
    good(build(&[]));
    let first = lock();
    assert!(first.contains("name = \"theirs\", version = \"1.0\""), "{first}");
    pinned("1.0", "two");
    good(build(&["--locked", "--set-version", "2"]));
    assert_eq!(lock(), first);
    pinned("2.0", "two");
    let refused = lab.bake(["build", "--locked", "--set-version", "3", "web.toml"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(
        refused.err.contains("pins the packages theirs for a root with other preferences"),
        "{}",
        refused.err
    );
    good(build(&["--set-version", "3"]));
    let second = lock();
    assert!(second.contains("name = \"theirs\", version = \"2.0\""), "{second}");
    good(build(&["--locked", "--set-version", "3"]));

    // D7: apt's reason is shown, and in the log.
    let never = pin("theirs", "release *", -1);
    debian(&lab, "web", &server.url, &format!("{never}[[step]]\npackages = [\"needy\"]\n"));
    let failed = lab.bake(["build", "--set-version", "4", "web.toml"]);
    let reason = "needy : Depends: theirs but it is not installable";
    assert!(failed.code == 1 && failed.err.contains(reason), "{}", failed.err);
    let log = failed.err.lines().find_map(|line| Some(line.split_once("full log: ")?.1.trim()));
    let log = log.unwrap_or_else(|| panic!("no log is named: {}", failed.err));
    let text = std::fs::read_to_string(lab.path(log)).expect("the log");
    assert!(text.contains(reason), "{text}");
}

/// D6
#[test]
fn root_net_a_package_that_hangs_ends_in_time_and_names_what_it_left() {
    if !tier::root() || !tier::sandbox() || !net() {
        return;
    }
    let lab = Lab::new();
    let server = repository(&[("hangs", "1.0", "Depends: debconf\n")]);
    let install = "[[step]]\npackages = [\"hangs\"]\ntimeout = \"20s\"\n";
    debian(&lab, "web", &server.url, install);
    let failed = lab.bake(["build", "web.toml"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    for part in ["its timeout of 20 s", "left running by programs that have ended: sleep"] {
        assert!(failed.err.contains(part), "{part}: {}", failed.err);
    }
}

/// D6: who is alive when time is up is named, the program and what it has left apart.
#[test]
fn userns_what_runs_when_time_is_up_is_named() {
    let Some(lab) = sandbox_lab::Lab::new() else { return };
    let script = "(sleep 1000 &) ; sleep 999 & echo ready; wait";
    let limit = Some(Duration::from_secs(2));
    let slow = Action::Exec(Exec { timeout: limit, ..sandbox_lab::exec(&["sh", "-c", script]) });
    let ran = lab.run(lab.job(vec![slow]));
    assert_eq!(ran.out, ["ready"]);
    let Ended::Failed { how: Failure::TimedOut { alive, .. }, .. } = ran.ended else {
        panic!("{ran:?}")
    };
    assert_eq!(alive.below, ["sh", "sleep"]);
    assert_eq!(alive.orphans, ["sleep"]);
}

/// D12: the apt of another distribution asks its own sources, as apk and dnf do.
#[test]
fn root_net_the_apt_of_another_distribution_installs_from_its_own_sources() {
    if !tier::root() || !tier::sandbox() || !net() {
        return;
    }
    let lab = Lab::new();
    let server = repository(&[("theirs", "1.0", "")]);
    let source = format!("deb [trusted=yes] {} ./", server.url);
    lab.write(
        "ubuntu.toml",
        &format!(
            "[image]\nname = \"ubuntu\"\nversion = \"1\"\n[base]\ndebian = \"bookworm\"\n\
             [[step]]\nrun = \"sed -i 's/^ID=.*/ID=ubuntu/' /usr/lib/os-release; rm /etc/apt/sources.list.d/*\"\n\
             [[step]]\nfile = \"/etc/apt/sources.list\"\ncontent = \"{source}\\n\"\n"
        ),
    );
    lab.write(
        "web.toml",
        "[image]\nname = \"web\"\nversion = \"1\"\n[base]\nrecipe = \"ubuntu.toml\"\n\
         [[step]]\npackages = [\"theirs\"]\nnetwork = \"host\"\n[[step]]\nrun = \"test -e /x && test -z \\\"$(ls /var/lib/apt/lists/*_*)\\\"\"\n",
    );
    good(lab.bake(["build", "web.toml"]));
}

/// D8
#[test]
fn root_net_packages_of_an_added_architecture_can_be_installed() {
    if !tier::root() || !tier::sandbox() || !net() || std::env::consts::ARCH != "x86_64" {
        return;
    }
    let lab = Lab::new();
    lab.write(
        "two.toml",
        "[image]\nname = \"two\"\nversion = \"1\"\n[base]\ndebian = \"bookworm\"\n\
         [[step]]\nrun = \"dpkg --add-architecture i386\"\n\
         [[step]]\npackages = [\"libc6:i386\"]\n[[step]]\nrun = \"test -e /lib/i386-linux-gnu/libc.so.6\"\n",
    );
    let run = lab.bake(["build", "two.toml"]);
    // A mirror for one architecture may carry lists of another that are not those of its Release
    // file: what bake says then is all that can be shown with it.
    if run.code == 1 && run.err.contains("/binary-i386/") && run.err.contains("truncated: ") {
        return;
    }
    good(run);
    let lock = std::fs::read_to_string(lab.path("two.lock")).expect("a lock");
    assert!(
        lock.contains("names = [\"libc6:i386\"]") && lock.contains("arch = \"i386\""),
        "{lock}"
    );
    good(lab.bake(["build", "--locked", "--no-cache", "--set-version", "2", "two.toml"]));
}
