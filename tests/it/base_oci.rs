//! Images that other tools keep as bases, and as what files are taken from: pinned by digest, shared
//! layer by layer, and nothing believed that they say of themselves.

use std::fs;
use std::process::Command;

use bake::digest::Digest;
use bake::image::{
    Index, MEDIA_CONFIG, MEDIA_DOCKER_CONFIG, MEDIA_DOCKER_LAYER_GZIP, MEDIA_DOCKER_MANIFEST,
    MEDIA_INDEX, MEDIA_LAYER, MEDIA_LAYER_ZSTD, Manifest, Platform,
};
use bake::layer::{Compression, compress};

use crate::cmd_import::Layout;
use crate::lab::{Lab, Run};
use crate::layer_lab::{Raw, tar};
use crate::tier;

const HEAD: &str = "[image]\nname = \"top\"\nversion = \"1\"\n";

fn good(run: Run) -> Run {
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    run
}

fn refused(run: &Run, part: &str) {
    assert_eq!((run.code, run.out.as_str()), (1, ""), "{}", run.err);
    assert!(run.err.contains(part), "{part}: {}", run.err);
}

/// The digest that a run has printed behind the name of its image.
fn digest(run: &Run) -> String {
    run.out.split_whitespace().nth(1).expect("name:version and a digest").to_owned()
}

/// A lab with an image of a tiny root as `oci.tar`, `docker.tar` and the directory `layout`; the
/// store knows nothing of it.
pub(crate) fn lab() -> Option<Lab> {
    if !tier::sandbox() {
        return None;
    }
    let lab = Lab::new();
    lab.tiny_root();
    let config = "[config]\nenv = { WHO = \"below\", PATH = \"/bin:/opt/bin\" }\nports = [80]\n";
    let tiny =
        format!("[image]\nname = \"tiny\"\nversion = \"1\"\n{config}[base]\npath = \"root\"\n");
    lab.write("tiny.toml", &tiny);
    let elsewhere = |args: &[&str]| {
        let mut command = lab.command(args);
        good(crate::lab::run(command.env("BAKE_STORE", lab.path("elsewhere"))));
    };
    elsewhere(&["build", "tiny.toml"]);
    elsewhere(&["export", "tiny:1", "--format", "oci-archive", "--output", "oci.tar"]);
    elsewhere(&["export", "tiny:1", "--format", "docker-archive", "--output", "docker.tar"]);
    untar(&lab, "oci.tar", "layout");
    fs::remove_dir_all(lab.path("root")).expect("our own directory");
    Some(lab)
}

fn untar(lab: &Lab, archive: &str, to: &str) {
    fs::create_dir_all(lab.path(to)).expect("our own directory");
    let mut command = Command::new("tar");
    command.arg("-xf").arg(lab.path(archive)).arg("-C").arg(lab.path(to));
    assert!(command.status().expect("tar").success());
}

/// The manifest of a stored image.
pub(crate) fn manifest(lab: &Lab, image: &str) -> serde_json::Value {
    let shown = good(lab.bake(["show", image, "--json"])).out;
    let digest = shown.split("sha256:").nth(1).expect("a digest")[..64].to_owned();
    let bytes = fs::read(lab.path("store/blobs/sha256").join(digest)).expect("a blob");
    serde_json::from_slice(&bytes).expect("JSON")
}

/// The manifest that a layout names.
pub(crate) fn manifest_of(lab: &Lab, layout: &str) -> (Digest, Manifest) {
    let index = fs::read(lab.path(layout).join("index.json")).expect("an index");
    let digest = Index::parse(&index).expect("an index").manifests[0].digest;
    let bytes = fs::read(lab.path(layout).join("blobs/sha256").join(digest.hex()));
    (digest, Manifest::parse(&bytes.expect("a blob")).expect("a manifest"))
}

fn on(oci: &str, rest: &str) -> String {
    format!("{HEAD}[base]\noci = \"{oci}\"\n{rest}")
}

