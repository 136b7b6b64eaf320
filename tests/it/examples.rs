//! The examples that need packages, as a reader would run them.

use std::fs;
use std::path::Path;

use crate::lab::Lab;
use crate::tier;

/// A lab with a copy of an example's files.
fn lab(example: &str, files: &[&str]) -> Option<Lab> {
    if !tier::sandbox() {
        return None;
    }
    let lab = Lab::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
    for file in files {
        lab.write(file, &fs::read_to_string(from.join(file)).expect("a file of the example"));
    }
    Some(lab)
}

#[test]
fn net_a_program_is_compiled_in_a_stage_and_shipped_alone() {
    let Some(lab) = lab("stages", &["scratch.toml", "src/hello.c"]) else { return };
    let first = lab.bake(["build", "scratch.toml"]);
    assert_eq!(first.code, 0, "{}", first.err);
    let manifest = lab.bake(["export", "hello:1.0.0", "--format", "manifest", "--output", "-"]);
    assert!(manifest.out.contains("./usr/bin/hello"), "{}", manifest.out);
    assert!(!manifest.out.contains("gcc") && !manifest.out.contains("./bin"), "{}", manifest.out);
    // Another comment, the same program: nothing above the stage is made again.
    let source = fs::read_to_string(lab.path("src/hello.c")).expect("ours");
    lab.write("src/hello.c", &source.replace("/* Says", "/* Prints"));
    let again = lab.bake(["build", "scratch.toml"]);
    assert_eq!((again.code, &again.out), (0, &first.out), "{}", again.err);
    assert!(again.err.contains("done: compile"), "{}", again.err);
    assert!(again.err.contains("cached: copy /out/hello"), "{}", again.err);
}

#[test]
fn net_services_stand_on_a_company_base() {
    let files = ["base.toml", "orders.toml", "invoices.toml"];
    let Some(lab) = lab("base", &files) else { return };
    let built = lab.bake(["build"].iter().chain(&files));
    assert_eq!(built.code, 0, "{}", built.err);
    let names: Vec<&str> = built.out.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["company-base:1.0.0", "orders:1.0.0", "invoices:1.0.0"]);
    assert_eq!(lab.bake(["verify", "-q"]).code, 0);
}
