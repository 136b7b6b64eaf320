//! The step cache as a person sees it: what runs again, what does not, and what is reported about
//! it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::lab::{Lab, Run, run};
use crate::sandbox_user::somebody;
use crate::tier;

fn lab() -> Option<Lab> {
    if !tier::sandbox() {
        return None;
    }
    let lab = Lab::new();
    lab.tiny_root();
    Some(lab)
}

/// A recipe over the tiny root; `steps` follow.
fn recipe(lab: &Lab, version: &str, steps: &str) {
    lab.write(
        "tiny.toml",
        &format!(
            "[image]\nname = \"tiny\"\nversion = \"{version}\"\n[base]\npath = \"root\"\n{steps}"
        ),
    );
}

fn objects(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// The steps that ran, by number; 0 is the base.
fn ran(built: &Run) -> Vec<u64> {
    assert_eq!(built.code, 0, "{}", built.out);
    let done = objects(&built.out)
        .into_iter()
        .filter(|object| object["type"] == "step-done" && object["cached"] == false);
    done.map(|object| object["step"].as_u64().expect("a number")).collect()
}

fn build(lab: &Lab, more: &[&str]) -> Run {
    lab.bake(["build", "--json", "tiny.toml"].iter().chain(more))
}

/// What is reported of step `index` that is not cached.
fn why(built: &Run, index: u64) -> String {
    let object = objects(&built.out)
        .into_iter()
        .find(|object| object["type"] == "step-missed" && object["step"] == index);
    object.expect("a reason")["why"].as_str().expect("text").to_owned()
}

const STEPS: &str = "[[step]]\nrun = \"echo one > /one\"\n[[step]]\ncopy = \"site/\"\nto = \"/srv/\"\n\
    [[step]]\nrun = \"cat /srv/index.html > /three\"\n[[step]]\ncopy = \"other.txt\"\nto = \"/other.txt\"\n";

fn site(lab: &Lab) {
    lab.write("site/index.html", "hello");
    lab.write("site/deep/logo.svg", "<svg/>");
    lab.write("other.txt", "other");
}

/// E6
#[test]
fn only_what_changed_runs_again() {
    let Some(lab) = lab() else { return };
    site(&lab);
    recipe(&lab, "1", STEPS);
    assert_eq!(ran(&build(&lab, &[])), [0, 1, 2, 3, 4]);
    assert_eq!(
        ran(&build(&lab, &["--set-version", "2"])),
        [0_u64; 0],
        "another version of the same steps runs nothing"
    );
    // A touch changes nothing that counts.
    let file =
        fs::File::options().write(true).open(lab.path("site/index.html")).expect("our own file");
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(60))
        .expect("our own file");
    assert_eq!(ran(&build(&lab, &["--set-version", "3"])), [0_u64; 0]);
    // One byte of the last copied file.
    lab.write("other.txt", "othor");
    let built = build(&lab, &["--set-version", "4"]);
    assert_eq!(ran(&built), [4]);
    assert_eq!(why(&built, 4), "changed: other.txt");
    // One byte below: what reads it, and what lies above.
    lab.write("site/deep/logo.svg", "<SVG/>");
    let explained = lab.bake(["explain", "tiny.toml", "--set-version", "5"]);
    assert!(
        explained.out.contains("deep/logo.svg") && explained.out.contains("depends"),
        "{}",
        explained.out
    );
    let built = build(&lab, &["--set-version", "5"]);
    assert_eq!(ran(&built), [2, 3, 4]);
    assert_eq!(why(&built, 2), "changed: deep/logo.svg");
    assert_eq!(why(&built, 3), "a step below gave another layer");
    assert_eq!(lab.bake(["verify"]).code, 0);
}

