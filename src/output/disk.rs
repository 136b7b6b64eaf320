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
use super::lint::{self, MODULES};
use super::options::{DATA_FS, Format, Lack, Options, Remark};
use super::source::Image;
use super::sysupdate;
use crate::digest::{Digest, HashReader};
use crate::disk::initrd::{self, DataDisk, Modules, Parts};
use crate::disk::machine::{self, Boot, Machine, Next};
use crate::disk::table::ALIGN;
use crate::disk::{Content, Sparse, hypervisor};
use crate::layer::{Kind, Limits, TarReader};

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
) -> Result<(Digest, u64, Vec<Remark>), Error> {
    let copied = |source| Error::Copy { source };
    let remarks = if format == Format::Disk {
        raw_disk(image, flat, options, tools, (out, spool))?
    } else {
        let raw = temporary(spool)?;
        let remarks = raw_disk(image, flat, options, tools, (&raw, spool))?;
        convert(image, flat, format, tools, raw, out)?;
        remarks
    };
    let mut written = out;
    written.rewind().map_err(copied)?;
    let mut reader = HashReader::new(written);
    io::copy(&mut reader, &mut io::sink()).map_err(copied)?;
    let (_, digest, bytes) = reader.finish();
    Ok((digest, bytes, remarks))
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
) -> Result<Vec<Remark>, Error> {
    let ((), remarks) = with_machine(image, flat, options, (tools, spool), true, |machine| {
        machine::write(machine, out).map(drop).map_err(|source| Error::Disk { source })
    })?;
    Ok(remarks)
}

/// Makes what a machine consists of, and hands it to `work`; returns what that does, and what there
/// is to know of the machine. `by_firmware`: systemd's boot stub is part of it.
pub(super) fn with_machine<T>(
    image: &Image<'_>,
    flat: &Flat,
    options: &Options,
    (tools, spool): (&dyn Tools, &Path),
    by_firmware: bool,
    work: impl FnOnce(Machine<'_>) -> Result<T, Error>,
) -> Result<(T, Vec<Remark>), Error> {
    let disk = &options.disk;
    let label = match disk.slot {
        None => label(image),
        Some(_) => versioned_label(image)?,
    };
    let found = lint::look(flat, &image.config.architecture, disk, by_firmware)?;
    let lint::Found { architecture, release, kernel, stub, loader, doubts } = found;
    let kernel = flat.bytes(&kernel)?.unwrap_or_default();
    let bytes = |path: &str| flat.bytes(path).map(Option::unwrap_or_default);
    let (stub, loader) = (stub.map(bytes).transpose()?, loader.map(bytes).transpose()?);
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
        let bytes: u64 = [&stub, &kernel, &initrd].map(|part| part.len() as u64).iter().sum();
        let next = disk.slot.zip(loader).map(|(slot, loader)| Next { loader, slot });
        // Of two versions, each half as large again.
        let bytes = next.as_ref().map_or(bytes, |next| 3 * bytes + next.loader.len() as u64);
        let esp = disk.esp.unwrap_or_else(|| machine::esp(bytes));
        Boot { stub, esp: Some(esp), next }
    });
    let esp = boot.as_ref().and_then(|boot| boot.esp).unwrap_or(0);
    let rest = |size: u64| size.saturating_sub(esp.next_multiple_of(ALIGN) + 2 * ALIGN);
    let of_root =
        Options { size: options.size.filter(|_| disk.writable).map(rest), ..options.clone() };
    let (root, lost) = if disk.writable {
        let root = temporary(spool)?;
        let (_, _, lost) =
            ext4::make(image, flat, &of_root, &root).map_err(|error| match error {
                // What is too small is the disk.
                Error::TooSmall { size, least } => {
                    let around = options.size.map_or(0, |whole| whole - size);
                    Error::TooSmall { size: size + around, least: least + around }
                }
                other => other,
            })?;
        (root, lost)
    } else {
        filesystem::made(image, flat, Format::Erofs, &of_root, tools)?
    };
    let root_size = root.metadata().map_err(|source| Error::Copy { source })?.len();
    let machine = Machine {
        label,
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
    let remarks = lost.into_iter().map(Remark::from).chain(doubts.into_iter().map(Remark::Doubt));
    Ok((work(machine)?, remarks.collect()))
}

fn temporary(spool: &Path) -> Result<File, Error> {
    let what = "make a temporary file in";
    let failed = |source| Error::System { what, path: spool.to_owned(), source };
    tempfile::tempfile_in(spool).map_err(failed)
}

/// What all identifiers are made of.
fn seed(image: &Image<'_>) -> [u8; 32] {
    Sha256::digest(image.source.manifest.digest.to_string()).into()
}

/// What the root's partition is called.
fn label(image: &Image<'_>) -> String {
    let reference = image.source.reference;
    let version = reference.version.as_deref().unwrap_or("0");
    machine::root_name(&reference.name, version, &image.source.manifest.digest.hex())
}

/// The same where systemd-sysupdate reads the version in it.
pub(super) fn versioned_label(image: &Image<'_>) -> Result<String, Error> {
    let version = sysupdate::version(image.source.reference)?;
    let (label, name) = (label(image), &image.source.reference.name);
    let whole = format!("{}_{version}", name.rsplit('/').next().unwrap_or_default());
    if label == whole {
        return Ok(label);
    }
    let what = format!(
        "the partition of a version that is updated in place is named {whole}, which has {} \
        characters",
        whole.len()
    );
    let mend = "take a shorter name or version: at most 29 leave room for `_verity`".to_owned();
    Err(Error::NoMachine { lacks: vec![Lack { what, mend }] })
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
    let text = |name: &str| lint::text(flat, &format!("{dir}/{name}"));
    let (dep, alias) = (text("modules.dep")?, text("modules.alias")?);
    let (softdep, builtin) = (text("modules.softdep")?, text("modules.builtin")?);
    let read = |path: &str| {
        let found = flat.bytes(&format!("{dir}/{path}")).map_err(io::Error::other)?;
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    let (dep, alias, softdep, builtin) = (&dep, &alias, &softdep, &builtin);
    let modules = Modules { release, dep, alias, softdep, builtin, read: &read };
    let checked = root == "erofs";
    let parts = Parts { programs: programs(tools)?, root, checked, data };
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
