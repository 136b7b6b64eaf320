//! `examples/story`: run from beginning to end, every claim of it holds, and nothing is left of
//! it.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bake::store::Store;

use crate::lab::{Lab, run};
use crate::{base_lab, tier};

fn ready() -> bool {
    tier::root() && tier::sandbox() && base_lab::net()
}

/// The script of a story, with its temporary directory and its store in the lab. Packages are those
/// that other tests have downloaded already.
pub(crate) fn script(lab: &Lab, story: &str) -> Command {
    let store = lab.path("store");
    drop(Store::open(&store).expect("a store"));
    fs::create_dir_all(store.join("cache")).expect("our own directory");
    let packages = base_lab::cache().join("packages");
    fs::create_dir_all(&packages).expect("our own directory");
    symlink(packages, store.join("cache/packages")).expect("a link");
    fs::create_dir_all(lab.path("tmp")).expect("our own directory");
    // Whoever runs the tests in the background of a shell ignores Ctrl-C, and a shell cannot take
    // that back for itself.
    let mut command = Command::new("env");
    command.args(["--default-signal", "bash"]);
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(story).join("run.sh"))
        .arg("--store")
        .arg(store);
    command
        .env("TMPDIR", lab.path("tmp"))
        .env("BAKE", env!("CARGO_BIN_EXE_bake"))
        .current_dir(lab.path(""))
        .stdin(Stdio::null());
    command
}

/// Whether nothing is left: no directory, no mount, no process that has to do with the lab.
#[track_caller]
pub(crate) fn assert_nothing_is_left(lab: &Lab) {
    let left: Vec<_> = fs::read_dir(lab.path("tmp"))
        .expect("our own directory")
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
    let lab = lab.path("").display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("our own mounts");
    assert!(!mounts.contains(lab.trim_end_matches('/')), "{mounts}");
    let processes = processes(lab.trim_end_matches('/'));
    assert!(processes.is_empty(), "{processes:?}");
}

/// Processes that were started with a word or a variable that names the lab.
fn processes(lab: &str) -> Vec<String> {
    let mut found = vec![];
    for entry in fs::read_dir("/proc").expect("processes").flatten() {
        let at = entry.path();
        let own = at.ends_with(std::process::id().to_string());
        if own || !entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        let read = |name: &str| {
            String::from_utf8_lossy(&fs::read(at.join(name)).unwrap_or_default()).into_owned()
        };
        let (words, environment) = (read("cmdline"), read("environ"));
        if words.contains(lab) || environment.contains(lab) {
            found.push(format!("{} {words:?}", at.display()));
        }
    }
    found
}

/// What a story has counted at its end.
pub(crate) struct Counted {
    /// All that it printed.
    pub(crate) text: String,
    counts: BTreeMap<String, u64>,
}

impl Counted {
    pub(crate) fn count(&self, name: &str) -> u64 {
        let found = self.counts.get(name).copied();
        found.unwrap_or_else(|| panic!("no line {name:?}\n{}", self.text))
    }
}

/// Runs a story that keeps what it wrote in `out/`; every claim of it holds, and no request fails.
pub(crate) fn counted(lab: &Lab, story: &str, rate: &str) -> Counted {
    let out = lab.path("out");
    let printed = run(script(lab, story).arg("--out").arg(&out).args(["--rate", rate]));
    let text = format!("{}\n{}", printed.out, printed.err);
    assert_eq!(printed.code, 0, "{text}");
    let line = |line: &str| {
        let (name, number) = line.split_once(": ")?;
        Some((name.to_owned(), number.parse().ok()?))
    };
    let counted = Counted { text, counts: printed.out.lines().filter_map(line).collect() };
    let (text, sent, two) =
        (&counted.text, counted.count("requests sent"), counted.count("answered by 2.0.0"));
    assert_eq!(
        (counted.count("requests failed"), counted.count("claims that do not")),
        (0, 0),
        "{text}"
    );
    let answered = counted.count("answered by 1.0.0") + two;
    assert_eq!(sent, answered, "each request was answered by one version or the other\n{text}");
    let held = printed.out.lines().filter(|line| line.starts_with("[ok] ")).count() as u64;
    assert_eq!(held, counted.count("claims that hold"), "{text}");
    // What it says is what it wrote.
    let load: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("load.json")).expect("counts")).expect("JSON");
    assert_eq!(
        (&load["sent"], &load["failed"], &load["versions"]["2.0.0"]),
        (&sent.into(), &0.into(), &two.into())
    );
    assert_nothing_is_left(lab);
    counted
}

