//! The initial RAM disk: what finds the root file system, checks it and hands the machine over.
//!
//! bake makes its own, of the kernel's modules and a few programs of the toolbox: it needs nothing
//! of the image, is the same bytes each time, and does one thing. In the archive (cpio "newc",
//! kernel Documentation/driver-api/early-userspace/buffer-format.rst):
//!
//! ```text
//! init                        the script below
//! bin/busybox, bin/dmsetup    and the libraries that they name
//! lib/modules/RELEASE/        modules for disks, file systems, verity; which need which; for which devices
//! fstab                       lines for the data disks
//! udev.rules                  how they are called, however they are attached
//! units/, data.sh             their file systems are made by this script, and only where they are blank
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Read};

/// The first program.
const INIT: &str = include_str!("init.sh");

/// What makes the file systems of data disks.
const DATA: &str = include_str!("data.sh");

/// Modules that are loaded whatever the machine is.
const ALWAYS: &[&str] = &["dm_verity", "loop", "overlay", "virtio_pci", "virtio_mmio"];

/// Modules that a machine loads which has such a device: what a root may lie on, on the hypervisors
/// and the metal that Debian's kernels know.
const DEVICES: &[&str] = &[
    "ahci",
    "ata_piix",
    "hv_storvsc",
    "hv_vmbus",
    "mptsas",
    "mptspi",
    "nvme",
    "qemu_fw_cfg",
    "sd_mod",
    "sr_mod",
    "usb_storage",
    "uas",
    "virtio_blk",
    "virtio_scsi",
    "vmw_pvscsi",
    "xen_blkfront",
    "xhci_pci",
];

/// How a data disk is mounted. Devices of a machine that is emulated on a busy host may take longer
/// than the minute and a half that systemd waits for one by itself.
const FSTAB_OPTIONS: &str =
    "defaults,x-systemd.makefs,x-systemd.growfs,x-systemd.device-timeout=4min";

/// Why there is no initial RAM disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel cannot read the root file system.
    #[error("the kernel {release} has no module {module}, which {purpose} needs")]
    Missing {
        /// The kernel.
        release: String,
        /// The module.
        module: String,
        /// What for.
        purpose: &'static str,
    },
    /// The kernel cannot read any disk.
    #[error("the kernel {release} has no module for any disk, such as virtio_blk, nvme or ahci")]
    NoDisk {
        /// The kernel.
        release: String,
    },
    /// A file of the image or of the toolbox.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The modules of a kernel, as depmod(8) describes them.
pub struct Modules<'a> {
    /// The kernel's release, such as `6.1.0-40-cloud-amd64`.
    pub release: &'a str,
    /// `modules.dep`: each module, and those that it needs, by path.
    pub dep: &'a str,
    /// `modules.alias`: which module is for which device.
    pub alias: &'a str,
    /// `modules.softdep`: which others it is better with.
    pub softdep: &'a str,
    /// `modules.builtin`: those that are part of the kernel.
    pub builtin: &'a str,
    /// Reads a module by its path in `modules.dep`.
    pub read: &'a dyn Fn(&str) -> io::Result<Vec<u8>>,
}

/// What else goes in.
pub struct Parts<'a> {
    /// Programs and libraries by path, without the first slash: `bin/busybox`, `bin/dmsetup`.
    pub programs: BTreeMap<String, Vec<u8>>,
    /// The file system of the root: a module of that name reads it.
    pub root: &'a str,
    /// Each block of it is checked, and what is written lies in memory.
    pub checked: bool,
    /// Disks for data.
    pub data: &'a [DataDisk],
}

/// A disk for data, which is no part of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDisk {
    /// Where it is mounted.
    pub mount: String,
    /// Its serial number: ASCII letters, digits, `-`, `_` and `.`.
    pub serial: String,
    /// The file system that it gets where it is blank: a module of that name reads it.
    pub fs: String,
}

impl DataDisk {
    /// Returns its line of fstab(5): made where it is blank (systemd.mount(5), systemd-makefs(8)).
    fn fstab(&self) -> String {
        let Self { mount, serial, fs } = self;
        format!("/dev/disk/by-id/bake-{serial} {mount} {fs} {FSTAB_OPTIONS} 0 2\n")
    }

