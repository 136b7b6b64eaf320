//! `disk`, and `qcow2`, `vmdk`, `vhd`, `vhdx`: a disk that a machine boots from: the root file system as the program of its
//! file system makes it, put together with the kernel that is in the image (see the room `disk`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::error::Error;
use super::ext4;
use super::filesystem::{self, Program, Tools};
use super::flat::Flat;
use super::options::{Format, Lost, Options};
use super::source::Image;
use crate::digest::{Digest, HashReader};
use crate::disk::initrd::{self, DataDisk, Modules, Parts};
use crate::disk::machine::{self, Boot, Machine};
use crate::disk::table::{ALIGN, Architecture};
use crate::disk::{Content, Sparse, hypervisor};
use crate::layer::{Kind, Limits, TarReader};

/// The file system that a blank data disk gets.
pub const DATA_FS: &str = "ext4";

/// Where modules are; `/lib` is a symlink to `/usr/lib`, or has it all.
const MODULES: &str = "lib/modules";

/// Writes a tar of the programs that `init` runs, and of the libraries that they name; links are
/// followed, so that each is a file.
const PROGRAMS: &str = "cd /
libraries=$(ldd usr/sbin/dmsetup | grep -o '/[^ ]*' | sed 's,^/,,')
tar -chf \"$0\" --transform='s,^usr/s\\?bin/,bin/,' usr/bin/busybox usr/sbin/dmsetup $libraries";

/// How hard the initial RAM disk is compressed; every kernel of Debian unpacks zstd.
const LEVEL: i32 = 12;

/// Makes the disk, in the file and with the directory for what waits; returns digest, bytes, and
/// what its root file system does not hold.
pub(super) fn make(
    image: &Image<'_>,
    flat: &Flat,
    format: Format,
    options: &Options,
    tools: &dyn Tools,
    (out, spool): (&File, &Path),
) -> Result<(Digest, u64, Vec<Lost>), Error> {
    let copied = |source| Error::Copy { source };
    let lost = if format == Format::Disk {
        raw_disk(image, flat, options, tools, (out, spool))?
    } else {
        let raw = temporary(spool)?;
        let lost = raw_disk(image, flat, options, tools, (&raw, spool))?;
        convert(image, flat, format, tools, raw, out)?;
        lost
    };
    let mut written = out;
    written.rewind().map_err(copied)?;
    let mut reader = HashReader::new(written);
    io::copy(&mut reader, &mut io::sink()).map_err(copied)?;
    let (_, digest, bytes) = reader.finish();
    Ok((digest, bytes, lost))
}

/// Writes a raw disk as the format of a hypervisor.
fn convert(
    image: &Image<'_>,
    flat: &Flat,
    format: Format,
    tools: &dyn Tools,
    raw: File,
    out: &File,
) -> Result<(), Error> {
    let copied = |source| Error::Copy { source };
    let (seed, size) = (seed(image), raw.metadata().map_err(copied)?.len());
    let raw = Content::File(raw, size);
    let by_program = |options: &str| {
        let script = format!("{CONVERT} {options} \"$0.raw\" \"$0\"\nrm \"$0.raw\"");
        let program = Program::shell(&script);
        let made = tools.run(&program, &mut |to| raw.copy(to).map_err(copied))?;
        filesystem::copy(made, out).map_err(copied)
    };
    let settled = match format {
        Format::Vhd => {
            raw.copy(&mut Sparse::new(out, 0)).map_err(copied)?;
            let footer = hypervisor::vhd_footer(size, &seed, flat.newest());
            return out.write_all_at(&footer, size).map_err(copied);
        }
        // As clouds and VMware take it to be imported.
        Format::Vmdk => {
            by_program("-O vmdk -o subformat=streamOptimized,adapter_type=lsilogic")?;
            hypervisor::settle_vmdk(out, &seed)
        }
        Format::Vhdx => {
            by_program("-O vhdx -o subformat=dynamic")?;
            hypervisor::settle_vhdx(out, &seed)
        }
        _ => return by_program("-O qcow2").map(drop),
    };
    settled.map_err(|source| Error::Disk { source })
}

/// Makes a file of all its zeros again, and the other format of that.
const CONVERT: &str = "cat >\"$0.raw\"\nqemu-img convert -q -f raw";

