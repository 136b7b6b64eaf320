//! `bake pull`: an image of a registry becomes a version, whose content never changes.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bake::digest::Digest;
use bake::image::{
    Descriptor, ImageConfig, Index, MEDIA_CONFIG, MEDIA_DOCKER_CONFIG, MEDIA_DOCKER_LAYER_GZIP,
    MEDIA_DOCKER_MANIFEST, MEDIA_INDEX, Manifest, Platform,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::base_registry::upload;
use crate::cmd_import::Layout;
use crate::lab::{Lab, Run, run};
use crate::registry_lab::{Fake, Reply};

fn good(run: Run) -> Run {
    assert_eq!(run.code, 0, "{}{}", run.out, run.err);
    run
}

/// An image with a label of its own, for `platform`.
fn image(layout: &Layout<'_>, label: &str, platform: &Platform) -> Descriptor {
    fs::create_dir_all(layout.lab.path(layout.name)).expect("our own directory");
    let (layer, diff_id) = layout.layer();
    let mut config = ImageConfig::new(0, platform);
    config.rootfs.diff_ids = vec![diff_id];
    config.config.labels.insert("of".to_owned(), label.to_owned());
    let config = layout.put(MEDIA_CONFIG, &config.to_json());
    layout.manifest(&Manifest::new(config, vec![layer])).with_platform(platform.clone())
}

/// Puts an image into the registry under a tag.
fn tagged(fake: &Fake, lab: &Lab, tag: &str, label: &str) -> Digest {
    let layout = Layout { lab, name: label };
    layout.index(vec![image(&layout, label, &Platform::host())]);
    upload(fake, lab, label, "team/web", tag)
}

#[test]
fn a_version_is_one_content_for_ever() {
    let lab = Lab::new();
    let fake = Fake::start();
    let first = tagged(&fake, &lab, "1.0", "first");
    let remote = format!("{}/team/web:1.0", fake.address);
    let pulled = good(lab.bake(["pull", &remote]));
    assert_eq!(pulled.out, format!("team/web:1.0 {first}\n"), "by its name and tag there");
    let named = good(lab.bake(["pull", &remote, "web:1"]));
    assert_eq!(named.out, format!("web:1 {first}\n"));
    // Once more: it is remarked on, and no layer is fetched.
    fake.forget_seen();
    let again = good(lab.bake(["pull", &remote, "web:1"]));
    assert!(again.err.contains("has this content already"), "{}", again.err);
    assert_eq!(fake.count("GET", "blobs/sha256"), 1, "the config: {:?}", fake.seen());
    let again = good(lab.bake(["pull", "--json", &remote, "web:1"]));
    let line: Value = again
        .out
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|value| value["type"] == "pulled" || value["event"] == "pulled")
        .unwrap_or_else(|| panic!("{}", again.out));
    assert_eq!(
        (&line["already"], &line["digest"]),
        (&Value::Bool(true), &first.to_string().into())
    );

    // The tag has moved: other content is refused under the version, and taken under another.
    let second = tagged(&fake, &lab, "1.0", "second");
    let before = lab.images_hash();
    fake.forget_seen();
    let refused = lab.bake(["pull", &remote, "web:1"]);
    assert_eq!(fake.count("GET", "blobs/sha256"), 1, "the config, and no layer");
    assert_eq!((refused.code, refused.out.as_str()), (1, ""), "{}", refused.err);
    assert!(refused.err.contains("web:1 exists already with other content"), "{}", refused.err);
    assert_eq!(lab.images_hash(), before);
    good(lab.bake(["pull", &remote, "web:2"]));
    // By digest it is what it was.
    let by_digest = format!("{}/team/web@{first}", fake.address);
    let old = good(lab.bake(["pull", &by_digest, "web:3"]));
    assert_eq!(old.out, format!("web:3 {first}\n"));
    assert_ne!(first, second);
    good(lab.bake(["verify"]));
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
}

#[test]
fn a_platform_is_asked_for_or_that_of_this_machine() {
    let lab = Lab::new();
    let fake = Fake::start();
    let layout = Layout { lab: &lab, name: "both" };
    let here = image(&layout, "here", &Platform::host());
    let there = image(&layout, "there", &Platform::linux("s390x"));
    let (here_digest, there_digest) = (here.digest, there.digest);
    let index = Index { manifests: vec![there, here], ..Index::default() };
    layout.index(vec![layout.put(MEDIA_INDEX, &index.to_json())]);
    upload(&fake, &lab, "both", "web", "1");
    let remote = format!("{}/web:1", fake.address);
    assert_eq!(good(lab.bake(["pull", &remote])).out, format!("web:1 {here_digest}\n"));
    let other = good(lab.bake(["pull", &remote, "web:2", "--platform", "linux/s390x"]));
    assert_eq!(other.out, format!("web:2 {there_digest}\n"));
    assert!(other.err.contains("does not run here"), "{}", other.err);
    let none = lab.bake(["pull", &remote, "web:3", "--platform", "linux/riscv64"]);
    assert_eq!(none.code, 1, "{}", none.err);
    assert!(none.err.contains("only for linux/s390x, linux/"), "{}", none.err);
}