/// What `bake history` calls the steps of a version by: the names of their entries in the cache,
/// and nothing of the image.
#[test]
fn a_history_names_the_keys_of_the_steps() {
    let Some(lab) = lab() else { return };
    site(&lab);
    let keys = |image: &str| -> Vec<Value> {
        let printed = lab.bake(["history", image, "--json"]);
        objects(&printed.out).iter().map(|step| step["key"].clone()).collect()
    };
    recipe(&lab, "1", STEPS);
    let first = build(&lab, &[]);
    assert_eq!(ran(&first), [0, 1, 2, 3, 4]);
    let cold = keys("tiny:1");
    assert_eq!(cold.len(), 6, "the base, four steps, the identity: {cold:?}");
    let entries: Vec<_> = fs::read_dir(lab.path("store/cache/steps"))
        .expect("the cache")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    for key in &cold {
        let key = key.as_str().unwrap_or_else(|| panic!("{cold:?}"));
        assert!(
            entries.iter().any(|entry| entry.as_encoded_bytes().starts_with(key.as_bytes())),
            "{key} {entries:?}"
        );
    }
    let text = lab.bake(["history", "tiny:1"]).out;
    let short = cold[1].as_str().expect("text");
    assert!(
        text.lines()
            .nth(2)
            .is_some_and(|line| line.contains(short) && line.contains("run echo one")),
        "{text}"
    );
    // From the cache, in any order of packing: the same keys. A step that is made from something
    // else: another key, the same image.
    assert_eq!(lab.bake(["rm", "tiny:1"]).code, 0);
    assert_eq!(ran(&build(&lab, &[])), [0_u64; 0]);
    assert_eq!(keys("tiny:1"), cold);
    assert_eq!(lab.bake(["rm", "tiny:1"]).code, 0);
    recipe(
        &lab,
        "1",
        &STEPS.replace("[[step]]\nrun = \"cat", "[[step]]\nnetwork = true\nrun = \"cat"),
    );
    let again = build(&lab, &[]);
    assert_eq!(ran(&again), [3]);
    let digest = |built: &Run| objects(&built.out).last().expect("a line")["digest"].clone();
    assert_eq!(digest(&again), digest(&first));
    let other = keys("tiny:1");
    assert!(
        other[3] != cold[3] && other[..3] == cold[..3] && other[4..] == cold[4..],
        "{cold:?} {other:?}"
    );
    // Elsewhere nobody knows them; and what a stranger wrote there is no key.
    for (put, keys_then) in [
        ("\"x\"", vec![Value::Null; 6]),
        ("\"- zz \\u001b[2J 0123456789AB\"", vec![Value::Null; 6]),
    ] {
        let index: Value = serde_json::from_str(
            &fs::read_to_string(lab.path("store/index.json")).expect("the index"),
        )
        .expect("JSON");
        let mut index = index;
        let entries = index["manifests"].as_array_mut().expect("a list");
        let entry = entries
            .iter_mut()
            .find(|one| one["annotations"]["org.opencontainers.image.ref.name"] == "tiny:1")
            .expect("it");
        entry["annotations"]["bake.step-keys"] = serde_json::from_str(put).expect("JSON");
        lab.write("store/index.json", &index.to_string());
        assert_eq!(keys("tiny:1"), keys_then, "{put}");
    }
    let text = lab.bake(["history", "tiny:1"]).out;
    assert!(
        text.lines().skip(1).all(|line| line.split_whitespace().any(|word| word == "-"))
            && !text.contains('\u{1b}'),
        "{text}"
    );
}

#[test]
fn a_step_that_gives_the_same_layer_keeps_what_is_above() {
    let Some(lab) = lab() else { return };
    recipe(&lab, "1", "[[step]]\nrun = \"echo one > /one\"\n[[step]]\nrun = \"echo two > /two\"\n");
    assert_eq!(ran(&build(&lab, &[])), [0, 1, 2]);
    recipe(
        &lab,
        "2",
        "[[step]]\nrun = \"echo one | cat > /one\"\n[[step]]\nrun = \"echo two > /two\"\n",
    );
    let built = build(&lab, &[]);
    assert_eq!(ran(&built), [1]);
    assert!(
        why(&built, 1).contains("command was \"echo one > /one\", is \"echo one | cat > /one\""),
        "{}",
        why(&built, 1)
    );
}

