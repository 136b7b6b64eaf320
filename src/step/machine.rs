//! `[machine]`: what an image has that is booted, in a few lines. It is lowered to the steps that a
//! person would write, behind those of the recipe; nothing here can do what steps cannot.

use std::ops::Range;

use super::kind::Lowered;
use super::label::short;
use super::limit::Limits;
use super::op::{Content, Op, ServiceState};
use crate::reach::Reach;
use crate::schema::{Check, Effect, Fields, Section, Shape, may};

/// `[machine]`.
pub(crate) static MACHINE: Section = Section {
    title: "`[machine]`",
    name: "machine",
    doc: "What an image has that is booted as a machine: steps behind those of the recipe. \
        Besides what the keys say, timers that would change a system in place are masked, \
        `/etc/machine-id` is empty and host keys of SSH are removed, so that each machine makes \
        its own when it starts; and so are initial RAM disks, as bake makes its own.",
    keys: &[
        may(
            "hostname",
            Shape::Text(Check::HostName),
            "Name of the machine, in `/etc/hostname`. Example: `{{ name }}`.",
        ),
        may(
            "network",
            Shape::Choice(&[DHCP, "none"]),
            "`dhcp` (default): every Ethernet interface by DHCP, through `systemd-networkd` and \
                `systemd-resolved`, which have to be installed; `none`: the recipe configures the \
                network, or the machine has none.",
        ),
        may(
            "console",
            Shape::Text(Check::Word),
            "The serial console that the kernel and a login prompt use, for outputs whose \
                `cmdline` names none. Default: `ttyS0`, on arm64 `ttyAMA0`.",
        )
        .without_effect(),
        may(
            "services",
            Shape::List(Check::Unit),
            "Units of systemd that are started at boot; `.service` may be left off.",
        ),
        may(
            "ssh_keys",
            Shape::Lists(Check::Account, Check::SshKey),
            "Public keys by which users may log in, by the user: lines of \
                `~/.ssh/authorized_keys`. A user that is not there is made. Example: \
                `ssh_keys.root = [\"ssh-ed25519 AAAA… me\"]`.",
        ),
    ],
    later: &[],
    effect: Effect::Step,
};

const DHCP: &str = "dhcp";

/// systemd.network(5): what is of no other kind is a device, and no bridge or tunnel.
const NETWORK: &str = "[Match]\nType=ether\nKind=!*\n\n[Network]\nDHCP=yes\n";
const NETWORK_FILE: &str = "/etc/systemd/network/80-dhcp.network";
const NETWORK_UNITS: [&str; 2] = ["systemd-networkd", "systemd-resolved"];

/// Timers of Debian that change a system in place, or look after what a machine does not keep.
const NOT_IN_PLACE: [&str; 4] =
    ["apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"];

/// Each machine has its own (`ssh-keygen -A`, before sshd starts).
const NOT_SHARED: [&str; 2] = ["/etc/ssh/ssh_host_*_key", "/etc/ssh/ssh_host_*_key.pub"];

/// What the package of a kernel makes for boot loaders: bake makes an initial RAM disk of its own.
const BOOT_FILES: [&str; 5] =
    ["/boot/initrd.img-*", "/initrd.img", "/initrd.img.old", "/vmlinuz", "/vmlinuz.old"];

/// Returns whether the machine's network is what bake makes it.
pub(crate) fn has_network(machine: &Fields) -> bool {
    machine.get("network").is_none() || machine.text("network").as_deref() == Some(DHCP)
}

/// Returns the serial console of a machine.
pub(crate) fn console(machine: &Fields, arch: &str) -> String {
    let usual = if arch == "arm64" { "ttyAMA0" } else { "ttyS0" };
    machine.text("console").unwrap_or_else(|| usual.to_owned())
}

/// Spares the steps before it the initial RAM disks that it would remove again.
pub(crate) fn spare(steps: &mut [Lowered]) {
    for op in steps.iter_mut().flat_map(|step| &mut step.ops) {
        if let Op::Packages { without_initrd, .. } = op {
            *without_initrd = true;
        }
    }
}

/// Makes the steps of a `[machine]` that stands at `place`; `line`: of a place in the recipe.
pub(crate) fn steps(
    machine: &Fields,
    place: &Range<usize>,
    line: &dyn Fn(usize) -> u32,
) -> Vec<Lowered> {
    let of = |key: &str| machine.get(key).map_or(place, |field| &field.key).start;
    let step = |at: usize, label: &str, about: &str, ops: Vec<Op>| Lowered {
        label: short(&format!("machine: {label}")),
        about: short(about),
        line: line(at),
        part: None,
        ops,
        network: Reach::None,
        timeout: None,
        limits: Limits::default(),
        retries: 0,
        shell: None,
    };
    let mut steps = vec![];
    if let Some(name) = machine.text("hostname") {
        let write = write("/etc/hostname", format!("{name}\n"), 0o644);
        let label = format!("hostname {name}");
        steps.push(step(of("hostname"), &label, "file /etc/hostname", vec![write]));
    }
    if has_network(machine) {
        let ops = vec![
            write(NETWORK_FILE, NETWORK.to_owned(), 0o644),
            enabled(NETWORK_UNITS.map(str::to_owned).into()),
            link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
        ];
        let about = format!("file {NETWORK_FILE}, service {}", NETWORK_UNITS.join(" "));
        steps.push(step(of("network"), "network by DHCP", &about, ops));
    }
    if let Some(units) = machine.given_list("services").filter(|units| !units.is_empty()) {
        let about = format!("service {}", units.join(" "));
        steps.push(step(of("services"), &about, &about, vec![enabled(units)]));
    }
    for user in machine.targets("ssh_keys").unwrap_or_default() {
        let keys = user.what.into_iter().map(|key| key.text).collect();
        let about = format!("user {}", user.at.text);
        let label = format!("SSH keys of {}", user.at.text);
        steps.push(step(user.at.span.start, &label, &about, vec![authorized(user.at.text, keys)]));
    }
    let masked = NOT_IN_PLACE.map(|unit| link(&format!("/etc/systemd/system/{unit}"), "/dev/null"));
    let mut ops: Vec<Op> = masked.into();
    // Empty, not absent: where it is absent systemd takes the start for the first one, and enables
    // all units that its presets name (machine-id(5)).
    ops.push(write("/etc/machine-id", String::new(), 0o444));
    let paths = NOT_SHARED.iter().chain(&BOOT_FILES).map(|path| (*path).to_owned()).collect();
    ops.push(Op::Remove { paths });
    let about = "mask units, file /etc/machine-id, remove host keys and initial RAM disks";
    steps.push(step(place.start, "no upgrades in place, no identity", about, ops));
    steps
}

fn write(path: &str, text: String, mode: u32) -> Op {
    let (path, content) = (path.to_owned(), Content::Text(text));
    let (owner, mode) = (Some("0:0".to_owned()), Some(mode));
    Op::Write { path, content, append: false, owner, mode }
}

fn link(path: &str, target: &str) -> Op {
    Op::Symlink { path: path.to_owned(), target: target.to_owned() }
}

fn enabled(units: Vec<String>) -> Op {
    Op::Service { units, state: ServiceState::Enabled }
}

fn authorized(name: String, ssh_keys: Vec<String>) -> Op {
    Op::User {
        name,
        uid: None,
        gid: None,
        home: None,
        shell: None,
        groups: vec![],
        system: false,
        comment: None,
        password: None,
        ssh_keys,
    }
}
