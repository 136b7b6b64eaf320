//! `platforms` in a recipe: one version of images for several platforms, each built here.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use bake::image::{Index, MEDIA_INDEX, Manifest, Reference};
use bake::store::Store;

use crate::base_oci::Registry;
use crate::lab::{Lab, good, run};
use crate::platforms_lab::{program, runs};
use crate::sandbox_user::somebody;
use crate::tier;

fn named(text: &str) -> Reference {
    text.parse().expect("a reference")
}

/// Both processors that programs are known for, this machine's first.
fn arches() -> [&'static str; 2] {
    match cfg!(target_arch = "aarch64") {
        true => ["arm64", "amd64"],
        false => ["amd64", "arm64"],
    }
}

/// A lab with a program for each of two platforms.
fn lab() -> Option<Lab> {
    let [own, other] = arches();
    if !tier::sandbox() || !runs(other) {
        return None;
    }
    let lab = Lab::new();
    for arch in [own, other] {
        program(&lab.path(&format!("bin/{arch}/hello")), arch, &format!("made on {arch}"));
    }
    Some(lab)
}

const PLATFORMS: &str = "platforms = ['linux/amd64', 'linux/arm64']\n";

fn recipe(platforms: &str, more: &str) -> String {
    format!(
        "[image]\nname = 'web'\nversion = '1'\n{platforms}[base]\nscratch = true\n\
            [[step]]\ncopy = 'bin/{{{{ arch }}}}/hello'\nto = '/bin/hello'\n\
            [[step]]\nrun = ['/bin/hello']\n{more}"
    )
}

#[test]
fn a_recipe_for_several_platforms_becomes_one_version() {
    let Some(lab) = lab() else { return };
    let test = "[[test]]\nrun = ['/bin/hello']\n";
    let config = "[config]\nentrypoint = ['/bin/hello']\nlabels.machine = '{{ machine }}'\n";
    lab.write("web.toml", &recipe(PLATFORMS, &format!("{test}{config}")));
    let built = good(lab.bake(["build", "web.toml"]));
    let store = Store::open(&lab.path("store")).expect("a store");
    let version = store.resolve(&named("web:1")).expect("published");
    assert_eq!(version.manifest.media_type, MEDIA_INDEX);
    assert!(built.out.contains(&format!("web:1 {}", version.manifest.digest)), "{}", built.out);
    assert_eq!(store.versions().expect("readable").len(), 1);

    // Each half is what it would be alone.
    let index = store.image_index(&version.manifest).expect("an index");
    let platforms: Vec<String> = index
        .manifests
        .iter()
        .map(|one| one.platform.as_ref().expect("a platform").to_string())
        .collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    assert!(index.manifests.iter().all(|one| one.annotations.is_empty()));
    let [own, other] = arches();
    for (arch, machine) in [("amd64", "x86_64"), ("arm64", "aarch64")] {
        let platform = format!("linux/{arch}");
        let show = good(lab.bake(["show", "web:1", "--platform", &platform]));
        for part in [&*platform, &format!("machine={machine}"), "yes, "] {
            assert!(show.out.contains(part), "{part}: {}", show.out);
        }
        let ran = good(lab.bake(["run", "--platform", &platform, "web:1"]));
        assert_eq!(ran.out, format!("made on {arch}\n"));
        let out = format!("{arch}.tar");
        let export = ["export", "web:1", "--format", "tar", "--platform", &platform, "-o", &out];
        good(lab.bake(export));
        let tar = fs::read(lab.path(&out)).expect("written");
        let text = String::from_utf8_lossy(&tar).into_owned();
        assert!(text.contains(&format!("made on {arch}\n")), "{arch}");
    }
    let wrong = lab.bake(["show", "web:1", "--platform", "linux/riscv64"]);
    assert_ne!(wrong.code, 0);
    assert!(wrong.err.contains("linux/amd64, linux/arm64"), "{}", wrong.err);
    let diff = lab.bake(["diff", "web:1", "web:1", "--platform", &format!("linux/{other}")]);
    assert_eq!(diff.code, 0, "{}", diff.err);
    good(lab.bake(["verify"]));

    // Nothing to do; and one of the platforms is there with the others.
    let again = good(lab.bake(["--json", "build", "web.toml"]));
    assert!(again.out.contains("\"cached\":true"), "{}", again.out);
    let one = format!("linux/{own}");
    let part = good(lab.bake(["--json", "build", "web.toml", "--platform", &one]));
    assert!(part.out.contains("\"cached\":true"), "{}", part.out);
    // Tests are run again for each, and the version stays what it is.
    let tested = good(lab.bake(["--json", "test", "web:1"]));
    assert!(tested.out.contains("\"tests\":2"), "{}", tested.out);
    assert_eq!(
        store.resolve(&named("web:1")).expect("there").manifest.digest,
        version.manifest.digest
    );
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());

    // What was built for this machine alone is the same image.
    let alone = Lab::new();
    for arch in arches() {
        program(&alone.path(&format!("bin/{arch}/hello")), arch, &format!("made on {arch}"));
    }
    alone.write("web.toml", &recipe("", &format!("{test}{config}")));
    good(alone.bake(["build", "web.toml"]));
    let plain = Store::open(&alone.path("store")).expect("a store");
    let digest = plain.resolve(&named("web:1")).expect("published").manifest.digest;
    let own = index
        .manifests
        .iter()
        .find(|one| one.platform.as_ref().is_some_and(|platform| platform.architecture == own));
    assert_eq!(own.expect("there").digest, digest);

    // Two stores, the same bytes; and the same as of two versions that are merged.
    let merged = Lab::new();
    for arch in arches() {
        program(&merged.path(&format!("bin/{arch}/hello")), arch, &format!("made on {arch}"));
        let text = recipe("", &format!("{test}{config}"));
        let text = text.replace("name = 'web'", &format!("name = '{arch}'"));
        merged.write("web.toml", &text);
    }
    merged.write("web.toml", &recipe(PLATFORMS, &format!("{test}{config}")));
    good(merged.bake(["build", "web.toml", "--jobs", "1"]));
    let theirs = Store::open(&merged.path("store")).expect("a store");
    let theirs = theirs.resolve(&named("web:1")).expect("published").manifest.digest;
    assert_eq!(theirs, version.manifest.digest);
}