#[test]
fn an_interrupted_pull_leaves_nothing() {
    let lab = Lab::new();
    let fake = Fake::start();
    tagged(&fake, &lab, "1", "slow");
    // A byte at a time: whenever it is interrupted, it is in the middle of a blob.
    fake.manners().after = Some(Box::new(|seen, mut reply| {
        if seen.target.contains("blobs/") {
            reply.drip = Some((1, Duration::from_millis(100)));
        }
        reply
    }));
    let mut command = lab.command(["pull", &format!("{}/team/web:1", fake.address)]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("bake");
    while fake.count("GET", "blobs/") == 0 {
        std::thread::yield_now();
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id")).expect("not zero");
    kill_process(pid, Signal::INT).expect("our own child");
    let ended = child.wait_with_output().expect("our own child");
    let printed = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(130), "{printed}");
    assert!(printed.contains("nothing was published"), "{printed}");
    assert!(lab.scratch().is_empty(), "{:?}", lab.scratch());
    assert_eq!(good(lab.bake(["list", "--names"])).out, "");
}

#[test]
fn a_pull_that_is_killed_leaves_all_or_nothing() {
    const MOMENTS: u32 = 8;
    let lab = Lab::new();
    let fake = Fake::start();
    let digest = tagged(&fake, &lab, "1", "image");
    let remote = format!("{}/team/web:1", fake.address);
    let start = Instant::now();
    good(lab.bake(["pull", &remote, "web:first"]));
    let takes = start.elapsed();
    let mut there = 0;
    for n in 0..MOMENTS {
        let image = format!("web:{n}");
        let mut command = lab.command(["pull", &remote, &image]);
        // Another store each time: what is there already is not fetched.
        let store = lab.path(&format!("store-{n}"));
        let bake = |args: &[&str]| {
            let mut command = lab.command(args);
            good(run(command.env("BAKE_STORE", &store)))
        };
        bake(&["gc"]);
        command.env("BAKE_STORE", &store).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("bake");
        // Moments, not synchronisation: wherever it falls, the same must hold.
        std::thread::sleep(takes.mul_f64(f64::from(n) / f64::from(MOMENTS)));
        let _ = child.kill();
        child.wait().expect("our own child");
        there += u32::from(bake(&["list", "--names"]).out.contains(&image));
        bake(&["verify"]);
        assert_eq!(bake(&["pull", &remote, &image]).out, format!("{image} {digest}\n"));
        bake(&["verify"]);
    }
    assert!(there < MOMENTS, "none of them was killed before its end");
}

#[test]
fn dockers_manifests_become_ours() {
    let lab = Lab::new();
    let fake = Fake::start();
    let layout = Layout { lab: &lab, name: "docker" };
    fs::create_dir_all(lab.path("docker")).expect("our own directory");
    let (mut layer, diff_id) = layout.layer();
    layer.media_type = MEDIA_DOCKER_LAYER_GZIP.to_owned();
    let mut manifest = Manifest::new(layout.config(MEDIA_DOCKER_CONFIG, &[diff_id]), vec![layer]);
    manifest.media_type = Some(MEDIA_DOCKER_MANIFEST.to_owned());
    layout.index(vec![layout.manifest(&manifest)]);
    let theirs = upload(&fake, &lab, "docker", "web", "1");
    let pulled = good(lab.bake(["pull", &format!("{}/web:1", fake.address)]));
    assert!(!pulled.out.contains(&theirs.to_string()), "written anew: {}", pulled.out);
    // The same once more is the same.
    let again = good(lab.bake(["pull", &format!("{}/web:1", fake.address)]));
    assert_eq!(again.out, pulled.out);
    assert!(again.err.contains("has this content already"), "{}", again.err);
    good(lab.bake(["verify"]));
}

#[test]
fn what_cannot_be_pulled_publishes_nothing() {
    let lab = Lab::new();
    let fake = Fake::start();
    tagged(&fake, &lab, "1", "good");
    let remote = |tag: &str| format!("{}/team/web{tag}", fake.address);
    let refused = |args: &[&str], code: i32, part: &str| {
        let run = lab.bake(args);
        assert_eq!((run.code, run.out.as_str()), (code, ""), "{args:?}: {}", run.err);
        assert!(run.err.contains(part), "{args:?}: {part}: {}", run.err);
        assert!(lab.scratch().is_empty(), "{args:?}");
    };
    refused(&["pull", &remote(":2")], 1, "not found");
    refused(&["pull", &remote("")], 2, "the image needs a version");
    refused(&["pull", &remote(":1"), "web"], 2, "the image needs a version");
    refused(&["pull", "https://r.example/web:1"], 2, "without https://");
    refused(&["pull", "./layout"], 2, "bake import");
    fake.manners().before =
        Some(Box::new(|seen| seen.target.contains("blobs/").then(|| Reply::new(403))));
    refused(&["pull", &remote(":1")], 1, "denied");
    fake.manners().before = None;
    // A layer that is not the tar that the config says.
    let layout = Layout { lab: &lab, name: "lie" };
    fs::create_dir_all(lab.path("lie")).expect("our own directory");
    let (layer, _) = layout.layer();
    let config = layout.config(MEDIA_CONFIG, &[Digest::of("another tar")]);
    layout.index(vec![layout.manifest(&Manifest::new(config, vec![layer]))]);
    upload(&fake, &lab, "lie", "team/web", "lie");
    refused(&["pull", &remote(":lie")], 1, "and the config says");
    let listed = good(lab.bake(["list", "--names"]));
    assert_eq!(listed.out, "", "nothing was published");
    good(lab.bake(["pull", &remote(":1")]));
}
