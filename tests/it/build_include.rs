//! Recipes that include files: what such a step is, what a change of a shared file makes anew, and
//! what is reported of which file and line.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::Value;

use crate::lab::{Lab, Run};
use crate::tier;

const HOST: &str = "[vars]\nhostname = {}\nport = 80\n\n[[step]]\nfile = \"/etc/hostname\"\n\
    content = \"{{ hostname }}:{{ port }}\\n\"\n\n[[step]]\ncopy = \"files/\"\nto = \"/etc/site/\"\n\
    exclude = [\"/files/tmp\", \"*.bak\"]\n\n[[step]]\ntemplate = \"../common/motd.j2\"\nto = \"/etc/motd\"\n";

/// What the steps of [`HOST`] are when they are written in place.
const IN_PLACE: &str = "[[step]]\nfile = \"/etc/hostname\"\ncontent = \"web-1:81\\n\"\n\
    [[step]]\nname = \"the site\"\ncopy = \"parts/files/\"\nto = \"/etc/site/\"\n\
    exclude = [\"/parts/files/tmp\", \"*.bak\"]\n\
    [[step]]\ntemplate = \"common/motd.j2\"\nto = \"/etc/motd\"\n[vars]\nhostname = \"web-1\"\n";

const INCLUDED: &str = "[[step]]\ninclude = \"parts/host.toml\"\n\
    vars = { hostname = \"{{ name }}-1\", port = 81 }\n";

fn recipe(name: &str, steps: &str) -> String {
    format!(
        "[image]\nname = \"{name}\"\nversion = \"1\"\n[base]\nscratch = true\n\
         [[step]]\nfile = \"/first\"\ncontent = \"x\"\n{steps}"
    )
}

/// A lab with a shared part and its files.
fn written() -> Lab {
    let lab = Lab::new();
    lab.write("parts/host.toml", HOST);
    lab.write("parts/files/a", "a\n");
    lab.write("parts/files/a.bak", "old\n");
    lab.write("parts/files/tmp/b", "b\n");
    lab.write("common/motd.j2", "{{ hostname }} is {{ name }} {{ version }}\n");
    lab.write("web.toml", &recipe("web", INCLUDED));
    lab
}

fn lab() -> Option<Lab> {
    tier::sandbox().then(written)
}

fn good(run: Run) -> Run {
    assert_eq!(run.code, 0, "{}", run.err);
    run
}

fn digest(run: &Run) -> String {
    run.out.split_whitespace().nth(1).expect("name:version and a digest").to_owned()
}

