//! `bake export --format registry`: what `bake serve` serves, as files.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use bake::digest::Digest;

use crate::cmd_serve::{Server, publish};
use crate::lab::{Lab, Run, good};

fn export(lab: &Lab, more: &[&str]) -> Run {
    let args = ["export", "--format", "registry", "--output", "site"];
    lab.bake(args.iter().chain(more))
}

/// Every file below `dir`, by its path there.
fn files(dir: &Path) -> Vec<String> {
    let mut found = vec![];
    let mut left = vec![dir.to_owned()];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(&at).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else {
                let below = path.strip_prefix(dir).expect("below it");
                found.push(below.to_str().expect("text").to_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn files_are_what_serve_answers() {
    let lab = Lab::new();
    publish(&lab, "team/web:1");
    publish(&lab, "team/web:2");
    publish(&lab, "other:1");
    good(lab.bake(["promote", "team/web:1", "production"]));
    let before = lab.images_hash();
    let done = good(export(&lab, &[]));
    assert_eq!(done.out, "site\n");
    assert!(done.err.contains("site/nginx.conf"), "{}", done.err);
    let server = Server::start(&lab);
    let all = files(&lab.path("site/v2"));
    for wanted in ["team/web/manifests/1", "team/web/manifests/production", "other/tags/list"] {
        assert!(all.iter().any(|file| file == wanted), "{wanted} of {all:?}");
    }
    for file in &all {
        let path = lab.path("site/v2").join(file);
        let served = server.get(&format!("/v2/{}", file.replace("index.html", "")));
        let bytes = fs::read(&path).expect("ours");
        assert_eq!((served.status, &served.body), (200, &bytes), "{file}");
        assert_eq!(fs::metadata(&path).expect("ours").permissions().mode() & 0o444, 0o444);
        if let Some((_, hex)) = file.rsplit_once("/sha256:")
            && !file.contains("/referrers/")
        {
            assert_eq!(Digest::of(&bytes).hex(), hex);
        }
    }
    // Nothing of the store has changed, and a blob takes no second place where that can be.
    assert_eq!(lab.images_hash(), before);
    let tags: serde_json::Value =
        serde_json::from_slice(&fs::read(lab.path("site/v2/team/web/tags/list")).expect("ours"))
            .expect("JSON");
    assert_eq!(tags["tags"], serde_json::json!(["1", "2", "production"]));
    let manifest = |tag: &str| {
        fs::metadata(lab.path("site/v2/team/web/manifests").join(tag)).expect("ours").ino()
    };
    assert_eq!(manifest("1"), manifest("production"), "one file");
}

#[test]
fn only_what_is_named_is_there_and_all_of_it_or_nothing() {
    let lab = Lab::new();
    let web = publish(&lab, "web:1");
    publish(&lab, "web:2");
    let empty = lab.bake(["export", "nothing:1", "--format", "registry", "--output", "site"]);
    assert_eq!(empty.code, 1, "{}", empty.err);
    good(export(&lab, &["web:1"]));
    let first = files(&lab.path("site"));
    assert!(first.iter().any(|file| file == "v2/web/manifests/1"), "{first:?}");
    assert!(!first.iter().any(|file| file.ends_with("manifests/2")), "{first:?}");
    // What is there stays, or is replaced as a whole.
    let again = export(&lab, &["web:2"]);
    assert_eq!(again.code, 1, "{}", again.err);
    assert!(again.err.contains("--force replaces it"), "{}", again.err);
    let other = good(export(&lab, &["--force", "--json", "web:2"]));
    let line: serde_json::Value = serde_json::from_str(other.out.trim()).expect("JSON");
    assert_eq!((&line["type"], &line["images"]), (&"exported".into(), &["web:2"][..].into()));
    assert!(!lab.path("site/v2/web/manifests/1").exists());
    // A blob that is not what its name says is in no registry.
    let blob = lab.path("store/blobs/sha256").join(web.layers[0].digest.hex());
    let held = files(&lab.path("site"));
    let size = fs::metadata(&blob).expect("a blob").len();
    fs::remove_file(&blob).expect("ours");
    fs::write(&blob, vec![0; usize::try_from(size).expect("small")]).expect("ours");
    let broken = export(&lab, &["--force"]);
    assert_eq!(broken.code, 1, "{}", broken.err);
    assert!(broken.err.contains(&web.layers[0].digest.to_string()), "{}", broken.err);
    assert_eq!(files(&lab.path("site")), held);
    let beside = fs::read_dir(lab.path("")).expect("the lab").flatten();
    assert!(!beside.into_iter().any(|one| one.file_name().to_string_lossy().contains("aside")));
    let stream = lab.bake(["export", "--format", "registry", "--output", "-"]);
    assert_eq!(stream.code, 2, "{}", stream.err);
}

#[test]
fn a_name_that_is_a_place_of_a_registry_is_refused() {
    let lab = Lab::new();
    publish(&lab, "team/tags:1");
    let refused = export(&lab, &[]);
    assert_eq!(refused.code, 1, "{}", refused.err);
    assert!(refused.err.contains("cannot write team/tags as files"), "{}", refused.err);
    assert!(!lab.path("site").exists());
}

#[test]
fn a_killed_export_leaves_the_whole_registry_or_the_one_before() {
    let lab = Lab::new();
    publish(&lab, "web:1");
    publish(&lab, "web:2");
    let start = Instant::now();
    good(export(&lab, &["web:1"]));
    let (whole, old) = (start.elapsed(), files(&lab.path("site")));
    good(export(&lab, &["web:2", "--force"]));
    let new = files(&lab.path("site"));
    assert_ne!(old, new);
    for moment in 0..24 {
        good(export(&lab, &["web:1", "--force"]));
        let args = ["export", "--format", "registry", "--output", "site", "--force", "web:2"];
        let mut child = lab.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.as_mut().expect("bake");
        std::thread::sleep(whole * moment / 20);
        // It may have ended by itself.
        let _ = child.kill();
        child.wait().expect("our own child");
        let now = files(&lab.path("site"));
        assert!(now == old || now == new, "{moment}: {now:?}");
    }
    // What the dead have left is removed by the next.
    good(export(&lab, &["web:1", "--force"]));
    let beside = fs::read_dir(lab.path("")).expect("the lab").flatten();
    assert!(!beside.into_iter().any(|one| one.file_name().to_string_lossy().contains("aside")));
}
