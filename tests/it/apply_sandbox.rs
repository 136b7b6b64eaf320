//! Operations in the real sandbox: over an overlay, as root of a user namespace.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bake::apply;
use bake::job::Call;
use bake::job::{Action, Ended, Job, Reply};
use bake::sandbox::{Failure, Network, Passed};
use serde_json::{Value, json};

use crate::apply_lab::EPOCH;
use crate::sandbox_lab::Lab;

fn apply(op: Value, file: Option<File>) -> Action {
    let op = serde_json::from_value(op).unwrap();
    let content = file.map(Passed::from);
    Action::call(Call::Apply(apply::Call::Operation { op, epoch: EPOCH, content }))
}

fn mkdir(path: &str, owner: &str) -> Value {
    json!({ "op": "mkdir", "paths": [path], "owner": owner, "mode": 0o750 })
}

/// A job over a layer with account files and one directory.
fn job(lab: &Lab, actions: Vec<Action>) -> Job {
    let layer = lab.layers().join("accounts");
    if !layer.exists() {
        fs::create_dir_all(layer.join("etc")).unwrap();
        fs::create_dir_all(layer.join("srv")).unwrap();
        fs::write(
            layer.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\n",
        )
        .unwrap();
        fs::write(layer.join("etc/group"), "root:x:0:\nwww-data:x:33:\n").unwrap();
    }
    let root = Some(lab.overlay(vec![layer, lab.tools()]));
    Job {
        root,
        mounts: vec![],
        files: vec![],
        secrets: bake::sandbox::ShownSecrets::default(),
        hostname: "inside".into(),
        network: Network::None,
        allowance: bake::sandbox::Allowance::default(),
        actions,
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn userns_operations_land_in_the_layer_and_nothing_else_does() {
    let Some(lab) = Lab::new() else { return };
    let mut key = tempfile::tempfile().unwrap();
    key.write_all(b"rendered").unwrap();
    key.rewind().unwrap();
    let write = json!({ "op": "write", "path": "/srv/conf", "content": { "template": "c" }, "append": false, "owner": "app:www-data", "mode": null });
    let user = json!({ "op": "user", "name": "app", "uid": null, "gid": null, "home": null, "shell": null, "groups": ["www-data"],
        "system": true, "comment": null, "password": null, "ssh_keys": [] });
    let ran = lab.run(job(
        &lab,
        vec![
            apply(user, None),
            apply(write, Some(key)),
            apply(mkdir("/srv/data", "www-data:www-data"), None),
            crate::sandbox_lab::sh(
                "stat -c '%U:%G %a %Y %n' /srv/conf /srv/data /etc/passwd; cat /srv/conf",
            ),
        ],
    ));
    let Ended::Done(replies) = &ran.ended else { panic!("{ran:#?}") };
    let Some(Reply::Apply(made)) = &replies[0] else { panic!("{replies:?}") };
    let home = "/nonexistent".to_owned();
    assert_eq!(*made, apply::Reply::User { uid: 100, gid: 100, home });
    let expected = [
        format!("app:www-data 644 {EPOCH} /srv/conf"),
        format!("www-data:www-data 750 {EPOCH} /srv/data"),
        format!("root:root 644 {EPOCH} /etc/passwd"),
        "rendered".to_owned(),
    ];
    assert_eq!(ran.out, expected);
    assert_eq!(names(&ran.upper), ["etc", "srv"]);
    assert_eq!(names(&ran.upper.join("etc")), ["group", "passwd", "shadow"]);
    assert_eq!(fs::metadata(ran.upper.join("srv/data")).unwrap().mtime(), EPOCH);
}

#[test]
fn userns_what_is_there_already_makes_no_layer() {
    let Some(lab) = Lab::new() else { return };
    let file = json!({ "op": "write", "path": "/etc/group", "content": { "text": "root:x:0:\nwww-data:x:33:\n" },
        "append": false, "owner": null, "mode": null });
    let ops = [
        json!({ "op": "mkdir", "paths": ["/srv"], "owner": "root:root", "mode": 0o755 }),
        json!({ "op": "group", "name": "www-data", "gid": 33, "system": true }),
        json!({ "op": "remove", "paths": ["/not/there", "/srv/*", "/tmp/*", "/run/*"] }),
        file,
    ];
    let ran = lab.run(job(&lab, ops.into_iter().map(|op| apply(op, None)).collect())).ok();
    assert_eq!(names(&ran.upper), Vec::<String>::new());
}

#[test]
fn userns_places_that_are_gone_afterwards_are_refused() {
    let Some(lab) = Lab::new() else { return };
    for (path, mount) in [
        ("/tmp/x", "/tmp"),
        ("/dev/x", "/dev"),
        ("/proc/x", "/proc"),
        ("/sys/x", "/sys"),
        ("/tmp", "/tmp"),
    ] {
        let ran = lab.run(job(&lab, vec![apply(mkdir(path, "0:0"), None)]));
        let Ended::Failed { how: Failure::Call(why), .. } = &ran.ended else {
            panic!("{path}: {ran:#?}")
        };
        let why = why.reasons().join(": ");
        assert!(
            why.contains("would not stay in the image")
                && why.contains(&format!(": {mount} is a mount")),
            "{why}"
        );
    }
}
