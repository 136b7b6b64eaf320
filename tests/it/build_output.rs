//! `[[output]]` and `--output`: all outputs and the version, or none of them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use bake::digest::Digest;
use serde_json::Value;

use crate::lab::{Lab, Run, good};
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
fn explain_says_what_is_at_the_places_of_outputs() {
    if !tier::sandbox() {
        return;
    }
    let lab = lab(&recipe("1", ALL));
    let states = || -> Vec<String> {
        let explained = good(lab.bake(["explain", "--json", "web.toml"]));
        let object = &explained.objects("explained")[0];
        let outputs = object["outputs"].as_array().expect("a list").iter();
        outputs.map(|one| one["outcome"].as_str().expect("a word").to_owned()).collect()
    };
    assert_eq!(states(), ["made"; 6]);
    good(lab.bake(["build", "web.toml"]));
    assert_eq!(states(), ["there"; 6]);
    fs::remove_dir_all(lab.path("out/layout")).expect("there");
    fs::remove_file(lab.path("out/web.tar")).expect("there");
    fs::write(lab.path("out/root/etc/motd"), "2").expect("our own file");
    fs::remove_file(lab.path("out/web.mtree")).expect("there");
    fs::create_dir(lab.path("out/web.mtree")).expect("our own directory");
    assert_eq!(states(), ["gone", "there", "there", "gone", "other", "other"]);
    let before = tree(&lab.path("out"));
    let text = good(lab.bake(["explain", "web.toml"])).out;
    for row in ["OUTPUT", "out/layout", "is made again", "something else is there"] {
        assert!(text.contains(row), "{row}: {text}");
    }
    assert_eq!(tree(&lab.path("out")), before);
    // An output that the recipe did not have.
    let more = format!("{ALL}[[output]]\nformat = \"tar\"\npath = \"out/new.tar\"\n");
    lab.write("web.toml", &recipe("1", &more));
    assert_eq!(states()[6], "made");
    // Of a version that is not there all is made.
    lab.write("web.toml", &recipe("2", ALL));
    assert_eq!(states(), ["made"; 6]);
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
    check("vdi", "out/x", &["unknown format"]);
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

/// Runs `bake build web.toml` with a file system of its own on `out/`, in a mount namespace that
/// takes it along when it ends; what is printed is what lies in `out/` then.
fn build_on(lab: &Lab, options: &str) -> Run {
    let script = format!(
        "mount -t tmpfs -o {options} none out && \"$0\" build web.toml >&2; code=$?
        find out -type f -o -type l | sort; exit $code"
    );
    let bake = env!("CARGO_BIN_EXE_bake");
    let path = std::env::var_os("PATH").unwrap_or_default();
    crate::lab::run(
        std::process::Command::new("unshare")
            .args(["-m", "sh", "-c", &script, bake])
            .current_dir(lab.path(""))
            .env_clear()
            .env("PATH", path)
            .env("HOME", lab.path("home"))
            .env("BAKE_STORE", lab.path("store")),
    )
}

/// Two outputs, the second of them on a disk that is full at so many bytes.
fn full_disk(lab: &Lab, format: &str, size: &str) {
    let (step, first) = ("[[step]]\nrun = \"seq 100000 > /numbers\"\n", "first.tar");
    let output = |format: &str, path: &str| {
        format!("[[output]]\nformat = \"{format}\"\npath = \"{path}\"\n")
    };
    let text = format!("{step}{}{}", output("tar", first), output(format, "out/x"));
    lab.write("web.toml", &recipe("1", &text).replace("scratch = true", "path = \"root\""));
    let run = build_on(lab, &format!("size={size}"));
    let case = format!("{format} on {size}");
    assert_eq!(run.code, 1, "{case}: {}{}", run.out, run.err);
    for word in ["cannot make the output out/x", "web.toml:", "nothing was published"] {
        assert!(run.err.contains(word), "{case}: {}", run.err);
    }
    assert_eq!(run.out, "", "{case}: something is left");
    assert!(!lab.path("first.tar").exists(), "{case}");
    assert!(!lab.bake(["list"]).out.contains("web"), "{case}");
    assert!(!lab.path("web.lock").exists(), "{case}");
    assert!(lab.scratch().is_empty(), "{case}: {:?}", lab.scratch());
}

#[test]
fn root_a_full_disk_under_any_output_publishes_nothing() {
    if !tier::root() || !tier::sandbox() || !tier::tool("unshare") {
        return;
    }
    let lab = lab("");
    lab.tiny_root();
    // Where what waits for its turn has no room, and where that is all that has.
    for format in ["oci", "oci-archive", "docker-archive", "tar", "dir", "manifest", "ext4"] {
        full_disk(&lab, format, "4k");
    }
    for format in ["tar", "ext4", "dir", "docker-archive"] {
        full_disk(&lab, format, "3m");
    }
}

#[test]
fn root_net_a_full_disk_under_a_file_system_publishes_nothing() {
    if !tier::root() || !tier::sandbox() || !tier::tool("unshare") {
        return;
    }
    let lab = lab("");
    lab.tiny_root();
    // The programs are there, so that nothing but the disk can fail.
    lab.write("first.toml", &recipe("1", "").replace("\"web\"", "\"first\""));
    good(lab.bake(["build", "--output", "erofs=out/first", "first.toml"]));
    for (format, size) in [("erofs", "4k"), ("erofs", "3m"), ("squashfs", "4k"), ("squashfs", "3m")]
    {
        full_disk(&lab, format, size);
    }
}

#[test]
fn root_an_output_goes_to_another_file_system_unless_that_is_read_only() {
    if !tier::root() || !tier::sandbox() || !tier::tool("unshare") {
        return;
    }
    let text = recipe("1", &ALL.replace("owners = \"dropped\"\n", ""));
    let lab = lab(&text);
    let refused = build_on(&lab, "ro");
    assert_eq!(refused.code, 2, "{}", refused.err);
    for word in ["cannot write into the directory out", "Read-only file system", "web.toml:"] {
        assert!(refused.err.contains(word), "{}", refused.err);
    }
    assert!(!lab.bake(["list"]).out.contains("web"));
    let made = good(build_on(&lab, "size=64m"));
    for name in ["out/layout/index.json", "out/root/etc/motd", "out/web.mtree", "out/web.tar"] {
        assert!(made.out.lines().any(|line| line == name), "{name}: {}", made.out);
    }
    assert!(!made.out.contains(".bake-"), "{}", made.out);
    // That file system is gone: what was made there is made again.
    good(lab.bake(["build", "web.toml"]));
    assert_eq!(fs::read_to_string(lab.path("out/root/etc/motd")).expect("readable"), "1");
}

/// A symlink is what is replaced, never what it leads to.
#[test]
fn an_output_replaces_a_symlink_wherever_that_leads() {
    use std::os::unix::fs::symlink;
    if !tier::sandbox() {
        return;
    }
    let lab = lab(&recipe("1", ALL));
    lab.write("mine", "mine");
    let out = lab.path("out");
    symlink(lab.path("mine"), out.join("web.tar")).expect("our own symlink");
    symlink(lab.path("nowhere"), out.join("web.mtree")).expect("our own symlink");
    good(lab.bake(["build", "web.toml"]));
    assert_eq!(fs::read_to_string(lab.path("mine")).expect("readable"), "mine");
    assert!(!lab.path("nowhere").exists());
    for name in ["web.tar", "web.mtree"] {
        assert!(fs::symlink_metadata(out.join(name)).expect("there").is_file(), "{name}");
    }
    // A directory through a symlink is that directory; one that leads nowhere is none.
    fs::create_dir(lab.path("real")).expect("our own directory");
    symlink("real", lab.path("also")).expect("our own symlink");
    symlink("nowhere", lab.path("broken")).expect("our own symlink");
    let output = |path: &str| format!("tar={path}");
    good(lab.bake(["build", "--output", &output("also/x.tar"), "web.toml"]));
    assert!(lab.path("real/x.tar").is_file());
    let twice = [&output("also/x.tar"), &output("real/x.tar")];
    check_fails(
        &lab,
        &["--output", twice[0], "--output", twice[1], "web.toml"],
        2,
        &["two outputs"],
    );
    let broken = output("broken/x.tar");
    check_fails(&lab, &["--output", &broken, "web.toml"], 2, &["missing the directory broken"]);
    // A directory that is replaced is bake's own, not what a symlink leads to.
    fs::remove_dir_all(out.join("layout")).expect("there");
    symlink(lab.path("real"), out.join("layout")).expect("our own symlink");
    check_fails(&lab, &["web.toml"], 2, &["out/layout is not a directory"]);
    assert!(lab.path("real/x.tar").is_file());
}