#[test]
fn a_foreign_platform_alone_is_a_plain_image() {
    let Some(lab) = lab() else { return };
    let [_, other] = arches();
    lab.write("web.toml", &recipe("", ""));
    let platform = format!("linux/{other}");
    good(lab.bake(["build", "web.toml", "--platform", &platform]));
    let store = Store::open(&lab.path("store")).expect("a store");
    let version = store.resolve(&named("web:1")).expect("published");
    Manifest::parse(&store.read_blob(&version.manifest.digest).expect("there"))
        .expect("a manifest");
    let show = good(lab.bake(["show", "web:1"]));
    assert!(show.out.contains(&platform), "{}", show.out);
    // The other platform is other content: the version is taken.
    let taken = lab.bake(["build", "web.toml"]);
    assert_ne!(taken.code, 0);
}

#[test]
fn outputs_of_several_platforms() {
    let Some(lab) = lab() else { return };
    let outputs = "[[output]]\nformat = 'oci-archive'\npath = 'web.oci.tar'\n\
        [[output]]\nformat = 'oci'\npath = 'layout'\n\
        [[output]]\nformat = 'tar'\npath = 'web-{{ arch }}.tar'\n";
    lab.write("web.toml", &recipe(PLATFORMS, outputs));
    let built = good(lab.bake(["build", "web.toml"]));
    for name in ["web.oci.tar", "web-amd64.tar", "web-arm64.tar"] {
        assert!(lab.path(name).is_file(), "{name}: {}", built.err);
    }
    let layout = Index::parse(&fs::read(lab.path("layout/index.json")).expect("written"));
    let one = layout.expect("an index").manifests.remove(0);
    assert_eq!(one.media_type, MEDIA_INDEX);
    let blob = lab.path(&format!("layout/blobs/sha256/{}", one.digest.hex()));
    let inner = Index::parse(&fs::read(blob).expect("there")).expect("an index");
    assert_eq!(inner.manifests.len(), 2);
    for manifest in &inner.manifests {
        assert!(lab.path(&format!("layout/blobs/sha256/{}", manifest.digest.hex())).is_file());
    }
    let mode = fs::metadata(lab.path("web-arm64.tar")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    good(lab.bake(["import", "layout", "copy:1", "--platform", "linux/arm64"]));
    // Already there: nothing is made again.
    let again = good(lab.bake(["build", "web.toml"]));
    assert!(again.err.contains("unchanged"), "{}", again.err);

    // One file cannot hold the roots of two.
    lab.write("two.toml", &recipe(PLATFORMS, "[[output]]\nformat = 'tar'\npath = 'web.tar'\n"));
    let two = lab.bake(["build", "two.toml"]);
    assert_ne!(two.code, 0);
    assert!(two.err.contains("two outputs at web.tar"), "{}", two.err);
    assert!(two.err.contains("{{ arch }}"), "{}", two.err);
}

#[test]
fn a_version_that_says_its_platform_is_one_of_each() {
    let Some(lab) = lab() else { return };
    let text = recipe(PLATFORMS, "").replace("version = '1'", "version = '1-{{ arch }}'");
    lab.write("web.toml", &text);
    good(lab.bake(["build", "web.toml"]));
    let list = good(lab.bake(["list", "--names"]));
    for name in ["web:1-amd64", "web:1-arm64"] {
        assert!(list.out.contains(name), "{}", list.out);
    }
}

#[test]
fn recipes_that_stand_on_others_do_so_for_each_platform() {
    let Some(lab) = lab() else { return };
    let base = recipe("", "").replace("name = 'web'", "name = 'base'");
    lab.write("base.toml", &base);
    lab.write(
        "web.toml",
        &format!(
            "[image]\nname = 'web'\nversion = '2'\n{PLATFORMS}[base]\nrecipe = 'base.toml'\n\
                [stage.tool.base]\nscratch = true\n\
                [[stage.tool.step]]\ncopy = 'bin/{{{{ arch }}}}/hello'\nto = '/hello'\n\
                [[stage.tool.step]]\nrun = ['/hello']\n\
                [[step]]\ncopy = '/made'\nfrom = 'tool'\nto = '/of-the-stage'\n\
                [[test]]\nfile = '/of-the-stage'\ncontains = 'made on {{{{ arch }}}}'\n\
                [[test]]\nfile = '/made'\ncontains = 'made on {{{{ arch }}}}'\n"
        ),
    );
    good(lab.bake(["build", "web.toml"]));
    let list = good(lab.bake(["list", "--names"]));
    assert!(list.out.contains("web:2\n"), "{}", list.out);
    assert!(!list.out.contains("base"), "what is only stood on is not published: {}", list.out);
    // And on an index of the store.
    let above = "[image]\nname = 'top'\nversion = '1'\nPLATFORMS[base]\nimage = 'web:2'\n\
        [[step]]\nrun = ['/bin/hello']\n";
    lab.write("top.toml", &above.replace("PLATFORMS", PLATFORMS));
    good(lab.bake(["build", "top.toml"]));
    let lock = fs::read_to_string(lab.path("top.lock")).expect("an image is pinned");
    assert!(lock.contains("[build.\"linux/arm64\".base]"), "{lock}");
    for arch in arches() {
        let platform = format!("linux/{arch}");
        let ran = good(lab.bake(["run", "--platform", &platform, "top:1", "--", "/bin/hello"]));
        assert_eq!(ran.out, format!("made on {arch}\n"));
    }
    good(lab.bake(["build", "top.toml", "--locked"]));
}

#[test]
fn root_what_cannot_run_is_reported_before_anything_runs() {
    if !tier::root() || !tier::sandbox() {
        return;
    }
    let [own, other] = arches();
    let lab = Lab::new();
    for arch in [own, other] {
        program(&lab.path(&format!("bin/{arch}/hello")), arch, "hello");
    }
    lab.write("web.toml", &recipe(PLATFORMS, ""));
    // A host without any emulator: in a mount namespace of its own, which goes with the command.
    let hide = "for at in /usr/bin /usr/local/bin /usr/sbin; do for one in $at/qemu-*; do \
        [ ! -e $one ] || mount --bind /dev/null $one; done; done; \
        ! [ -e /proc/sys/fs/binfmt_misc/register ] || mount -t tmpfs none \
        /proc/sys/fs/binfmt_misc; exec \"$@\"";
    let bake = |args: &[&str]| {
        let inner = lab.command(args);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", hide, "sh"]).arg(inner.get_program());
        command.args(inner.get_args()).current_dir(lab.path(""));
        command.env("BAKE_STORE", lab.path("store")).env("HOME", lab.path("home"));
        run(&mut command)
    };
    let refused = bake(&["build", "web.toml"]);
    assert_eq!(refused.code, 10, "{}{}", refused.out, refused.err);
    for part in [&*format!("cannot run programs for {other}"), "hint: ", "qemu-user-static"] {
        assert!(refused.err.contains(part), "{part}: {}", refused.err);
    }
    assert!(!refused.err.contains("made on"), "something ran: {}", refused.err);
    assert!(lab.scratch().is_empty());
    let doctor = bake(&["doctor"]);
    assert!(doctor.out.contains(&format!("linux/{other}")), "{}", doctor.out);
    assert!(doctor.out.contains("hint: apt-get install qemu-user-static"), "{}", doctor.out);
    // What runs no program needs none.
    let text = recipe(PLATFORMS, "").replace("[[step]]\nrun = ['/bin/hello']\n", "");
    lab.write("copy.toml", &text);
    good(bake(&["build", "copy.toml"]));
}

/// The example: Debian packages for each platform, the foreign ones set up through qemu.
#[test]
fn tools_net_the_example_is_pushed_and_pulled_for_either_platform() {
    let [_, other] = arches();
    let there = ["skopeo", "docker-registry"].iter().all(|name| tier::tool(name));
    if !there || !tier::sandbox() || !runs(other) {
        return;
    }
    let lab = Lab::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/platforms/hello.toml");
    lab.write("hello.toml", &fs::read_to_string(from).expect("the example"));
    good(lab.bake(["build", "hello.toml"]));
    for (arch, machine) in [("amd64", "x86_64"), ("arm64", "aarch64")] {
        let platform = format!("linux/{arch}");
        let ran = good(lab.bake(["run", "--platform", &platform, "hello:1.0.0"]));
        assert_eq!(ran.out, format!("{machine}\n"));
    }
    let registry = Registry::start(&lab);
    let to = format!("{}/hello", registry.address);
    good(lab.bake(["push", "hello:1.0.0", &to]));
    let store = Store::open(&lab.path("store")).expect("a store");
    let version = store.resolve(&named("hello:1.0.0")).expect("published");
    let index = store.image_index(&version.manifest).expect("an index");
    for manifest in &index.manifests {
        let arch = &manifest.platform.as_ref().expect("a platform").architecture;
        let copy = format!("oci:{}:hello", lab.path(arch).display());
        let mut skopeo = Command::new("skopeo");
        let args = ["--insecure-policy", "--override-arch", arch, "copy", "--src-tls-verify=false"];
        let source = format!("docker://{to}:1.0.0");
        let args = args.iter().chain(&["--preserve-digests"]);
        good(run(skopeo.args(args).args([&source, &copy])));
        let layout = fs::read(lab.path(arch).join("index.json")).expect("pulled");
        assert_eq!(Index::parse(&layout).expect("an index").manifests[0].digest, manifest.digest);
    }
    let lock = fs::read_to_string(lab.path("hello.lock")).expect("pinned");
    assert!(lock.contains("arch = \"arm64\"") && lock.contains("arch = \"amd64\""), "{lock}");
    good(lab.bake(["build", "hello.toml", "--locked"]));
}

/// An ordinary user gets the same bytes.
#[test]
fn root_a_user_builds_the_same_for_another_platform() {
    if !tier::root() {
        return;
    }
    let Some((_, uid, gid)) = somebody() else {
        tier::skip("no user of this host has subordinate ids (adduser makes one that has)");
        return;
    };
    let (Some(ours), Some(theirs)) = (lab(), lab()) else { return };
    for lab in [&ours, &theirs] {
        lab.write("web.toml", &recipe(PLATFORMS, "[[test]]\nrun = ['/bin/hello']\n"));
    }
    chown(theirs.path(""), Some(uid), Some(gid)).expect("we are root");
    let root = good(ours.bake(["build", "web.toml"]));
    let mut command = theirs.command(["build", "web.toml"]);
    let user = good(run(command.uid(uid).gid(gid)));
    assert_eq!(root.out, user.out);
}

#[test]
fn platforms_that_are_none() {
    let lab = Lab::new();
    for (text, part) in [
        ("platforms = ['linux/vax']\n", "is no platform that bake builds for"),
        ("platforms = ['linux/arm64', 'linux/arm64/v8']\n", "the platform linux/arm64 twice"),
        ("platforms = ['arm64']\n", "is no platform that bake builds for"),
    ] {
        lab.write("web.toml", &recipe(text, ""));
        let run = lab.bake(["check", "web.toml"]);
        assert_ne!(run.code, 0);
        assert!(run.err.contains(part), "{}", run.err);
    }
    let run = lab.bake(["build", "--platform", "linux/vax"]);
    assert_ne!(run.code, 0);
    assert!(run.err.contains("linux/arm/v7"), "{}", run.err);
}
