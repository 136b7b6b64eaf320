//! Images of registries as bases: pulled by tag, pinned by digest, and not asked for again.

use std::fs;
use std::process::Stdio;

use bake::digest::Digest;
use bake::image::{ImageConfig, Index, MEDIA_CONFIG, MEDIA_INDEX, Manifest, Platform};

use crate::base_oci::{self, manifest, manifest_of};
use crate::cmd_import::Layout;
use crate::cmd_push;
use crate::cmd_serve::Server;
use crate::lab::{Lab, Run, run};
use crate::registry_lab::{Fake, Reply};

fn good(run: Run) -> Run {
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    run
}

/// Puts all of a layout into a registry, and what it names under a tag.
pub(crate) fn upload(fake: &Fake, lab: &Lab, layout: &str, repository: &str, tag: &str) -> Digest {
    for entry in fs::read_dir(lab.path(layout).join("blobs/sha256")).expect("a layout") {
        let bytes = fs::read(entry.expect("an entry").path()).expect("a blob");
        let media = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
        let media = media.as_ref().and_then(|value| value.get("mediaType")?.as_str());
        if let Some(media) = media {
            fake.manifest(repository, "unused", media, &bytes);
        }
        fake.blob(repository, &bytes);
    }
    let index = fs::read(lab.path(layout).join("index.json")).expect("an index");
    let named = Index::parse(&index).expect("an index").manifests[0].clone();
    let path = lab.path(layout).join("blobs/sha256").join(named.digest.hex());
    let bytes = fs::read(path).expect("a blob");
    fake.manifest(repository, tag, &named.media_type, &bytes)
}

fn recipe(lab: &Lab, oci: &str, made: &str) {
    let step = format!("[[step]]\nrun = \"test $WHO = below; echo x > /{made}\"\n");
    let head = "[image]\nname = \"top\"\nversion = \"1\"\n";
    lab.write("top.toml", &format!("{head}[base]\noci = \"{oci}\"\n{step}"));
}

/// Makes what the layout names another image, one layer larger.
fn another(lab: &Lab) -> Digest {
    let layout = Layout { lab, name: "layout" };
    let (_, mut other) = manifest_of(lab, "layout");
    let (motd, diff_id) = layout.layer();
    let config = fs::read(lab.path("layout/blobs/sha256").join(other.config.digest.hex()));
    let mut config = ImageConfig::parse(&config.expect("a blob")).expect("a config");
    config.rootfs.diff_ids.push(diff_id);
    config.history.clear();
    other.config = layout.put(MEDIA_CONFIG, &config.to_json());
    other.layers.push(motd);
    layout.index(vec![layout.manifest(&other)]);
    manifest_of(lab, "layout").0
}

