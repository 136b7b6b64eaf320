//! Identifies the mount of a file system, to know whether what was written to it and never synced
//! has survived: as long as its superblock is in memory nothing of it is lost, and with the next
//! one, after a restart or when the disk was taken away and came back, all of it may be.
//!
//! There is no name of a superblock. What changes with it, in this order:
//! - the inode of its directory in sysfs, `/sys/fs/ext4/vda`, which is made anew with each
//! - the unique id of the mount (statx(2), Linux 6.8), which never comes again within one boot, and
//!   which no mount shares: seen through another mount, as in another container, nothing is
//!   believed
//!
//! Each with the id of the boot. On tmpfs the file system and its content go together.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};

/// Where the kernel says which boot this is (random(4)).
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// `STATX_MNT_ID_UNIQUE` (linux/stat.h).
const UNIQUE_MOUNT: StatxFlags = StatxFlags::from_bits_retain(0x4000);
/// `TMPFS_MAGIC` (linux/magic.h).
const TMPFS: u64 = 0x0102_1994;
/// File systems on a block device that have a directory in sysfs for each of their superblocks.
const IN_SYSFS: [&str; 3] = ["ext4", "xfs", "f2fs"];

/// Identifies the mounted file system of the directory `dir`; `None` where the kernel has no name
/// for it.
pub(super) fn identity(dir: &Path) -> Option<String> {
    let boot = fs::read_to_string(BOOT).ok()?;
    let mounted = superblock(dir).or_else(|| unique_mount(dir)).or_else(|| tmpfs(dir))?;
    Some(format!("{} {mounted}", boot.trim()))
}

fn superblock(dir: &Path) -> Option<String> {
    let device = fs::metadata(dir).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let link = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let name = link.file_name()?.to_str()?;
    IN_SYSFS.iter().find_map(|kind| {
        let found = fs::metadata(format!("/sys/fs/{kind}/{name}")).ok()?;
        Some(format!("{kind} {name} {}", found.ino()))
    })
}

fn unique_mount(dir: &Path) -> Option<String> {
    let found = rustix::fs::statx(CWD, dir, AtFlags::empty(), UNIQUE_MOUNT).ok()?;
    let known = StatxFlags::from_bits_retain(found.stx_mask).contains(UNIQUE_MOUNT);
    known.then(|| format!("mount {}", found.stx_mnt_id))
}

fn tmpfs(dir: &Path) -> Option<String> {
    let kind = rustix::fs::statfs(dir).ok()?.f_type;
    (u64::try_from(kind) == Ok(TMPFS)).then(|| "tmpfs".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_the_same_while_the_file_system_lives() {
        let dir = tempfile::tempdir().expect("a directory");
        let before = identity(dir.path());
        fs::write(dir.path().join("f"), "x").expect("write");
        assert_eq!(identity(dir.path()), before);
        assert_eq!(identity(&dir.path().join("none")), None);
    }
}
