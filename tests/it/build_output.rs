//! `[[output]]` and `--output`: all outputs and the version, or none of them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use bake::digest::Digest;
use serde_json::Value;

use crate::lab::{Lab, Run};
use crate::tier;

/// A recipe that runs nothing, with these tables behind it.
fn recipe(version: &str, more: &str) -> String {
    format!(
        "[image]\nname = \"web\"\nversion = \"{version}\"\n[base]\nscratch = true\n[[step]]\n\
            file = \"/etc/motd\"\ncontent = \"{version}\"\n{more}"
    )
}

/// Every form that needs no tools, as an ordinary user can make it.
const ALL: &str = r#"
[[output]]
format = "oci"
path = "out/layout"
[[output]]
format = "oci-archive"
path = "out/{{ name }}-{{ arch }}.oci.tar"
[[output]]
format = "docker-archive"
path = "out/web.docker.tar"
[[output]]
format = "tar"
path = "out/web.tar"
[[output]]
format = "dir"
path = "out/root"
owners = "dropped"
[[output]]
format = "manifest"
path = "out/web.mtree"
"#;

fn lab(text: &str) -> Lab {
    let lab = Lab::new();
    fs::create_dir(lab.path("out")).expect("our own directory");
    lab.write("web.toml", text);
    lab
}

/// Every name in a directory with what it holds.
fn tree(dir: &Path) -> Vec<(String, String)> {
    let name = |path: &Path| path.strip_prefix(dir).expect("below").display().to_string();
    let one = |entry: walkdir::DirEntry| {
        let path = entry.path();
        let what = match entry.file_type().is_file() {
            true => Digest::of(fs::read(path).expect("readable")).to_string(),
            false => String::new(),
        };
        (name(path), what)
    };
    walkdir::WalkDir::new(dir)
        .sort_by_file_name()
        .into_iter()
        .map(|entry| one(entry.expect("readable")))
        .collect()
}

/// The outputs that a run with `--json` speaks of: path, whether it was there already.
fn outputs(run: &Run) -> Vec<(String, bool)> {
    let objects = run.out.lines().map(|line| serde_json::from_str(line).expect("an object"));
    let outputs = objects.filter(|object: &Value| object["type"] == "output");
    let name = |object: &Value| {
        let path = Path::new(object["path"].as_str().expect("a path"));
        path.file_name().expect("a name").to_string_lossy().into_owned()
    };
    outputs.map(|one| (name(&one), one["cached"] == true)).collect()
}

fn check_fails(lab: &Lab, args: &[&str], code: i32, words: &[&str]) {
    let before = (tree(&lab.path("out")), lab.bake(["list"]).out);
    let run = lab.bake([&["build", "-q"], args].concat());
    assert_eq!(run.code, code, "{}", run.err);
    for word in words {
        assert!(run.err.contains(word), "{word:?} is not in {}", run.err);
    }
    assert_eq!((tree(&lab.path("out")), lab.bake(["list"]).out), before);
}

#[test]
fn every_form_is_made_with_the_publish_and_left_alone_afterwards() {
    if !tier::sandbox() {
        return;
    }
    let lab = lab(&recipe("1", ALL));
    let first = lab.bake(["build", "--json", "web.toml"]);
    assert_eq!(first.code, 0, "{}", first.err);
    let made: Vec<(String, bool)> = outputs(&first);
    assert_eq!(made.len(), 6, "{}", first.out);
    assert!(made.iter().all(|(_, cached)| !cached), "{made:?}");
    assert_eq!(fs::read_to_string(lab.path("out/root/etc/motd")).expect("readable"), "1");
    let export = |format: &str, name: &str| {
        let to = lab.path("exported");
        let run = lab.bake(["export", "web:1", "-f", format, "-o", "exported", "--force"]);
        assert_eq!(run.code, 0, "{}", run.err);
        let name = lab.path("out").join(name);
        assert_eq!(fs::read(to).expect("readable"), fs::read(name).expect("readable"), "{format}");
    };
    let arch = bake::image::Platform::host().architecture;
    export("oci-archive", &format!("web-{arch}.oci.tar"));
    export("docker-archive", "web.docker.tar");
    export("tar", "web.tar");
    export("manifest", "web.mtree");
    let plan = lab.bake(["plan", "web.toml"]).out;
    assert!(plan.contains("docker-archive out/web.docker.tar"), "{plan}");
    let before = tree(&lab.path("out"));
    let inodes = || {
        let paths = before.iter().map(|(name, _)| lab.path("out").join(name));
        paths.map(|path| fs::symlink_metadata(path).expect("there").ino()).collect::<Vec<_>>()
    };
    let first = inodes();
    let again = lab.bake(["build", "--json", "web.toml"]);
    assert_eq!(again.code, 0, "{}", again.err);
    assert!(outputs(&again).iter().all(|(_, cached)| *cached), "{}", again.out);
    assert_eq!(inodes(), first);
}

