//! Steps that only copy: their layers are written straight from the context, and unpacked only for
//! those who need them.

use std::fs;

use crate::lab::{Lab, run};
use crate::tier;

fn lab(steps: &str) -> Option<Lab> {
    if !tier::sandbox() {
        return None;
    }
    let lab = Lab::new();
    lab.tiny_root();
    for n in 0..300 {
        lab.write(&format!("tree/d{}/f{n}", n % 7), &format!("file {n}\n").repeat(n * 20));
    }
    lab.write("one", "1");
    std::os::unix::fs::symlink("srv/tree/d1", lab.path("root/www")).expect("our own directory");
    recipe(&lab, "1", steps);
    Some(lab)
}

fn recipe(lab: &Lab, version: &str, steps: &str) {
    lab.write(
        "r.toml",
        &format!(
            "[image]\nname = \"r\"\nversion = \"{version}\"\n[base]\npath = \"root\"\n{steps}"
        ),
    );
}

const TREE: &str = "[[step]]\ncopy = \"tree/\"\nto = \"/srv/tree/\"\n";

/// Builds, and returns the digest of the image.
fn build(lab: &Lab, more: &[&str]) -> String {
    let built = lab.bake([&["build", "r.toml"][..], more].concat());
    assert_eq!(built.code, 0, "{}", built.err);
    built.out.split_whitespace().nth(1).expect("a digest").to_owned()
}

/// How many unpacked layers of the cache have the tree in them.
fn trees(lab: &Lab) -> usize {
    let listed = fs::read_dir(lab.path("store/cache/layers")).expect("a directory");
    listed
        .filter(|one| one.as_ref().expect("a name").path().join("srv/tree/d1/f1").exists())
        .count()
}

#[test]
fn userns_a_tree_that_nobody_needs_is_never_unpacked() {
    let Some(lab) =
        lab(&format!("{TREE}[[step]]\ncopy = \"one\"\nto = \"/opt/one\"\nowner = \"app:app\"\n"))
    else {
        return;
    };
    build(&lab, &[]);
    assert_eq!(trees(&lab), 0);
    let tar = run(lab
        .command(["export", "r:1", "--format", "tar", "-o", "out.tar"])
        .current_dir(lab.path("")));
    assert_eq!(tar.code, 0, "{}", tar.err);
    let listed = run(std::process::Command::new("tar").args(["tvf"]).arg(lab.path("out.tar")));
    for part in ["srv/tree/d6/f6\n", "1000/1000", "opt/one\n", "usr/lib/bake/image.json"] {
        assert!(listed.out.contains(part), "no {part} in {}", listed.out);
    }
}

#[test]
fn userns_steps_that_need_the_tree_have_it() {
    let needs = [
        "[[step]]\nrun = \"cat /srv/tree/d1/f1 > /seen\"\n",
        "[[step]]\ncopy = \"one\"\nto = \"/srv/tree/d1/new\"\n",
        // Through a link of the base.
        "[[step]]\ncopy = \"one\"\nto = \"/www/new\"\n",
        "[[step]]\nfile = \"/srv/tree/d1/new\"\ncontent = \"x\"\n",
    ];
    for (n, step) in needs.iter().enumerate() {
        let Some(lab) = lab(&format!("{TREE}{step}")) else { return };
        build(&lab, &[]);
        assert_eq!(trees(&lab), 1, "{n}: {step}");
        // Again with the first step from the cache and without its directory: the same image.
        recipe(&lab, "2", &format!("{TREE}{step}"));
        let first = build(&lab, &[]);
        let run =
            run(std::process::Command::new("rm").arg("-rf").arg(lab.path("store/cache/layers")));
        assert_eq!(run.code, 0);
        recipe(&lab, "3", &format!("{TREE}{step}"));
        let again = build(&lab, &["--no-cache=2"]);
        assert_ne!(first, again, "another version is another image");
    }
}

#[test]
fn userns_what_a_copy_meets_in_the_tree_below_counts() {
    let over = "[[step]]\ncopy = \"one\"\nto = \"/srv/tree/d1\"\n";
    let Some(lab) = lab(&format!("{TREE}{over}")) else { return };
    let failed = lab.bake(["build", "r.toml"]);
    assert_eq!(failed.code, 1);
    assert!(
        failed.err.contains("/srv/tree/d1: is a directory and a file cannot take its place"),
        "{}",
        failed.err
    );
    // The same files once more are no layer.
    recipe(&lab, "1", &format!("{TREE}{TREE}"));
    build(&lab, &[]);
    let shown = lab.bake(["show", "r:1", "--json"]);
    let layers = shown.out.matches("application/vnd.oci.image.layer").count();
    assert!(layers == 0 || layers == 3, "base, tree, identity: {}", shown.out);
}

#[test]
fn userns_the_same_bytes_whatever_was_made_before() {
    let Some(lab) = lab(TREE) else { return };
    build(&lab, &[]);
    let big = "big ".repeat(3 << 20);
    lab.write("tree/d3/big", &big);
    recipe(&lab, "2", TREE);
    build(&lab, &[]);
    lab.write("tree/d0/f0", "changed\n");
    recipe(&lab, "3", TREE);
    let with = build(&lab, &[]);
    assert!(lab.path("store/cache/members").read_dir().expect("a directory").count() == 1);
    let other = lab.path("other");
    let without = build(&lab, &["--store", other.to_str().expect("text")]);
    assert_eq!(with, without);
    let verified = lab.bake(["verify"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
}
