//! `bake gc` as a person runs it: the report, the removal, and layers whose files belong to ids of
//! the user namespace.

use std::fs;

use bake::store::Store;
use serde_json::Value;

use crate::lab::Lab;
use crate::store_lab::{publish, tick};
use crate::tier;

fn lab() -> Lab {
    let lab = Lab::new();
    let store = Store::open(&lab.path("store")).expect("open");
    for version in ["web:1.0.0", "web:1.1.0", "web:2.0.0"] {
        publish(&store, version, version);
    }
    lab
}

fn objects(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

#[test]
fn says_what_goes_and_then_it_goes() {
    let lab = lab();
    let run = lab.bake(["gc"]);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", "nothing to free\n"));
    assert_eq!(lab.bake(["promote", "web:1.0.0", "production"]).code, 0);
    let before = lab.images_hash();
    let dry = lab.bake(["gc", "--keep", "1", "--dry-run"]);
    assert_eq!(dry.code, 0, "{}", dry.err);
    assert!(lab.images_hash() == before);
    let lines: Vec<Vec<&str>> =
        dry.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["web:1.1.0"]);
    assert_eq!(lines[1], ["WHAT", "COUNT", "FREES"]);
    assert_eq!(lines[2][..2], ["versions", "1"]);
    assert_eq!(lines[3][..2], ["blobs", "3"]);
    assert_eq!(lines.last().expect("a total")[0], "total");
    assert!(dry.err.starts_with("nothing was removed; `bake gc` would free "), "{}", dry.err);
    let run = lab.bake(["gc", "--keep", "1"]);
    assert_eq!((run.code, &run.out), (0, &dry.out), "{}", run.err);
    assert!(run.err.starts_with("freed "), "{}", run.err);
    let listed = lab.bake(["list"]).out;
    assert!(
        listed.contains("1.0.0") && listed.contains("2.0.0") && !listed.contains("1.1.0"),
        "{listed}"
    );
    assert_eq!(lab.bake(["verify"]).code, 0);
    assert_eq!(lab.bake(["gc", "--keep", "1"]).err, "nothing to free\n");
}

#[test]
fn json_says_the_same() {
    let lab = lab();
    let planned = objects(&lab.bake(["gc", "--keep", "1", "--dry-run", "--json"]).out);
    let done = objects(&lab.bake(["gc", "--keep", "1", "--json"]).out);
    let kinds: Vec<_> = done.iter().map(|one| one["type"].as_str().expect("a type")).collect();
    assert_eq!(kinds, ["expired", "expired", "garbage", "garbage", "collected"]);
    assert_eq!((&done[0]["name"], &done[0]["version"]), (&"web".into(), &"1.0.0".into()));
    assert_eq!((&done[3]["kind"], &done[3]["count"]), (&"blobs".into(), &6.into()));
    assert_eq!((&planned[4]["dry_run"], &done[4]["dry_run"]), (&true.into(), &false.into()));
    assert!(planned[4]["bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    assert_eq!(planned[4]["bytes"], done[4]["bytes"]);
}

#[test]
fn ages_are_read_at_the_edge() {
    let lab = lab();
    for (age, code) in [("30d", 0), ("0s", 0), ("30", 2), ("soon", 2), ("-1d", 2)] {
        let run = lab.bake(["gc", "--dry-run", &format!("--older-than={age}")]);
        assert_eq!(run.code, code, "{age}: {}", run.err);
    }
    assert_eq!(lab.bake(["gc", "--keep", "-1"]).code, 2);
}

#[test]
fn root_what_builds_leave_is_freed_and_the_next_build_just_works() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.tiny_root();
    let recipe = |version: &str| {
        let steps = "[[step]]\nrun = \"touch /mine && chown 7:7 /mine && mkdir /own && chown 9:9 /own\"\n\n[[step]]\nrun = \"echo two > /two\"\n";
        let text = format!(
            "[image]\nname = \"web\"\nversion = \"{version}\"\n\n[base]\npath = \"root\"\n\n{steps}"
        );
        lab.write("web.toml", &text);
    };
    recipe("1");
    let first = lab.bake(["build", "web.toml"]);
    assert_eq!(first.code, 0, "{}", first.err);
    recipe("2");
    assert_eq!(lab.bake(["build", "web.toml"]).code, 0);
    // A build that died, with files of ids that only exist inside the namespace: an unpacked layer
    // moved there by hand.
    let layers = lab.path("store/cache/layers");
    let trees = || {
        fs::read_dir(&layers)
            .expect("list")
            .map(|entry| entry.expect("entry").path())
            .filter(|path| path.is_dir())
            .collect::<Vec<_>>()
    };
    let unpacked = trees();
    assert!(!unpacked.is_empty(), "a build leaves its layers unpacked");
    let dead = lab.path("store/scratch/20000101T000000000-dead");
    fs::create_dir(&dead).expect("mkdir");
    let moved = fs::rename(&unpacked[0], dead.join("step-0")).is_ok();
    tick();
    let planned = objects(
        &lab.bake(["gc", "--cache-older-than", "0s", "--keep", "1", "--dry-run", "--json"]).out,
    );
    let kinds: Vec<_> = planned.iter().filter_map(|one| one["kind"].as_str()).collect();
    for kind in ["versions", "blobs", "steps", "cache-blobs", "scratch"] {
        assert!(kinds.contains(&kind), "{kind}: {planned:?}");
    }
    assert_eq!(kinds.contains(&"layers"), unpacked.len() > usize::from(moved), "{planned:?}");
    let run = lab.bake(["gc", "--cache-older-than", "0s", "--keep", "1"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(trees(), Vec::<std::path::PathBuf>::new());
    assert_eq!(lab.scratch(), Vec::<std::path::PathBuf>::new());
    assert_eq!(lab.bake(["verify"]).code, 0);
    assert_eq!(
        lab.bake(["gc", "--cache-older-than", "0s", "--keep", "1"]).err,
        "nothing to free\n"
    );
    // Everything runs again, and gives the same.
    recipe("1");
    let again = lab.bake(["build", "web.toml"]);
    assert_eq!((again.code, again.out), (0, first.out), "{}", again.err);
    assert_eq!(lab.bake(["verify"]).code, 0);
}
