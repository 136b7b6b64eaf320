//! What a machine is made of, as QEMU's command line.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::agent::{FW_CFG_AGENT, FW_CFG_UNIT};

/// In the directory of a machine: what answers inside.
pub(super) const AGENT_FILE: &str = "agent.sh";

/// In the directory of a machine: the unit that runs it.
pub(super) const UNIT_FILE: &str = "agent.service";

/// In the directory of a machine: the socket of its serial console.
pub const CONSOLE: &str = "console";

/// In the directory of a machine: the socket to what answers inside.
pub(super) const PORT: &str = "port";

/// In the directory of a machine: the socket of QEMU itself (QMP). It is there before the console
/// is.
pub const MONITOR: &str = "monitor";

/// Who carries out what the machine computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// The processor, through the kernel.
    Kvm,
    /// QEMU.
    Tcg,
}

impl Accelerator {
    /// How people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "emulated",
        }
    }
}

/// A disk for data.
#[derive(Debug, Clone)]
pub struct DataDisk {
    /// Its file, raw.
    pub path: PathBuf,
    /// By which the machine finds it.
    pub serial: String,
    /// What is written is gone afterwards.
    pub snapshot: bool,
}

/// What a machine is given when it starts: a credential of systemd (systemd.exec(5),
/// "Credentials").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// By which a unit asks for it: at most [`CREDENTIAL_NAME`] characters.
    pub name: String,
    /// The file that holds it.
    pub path: PathBuf,
}

/// Most characters of a credential's name: 55 are those of a name of `fw_cfg` (QEMU's
/// docs/specs/fw_cfg.rst), less what all credentials have in common.
pub const CREDENTIAL_NAME: usize = 55 - FW_CFG_CREDENTIALS.len();

const FW_CFG_CREDENTIALS: &str = "opt/io.systemd.credentials/";

/// What a machine says that it is, before anything of it runs (SMBIOS type 1, "System
/// Information"; DSP0134 3.6.0, 7.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The image's name.
    pub product: String,
    /// The image's version.
    pub version: String,
    /// The digest of its manifest.
    pub digest: String,
}

/// A port that leads into the machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// `127.0.0.1`, or another address of the host.
    pub address: String,
    /// Of the host.
    pub outside: u16,
    /// Of the machine.
    pub inside: u16,
}

/// A machine.
#[derive(Debug)]
pub struct Hardware<'a> {
    /// Who computes.
    pub accelerator: Accelerator,
    /// Processors.
    pub processors: usize,
    /// Bytes of memory.
    pub memory: u64,
    /// UEFI firmware, raw.
    pub firmware: &'a Path,
    /// The disk that it boots from.
    pub disk: &'a Path,
    /// What that is: `raw`, `qcow2`.
    pub format: &'a str,
    /// What is written to it is gone afterwards.
    pub snapshot: bool,
    /// Further disks.
    pub data: &'a [DataDisk],
    /// A disk that is only read, raw: what cloud-init in it is given.
    pub seed: Option<&'a Path>,
    /// What it is given.
    pub credentials: &'a [Credential],
    /// What it is, where that is known.
    pub identity: Option<&'a Identity>,
    /// Ports that lead inside.
    pub ports: &'a [Port],
    /// It reaches nothing but what comes through its ports.
    pub alone: bool,
    /// It is under test: something answers inside.
    pub visited: bool,
    /// A directory for sockets, that of the console among them; nothing starts before somebody
    /// listens there.
    pub dir: &'a Path,
}

