//! What a machine needs, looked for in the finished root before anything is made of it: all that is
//! wrong at once, each with what to do about it.
//!
//! What a machine does not start without is an error; what it starts with and probably does not do
//! its work, or should not share with others, is a doubt. What a recipe alone shows is reported
//! earlier, with its other mistakes.

use std::collections::BTreeMap;
use std::io;

use super::error::Error;
use super::flat::Flat;
use super::options::{DATA_FS, Lack};
use crate::disk::initrd::{self, Modules};
use crate::disk::table::Architecture;
use crate::recipe::DiskOutput;

/// Where modules are; `/lib` is a symlink to `/usr/lib`, or has it all.
pub(super) const MODULES: &str = "lib/modules";

/// What is written to while the root is read-only: memory lies over it.
const IN_MEMORY: [&str; 4] = ["/etc", "/var", "/tmp", "/run"];

/// Directories that the kernel's file systems are mounted on.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "run", "sys"];

/// Units of systemd are here.
const UNITS: [&str; 2] = ["etc/systemd/system", "usr/lib/systemd/system"];

/// Programs that configure a network by themselves.
const NETWORK_PROGRAMS: [&str; 6] = [
    "usr/sbin/NetworkManager",
    "usr/sbin/connmand",
    "usr/sbin/dhcpcd",
    "usr/sbin/ifup",
    "usr/sbin/netplan",
    "usr/bin/cloud-init",
];

/// Files of systemd for containers, tunnels and wireless networks begin so.
const NETWORKS_OF_SYSTEMD: [&str; 5] =
    ["80-6rd-", "80-container-", "80-namespace-", "80-vm-", "80-wifi-"];

/// What a machine is made of, where nothing is lacking.
pub(super) struct Found {
    pub(super) architecture: Architecture,
    /// The kernel's release.
    pub(super) release: String,
    /// Where the kernel is.
    pub(super) kernel: String,
    /// Where systemd's boot stub is, if it is needed.
    pub(super) stub: Option<&'static str>,
    /// Where systemd-boot is, if it is needed.
    pub(super) loader: Option<&'static str>,
    /// What a person should know.
    pub(super) doubts: Vec<Lack>,
}

