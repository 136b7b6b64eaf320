//! Limits of a recipe and of the command line: what a person reads when one is reached, and what
//! they do not change.

use crate::lab::{Lab, Run};
use crate::tier;

fn recipe(steps: &str) -> String {
    format!("[image]\nname = \"tiny\"\nversion = \"1\"\n[base]\npath = \"root\"\n{steps}")
}

fn build(lab: &Lab, steps: &str, flags: &[&str]) -> Run {
    lab.write("tiny.toml", &recipe(steps));
    lab.bake(["build", "tiny.toml"].iter().chain(flags).copied())
}

#[test]
fn a_step_that_takes_too_much_fails_by_the_name_of_the_limit() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    let check = |step: &str, flags: &[&str], reason: &str, hint: &str| {
        let failed = build(&lab, step, flags);
        assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{}", failed.err);
        assert!(failed.err.contains(reason) && failed.err.contains(hint), "{}", failed.err);
        assert!(failed.err.contains("step 1 of 1 failed"), "{}", failed.err);
        assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
    };
    let hog = "[[step]]\nrun = \"a=x; while true; do a=$a$a; done\"\n";
    check(
        &format!("{hog}limits.memory = \"100MiB\"\n"),
        &[],
        "of memory, its limit is 100.0 MiB, and was ended",
        "`limits.memory = \"200MiB\"` in the step or in `[defaults]`, or `--limit memory=200MiB`",
    );
    check(
        &format!("[defaults]\nlimits.memory = \"90%\"\n{hog}"),
        &["--limit", "memory=1GiB", "--limit", "memory=50MiB"],
        "of memory, its limit is 50.0 MiB, and was ended",
        "--limit memory=100MiB",
    );
    check(
        "[[step]]\nrun = \"b() { b | b & }; b; sleep 60\"\nlimits.processes = 50\n",
        &[],
        "processes and threads, its limit is 50, and was ended",
        "`limits.processes = 100`",
    );
    check(
        "[[step]]\nrun = \"seq 10000000 > /a\"\n[defaults.limits]\ndisk = \"20MiB\"\n",
        &[],
        "of disk and /tmp, its limit is 20.0 MiB, and was ended",
        "--limit disk=40MiB",
    );
    check(
        "[[step]]\nrun = \"seq 100000000\"\nlimits.output = \"1MiB\"\n",
        &[],
        "its limit is 1.0 MiB, and was ended",
        "`limits.output = \"2MiB\"`",
    );
}

#[test]
fn limits_change_nothing_of_what_is_built() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    let step = "[[step]]\nrun = \"seq 3000000 > /a\"\nlimits.disk = \"10MiB\"\n";
    let failed = build(&lab, step, &[]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    // What the command line says wins.
    let built = build(&lab, step, &["--limit", "disk=none"]);
    assert_eq!(built.code, 0, "{}", built.err);
    let again = build(&lab, "[[step]]\nrun = \"seq 3000000 > /a\"\n", &[]);
    assert_eq!(again.code, 0, "{}", again.err);
    assert!(again.err.contains("already baked"), "{}", again.err);
}

#[test]
fn a_limit_that_is_none_is_a_mistake_of_the_command_line() {
    let lab = Lab::new();
    let check = |limit: &str, expected: &str| {
        let ran = lab.bake(["list", "--limit", limit]);
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(ran.err.contains(expected), "{limit}: {}", ran.err);
    };
    check("memory", "expected NAME=VALUE, such as memory=2GiB");
    check("memory=lots", "\"lots\" is not a limit");
    check("memmory=1GiB", "did you mean memory?");
    check("processes=-1", "expected a whole number from 1 to 4194304");
    check("time=1s", "the time of a step is its `timeout` in the recipe");
}

#[test]
fn tests_and_containers_have_limits_too() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    let test = "[[test]]\nrun = \"a=x; while true; do a=$a$a; done\"\n";
    let failed = build(&lab, test, &["--limit", "memory=60MiB"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    assert!(failed.err.contains("of memory, its limit is 60.0 MiB"), "{}", failed.err);
    assert_eq!(build(&lab, "", &[]).code, 0);
    let script = "a=x; while true; do a=$a$a; done";
    let ran = lab.bake(["run", "--limit", "memory=60MiB", "tiny:1", "--", "sh", "-c", script]);
    assert_ne!(ran.code, 0);
    assert!(ran.err.contains("of memory, its limit is 60.0 MiB"), "{}", ran.err);
}
