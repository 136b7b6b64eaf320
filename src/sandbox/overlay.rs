//! Mounts an overlay, the newer way and the older one.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::plan::{Doing, Fault};

/// Makes an overlay of `lower` (topmost first), writable over `(upper, work)` or read-only, as a
/// detached mount.
pub(super) fn overlay_mount(
    lower: &[BorrowedFd<'_>],
    upper: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
) -> Result<OwnedFd, Fault> {
    // Descriptors since Linux 6.13 (`lowerdir+` since 6.8); before that paths, for which
    // /proc/self/fd serves.
    let context = match overlay_by_fd(lower, upper) {
        Some(context) => context,
        None => overlay_by_path(lower, upper)?,
    };
    let configured = || -> rustix::io::Result<()> {
        // Without userxattr a user namespace cannot mark deletions of directories: EIO on `rm -r`.
        rustix::mount::fsconfig_set_flag(&context, "userxattr")?;
        if upper.is_some() {
            // The stubs lie on another file system than the rest. Without this a file's inode
            // number could change when it is first written to, and its device not be that of the
            // directory it is in; with it all are as if the stubs were not there.
            rustix::mount::fsconfig_set_string(&context, "xino", "on")?;
            // No flush of the whole file system at the end; a dead build's upper directory is never
            // used again anyway.
            rustix::mount::fsconfig_set_flag(&context, "volatile")?;
        }
        rustix::mount::fsconfig_create(&context)
    };
    configured().map_err(|error| overlay_fault(&context, error))?;
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    if upper.is_none() {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .doing(|| "mount the overlay".into())
}

fn overlay_by_fd(
    lower: &[BorrowedFd<'_>],
    upper: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
) -> Option<OwnedFd> {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
    for layer in lower {
        rustix::mount::fsconfig_set_fd(&context, "lowerdir+", layer).ok()?;
    }
    if let Some((upper, work)) = upper {
        rustix::mount::fsconfig_set_fd(&context, "upperdir", upper).ok()?;
        rustix::mount::fsconfig_set_fd(&context, "workdir", work).ok()?;
    }
    Some(context)
}

fn overlay_by_path(
    lower: &[BorrowedFd<'_>],
    upper: Option<(BorrowedFd<'_>, BorrowedFd<'_>)>,
) -> Result<OwnedFd, Fault> {
    let path = |fd: &BorrowedFd<'_>| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let context =
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| {
            let fault = Fault::new("use overlayfs", error);
            if error == Errno::NODEV {
                fault.hint("load the kernel module: modprobe overlay")
            } else {
                fault
            }
        })?;
    let configured = || -> rustix::io::Result<()> {
        // Kernels with `lowerdir+` limit the length of one string to 256 bytes; older ones do not
        // know that name.
        let each = || {
            lower.iter().try_for_each(|layer| {
                rustix::mount::fsconfig_set_string(&context, "lowerdir+", path(layer))
            })
        };
        if each().is_err() {
            let all = lower.iter().map(path).collect::<Vec<_>>().join(":");
            rustix::mount::fsconfig_set_string(&context, "lowerdir", all)?;
        }
        if let Some((upper, work)) = upper {
            rustix::mount::fsconfig_set_string(&context, "upperdir", path(&upper))?;
            rustix::mount::fsconfig_set_string(&context, "workdir", path(&work))?;
        }
        Ok(())
    };
    configured().map_err(|error| overlay_fault(&context, error))?;
    Ok(context)
}

/// Why the kernel refuses an overlay, in its own words where it has any.
fn overlay_fault(context: &OwnedFd, error: Errno) -> Fault {
    let reasons = messages(context);
    let fault = Fault::new(
        if reasons.is_empty() {
            "mount the overlay".into()
        } else {
            format!("mount the overlay ({reasons})")
        },
        error,
    );
    match error {
        Errno::INVAL | Errno::NODEV | Errno::OPNOTSUPP | Errno::PERM => fault.hint(
            "the store must be on a file system that overlayfs can write to: ext4, xfs, btrfs or \
                tmpfs (inside a container: a volume); \
             the kernel must have overlayfs and allow it in user namespaces (5.11 or newer)",
        ),
        _ => fault,
    }
}

/// The kernel's messages about a failed configuration.
fn messages(context: &OwnedFd) -> String {
    let mut found = vec![];
    let Ok(fd) = context.try_clone() else { return String::new() };
    let mut file = File::from(fd);
    let mut message = [0; 512];
    while let Ok(n @ 1..) = file.read(&mut message) {
        let text = String::from_utf8_lossy(&message[..n]);
        // "e " for an error, "w " for a warning, "i " for information.
        found.push(text.trim().trim_start_matches(['e', 'w', 'i']).trim().to_owned());
    }
    found.join("; ")
}