/// Looks for everything that a machine needs. `by_firmware`: firmware starts it.
///
/// # Errors
/// [`Error::NoMachine`] with all that is lacking; what reading fails with.
pub(super) fn look(
    flat: &Flat,
    architecture: &str,
    disk: &DiskOutput,
    by_firmware: bool,
) -> Result<Found, Error> {
    let mut lacks = vec![];
    let mut lack = |what: String, mend: &str| lacks.push(Lack { what, mend: mend.to_owned() });
    let known = match architecture {
        "amd64" => Some((Architecture::Amd64, "usr/lib/systemd/boot/efi/linuxx64.efi.stub")),
        "arm64" => Some((Architecture::Arm64, "usr/lib/systemd/boot/efi/linuxaa64.efi.stub")),
        other => {
            let mend = "leave the output out for this platform, by `when`";
            lack(format!("it is for {other}, and machines are for amd64 or arm64"), mend);
            None
        }
    };
    let mut kernels = kernels(flat);
    match kernels.len() {
        0 => {
            let mend = format!("install one: the package `linux-image-cloud-{architecture}`");
            lack("it has no kernel with modules".to_owned(), &mend);
        }
        1 => {}
        _ => {
            let all = kernels.keys().cloned().collect::<Vec<_>>().join(", ");
            let mend = "keep one: remove the packages of the others, and their /usr/lib/modules";
            lack(format!("it has several kernels ({all})"), mend);
        }
    }
    let init = ["sbin/init", "usr/lib/systemd/systemd", "bin/init"];
    if !init.iter().any(|path| flat.has_file(path)) {
        lack("it has no init (/sbin/init)".to_owned(), "install the package `systemd-sysv`");
    }
    let stub = known.map(|(_, path)| path).filter(|_| by_firmware);
    if let Some(path) = stub.filter(|path| !flat.has_file(path)) {
        let mend = "install the package `systemd-boot-efi`";
        lack(format!("it has no boot stub (/{path})"), mend);
    }
    let loader = known.map(|(architecture, _)| match architecture {
        Architecture::Amd64 => "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
        Architecture::Arm64 => "usr/lib/systemd/boot/efi/systemd-bootaa64.efi",
    });
    let loader = loader.filter(|_| by_firmware && disk.slot.is_some());
    if let Some(path) = loader.filter(|path| !flat.has_file(path)) {
        let mend = "install the package `systemd-boot-efi`";
        lack(format!("it has no boot loader that chooses a version (/{path})"), mend);
    }
    for dir in MOUNT_POINTS.iter().filter(|dir| !flat.has_dir(dir)) {
        let mend = format!("make it: a step `mkdir = \"/{dir}\"`");
        lack(format!("it has no directory /{dir}"), &mend);
    }
    for mount in disk.data.keys().filter(|_| !disk.writable) {
        let in_memory = IN_MEMORY.iter().any(|dir| mount.starts_with(&format!("{dir}/")));
        if !in_memory && !flat.has_dir(mount.trim_matches('/')) {
            let mend = format!("make it: a step `mkdir = \"{mount}\"`");
            let what = format!("a data disk goes to {mount}, which its read-only root has not");
            lack(what, &mend);
        }
    }
    let mut doubts = vec![];
    for release in kernels.keys() {
        let (vital, useful) = missing_modules(flat, release, disk)?;
        let of = |modules: Vec<&str>| format!("the kernel {release} has no {}", modules.join(", "));
        if !vital.is_empty() {
            let mend = "install a kernel that has them, such as Debian's";
            lack(format!("{}: it cannot mount what it is to", of(vital)), mend);
        }
        if !useful.is_empty() {
            let what = format!("{}: QEMU and most clouds have such disks", of(useful));
            let mend = "Debian's kernels have it".to_owned();
            doubts.push(Lack { what, mend });
        }
    }
    let (Some((architecture, _)), Some((release, kernel)), true) =
        (known, kernels.pop_first(), lacks.is_empty())
    else {
        return Err(Error::NoMachine { lacks });
    };
    doubts.extend(no_udev(flat));
    doubts.extend(no_network(flat, &disk.command_line)?);
    doubts.extend(identity(flat)?);
    Ok(Found { architecture, release, kernel, stub, loader, doubts })
}

/// Finds the kernels that have modules, `/boot/vmlinuz-RELEASE` or
/// `/usr/lib/modules/RELEASE/vmlinuz`: their paths by their releases.
fn kernels(flat: &Flat) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for release in flat.children("usr/lib/modules").into_iter().chain(flat.children(MODULES)) {
        for path in [format!("boot/vmlinuz-{release}"), format!("{MODULES}/{release}/vmlinuz")] {
            if flat.has_file(&path) {
                found.insert(release.clone(), path);
            }
        }
    }
    found
}