    /// Returns the path of what is added to the unit that makes its file system, and the text: what
    /// is blank is decided by [`DATA`]. In the name of a unit `/` is `-`, and `-` is `\x2d`
    /// (systemd.unit(5)).
    fn unit(&self) -> (String, String) {
        let disk = format!("bake-{}", self.serial).replace('-', "\\x2d");
        let unit = format!("systemd-makefs@dev-disk-by\\x2did-{disk}.service");
        let script = "/run/bake-data/busybox sh /run/bake-data/data.sh";
        let text = format!("[Service]\nExecStart=\nExecStart={script} %f {}\n", self.fs);
        (format!("units/{unit}.d/bake.conf"), text)
    }

    /// Returns the rules of udev(7) that name it. Each way of attaching a disk has its own property
    /// for what the hypervisor's configuration calls its serial number: virtio; ATA, NVMe, Google's
    /// disks; SCSI.
    fn rules(&self) -> String {
        let name = &self.serial;
        let rule = |property| {
            let disk = "SUBSYSTEM==\"block\", ENV{DEVTYPE}==\"disk\"";
            let called = format!("ENV{{{property}}}==\"{name}\"");
            format!("{disk}, {called}, SYMLINK+=\"disk/by-id/bake-{name}\"\n")
        };
        ["ID_SERIAL", "ID_SERIAL_SHORT", "ID_SCSI_SERIAL"].map(rule).concat()
    }
}

/// Returns those of these modules that a kernel does not have.
pub fn missing<'w>(modules: &Modules<'_>, wanted: &[&'w str]) -> Vec<&'w str> {
    let known = Known::of(modules);
    let mut chosen = BTreeSet::new();
    wanted.iter().copied().filter(|module| !known.choose(module, &mut chosen)).collect()
}

/// Makes the archive, not compressed.
///
/// # Errors
/// [`Error::Missing`] where the kernel cannot read what it is given; what reading fails with.
pub fn make(modules: &Modules<'_>, parts: &Parts<'_>) -> Result<Vec<u8>, Error> {
    let known = Known::of(modules);
    let mut chosen = BTreeSet::new();
    let needed = |module: &str, purpose| {
        let (release, module) = (modules.release.to_owned(), module.to_owned());
        Error::Missing { release, module, purpose }
    };
    for module in ALWAYS {
        known.choose(module, &mut chosen);
    }
    let there: Vec<bool> = DEVICES.iter().map(|module| known.choose(module, &mut chosen)).collect();
    if !there.contains(&true) {
        return Err(Error::NoDisk { release: modules.release.to_owned() });
    }
    let checked = [("dm_verity", "checking the root"), ("overlay", "showing /etc and /var")];
    let checked = checked.into_iter().filter(|_| parts.checked);
    let purposes = std::iter::once((parts.root, "the root file system")).chain(checked);
    let data = parts.data.iter().map(|disk| (disk.fs.as_str(), "a data disk"));
    for (module, purpose) in purposes.into_iter().chain(data) {
        if !known.choose(module, &mut chosen) {
            return Err(needed(module, purpose));
        }
    }
    let dir = format!("lib/modules/{}", modules.release);
    let mut files = BTreeMap::new();
    let (mut dep, mut alias) = (String::new(), String::new());
    for path in &chosen {
        let read = |source| Error::Read { path: format!("/{dir}/{path}"), source };
        let bytes = (modules.read)(path).map_err(read)?;
        files.insert(format!("{dir}/{}", plain(path)), plain_module(path, bytes).map_err(read)?);
        let needs = known.needs.get(path.as_str()).map(Vec::as_slice).unwrap_or_default();
        let needs: String = needs.iter().map(|path| format!(" {}", plain(path))).collect();
        let _ = writeln!(dep, "{}:{needs}", plain(path));
    }
    let names: BTreeSet<String> = chosen.iter().map(|path| name(path)).collect();
    for line in modules.alias.lines() {
        let module = line.rsplit(' ').next().unwrap_or_default();
        if line.starts_with("alias ") && names.contains(&module.replace('-', "_")) {
            let _ = writeln!(alias, "{line}");
        }
    }
    files.insert(format!("{dir}/modules.dep"), dep.into_bytes());
    files.insert(format!("{dir}/modules.alias"), alias.into_bytes());
    let always = ALWAYS.iter().copied().chain([parts.root]);
    let always = always.chain(parts.data.iter().map(|disk| disk.fs.as_str()));
    let always: BTreeSet<&str> = always.filter(|name| known.paths.contains_key(*name)).collect();
    let always: String = always.into_iter().map(|module| format!("{module}\n")).collect();
    let text = |of: fn(&DataDisk) -> String| parts.data.iter().map(of).collect::<String>();
    let texts = [
        ("modules", always),
        ("fstab", text(DataDisk::fstab)),
        ("udev.rules", text(DataDisk::rules)),
        ("init", INIT.to_owned()),
        ("data.sh", DATA.to_owned()),
    ];
    let texts = texts.map(|(name, text)| (name.to_owned(), text));
    let texts = texts.into_iter().chain(parts.data.iter().map(DataDisk::unit));
    files.extend(texts.map(|(name, text)| (name, text.into_bytes())));
    files.extend(parts.programs.clone());
    Ok(archive(&files))
}

/// What depmod(8) found.
struct Known<'a> {
    /// Paths by name.
    paths: BTreeMap<String, &'a str>,
    /// Paths that a path needs.
    needs: BTreeMap<&'a str, Vec<&'a str>>,
    /// Names that a name is better with.
    better: BTreeMap<String, Vec<&'a str>>,
    builtin: BTreeSet<String>,
}

