//! Roots that need each other: stages, mounts, and images and recipes as bases.

use std::fs;

use crate::lab::{Lab, Run};
use crate::tier;

const HEAD: &str = "[image]\nname = \"tiny\"\nversion = \"1\"\n";
const STAGE: &str = "[stage.build.base]\npath = \"root\"\n[[stage.build.step]]\n\
    run = \"mkdir -p /out/lib; read line < /src/a; echo $line > /out/tool; echo x > /out/lib/x; chmod 755 /out/tool\"\n\
    mount.\"/src\" = \"src\"\n";

fn lab() -> Option<Lab> {
    if !tier::sandbox() {
        return None;
    }
    let lab = Lab::new();
    lab.tiny_root();
    lab.write("src/a", "one\n");
    Some(lab)
}

fn good(run: Run) -> Run {
    assert_eq!(run.code, 0, "{}", run.err);
    run
}

fn digest(run: &Run) -> String {
    run.out.split_whitespace().nth(1).expect("name:version and a digest").to_owned()
}

/// The names of everything in an image.
fn names(lab: &Lab, image: &str) -> String {
    let at = lab.path("out");
    let _ = fs::remove_dir_all(&at);
    good(lab.bake(["export", image, "--format", "manifest", "--output", "out"]));
    let text = fs::read_to_string(&at).expect("readable");
    let _ = fs::remove_file(&at);
    text
}