/// How many machines of a version of `web` are exact, and how many drifted, by these reports.
pub(crate) fn fleet(lab: &Lab, reports: &str, version: &str) -> (u64, u64) {
    let ran = lab.bake(["fleet", reports, "--json"]);
    let fleet: serde_json::Value = serde_json::from_str(&ran.out).expect("an object");
    let groups = fleet["groups"].as_array().expect("a list");
    let group = groups.iter().find(|group| group["name"] == "web" && group["version"] == version);
    let number = |group: &serde_json::Value, name: &str| group[name].as_u64().expect("a number");
    group.map_or((0, 0), |group| (number(group, "exact"), number(group, "drifted")))
}

#[test]
fn root_net_the_story_holds() {
    if !ready() {
        return;
    }
    let lab = Lab::new();
    let counted = counted(&lab, "story", "40");
    let (one, two) = (counted.count("answered by 1.0.0"), counted.count("answered by 2.0.0"));
    assert!(one > 200 && two > 100, "{}", counted.text);
    assert!(counted.count("claims that hold") >= 30, "{}", counted.text);
    let fleet = |when: &str| {
        let reports = format!("out/reports/{when}");
        (fleet(&lab, &reports, "1.0.0"), fleet(&lab, &reports, "2.0.0"))
    };
    assert_eq!(fleet("before"), ((2, 0), (0, 0)));
    assert_eq!(fleet("during"), ((2, 0), (2, 0)));
    assert_eq!(fleet("after"), ((0, 0), (2, 0)));
    assert_eq!(fleet("half"), ((0, 1), (2, 0)));
    assert_eq!(fleet("back"), ((2, 0), (0, 0)));
    assert!(lab.path("out/fleet-during.svg").is_file());
}

/// Waits until the story is where it says `mark`; it may have ended.
fn logged(child: &mut Child, log: &Path, mark: &str) -> bool {
    let end = Instant::now() + Duration::from_secs(600);
    while Instant::now() < end {
        if fs::read_to_string(log).is_ok_and(|text| text.contains(mark)) {
            return true;
        }
        if child.try_wait().expect("our own child").is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

#[test]
fn root_net_a_story_that_is_broken_off_leaves_nothing() {
    if !ready() {
        return;
    }
    let lab = Lab::new();
    let log = lab.path("log");
    let file = fs::File::create(&log).expect("our own file");
    let mut child = script(&lab, "story")
        .stdout(file.try_clone().expect("our own file"))
        .stderr(file)
        .spawn()
        .expect("bash");
    // The proxy, two machines and the load run now.
    let there = logged(&mut child, &log, "the load so far");
    let text = || fs::read_to_string(&log).expect("our own file");
    assert!(there, "{}", text());
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::INT,
    )
    .expect("our own child");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{}", text());
    assert_nothing_is_left(&lab);
}

/// A machine that is not ready yet may hang up before it was asked: that is a failed question, not
/// the end of the story.
#[test]
fn a_machine_that_hangs_up_does_not_end_the_story() {
    let lab = Lab::new();
    let story = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/story/common.sh");
    let text = fs::read_to_string(story).expect("the script");
    let from = text.find("\nexchange() {").expect("a function that asks");
    let to = from + text[from..].find("\n}\n").expect("its end") + 3;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let hangs_up = std::thread::spawn(move || drop(listener.accept().expect("a client")));
    // It is written to once it has hung up for certain, and again once the kernel knows that.
    let late = r#"printf() { cat <&9; builtin printf "$@"; builtin printf "$@"; }"#;
    let ask = format!("{}{late}\nexchange {port} x\necho \"still here, $?\"", &text[from..to]);
    let run = run(Command::new("bash").args(["-c", &ask]).current_dir(lab.path("")));
    hangs_up.join().expect("it ends");
    assert_eq!((run.code, run.out.as_str()), (0, "still here, 141\n"), "{}", run.err);
}

#[test]
fn a_story_that_cannot_begin_says_so() {
    let lab = Lab::new();
    let story = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/story/run.sh");
    let run = run(Command::new("bash").arg(story).arg("--nonsense").current_dir(lab.path("")));
    assert_eq!((run.code, run.out.as_str()), (2, ""));
    assert!(run.err.contains("--out DIR") && !run.err.contains("set -euo"), "{}", run.err);
}