/// Makes the disk in `out`, an empty file; returns what its root file system does not hold.
fn raw_disk(
    image: &Image<'_>,
    flat: &Flat,
    options: &Options,
    tools: &dyn Tools,
    (out, spool): (&File, &Path),
) -> Result<Vec<Lost>, Error> {
    let firmware = |architecture| stub(flat, architecture).map(Some);
    let ((), lost) = with_machine(image, flat, options, (tools, spool), firmware, |machine| {
        machine::write(machine, out).map(drop).map_err(|source| Error::Disk { source })
    })?;
    Ok(lost)
}

/// Makes what a machine consists of, and hands it to `work`; returns what that does, and what the
/// root file system does not hold. `stub`: finds systemd's boot stub, where firmware starts it.
pub(super) fn with_machine<T>(
    image: &Image<'_>,
    flat: &Flat,
    options: &Options,
    (tools, spool): (&dyn Tools, &Path),
    stub: impl FnOnce(Architecture) -> Result<Option<Vec<u8>>, Error>,
    work: impl FnOnce(Machine<'_>) -> Result<T, Error>,
) -> Result<(T, Vec<Lost>), Error> {
    let architecture = match image.config.architecture.as_str() {
        "amd64" => Architecture::Amd64,
        "arm64" => Architecture::Arm64,
        other => return no_machine(format!("it is for {other}, and disks are for amd64 or arm64")),
    };
    let disk = &options.disk;
    let (release, kernel) = kernel(flat)?;
    let stub = stub(architecture)?;
    init(flat)?;
    let os_release = match flat.bytes("etc/os-release")? {
        None => flat.bytes("usr/lib/os-release")?,
        found => found,
    };
    let kind = if disk.writable { "ext4" } else { "erofs" };
    let data: Vec<DataDisk> = disk
        .data
        .iter()
        .map(|(mount, serial)| {
            let (mount, serial, fs) = (mount.clone(), serial.clone(), DATA_FS.to_owned());
            DataDisk { mount, serial, fs }
        })
        .collect();
    let initrd = initrd(flat, &release, kind, &data, tools)?;

    // The size that was asked for is that of the disk. A root that is written to has what the boot
    // partition and the tables leave of it, one that is not has what it needs.
    let boot = stub.map(|stub| {
        let bytes = [&stub, &kernel, &initrd].map(|part| part.len() as u64);
        let esp = disk.esp.unwrap_or_else(|| machine::esp(bytes.iter().sum()));
        Boot { stub, esp: Some(esp) }
    });
    let esp = boot.as_ref().and_then(|boot| boot.esp).unwrap_or(0);
    let rest = |size: u64| size.saturating_sub(esp.next_multiple_of(ALIGN) + 2 * ALIGN);
    let of_root =
        Options { size: options.size.filter(|_| disk.writable).map(rest), ..options.clone() };
    let (root, lost) = if disk.writable {
        let root = temporary(spool)?;
        let (_, _, lost) = ext4::make(image, flat, &of_root, &root)?;
        (root, lost)
    } else {
        filesystem::made(image, flat, Format::Erofs, &of_root, tools)?
    };
    let root_size = root.metadata().map_err(|source| Error::Copy { source })?.len();
    let machine = Machine {
        label: label(image),
        architecture,
        seed: seed(image),
        time: flat.newest(),
        root: &root,
        root_size,
        root_kind: kind,
        checked: !disk.writable,
        kernel,
        release,
        initrd,
        os_release: os_release.unwrap_or_default(),
        command_line: disk.command_line.clone(),
        size: options.size,
        boot,
    };
    Ok((work(machine)?, lost))
}

fn temporary(spool: &Path) -> Result<File, Error> {
    let what = "make a temporary file in";
    let failed = |source| Error::System { what, path: spool.to_owned(), source };
    tempfile::tempfile_in(spool).map_err(failed)
}

fn no_machine<T>(why: impl Into<String>) -> Result<T, Error> {
    Err(Error::NoMachine { why: why.into() })
}

/// What all identifiers are made of.
fn seed(image: &Image<'_>) -> [u8; 32] {
    Sha256::digest(image.source.manifest.digest.to_string()).into()
}

/// What the root's partition is called: at most 36 characters, with room for `_verity`.
fn label(image: &Image<'_>) -> String {
    let reference = image.source.reference;
    let version = reference.version.as_deref().unwrap_or("0");
    let name = reference.name.rsplit('/').next().unwrap_or_default();
    let name = format!("{name}_{version}");
    match name.len() {
        ..=29 => name,
        // Still one name for one version.
        _ => format!("{}_{}", &name[..20], &image.source.manifest.digest.hex()[..8]),
    }
}

/// Finds the one kernel that the image has, `/boot/vmlinuz-RELEASE` or
/// `/usr/lib/modules/RELEASE/vmlinuz`; returns its release and its bytes.
fn kernel(flat: &Flat) -> Result<(String, Vec<u8>), Error> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for release in flat.children("usr/lib/modules").into_iter().chain(flat.children("lib/modules"))
    {
        for path in [format!("boot/vmlinuz-{release}"), format!("{MODULES}/{release}/vmlinuz")] {
            if flat.has_file(&path) {
                found.insert(release.clone(), path);
            }
        }
    }
    let releases = found.keys().cloned().collect::<Vec<_>>().join(", ");
    if found.len() > 1 {
        return no_machine(format!("it has several kernels ({releases}); remove all but one"));
    }
    let Some((release, path)) = found.pop_first() else {
        return no_machine(
            "it has no kernel with modules; install one, such as linux-image-cloud-amd64",
        );
    };
    let bytes = flat.bytes(&path)?.unwrap_or_default();
    Ok((release, bytes))
}