#[test]
fn a_cached_image_is_the_same_image() {
    let Some(lab) = lab() else { return };
    site(&lab);
    // A step may look at what is below in every way it likes, times included.
    recipe(
        &lab,
        "1",
        &STEPS.replace("cat /srv/index.html >", "ls -lR --time-style=full-iso /one /srv >"),
    );
    let first = build(&lab, &[]);
    assert_eq!(ran(&first), [0, 1, 2, 3, 4]);
    let digest = |built: &Run| objects(&built.out).last().expect("a line")["digest"].clone();
    assert_eq!(lab.bake(["rm", "tiny:1"]).code, 0);
    let cached = build(&lab, &[]);
    assert_eq!((ran(&cached), digest(&cached)), (vec![], digest(&first)));
    // From blobs only, as after a restart.
    assert_eq!(lab.bake(["rm", "tiny:1"]).code, 0);
    for used in fs::read_dir(lab.path("store/cache/layers")).expect("the store's").flatten() {
        if used.path().extension().is_some_and(|ext| ext == "used") {
            fs::write(used.path(), "another boot").expect("our own file");
        }
    }
    let again = build(&lab, &["--no-cache=3"]);
    assert_eq!((ran(&again), digest(&again)), (vec![3], digest(&first)));
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn no_cache_runs_all_or_one() {
    let Some(lab) = lab() else { return };
    recipe(
        &lab,
        "1",
        "[[step]]\nrun = \"echo one > /one\"\n[[step]]\nname = \"second\"\nrun = \"echo two > /two\"\n",
    );
    assert_eq!(ran(&build(&lab, &[])), [0, 1, 2]);
    // Of a published version too: the same content is the same version.
    let again = build(&lab, &["--no-cache"]);
    assert_eq!(ran(&again), [0, 1, 2]);
    assert_eq!(objects(&again.out).last().expect("a line")["cached"], true);
    let built = build(&lab, &["--no-cache", "--set-version", "2"]);
    assert_eq!((ran(&built), why(&built, 1).as_str()), (vec![0, 1, 2], "--no-cache"));
    assert_eq!(ran(&build(&lab, &["--no-cache=second", "--set-version", "3"])), [2]);
    assert_eq!(
        ran(&build(&lab, &["--no-cache=base", "--no-cache=1", "--set-version", "4"])),
        [0, 1]
    );
    let wrong = build(&lab, &["--no-cache=third", "--set-version", "5"]);
    assert_eq!(wrong.code, 2, "{}", wrong.out);
    assert!(wrong.out.contains("no step") && wrong.out.contains("third"), "{}", wrong.out);
}

#[test]
fn paranoid_names_what_differs() {
    let Some(lab) = lab() else { return };
    recipe(
        &lab,
        "1",
        "[[step]]\nrun = \"echo one > /one\"\n[[step]]\nrun = \"cat /proc/sys/kernel/random/uuid > /random; echo x > /same\"\n",
    );
    assert_eq!(ran(&build(&lab, &[])), [0, 1, 2]);
    let before = lab.images_hash();
    let failed = build(&lab, &["--paranoid", "--set-version", "2"]);
    assert_eq!(failed.code, 1, "{}", failed.out);
    let last = objects(&failed.out).pop().expect("a line");
    assert_eq!(
        (&last["kind"], &last["causes"]),
        (&"unreproducible".into(), &serde_json::json!(["random: content"])),
        "{}",
        failed.out
    );
    assert_eq!(lab.images_hash(), before);
    recipe(&lab, "3", "[[step]]\nrun = \"echo one > /one\"\n");
    assert_eq!(ran(&build(&lab, &["--paranoid"])), [0, 1], "what is the same passes");
}

#[test]
fn a_failed_build_keeps_its_good_steps_and_publishes_nothing() {
    let Some(lab) = lab() else { return };
    recipe(&lab, "1", "[[step]]\nrun = \"true\"\n");
    assert_eq!(build(&lab, &[]).code, 0);
    let before = lab.images_hash();
    recipe(&lab, "2", "[[step]]\nrun = \"echo one > /one\"\n[[step]]\nrun = \"exit 3\"\n");
    assert_eq!(build(&lab, &[]).code, 1);
    assert_eq!(lab.images_hash(), before, "what readers see is as before");
    recipe(&lab, "2", "[[step]]\nrun = \"echo one > /one\"\n[[step]]\nrun = \"echo two > /two\"\n");
    assert_eq!(ran(&build(&lab, &[])), [2]);
}

#[test]
fn a_killed_build_goes_on_where_it_was() {
    let Some(lab) = lab() else { return };
    let mut steps = String::new();
    for n in 1..=8 {
        steps += &format!("[[step]]\nrun = \"echo {n} > /step-{n}\"\n");
    }
    // Long enough for the kill below to fall into it, whatever the machine.
    steps += "[[step]]\nrun = \"echo at nine; sleep 30; echo 9 > /step-9\"\ntimeout = \"20s\"\n[[step]]\nrun = \"echo 10 > /step-10\"\n";
    recipe(&lab, "1", &steps);
    let mut child = lab
        .command(["build", "--json", "tiny.toml"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("bake starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (mut eight, mut nine) = (false, false);
    while !(eight && nine) {
        let line = lines.next().expect("both come before the end").expect("readable");
        let object: Value = serde_json::from_str(&line).expect("JSON");
        eight |= object["type"] == "step-done" && object["step"] == 8;
        nine |= object["type"] == "output" && object["line"] == "at nine";
    }
    child.kill().expect("our own child");
    child.wait().expect("our own child");
    // The same steps but for the waiting, which is no part of what the others are named by.
    recipe(&lab, "1", &steps.replace("sleep 30; ", ""));
    assert_eq!(ran(&build(&lab, &[])), [9, 10]);
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn two_builds_at_once_run_each_step_once() {
    let Some(lab) = lab() else { return };
    site(&lab);
    recipe(&lab, "1", &format!("[[step]]\nrun = \"sleep 0.3; echo slow > /slow\"\n{STEPS}"));
    let start = || {
        let mut command = lab.command(["build", "--json", "tiny.toml"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("bake starts")
    };
    let both = [start(), start()].map(|child| child.wait_with_output().expect("our own child"));
    let both = both.map(|out| Run {
        code: out.status.code().unwrap_or(-1),
        out: String::from_utf8(out.stdout).expect("text"),
        err: String::from_utf8(out.stderr).expect("text"),
    });
    let mut all: Vec<u64> = both.iter().flat_map(ran).collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3, 4, 5], "{}\n{}", both[0].out, both[1].out);
    let digests: Vec<Value> = both
        .iter()
        .map(|built| objects(&built.out).last().expect("a line")["digest"].clone())
        .collect();
    assert_eq!(digests[0], digests[1]);
    assert!(digests[0].is_string());
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn a_damaged_blob_is_made_again() {
    let Some(lab) = lab() else { return };
    type Harm = fn(&std::path::Path);
    let harms: [Harm; 3] = [
        |blob| fs::remove_file(blob).expect("our own file"),
        |blob| {
            fs::File::options()
                .write(true)
                .open(blob)
                .expect("our own file")
                .set_len(9)
                .expect("our own file")
        },
        |blob| {
            // In place, so that every name of the file sees it: the published one too.
            let mut file = fs::File::options().write(true).open(blob).expect("our own file");
            file.write_all(b"damaged").expect("our own file");
        },
    ];
    for (n, harm) in harms.into_iter().enumerate() {
        recipe(&lab, &format!("{n}.1"), &format!("[[step]]\nrun = \"echo {n} > /one\"\n"));
        let first = build(&lab, &[]);
        let layer = objects(&first.out)
            .into_iter()
            .find(|object| object["type"] == "step-done" && object["step"] == 1)
            .expect("step 1");
        let digest =
            layer["layer"].as_str().expect("a digest").trim_start_matches("sha256:").to_owned();
        harm(&lab.path("store/cache/blobs").join(&digest));
        let again = build(&lab, &["--set-version", &format!("{n}.2")]);
        assert_eq!(ran(&again), [1], "{}", again.out);
        assert!(why(&again, 1).starts_with("its cached layer is damaged: "), "{}", why(&again, 1));
        let printed =
            objects(&again.out).iter().filter(|object| object["type"] == "warning").count();
        assert_eq!(printed, 1, "it is reported, once: {}", again.out);
        assert_eq!(
            ran(&build(&lab, &["--set-version", &format!("{n}.3")])),
            [0_u64; 0],
            "it is repaired"
        );
        let verified = lab.bake(["verify"]);
        assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
    }
}

#[test]
fn several_recipes_publish_together_or_not_at_all() {
    let Some(lab) = lab() else { return };
    let write = |name: &str, step: &str| {
        let text = format!(
            "[image]\nname = \"{name}\"\nversion = \"1\"\n[base]\npath = \"root\"\n[[step]]\nrun = \"{step}\"\n"
        );
        lab.write(&format!("{name}.toml"), &text);
    };
    write("a", "echo a > /a");
    write("b", "exit 4");
    write("c", "echo c > /c");
    assert_eq!(lab.bake(["build", "c.toml"]).code, 0);
    let before = (lab.images_hash(), lab.bake(["list", "--json"]).out);
    let failed = lab.bake(["build", "a.toml", "b.toml"]);
    assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{}", failed.err);
    assert!(failed.err.contains("b.toml"), "the one that failed is named: {}", failed.err);
    let after = (lab.images_hash(), lab.bake(["list", "--json"]).out);
    assert_eq!(after, before, "nothing is published");
    write("b", "echo b > /b");
    for jobs in ["1", "4"] {
        let both = lab.bake(["build", "a.toml", "b.toml", "--jobs", jobs]);
        assert_eq!(both.code, 0, "{}", both.err);
        let names: Vec<&str> = both.out.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(names, ["a:1", "b:1"], "in the order asked for: {}", both.out);
    }
    let json =
        lab.bake(["build", "a.toml", "b.toml", "--json", "--no-cache", "--set-version", "2"]);
    assert!(
        objects(&json.out)
            .iter()
            .any(|object| object["type"] == "step" && object["image"] == "b:2"),
        "{}",
        json.out
    );
    // One name and version for two contents can never be.
    lab.write(
        "c.toml",
        &fs::read_to_string(lab.path("b.toml"))
            .expect("ours")
            .replace("\"b\"", "\"a\"")
            .replace("\"1\"", "\"9\""),
    );
    lab.write(
        "d.toml",
        &fs::read_to_string(lab.path("a.toml")).expect("ours").replace("\"1\"", "\"9\""),
    );
    let clash = lab.bake(["build", "c.toml", "d.toml"]);
    assert_eq!((clash.code, clash.out.as_str()), (2, ""), "{}", clash.err);
    assert!(clash.err.contains("c.toml") && clash.err.contains("d.toml"), "{}", clash.err);
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

/// The cache of a user with subordinate ids: directories in it belong to ids that only exist
/// inside.
#[test]
fn root_the_cache_works_for_a_user_too() {
    if !tier::root() || !tier::tool("setpriv") {
        return;
    }
    let Some(lab) = lab() else { return };
    let Some((_, uid, gid)) = somebody() else { return };
    let home =
        tempfile::Builder::new().prefix("bake-user-").tempdir_in("/var/tmp").expect("a directory");
    std::os::unix::fs::chown(home.path(), Some(uid), Some(gid)).expect("we are root");
    site(&lab);
    recipe(
        &lab,
        "1",
        &format!(
            "{STEPS}[[step]]\nrun = \"chown 5:5 /one; chmod 0700 /srv\"\n[[step]]\nrun = \"echo last > /last\"\n"
        ),
    );
    let bake = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args([
            format!("--reuid={uid}"),
            format!("--regid={gid}"),
            "--init-groups".to_owned(),
        ]);
        command
            .arg(env!("CARGO_BIN_EXE_bake"))
            .args(["build", "--json", "tiny.toml", "--store"])
            .arg(home.path().join("store"))
            .args(args);
        run(command.current_dir(lab.path("")))
    };
    assert_eq!(ran(&bake(&[])), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(ran(&bake(&["--set-version", "2"])), [0_u64; 0]);
    assert_eq!(ran(&bake(&["--set-version", "3", "--no-cache=6"])), [6]);
    let root = build(&lab, &[]);
    let digest = |built: &Run| objects(&built.out).last().expect("a line")["digest"].clone();
    assert_eq!(digest(&bake(&[])), digest(&root), "and it is the same image as root's");
    let keys = |store: &std::path::Path| {
        let printed = lab.bake([
            "history",
            "tiny:1",
            "--json",
            "--store",
            store.to_str().expect("a plain path"),
        ]);
        objects(&printed.out).iter().map(|step| step["key"].clone()).collect::<Vec<_>>()
    };
    let theirs = keys(&home.path().join("store"));
    assert!(
        theirs.len() == 8
            && theirs.iter().all(Value::is_string)
            && theirs == keys(&lab.path("store")),
        "by the same keys: {theirs:?}"
    );
    // Directories of foreign ids can only be removed from inside: as the user's own program would.
    fs::remove_dir_all(home.path().join("store")).expect("we are root");
}
