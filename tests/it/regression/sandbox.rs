//! What was once reported wrong, as tests of what must hold: sandbox.

use std::fs;

use bake::rootfs::accounts::Accounts;
use bake::sandbox::{Action, Job};

use crate::sandbox_lab::{Lab, exec};

/// B13: who a program runs as, who owns a file and who must own it are one reader's answer.
#[test]
fn userns_a_user_has_the_same_ids_wherever_it_is_written() {
    let Some(lab) = Lab::new() else { return };
    let layer = lab.layer("accounts");
    let passwd = "root:x:0:0::/root:/bin/sh\napp:x:1000:1234::/:/bin/sh\n";
    let group = "root:x:0:\napp:x:1234:\nextra:x:44:\n";
    fs::create_dir(layer.join("etc")).unwrap();
    fs::write(layer.join("etc/passwd"), passwd).unwrap();
    fs::write(layer.join("etc/group"), group).unwrap();
    let accounts = Accounts::new(passwd.as_bytes(), group.as_bytes());
    for (user, expected) in [
        ("app", "1000:1234"),
        ("1000", "1000:1234"),
        ("1000:extra", "1000:44"),
        ("2000", "2000:0"),
        ("2000:2001", "2000:2001"),
    ] {
        let mut exec = exec(&["sh", "-c", "echo $(id -u):$(id -g)"]);
        exec.user = user.to_owned();
        let root = Some(lab.overlay(vec![layer.clone(), lab.tools()]));
        let ran = lab.run(Job { root, ..lab.job(vec![Action::Exec(exec)]) });
        assert_eq!(ran.line(), expected, "{user}");
        let ids = accounts.ids(user).unwrap();
        assert_eq!(format!("{}:{}", ids.uid, ids.gid), expected, "{user}");
    }
    for none in ["+5", "1000:+5", "-1", "4294967295", "00x"] {
        assert!(accounts.ids(none).is_err(), "{none}");
    }
}