impl<'a> Known<'a> {
    fn of(modules: &Modules<'a>) -> Self {
        let rows = || modules.dep.lines().filter_map(|line| line.split_once(':'));
        let needs = rows().map(|(path, needs)| (path, needs.split_whitespace().collect()));
        let better = modules.softdep.lines().filter_map(|line| {
            let mut words = line.strip_prefix("softdep ")?.split_whitespace();
            let of = words.next()?.replace('-', "_");
            Some((of, words.filter(|word| !word.ends_with(':')).collect()))
        });
        Self {
            paths: rows().map(|(path, _)| (name(path), path)).collect(),
            needs: needs.collect(),
            better: better.collect(),
            builtin: modules.builtin.lines().map(name).collect(),
        }
    }

    /// Adds a module and what it needs; returns whether the kernel has it.
    fn choose(&self, module: &str, chosen: &mut BTreeSet<String>) -> bool {
        if self.builtin.contains(module) {
            return true;
        }
        let Some(path) = self.paths.get(module) else { return false };
        if chosen.insert((*path).to_owned()) {
            let needs = self.needs.get(path).into_iter().flatten().map(|path| name(path));
            let better = self.better.get(module).into_iter().flatten();
            for other in needs.chain(better.map(|name| name.replace('-', "_"))) {
                self.choose(&other, chosen);
            }
        }
        true
    }
}

/// The name of the module at a path: `dm_verity` of `kernel/drivers/md/dm-verity.ko.xz`.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

/// The path of a module once it is decompressed.
fn plain(path: &str) -> &str {
    [".xz", ".zst", ".gz"].iter().find_map(|end| path.strip_suffix(end)).unwrap_or(path)
}

/// Decompresses a module as its name says: the archive is compressed as a whole.
fn plain_module(path: &str, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut out = vec![];
    match path.rsplit('.').next() {
        Some("xz") => liblzma::read::XzDecoder::new(&bytes[..]).read_to_end(&mut out)?,
        Some("zst") => zstd::Decoder::new(&bytes[..])?.read_to_end(&mut out)?,
        Some("gz") => flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut out)?,
        _ => return Ok(bytes),
    };
    Ok(out)
}

/// Writes files, and the directories that they and the script need, as a cpio archive.
fn archive(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut dirs: BTreeSet<&str> = ["dev", "proc", "run", "sys", "sysroot"].into();
    for path in files.keys() {
        dirs.extend(path.match_indices('/').map(|(end, _)| &path[..end]));
    }
    let (mut out, mut number) = (vec![], 0);
    let mut entry = |path: &str, mode: u32, device: (u32, u32), bytes: &[u8]| {
        number += 1;
        let size = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (links, time) = (1, 0);
        let (path, owner, none) = ([path.as_bytes(), b"\0"].concat(), 0, 0);
        let fields = [number, mode, owner, owner, links, time, size(bytes.len()), none, none];
        out.extend(b"070701");
        for field in fields.into_iter().chain([device.0, device.1, size(path.len()), none]) {
            out.extend(format!("{field:08X}").bytes());
        }
        for part in [&path[..], bytes] {
            out.extend(part);
            out.resize(out.len().next_multiple_of(4), 0);
        }
    };
    for dir in dirs {
        entry(dir, 0o040_755, (0, 0), &[]);
    }
    // Where the kernel opens the first program's output.
    entry("dev/console", 0o020_600, (5, 1), &[]);
    for (path, bytes) in files {
        let data = path.ends_with(".ko")
            || ["lib/modules/", "units/"].iter().any(|dir| path.starts_with(dir));
        entry(path, if data { 0o100_644 } else { 0o100_755 }, (0, 0), bytes);
    }
    entry("TRAILER!!!", 0, (0, 0), &[]);
    out
}
