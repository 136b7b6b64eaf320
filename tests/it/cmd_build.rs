//! `bake build` as a person sees it: what is printed, what is published, what is left when it
//! fails.

use std::fs;

use crate::lab::{Lab, run};
use crate::tier;

/// A recipe over the tiny root; `steps` follow.
fn recipe(lab: &Lab, version: &str, steps: &str) {
    let text = format!(
        "[image]\nname = \"tiny\"\nversion = \"{version}\"\n[base]\npath = \"root\"\n{steps}"
    );
    lab.write("tiny.toml", &text);
}

fn lab() -> Option<Lab> {
    if !tier::sandbox() {
        return None;
    }
    let lab = Lab::new();
    lab.tiny_root();
    Some(lab)
}

#[test]
fn prints_the_image_and_nothing_else() {
    let Some(lab) = lab() else { return };
    recipe(&lab, "1.0.0", "[[step]]\nrun = \"echo hello > /hello\"\n");
    let built = lab.bake(["build", "tiny.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
    let digest = built
        .out
        .trim_end()
        .strip_prefix("tiny:1.0.0 ")
        .expect("name:version, a blank, the digest");
    assert_eq!(built.out, format!("tiny:1.0.0 {digest}\n"));
    assert!(digest.parse::<bake::digest::Digest>().is_ok(), "{digest}");
    assert!(built.err.contains("run echo hello"), "the story names the step: {}", built.err);
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
    let listed = lab.bake(["list"]);
    assert!(listed.out.contains("tiny") && listed.out.contains("1.0.0"), "{}", listed.out);
    let verified = lab.bake(["verify"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
}

#[test]
fn the_same_again_is_already_baked_and_something_else_is_refused() {
    let Some(lab) = lab() else { return };
    recipe(&lab, "1.0.0", "[[step]]\nrun = \"echo one > /file\"\n");
    let first = lab.bake(["build", "tiny.toml"]);
    assert_eq!(first.code, 0, "{}", first.err);
    let before = lab.images_hash();
    let again = lab.bake(["build", "tiny.toml"]);
    assert_eq!((again.code, &again.out), (0, &first.out), "{}", again.err);
    assert!(again.err.contains("already baked"), "{}", again.err);
    recipe(&lab, "1.0.0", "[[step]]\nrun = \"echo two > /file\"\n");
    let other = lab.bake(["build", "tiny.toml"]);
    assert_eq!((other.code, other.out.as_str()), (1, ""), "{}", other.err);
    assert!(
        other.err.contains("already published with other content")
            && other.err.contains("raise `version`"),
        "{}",
        other.err
    );
    assert_eq!(lab.images_hash(), before);
    // The version it should have had is free.
    let next = lab.bake(["build", "tiny.toml", "--set-version", "1.0.1"]);
    assert_eq!(next.code, 0, "{}", next.err);
    assert!(next.out.starts_with("tiny:1.0.1 sha256:"), "{}", next.out);
}

#[test]
fn a_revoked_version_is_already_baked_and_warned_of() {
    let Some(lab) = lab() else { return };
    recipe(&lab, "1.0.0", "[[step]]\nrun = \"echo one > /file\"\n");
    let first = lab.bake(["build", "tiny.toml"]);
    assert!(first.code == 0 && !first.err.contains("revoked"), "{}", first.err);
    assert_eq!(lab.bake(["revoke", "tiny:1.0.0", "--why", "it leaks \u{1b}[2J"]).code, 0);
    // By its key alone, and with every step run again.
    for more in [&[][..], &["--no-cache"]] {
        let again = lab.bake(["build", "tiny.toml"].iter().chain(more));
        assert_eq!((again.code, &again.out), (0, &first.out), "{}", again.err);
        assert!(
            again.err.contains("warning: tiny:1.0.0 is revoked: it leaks")
                && again.err.contains("already baked"),
            "{}",
            again.err
        );
        assert!(!again.err.contains('\u{1b}'), "{}", again.err);
    }
    let printed = lab.bake(["build", "tiny.toml", "--json"]);
    let objects: Vec<serde_json::Value> =
        printed.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let warning = objects.iter().find(|one| one["type"] == "warning").expect("a warning");
    assert!(
        warning["message"].as_str().is_some_and(|text| text.starts_with("tiny:1.0.0 is revoked: ")),
        "{warning}"
    );
    assert_eq!(objects.last().expect("a line")["type"], "baked", "the last line says how it ended");
    assert_eq!(lab.bake(["revoke", "--undo", "tiny:1.0.0", "--why", "it does not"]).code, 0);
    assert!(!lab.bake(["build", "tiny.toml"]).err.contains("revoked"));
}

#[test]
fn a_comment_or_a_name_changes_no_version() {
    let Some(lab) = lab() else { return };
    recipe(&lab, "1.0.0", "[[step]]\nrun = \"echo one > /file\"\n");
    assert_eq!(lab.bake(["build", "tiny.toml"]).code, 0);
    recipe(&lab, "1.0.0", "# a remark\n[[step]]\nrun = \"echo one > /file\"\ntimeout = \"5m\"\n");
    let again = lab.bake(["build", "tiny.toml"]);
    assert_eq!(again.code, 0, "{}", again.err);
    assert!(again.err.contains("already baked"), "{}", again.err);
}

/// Each failing recipe: exit 1, the step and its line named, the images as before, the version
/// free.
#[test]
fn a_failing_step_leaves_nothing() {
    let Some(lab) = lab() else { return };
    recipe(&lab, "1.0.0", "[[step]]\nrun = \"true\"\n");
    assert_eq!(lab.bake(["build", "tiny.toml"]).code, 0);
    lab.write("bad.sh", "#!/bin/sh\necho from the script >&2\nexit 7\n");
    let cases = [
        ("run = \"echo before; no-such-command\"", "exit status 127", "no-such-command"),
        ("run = \"exit 3\"", "exit status 3", ""),
        ("script = \"bad.sh\"", "exit status 7", "from the script"),
        ("run = \"sleep 600\"\ntimeout = \"200ms\"", "timeout of 0.2 s", ""),
        ("run = \"kill -KILL $$\"", "signal 9", ""),
        ("run = [\"/no/such/program\"]", "/no/such/program", ""),
        ("run = \"true\"\nas = \"nobody-here\"", "nobody-here", ""),
        ("packages = [\"nginx\"]", "package manager", ""),
        ("service = \"nginx\"", "nginx", ""),
    ];
    let (before, listed) = (lab.images_hash(), lab.bake(["list"]).out);
    for (step, why, output) in cases {
        recipe(
            &lab,
            "2.0.0",
            &format!(
                "[[step]]\nrun = \"echo 1 > /a\"\n[[step]]\nmkdir = \"/b\"\n[[step]]\n{step}\n"
            ),
        );
        let failed = lab.bake(["build", "tiny.toml"]);
        assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{step}: {}", failed.err);
        assert!(
            failed.err.contains("step 3 of 3 failed") && failed.err.contains("tiny.toml:11"),
            "{step}: {}",
            failed.err
        );
        assert!(failed.err.contains(why) && failed.err.contains(output), "{step}: {}", failed.err);
        assert!(failed.err.contains("full log: "), "{step}: {}", failed.err);
        assert_eq!(lab.images_hash(), before, "{step}");
        assert_eq!(lab.bake(["list"]).out, listed, "{step}");
        assert!(lab.scratch().is_empty(), "{step}: {:?}", lab.scratch());
    }
    recipe(&lab, "2.0.0", "[[step]]\nrun = \"echo 1 > /a\"\n");
    assert_eq!(
        lab.bake(["build", "tiny.toml"]).code,
        0,
        "the version is free and the next build just works"
    );
}

#[test]
fn json_ends_with_baked_or_failed() {
    let Some(lab) = lab() else { return };
    recipe(&lab, "1.0.0", "[[step]]\nrun = \"echo a line\"\n");
    let built = lab.bake(["build", "--json", "tiny.toml"]);
    assert_eq!((built.code, built.err.as_str()), (0, ""));
    let objects: Vec<serde_json::Value> =
        built.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let last = objects.last().expect("at least one line");
    assert_eq!((&last["v"], &last["type"]), (&1.into(), &"baked".into()));
    assert_eq!((&last["name"], &last["version"]), (&"tiny".into(), &"1.0.0".into()));
    assert!(last["digest"].as_str().expect("a digest").starts_with("sha256:"));
    assert!(
        objects.iter().any(|object| object["type"] == "output" && object["line"] == "a line"),
        "{}",
        built.out
    );
    recipe(&lab, "2.0.0", "[[step]]\nrun = \"echo oh; exit 4\"\n");
    let failed = lab.bake(["build", "--json", "tiny.toml"]);
    assert_eq!(failed.code, 1);
    let last: serde_json::Value =
        serde_json::from_str(failed.out.lines().last().expect("a line")).expect("JSON");
    assert_eq!(
        (&last["type"], &last["kind"], &last["line"]),
        (&"failed".into(), &"step".into(), &7.into())
    );
    assert_eq!(last["output"], serde_json::json!(["oh"]));
    assert!(
        fs::read_to_string(last["log"].as_str().expect("a path")).expect("the log").contains("oh")
    );
}

#[test]
fn retries_start_from_a_fresh_root() {
    let Some(lab) = lab() else { return };
    // A try that finds what an earlier one left would succeed with 9.
    recipe(
        &lab,
        "1.0.0",
        "[[step]]\nrun = \"if [ -e /left ]; then exit 9; fi; echo x > /left; exit 5\"\nretries = 2\n",
    );
    let failed = lab.bake(["build", "tiny.toml"]);
    assert_eq!(failed.code, 1);
    assert!(
        failed.err.contains("because: exit status 5")
            && failed.err.contains("try 3 of 3 on a fresh root"),
        "{}",
        failed.err
    );
    assert!(!failed.err.contains("exit status 9"), "{}", failed.err);
}

/// Paths, umask, time zone, language, store and the order of a directory's entries must not show in
/// the digest.
#[test]
fn the_same_recipe_gives_the_same_digest_anywhere() {
    let Some(lab) = lab() else { return };
    let steps = "[[step]]\nmkdir = \"/d\"\nowner = \"app:app\"\n[[step]]\ncopy = \"files/\"\nto = \"/files/\"\n\
        [[step]]\nrun = \"echo $LANG $TZ > /env; umask > /umask; seq 1000 > /d/seq; touch /d/x; ln /d/x /d/y; chmod 4755 /d/y; chown 7:8 /d/seq; rm /bin/false; date > /dev/null\"\n\
        [[step]]\nuser = \"svc\"\nsystem = true\n[[step]]\nfile = \"/etc/motd\"\ncontent = \"hi\"\n[[step]]\nsymlink = \"/l\"\ntarget = \"/d\"\n";
    let mut digests = vec![];
    for (n, (umask, tz, lang)) in
        [("022", "UTC", "C"), ("077", "Asia/Tokyo", "de_DE.UTF-8")].iter().enumerate()
    {
        let place = format!("place-{n}/deeper-{n}");
        lab.write(
            &format!("{place}/tiny.toml"),
            &format!("[image]\nname = \"tiny\"\nversion = \"1\"\n[base]\npath = \"root\"\n{steps}"),
        );
        let names = if n == 0 { ["a", "b"] } else { ["b", "a"] };
        for name in names {
            lab.write(&format!("{place}/files/{name}"), name);
        }
        crate::lab::tiny_root(&lab.path(&format!("{place}/root")));
        let script = format!("umask {umask}; exec \"$0\" build {place}/tiny.toml");
        let mut command = std::process::Command::new("/bin/sh");
        command
            .args(["-c", &script, env!("CARGO_BIN_EXE_bake")])
            .current_dir(lab.path(""))
            .env_clear();
        command
            .env("TZ", tz)
            .env("LANG", lang)
            .env("BAKE_STORE", lab.path(&format!("store-{n}")))
            .env("PATH", "/usr/bin:/bin");
        let built = run(&mut command);
        assert_eq!(built.code, 0, "{}", built.err);
        digests.push(built.out);
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn a_step_knows_its_home() {
    let Some(lab) = lab() else { return };
    let says = |step: &str, home: &str| {
        recipe(&lab, "1.0.0", &format!("[[step]]\nmkdir = \"/home/app\"\n[[step]]\n{step}\n"));
        let built = lab.bake(["build", "tiny.toml"]);
        assert_eq!(
            built.code, 1,
            "the step ends with an error, so that nothing is published: {}",
            built.err
        );
        assert!(built.err.contains(&format!("home={home};")), "{step}: {}", built.err);
    };
    says("run = 'echo \"home=$HOME;\"; exit 1'", "/root");
    says("run = 'echo \"home=$HOME;\"; exit 1'\nas = \"app\"", "/home/app");
    says("run = 'echo \"home=$HOME;\"; exit 1'\nas = \"4321\"", "/");
    says("run = 'echo \"home=$HOME;\"; exit 1'\nenv.HOME = \"/elsewhere\"", "/elsewhere");
}

#[test]
fn what_a_step_does_to_the_root_directory_is_seen_by_the_next() {
    let Some(lab) = lab() else { return };
    let see = "[[step]]\nrun = \"stat -c '%a %u:%g' / > /seen\"\n";
    recipe(
        &lab,
        "1.0.0",
        &format!("[[step]]\nrun = \"chmod 1775 /; chown 7:8 /\"\n[[step]]\nmkdir = \"/a\"\n{see}"),
    );
    let exported = |name: &str| {
        let root = lab.path(name);
        let exported = lab.bake([
            "export",
            "tiny",
            "--format",
            "tar",
            "--output",
            root.to_str().expect("a plain path"),
        ]);
        assert_eq!(exported.code, 0, "{}", exported.err);
        let mut archive = tar::Archive::new(fs::File::open(root).expect("the export"));
        let seen = archive.entries().expect("a tar").map(|entry| entry.expect("an entry"));
        let mut seen = seen.filter(|entry| {
            entry.path_bytes().as_ref() == b"seen" || entry.path_bytes().as_ref() == b"./"
        });
        let top = seen.next().expect("the root directory comes first");
        let top = format!(
            "{:o} {}:{}",
            top.header().mode().expect("octal"),
            top.header().uid().expect("octal"),
            top.header().gid().expect("octal")
        );
        let mut text = String::new();
        std::io::Read::read_to_string(&mut seen.next().expect("the file"), &mut text)
            .expect("text");
        (top, text)
    };
    let built = lab.bake(["build", "tiny.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
    assert_eq!(exported("first.tar"), ("1775 7:8".to_owned(), "1775 7:8\n".to_owned()));
    // The same when the first two steps come from the cache.
    recipe(
        &lab,
        "2.0.0",
        &format!(
            "[[step]]\nrun = \"chmod 1775 /; chown 7:8 /\"\n[[step]]\nmkdir = \"/a\"\n{}",
            see.replace("stat", "true; stat")
        ),
    );
    let built = lab.bake(["build", "tiny.toml"]);
    assert_eq!(built.code, 0, "{}", built.err);
    assert!(built.err.contains("cached: mkdir /a"), "{}", built.err);
    assert_eq!(exported("second.tar"), ("1775 7:8".to_owned(), "1775 7:8\n".to_owned()));
}

/// Every layer says what the root directory is from there on, also where it is usual again; a copy
/// passes on what it finds.
#[test]
fn the_root_directory_can_be_set_back() {
    let Some(lab) = lab() else { return };
    lab.write("one", "one");
    let copy = "[[step]]\ncopy = \"one\"\nto = \"/one\"\n";
    let see = |at: &str| format!("[[step]]\nrun = \"stat -c '%a %u:%g' / > /seen-{at}\"\n");
    let set = |how: &str| format!("[[step]]\nrun = \"{how} /\"\n");
    let cases = [
        (set("chmod 700") + &set("chmod 755"), "755 0:0"),
        (set("chmod 700") + copy + &set("chmod 755") + &see("b"), "755 0:0"),
        (set("chmod 700") + &see("a") + &set("true > /file; chmod 755"), "755 0:0"),
        (set("chown 7:8") + &set("chown 0:0") + copy, "755 0:0"),
        (set("chmod 700") + &see("a") + copy, "700 0:0"),
        (set("chmod 700") + copy + &see("b"), "700 0:0"),
        (set("chown :8"), "755 0:8"),
        (
            set("chmod 700") + &set("chmod 755") + &set("chmod 700") + &set("chmod 700") + copy,
            "700 0:0",
        ),
    ];
    for (number, (steps, expected)) in cases.iter().enumerate() {
        let mut digests = vec![];
        // For the first time; every step once more; the third step on what comes from blobs only.
        for (how, more) in
            [("cold", &[][..]), ("again", &["--paranoid"]), ("from blobs", &["--no-cache=3"])]
        {
            if how == "from blobs" {
                let gone = run(std::process::Command::new("rm")
                    .arg("-rf")
                    .arg(lab.path("store/cache/layers")));
                assert_eq!(gone.code, 0, "{}", gone.err);
            }
            recipe(
                &lab,
                &format!("{number}"),
                &format!("{steps}{}{}", "[[step]]\nmkdir = \"/d\"\n", see("last")),
            );
            let built = lab.bake(["build", "tiny.toml"].iter().chain(more));
            assert_eq!(built.code, 0, "{number} {how}: {}", built.err);
            digests.push(built.out.clone());
            let out = lab.path("out.tar");
            let exported = lab.bake([
                "export",
                &format!("tiny:{number}"),
                "--format",
                "tar",
                "--force",
                "--output",
                "out.tar",
            ]);
            assert_eq!(exported.code, 0, "{}", exported.err);
            let mut archive = tar::Archive::new(fs::File::open(out).expect("the export"));
            let mut top = "755 0:0".to_owned();
            let mut seen = vec![];
            for entry in archive.entries().expect("a tar") {
                let mut entry = entry.expect("an entry");
                let path = String::from_utf8(entry.path_bytes().into_owned()).expect("text");
                if path == "./" {
                    let head = entry.header();
                    let part = |number: Result<u64, _>| number.expect("octal");
                    top = format!(
                        "{:o} {}:{}",
                        head.mode().expect("octal"),
                        part(head.uid()),
                        part(head.gid())
                    );
                }
                if path == "seen-last" {
                    let mut text = String::new();
                    std::io::Read::read_to_string(&mut entry, &mut text).expect("text");
                    seen.push(text);
                }
            }
            assert_eq!(
                (top.as_str(), seen),
                (*expected, vec![format!("{expected}\n")]),
                "{number} {how}: {steps}"
            );
        }
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{number}: {digests:?}");
    }
}

#[test]
fn a_template_knows_the_epoch() {
    let Some(lab) = lab() else { return };
    lab.write("date.j2", "baked at {{ epoch }}\n");
    recipe(&lab, "1.0.0", "[[step]]\ntemplate = \"date.j2\"\nto = \"/date\"\n");
    let built = run(lab.command(["build", "tiny.toml"]).env("SOURCE_DATE_EPOCH", "1700000000"));
    assert_eq!(built.code, 0, "{}", built.err);
    let root = lab.path("out");
    let exported = lab.bake([
        "export",
        "tiny",
        "--format",
        "dir",
        "--output",
        root.to_str().expect("a plain path"),
    ]);
    assert_eq!(exported.code, 0, "{}", exported.err);
    assert_eq!(
        fs::read_to_string(root.join("date")).expect("the rendered file"),
        "baked at 1700000000\n"
    );
}

#[test]
fn a_recipe_that_is_not_there_is_exit_2() {
    let lab = Lab::new();
    for command in ["build", "check", "plan", "lock"] {
        let failed = lab.bake([command, "gone.toml"]);
        assert_eq!((failed.code, failed.out.as_str()), (2, ""), "{command}: {}", failed.err);
        assert!(failed.err.contains("cannot read gone.toml"), "{command}: {}", failed.err);
    }
}

#[test]
fn mistakes_are_reported_at_once_with_exit_2() {
    let lab = Lab::new();
    lab.write("bad.toml", "[image]\nname = \"Web\"\nversion = 1\n[base]\ndebain = \"bookworm\"\n[[step]]\ncopy = \"missing\"\n");
    let failed = lab.bake(["build", "bad.toml"]);
    assert_eq!((failed.code, failed.out.as_str()), (2, ""), "{}", failed.err);
    for part in ["bad.toml:2", "bad.toml:3", "bad.toml:5", "did you mean", "debian"] {
        assert!(failed.err.contains(part), "{part}: {}", failed.err);
    }
    assert!(!lab.path("store").exists(), "a recipe with mistakes touches nothing");
    lab.write("gone.toml", "[image]\nname = \"web\"\nversion = \"1\"\n[base]\nscratch = true\n[[step]]\ncopy = \"missing\"\nto = \"/\"\n");
    let failed = lab.bake(["check", "gone.toml"]);
    assert_eq!(failed.code, 2, "{}", failed.err);
    assert!(failed.err.contains("gone.toml:7") && failed.err.contains("missing"), "{}", failed.err);
}

#[test]
fn what_is_wrong_with_a_recipe_or_its_context_ends_it_before_anything_runs() {
    let Some(lab) = lab() else { return };
    recipe(&lab, "1.0.0", "");
    assert_eq!(lab.bake(["build", "tiny.toml"]).code, 0);
    let (before, listed) = (lab.images_hash(), lab.bake(["list"]).out);
    lab.write("secret", "outside the context");
    lab.write("tree/inside", "x");
    for (link, target) in
        [("out", "../../secret"), ("absolute", "/etc/passwd"), ("directory", "../../home")]
    {
        std::os::unix::fs::symlink(target, lab.path(&format!("tree/{link}")))
            .expect("our own directory");
    }
    let head = "[image]\nname = \"bad\"\nversion = \"1\"\ncontext = \"tree\"\n[base]\n";
    let step = |step: &str| format!("{head}scratch = true\n[[step]]\n{step}\n");
    let cases = [
        (
            step("copy = \"out\"\nto = \"/x\""),
            8,
            "\"out\" is a symlink that leads out of the context",
        ),
        (step("copy = \"absolute\"\nto = \"/x\""), 8, "\"absolute\" is a symlink that leads out"),
        (
            step("copy = \"directory/file\"\nto = \"/x\""),
            8,
            "\"directory\" is a symlink that leads out",
        ),
        (step("copy = \"../secret\"\nto = \"/x\""), 8, "\"../secret\" leaves the context"),
        (step("template = \"out\"\nto = \"/x\""), 8, "\"out\" is a symlink that leads out"),
        (step("script = \"out\""), 8, "\"out\" is a symlink that leads out"),
        (step("packages = [\"./out\"]"), 8, "\"out\" is a symlink that leads out"),
        (
            step(
                "repository = \"x\"\nurl = \"https://example.org\"\nsuite = \"x\"\ncomponents = [\"x\"]\nkey = \"out\"",
            ),
            8,
            "leads out",
        ),
        (step("copy = \"insid\"\nto = \"/x\""), 8, "did you mean"),
        (step("script = \"gone.sh\""), 8, "gone.sh"),
        (step("run = 5"), 8, "expected a string or a list of strings"),
        (step("mkdir = \"/x\"\nmode = 755"), 9, "mode"),
        (format!("{head}path = \"out\"\n"), 6, "\"out\" is a symlink that leads out"),
        (format!("{head}path = \"insid\"\n"), 6, "did you mean"),
        (format!("{head}debain = \"bookworm\"\n"), 6, "did you mean"),
        (format!("{head}debian = 12\n"), 6, "expected a string"),
        (format!("{head}scratch = true\npath = \"inside\"\n"), 7, "the second kind"),
        (head.replace("[base]\n", ""), 1, "a recipe without `[base]`"),
    ];
    for (text, line, why) in cases {
        lab.write("bad.toml", &text);
        let failed = lab.bake(["build", "bad.toml"]);
        assert_eq!((failed.code, failed.out.as_str()), (2, ""), "{text}: {}", failed.err);
        assert!(
            failed.err.contains(&format!("bad.toml:{line}")) && failed.err.contains(why),
            "{text}: {}",
            failed.err
        );
        assert!(!failed.err.contains("baking"), "{text}: {}", failed.err);
        assert_eq!((lab.images_hash(), lab.bake(["list"]).out), (before, listed.clone()), "{text}");
        assert!(lab.scratch().is_empty(), "{text}: {:?}", lab.scratch());
    }
}
