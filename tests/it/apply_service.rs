//! service inside an image root.

use serde_json::{Value, json};

use crate::apply_lab::{Lab, fails};

const UNITS: &str = "/usr/lib/systemd/system";
const ETC: &str = "/etc/systemd/system";

fn service(units: &[&str], state: &str) -> Value {
    json!({ "op": "service", "units": units, "state": state })
}

fn lab() -> Lab {
    let lab = Lab::new();
    let unit = |name: &str, install: &str| {
        lab.put(&format!("{UNITS}/{name}"), format!("[Unit]\nDescription=x\n[Install]\n{install}"))
    };
    unit("nginx.service", "WantedBy=multi-user.target\n");
    unit(
        "ssh.service",
        "WantedBy=multi-user.target\nAlias=sshd.service\nAlso=ssh.socket gone.service\n",
    );
    unit("ssh.socket", "RequiredBy=sockets.target\n");
    unit("getty@.service", "WantedBy=getty.target\nDefaultInstance=tty1\n");
    unit("app@.service", "WantedBy=multi-user.target dep@.service x-%i.target\n");
    unit("static.service", "");
    unit("other.timer", "WantedBy=timers.target\n");
    lab.link("/lib", "usr/lib");
    lab
}

#[test]
fn enabling_makes_the_links_that_systemctl_makes() {
    let lab = lab();
    lab.apply(service(&["nginx", "ssh.service", "other.timer", "getty@", "app@one"], "enabled"))
        .unwrap();
    let expected = "\
etc/systemd/system 755 /
etc/systemd/system/dep@one.service.wants 755 /
etc/systemd/system/dep@one.service.wants/app@one.service -> /usr/lib/systemd/system/app@.service
etc/systemd/system/getty.target.wants 755 /
etc/systemd/system/getty.target.wants/getty@tty1.service -> /usr/lib/systemd/system/getty@.service
etc/systemd/system/multi-user.target.wants 755 /
etc/systemd/system/multi-user.target.wants/app@one.service -> /usr/lib/systemd/system/app@.service
etc/systemd/system/multi-user.target.wants/nginx.service -> /usr/lib/systemd/system/nginx.service
etc/systemd/system/multi-user.target.wants/ssh.service -> /usr/lib/systemd/system/ssh.service
etc/systemd/system/sockets.target.requires 755 /
etc/systemd/system/sockets.target.requires/ssh.socket -> /usr/lib/systemd/system/ssh.socket
etc/systemd/system/sshd.service -> /usr/lib/systemd/system/ssh.service
etc/systemd/system/timers.target.wants 755 /
etc/systemd/system/timers.target.wants/other.timer -> /usr/lib/systemd/system/other.timer
etc/systemd/system/x-one.target.wants 755 /
etc/systemd/system/x-one.target.wants/app@one.service -> /usr/lib/systemd/system/app@.service
";
    assert_eq!(lab.tree(ETC), expected);
    lab.settled(service(
        &["nginx", "ssh", "other.timer", "getty@tty1.service", "app@one"],
        "enabled",
    ));
    lab.settled(service(&["sshd"], "enabled"));
    lab.apply(service(&["nginx", "sshd", "other.timer", "getty@", "app@one"], "disabled")).unwrap();
    assert_eq!(lab.tree(ETC), "etc/systemd/system 755 /\n");
    lab.settled(service(&["nginx", "ssh", "other.timer", "getty@", "app@one"], "disabled"));
}

#[test]
fn a_link_that_a_package_made_another_way_counts() {
    let lab = lab();
    lab.link(
        &format!("{ETC}/multi-user.target.wants/nginx.service"),
        "/lib/systemd/system/nginx.service",
    );
    lab.settled(service(&["nginx"], "enabled"));
    lab.apply(service(&["nginx"], "disabled")).unwrap();
    assert!(!lab.exists(&format!("{ETC}/multi-user.target.wants")));
}

#[test]
fn the_unit_in_etc_comes_first() {
    let lab = lab();
    lab.put(&format!("{ETC}/nginx.service"), "[Install]\nWantedBy=custom.target\n");
    lab.apply(service(&["nginx"], "enabled")).unwrap();
    assert_eq!(
        lab.target(&format!("{ETC}/custom.target.wants/nginx.service")),
        format!("{ETC}/nginx.service")
    );
    assert!(!lab.exists(&format!("{ETC}/multi-user.target.wants")));
    fails(
        lab.apply(service(&["nginx"], "masked")),
        &["/etc/systemd/system/nginx.service", "`remove` step"],
    );
}

#[test]
fn masks_come_and_go() {
    let lab = lab();
    lab.apply(service(&["nginx", "static"], "masked")).unwrap();
    assert_eq!(lab.target(&format!("{ETC}/nginx.service")), "/dev/null");
    lab.settled(service(&["nginx", "static"], "masked"));
    lab.apply(service(&["nginx"], "enabled")).unwrap();
    assert!(!lab.exists(&format!("{ETC}/nginx.service")));
    assert!(lab.exists(&format!("{ETC}/multi-user.target.wants/nginx.service")));
    lab.link("/usr/local/lib/systemd/system/other.timer", "/dev/null");
    fails(
        lab.apply(service(&["other.timer"], "enabled")),
        &["masked by the image's package", "/usr/local/lib"],
    );
}

#[test]
fn what_cannot_be_is_reported() {
    let lab = lab();
    fails(
        lab.apply(service(&["ngnix"], "enabled")),
        &["ngnix.service", "\"nginx.service\"", "`packages` step"],
    );
    fails(lab.apply(service(&["static"], "enabled")), &["static.service", "[Install]"]);
    fails(lab.apply(service(&["app@"], "enabled")), &["app@.service", "write an instance"]);
    fails(lab.apply(service(&["../../x"], "enabled")), &["not a unit name"]);
    lab.put("/etc/init.d/old", "#!/bin/sh\n");
    fails(lab.apply(service(&["old"], "enabled")), &["init script", "update-rc.d old enable"]);
    fails(
        Lab::new().apply(service(&["nginx"], "enabled")),
        &["no systemd units", "`packages` step"],
    );
    lab.put(&format!("{UNITS}/odd.service"), "[Install]\nWantedBy=%H.target\n");
    fails(lab.apply(service(&["odd"], "enabled")), &["%H.target"]);
    lab.put(
        &format!("{UNITS}/evil.service"),
        "[Install]\nWantedBy=../../../tmp/x.target\nAlias=../../evil.service\n",
    );
    fails(lab.apply(service(&["evil"], "enabled")), &["../../../tmp/x.target"]);
    lab.link(&format!("{UNITS}/a.service"), "b.service");
    lab.link(&format!("{UNITS}/b.service"), "a.service");
    assert!(lab.apply(service(&["a"], "enabled")).is_err());
}
