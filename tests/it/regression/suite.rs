//! What was found wrong with the tests and the story themselves.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::lab::Lab;
use crate::tier;

/// B20
#[test]
fn root_tests_that_cannot_run_are_counted_in_a_summary() {
    if !tier::root() || !tier::tool("setpriv") {
        return;
    }
    let lab = Lab::new();
    let copy = lab.path("it");
    fs::copy(std::env::current_exe().expect("a path"), &copy).expect("a copy that all may run");
    let run = |require: Option<&str>| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&copy).args([
            "--exact",
            "regression::suite::root_tests_that_cannot_run_are_counted_in_a_summary",
        ]);
        command.current_dir("/").env_remove("BAKE_REQUIRE");
        command.envs(require.map(|value| ("BAKE_REQUIRE", value)));
        command.output().expect("setpriv")
    };
    let skipped = run(None);
    let text = String::from_utf8_lossy(&skipped.stderr).into_owned();
    assert!(skipped.status.success(), "{text}");
    let expected = "skipped: 1 tests did not run here, though they say ok";
    assert!(text.contains(expected) && text.contains("this test needs root"), "{text}");
    let required = run(Some("1"));
    assert!(!required.status.success(), "with BAKE_REQUIRE nothing is skipped");
}

/// B21
#[test]
fn no_test_looks_at_all_of_the_host() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let mut wrong = vec![];
    for entry in fs::read_dir(&tests).expect("our own directory") {
        let path = entry.expect("our own directory").path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let count = |what: &str| text.matches(what).count();
        // All mounts or processes there are: only to look for those that carry the test's own mark.
        let all = count("read_dir(\"/proc\")") + count("/proc/self/mountinfo");
        let own = count("token") + count("lab.") + count("lab:") + count("scratch");
        if all > 0 && own == 0 {
            wrong.push(path.clone());
        }
        // A comparison that compares nothing.
        assert_eq!(count("let _ = before"), 0, "{path:?}");
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// E18
#[test]
fn the_story_says_that_it_builds_bake() {
    let story = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/story/common.sh");
    let text = fs::read_to_string(story).expect("our own file");
    let (before, _) = text.split_once("cargo build").expect("it builds bake where it must");
    assert!(before.contains("which takes minutes"), "a person waits for two minutes unprepared");
    assert!(before.contains("-newer \"$BAKE\""), "what is built already is used");
}