impl Hardware<'_> {
    /// Returns the program and its arguments.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        let mut argv: Vec<String> = vec!["qemu-system-x86_64".to_owned()];
        let mut add = |words: &[&str]| argv.extend(words.iter().map(|word| (*word).to_owned()));
        add(&["-M", "q35,smm=off", "-nodefaults", "-no-user-config", "-no-reboot"]);
        add(&["-display", "none", "-device", "virtio-rng-pci"]);
        match self.accelerator {
            Accelerator::Kvm => add(&["-accel", "kvm", "-cpu", "host"]),
            Accelerator::Tcg => add(&["-accel", "tcg,thread=multi", "-cpu", "max"]),
        }
        add(&["-smp", &self.processors.max(1).to_string()]);
        add(&["-m", &format!("{}M", self.memory >> 20)]);
        let firmware = value(self.firmware);
        add(&["-drive", &format!("if=pflash,format=raw,readonly=on,file={firmware}")]);
        let (disk, format) = (value(self.disk), self.format);
        let kept = if self.snapshot { "snapshot=on" } else { "snapshot=off" };
        add(&["-drive", &format!("if=none,id=root,format={format},{kept},file={disk}")]);
        add(&["-device", "virtio-blk-pci,drive=root,bootindex=0"]);
        for (n, data) in self.data.iter().enumerate() {
            let kept = if data.snapshot { "snapshot=on" } else { "snapshot=off" };
            let (file, serial) = (value(&data.path), &data.serial);
            add(&["-drive", &format!("if=none,id=data{n},format=raw,{kept},file={file}")]);
            add(&["-device", &format!("virtio-blk-pci,drive=data{n},serial={serial}")]);
        }
        if let Some(seed) = self.seed.map(value) {
            add(&["-drive", &format!("if=none,id=seed,format=raw,readonly=on,file={seed}")]);
            add(&["-device", "virtio-blk-pci,drive=seed"]);
        }
        for Credential { name, path } in self.credentials {
            let file = value(path);
            add(&["-fw_cfg", &format!("name={FW_CFG_CREDENTIALS}{name},file={file}")]);
        }
        if let Some(Identity { product, version, digest }) = self.identity {
            // The manufacturer stays QEMU: programs know by it that they are in a machine of QEMU.
            let what = format!("type=1,product={product},version={version},sku={digest}");
            add(&["-smbios", &what]);
        }
        let mut network = "user,id=net".to_owned();
        if self.alone {
            network.push_str(",restrict=on");
        }
        for Port { address, outside, inside } in self.ports {
            network.push_str(&format!(",hostfwd=tcp:{address}:{outside}-:{inside}"));
        }
        add(&["-netdev", &network, "-device", "virtio-net-pci,netdev=net,romfile="]);
        let dir = value(self.dir);
        let socket = |id: &str, name: &str, wait: &str| {
            format!("socket,id={id},path={dir}/{name},server=on,wait={wait}")
        };
        // In this order: whoever listens to the console has the others already.
        add(&["-chardev", &socket("monitor", MONITOR, "off")]);
        add(&["-mon", "chardev=monitor,mode=control"]);
        if self.visited {
            add(&["-chardev", &socket("port", PORT, "off"), "-device", "virtio-serial-pci"]);
            add(&["-device", "virtserialport,chardev=port,name=bake"]);
            let given = [(FW_CFG_AGENT, AGENT_FILE), (FW_CFG_UNIT, UNIT_FILE)];
            for (name, file) in given {
                add(&["-fw_cfg", &format!("name={name},file={dir}/{file}")]);
            }
        }
        add(&["-chardev", &socket("console", CONSOLE, "on"), "-serial", "chardev:console"]);
        argv
    }
}

/// A path as the value of an option: a comma in it is written twice (qemu(1)).
fn value(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine<'a>(data: &'a [DataDisk], ports: &'a [Port]) -> Hardware<'a> {
        Hardware {
            accelerator: Accelerator::Tcg,
            processors: 2,
            memory: 1 << 30,
            firmware: Path::new("/fw"),
            disk: Path::new("/a,b.raw"),
            format: "raw",
            snapshot: true,
            data,
            seed: None,
            credentials: &[],
            identity: None,
            ports,
            alone: true,
            visited: true,
            dir: Path::new("/d"),
        }
    }

    #[test]
    fn nothing_is_written_to_the_disk_and_only_ports_lead_inside() {
        let data = [DataDisk { path: "/data".into(), serial: "app".to_owned(), snapshot: false }];
        let port = Port { address: "127.0.0.1".to_owned(), outside: 8080, inside: 80 };
        let argv = machine(&data, &[port]).argv().join(" ");
        for words in [
            "if=none,id=root,format=raw,snapshot=on,file=/a,,b.raw",
            "if=none,id=data0,format=raw,snapshot=off,file=/data",
            "virtio-blk-pci,drive=data0,serial=app",
            "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:8080-:80",
            "-m 1024M",
            "name=opt/bake/agent,file=/d/agent.sh",
        ] {
            assert!(argv.contains(words), "{words} in {argv}");
        }
    }

    #[test]
    fn a_machine_is_given_what_is_its_own_by_file_and_says_what_it_is() {
        let given = [Credential { name: "db.password".to_owned(), path: "/a,b".into() }];
        let identity = Identity {
            product: "web".to_owned(),
            version: "1.0.0".to_owned(),
            digest: "sha256:00".to_owned(),
        };
        let machine =
            Hardware { credentials: &given, identity: Some(&identity), ..machine(&[], &[]) };
        let machine = Hardware { seed: Some(Path::new("/s,d")), ..machine };
        let argv = machine.argv().join(" ");
        for words in [
            "-fw_cfg name=opt/io.systemd.credentials/db.password,file=/a,,b",
            "-drive if=none,id=seed,format=raw,readonly=on,file=/s,,d -device virtio-blk-pci,drive=seed",
            "-smbios type=1,product=web,version=1.0.0,sku=sha256:00",
        ] {
            assert!(argv.contains(words), "{words} in {argv}");
        }
    }

    #[test]
    fn a_machine_for_people_has_nothing_that_answers_inside() {
        let machine = Hardware { visited: false, alone: false, ..machine(&[], &[]) };
        let argv = machine.argv().join(" ");
        assert!(!argv.contains("opt/bake") && !argv.contains("restrict"), "{argv}");
        assert!(!argv.contains("virtserialport") && argv.contains("/d/console"), "{argv}");
        // It has a power button all the same, and it is there before its console.
        assert!(argv.find("/d/monitor") < argv.find("/d/console"), "{argv}");
        assert!(argv.contains("-mon chardev=monitor,mode=control"), "{argv}");
    }
}
