//! The gate: an image whose test fails is never published, and what a test does is never part of
//! the image.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::lab::{Lab, Run};
use crate::sandbox_lab::alive;
use crate::tier;

/// A lab with a root of one static program: a shell, a web server and small tools.
fn lab() -> Option<Lab> {
    if !tier::sandbox() || !tier::tool("busybox") {
        return None;
    }
    let lab = Lab::new();
    busybox_root(&lab);
    Some(lab)
}

/// Makes `root/` of busybox, a page at `/www/index.html` that says `blue`, and a user `app`.
pub(crate) fn busybox_root(lab: &Lab) {
    let root = lab.path("root");
    for dir in ["bin", "etc", "www"] {
        fs::create_dir_all(root.join(dir)).expect("our own directory");
    }
    let from = ["/usr/bin/busybox", "/bin/busybox"]
        .into_iter()
        .find(|path| fs::metadata(path).is_ok())
        .expect("busybox is installed");
    fs::copy(from, root.join("bin/busybox")).expect("a copy of a program");
    for name in [
        "sh", "httpd", "cat", "sleep", "wget", "true", "nc", "echo", "yes", "id", "printf", "test",
        "touch", "pwd", "env", "ls",
    ] {
        symlink("busybox", root.join("bin").join(name)).expect("our own directory");
    }
    lab.write("root/etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n");
    lab.write("root/etc/group", "root:x:0:\napp:x:1000:\n");
    lab.write("root/www/index.html", "blue\n");
}

const HTTPD: &str = "exec httpd -f -p 80 -h /www";

/// Writes `web.toml`: version 1.0.0, `command` as what the image starts, these tests.
fn recipe(lab: &Lab, command: &str, tests: &str) {
    let text = format!(
        "[image]\nname = \"web\"\nversion = \"1.0.0\"\n[base]\npath = \"root\"\n[[step]]\nfile = \"/made\"\ncontent = \"x\"\n{tests}\n[config]\ncmd = [\"sh\", \"-c\", {command:?}]\n"
    );
    lab.write("web.toml", &text);
}

const SERVES: &str = "[[test]]\nname = \"serves\"\nstart = true\nhttp = \"http://127.0.0.1/\"\ncontains = \"blue\"\ntimeout = \"20s\"\n";

/// The entry of `web:1.0.0` in `index.json`.
fn entry(lab: &Lab) -> Value {
    let index: Value =
        serde_json::from_str(&fs::read_to_string(lab.path("store/index.json")).expect("the index"))
            .expect("JSON");
    let entries = index["manifests"].as_array().expect("a list").clone();
    entries
        .into_iter()
        .find(|one| one["annotations"]["org.opencontainers.image.ref.name"] == "web:1.0.0")
        .expect("the version")
}

#[track_caller]
fn good(run: &Run) {
    assert_eq!(run.code, 0, "{}", run.err);
}