#[test]
fn what_is_missing_or_changed_is_made_again_of_the_published_image() {
    if !tier::sandbox() {
        return;
    }
    let lab = lab(&recipe("1", ALL));
    assert_eq!(lab.bake(["build", "web.toml"]).code, 0);
    let before = tree(&lab.path("out"));
    fs::remove_file(lab.path("out/web.tar")).expect("there");
    fs::remove_dir_all(lab.path("out/layout")).expect("there");
    fs::write(lab.path("out/web.mtree"), "#mtree\n").expect("our own file");
    fs::write(lab.path("out/root/etc/motd"), "2").expect("our own file");
    // Its bytes are right, whatever else changed.
    let docker = lab.path("out/web.docker.tar");
    fs::copy(&docker, lab.path("copy")).expect("a copy");
    fs::rename(lab.path("copy"), &docker).expect("our own file");
    let again = lab.bake(["build", "--json", "web.toml"]);
    assert_eq!(again.code, 0, "{}", again.err);
    let made: Vec<String> =
        outputs(&again).into_iter().filter(|(_, cached)| !cached).map(|(name, _)| name).collect();
    assert_eq!(made, ["layout", "web.tar", "root", "web.mtree"]);
    assert_eq!(tree(&lab.path("out")), before);
}

#[test]
fn an_output_of_another_version_is_replaced() {
    if !tier::sandbox() {
        return;
    }
    let lab = lab(&recipe("1", ALL));
    assert_eq!(lab.bake(["build", "web.toml"]).code, 0);
    lab.write("web.toml", &recipe("2", ALL));
    let run = lab.bake(["build", "web.toml"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(fs::read_to_string(lab.path("out/root/etc/motd")).expect("readable"), "2");
    let names: Vec<String> = tree(&lab.path("out")).into_iter().map(|(name, _)| name).collect();
    assert!(names.iter().all(|name| !name.contains(".bake-")), "{names:?}");
    let index = fs::read_to_string(lab.path("out/layout/index.json")).expect("readable");
    assert!(index.contains("\"web:2\""), "{index}");
}

#[test]
fn an_output_of_the_command_line_is_relative_to_the_current_directory() {
    if !tier::sandbox() {
        return;
    }
    let lab = lab(&recipe("1", ""));
    lab.write("sub/app.toml", &recipe("1", "").replace("web", "app"));
    let args = ["build", "--output", "tar=out/{{ name }}.tar", "web.toml", "sub/app.toml"];
    let run = lab.bake(args);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(lab.path("out/web.tar").is_file() && lab.path("out/app.tar").is_file());
    check_fails(
        &lab,
        &["--output", "tar=out/x.tar", "web.toml", "sub/app.toml"],
        2,
        &["two outputs at out/x.tar"],
    );
}

#[test]
fn an_output_that_is_off_is_not_made() {
    if !tier::sandbox() {
        return;
    }
    let off = "[[output]]\nformat = \"tar\"\npath = \"out/a.tar\"\nwhen = \"version == '2'\"\n";
    let lab = lab(&recipe("1", off));
    assert_eq!(lab.bake(["build", "web.toml"]).code, 0);
    assert_eq!(tree(&lab.path("out")).len(), 1);
}

#[test]
fn an_output_is_no_part_of_the_context() {
    if !tier::sandbox() {
        return;
    }
    let copy = format!("[[step]]\ncopy = \".\"\nto = \"/srv/\"\n{ALL}");
    let lab = lab(&recipe("1", &copy));
    lab.write(".bakeignore", "store\n");
    for _ in 0..2 {
        let run = lab.bake(["build", "web.toml"]);
        assert_eq!(run.code, 0, "{}", run.err);
    }
    let listed = fs::read_to_string(lab.path("out/web.mtree")).expect("readable");
    assert!(!listed.contains("oci.tar") && !listed.contains("layout"), "{listed}");
}

#[test]
fn mistakes_are_found_before_anything_runs() {
    if !tier::sandbox() {
        return;
    }
    let lab = lab("");
    fs::create_dir_all(lab.path("out/dir")).expect("our own directory");
    lab.write("out/file", "x");
    lab.write("shut/x", "");
    fs::set_permissions(lab.path("shut"), fs::Permissions::from_mode(0o555)).expect("ours");
    let check = |format: &str, path: &str, words: &[&str]| {
        let output = format!("[[output]]\nformat = \"{format}\"\npath = \"{path}\"\n");
        // A step that would be refused if it ran.
        let step = "[[step]]\nrun = [\"/no/such/program\"]\n";
        lab.write("web.toml", &recipe("1", &format!("{step}{output}")));
        check_fails(&lab, &["web.toml"], 2, words);
    };
    check("tar", "out/dir", &["web.toml:13", "out/dir is a directory"]);
    check("tar", "out/none/x.tar", &["web.toml:13", "missing the directory out/none", "mkdir -p"]);
    check("tar", "out/file/x.tar", &["out/file is not a directory"]);
    check("oci", "out/file", &["out/file is not a directory"]);
    check("oci", "out/dir", &["out/dir is a directory that bake did not write"]);
    check("tar", "store/x.tar", &["store/x.tar is in the store"]);
    check("tar", "web.toml", &["web.toml is the recipe"]);
    check("tar", "web.lock", &["web.lock is its lock file"]);
    check("tar", "/dev/null", &["/dev/null is not a regular file"]);
    check("tar", "..", &["is not the name of a file"]);
    check("trar", "out/x", &["unknown format \"trar\"", "did you mean \"tar\"?"]);
    check("vhd", "out/x", &["unknown format"]);
    check("tar", "out/{{ nmae }}", &["nmae"]);
    if !rustix::process::geteuid().is_root() {
        check("tar", "shut/x.tar", &["cannot write into the directory shut"]);
        check("dir", "out/new", &["only root can make", "owners = \"dropped\""]);
    }
    check(
        "oci",
        "out/a\"\n[[output]]\nformat = \"tar\"\npath = \"out/a/x",
        &["web.toml:16", "out/a/x is in another output"],
    );
    check(
        "oci",
        "out/a\"\n[[output]]\nformat = \"tar\"\npath = \"./out/../out/a",
        &["two outputs at", "web.toml:13"],
    );
    check(
        "tar",
        "out/a\"\n[[output]]\nformat = \"tar\"\npath = \"out//a",
        &["two outputs with the path"],
    );
    check("tar", "out/a\"\nowners = \"dropped", &["`owners` does not go with the format `tar`"]);
    lab.write("web.toml", &recipe("1", ""));
    let given = |output: &str, words: &[&str]| {
        check_fails(&lab, &["--output", output, "web.toml"], 2, words);
    };
    given("out/x.tar", &["an output without a path", "FORMAT=PATH"]);
    given("oci-archiv=out/x", &["unknown format", "did you mean \"oci-archive\"?"]);
    given("tar=out/dir", &["<command line>", "out/dir is a directory"]);
}

/// Kills in one run of the test, unless `BAKE_KILLS` says otherwise.
const KILLS: u32 = 40;

#[test]
fn killed_at_any_moment_all_outputs_are_of_one_version() {
    if !tier::sandbox() {
        return;
    }
    let lab = lab(&recipe("0", ALL));
    let begun = std::time::Instant::now();
    assert_eq!(lab.bake(["build", "web.toml"]).code, 0);
    let takes = begun.elapsed();
    let asked = std::env::var("BAKE_KILLS").ok();
    let kills = asked.map_or(KILLS, |text| text.parse().expect("BAKE_KILLS is a number"));
    let mut last = "0".to_owned();
    let mut published = 0;
    for n in 1..=kills {
        lab.write("web.toml", &recipe(&n.to_string(), ALL));
        let mut command = lab.command(["build", "-q", "web.toml"]);
        let quiet = std::process::Stdio::null;
        let mut child = command.stdout(quiet()).stderr(quiet()).spawn().expect("bake starts");
        // Moments, not synchronisation: wherever the kill falls, the same must hold.
        std::thread::sleep(takes.mul_f64(f64::from(n) / f64::from(kills) * 1.2));
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        // The next writer goes on or goes back, whatever it wants itself.
        let next = lab.bake(["gc"]);
        assert_eq!(next.code, 0, "after kill {n}: {}", next.err);
        let list = lab.bake(["list", "--json"]).out;
        if list.contains(&format!("\"version\":\"{n}\"")) {
            last = n.to_string();
            published += 1;
        }
        let motd = fs::read_to_string(lab.path("out/root/etc/motd")).expect("readable");
        assert_eq!(motd, last, "after kill {n}");
        let index = fs::read_to_string(lab.path("out/layout/index.json")).expect("readable");
        assert!(index.contains(&format!("\"web:{last}\"")), "after kill {n}: {index}");
        for file in ["web.tar", "web.mtree", "web.docker.tar"] {
            let bytes = fs::read(lab.path("out").join(file)).expect("readable");
            // The content of the one file, its digest, the name of the image.
            let digest = Digest::of(&last).hex();
            let marks = [format!("\"web:{last}\""), digest, format!("{last}\0\0\0")];
            let holds =
                |mark: &String| bytes.windows(mark.len()).any(|some| some == mark.as_bytes());
            assert!(marks.iter().any(holds), "after kill {n}: {file} is not of {last}");
        }
        let waiting = tree(&lab.path("out"));
        assert!(
            waiting.iter().all(|(name, _)| !name.contains(".bake-output")),
            "after kill {n}: {waiting:?}"
        );
    }
    assert!(published < kills, "no kill fell into a build");
    lab.write("web.toml", &recipe("last", ALL));
    let run = lab.bake(["build", "web.toml"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let left = tree(&lab.path("out"));
    assert!(left.iter().all(|(name, _)| !name.contains(".bake-")), "{left:?}");
    assert_eq!(lab.bake(["verify"]).code, 0);
}

#[test]
fn root_a_full_disk_under_any_output_publishes_nothing() {
    if !tier::root() || !tier::sandbox() || !tier::tool("unshare") {
        return;
    }
    let step = "[[step]]\nrun = \"seq 100000 > /numbers\"\n";
    for format in ["oci", "oci-archive", "docker-archive", "tar", "dir", "manifest"] {
        let lab = lab("");
        lab.tiny_root();
        let output = format!(
            "{step}[[output]]\nformat = \"tar\"\npath = \"first.tar\"\n\
                [[output]]\nformat = \"{format}\"\npath = \"out/x\"\n"
        );
        let text = recipe("1", &output).replace("scratch = true", "path = \"root\"");
        lab.write("web.toml", &text);
        // In a mount namespace of its own: nothing is left behind.
        let script = "mount -t tmpfs -o size=4k none out && \"$0\" build web.toml; code=$?
            ls -A out; exit $code";
        let bake = env!("CARGO_BIN_EXE_bake");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let run = crate::lab::run(
            std::process::Command::new("unshare")
                .args(["-m", "sh", "-c", script, bake])
                .current_dir(lab.path(""))
                .env_clear()
                .env("PATH", path)
                .env("HOME", lab.path("home"))
                .env("BAKE_STORE", lab.path("store")),
        );
        assert_eq!(run.code, 1, "{format}: {}{}", run.out, run.err);
        for word in ["cannot make the output out/x", "web.toml:", "nothing was published"] {
            assert!(run.err.contains(word), "{format}: {}", run.err);
        }
        assert_eq!(run.out, "", "{format}: something is left");
        assert!(!lab.path("first.tar").exists(), "{format}");
        assert!(!lab.bake(["list"]).out.contains("web"), "{format}");
        assert!(!lab.path("web.lock").exists(), "{format}");
        assert!(lab.scratch().is_empty(), "{format}: {:?}", lab.scratch());
    }
}