#[test]
fn a_stage_gives_what_is_copied_and_nothing_else() {
    let Some(lab) = lab() else { return };
    let copy = "[base]\nscratch = true\n[[step]]\ncopy = \"/out/tool\"\nfrom = \"build\"\nto = \"/bin/thing\"\n\
        [[step]]\ncopy = [\"/out/lib\", \"/out/t*\"]\nfrom = \"build\"\nto = \"/opt/\"\nmode = \"0640\"\n";
    lab.write("tiny.toml", &format!("{HEAD}{STAGE}{copy}"));
    let first = good(lab.bake(["build", "tiny.toml"]));
    let names = names(&lab, "tiny:1");
    assert!(names.contains("./bin/thing") && names.contains("mode=0755"), "{names}");
    assert!(names.contains("./opt/x") && names.contains("./opt/tool"), "{names}");
    assert!(names.contains("mode=0640"), "{names}");
    assert!(!names.contains("busybox") && !names.contains("./out"), "{names}");
    let history = good(lab.bake(["history", "tiny:1"])).out;
    assert!(!history.contains("mkdir"), "a stage is no part of the history: {history}");
    // Another source that gives the same program: the stage runs, and all above is as it was.
    lab.write("src/a", "one\n# a comment\n");
    let again = good(lab.bake(["build", "tiny.toml"]));
    assert_eq!(digest(&again), digest(&first));
    assert!(again.err.contains("done: run mkdir"), "{}", again.err);
    assert!(again.err.contains("cached: copy /out/tool"), "{}", again.err);
    // In another store, from nothing, it is the same.
    let other =
        crate::lab::run(lab.command(["build", "tiny.toml"]).env("BAKE_STORE", lab.path("other")));
    assert_eq!(digest(&good(other)), digest(&first));
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn what_is_mounted_is_read_and_never_kept() {
    let Some(lab) = lab() else { return };
    let steps = "[base]\npath = \"root\"\n[[step]]\n\
        run = \"cat /src/a /built/x > /got; echo no > /src/a; echo no > /src/new\"\n\
        as = \"1000:1000\"\nmount.\"/src\" = \"src\"\nmount.\"/built\" = { from = \"build\", path = \"/out/lib\" }\n";
    let steps = steps.replace("as = \"1000:1000\"\n", "");
    lab.write("tiny.toml", &format!("{HEAD}{STAGE}{steps}"));
    good(lab.bake(["build", "tiny.toml"]));
    let names = names(&lab, "tiny:1");
    assert!(names.contains("./got") && !names.contains("./src"), "{names}");
    assert_eq!(fs::read_to_string(lab.path("src/a")).expect("readable"), "one\n");
    // Its content is in the key.
    lab.write("src/a", "two\n");
    let changed = lab.bake(["build", "tiny.toml", "--set-version", "2"]);
    assert!(good(changed).err.contains("done: run cat"));
}

/// A file is seen as a file, in a directory with others too, and can be written to.
#[test]
fn a_file_is_mounted_as_a_file() {
    let Some(lab) = lab() else { return };
    let steps = "[base]\npath = \"root\"\n[[step]]\n\
        run = \"cat /etc/one /bound/tool > /got; echo no > /etc/one; stat -c '%a %u' /bound/tool >> /got\"\n\
        as = \"1000:1000\"\nmount.\"/etc/one\" = \"src/a\"\nmount.\"/bound/tool\" = { from = \"build\", path = \"/out/tool\" }\n";
    let steps = steps
        .replace("/got", "/home/got")
        .replace("[[step]]\n", "[[step]]\nmkdir = \"/home\"\nmode = \"0777\"\n[[step]]\n");
    lab.write("tiny.toml", &format!("{HEAD}{STAGE}{steps}"));
    good(lab.bake(["build", "tiny.toml"]));
    good(lab.bake(["export", "tiny:1", "-f", "dir", "--drop-owners", "-o", "exported"]));
    let got = fs::read_to_string(lab.path("exported/home/got")).expect("readable");
    assert_eq!(got, "one\none\n755 1000\n");
    assert!(!lab.path("exported/etc/one").exists() && !lab.path("exported/bound").exists());
    assert_eq!(fs::read_to_string(lab.path("src/a")).expect("readable"), "one\n");
}

#[test]
fn stages_that_fail_fail_the_build_by_name() {
    let Some(lab) = lab() else { return };
    let stage = STAGE.replace("mkdir -p /out/lib", "echo why >&2; exit 3");
    let copy = "[base]\nscratch = true\n[[step]]\ncopy = \"/out/tool\"\nfrom = \"build\"\nto = \"/bin/\"\n";
    lab.write("tiny.toml", &format!("{HEAD}{stage}{copy}"));
    let failed = lab.bake(["build", "tiny.toml"]);
    assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{}", failed.err);
    assert!(failed.err.contains("step 1 of 1 of stage build"), "{}", failed.err);
    assert!(failed.err.contains("tiny.toml:7"), "{}", failed.err);
    // What is not there is reported at the step that wants it.
    let copy = copy.replace("/out/tool", "/out/took");
    lab.write("tiny.toml", &format!("{HEAD}{STAGE}{copy}"));
    let failed = lab.bake(["build", "tiny.toml"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    assert!(failed.err.contains("there is no \"/out/took\""), "{}", failed.err);
    assert!(failed.err.contains("out/tool") && !failed.err.contains("context"), "{}", failed.err);
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

fn company(lab: &Lab) {
    let base = "[image]\nname = \"company\"\nversion = \"1\"\n[base]\npath = \"root\"\n[[step]]\nfile = \"/etc/company\"\ncontent = \"x\"\n\
        [[test]]\nfile = \"/etc/company\"\n[config]\nenv = { COMPANY = \"example\", PATH = \"/bin:/opt/bin\" }\ncmd = [\"/bin/sh\"]\nports = [80]\n";
    lab.write("base/base.toml", base);
    fs::rename(lab.path("root"), lab.path("base/root")).expect("our own directory");
    for name in ["orders", "invoices"] {
        let service = format!(
            "[image]\nname = \"{name}\"\nversion = \"1\"\n[base]\nrecipe = \"base/base.toml\"\n[[step]]\nrun = \"echo $COMPANY $PATH {name} > /greeting\"\n\
             [[test]]\nfile = \"/greeting\"\ncontains = \"example /bin:/opt/bin {name}\"\n[config]\nports = [81]\n"
        );
        lab.write(&format!("{name}.toml"), &service);
    }
}

#[test]
fn services_on_a_base_are_built_and_published_with_it_or_not_at_all() {
    let Some(lab) = lab() else { return };
    company(&lab);
    let all = ["build", "orders.toml", "base/base.toml", "invoices.toml"];
    let built = good(lab.bake(all));
    let published: Vec<&str> =
        built.out.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(published, ["company:1", "orders:1", "invoices:1"], "{}", built.out);
    let shown = good(lab.bake(["show", "orders:1"])).out;
    for part in ["COMPANY=example", "PATH=/bin:/opt/bin", "cmd         \"/bin/sh\""] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(shown.contains("80/tcp") && shown.contains("81/tcp"), "{shown}");
    // Alone it builds what it stands on, and publishes itself only.
    let alone =
        crate::lab::run(lab.command(["build", "orders.toml"]).env("BAKE_STORE", lab.path("other")));
    let alone = good(alone);
    assert_eq!(alone.out.lines().count(), 1, "{}", alone.out);
    assert!(built.out.contains(&digest(&alone)), "{} {}", built.out, alone.out);
    // A base that fails publishes nothing, and both recipes are named.
    let base = fs::read_to_string(lab.path("base/base.toml")).expect("readable");
    lab.write(
        "base/base.toml",
        &base.replace("content = \"x\"", "content = \"y\"\n[[step]]\nrun = \"exit 3\""),
    );
    let before = lab.images_hash();
    let failed = lab.bake(["build", "orders.toml", "--set-version", "2"]);
    assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{}", failed.err);
    assert!(
        failed.err.contains("orders.toml") && failed.err.contains("base.toml"),
        "{}",
        failed.err
    );
    assert_eq!(lab.images_hash(), before);
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn a_base_that_fails_its_tests_carries_nothing() {
    let Some(lab) = lab() else { return };
    company(&lab);
    let base = fs::read_to_string(lab.path("base/base.toml")).expect("readable");
    lab.write(
        "base/base.toml",
        &base.replace("[[test]]\nfile = \"/etc/company\"", "[[test]]\nfile = \"/nowhere\""),
    );
    let failed = lab.bake(["build", "orders.toml"]);
    assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{}", failed.err);
    assert_eq!(lab.bake(["list", "--json"]).out, "");
}

#[test]
fn an_image_of_the_store_is_a_base_with_all_its_layers() {
    let Some(lab) = lab() else { return };
    company(&lab);
    good(lab.bake(["build", "base/base.toml"]));
    let head = "[image]\nname = \"web\"\nversion = \"1\"\n[base]\nimage = \"company:1\"\n";
    lab.write("web.toml", &format!("{head}[[step]]\nrun = \"echo $COMPANY > /greeting\"\n"));
    let first = good(lab.bake(["build", "web.toml"]));
    let lock = fs::read_to_string(lab.path("web.lock")).expect("it pins the base");
    assert!(lock.contains("image = \"company:1\"") && lock.contains("sha256:"), "{lock}");
    assert!(good(lab.bake(["build", "web.toml", "--locked"])).out == first.out);
    let layers = |image: &str| {
        let shown = good(lab.bake(["show", image, "--json"])).out;
        let value: serde_json::Value = serde_json::from_str(shown.trim()).expect("one object");
        value["layers"].as_array().expect("layers").clone()
    };
    let (below, all) = (layers("company:1"), layers("web:1"));
    assert_eq!(all[..below.len()], below, "kept as they are, and stored once");
    good(lab.bake(["verify"]));
    // Revoked: nothing new stands on it.
    good(lab.bake(["revoke", "company:1", "--why", "a hole"]));
    let failed = lab.bake(["build", "web.toml", "--set-version", "2"]);
    assert_eq!(failed.code, 1, "{}", failed.err);
    assert!(failed.err.contains("web.toml:5") && failed.err.contains("a hole"), "{}", failed.err);
    // Not there at all.
    lab.write(
        "web.toml",
        &format!("{}[[step]]\nmkdir = \"/x\"\n", head.replace("company:1", "nobody:1")),
    );
    let failed = lab.bake(["build", "web.toml", "--set-version", "3"]);
    assert!(failed.code == 1 && failed.err.contains("nobody:1"), "{}", failed.err);
}

#[test]
fn recipes_that_stand_on_themselves_or_make_the_same_version_are_refused() {
    let Some(lab) = lab() else { return };
    let on = |name: &str, base: &str| {
        format!("[image]\nname = \"{name}\"\nversion = \"1\"\n[base]\nrecipe = \"{base}\"\n")
    };
    lab.write("a.toml", &on("a", "b.toml"));
    lab.write("b.toml", &on("b", "link.toml"));
    std::os::unix::fs::symlink("a.toml", lab.path("link.toml")).expect("a symlink");
    let failed = lab.bake(["build", "a.toml"]);
    assert_eq!(failed.code, 2, "{}", failed.err);
    assert!(
        failed.err.contains("a.toml -> ") && failed.err.contains("b.toml -> "),
        "{}",
        failed.err
    );
    lab.write("c.toml", "[image]\nname = \"c\"\nversion = \"1\"\n[base]\nscratch = true\n");
    lab.write("d.toml", "[image]\nname = \"c\"\nversion = \"1\"\n[base]\nscratch = true\n");
    let failed = lab.bake(["build", "c.toml", "d.toml"]);
    assert_eq!((failed.code, failed.out.as_str()), (2, ""), "{}", failed.err);
    assert!(failed.err.contains("c.toml") && failed.err.contains("d.toml"), "{}", failed.err);
}

/// An image of the store becomes part of another one only where it is what its name says, whether
/// or not a step looks into it.
#[test]
fn an_image_whose_blobs_are_missing_or_lie_is_no_base() {
    let Some(lab) = lab() else { return };
    company(&lab);
    good(lab.bake(["build", "base/base.toml"]));
    let head = "[image]\nname = \"web\"\nversion = \"1\"\n[base]\nimage = \"company:1\"\n";
    lab.write("none.toml", head);
    lab.write("web.toml", &format!("{head}[[step]]\nrun = \"echo x > /x\"\n"));
    let history = good(lab.bake(["history", "company:1", "--json"])).out;
    let layer = history
        .lines()
        .filter_map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON")["layer"]
                .as_str()
                .map(str::to_owned)
        })
        .next_back()
        .expect("a layer");
    let hex = layer.trim_start_matches("sha256:");
    let blob = lab.path("store/blobs/sha256").join(hex);
    let whole = fs::read(&blob).expect("a blob");
    let fails = |why: &str| {
        for recipe in ["none.toml", "web.toml"] {
            let failed = lab.bake(["build", recipe]);
            assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{why}: {}", failed.err);
            for part in [why, hex, &format!("{recipe}:5"), "image company:1"] {
                assert!(failed.err.contains(part), "{part}: {}", failed.err);
            }
        }
        assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
    };
    // As long as before, and in the same file.
    let mut other = whole.clone();
    *other.last_mut().expect("bytes") ^= 1;
    fs::write(&blob, &other).expect("ours");
    fails("holds sha256:");
    fs::remove_file(&blob).expect("ours");
    fails("is missing");
    fs::write(&blob, &whole[1..]).expect("ours");
    fails("bytes");
    fs::write(&blob, &whole).expect("ours");
    good(lab.bake(["build", "none.toml"]));
    // Also where it was found whole before.
    fs::write(&blob, &other).expect("ours");
    let failed = lab.bake(["build", "none.toml", "--set-version", "2"]);
    assert!(failed.code == 1 && failed.err.contains("holds sha256:"), "{}", failed.err);
    // A recipe that is published already is such a base as well.
    let failed = lab.bake(["build", "orders.toml"]);
    assert!(failed.code == 1 && failed.err.contains("holds sha256:"), "{}", failed.err);
}

#[test]
fn an_image_for_another_platform_is_no_base() {
    let Some(lab) = lab() else { return };
    company(&lab);
    good(lab.bake(["build", "base/base.toml"]));
    // The same image, as if made elsewhere.
    let blobs = lab.path("store/blobs/sha256");
    let read = |digest: &str| fs::read_to_string(blobs.join(digest.trim_start_matches("sha256:")));
    let add = |text: &str| {
        let digest = bake::digest::Digest::of(text);
        fs::write(blobs.join(digest.hex()), text).expect("ours");
        (digest.to_string(), text.len())
    };
    let index = fs::read_to_string(lab.path("store/index.json")).expect("an index");
    let value: serde_json::Value = serde_json::from_str(&index).expect("JSON");
    let old = value["manifests"][0].clone();
    let manifest: serde_json::Value =
        serde_json::from_str(&read(old["digest"].as_str().expect("text")).expect("a blob"))
            .expect("JSON");
    let config = read(manifest["config"]["digest"].as_str().expect("text")).expect("a blob");
    let here = bake::image::Platform::host().architecture;
    let (digest, size) = add(&config.replace(&format!("\"{here}\""), "\"s390x\""));
    let mut manifest = manifest;
    manifest["config"]["digest"] = digest.into();
    manifest["config"]["size"] = size.into();
    let (digest, size) = add(&manifest.to_string());
    let mut value = value;
    value["manifests"][0]["digest"] = digest.into();
    value["manifests"][0]["size"] = size.into();
    value["manifests"][0]["platform"]["architecture"] = "s390x".into();
    lab.write("store/index.json", &value.to_string());
    lab.write(
        "web.toml",
        "[image]\nname = \"web\"\nversion = \"1\"\n[base]\nimage = \"company:1\"\n",
    );
    let failed = lab.bake(["build", "web.toml"]);
    assert_eq!((failed.code, failed.out.as_str()), (1, ""), "{}", failed.err);
    for part in ["web.toml:5", "linux/s390x"] {
        assert!(failed.err.contains(part), "{part}: {}", failed.err);
    }
}

/// Each root stands on what it names, whatever the others of its recipe stand on.
#[test]
fn stages_stand_on_recipes_and_images_of_their_own() {
    let Some(lab) = lab() else { return };
    let base = |name: &str| {
        format!(
            "[image]\nname = \"{name}\"\nversion = \"1\"\n[base]\npath = \"root\"\n\
             [[step]]\nfile = \"/name\"\ncontent = \"{name}\\n\"\n[config]\nenv = {{ NAME = \"{name}\" }}\n"
        )
    };
    for name in ["one", "two", "three"] {
        lab.write(&format!("{name}.toml"), &base(name));
    }
    good(lab.bake(["build", "three.toml"]));
    let stage = |name: &str, base: &str| {
        format!(
            "[[step]]\ncopy = \"/greeting\"\nfrom = \"{name}\"\nto = \"/{name}\"\n\
             [stage.{name}.base]\n{base}\n[[stage.{name}.step]]\nrun = \"read name < /name; echo $name $NAME > /greeting\"\n"
        )
    };
    let text = |base: &str| {
        format!(
            "{HEAD}[base]\n{base}\n{}{}{}[[test]]\nfile = \"/a\"\ncontains = \"two two\"\n\
             [[test]]\nfile = \"/b\"\ncontains = \"three three\"\n[[test]]\nfile = \"/c\"\ncontains = \"one one\"\n",
            stage("a", "recipe = \"two.toml\""),
            stage("b", "image = \"three:1\""),
            stage("c", "recipe = \"./one.toml\""),
        )
    };
    for base in ["recipe = \"one.toml\"", "scratch = true", "stage = \"a\""] {
        lab.write("tiny.toml", &text(base));
        let built = good(lab.bake(["build", "tiny.toml"]));
        let other = crate::lab::run(
            lab.command(["build", "three.toml"]).env("BAKE_STORE", lab.path("other")),
        );
        good(other);
        let other = crate::lab::run(
            lab.command(["build", "tiny.toml", "--jobs", "1"]).env("BAKE_STORE", lab.path("other")),
        );
        assert_eq!(good(other).out, built.out, "{base}");
        let graph = good(lab.bake(["explain", "--graph", "tiny.toml"])).out;
        for part in ["a/base", "two:1", "three:1", "one:1"] {
            assert!(graph.contains(part), "{part}: {graph}");
        }
        assert!(graph.contains("cached") && !graph.contains("runs"), "{graph}");
        good(lab.bake(["rm", "tiny:1"]));
        good(crate::lab::run(
            lab.command(["rm", "tiny:1", "three:1"]).env("BAKE_STORE", lab.path("other")),
        ));
    }
    // A cycle by way of a stage is one.
    lab.write("two.toml", &format!("{HEAD}[base]\nrecipe = \"tiny.toml\"\n"));
    let failed = lab.bake(["build", "tiny.toml"]);
    assert!(failed.code == 2 && failed.err.contains("two.toml -> "), "{}", failed.err);
}

#[test]
fn what_is_published_already_needs_no_base() {
    let Some(lab) = lab() else { return };
    company(&lab);
    let first = good(lab.bake(["build", "orders.toml"]));
    let again = good(lab.bake(["build", "orders.toml", "--json"]));
    for kind in ["\"step\"", "\"started\"", "\"test\""] {
        assert!(!again.out.contains(&format!("\"type\":{kind}")), "{}", again.out);
    }
    assert!(again.out.contains(&digest(&first)), "{}", again.out);
    // Who is not published yet does.
    let both = good(lab.bake(["build", "orders.toml", "invoices.toml"]));
    assert!(both.out.contains(&digest(&first)) && both.out.contains("invoices:1"), "{}", both.out);
}

/// A recipe that is a base and is not there is a mistake of the recipe that names it, reported with
/// its others.
#[test]
fn a_base_recipe_that_is_not_there_is_a_mistake_with_its_line() {
    let Some(lab) = lab() else { return };
    lab.write("sub/recipe.toml", "");
    let recipe = "[image]\nname = \"a\"\nversion = \"1\"\n[base]\nrecipe = \"nothing.toml\"\n\
        [[step]]\ncopy = \"/x\"\nfrom = \"s\"\nto = \"/x\"\n[[step]]\ncopy = \"no\"\nto = \"/\"\n\
        [stage.s.base]\nrecipe = \"sub\"\n";
    lab.write("a.toml", recipe);
    for command in ["check", "build", "plan"] {
        let failed = lab.bake([command, "a.toml"]);
        assert_eq!((failed.code, failed.out.as_str()), (2, ""), "{command}: {}", failed.err);
        let parts = ["a.toml:5", "nothing.toml", "a.toml:14", "sub", "a.toml:11", "3 mistakes"];
        for part in parts {
            assert!(failed.err.contains(part), "{command}: {part}: {}", failed.err);
        }
    }
}
