//! What was once reported wrong, as tests of what must hold: cli.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::lab::Lab;
use crate::sandbox_user::somebody;
use crate::tier;

const UNFORMATTED: &str = "[image]\nname='web'\nversion='1.0.0'\n[base]\nscratch=true\n";

/// B3
#[test]
fn fmt_keeps_the_symlink_and_the_mode_of_a_recipe() {
    let lab = Lab::new();
    let real = lab.write("real/web.toml", UNFORMATTED);
    fs::set_permissions(&real, PermissionsExt::from_mode(0o600)).expect("our own file");
    symlink("real/web.toml", lab.path("web.toml")).expect("a symlink");
    let run = lab.bake(["fmt", "web.toml"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(fs::symlink_metadata(lab.path("web.toml")).expect("there").is_symlink());
    let formatted = fs::read_to_string(&real).expect("our own file");
    assert_ne!(formatted, UNFORMATTED);
    assert_eq!(fs::metadata(&real).expect("there").mode() & 0o777, 0o600);
    assert_eq!(lab.bake(["fmt", "--check", "web.toml"]).code, 0);
}

/// B3: the same of what other commands write for a person.
#[test]
fn a_drawing_does_not_replace_what_is_no_regular_file() {
    let lab = Lab::new();
    lab.write("reports/a.json", r#"{"v":1,"type":"drift","verdict":"exact","name":"web","version":"1","host":"a","time":"2024-11-01T10:00:00Z","counts":{},"changes":[]}"#);
    symlink("/dev/null", lab.path("fleet.svg")).expect("a symlink");
    let run = lab.bake(["fleet", "reports", "--svg", "fleet.svg"]);
    assert_eq!(run.code, 1, "{}", run.err);
    assert!(run.err.contains("it is a device, not a regular file"), "{}", run.err);
    assert!(fs::symlink_metadata(lab.path("fleet.svg")).expect("there").is_symlink());
}

/// A lab with a store that has `web:1.0.0` and `web:2.0.0`, made without any program.
fn stocked() -> Lab {
    let lab = Lab::new();
    for version in ["1.0.0", "2.0.0"] {
        let recipe = lab.write(
            "web.toml",
            &format!(
                "[image]\nname = \"web\"\nversion = \"{version}\"\n\n[base]\nscratch = true\n\n[[step]]\nfile = \"/v\"\ncontent = \"{version}\"\n"
            ),
        );
        let run = lab.bake(["build".as_ref(), recipe.as_os_str()]);
        assert_eq!(run.code, 0, "{}", run.err);
    }
    lab
}

/// B12, E7
#[test]
fn list_refuses_what_is_no_name_and_what_is_not_there() {
    if !tier::sandbox() {
        return;
    }
    let lab = stocked();
    let refused = |what: &str, code: i32, parts: &[&str]| {
        let run = lab.bake(["list", what]);
        assert_eq!((run.code, run.out.as_str()), (code, ""), "{what}: {}", run.err);
        for part in parts {
            assert!(run.err.contains(part), "{what}: {part:?} is missing in {}", run.err);
        }
    };
    refused("web@sha256:zz", 2, &["\"sha256:zz\" is not a digest"]);
    refused("WEB", 2, &["is not an image name"]);
    refused("nosuch", 1, &["no image nosuch in the store"]);
    refused("wbe", 1, &["did you mean"]);
    refused("web:3.0.0", 1, &["no image web:3.0.0"]);
    let lines = |what: &str| lab.bake(["list", what]).out.lines().count() - 1;
    assert_eq!((lines("web"), lines("web:1.0.0")), (2, 1));
    let all = lab.bake(["list", "--json"]).out;
    let first: serde_json::Value =
        serde_json::from_str(all.lines().next().expect("a line")).expect("JSON");
    let digest = first["digest"].as_str().expect("a digest");
    assert_eq!(lines(&format!("web@{digest}")), 1);
    // E16: when it was published stands beside when its content is from.
    assert!(first["published"].as_str().is_some_and(|at| at.ends_with('Z')), "{all}");
    assert!(lab.bake(["list"]).out.contains("PUBLISHED"));
    assert_eq!(lab.bake(["promote", "web:1.0.0", "stable"]).code, 0);
    assert_eq!(lines("web@stable"), 1);
    let names = lab.bake(["list", "--names"]).out;
    assert_eq!(names, "web\nweb:1.0.0\nweb:2.0.0\nweb@stable\n");
}

/// C8
#[test]
fn a_result_that_cannot_be_written_does_not_undo_what_is_published() {
    if !tier::sandbox() {
        return;
    }
    let lab = stocked();
    let full = fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let mut command = lab.command(["build", "web.toml", "--set-version", "3.0.0"]);
    let ended = command.stdout(full).output().expect("bake starts");
    let err = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(12), "{err}");
    assert!(err.contains("published nevertheless: web:3.0.0 sha256:"), "{err}");
    assert!(!err.contains("nothing was published"), "{err}");
    assert_eq!(lab.bake(["show", "web:3.0.0"]).code, 0);
}

/// C8: the limit on the size of a file is an error, not the end of the process.
#[test]
fn a_limit_on_the_size_of_files_is_an_error() {
    let lab = Lab::new();
    let text = "x".repeat(100_000);
    let recipe = lab.write("big.toml", &format!("# {text}\n{UNFORMATTED}"));
    let bake = env!("CARGO_BIN_EXE_bake");
    let script = format!("ulimit -f 1; exec {bake} fmt {}", recipe.display());
    let ended = std::process::Command::new("sh").args(["-c", &script]).output().expect("sh");
    let err = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{err}");
    assert!(err.contains("File too large"), "{err}");
    assert!(fs::read_to_string(&recipe).expect("ours").ends_with(UNFORMATTED));
}

/// E11, E13: a recipe may be the one here, or the one in a directory.
#[test]
fn without_a_name_the_recipe_here_is_meant() {
    let lab = Lab::new();
    let none = lab.bake(["check"]);
    assert_eq!(none.code, 2);
    assert!(none.err.contains("there is no recipe.toml here"), "{}", none.err);
    lab.write("recipe.toml", UNFORMATTED);
    lab.write("shop/recipe.toml", UNFORMATTED);
    for args in [&["check"][..], &["plan"], &["check", "shop"], &["fmt"], &["fmt", "shop"]] {
        let run = lab.bake(args);
        assert_eq!(run.code, 0, "{args:?}: {}", run.err);
    }
    assert_eq!(lab.bake(["fmt", "--check", "shop", "recipe.toml"]).code, 0);
}

/// E11
#[test]
fn a_missing_vars_file_is_no_missing_recipe() {
    let lab = Lab::new();
    lab.write("recipe.toml", UNFORMATTED);
    let run = lab.bake(["check", "--vars-file", "no.toml"]);
    assert_eq!(run.code, 2);
    assert!(
        run.err.contains("cannot read no.toml") && run.err.contains("name = value"),
        "{}",
        run.err
    );
    assert!(!run.err.contains("bake new"), "{}", run.err);
}

/// E11: what comes from the environment is not shown as if it had to be given.
#[test]
fn usage_lines_do_not_depend_on_the_environment() {
    let lab = Lab::new();
    let missing = lab.bake(["show"]);
    assert_eq!(missing.code, 2);
    assert!(!missing.err.contains("--store"), "{}", missing.err);
    // E13: and bare `bake` shows the help, also with BAKE_STORE set.
    let bare = lab.bake::<&str>([]);
    assert_eq!(bare.code, 2);
    assert!(bare.err.contains("Commands:\n"), "{}", bare.err);
}

/// E11
#[test]
fn a_fleet_of_nothing_is_an_error_and_objects_have_absolute_paths() {
    let lab = Lab::new();
    fs::create_dir(lab.path("reports")).expect("our own directory");
    let run = lab.bake(["fleet", "reports"]);
    assert_eq!(run.code, 1, "{}", run.err);
    assert!(run.err.contains("no reports were found"), "{}", run.err);
    lab.write("web.toml", UNFORMATTED);
    lab.write("bad.toml", "nonsense");
    let recipe = |run: crate::lab::Run, field: &str| -> Vec<std::path::PathBuf> {
        let objects = run.out.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        objects.filter_map(|one: serde_json::Value| one[field].as_str().map(Into::into)).collect()
    };
    for (args, field) in [
        (["--json", "check", "web.toml"], "recipe"),
        (["--json", "plan", "web.toml"], "recipe"),
        (["--json", "fmt", "web.toml"], "recipe"),
        (["--json", "check", "bad.toml"], "file"),
        (["--json", "new", "shop"], "path"),
    ] {
        let paths = recipe(lab.bake(args), field);
        assert!(
            !paths.is_empty() && paths.iter().all(|path| path.is_absolute()),
            "{args:?} {paths:?}"
        );
    }
}

/// E17
#[test]
fn fmt_reads_stdin_and_habits_of_other_tools_are_known() {
    let lab = Lab::new();
    let recipe = lab.write("recipe.toml", UNFORMATTED);
    let mut command = lab.command(["fmt", "-"]);
    command.stdin(fs::File::open(&recipe).expect("our own file"));
    let ended = command.output().expect("bake starts");
    assert!(ended.status.success());
    assert_eq!(fs::read_to_string(&recipe).expect("ours"), UNFORMATTED);
    assert_eq!(lab.bake(["fmt"]).code, 0);
    assert_eq!(fs::read(&recipe).expect("ours"), ended.stdout);
    let detached = lab.bake(["run", "-d", "web"]);
    assert_eq!(detached.code, 2);
    assert!(detached.err.contains("no containers in the background"), "{}", detached.err);
    // Options of the program are the program's, with and without `--`.
    for args in
        [&["run", "-it", "--rm", "web", "sh", "-c", "true"][..], &["run", "web", "--", "-x"]]
    {
        let run = lab.bake(args);
        assert!(run.err.contains("no image web in the store"), "{args:?}: {}", run.err);
    }
}

/// E17
#[test]
fn image_names_are_completed() {
    if !tier::sandbox() || !tier::tool("bash") {
        return;
    }
    let lab = stocked();
    let script = lab.path("completion.bash");
    fs::write(&script, lab.bake(["completions", "bash"]).out).expect("our own file");
    let bin = Path::new(env!("CARGO_BIN_EXE_bake")).parent().expect("a directory");
    let complete = |words: &str, at: usize| {
        let script = format!(
            "PATH={}:$PATH; . {}; COMP_WORDS=({words}); COMP_CWORD={at}; COMPREPLY=(); _bake_images bake '' show; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            bin.display(),
            script.display()
        );
        let mut command = std::process::Command::new("bash");
        let command = command.args(["--norc", "-c", &script]).env("BAKE_STORE", lab.path("store"));
        crate::lab::run(command).out
    };
    let all = complete("bake show we", 2);
    assert!(all.contains("web\nweb:1.0.0\nweb:2.0.0\n"), "{all}");
    let one = complete("bake show web : 2", 4);
    assert!(one.ends_with("2.0.0\n") && !one.contains("1.0.0"), "{one}");
    assert!(!complete("bake build we", 2).contains("web:1.0.0"));
}

/// What `/x` of the image has, of a recipe that copies everything.
fn copied(lab: &Lab) -> Vec<String> {
    let run = lab.bake(["export", "web", "--format", "manifest", "--output", "-"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let names = run.out.lines().filter_map(|line| line.strip_prefix("./x/"));
    names.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

const COPY_ALL: &str = "[image]\nname = \"web\"\nversion = \"1.0.0\"\n\n[vars]\nword = \"a\"\n\n[base]\nscratch = true\n\n[[step]]\ncopy = \".\"\nto = \"/x/\"\nexclude = [\"store\", \"home\"]\n";

/// E14
#[test]
fn a_copy_of_everything_takes_no_recipe_and_no_history() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    let recipe = lab.write("web.toml", COPY_ALL);
    for name in ["app/main", ".git/HEAD", "sub/.git", "my.toml", ".gitignore"] {
        lab.write(name, "");
    }
    let build = || lab.bake(["build", "web.toml", "--vars-file", "my.toml"]);
    assert_eq!(build().code, 0, "{}", build().err);
    let names = copied(&lab);
    for (name, there) in [
        ("app/main", true),
        (".gitignore", true),
        (".git", false),
        ("sub/.git", false),
        ("web.toml", false),
        ("my.toml", false),
        ("web.lock", false),
    ] {
        assert_eq!(names.iter().any(|one| one == name), there, "{name}: {names:?}");
    }
    // A remark in the recipe or its variables is no other content.
    fs::write(&recipe, format!("# a remark\n{COPY_ALL}")).expect("our own file");
    lab.write("my.toml", "# a remark\n");
    let again = build();
    assert!(again.code == 0 && again.err.contains("already baked"), "{}", again.err);
    // Whoever wants them says so.
    lab.write(".bakeignore", "!.git\n!/web.toml\n");
    let run = lab.bake(["build", "web.toml", "--set-version", "2.0.0"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let names = copied(&lab);
    assert!(
        names.contains(&".git/HEAD".to_owned()) && names.contains(&"web.toml".to_owned()),
        "{names:?}"
    );
    assert!(!names.contains(&".bakeignore".to_owned()), "{names:?}");
}

/// D3
#[test]
fn ignore_files_are_read_whoever_wrote_them() {
    if !tier::sandbox() {
        return;
    }
    let lab = Lab::new();
    lab.write("web.toml", COPY_ALL);
    for name in ["secret", "app/main", "app/cache/x", "other"] {
        lab.write(name, "");
    }
    lab.write(".bakeignore", "\u{feff}secret\r\napp/\r\n!app/main\r\n");
    let run = lab.bake(["build", "web.toml"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(copied(&lab), ["other"]);
    // A pattern that can never hold is reported at its place.
    assert!(
        run.err.contains("\"!app/main\" takes nothing") && run.err.contains(".bakeignore:3"),
        "{}",
        run.err
    );
    fs::remove_file(lab.path(".bakeignore")).expect("our own file");
    lab.write(".dockerignore", "\u{feff}secret\napp\n!app/main\n");
    let run = lab.bake(["build", "web.toml", "--set-version", "2.0.0"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let names = copied(&lab);
    assert!(
        names.contains(&"app/main".to_owned()) && !names.contains(&"secret".to_owned()),
        "{names:?}"
    );
    assert!(
        !names.iter().any(|name| name.contains("cache") || name == ".dockerignore"),
        "{names:?}"
    );
}

/// E5
#[test]
fn doctor_looks_at_the_store_and_leaves_nothing() {
    let lab = Lab::new();
    let names = || {
        let entries = fs::read_dir("/var/tmp").expect("/var/tmp").flatten();
        let ours = |name: &std::ffi::OsString| name.to_string_lossy().contains("bake-doctor-");
        entries.map(|entry| entry.file_name()).filter(ours).collect::<BTreeSet<_>>()
    };
    let before = names();
    let good = lab.bake(["doctor"]);
    assert!(good.out.contains("store: ") && good.out.contains("can be made"), "{}", good.out);
    assert_eq!(fs::read_dir(lab.path("")).expect("ours").count(), 0);
    assert_eq!(names(), before);
    lab.write("store", "a file");
    let bad = lab.bake(["doctor"]);
    assert_ne!(bad.code, 0, "{}", bad.out);
    assert!(
        bad.out.contains("cannot build here") && bad.out.contains("cannot be used"),
        "{}",
        bad.out
    );
    if good.code == 0 {
        assert_eq!(bad.code, 11, "{}", bad.out);
        fs::remove_file(lab.path("store")).expect("our own file");
        assert_eq!(lab.bake(["-q", "doctor"]).out, "");
    }
}

/// E5: what the trial of a user leaves belongs to root inside, and is removed from there.
#[test]
fn root_doctor_of_a_user_leaves_nothing() {
    let (true, Some((_, uid, gid))) = (tier::root() && tier::sandbox(), somebody()) else {
        tier::skip("no user of this host has subordinate ids (adduser makes one that has)");
        return;
    };
    let lab = Lab::new();
    fs::create_dir(lab.path("data")).expect("our own directory");
    chown(lab.path("data"), Some(uid), Some(gid)).expect("we are root");
    let mut command = lab.command(["doctor"]);
    let command = command.uid(uid).gid(gid).env("BAKE_STORE", lab.path("data/store"));
    let run = crate::lab::run(command);
    assert_eq!(run.code, 0, "{}", run.out);
    assert!(run.out.contains("works (tried in"), "{}", run.out);
    assert!(run.out.contains(&lab.path("data").display().to_string()), "{}", run.out);
    assert_eq!(fs::read_dir(lab.path("data")).expect("ours").count(), 0);
}

/// B19: no message can be read as an order.
#[test]
fn errors_say_what_cannot_be_done() {
    let verbs = [
        "apply",
        "append",
        "compare",
        "copy",
        "create",
        "decompress",
        "enter",
        "export",
        "leave",
        "list",
        "look",
        "make",
        "open",
        "pack",
        "read",
        "remove",
        "rename",
        "replace",
        "run",
        "set",
        "sync",
        "unpack",
        "use",
        "write",
        "{what} {}",
    ];
    let mut seen = 0;
    let mut wrong = vec![];
    each_source(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut |path, text| {
        for message in text.split("#[error(").skip(1) {
            let message = message.trim_start().trim_start_matches('"');
            seen += 1;
            if verbs.iter().any(|verb| message.strip_prefix(verb).is_some_and(ends_a_word)) {
                let line = message.lines().next().unwrap_or_default();
                wrong.push(format!("{}: {line}", path.display()));
            }
        }
    });
    assert!(seen > 100, "{seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn ends_a_word(rest: &str) -> bool {
    !rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_')
}

fn each_source(dir: &Path, take: &mut dyn FnMut(&Path, &str)) {
    for entry in fs::read_dir(dir).expect("our own sources") {
        let path = entry.expect("our own sources").path();
        if path.is_dir() {
            each_source(&path, take);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            take(&path, &fs::read_to_string(&path).expect("our own sources"));
        }
    }
}
