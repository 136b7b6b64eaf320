//! The kernel's table of foreign programs in a session's user namespace (binfmt_misc, Linux 6.7).

use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::plan::{Doing, Fault, Interpreter};

/// Registers an interpreter in the user namespace of this process, which needs a mount namespace of
/// its own. What is registered lasts as long as what is returned, a mount that is put nowhere, so
/// that nobody inside can change it.
pub(super) fn register(interpreter: &Interpreter) -> Result<OwnedFd, Fault> {
    let make = || -> io::Result<OwnedFd> {
        let context = rustix::mount::fsopen("binfmt_misc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_create(&context)?;
        let flags = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let mount = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let register = rustix::fs::openat(&mount, "register", flags, Mode::empty())?;
        std::fs::File::from(register).write_all(interpreter.line.as_bytes())?;
        Ok(mount)
    };
    make().doing(|| format!("register {} in the sandbox", interpreter.path.display())).map_err(
        |fault| {
            fault.hint(
                "the kernel needs binfmt_misc (CONFIG_BINFMT_MISC) in user namespaces; else have \
                    qemu registered on the host with the flag F (`bake doctor` says how)",
            )
        },
    )
}
