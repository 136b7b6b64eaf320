//! `bake promote`, `bake revoke`, `bake rm`, and what the listings say of channels and revocations.

use std::fs;

use bake::store::{Store, TESTED_ANNOTATION, UNTESTED};

use crate::lab::Lab;
use crate::store_lab::{image, publish};

fn lab() -> Lab {
    let lab = Lab::new();
    let store = Store::open(&lab.path("store")).expect("open");
    publish(&store, "web:1.0.0", "one");
    publish(&store, "web:2.0.0", "two");
    lab
}

fn objects(out: &str) -> Vec<serde_json::Value> {
    out.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

#[test]
fn promote_roll_back_and_look() {
    let lab = lab();
    let run = lab.bake(["promote", "web:1.0.0", "production"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.starts_with("web@production web:1.0.0 sha256:"), "{}", run.out);
    assert!(run.err.contains("web@production is new"), "{}", run.err);
    let run = lab.bake(["promote", "web:2.0.0", "production"]);
    assert!(
        run.err.contains("it was web:1.0.0; `bake promote --back web@production` goes back"),
        "{}",
        run.err
    );
    let run = lab.bake(["list", "--channels"]);
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines.len(), 2, "{}", run.out);
    assert!(lines[1].starts_with("web@production  2.0.0  "), "{}", run.out);
    let run = lab.bake(["promote", "--back", "web@production"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(run.out.starts_with("web@production web:1.0.0 sha256:"), "{}", run.out);
    // Wherever an image is named.
    let run = lab.bake(["show", "web@production"]);
    assert!(run.out.starts_with("image       web:1.0.0\n"), "{}{}", run.out, run.err);
    assert!(run.out.contains("\nstate       @production\n"), "{}", run.out);
    assert_eq!(lab.bake(["verify", "web@production"]).code, 0);
    let run = lab.bake(["export", "web@production", "--format", "tar", "--output", "out.tar"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let run = lab.bake(["list"]);
    assert!(
        run.out.lines().any(|line| line.contains("1.0.0") && line.ends_with("@production")),
        "{}",
        run.out
    );
    let run = lab.bake(["list", "--history", "web@production"]);
    let what: Vec<&str> = run
        .out
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().nth(1).expect("a word"))
        .collect();
    assert_eq!(what, ["promote", "promote", "back"], "{}", run.out);
    let run = lab.bake(["promote", "--end", "web@production"]);
    assert_eq!((run.code, run.out.as_str()), (0, ""));
    let run = lab.bake(["list", "--channels"]);
    assert_eq!((run.code, run.out.as_str()), (0, ""));
    assert!(run.err.contains("no channels"), "{}", run.err);
}

#[test]
fn json_says_the_same() {
    let lab = lab();
    let done = objects(&lab.bake(["promote", "web:1.0.0", "production", "--json"]).out);
    assert_eq!((done.len(), &done[0]["type"], &done[0]["v"]), (1, &"promoted".into(), &1.into()));
    assert_eq!(
        (&done[0]["name"], &done[0]["channel"], &done[0]["version"]),
        (&"web".into(), &"production".into(), &"1.0.0".into())
    );
    assert!(done[0]["was"].is_null() && done[0]["already"] == false);
    let revoked = objects(&lab.bake(["revoke", "web@production", "--why", "a flaw", "--json"]).out);
    assert_eq!(
        (&revoked[0]["type"], &revoked[0]["version"], &revoked[0]["why"]),
        (&"revoked".into(), &"1.0.0".into(), &"a flaw".into())
    );
    assert_eq!(revoked[0]["channels"], serde_json::json!(["web@production"]));
    let listed = objects(&lab.bake(["list", "--json"]).out);
    assert_eq!(
        (&listed[0]["channels"], &listed[0]["revoked"]),
        (&serde_json::json!(["production"]), &"a flaw".into())
    );
    assert_eq!(
        (&listed[1]["channels"], &listed[1]["revoked"]),
        (&serde_json::json!([]), &serde_json::Value::Null)
    );
    let channel = objects(&lab.bake(["list", "--channels", "--json"]).out);
    assert_eq!((&channel[0]["type"], &channel[0]["state"]), (&"channel".into(), &"revoked".into()));
    assert!(channel[0]["by"]["user"].is_string() && channel[0]["by"]["host"].is_string());
    let turns = objects(&lab.bake(["list", "--history", "web", "--json"]).out);
    let what: Vec<_> = turns.iter().map(|turn| turn["what"].as_str().expect("a word")).collect();
    assert_eq!(what, ["promote", "revoke"]);
    assert!(
        turns.iter().all(|turn| turn["type"] == "turn"
            && turn["at"].as_str().is_some_and(|at| at.ends_with('Z')))
    );
    let failed = objects(&lab.bake(["promote", "web:1.0.0", "other", "--json"]).out);
    assert_eq!((&failed[0]["type"], &failed[0]["exit"]), (&"failed".into(), &1.into()));
}

#[test]
fn refusals_name_what_to_do() {
    let lab = lab();
    let store = Store::open(&lab.path("store")).expect("open");
    let staging = store.staging().expect("staging");
    let mut untested = image(&staging, "web:3.0.0", "three");
    untested.manifest.annotations.insert(TESTED_ANNOTATION.to_owned(), UNTESTED.to_owned());
    store.publish(&staging, &[untested]).expect("publish");
    drop(staging);
    assert_eq!(lab.bake(["promote", "web:1.0.0", "production"]).code, 0);
    let before = lab.images_hash();
    for (args, code, words) in [
        (
            vec!["promote", "web:3.0.0", "production"],
            1,
            vec!["web:3.0.0 is untested", "bake test web:3.0.0"],
        ),
        (vec!["promote", "web", "production"], 1, vec!["names no version"]),
        (vec!["promote", "web:1.0.0", "Production"], 1, vec!["lower-case"]),
        (vec!["promote", "web:1.0.0"], 2, vec!["CHANNEL"]),
        (
            vec!["promote", "--back", "web@production"],
            1,
            vec!["no earlier version", "bake list --history web@production"],
        ),
        (vec!["promote", "--back", "web:1.0.0"], 1, vec!["names no channel"]),
        (
            vec!["promote", "web@prod", "x"],
            1,
            vec!["no channel web@prod", "did you mean web@production?"],
        ),
        (vec!["promote", "web:1@production", "x"], 2, vec!["a version and a channel"]),
        (
            vec!["rm", "web:2.0.0", "web:1.0.0"],
            1,
            vec![
                "web:1.0.0 is in use: web@production points at it",
                "--force",
                "--end web@production",
            ],
        ),
        (vec!["revoke", "web:1.0.0"], 2, vec!["--why"]),
        (vec!["revoke", "web:1.0.0", "--why", " "], 2, vec!["--why says nothing"]),
        (vec!["revoke", "--undo", "web:1.0.0", "--why", "x"], 1, vec!["not revoked"]),
        (vec!["list", "--channels", "web:1.0.0"], 2, vec!["is a version"]),
        (vec!["list", "--channels", "--history"], 2, vec!["--history"]),
    ] {
        let run = lab.bake(&args);
        assert_eq!(run.code, code, "{args:?}: {}", run.err);
        for word in words {
            assert!(run.err.contains(word), "{args:?}: {}", run.err);
        }
        assert_eq!(run.out, "", "{args:?}");
    }
    assert!(lab.images_hash() == before);
    let run = lab.bake(["list"]);
    assert!(
        run.out.lines().any(|line| line.contains("3.0.0") && line.ends_with("untested")),
        "{}",
        run.out
    );
    let run = lab.bake(["rm", "--force", "web:1.0.0", "web:2.0.0"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(run.err, "removed web:1.0.0\nremoved web:2.0.0\n");
    let run = lab.bake(["show", "web@production"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("points at version 1.0.0, which was removed"), "{}", run.err);
}

/// A channel that points at nothing is damage, and so is one whose history cannot be read; each by
/// itself.
#[test]
fn verify_names_channels_that_lead_nowhere() {
    let lab = lab();
    for (image, channel) in [
        ("web:1.0.0", "production"),
        ("web:2.0.0", "edge"),
        ("web:2.0.0", "staging"),
        ("web:1.0.0", "old"),
    ] {
        assert_eq!(lab.bake(["promote", image, channel]).code, 0);
    }
    assert_eq!(lab.bake(["promote", "--end", "web@old"]).code, 0);
    let good = lab.bake(["verify"]);
    assert_eq!((good.code, good.out.as_str()), (0, ""), "{}", good.err);
    assert_eq!(lab.bake(["rm", "--force", "web:1.0.0"]).code, 0);
    lab.write("store/channels/web/staging", "{\"v\":1,\"what\":\"no such thing\"}\n");
    let bad = lab.bake(["verify"]);
    let lines: Vec<&str> = bad.out.lines().collect();
    assert_eq!((bad.code, lines.len()), (3, 2), "{}{}", bad.out, bad.err);
    assert!(lines.iter().all(|line| line.starts_with("error: ")), "{}", bad.out);
    for part in [
        "channels/web/production: web@production points at web:1.0.0 (sha256:",
        "`bake promote web:VERSION production`",
        "--back web@production`",
    ] {
        assert!(lines[0].contains(part), "{part}: {}", bad.out);
    }
    assert!(lines[1].contains("the history of web@staging cannot be read"), "{}", bad.out);
    let problems = objects(&lab.bake(["verify", "--json"]).out);
    assert_eq!((&problems[0]["type"], &problems[0]["level"]), (&"problem".into(), &"error".into()));
    assert_eq!(problems.last().expect("a line")["good"], false);
    // The version is back, with other content: still not what was promoted.
    publish(&Store::open(&lab.path("store")).expect("open"), "web:1.0.0", "another one");
    assert!(lab.bake(["verify"]).out.contains("web@production points at web:1.0.0"));
    fs::remove_file(lab.path("store/channels/web/staging")).expect("ours");
    assert_eq!(lab.bake(["promote", "web:2.0.0", "production"]).code, 0);
    let good = lab.bake(["verify"]);
    assert_eq!((good.code, good.out.as_str()), (0, ""), "{}", good.err);
}

#[test]
fn who_uses_a_revoked_version_is_warned() {
    let lab = lab();
    lab.bake(["promote", "web:1.0.0", "production"]);
    lab.bake(["promote", "web:2.0.0", "production"]);
    let run = lab.bake(["revoke", "web:2.0.0", "--why", "evil \u{1b}[2Jescape"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(
        run.err.contains("revoked web:2.0.0")
            && run.err.contains("web@production still points at web:2.0.0"),
        "{}",
        run.err
    );
    for args in [
        vec!["export", "web@production", "--format", "tar", "--output", "out.tar"],
        vec!["list"],
        vec!["list", "--history"],
        vec!["show", "web:2.0.0"],
        vec!["promote", "web:2.0.0", "x"],
    ] {
        let run = lab.bake(&args);
        assert!(
            !run.out.contains('\u{1b}') && !run.err.contains('\u{1b}'),
            "{args:?}: {}{}",
            run.out,
            run.err
        );
        assert!(
            format!("{}{}", run.out, run.err).contains("escape"),
            "{args:?}: {}{}",
            run.out,
            run.err
        );
    }
    assert!(lab.path("out.tar").exists(), "a warning, no refusal");
    let run = lab.bake(["promote", "--back", "web@production"]);
    assert!(run.out.contains("web:1.0.0"), "{}", run.out);
    // Where the only one before is revoked, the message says why there is no way back.
    assert_eq!(lab.bake(["promote", "web:1.0.0", "edge"]).code, 0);
    publish(&Store::open(&lab.path("store")).expect("open"), "web:4.0.0", "four");
    assert_eq!(lab.bake(["promote", "web:4.0.0", "edge"]).code, 0);
    assert_eq!(lab.bake(["revoke", "web:1.0.0", "--why", "old"]).code, 0);
    let run = lab.bake(["promote", "--back", "web@edge"]);
    assert!(
        run.code == 1 && run.err.contains("because: passed over web:1.0.0: it is revoked"),
        "{}",
        run.err
    );
    assert_eq!(lab.bake(["revoke", "--undo", "web:1.0.0", "--why", "not that old"]).code, 0);
    let run = lab.bake(["revoke", "--undo", "web:2.0.0", "--why", "a false alarm"]);
    assert_eq!(
        (run.code, run.out.as_str(), run.err.as_str()),
        (0, "", "web:2.0.0 may be used again\n")
    );
    assert_eq!(lab.bake(["promote", "web:2.0.0", "production"]).code, 0);
}