/// Reads systemd's boot stub out of the image.
fn stub(flat: &Flat, architecture: Architecture) -> Result<Vec<u8>, Error> {
    let path = match architecture {
        Architecture::Amd64 => "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
        Architecture::Arm64 => "usr/lib/systemd/boot/efi/linuxaa64.efi.stub",
    };
    match flat.bytes(path)? {
        Some(bytes) => Ok(bytes),
        None => no_machine(format!("it has no boot stub (/{path}); install systemd-boot-efi")),
    }
}

/// Makes sure that there is something to start.
fn init(flat: &Flat) -> Result<(), Error> {
    if ["sbin/init", "usr/lib/systemd/systemd", "bin/init"].iter().any(|path| flat.has_file(path)) {
        return Ok(());
    }
    no_machine("it has no init (/sbin/init); install systemd-sysv")
}

/// Makes the initial RAM disk, compressed.
fn initrd(
    flat: &Flat,
    release: &str,
    root: &str,
    data: &[DataDisk],
    tools: &dyn Tools,
) -> Result<Vec<u8>, Error> {
    let dir = format!("{MODULES}/{release}");
    let text = |name: &str| -> Result<String, Error> {
        let bytes = flat.bytes(&format!("{dir}/{name}"))?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let (dep, alias) = (text("modules.dep")?, text("modules.alias")?);
    let (softdep, builtin) = (text("modules.softdep")?, text("modules.builtin")?);
    let read = |path: &str| {
        let found = flat.bytes(&format!("{dir}/{path}")).map_err(io::Error::other)?;
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    let (dep, alias, softdep, builtin) = (&dep, &alias, &softdep, &builtin);
    let modules = Modules { release, dep, alias, softdep, builtin, read: &read };
    let parts = Parts { programs: programs(tools)?, root, data };
    let archive = initrd::make(&modules, &parts).map_err(|source| Error::Initrd { source })?;
    zstd::encode_all(&archive[..], LEVEL).map_err(|source| Error::Copy { source })
}

/// The programs of the initial RAM disk and the libraries that they name, as the tools have them:
/// in a tar, which a program of theirs writes.
fn programs(tools: &dyn Tools) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let made = tools.run(&Program::shell(PROGRAMS), &mut |_| Ok(()))?;
    let wrong = |source| Error::Write { format: "initial RAM disk", source };
    let mut out = BTreeMap::new();
    let mut reader = TarReader::new(made, &Limits::default());
    while let Some(entry) = reader.next().map_err(wrong)? {
        if entry.kind != Kind::File {
            continue;
        }
        let mut bytes = vec![];
        reader.read_to_end(&mut bytes).map_err(|source| Error::Copy { source })?;
        out.insert(String::from_utf8_lossy(&entry.path).into_owned(), bytes);
    }
    Ok(out)
}
