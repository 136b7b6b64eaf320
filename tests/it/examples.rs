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
fn a_workspace_shares_variables() {
    let files = ["bake.toml", "site/recipe.toml", "site/index.html.j2", "status/recipe.toml"];
    let Some(lab) = lab("workspace", &files) else { return };
    let built = lab.bake(["build"]);
    assert_eq!(built.code, 0, "{}", built.err);
    let names: Vec<&str> = built.out.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["site:1.0.0", "status:1.0.0"]);
    assert_eq!(lab.bake(["fmt", "--check"]).code, 0);
    let release = fs::read_to_string(lab.path("bake.toml")).expect("ours");
    lab.write("bake.toml", &release.replace("1.0.0", "1.1.0"));
    let next = lab.bake(["build"]);
    assert_eq!(next.code, 0, "{}", next.err);
    let out = lab.bake(["export", "status:1.1.0", "-f", "dir", "--drop-owners", "-o", "out"]);
    assert_eq!(out.code, 0, "{}", out.err);
    let page = fs::read_to_string(lab.path("out/srv/index.html")).expect("a page");
    assert!(page.contains("release 1.1.0, by Example"), "{page}");
}

#[test]
fn recipes_share_an_included_file() {
    let files = ["shop.toml", "blog.toml", "parts/host.toml", "parts/motd.j2"];
    let Some(lab) = lab("include", &files) else { return };
    let recipes = ["shop.toml", "blog.toml"];
    assert_eq!(lab.bake(["fmt", "--check"].iter().chain(&files[..3])).code, 0);
    let built = lab.bake(["build"].iter().chain(&recipes));
    assert_eq!(built.code, 0, "{}", built.err);
    let out = lab.bake(["export", "shop:1.0.0", "-f", "dir", "--drop-owners", "-o", "out"]);
    assert_eq!(out.code, 0, "{}", out.err);
    let motd = fs::read_to_string(lab.path("out/etc/motd")).expect("a file of the image");
    assert_eq!(motd, "The shop of Example\nshop 1.0.0, port 8080\n");
    let host = fs::read_to_string(lab.path("parts/host.toml")).expect("ours");
    lab.write("parts/host.toml", &host.replace("port = {{", "listen = {{"));
    let explained = lab.bake(["explain"].iter().chain(&recipes));
    let runs = explained.out.lines().filter(|line| line.contains(" is \"listen"));
    let lines: Vec<&str> = runs.filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(lines, ["parts/host.toml:11"; 2], "{}", explained.out);
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
    // After a change in the base it is reported why each service is built again.
    let base = fs::read_to_string(lab.path("base.toml")).expect("ours");
    lab.write("base.toml", &base.replace("content = \"example", "content = \"another"));
    let explained = lab.bake(["explain", "orders.toml"]);
    assert!(explained.out.contains("was \"example\\n\", is \"another\\n\""), "{}", explained.out);
    let again = lab.bake(["build", "--json", "--set-version", "2.0.0"].iter().chain(&files));
    assert_eq!(again.code, 0, "{}", again.out);
    let lines: Vec<serde_json::Value> =
        again.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for image in ["orders:2.0.0", "invoices:2.0.0"] {
        let missed: Vec<&serde_json::Value> = lines
            .iter()
            .filter(|one| one["type"] == "step-missed" && one["image"] == image)
            .map(|one| &one["why"])
            .collect();
        assert_eq!(missed, ["its base, recipe base.toml, has other layers"], "{image}");
    }
}
