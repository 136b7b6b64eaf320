//! A whole disk of its parts.
//!
//! ```text
//! esp     FAT32: EFI/BOOT/BOOTX64.EFI, the unified kernel image
//! root    the file system, as it is
//! verity  its hash tree, if it is checked
//! ```
//! The first is missing where a hypervisor starts the kernel by itself. A disk with room for the
//! next version has further ones, which are empty, and a boot loader that chooses:
//!
//! ```text
//! esp     EFI/BOOT/BOOTX64.EFI, systemd-boot; EFI/Linux/NAME_VERSION.efi, the unified kernel image
//! root    verity       as above, as large as any version is to be
//! _empty  _empty       the same once more
//! ```
//! The names of the partitions are those that systemd-sysupdate gives to versions
//! (`NAME_VERSION`, `NAME_VERSION_verity`), so that a second version can lie beside the first.

use std::collections::BTreeMap;
use std::fs::File;

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::content::{Content, Sparse};
use super::error::{Error, doing};
use super::table::{ALIGN, Architecture, Kind, Partition};
use super::{fat, table, uki, verity};

/// What firmware starts by itself (UEFI 2.10, 3.5.1.1).
const BOOT_AMD64: &str = "EFI/BOOT/BOOTX64.EFI";

/// What systemd-sysupdate takes for a partition that nothing uses (sysupdate.d(5)).
const EMPTY: &str = "_empty";

/// Nothing is waited for, and nobody at the console changes a command line (loader.conf(5)).
const LOADER: &str = "timeout 0\neditor no\n";

/// What a disk is made of.
#[derive(Debug)]
pub struct Machine<'a> {
    /// `NAME_VERSION`: what the root's partition is called.
    pub label: String,
    /// What it is made for.
    pub architecture: Architecture,
    /// From which all identifiers are derived: the digest of the image.
    pub seed: [u8; 32],
    /// The time of the files in the boot partition, in seconds since 1970.
    pub time: i64,
    /// The root's file system, from its beginning, and its bytes (a multiple of 4096).
    pub root: &'a File,
    /// As above.
    pub root_size: u64,
    /// The file system: `erofs`, `ext4`.
    pub root_kind: &'a str,
    /// Whether it is read-only and each block of it is checked; else it is written to.
    pub checked: bool,
    /// The kernel.
    pub kernel: Vec<u8>,
    /// The kernel's release.
    pub release: String,
    /// The initial RAM disk, compressed as the kernel can.
    pub initrd: Vec<u8>,
    /// os-release(5) of the image.
    pub os_release: Vec<u8>,
    /// What the person wants on the kernel's command line.
    pub command_line: String,
    /// Bytes of the whole disk; none: as few as there can be.
    pub size: Option<u64>,
    /// What firmware starts; none: a hypervisor starts the kernel by itself.
    pub boot: Option<Boot>,
}

/// What firmware starts.
#[derive(Debug)]
pub struct Boot {
    /// systemd's boot stub.
    pub stub: Vec<u8>,
    /// Bytes of the boot partition; none: as few as there can be.
    pub esp: Option<u64>,
    /// Room for the next version.
    pub next: Option<Next>,
}

/// Room for the next version of a machine.
#[derive(Debug)]
pub struct Next {
    /// systemd-boot: starts the newest version that there is.
    pub loader: Vec<u8>,
    /// Bytes of each of the two partitions for roots.
    pub slot: u64,
}

/// What differs between versions of a machine.
#[derive(Debug)]
pub struct Version {
    /// The unified kernel image; none where a hypervisor starts the kernel by itself.
    pub program: Option<Vec<u8>>,
    /// The whole of the kernel's command line.
    pub command_line: String,
    /// The root hash, if the root is checked.
    pub root_hash: Option<[u8; 32]>,
    /// The hash tree; empty if the root is not checked.
    pub tree: Vec<u8>,
    /// What the partitions of root and tree are identified by.
    pub ids: [Uuid; 2],
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Bytes of the disk.
    pub size: u64,
    /// The whole of the kernel's command line.
    pub command_line: String,
    /// The root hash, if the root is checked.
    pub root_hash: Option<[u8; 32]>,
}

/// Returns the bytes of a boot partition for a stub, a kernel and an initial RAM disk of so many
/// bytes together: as few as there can be, and some for what goes with them.
#[must_use]
pub fn esp(bytes: u64) -> u64 {
    let whole = usize::try_from(bytes + (1 << 20)).unwrap_or(usize::MAX);
    let files = BTreeMap::from([(BOOT_AMD64.to_owned(), Content::Bytes(vec![0; whole]))]);
    let volume = fat::Volume { label: String::new(), serial: 0, time: 0, files };
    fat::least(&volume, ALIGN)
}

/// Computes what a version consists of, besides its root.
///
/// # Errors
/// [`Error::Stub`]; what reading the root fails with.
pub fn version(machine: &mut Machine<'_>) -> Result<Version, Error> {
    let Machine { ref label, seed, root, root_size, checked, .. } = *machine;
    let id = |role: &str| identifier(&seed, role);
    let salt: [u8; 32] = Sha256::new().chain_update(seed).chain_update("salt").finalize().into();
    let mut tree = vec![];
    let hash = match checked {
        true => Some(verity::write(root, root_size, id("verity"), &salt, &mut tree)?),
        false => None,
    };
    let check = hash.map(|hash| {
        let blocks = root_size / verity::BLOCK;
        format!("bake.verity={blocks}:{}:{} systemd.verity=no", hex(&hash), hex(&salt))
    });
    // What the person wrote comes last: of the same word twice, the last one counts.
    let words = [
        Some(format!("bake.root={label} bake.fs={}", machine.root_kind)),
        check,
        Some(machine.command_line.trim().to_owned()),
    ];
    let command_line = words.into_iter().flatten().filter(|word| !word.is_empty());
    let command_line = command_line.collect::<Vec<_>>().join(" ");
    // Discoverable Partitions Specification: a root and its tree are found by the halves of the
    // hash.
    let ids = match hash {
        Some(hash) => [0, 16].map(|at| {
            let half = hash[at..at + 16].try_into().expect("a half of 32 bytes");
            Uuid::from_bytes(half)
        }),
        None => [id("root"), id("verity")],
    };
    let program = program(machine, &command_line)?;
    Ok(Version { program, command_line, root_hash: hash, tree, ids })
}