#[test]
fn a_layout_and_both_archives_are_bases() {
    let Some(lab) = lab() else { return };
    let step = "[[step]]\nrun = \"echo $WHO $PATH > /seen\"\n\
        [[test]]\nfile = \"/seen\"\ncontains = \"below /bin:/opt/bin\"\n[config]\nports = [81]\n";
    let mut built = vec![];
    for from in ["./layout", "./oci.tar", "./docker.tar"] {
        let _ = fs::remove_file(lab.path("top.lock"));
        lab.write("top.toml", &on(from, step));
        let version = format!("{}", built.len() + 1);
        let run = good(lab.bake(["build", "top.toml", "--set-version", &version]));
        built.push(digest(&run));
        let shown = good(lab.bake(["show", &format!("top:{version}")])).out;
        for part in ["WHO=below", "80/tcp", "81/tcp"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let lock = fs::read_to_string(lab.path("top.lock")).expect("a lock");
        assert!(lock.contains(&format!("kind = \"oci\"\noci = \"{from}\"\n")), "{lock}");
        let again = good(lab.bake(["build", "top.toml", "--set-version", &version, "--locked"]));
        assert_eq!(digest(&again), built[built.len() - 1]);
        assert!(again.err.contains("already"), "{}", again.err);
    }
    // The layers of the layout are those of the image, by name.
    let (_, below) = manifest_of(&lab, "layout");
    let top = manifest(&lab, "top:1");
    assert_eq!(top["layers"][0]["digest"], below.layers[0].digest.to_string().as_str());
    // Nothing of the world is needed for what is known.
    for gone in ["layout", "oci.tar", "docker.tar"] {
        fs::rename(lab.path(gone), lab.path(&format!("{gone}.gone"))).expect("our own file");
    }
    let known = good(lab.bake(["build", "top.toml", "--set-version", "4"]));
    assert!(known.err.contains("cached: run echo"), "{}", known.err);
    good(lab.bake(["verify"]));
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn the_lock_file_pins_what_a_layout_meant() {
    let Some(lab) = lab() else { return };
    lab.write("top.toml", &on("./layout", "[[step]]\nrun = \"echo x > /made\"\n"));
    good(lab.bake(["build", "top.toml"]));
    let (first, _) = manifest_of(&lab, "layout");
    // Another image under the same name; the blobs of the first are there still.
    let layout = Layout { lab: &lab, name: "layout" };
    let (_, mut other) = manifest_of(&lab, "layout");
    let (motd, diff_id) = layout.layer();
    let config = fs::read(lab.path("layout/blobs/sha256").join(other.config.digest.hex()));
    let mut config = bake::image::ImageConfig::parse(&config.expect("a blob")).expect("a config");
    config.rootfs.diff_ids.push(diff_id);
    config.history.clear();
    other.config = layout.put(MEDIA_CONFIG, &config.to_json());
    other.layers.push(motd);
    layout.index(vec![layout.manifest(&other)]);
    let (second, _) = manifest_of(&lab, "layout");
    assert_ne!(first, second);

    let pinned = good(lab.bake(["build", "top.toml", "--set-version", "2"]));
    assert!(pinned.err.contains(&format!("has {second} now")), "{}", pinned.err);
    // Two of the base, and the own ones.
    assert_eq!(manifest(&lab, "top:2")["layers"].as_array().expect("layers").len(), 2 + 2);
    // In a store that knows nothing it is the pinned one as well.
    let mut other = lab.command(["build", "top.toml", "--set-version", "2"]);
    let other = good(crate::lab::run(other.env("BAKE_STORE", lab.path("other"))));
    assert_eq!(digest(&other), digest(&pinned));
    good(lab.bake(["lock", "--update", "top.toml"]));
    good(lab.bake(["build", "top.toml", "--set-version", "3"]));
    let lock = fs::read_to_string(lab.path("top.lock")).expect("a lock");
    assert!(lock.contains(&second.to_string()), "{lock}");
    // What is pinned and nowhere any more.
    fs::remove_file(lab.path("layout/blobs/sha256").join(second.hex())).expect("our own file");
    let mut gone = lab.command(["build", "top.toml", "--set-version", "4"]);
    let gone = crate::lab::run(gone.env("BAKE_STORE", lab.path("third")));
    refused(&gone, "which the lock file pins");
    assert!(gone.err.contains("bake lock --update"), "{}", gone.err);
    assert!(gone.err.contains("top.toml:5"), "{}", gone.err);
}

#[test]
fn what_changes_during_a_build_spoils_nothing() {
    let Some(lab) = lab() else { return };
    lab.write("top.toml", &on("./layout", "[[step]]\nrun = \"echo x > /made\"\n"));
    let (_, below) = manifest_of(&lab, "layout");
    let blob = lab.path("layout/blobs/sha256").join(below.layers[0].digest.hex());
    let right = fs::read(&blob).expect("a blob");
    let mut wrong = right.clone();
    wrong[100] ^= 1;
    good(lab.bake(["gc"]));
    let before = lab.images_hash();
    let more = [&right[..], b"more"].concat();
    for (bytes, part) in [
        (&wrong[..], "is corrupt"),
        (&right[..right.len() - 1], "its descriptor says"),
        (&more[..], "has more than"),
    ] {
        fs::remove_file(&blob).expect("our own file");
        fs::write(&blob, bytes).expect("our own file");
        refused(&lab.bake(["build", "top.toml"]), part);
        assert_eq!(lab.images_hash(), before);
    }
    fs::remove_file(&blob).expect("our own file");
    refused(&lab.bake(["build", "top.toml"]), "has no blobs/sha256/");
    fs::write(&blob, right).expect("our own file");
    good(lab.bake(["build", "top.toml"]));
    good(lab.bake(["verify"]));
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn gc_leaves_what_can_be_had_again() {
    let Some(lab) = lab() else { return };
    let step = "[[step]]\nrun = \"echo x > /made\"\n";
    lab.write("top.toml", &on("./layout", step));
    good(lab.bake(["lock", "top.toml"]));
    good(lab.bake(["build", "top.toml"]));
    // What was used just now stays: nothing is read from the layout.
    let (_, below) = manifest_of(&lab, "layout");
    let cached = lab.path("store/cache/blobs").join(below.layers[0].digest.hex());
    assert!(cached.exists());
    good(lab.bake(["gc"]));
    assert!(cached.exists());
    good(lab.bake(["gc", "--cache-older-than", "0s"]));
    assert!(!cached.exists());
    good(lab.bake(["rm", "top:1"]));
    good(lab.bake(["gc", "--cache-older-than", "0s"]));
    good(lab.bake(["build", "top.toml", "--locked"]));
    assert!(cached.exists());
    // A layer that only a published image has is taken from there.
    good(lab.bake(["gc", "--cache-older-than", "0s"]));
    let layer = lab.path("layout/blobs/sha256").join(below.layers[0].digest.hex());
    fs::remove_file(layer).expect("our own file");
    lab.write("top.toml", &on("./layout", &step.replace("made", "more")));
    good(lab.bake(["build", "top.toml", "--set-version", "2"]));
    good(lab.bake(["verify"]));
}

#[test]
fn many_layers_of_every_compression_are_a_base() {
    let Some(lab) = lab() else { return };
    let layout = Layout { lab: &lab, name: "layout" };
    let (_, mut below) = manifest_of(&lab, "layout");
    let config = fs::read(lab.path("layout/blobs/sha256").join(below.config.digest.hex()));
    let mut config = bake::image::ImageConfig::parse(&config.expect("a blob")).expect("a config");
    config.history.clear();
    while below.layers.len() < 128 {
        let at = below.layers.len();
        let bytes = tar(&[Raw::file(&format!("n{at}"), b"x"), Raw::file("top", b"")]);
        let (media, how) = match at % 2 {
            0 => (MEDIA_LAYER, Compression::None),
            _ => (MEDIA_LAYER_ZSTD, Compression::Zstd),
        };
        let mut blob = vec![];
        let named = compress(&mut &bytes[..], &mut blob, how, 1).expect("memory");
        below.layers.push(layout.put(media, &blob));
        config.rootfs.diff_ids.push(named.diff_id);
    }
    below.config = layout.put(MEDIA_CONFIG, &config.to_json());
    layout.index(vec![layout.manifest(&below)]);
    lab.write("top.toml", &on("./layout", "[[step]]\nrun = \"ls /n127 /n2 > /made\"\n"));
    good(lab.bake(["build", "top.toml"]));
    let layers = manifest(&lab, "top:1")["layers"].as_array().expect("layers").clone();
    assert_eq!(layers.len(), 130);
    assert_eq!(layers[127]["mediaType"], MEDIA_LAYER_ZSTD);
    good(lab.bake(["verify"]));
}

#[test]
fn dockers_manifests_are_a_base_behind_nested_indexes() {
    let Some(lab) = lab() else { return };
    let layout = Layout { lab: &lab, name: "layout" };
    let (_, mut below) = manifest_of(&lab, "layout");
    below.media_type = Some(MEDIA_DOCKER_MANIFEST.to_owned());
    below.config.media_type = MEDIA_DOCKER_CONFIG.to_owned();
    for layer in &mut below.layers {
        layer.media_type = MEDIA_DOCKER_LAYER_GZIP.to_owned();
    }
    let mut named = layout.manifest(&below).with_platform(Platform::host());
    let pinned = named.digest;
    for _ in 0..3 {
        let other = layout.put(MEDIA_INDEX, b"{}").with_platform(Platform::linux("s390x"));
        let index = Index { manifests: vec![other, named], ..Index::default() };
        named = layout.put(MEDIA_INDEX, &index.to_json()).with_platform(Platform::host());
    }
    layout.index(vec![named]);
    lab.write("top.toml", &on("./layout", "[[step]]\nrun = \"echo x > /made\"\n"));
    good(lab.bake(["build", "top.toml"]));
    let lock = fs::read_to_string(lab.path("top.lock")).expect("a lock");
    assert!(lock.contains(&pinned.to_string()), "the manifest, not an index: {lock}");
    let top = manifest(&lab, "top:1");
    let media = top["layers"][0]["mediaType"].as_str().expect("a text");
    assert!(media.starts_with("application/vnd.oci."), "{media}");
    good(lab.bake(["verify"]));
}

#[test]
fn lies_are_refused_with_their_line() {
    let lab = Lab::new();
    type Bend = fn(&Layout<'_>);
    let cases: &[(&str, Bend, &str)] = &[
        ("empty", |at| at.index(vec![]), "has no image"),
        (
            "elsewhere",
            |at| {
                let (layer, diff_id) = at.layer();
                let mut config = bake::image::ImageConfig::new(0, &Platform::linux("s390x"));
                config.rootfs.diff_ids = vec![diff_id];
                let config = at.put(MEDIA_CONFIG, &config.to_json());
                at.index(vec![at.manifest(&Manifest::new(config, vec![layer]))]);
            },
            "is for linux/s390x, not for linux/",
        ),
        (
            "platform",
            |at| {
                let (layer, diff_id) = at.layer();
                let mut config = bake::image::ImageConfig::new(0, &Platform::linux("s390x"));
                config.rootfs.diff_ids = vec![diff_id];
                let config = at.put(MEDIA_CONFIG, &config.to_json());
                let manifest = at.manifest(&Manifest::new(config, vec![layer]));
                let manifests = vec![manifest.with_platform(Platform::host())];
                let index = Index { manifests, ..Index::default() };
                at.index(vec![at.put(MEDIA_INDEX, &index.to_json())]);
            },
            "for linux/s390x, and its index says linux/",
        ),
        (
            "foreign",
            |at| {
                let mut manifest = at.image();
                manifest.layers[0].media_type =
                    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip".to_owned();
                at.index(vec![at.manifest(&manifest)]);
            },
            "has a foreign layer, 1 of type",
        ),
        (
            "urls",
            |at| {
                let mut manifest = at.image();
                let urls = serde_json::json!(["https://example.org/layer"]);
                manifest.layers[0].extra.insert("urls".to_owned(), urls);
                at.index(vec![at.manifest(&manifest)]);
            },
            "from \"https://example.org/layer\"",
        ),
        (
            "schema-1",
            |at| {
                let text = b"{\"schemaVersion\":1,\"name\":\"x\",\"fsLayers\":[]}";
                let media = "application/vnd.docker.distribution.manifest.v1+prettyjws";
                at.index(vec![at.put(media, text)]);
            },
            "is of Docker's schema 1",
        ),
        (
            "two-faces",
            |at| {
                let mut manifest = at.image();
                manifest.extra.insert("manifests".to_owned(), serde_json::json!([]));
                at.index(vec![at.manifest(&manifest)]);
            },
            "has `manifests` like an index",
        ),
        ("nested", |at| at.nested(), "indexes inside each other"),
        (
            "diff-id",
            |at| {
                let (layer, _) = at.layer();
                let config = at.config(MEDIA_CONFIG, &[Digest::of("another tar")]);
                at.index(vec![at.manifest(&Manifest::new(config, vec![layer]))]);
            },
            "and the config says",
        ),
        ("several", |at| at.several(), "named = \"b\""),
    ];
    for (name, bend, expected) in cases {
        fs::create_dir_all(lab.path(name)).expect("our own directory");
        bend(&Layout { lab: &lab, name });
        lab.write("top.toml", &on(&format!("./{name}"), ""));
        let run = lab.bake(["build", "top.toml"]);
        refused(&run, expected);
        assert!(run.err.contains("top.toml:5"), "{name}: {}", run.err);
        assert!(!lab.path("top.lock").exists(), "{name}");
        assert!(lab.scratch().is_empty(), "{name}");
    }
    if tier::sandbox() {
        lab.write("top.toml", &on("./several", "named = \"b\"\n"));
        good(lab.bake(["build", "top.toml"]));
    }
}

#[test]
fn files_are_taken_from_images() {
    let Some(lab) = lab() else { return };
    lab.write(
        "tools.toml",
        "[image]\nname = \"tools\"\nversion = \"1\"\n[base]\nscratch = true\n[[step]]\n\
            file = \"/opt/tool\"\ncontent = \"one\"\n",
    );
    good(lab.bake(["build", "tools.toml"]));
    let steps = "[base]\noci = \"./layout\"\n\
        [[step]]\ncopy = \"/opt/tool\"\nfrom = { image = \"tools:1\" }\nto = \"/usr/bin/tool\"\n\
        [[step]]\ncopy = \"/etc/passwd\"\nfrom = { oci = \"./docker.tar\" }\nto = \"/theirs\"\n\
        [[step]]\nrun = \"cat /t/tool /p/group > /seen\"\n\
        mount.\"/t\" = { image = \"tools:1\", path = \"/opt\" }\n\
        mount.\"/p\" = { oci = \"./layout\", path = \"/etc\" }\n";
    lab.write("top.toml", &format!("{HEAD}{steps}"));
    let first = good(lab.bake(["build", "top.toml"]));
    let names = good(lab.bake(["export", "top:1", "--format", "manifest", "--output", "-"])).out;
    for part in ["./usr/bin/tool", "./theirs", "./seen"] {
        assert!(names.contains(part), "{part}: {names}");
    }
    let lock = fs::read_to_string(lab.path("top.lock")).expect("a lock");
    for part in [
        "[stage.\"image tools:1\".base]\nkind = \"image\"\n",
        "[stage.\"oci ./docker.tar\".base]\nkind = \"oci\"\n",
        "[stage.\"oci ./layout\".base]\n",
    ] {
        assert!(lock.contains(part), "{part}: {lock}");
    }
    let again = good(lab.bake(["build", "top.toml", "--locked"]));
    assert!(again.err.contains("already"), "{}", again.err);
    let explained = good(lab.bake(["explain", "top.toml"])).out;
    assert!(explained.contains("image tools:1"), "{explained}");
    // What is shown before anything is built names them as well.
    let planned = good(lab.bake(["plan", "top.toml"])).out;
    assert!(planned.contains("oci ./layout"), "{planned}");
    let history = good(lab.bake(["history", "top:1"])).out;
    assert!(!history.contains("file /opt/tool"), "{history}");
    // In another store, from nothing but the files and the one image, it is the same.
    let elsewhere = |args: &[&str]| {
        let mut command = lab.command(args);
        good(crate::lab::run(command.env("BAKE_STORE", lab.path("other"))))
    };
    elsewhere(&["build", "tools.toml"]);
    assert_eq!(digest(&elsewhere(&["build", "top.toml", "--locked"])), digest(&first));
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn where_an_image_is_has_one_notation() {
    let lab = Lab::new();
    let wrong = |recipe: &str, parts: &[&str]| {
        lab.write("top.toml", recipe);
        let run = lab.bake(["check", "top.toml"]);
        assert_eq!(run.code, 2, "{}", run.err);
        for part in parts {
            assert!(run.err.contains(part), "{part}: {}", run.err);
        }
    };
    wrong(&on("oci-archive:x.tar", ""), &["\"./x.tar\"", "named"]);
    wrong(&on("docker-archive:/x.tar", ""), &["\"/x.tar\""]);
    lab.write("there/x", "");
    lab.write("top.toml", &on("there", ""));
    let warned = good(lab.bake(["check", "top.toml"]));
    assert!(warned.err.contains("\"./there\""), "{}", warned.err);
    assert!(warned.err.contains("docker.io/library/there"), "{}", warned.err);
    wrong(&on("r.example/App:1", ""), &["names no image", "`./`"]);
    wrong(&on("https://r.example/app:1", ""), &["without https://"]);
    wrong(&format!("{HEAD}[base]\nscratch = true\nnamed = \"x\"\n"), &["goes with `oci` only"]);
    let step = "[base]\nscratch = true\n[[step]]\ncopy = \"/x\"\nto = \"/x\"\n";
    wrong(&format!("{HEAD}{step}from = {{}}\n"), &["what the files are taken from"]);
    let both = "from = { image = \"a:1\", oci = \"./x\" }\n";
    wrong(&format!("{HEAD}{step}{both}"), &["`image` and `oci`"]);
    let named = "from = { image = \"a:1\", named = \"b\" }\n";
    wrong(&format!("{HEAD}{step}{named}"), &["goes with `oci` only"]);
    wrong(&format!("{HEAD}{step}from = {{ image = \"a\" }}\n"), &["which version is meant"]);
}

#[test]
fn tools_what_others_write_is_a_base() {
    let Some(lab) = lab() else { return };
    let build = |from: &str, version: &str| {
        let _ = fs::remove_file(lab.path("top.lock"));
        lab.write("top.toml", &on(from, "[[step]]\nrun = \"test $WHO = below; ls /bin/sh\"\n"));
        good(lab.bake(["build", "top.toml", "--set-version", version]));
    };
    let tool = |name: &str, args: &[&str]| {
        let mut command = Command::new(name);
        let run = crate::lab::run(command.args(args).current_dir(lab.path("")));
        assert_eq!(run.code, 0, "{name} {args:?}: {}{}", run.out, run.err);
    };
    if tier::tool("skopeo") {
        let copy = |to: &str| tool("skopeo", &["--insecure-policy", "copy", "oci:layout", to]);
        copy("oci:skopeo:latest");
        copy("oci-archive:skopeo-oci.tar");
        copy("docker-archive:skopeo-docker.tar:tiny:1");
        build("./skopeo", "1");
        build("./skopeo-oci.tar", "2");
        build("./skopeo-docker.tar", "3");
    }
    if tier::tool("umoci") {
        tool("cp", &["-r", "layout", "umoci"]);
        let tag = fs::read_to_string(lab.path("umoci/index.json")).expect("an index");
        let tag: serde_json::Value = serde_json::from_str(&tag).expect("JSON");
        let name = &tag["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
        let image = format!("umoci:{}", name.as_str().expect("a name"));
        tool("umoci", &["unpack", "--rootless", "--image", &image, "bundle"]);
        lab.write("bundle/rootfs/hello", "hello\n");
        tool("umoci", &["repack", "--image", &image, "bundle"]);
        build("./umoci", "4");
    }
}

/// What podman and buildah build, in files and pushed to a registry.
#[test]
fn tools_root_what_podman_and_buildah_build_is_a_base() {
    let tools = ["podman", "buildah", "docker-registry"];
    if !tier::root() || !tools.iter().all(|name| tier::tool(name)) {
        return;
    }
    let Some(lab) = lab() else { return };
    let (_, below) = manifest_of(&lab, "layout");
    let layer = lab.path("layout/blobs/sha256").join(below.layers[0].digest.hex());
    lab.write("made/hello", "hello\n");
    fs::copy(layer, lab.path("made/root.tar.gz")).expect("our own file");
    lab.write(
        "made/Containerfile",
        "FROM scratch\nADD root.tar.gz /\nENV WHO=below PATH=/bin\nCOPY hello /hello\n",
    );
    let registry = Registry::start(&lab);
    let place = |name: &str| lab.path(name).display().to_string();
    lab.write("policy.json", "{\"default\":[{\"type\":\"insecureAcceptAnything\"}]}");
    let mut version = 0;
    for name in ["podman", "buildah"] {
        let (root, run_root) = (place(&format!("{name}-root")), place(&format!("{name}-run")));
        let tool = |args: &[&str]| {
            let global = ["--storage-driver", "vfs", "--root", &root, "--runroot", &run_root];
            let mut command = Command::new(name);
            command.args(global).args(args).current_dir(lab.path(""));
            let run = crate::lab::run(&mut command);
            assert_eq!(run.code, 0, "{name} {args:?}: {}{}", run.out, run.err);
        };
        tool(&["build", "--isolation", "chroot", "-q", "-t", "tiny", "made"]);
        let policy = place("policy.json");
        let push = |to: &str| {
            let args = ["push", "-q", "--tls-verify=false", "--signature-policy", &policy];
            tool(&[&args[..], &["tiny", to]].concat());
        };
        let pushed = format!("{}/{name}/tiny:1", registry.address);
        let archive = format!("{name}.tar");
        push(&format!("oci:{name}-layout"));
        push(&format!("docker-archive:{archive}:tiny:1"));
        push(&format!("docker://{pushed}"));
        for from in [format!("./{name}-layout"), format!("./{archive}"), pushed] {
            version += 1;
            let _ = fs::remove_file(lab.path("top.lock"));
            lab.write(
                "top.toml",
                &on(&from, "[[step]]\nrun = \"test $WHO = below; cat /hello\"\n"),
            );
            good(lab.bake(["build", "top.toml", "--set-version", &version.to_string()]));
        }
    }
    good(lab.bake(["verify"]));
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

/// Debian's docker-registry on loopback.
pub(crate) struct Registry {
    child: std::process::Child,
    pub(crate) address: String,
}

impl Registry {
    pub(crate) fn start(lab: &Lab) -> Self {
        // A port that was free just now.
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address").to_string();
        drop(free);
        let storage = lab.path("registry").display().to_string();
        let config = lab.write(
            "registry.yml",
            &format!(
                "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {storage}\n\
                    http:\n  addr: {address}\n"
            ),
        );
        let mut command = Command::new("docker-registry");
        let silent = || std::process::Stdio::null();
        let child = command.arg("serve").arg(config).stdout(silent()).stderr(silent()).spawn();
        let registry = Self { child: child.expect("it starts"), address };
        for _ in 0..500 {
            if std::net::TcpStream::connect(&registry.address).is_ok() {
                return registry;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("docker-registry does not listen");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