#[test]
fn a_tag_is_pinned_and_asked_for_once() {
    let Some(lab) = base_oci::lab() else { return };
    let fake = Fake::start();
    let first = upload(&fake, &lab, "layout", "team/below", "1");
    let below = format!("{}/team/below:1", fake.address);
    recipe(&lab, &below, "made");
    good(lab.bake(["build", "top.toml"]));
    assert_eq!(fake.count("GET", "manifests/1"), 1, "what was read first is used");
    let lock = fs::read_to_string(lab.path("top.lock")).expect("a lock");
    assert!(lock.contains(&format!("oci = \"{below}\"")), "{lock}");
    assert!(lock.contains(&format!("digest = \"{first}\"")), "{lock}");

    // The tag moves: the pinned one is used, here without a question, in another store by digest.
    let second = another(&lab);
    upload(&fake, &lab, "layout", "team/below", "1");
    fake.forget_seen();
    recipe(&lab, &below, "more");
    good(lab.bake(["build", "top.toml", "--set-version", "2", "--locked"]));
    assert!(fake.seen().is_empty(), "{:?}", fake.seen());
    let mut other = lab.command(["build", "top.toml", "--set-version", "2", "--locked"]);
    good(run(other.env("BAKE_STORE", lab.path("other"))));
    assert_eq!(fake.count("GET", "manifests/1"), 0);
    assert_eq!(fake.count("GET", &format!("manifests/{first}")), 1);
    assert_eq!(manifest(&lab, "top:2")["layers"].as_array().expect("layers").len(), 4);

    // What is there already is not fetched again.
    fake.forget_seen();
    good(lab.bake(["lock", "--update", "top.toml"]));
    good(lab.bake(["build", "top.toml", "--set-version", "3"]));
    let lock = fs::read_to_string(lab.path("top.lock")).expect("a lock");
    assert!(lock.contains(&second.to_string()), "{lock}");
    assert_eq!(fake.count("GET", "blobs/"), 2, "the config and one layer: {:?}", fake.seen());
    assert_eq!(manifest(&lab, "top:3")["layers"].as_array().expect("layers").len(), 5);

    // What is pinned and gone from the registry is named, and what to do about it.
    fake.content().manifests.retain(|(_, name), _| *name != second.to_string());
    let mut gone = lab.command(["build", "top.toml", "--set-version", "3", "--locked"]);
    let gone = run(gone.env("BAKE_STORE", lab.path("third")));
    assert_eq!(gone.code, 1, "{}", gone.err);
    assert!(gone.err.contains(&format!("does not have {second} any more")), "{}", gone.err);
    assert!(gone.err.contains("bake lock --update"), "{}", gone.err);

    // Without the registry all that is known is built all the same.
    drop(fake);
    let already = good(lab.bake(["build", "top.toml", "--set-version", "3"]));
    assert!(already.err.contains("already"), "{}", already.err);
    recipe(&lab, &below, "without");
    good(lab.bake(["build", "top.toml", "--set-version", "4"]));
    let explained = good(lab.bake(["explain", "top.toml"])).out;
    assert!(explained.contains(&below), "{explained}");
    good(lab.bake(["verify"]));
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn credentials_are_dockers_and_podmans_and_stand_nowhere_else() {
    let Some(lab) = base_oci::lab() else { return };
    let fake = Fake::start();
    upload(&fake, &lab, "layout", "below", "1");
    // me:hunter2
    let secret = "bWU6aHVudGVyMg==";
    fake.manners().before = Some(Box::new(move |seen| {
        let known = seen.header("authorization") == Some(&format!("Basic {secret}"));
        (!known).then(|| Reply::new(401).with("www-authenticate", "Basic realm=\"x\""))
    }));
    let below = format!("{}/below:1", fake.address);
    recipe(&lab, &below, "made");
    let without = lab.bake(["build", "top.toml"]);
    assert_eq!(without.code, 1, "{}", without.err);
    assert!(without.err.contains("podman login"), "{}", without.err);
    let file = format!("{{\"auths\":{{\"{}\":{{\"auth\":\"{secret}\"}}}}}}", fake.address);
    lab.write("home/.docker/config.json", &file);
    let docker = good(lab.bake(["build", "top.toml"]));
    fs::remove_file(lab.path("home/.docker/config.json")).expect("our own file");
    lab.write("home/.config/containers/auth.json", &file);
    let podman = good(lab.bake(["pull", &below, "below:1"]));
    fs::remove_file(lab.path("home/.config/containers/auth.json")).expect("our own file");
    let mut todo = vec![lab.path("store"), lab.path("top.lock")];
    while let Some(path) = todo.pop() {
        if path.is_dir() && !path.is_symlink() {
            let entries = fs::read_dir(&path).expect("our own directory");
            todo.extend(entries.map(|entry| entry.expect("our own directory").path()));
        } else if path.is_file() {
            let bytes = fs::read(&path).expect("our own file");
            let has = |part: &str| bytes.windows(part.len()).any(|one| one == part.as_bytes());
            assert!(!has(secret) && !has("hunter2"), "{}", path.display());
        }
    }
    for run in [docker, podman, without] {
        let all = format!("{}{}", run.out, run.err);
        assert!(!all.contains(secret) && !all.contains("hunter2"), "{all}");
    }
}

#[test]
fn builds_at_the_same_time_fetch_a_layer_once() {
    let Some(lab) = base_oci::lab() else { return };
    let fake = Fake::start();
    upload(&fake, &lab, "layout", "below", "1");
    let (_, below) = manifest_of(&lab, "layout");
    recipe(&lab, &format!("{}/below:1", fake.address), "made");
    let text = fs::read_to_string(lab.path("top.toml")).expect("a recipe");
    let build = |name: &str| {
        lab.write(&format!("{name}.toml"), &text.replace("\"top\"", &format!("\"{name}\"")));
        let mut command = lab.command(["build", &format!("{name}.toml")]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("bake")
    };
    let all = ["one", "two", "three"].map(build);
    for child in all {
        let ended = child.wait_with_output().expect("our own child");
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
    for layer in &below.layers {
        assert_eq!(fake.count("GET", &format!("blobs/{}", layer.digest)), 1);
    }
}

#[test]
fn a_tag_that_moves_during_the_build_changes_nothing() {
    let Some(lab) = base_oci::lab() else { return };
    let fake = Fake::start();
    let first = upload(&fake, &lab, "layout", "below", "1");
    let second = another(&lab);
    // From the second look at it on the tag is something else.
    let other = Fake::start();
    upload(&other, &lab, "layout", "below", "1");
    let (media, bytes) = other.content().manifests[&("below".to_owned(), "1".to_owned())].clone();
    let mut asked = 0;
    fake.manners().after = Some(Box::new(move |seen, reply| {
        asked += usize::from(seen.target.ends_with("manifests/1"));
        match asked > 1 && seen.target.ends_with("manifests/1") {
            true => Reply::new(200).with("content-type", &media).body(bytes.as_slice()),
            false => reply,
        }
    }));
    // Named twice, and in two recipes: it is the same image everywhere.
    let below = format!("{}/below:1", fake.address);
    recipe(&lab, &below, "made");
    let copy =
        format!("[[step]]\ncopy = \"/etc\"\nfrom = {{ oci = \"{below}\" }}\nto = \"/theirs\"\n");
    let text = fs::read_to_string(lab.path("top.toml")).expect("a recipe");
    lab.write("top.toml", &format!("{text}{copy}"));
    lab.write("two.toml", &text.replace("\"top\"", "\"two\""));
    good(lab.bake(["build", "--jobs", "1", "top.toml", "two.toml"]));
    for lock in ["top.lock", "two.lock"] {
        let lock = fs::read_to_string(lab.path(lock)).expect("a lock");
        assert!(lock.contains(&first.to_string()), "{lock}");
        assert!(!lock.contains(&second.to_string()), "{lock}");
    }
    assert_eq!(manifest(&lab, "top:1")["layers"].as_array().expect("layers").len(), 5);
}

#[test]
fn a_platform_is_chosen_from_an_index_and_cuts_do_not_matter() {
    let Some(lab) = base_oci::lab() else { return };
    let layout = Layout { lab: &lab, name: "layout" };
    let (digest, below) = manifest_of(&lab, "layout");
    let here = layout.manifest(&below).with_platform(Platform::host());
    let there = layout.put(MEDIA_INDEX, b"{}").with_platform(Platform::linux("s390x"));
    let index = Index { manifests: vec![there, here], ..Index::default() };
    layout.index(vec![layout.put(MEDIA_INDEX, &index.to_json())]);
    let fake = Fake::start();
    upload(&fake, &lab, "layout", "below", "1");
    fake.manners().cut_out = Some(64 << 10);
    recipe(&lab, &format!("{}/below:1", fake.address), "made");
    good(lab.bake(["build", "top.toml"]));
    let lock = fs::read_to_string(lab.path("top.lock")).expect("a lock");
    assert!(lock.contains(&digest.to_string()), "the manifest, not the index: {lock}");
    assert!(fake.seen().iter().any(|one| one.header("range").is_some()), "it was cut");
    good(lab.bake(["verify"]));
}

#[test]
fn what_a_registry_does_wrong_is_named_and_leaves_nothing() {
    let lab = Lab::new();
    good(lab.bake(["gc"]));
    let before = lab.images_hash();
    let fake = Fake::start();
    let layout = Layout { lab: &lab, name: "layout" };
    let bent = |name: &str, bend: &dyn Fn(&mut Manifest, &mut ImageConfig)| {
        let (layer, diff_id) = layout.layer();
        let mut config = ImageConfig::new(0, &Platform::host());
        config.rootfs.diff_ids = vec![diff_id];
        let named = layout.put(MEDIA_CONFIG, &config.to_json());
        let mut manifest = Manifest::new(named, vec![layer]);
        bend(&mut manifest, &mut config);
        if manifest.config.digest != Digest::of(config.to_json()) {
            manifest.config = layout.put(MEDIA_CONFIG, &config.to_json());
        }
        layout.index(vec![layout.manifest(&manifest)]);
        upload(&fake, &lab, "layout", name, "1");
    };
    let refused = |name: &str, part: &str| {
        recipe(&lab, &format!("{}/{name}:1", fake.address), "made");
        let run = lab.bake(["build", "top.toml"]);
        assert_eq!((run.code, run.out.as_str()), (1, ""), "{name}: {}", run.err);
        assert!(run.err.contains(part), "{name}: {part}: {}", run.err);
        assert!(run.err.contains("top.toml:5"), "{name}: {}", run.err);
        assert_eq!(lab.images_hash(), before, "{name}");
        assert!(!lab.path("top.lock").exists(), "{name}");
        assert!(lab.scratch().is_empty(), "{name}");
    };
    refused("missing", "not found");
    bent("elsewhere", &|_, config| config.architecture = "s390x".to_owned());
    refused("elsewhere", "is for linux/s390x, not for linux/");
    bent("diff-id", &|_, config| config.rootfs.diff_ids = vec![Digest::of("another")]);
    bent("foreign", &|manifest, _| {
        let urls = serde_json::json!(["https://example.org/layer"]);
        manifest.layers[0].extra.insert("urls".to_owned(), urls);
    });
    refused("foreign", "has a foreign layer");
    bent("faces", &|manifest, _| {
        manifest.extra.insert("manifests".to_owned(), serde_json::json!([]));
    });
    refused("faces", "layers and manifests");
    bent("good", &|_, _| {});
    let text = r#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#;
    let media = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    fake.manifest("old", "1", media, text.as_bytes());
    refused("old", "schema 1");
    let mut named = bake::image::Descriptor::new(MEDIA_INDEX, Digest::of(""), 0);
    for at in 0..7 {
        let inner =
            Index { manifests: vec![named.with_platform(Platform::host())], ..Index::default() };
        let bytes = inner.to_json();
        let digest = fake.manifest("nested", &format!("{}", 7 - at), MEDIA_INDEX, &bytes);
        named = bake::image::Descriptor::new(MEDIA_INDEX, digest, bytes.len() as u64);
    }
    refused("nested", "indexes inside each other");
    fake.manners().before =
        Some(Box::new(|_| Some(Reply::new(401).with("www-authenticate", "Basic realm=\"x\""))));
    refused("good", "asks for credentials");
    fake.manners().before = None;
    if crate::tier::sandbox() {
        refused("diff-id", "and the config says");
        fake.manners().after = Some(Box::new(|seen, reply| {
            let wrong = seen.target.contains("blobs/") && reply.body.starts_with(&[0x1f, 0x8b]);
            let length = reply.body.len();
            if wrong { reply.body(vec![7; length]) } else { reply }
        }));
        refused("good", "is not what the registry says: its bytes are");
    }
}

#[test]
fn what_bake_serves_is_a_base_and_is_pulled() {
    let Some(lab) = base_oci::lab() else { return };
    good(lab.bake(["import", "oci.tar", "team/tiny:1"]));
    let server = Server::start(&lab);
    let below = format!("{}/team/tiny:1", server.address);
    let mut other = lab.command(["pull", &below]);
    let pulled = good(run(other.env("BAKE_STORE", lab.path("other"))));
    let listed = good(lab.bake(["list"])).out;
    assert!(listed.contains("team/tiny"), "{listed}");
    let digest = pulled.out.trim().split_once(' ').expect("a digest").1.to_owned();
    assert_eq!(pulled.out, format!("team/tiny:1 {digest}\n"));
    let shown = good(lab.bake(["show", "team/tiny:1"])).out;
    assert!(shown.contains(&digest), "{shown}");
    recipe(&lab, &below, "made");
    let mut built = lab.command(["build", "top.toml"]);
    good(run(built.env("BAKE_STORE", lab.path("other"))));
    drop(server);
    let mut again = lab.command(["build", "top.toml", "--locked"]);
    good(run(again.env("BAKE_STORE", lab.path("other"))));
}

/// With TLS, a password and a real registry: pushed, built on, and built again by the lock after
/// the tag has moved.
#[test]
fn tools_what_is_pushed_to_debians_registry_is_built_on() {
    if !cmd_push::tools() {
        return;
    }
    let Some(lab) = base_oci::lab() else { return };
    let dir = lab.path("registry");
    fs::create_dir_all(&dir).expect("our own directory");
    let registry = cmd_push::Registry::start(&dir, false);
    let host = registry.address.to_string();
    let auths = serde_json::json!({ "auths": { host.clone(): {
        "username": "me", "password": "hunter2" } } });
    lab.write("home/.docker/config.json", &auths.to_string());
    let ca = dir.join("ca.crt").display().to_string();
    let below = format!("{host}/team/below:1");
    let bake = |args: &[&str], store: &str| {
        let mut command = lab.command(args);
        command.args(["--registry-ca", &ca]).env("BAKE_STORE", lab.path(store));
        run(&mut command)
    };
    good(lab.bake(["import", "layout", "below:1"]));
    good(bake(&["push", "below:1", &below], "store"));
    recipe(&lab, &below, "made");
    let first = good(bake(&["build", "top.toml"], "other"));
    another(&lab);
    good(lab.bake(["import", "layout", "below:2"]));
    good(bake(&["push", "--move-tag", "below:2", &below], "store"));
    // A store that knows nothing gets what the lock pins; it is there still.
    let again = good(bake(&["build", "top.toml", "--locked"], "third"));
    assert_eq!(again.out, first.out);
    // The tag means the other by now.
    let pulled = good(bake(&["pull", &below, "below:new"], "third"));
    let second = good(lab.bake(["show", "below:2"])).out;
    let digest = pulled.out.trim().rsplit(' ').next().expect("a digest");
    assert!(second.contains(digest), "{second}");
    good(bake(&["lock", "--update", "top.toml"], "third"));
    let lock = fs::read_to_string(lab.path("top.lock")).expect("a lock");
    assert!(lock.contains(digest), "{lock}");
    // Without the authority nothing is believed.
    let strange = lab.bake(["pull", &below, "below:3"]);
    assert_eq!(strange.code, 1, "{}", strange.err);
    assert!(strange.err.contains("--registry-ca"), "{}", strange.err);
}
