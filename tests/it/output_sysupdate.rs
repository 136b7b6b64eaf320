//! `bake export --format sysupdate`: a source of versions for systemd-sysupdate.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use bake::digest::Digest;

use crate::cmd_serve::publish;
use crate::lab::{Lab, Run, good, run};

fn export(lab: &Lab, more: &[&str]) -> Run {
    let args = ["export", "--format", "sysupdate", "--output", "site"];
    lab.bake(args.iter().chain(more))
}

fn names(lab: &Lab) -> Vec<String> {
    let all = fs::read_dir(lab.path("site")).expect("a directory").flatten();
    let mut all: Vec<String> =
        all.map(|one| one.file_name().to_str().expect("text").to_owned()).collect();
    all.sort();
    all
}

fn lab() -> Lab {
    let lab = Lab::new();
    for image in ["web:2.0.0", "web:10.0.0", "web:1.0.0", "team/web:1", "web:1_2"] {
        publish(&lab, image);
    }
    lab
}

#[test]
fn versions_are_added_listed_and_retired() {
    let lab = lab();
    let first = good(export(&lab, &["web:1.0.0", "team/web:1"]));
    assert_eq!(first.out, "site/web_1.0.0.tar\nsite/team_web_1.tar\n");
    assert_eq!(names(&lab), ["SHA256SUMS", "team_web_1.tar", "web_1.0.0.tar"]);
    fs::write(lab.path("site/notes_1.tar"), "not ours").expect("ours");
    fs::create_dir(lab.path("site/web_0.tar")).expect("ours");
    let check = || {
        let mut sums = Command::new("sha256sum");
        let done =
            run(sums.args(["--check", "--strict", "SHA256SUMS"]).current_dir(lab.path("site")));
        assert_eq!(done.code, 0, "{}{}", done.out, done.err);
    };
    check();
    good(export(&lab, &["web:2.0.0", "--keep", "2"]));
    let third = good(export(&lab, &["--json", "web:10.0.0", "--keep", "2"]));
    let line: serde_json::Value = serde_json::from_str(third.out.trim()).expect("JSON");
    assert_eq!(line["files"], serde_json::json!(["web_10.0.0.tar"]));
    assert_eq!(line["removed"], serde_json::json!(["web_1.0.0.tar"]));
    // Of this image the two newest, by version and not by letters; of all else everything.
    let now = ["SHA256SUMS", "notes_1.tar", "team_web_1.tar", "web_0.tar", "web_10.0.0.tar"];
    assert_eq!(names(&lab), [&now[..], &["web_2.0.0.tar"]].concat());
    check();
    // The same again is the same; what is missing comes back.
    let sums = fs::read(lab.path("site/SHA256SUMS")).expect("ours");
    fs::remove_file(lab.path("site/web_2.0.0.tar")).expect("ours");
    good(export(&lab, &["web:2.0.0", "web:10.0.0"]));
    assert_eq!(fs::read(lab.path("site/SHA256SUMS")).expect("ours"), sums);
    check();
    // What a killed run has left, listed by nobody, goes.
    fs::write(lab.path("site/web_3.0.0.tar"), "half").expect("ours");
    let swept = good(export(&lab, &["web:2.0.0"]));
    assert!(swept.err.contains("removed: web_3.0.0.tar"), "{}", swept.err);
    // Another format beside it has its own retention.
    good(export(&lab, &["web:2.0.0", "--files", "oci-archive", "--keep", "1"]));
    assert!(names(&lab).contains(&"web_2.0.0.oci-archive".to_owned()));
    assert!(names(&lab).contains(&"web_10.0.0.tar".to_owned()));
    check();
}

#[test]
fn what_cannot_be_a_source_is_refused_and_the_source_stays() {
    let lab = lab();
    good(export(&lab, &["web:1.0.0"]));
    let before = fs::read(lab.path("site/SHA256SUMS")).expect("ours");
    let refuse = |args: &[&str], code: i32, why: &str| {
        let done = export(&lab, args);
        assert_eq!(done.code, code, "{}", done.err);
        assert!(done.err.contains(why), "{}", done.err);
        assert_eq!(names(&lab), ["SHA256SUMS", "web_1.0.0.tar"]);
    };
    refuse(&["web:1_2"], 1, "cannot write web:1_2 as an update: its version must be");
    refuse(&["web:2.0.0", "--files", "dir"], 1, "it is a directory, not a file");
    refuse(&["web:2.0.0", "--files", "registry"], 2, "an update is a file");
    refuse(&["web:2.0.0", "--keep", "0"], 2, "--keep");
    refuse(&[], 2, "no image is named");
    let other =
        lab.bake(["export", "web:1.0.0", "--format", "tar", "--keep", "1", "--output", "x"]);
    assert_eq!(other.code, 2, "{}", other.err);
    assert_eq!(fs::read(lab.path("site/SHA256SUMS")).expect("ours"), before);
    // Listed with other content: clients may have it.
    let other = format!("{}  web_1.0.0.tar\n", Digest::of("other").hex());
    fs::write(lab.path("site/SHA256SUMS"), &other).expect("ours");
    refuse(&["web:1.0.0"], 1, "--force replaces it");
    assert_eq!(fs::read_to_string(lab.path("site/SHA256SUMS")).expect("ours"), other);
    good(export(&lab, &["web:1.0.0", "--force"]));
    fs::write(lab.path("site/SHA256SUMS"), "nonsense\n").expect("ours");
    refuse(&["web:1.0.0"], 1, "not a digest and a name: \"nonsense\"");
}

#[test]
fn a_killed_export_leaves_a_source_whose_list_is_true() {
    let lab = lab();
    good(export(&lab, &["web:1.0.0"]));
    let kept = ["web:2.0.0", "web:10.0.0", "--keep", "2", "--quiet"];
    let args = ["export", "--format", "sysupdate", "--output", "site"];
    let start = Instant::now();
    good(export(&lab, &kept));
    // From before the first file to behind the last, and a little more.
    let whole = start.elapsed();
    for moment in 0..24 {
        good(export(&lab, &["web:1.0.0", "--force"]));
        let mut child =
            lab.command(args.iter().chain(&kept)).stdout(Stdio::null()).spawn().expect("bake");
        std::thread::sleep(whole * moment / 20);
        // It may have ended by itself.
        let _ = child.kill();
        child.wait().expect("our own child");
        let mut sums = Command::new("sha256sum");
        let sums = sums.args(["--check", "--strict", "SHA256SUMS"]).current_dir(lab.path("site"));
        let listed = run(sums);
        assert_eq!(listed.code, 0, "{moment}: {}{}", listed.out, listed.err);
        good(export(&lab, &kept));
        assert_eq!(names(&lab), ["SHA256SUMS", "web_10.0.0.tar", "web_2.0.0.tar"], "{moment}");
    }
}