/// Returns the modules that a kernel lacks: those without which the machine does not start, and
/// those that it needs on most hypervisors.
fn missing_modules(
    flat: &Flat,
    release: &str,
    disk: &DiskOutput,
) -> Result<(Vec<&'static str>, Vec<&'static str>), Error> {
    let file = |name: &str| text(flat, &format!("{MODULES}/{release}/{name}"));
    let (dep, builtin) = (file("modules.dep")?, file("modules.builtin")?);
    let read = |_: &str| Err(io::ErrorKind::NotFound.into());
    let (dep, builtin) = (&*dep, &*builtin);
    let modules = Modules { release, dep, alias: "", softdep: "", builtin, read: &read };
    let mut vital = match disk.writable {
        true => vec!["ext4"],
        false => vec!["erofs", "dm_verity", "overlay"],
    };
    if !disk.data.is_empty() && !vital.contains(&DATA_FS) {
        vital.push(DATA_FS);
    }
    let missing = |wanted: &[&'static str]| initrd::missing(&modules, wanted);
    Ok((missing(&vital), missing(&["virtio_blk"])))
}

fn no_udev(flat: &Flat) -> Option<Lack> {
    let systemd = flat.has_file("usr/lib/systemd/systemd");
    let there = flat.has_file("usr/lib/systemd/systemd-udevd") || flat.has_file("usr/bin/udevadm");
    (systemd && !there).then(|| Lack {
        what: "the machine has no udev: it finds neither data disks nor its network".to_owned(),
        mend: "install the package `udev`".to_owned(),
    })
}

/// Says that nothing configures a network, or that nothing reads what does.
fn no_network(flat: &Flat, command_line: &str) -> Result<Option<Lack>, Error> {
    let by_kernel = command_line.split_whitespace().any(|word| word.starts_with("ip="));
    let interfaces = text(flat, "etc/network/interfaces")?;
    let by_program = NETWORK_PROGRAMS.iter().any(|path| flat.has_file(path));
    if by_kernel || by_program || interfaces.lines().any(|line| line.starts_with("iface ")) {
        return Ok(None);
    }
    let of_systemd = |name: &str| NETWORKS_OF_SYSTEMD.iter().any(|start| name.starts_with(start));
    let mut files = flat.children("usr/lib/systemd/network");
    files.retain(|name| !of_systemd(name));
    files.extend(flat.children("etc/systemd/network"));
    if !files.iter().any(|name| name.ends_with(".network")) {
        return Ok(Some(Lack {
            what: "the machine has no configuration of a network".to_owned(),
            mend: "`[machine]` in the recipe configures all Ethernet interfaces by DHCP".to_owned(),
        }));
    }
    let wanted = UNITS.iter().flat_map(|dir| {
        let of = |name: &String| name.ends_with(".wants") || name.ends_with(".requires");
        let dirs = flat.children(dir).into_iter().filter(of);
        dirs.flat_map(move |name| flat.children(&format!("{dir}/{name}")))
    });
    let mut wanted = wanted;
    let starts = wanted.any(|unit| unit.starts_with("systemd-networkd."));
    Ok((!starts).then(|| Lack {
        what: "the machine has a configuration of systemd-networkd, which it does not start"
            .to_owned(),
        mend: "enable it: a step `service = \"systemd-networkd\"`".to_owned(),
    }))
}

/// Names what every machine of the image would have, and each should have for itself.
fn identity(flat: &Flat) -> Result<Vec<Lack>, Error> {
    let mut found = vec![];
    let id = text(flat, "etc/machine-id")?;
    if !matches!(id.trim(), "" | "uninitialized") {
        found.push(Lack {
            what: "/etc/machine-id is the same on every machine of the image, and so are the \
                addresses that they ask for by DHCP"
                .to_owned(),
            mend: "write an empty one; `[machine]` in the recipe does".to_owned(),
        });
    }
    let is_key = |name: &String| name.starts_with("ssh_host_") && name.ends_with("_key");
    let keys: Vec<String> = flat.children("etc/ssh").into_iter().filter(is_key).collect();
    if !keys.is_empty() {
        found.push(Lack {
            what: format!(
                "everybody with the image has its host keys of SSH: /etc/ssh/{}",
                keys.join(", ")
            ),
            mend: "remove them; `[machine]` in the recipe does".to_owned(),
        });
    }
    Ok(found)
}

/// Returns the text of a file; of one that is not there, an empty one.
pub(super) fn text(flat: &Flat, path: &str) -> Result<String, Error> {
    let bytes = flat.bytes(path)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of an image of which a machine can be made.
    const GOOD: &[(&str, &str)] = &[
        ("boot/vmlinuz-6.1-test", "kernel"),
        (
            "lib/modules/6.1-test/modules.dep",
            "kernel/fs/erofs/erofs.ko:\nkernel/md/dm-verity.ko:\n",
        ),
        (
            "lib/modules/6.1-test/modules.builtin",
            "kernel/fs/overlay.ko\nkernel/fs/ext4.ko\nkernel/virtio_blk.ko\n",
        ),
        ("sbin/init", ""),
        ("usr/lib/systemd/systemd", ""),
        ("usr/lib/systemd/systemd-udevd", ""),
        ("usr/lib/systemd/boot/efi/linuxx64.efi.stub", "stub"),
        ("etc/systemd/network/80-dhcp.network", ""),
        ("etc/systemd/system/multi-user.target.wants/systemd-networkd.service", ""),
        ("etc/machine-id", ""),
        ("dev/null", ""),
        ("proc/x", ""),
        ("run/x", ""),
        ("sys/x", ""),
        ("var/x", ""),
    ];

    fn without<'a>(left_out: &[&str], more: &[(&'a str, &'a str)]) -> Flat {
        let stays = |path: &str| !left_out.iter().any(|out| path.starts_with(out));
        let files = GOOD.iter().filter(|(path, _)| stays(path)).chain(more).copied();
        Flat::of_files(&files.collect::<Vec<_>>())
    }

    fn lacks(flat: &Flat, disk: &DiskOutput) -> Vec<String> {
        match look(flat, "amd64", disk, true) {
            Err(Error::NoMachine { lacks }) => {
                assert!(lacks.iter().all(|lack| !lack.mend.is_empty()), "{lacks:?}");
                lacks.into_iter().map(|lack| lack.what).collect()
            }
            Err(other) => panic!("{other}"),
            Ok(_) => vec![],
        }
    }

    fn doubts(flat: &Flat, command_line: &str) -> Vec<String> {
        let disk = DiskOutput { command_line: command_line.to_owned(), ..DiskOutput::default() };
        let found = look(flat, "amd64", &disk, true).map_err(|error| error.to_string());
        found.expect("a machine").doubts.into_iter().map(|lack| lack.what).collect()
    }

    #[test]
    fn all_that_a_machine_lacks_is_reported_at_once() {
        let disk = DiskOutput::default();
        assert_eq!(lacks(&without(&[], &[]), &disk), [""; 0]);
        let empty = Flat::of_files(&[("a", "")]);
        let found = lacks(&empty, &disk).join("\n");
        for what in ["no kernel", "no init", "no boot stub", "/dev", "/proc", "/run", "/sys"] {
            assert!(found.contains(what), "{what}: {found}");
        }
        // Neither what firmware starts, where it starts nothing.
        let no_stub = without(&["usr/lib/systemd/boot"], &[]);
        assert_eq!(lacks(&no_stub, &disk).len(), 1);
        assert!(look(&no_stub, "amd64", &disk, false).is_ok());
        let two = [
            ("boot/vmlinuz-6.2-test", ""),
            ("lib/modules/6.2-test/modules.builtin", "erofs.ko\ndm-verity.ko\noverlay.ko\n"),
        ];
        assert_eq!(
            lacks(&without(&["sbin"], &two), &disk)[0],
            "it has several kernels (6.1-test, 6.2-test)"
        );
        let Err(error) = look(&without(&[], &[]), "riscv64", &disk, true) else { panic!("none") };
        assert!(error.to_string().contains("it is for riscv64"), "{error}");
    }

    #[test]
    fn a_kernel_that_cannot_read_its_disks_is_none() {
        let modules = "lib/modules/6.1-test/modules.";
        let with = |dep: &'static str| {
            let path = "lib/modules/6.1-test/modules.dep";
            without(&[modules], &[(path, dep)])
        };
        let disk = DiskOutput::default();
        let found = lacks(&with("virtio_blk.ko:\noverlay.ko:\n"), &disk);
        assert!(found[0].starts_with("the kernel 6.1-test has no erofs, dm_verity:"), "{found:?}");
        let writable = DiskOutput { writable: true, ..DiskOutput::default() };
        let found = lacks(&with("erofs.ko:\n"), &writable);
        assert!(found[0].starts_with("the kernel 6.1-test has no ext4:"), "{found:?}");
        let data = [("/srv/data".to_owned(), "a".to_owned())];
        let data = DiskOutput { data: data.into(), ..DiskOutput::default() };
        let erofs = "erofs.ko:\ndm-verity.ko:\noverlay.ko:\n";
        let found = lacks(&with(erofs), &data).join("\n");
        assert!(found.contains("has no ext4") && found.contains("/srv/data"), "{found}");
        let found = doubts(&with(erofs), "");
        assert!(found[0].contains("virtio_blk"), "{found:?}");
    }

    #[test]
    fn data_disks_of_a_read_only_root_need_a_directory() {
        let disk = |mount: &str, writable| DiskOutput {
            data: [(mount.to_owned(), "a".to_owned())].into(),
            writable,
            ..DiskOutput::default()
        };
        let flat = without(&[], &[("srv/data/x", "")]);
        for (mount, writable) in
            [("/srv/data", false), ("/var/lib/app", false), ("/etc/app", false), ("/opt/a", true)]
        {
            assert_eq!(lacks(&flat, &disk(mount, writable)), [""; 0], "{mount}");
        }
        for mount in ["/opt/a", "/varnish", "/srv/other"] {
            assert_eq!(lacks(&flat, &disk(mount, false)).len(), 1, "{mount}");
        }
    }

    #[test]
    fn machines_that_start_and_are_of_no_use_are_doubted() {
        assert_eq!(doubts(&without(&[], &[]), ""), [""; 0]);
        let network = |flat: &Flat, line: &str| {
            let found = doubts(flat, line);
            assert!(found.len() < 2, "{found:?}");
            found.into_iter().next().unwrap_or_default()
        };
        let none = ["etc/systemd"];
        assert!(network(&without(&none, &[]), "").contains("no configuration of a network"));
        let container = [("usr/lib/systemd/network/80-container-host0.network", "")];
        assert!(network(&without(&none, &container), "").contains("no configuration"));
        assert_eq!(network(&without(&none, &[]), "quiet ip=dhcp"), "");
        let interfaces = [("etc/network/interfaces", "auto eth0\niface eth0 inet dhcp\n")];
        assert_eq!(network(&without(&none, &interfaces), ""), "");
        assert_eq!(network(&without(&none, &[("usr/sbin/NetworkManager", "")]), ""), "");
        let idle = without(&["etc/systemd/system"], &[]);
        assert!(network(&idle, "").contains("which it does not start"));
        let udev = without(&["usr/lib/systemd/systemd-udevd"], &[]);
        assert!(doubts(&udev, "")[0].contains("no udev"));
    }

    #[test]
    fn what_machines_should_not_share_is_named() {
        for (id, shared) in [
            ("", false),
            ("\n", false),
            ("uninitialized\n", false),
            ("0123456789abcdef0123456789abcdef\n", true),
        ] {
            let found = doubts(&without(&["etc/machine-id"], &[("etc/machine-id", id)]), "");
            assert_eq!(found.len(), usize::from(shared), "{id}: {found:?}");
        }
        let keys = [
            ("etc/ssh/ssh_host_ed25519_key", ""),
            ("etc/ssh/ssh_host_ed25519_key.pub", ""),
            ("etc/ssh/ssh_config", ""),
        ];
        let found = doubts(&without(&[], &keys), "");
        assert_eq!(
            found,
            ["everybody with the image has its host keys of SSH: /etc/ssh/ssh_host_ed25519_key"]
        );
    }
}
