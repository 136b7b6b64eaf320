//! What was once reported wrong, as tests of what must hold: sandbox.

use std::fs;

use bake::engine::call::{Action, Job};
use bake::rootfs::accounts::Accounts;
use bake::sandbox::{CallError, Circumstances, Ended, Failure, Ping};

use crate::sandbox_lab::{Lab, Ran, exec, ping, sh};

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

#[track_caller]
fn seen(ran: &Ran) -> Circumstances {
    match &ran.ended {
        Ended::Failed { seen, .. } => *seen,
        other => panic!("{other:?} {ran:#?}"),
    }
}

/// E12: that a step tried to reach a network is told by the kernel's own counters, whatever the
/// program prints, and not of steps that fail for another reason.
#[test]
fn userns_a_step_that_tried_to_reach_a_network_is_known_by_it() {
    let Some(lab) = Lab::new() else { return };
    let udp = "my $a = pack(q(S n a4 x8), 2, PORT, pack(q(C4), ADDRESS)); socket(S, 2, 2, 0); send(S, q(x), 0, $a); exit 1";
    let tcp = "my $a = pack(q(S n a4 x8), 2, PORT, pack(q(C4), ADDRESS)); socket(S, 2, 1, 0); connect(S, $a); exit 1";
    let check = |program: &str, address: &str, port: &str, expected: bool| {
        let program = program.replace("ADDRESS", address).replace("PORT", port);
        let ran = lab.run(lab.job(vec![Action::Exec(exec(&["perl", "-e", &program]))]));
        assert_eq!(seen(&ran).no_network, expected, "{program}");
    };
    // A host of another network, by its address; a name server that is not there.
    check(tcp, "192, 0, 2, 1", "443", true);
    check(udp, "192, 0, 2, 1", "53", true);
    check(udp, "127, 0, 0, 1", "53", true);
    // A service of its own that does not run is no matter of the network, and neither is `false`,
    // in a namespace that another job had before.
    check(tcp, "127, 0, 0, 1", "5432", false);
    for _ in 0..3 {
        assert!(!seen(&lab.sh("echo 'Could not resolve host'; exit 1")).no_network);
    }
}

/// Errors cross the border of the sandbox as numbers: nobody has to read their text.
#[test]
fn userns_a_full_disk_is_told_by_its_number() {
    let Some(lab) = Lab::new() else { return };
    let full = CallError::System { doing: "write".into(), path: "/x".into(), errno: libc::ENOSPC };
    let ran = lab.run(lab.job(vec![ping(Ping { fail: Some(full), ..Ping::default() })]));
    let Ended::Failed { how, .. } = &ran.ended else { panic!("{ran:#?}") };
    assert!(how.no_room());
    let ran = lab.run(lab.job(vec![sh("echo 'No space left on device' >&2; exit 1")]));
    let Ended::Failed { how: Failure::Exit(1), seen, .. } = &ran.ended else { panic!("{ran:#?}") };
    assert!(!seen.no_room);
}