/// Writes the disk into `out`, an empty file.
///
/// # Errors
/// [`Error::TooSmall`] where it does not fit into the sizes that are asked for, [`Error::Name`],
/// [`Error::Stub`]; what reading and writing fails with.
pub fn write(mut machine: Machine<'_>, out: &File) -> Result<Made, Error> {
    let version = version(&mut machine)?;
    let Machine { ref label, architecture, seed, time, root, root_size, checked, .. } = machine;
    let (size, boot) = (machine.size, machine.boot);
    let id = |role: &str| identifier(&seed, role);
    let next = boot.as_ref().and_then(|boot| boot.next.as_ref());
    let slot = next.map_or(root_size, |next| next.slot);
    if slot < root_size {
        return Err(Error::TooSmall { what: "the root", size: slot, needed: root_size });
    }
    // As large as the tree of the largest root that fits.
    let tree = if checked { verity::size(slot) } else { 0 };
    let (root_kind, tree_kind) = (Kind::Root(architecture), Kind::RootVerity(architecture));
    let one = |name: &str, kind, id, size| Partition {
        name: name.to_owned(),
        kind,
        id,
        size,
        read_only: checked,
    };
    let mut partitions = vec![one(label, root_kind, version.ids[0], slot)];
    if checked {
        partitions.push(one(&format!("{label}_verity"), tree_kind, version.ids[1], tree));
    }
    if next.is_some() {
        partitions.push(one(EMPTY, root_kind, id("next root"), slot));
        partitions.push(one(EMPTY, tree_kind, id("next verity"), tree));
    }
    let mut volume = None;
    if let (Some(boot), Some(program)) = (boot, version.program) {
        let program = Content::Bytes(program);
        let default = match architecture {
            Architecture::Amd64 => BOOT_AMD64,
            Architecture::Arm64 => "EFI/BOOT/BOOTAA64.EFI",
        };
        let files = match boot.next {
            None => vec![(default.to_owned(), program)],
            Some(Next { loader, .. }) => vec![
                (default.to_owned(), Content::Bytes(loader)),
                (format!("EFI/Linux/{label}.efi"), program),
                ("loader/loader.conf".to_owned(), Content::Bytes(LOADER.into())),
            ],
        };
        let [a, b, c, d, ..] = seed;
        let serial = u32::from_le_bytes([a, b, c, d]);
        let files = files.into_iter().collect();
        let esp = fat::Volume { label: "ESP".to_owned(), serial, time, files };
        let size = boot.esp.unwrap_or_else(|| fat::least(&esp, ALIGN));
        let (name, kind, id) = ("esp".to_owned(), Kind::Esp, id("esp"));
        partitions.insert(0, Partition { name, kind, id, size, read_only: false });
        volume = Some((esp, size));
    }
    let size = size.unwrap_or_else(|| table::least(&partitions));
    let mut starts = table::write(out, id("disk"), &partitions, size)?;
    if let Some((volume, bytes)) = volume {
        fat::write(&volume, bytes, &mut Sparse::new(out, starts.remove(0)))?;
    }
    let failed = doing("write the root of a disk");
    let whole = |from: &Content, at| from.copy(&mut Sparse::new(out, at)).map_err(&failed);
    let again = root.try_clone().map_err(&failed)?;
    whole(&Content::File(again, root_size), starts[0])?;
    if checked {
        whole(&Content::Bytes(version.tree), starts[1])?;
    }
    let Version { command_line, root_hash, .. } = version;
    Ok(Made { size, command_line, root_hash })
}

/// Joins what firmware starts; none where a hypervisor starts the kernel by itself.
fn program(machine: &mut Machine<'_>, command_line: &str) -> Result<Option<Vec<u8>>, Error> {
    let Some(Boot { stub, .. }) = &machine.boot else { return Ok(None) };
    let section = |name, bytes| uki::Section { name, content: Content::Bytes(bytes) };
    let sections = [
        section(".osrel", std::mem::take(&mut machine.os_release)),
        section(".cmdline", [command_line.as_bytes(), b"\0"].concat()),
        section(".uname", std::mem::take(&mut machine.release).into_bytes()),
        section(".initrd", std::mem::take(&mut machine.initrd)),
        section(".linux", std::mem::take(&mut machine.kernel)),
    ];
    let mut image = Vec::with_capacity(usize::try_from(uki::size(stub, &sections)?).unwrap_or(0));
    uki::write(stub, &sections, &mut image)?;
    Ok(Some(image))
}

/// Returns what the root's partition of an image is called: at most 36 characters, with room for
/// `_verity`. `digest`: 64 hexadecimal digits.
#[must_use]
pub fn root_name(name: &str, version: &str, digest: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or_default();
    let name = format!("{name}_{version}");
    match name.len() {
        ..=29 => name,
        // Still one name for one version.
        _ => format!("{}_{}", name.get(..20).unwrap_or(&name), digest.get(..8).unwrap_or(digest)),
    }
}

/// An identifier that is derived from the seed (RFC 9562, version 8).
#[must_use]
pub fn identifier(seed: &[u8; 32], role: &str) -> Uuid {
    super::identifier(&[seed, role.as_bytes()])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