#[test]
fn an_image_that_serves_is_published() {
    let Some(lab) = lab() else { return };
    lab.write(
        "check.sh",
        "#!/bin/sh\ntest \"$1 $COLOR $(pwd)\" = 'a-b blue /www' && echo from the script\n",
    );
    let tests = format!(
        "{SERVES}\
         [[test]]\nstart = true\nhttp = \"http://blue.example/missing\"\nstatus = 404\n\
         [[test]]\nstart = true\ntcp = \"localhost:80\"\n\
         [[test]]\nstart = [true, [\"httpd\", \"-f\", \"-p\", \"81\", \"-h\", \"/www\"]]\nrun = \"wget -qO- http://127.0.0.1/ http://127.0.0.1:81/\"\nas = \"app\"\n\
         [[test]]\nrun = [\"test\", \"-e\", \"/made\"]\n\
         [[test]]\nscript = \"check.sh\"\nargs = [\"a-b\"]\nenv.COLOR = \"blue\"\nworkdir = \"/www\"\n\
         [[test]]\nfile = \"/www/index.html\"\nmode = \"0644\"\nowner = \"root:root\"\ncontains = \"blue\"\n\
         [[test]]\nfile = \"/nothing\"\nabsent = true\n"
    );
    recipe(&lab, HTTPD, &tests);
    let built = lab.bake(["build", "web.toml"]);
    good(&built);
    assert!(
        built.err.contains("[test 1/8] passed: serves")
            && built.err.contains("check| from the script"),
        "{}",
        built.err
    );
    assert_eq!(entry(&lab)["annotations"]["bake.tested"], "yes");
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
    let verified = lab.bake(["verify"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
    let shown = lab.bake(["show", "web:1.0.0"]);
    assert!(
        shown.out.contains("tested      yes, ") && shown.out.contains("serves ("),
        "{}",
        shown.out
    );
    let shown: Value =
        serde_json::from_str(&lab.bake(["show", "web:1.0.0", "--json"]).out).expect("JSON");
    let passed = shown["test_run"]["passed"].as_array().expect("a list");
    assert_eq!(
        (&shown["tested"], passed.len(), &passed[0]["name"]),
        (&"yes".into(), 8, &"serves".into())
    );
    assert_eq!(
        passed[0]["what"],
        serde_json::json!(["http://127.0.0.1/ answers 200 with \"blue\""])
    );
    let again = lab.bake(["build", "web.toml"]);
    good(&again);
    assert!(again.err.contains("already baked") && !again.err.contains("[test"), "{}", again.err);
}

/// Each bad service: exit 1, the test and its line named, the service's own words in the report, no
/// image, the version free.
#[test]
fn what_does_not_serve_is_not_published() {
    let Some(lab) = lab() else { return };
    let answer = |head: &str| format!("printf 'HTTP/1.0 {head}\\r\\n\\r\\nblue, but no good'");
    let cases = [
        (
            format!(
                "echo five hundred; while true; do {} | nc -l -p 80 >/dev/null; done",
                answer("500 Oops")
            ),
            "answered 500",
            "sh| five hundred",
        ),
        (
            format!("echo once; {} | nc -l -p 80 >/dev/null; echo and gone", answer("200 OK")),
            "did not stay alive",
            "sh| once",
        ),
        ("echo no ears; sleep 1000".to_owned(), "nobody listens there", "sh| no ears"),
        (
            "echo wrong page; echo green > /www/index.html; exec httpd -f -p 80 -h /www".to_owned(),
            "does not contain",
            "sh| wrong page",
        ),
        ("echo bye >&2; exit 3".to_owned(), "exit status 3", "sh| bye"),
        ("echo killed; kill -9 $$".to_owned(), "killed by signal 9", "sh| killed"),
        ("echo forks; httpd -p 80 -h /www".to_owned(), "must stay in the foreground", "sh| forks"),
        ("exec yes flooding".to_owned(), "nobody listens there", "sh| flooding"),
        ("exec /no/such/server".to_owned(), "exit status 127", "/no/such/server"),
    ];
    for (command, why, printed) in cases {
        // All of it passes where a service is asked until it answers well; it has to have begun.
        let timeout = match why {
            "nobody listens there" => "1500ms",
            "answered 500" | "does not contain" => "8s",
            _ => "60s",
        };
        recipe(&lab, &command, &SERVES.replace("20s", timeout));
        let failed = lab.bake(["build", "web.toml"]);
        assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{command}: {}", failed.err);
        assert!(
            failed.err.contains("test 1 of 1 failed: serves") && failed.err.contains("web.toml:12"),
            "{command}: {}",
            failed.err
        );
        assert!(failed.err.contains(why), "{command}: {}", failed.err);
        assert!(failed.err.contains(printed), "{command}: {}", failed.err);
        assert_eq!(lab.bake(["list", "--json"]).out, "", "{command}");
        assert!(lab.scratch().is_empty(), "{command}: {:?}", lab.scratch());
    }
    assert_eq!(alive(&lab.path("store").to_string_lossy()), Vec::<u32>::new());
    let logs: Vec<_> = walkdir::WalkDir::new(lab.path("store/logs"))
        .into_iter()
        .flatten()
        .filter(|e| e.file_type().is_file())
        .collect();
    assert!(
        logs.iter().all(|log| log.metadata().expect("a log").len() < 17 << 20),
        "a flood is cut"
    );
    recipe(&lab, HTTPD, SERVES);
    good(&lab.bake(["build", "web.toml"]));
}

#[test]
fn checks_say_what_is_otherwise() {
    let Some(lab) = lab() else { return };
    let cases = [
        ("file = \"/www/index.html\"\nmode = \"0600\"", "has mode 0644 instead of 0600"),
        (
            "file = \"/www/index.html\"\nowner = \"app:app\"",
            "belongs to 0:0 instead of app:app (1000:1000)",
        ),
        ("file = \"/www/index.html\"\nowner = \"nobody-here:app\"", "nobody-here"),
        (
            "file = \"/www/index.html\"\ncontains = \"red\"",
            "does not contain \"red\"; it begins \"blue",
        ),
        ("file = \"/www\"\ncontains = \"red\"", "is not a file"),
        ("file = \"/nothing\"", "/nothing is not there"),
        ("file = \"/made\"\nabsent = true", "/made is there (a file)"),
        ("run = \"echo oh; exit 4\"", "exit status 4"),
        ("run = [\"/no/such\"]", "there is no program /no/such"),
        ("run = \"true\"\nas = \"stranger\"", "stranger"),
        ("run = \"sleep 600\"\ntimeout = \"300ms\"", "came to no end within 0.3 s"),
        (
            "start = \"sleep 1000\"\nrun = \"sleep 600\"\ntimeout = \"300ms\"",
            "came to no end within 0.3 s",
        ),
        ("start = [\"/no/such\"]\nrun = \"true\"", "could not be started"),
        (
            "start = \"sleep 1000\"\ntcp = \"127.0.0.1:9\"\ntimeout = \"300ms\"",
            "nobody listens there",
        ),
    ];
    for (test, why) in cases {
        recipe(&lab, HTTPD, &format!("[[test]]\n{test}\n"));
        let failed = lab.bake(["build", "web.toml"]);
        assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{test}: {}", failed.err);
        assert!(failed.err.contains(why), "{test}: {}", failed.err);
    }
    assert_eq!(lab.bake(["list", "--json"]).out, "");
}

#[test]
fn every_test_has_a_fresh_copy_and_the_image_stays_as_it_is() {
    let Some(lab) = lab() else { return };
    recipe(&lab, HTTPD, "");
    let plain = lab.bake(["build", "web.toml", "--store", "plain"]);
    good(&plain);
    let writes = "[[test]]\nstart = true\nrun = \"test ! -e /left && echo x > /left && echo x >> /www/index.html && touch /etc/passwd\"\n";
    recipe(&lab, "echo x > /from-the-service; exec sleep 1000", &format!("{writes}{writes}"));
    let tested = lab.bake(["build", "web.toml", "--store", "tested"]);
    good(&tested);
    recipe(&lab, HTTPD, writes);
    let other = lab.bake(["build", "web.toml"]);
    good(&other);
    assert_eq!(
        plain.out, other.out,
        "with tests or without, however long they took: the same image"
    );
    assert_ne!(plain.out, tested.out, "another command is another image");
    let listed = lab.bake([
        "export",
        "web:1.0.0",
        "--store",
        "tested",
        "--format",
        "dir",
        "--output",
        "out",
    ]);
    if rustix::process::geteuid().is_root() {
        good(&listed);
        assert!(!lab.path("out/left").exists() && !lab.path("out/from-the-service").exists());
        assert_eq!(fs::read_to_string(lab.path("out/www/index.html")).expect("the page"), "blue\n");
    }
}

#[test]
fn untested_until_the_tests_have_passed() {
    let Some(lab) = lab() else { return };
    recipe(&lab, HTTPD, SERVES);
    let built = lab.bake(["build", "web.toml", "--no-test"]);
    good(&built);
    assert!(
        built.err.contains("published untested") && built.err.contains("bake test web:1.0.0"),
        "{}",
        built.err
    );
    assert_eq!(entry(&lab)["annotations"]["bake.tested"], "no");
    assert!(lab.bake(["show", "web"]).out.contains("tested      no: `bake test web:1.0.0`"));
    // From the image alone: the recipe and its directory are not needed.
    fs::rename(lab.path("web.toml"), lab.path("away.toml")).expect("our own file");
    let tested = lab.bake(["test", "web:1.0.0", "--json"]);
    good(&tested);
    let last: Value =
        serde_json::from_str(tested.out.lines().last().expect("a line")).expect("JSON");
    assert_eq!(
        (&last["type"], &last["name"], &last["version"], &last["tests"]),
        (&"tested".into(), &"web".into(), &"1.0.0".into(), &1.into())
    );
    assert!(
        built.out.contains(last["digest"].as_str().expect("a digest")),
        "the image is the same"
    );
    assert_eq!(entry(&lab)["annotations"]["bake.tested"], "yes");
    assert!(lab.scratch().is_empty());
    // Once more, by its newest version.
    good(&lab.bake(["test", "web"]));
    assert_eq!(lab.bake(["verify"]).code, 0);
    lab.bake(["rm", "web:1.0.0"]);
    assert_eq!(
        fs::read_dir(lab.path("store/blobs/sha256")).expect("a directory").count(),
        0,
        "what speaks about a version goes with it"
    );
}

#[test]
fn a_changed_test_runs_again_without_a_new_image() {
    let Some(lab) = lab() else { return };
    recipe(&lab, HTTPD, SERVES);
    let first = lab.bake(["build", "web.toml"]);
    good(&first);
    recipe(&lab, HTTPD, &SERVES.replace("blue", "red").replace("20s", "500ms"));
    let failed = lab.bake(["build", "web.toml"]);
    assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{}", failed.err);
    assert_eq!(entry(&lab)["annotations"]["bake.tested"], "yes", "it is what it was");
    recipe(&lab, HTTPD, &SERVES.replace("blue", "lu"));
    let again = lab.bake(["build", "web.toml"]);
    good(&again);
    assert_eq!(again.out, first.out);
    assert!(
        again.err.contains("already baked")
            && again.err.contains("[test 1/1] passed")
            && !again.err.contains("[1/1]"),
        "{}",
        again.err
    );
    // Untested images are tested by the next build that may.
    recipe(&lab, HTTPD, &SERVES.replace("blue", "ue"));
    good(&lab.bake(["build", "web.toml", "--no-test"]));
    assert_eq!(entry(&lab)["annotations"]["bake.tested"], "no");
    good(&lab.bake(["build", "web.toml"]));
    assert_eq!(entry(&lab)["annotations"]["bake.tested"], "yes");
    recipe(&lab, HTTPD, "");
    good(&lab.bake(["build", "web.toml"]));
    assert_eq!(entry(&lab)["annotations"]["bake.tested"], "none");
    let none = lab.bake(["test", "web:1.0.0"]);
    assert_eq!(none.code, 1, "{}", none.err);
    assert!(none.err.contains("published without tests"), "{}", none.err);
}

#[test]
fn a_test_that_is_off_is_reported() {
    let Some(lab) = lab() else { return };
    recipe(
        &lab,
        HTTPD,
        "[[test]]\nname = \"elsewhere\"\nwhen = \"arch == 'sparc'\"\nrun = \"exit 1\"\n",
    );
    let built = lab.bake(["build", "web.toml"]);
    good(&built);
    assert!(built.err.contains("off by its `when`: elsewhere"), "{}", built.err);
}

#[test]
fn a_script_that_is_not_there_is_a_mistake_on_its_line() {
    let lab = Lab::new();
    recipe(&lab, HTTPD, "[[test]]\nscript = \"gone.sh\"\n");
    fs::create_dir(lab.path("root")).expect("our own directory");
    let failed = lab.bake(["check", "web.toml"]);
    assert_eq!(failed.code, 2, "{}", failed.err);
    assert!(failed.err.contains("web.toml:10") && failed.err.contains("gone.sh"), "{}", failed.err);
}

#[test]
fn a_failed_gate_is_reported_as_json() {
    let Some(lab) = lab() else { return };
    recipe(
        &lab,
        HTTPD,
        "[[test]]\nname = \"a\"\nrun = \"true\"\n[[test]]\nname = \"b\"\nrun = \"echo oh; exit 4\"\n",
    );
    let failed = lab.bake(["build", "web.toml", "--json"]);
    assert_eq!(failed.code, 1);
    let objects: Vec<Value> =
        failed.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let last = objects.last().expect("a line");
    assert_eq!(
        (&last["type"], &last["kind"], &last["step"], &last["line"]),
        (&"failed".into(), &"test".into(), &"b".into(), &14.into())
    );
    assert_eq!(last["output"], serde_json::json!(["check| oh"]));
    assert!(
        objects.iter().any(|one| one["type"] == "test-done" && one["test"] == 1),
        "{}",
        failed.out
    );
    assert!(
        fs::read_to_string(last["log"].as_str().expect("a path"))
            .expect("the log")
            .contains("check| oh")
    );
}
