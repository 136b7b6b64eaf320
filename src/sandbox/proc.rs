//! /proc of a job, without what reveals or changes things of the host.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountFlags};

use super::basic::{attach, clone};
use super::plan::Fault;

/// Files and directories of /proc that reveal or change things of the host.
const MASKED: &[&str] = &[
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
const READ_ONLY: &[&str] = &["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Mounts it at `proc`; `masked`: for a job with an image, with `null` over what it must not see.
pub(super) fn mount(proc: &Path, null: &Path, masked: bool) -> Result<(), Fault> {
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
    for name in READ_ONLY {
        let at = proc.join(name);
        match clone(&at, MountAttrFlags::MOUNT_ATTR_RDONLY) {
            Ok(mount) => attach(mount.as_fd(), &at)?,
            Err(error) if error.errno() == libc::ENOENT => {}
            Err(error) => return Err(error),
        }
    }
    for name in MASKED {
        let at = proc.join(name);
        let kind = match rustix::fs::statat(CWD, &at, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => rustix::fs::FileType::from_raw_mode(stat.st_mode),
            Err(_) => continue,
        };
        let cover = match kind {
            rustix::fs::FileType::Directory => {
                clone(Path::new("e"), MountAttrFlags::MOUNT_ATTR_RDONLY)?
            }
            _ => clone(null, MountAttrFlags::MOUNT_ATTR_RDONLY)?,
        };
        attach(cover.as_fd(), &at)?;
    }
    Ok(())
}
