//! /proc of a job, without what reveals or changes things of the host.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountFlags};

use super::basic::{again, attach, clone, mkdir};
use super::plan::{Doing, Fault};
use super::stub::make_file;

/// Files and directories of /proc that reveal or change things of the host: its hardware, its
/// disks, how it was started, addresses and counters of its kernel.
const MASKED: &[&str] = &[
    "acpi",
    "asound",
    "bootconfig",
    "bus",
    "cmdline",
    "config.gz",
    "consoles",
    "diskstats",
    "driver",
    "dynamic_debug",
    "fb",
    "fs",
    "interrupts",
    "iomem",
    "ioports",
    "irq",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "mdstat",
    "modules",
    "mtrr",
    "pagetypeinfo",
    "partitions",
    "pressure",
    "sched_debug",
    "schedstat",
    "scsi",
    "slabinfo",
    "softirqs",
    "swaps",
    "sysrq-trigger",
    "timer_list",
    "timer_stats",
    "vmallocinfo",
];
/// The settings of the kernel.
const READ_ONLY: &str = "sys";
/// Which start of the host this is. Programs want a number here that is one.
const BOOT_ID: &str = "sys/kernel/random/boot_id";
/// The same everywhere, so that it says nothing: `bakebakebakebake` but for the bits that make it a
/// random number of RFC 9562.
const NO_BOOT_ID: &[u8] = b"62616b65-6261-4b65-a261-6b6562616b65\n";

/// Mounts it at `proc`; `masked`: for a job with an image, with nothing in place of what it must
/// not see.
pub(super) fn mount(proc: &Path, masked: bool) -> Result<(), Fault> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", proc, "proc", flags, None).map_err(|error| {
        let fault = Fault::new("mount /proc", error);
        if error == Errno::PERM {
            fault.hint(
                "inside a container whose own /proc is masked this is forbidden: start \
                it with `--privileged` or `--security-opt systempaths=unconfined`",
            )
        } else {
            fault
        }
    })?;
    if !masked {
        return Ok(());
    }
    let settings = proc.join(READ_ONLY);
    attach(clone(&settings, MountAttrFlags::MOUNT_ATTR_RDONLY)?.as_fd(), &settings)?;
    let boot_id = proc.join(BOOT_ID);
    if rustix::fs::statat(CWD, &boot_id, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        let what = || "hide the number of the host's start".to_owned();
        let shown = Path::new("b");
        let file = make_file(CWD.as_fd(), shown, 0o444).doing(what)?;
        std::fs::File::from(file).write_all(NO_BOOT_ID).doing(what)?;
        attach(clone(shown, MountAttrFlags::MOUNT_ATTR_RDONLY)?.as_fd(), &boot_id)?;
    }
    // Attached once, so that each of the many is a clone with nothing to set. A file and not
    // /dev/null: a device takes what is written to it, also where it may only be read.
    let (nothing, empty) = (Path::new("n"), Path::new("o"));
    make_file(CWD.as_fd(), nothing, 0o444).doing(|| "make an empty file".into())?;
    mkdir(empty, 0o555)?;
    for own in [nothing, empty] {
        attach(clone(own, MountAttrFlags::MOUNT_ATTR_RDONLY)?.as_fd(), own)?;
    }
    for name in MASKED {
        let at = proc.join(name);
        let kind = match rustix::fs::statat(CWD, &at, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(_) => continue,
        };
        let cover = if kind == FileType::Directory { empty } else { nothing };
        attach(again(cover)?.as_fd(), &at)?;
    }
    Ok(())
}