/// What `explain` says of each step, the base first: the line, and whether it is cached.
fn explained(lab: &Lab, recipe: &str) -> Vec<(String, String)> {
    let text = good(lab.bake(["explain", recipe])).out;
    let rows = text.lines().skip(2).map(|row| {
        let words: Vec<&str> = row.split_whitespace().collect();
        let is = |word: &&&str| ["cached", "runs", "depends"].contains(word);
        (words[1].to_owned(), (*words.iter().find(is).expect(row)).to_owned())
    });
    rows.collect()
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Where a step is written is of no account: not for its key, and not for the bytes of the image.
#[test]
fn included_steps_are_those_written_in_place() {
    let Some(lab) = lab() else { return };
    let included = good(lab.bake(["build", "web.toml"]));
    lab.write("in-place.toml", &recipe("web", IN_PLACE));
    let in_place = good(lab.bake(["build", "in-place.toml"]));
    assert_eq!(digest(&in_place), digest(&included));
    assert!(in_place.err.starts_with("already baked"), "{}", in_place.err);
    // From nothing, in another store.
    let mut other = lab.command(["build", "in-place.toml"]);
    let other = good(crate::lab::run(other.env("BAKE_STORE", lab.path("other"))));
    assert_eq!(digest(&other), digest(&included));
    let names = good(lab.bake(["export", "web:1", "--format", "tar", "--output", "web.tar"])).code;
    assert_eq!(names, 0);
    let read = |name: &str| {
        let tar = Command::new("tar").arg("-xOf").arg(lab.path("web.tar")).arg(name).output();
        String::from_utf8(tar.expect("tar").stdout).expect("text")
    };
    assert_eq!(read("etc/hostname"), "web-1:81\n");
    assert_eq!(read("etc/motd"), "web-1 is web 1\n");
    assert_eq!(read("etc/site/a"), "a\n");
    assert_eq!((read("etc/site/a.bak"), read("etc/site/tmp/b")), (String::new(), String::new()));
}

#[test]
fn a_change_of_a_shared_file_makes_what_it_changes_anew() {
    let Some(lab) = lab() else { return };
    let steps = format!("[[step]]\nmkdir = \"/own\"\n{INCLUDED}[[step]]\nmkdir = \"/last\"\n");
    lab.write("db.toml", &recipe("db", &steps));
    good(lab.bake(["build", "web.toml", "db.toml"]));
    lab.write(
        "parts/host.toml",
        &format!("# a comment\n\n{}", HOST.replace("port = 80", "port = 8")),
    );
    let all_cached = |rows: &[(String, String)]| rows.iter().all(|(_, state)| state == "cached");
    for recipe in ["web.toml", "db.toml"] {
        assert!(all_cached(&explained(&lab, recipe)), "nothing that counts was changed");
    }
    lab.write("parts/host.toml", &HOST.replace("/etc/motd", "/etc/welcome"));
    let row = |line: &str, state: &str| (line.to_owned(), state.to_owned());
    let web = explained(&lab, "web.toml");
    let expected = [
        row("5", "cached"),
        row("7", "cached"),
        row("parts/host.toml:6", "cached"),
        row("parts/host.toml:10", "cached"),
        row("parts/host.toml:15", "runs"),
    ];
    assert_eq!(web, expected);
    let db = explained(&lab, "db.toml");
    assert_eq!(db[5], row("parts/host.toml:15", "runs"));
    assert!(all_cached(&db[..5]), "{db:?}");
    assert_eq!((db[6].0.as_str(), db.len()), ("15", 7));
    let built = good(lab.bake(["build", "web.toml", "db.toml", "--set-version", "2"]));
    assert_eq!(built.err.matches("done: template /etc/welcome").count(), 2, "{}", built.err);
    assert!(!built.err.contains("done: file /etc/hostname"), "{}", built.err);
}

#[test]
fn a_failed_step_names_the_file_that_it_stands_in() {
    let Some(lab) = lab() else { return };
    lab.tiny_root();
    lab.write("parts/deep/bad.toml", "[[step]]\nrun = \"echo why >&2; exit 3\"\n");
    lab.write("parts/two.toml", "# a comment\n[[step]]\ninclude = \"deep/bad.toml\"\n");
    let text = recipe("web", "[[step]]\ninclude = \"parts/two.toml\"\n");
    lab.write("web.toml", &text.replace("scratch = true", "path = \"root\""));
    let failed = lab.bake(["build", "web.toml"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    assert!(failed.err.contains("--> parts/deep/bad.toml:2"), "{}", failed.err);
    let failed = lab.bake(["build", "web.toml", "--json"]);
    let all = objects(&failed.out);
    let step = all.iter().find(|one| one["type"] == "step" && one["step"] == 2).expect("a step");
    let last = all.last().expect("an object");
    let bad = lab.path("parts/deep/bad.toml").display().to_string();
    for one in [step, last] {
        assert_eq!(
            (one["file"].as_str(), one["line"].as_u64()),
            (Some(bad.as_str()), Some(2)),
            "{one}"
        );
    }
    assert_eq!(last["recipe"].as_str(), Some(&*lab.path("web.toml").display().to_string()));
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

/// A comment in a file that is included is no more a part of the image than one in the recipe.
#[test]
fn included_files_are_not_copied_with_all_the_rest() {
    let Some(lab) = lab() else { return };
    lab.write(
        "web.toml",
        &recipe("web", &format!("{INCLUDED}[[step]]\ncopy = \".\"\nto = \"/all/\"\n")),
    );
    let first = good(lab.bake(["build", "web.toml"]));
    lab.write("parts/host.toml", &format!("{HOST}# a comment\n"));
    let again = good(lab.bake(["build", "web.toml"]));
    assert_eq!(digest(&again), digest(&first));
    assert!(again.err.starts_with("already baked"), "{}", again.err);
    good(lab.bake(["export", "web:1", "--format", "manifest", "--output", "names"]));
    let names = fs::read_to_string(lab.path("names")).expect("readable");
    assert!(names.contains("./all/parts/files/a") && !names.contains("host.toml"), "{names}");
}

#[test]
fn stages_and_defaults_are_those_of_the_recipe() {
    let Some(lab) = lab() else { return };
    lab.tiny_root();
    lab.write("parts/make.toml", "[[step]]\nrun = \"echo $WORD > /out\"\n");
    lab.write("parts/take.toml", "[[step]]\ncopy = \"/out\"\nfrom = \"build\"\nto = \"/got\"\n");
    let text = "[image]\nname = \"web\"\nversion = \"1\"\n[base]\nscratch = true\n\
        [defaults]\nenv.WORD = \"moin\"\n[[step]]\ninclude = \"parts/take.toml\"\n\
        [stage.build.base]\npath = \"root\"\n[[stage.build.step]]\ninclude = \"parts/make.toml\"\n";
    lab.write("web.toml", text);
    good(lab.bake(["build", "web.toml"]));
    good(lab.bake(["export", "web:1", "--format", "dir", "--drop-owners", "--output", "out"]));
    assert_eq!(fs::read_to_string(lab.path("out/got")).expect("copied"), "moin\n");
    let graph = good(lab.bake(["explain", "--graph", "web.toml"])).out;
    assert!(graph.contains("build/1      parts/make.toml:2"), "{graph}");
}

/// What `check` says.
fn checked(lab: &Lab) -> Run {
    lab.bake(["check", "web.toml"])
}

#[test]
fn what_the_context_shows_is_reported_in_the_file_that_names_it() {
    let lab = written();
    assert_eq!(checked(&lab).code, 0);
    fs::remove_file(lab.path("parts/files/a")).expect("ours");
    fs::remove_dir_all(lab.path("parts/files")).expect("ours");
    lab.write("common/motd.j2", "{{ hostname }}\n{{ prot }}\n");
    let run = checked(&lab);
    assert_eq!(run.code, 2, "{}", run.err);
    assert!(run.err.contains("--> parts/host.toml:10:1"), "{}", run.err);
    assert!(run.err.contains("copy = \"files/\""), "{}", run.err);
    assert!(run.err.contains("--> common/motd.j2:2:4"), "{}", run.err);
    assert!(run.err.contains("did you mean `port`?"), "{}", run.err);
}

#[test]
fn what_cannot_be_included_is_reported_where_it_is_named() {
    let lab = written();
    let outside = tempfile::tempdir().expect("a directory");
    fs::write(outside.path().join("host.toml"), HOST).expect("ours");
    let part = lab.path("parts/host.toml");
    let says = |what: &str| {
        let run = checked(&lab);
        assert_eq!(run.code, 2, "{}", run.err);
        assert!(run.err.contains("--> web.toml:10:12"), "{}", run.err);
        assert!(run.err.contains(what), "{what}: {}", run.err);
        fs::remove_file(&part).or_else(|_| fs::remove_dir(&part)).expect("ours");
    };
    // A symlink out of the context, absolute or by `..`, of the file or on the way to it.
    fs::remove_file(&part).expect("ours");
    symlink(outside.path().join("host.toml"), &part).expect("a symlink");
    says("leads out of");
    symlink("../../../../../../../../etc/passwd", &part).expect("a symlink");
    says("leads out of");
    symlink("host.toml", &part).expect("a symlink");
    says("Too many levels");
    // What is no file; opening a FIFO must not wait.
    fs::create_dir(&part).expect("a directory");
    says("a directory");
    assert!(Command::new("mkfifo").arg(&part).status().expect("mkfifo").success());
    says("a fifo");
    symlink("/dev/zero", &part).expect("a symlink");
    says("leads out of");
    fs::File::create(&part).and_then(|file| file.set_len(17 << 20)).expect("a large file");
    says("16777216");
    assert!(!part.exists());
    let run = checked(&lab);
    assert!(run.err.contains("there is no such file"), "{}", run.err);
    // One that stays inside is followed.
    symlink("../common/host.toml", &part).expect("a symlink");
    lab.write("common/host.toml", HOST);
    let run = checked(&lab);
    assert_eq!(run.code, 0, "{}", run.err);
    // Not UTF-8 is a mistake of the file.
    fs::write(lab.path("common/host.toml"), b"# \xff\n").expect("ours");
    let run = checked(&lab);
    assert!(run.err.contains("--> parts/host.toml:1:3"), "{}", run.err);
    assert!(run.err.contains("not UTF-8 text"), "{}", run.err);
}

#[test]
fn what_includes_a_file_is_what_is_checked() {
    let lab = written();
    let run = lab.bake(["check", "parts/host.toml"]);
    assert_eq!(run.code, 2, "{}", run.err);
    assert!(run.err.contains("is checked with one that includes it"), "{}", run.err);
}

#[test]
fn a_context_above_the_recipe_is_where_files_are_included_from() {
    let lab = written();
    let text =
        recipe("web", INCLUDED).replace("version = \"1\"\n", "version = \"1\"\ncontext = \"..\"\n");
    lab.write("web/recipe.toml", &text);
    let run = good(lab.bake(["plan", "web"]));
    assert!(run.out.contains("web/../parts/host.toml:6  file /etc/hostname"), "{}", run.out);
    let plan = objects(&good(lab.bake(["plan", "web", "--json"])).out);
    let step = &plan[0]["steps"][1];
    assert_eq!(step["line"], 6, "{step}");
    let file = lab.path("web/../parts/host.toml").display().to_string();
    assert_eq!(step["file"].as_str(), Some(file.as_str()), "{step}");
    assert!(plan[0]["steps"][0]["file"].is_null());
}

#[test]
fn included_files_are_formatted_as_recipes_are() {
    let lab = written();
    lab.write(
        "parts/x.toml",
        "[[step]]\nto='/x'\nvars={b=1,a='x'}\ninclude = 'y.toml'\n[vars]\na={}\n",
    );
    assert_eq!(lab.bake(["fmt", "--check", "parts/x.toml"]).code, 1);
    good(lab.bake(["fmt", "parts/x.toml"]));
    let text = fs::read_to_string(lab.path("parts/x.toml")).expect("readable");
    assert_eq!(
        text,
        "[vars]\na = {}\n\n[[step]]\ninclude = 'y.toml'\nvars.b = 1\nvars.a = 'x'\nto = '/x'\n"
    );
    assert_eq!(lab.bake(["fmt", "--check", "parts/x.toml"]).code, 0);
}
