//! Which file systems cannot hold the changes of a step: overlayfs needs whiteouts, extended
//! attributes and renames of its upper directory's file system that these do not have
//! (Documentation/filesystems/overlayfs.rst, "Upper and Lower").

use std::fs;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};

use super::error::Error;

/// Types as in `/proc/self/mountinfo`; one that ends with a dot stands for all that begin so.
const UNFIT: &[&str] = &[
    "9p", "cifs", "ecryptfs", "exfat", "ext2", "fuse.", "fuseblk", "iso9660", "msdos", "nfs",
    "nfs4", "overlay", "smb3", "squashfs", "vfat",
];

/// Refuses a directory on a file system where no step could write.
pub(super) fn check(path: &Path) -> Result<(), Error> {
    match file_system(path) {
        Some(kind) if is_unfit(&kind) => Err(Error::Host {
            what: format!(
                "{} is on {kind}, where overlayfs cannot keep what a step changes",
                path.display()
            ),
            hint: HINT.to_owned(),
        }),
        // Where that is unknown, the first job shows it.
        _ => Ok(()),
    }
}

/// What to do about an unfit one.
pub(super) const HINT: &str = "put the store on ext4, xfs, btrfs or tmpfs: `--store DIR` or \
    BAKE_STORE; or leave it there and work on one: `--work-dir DIR` or BAKE_WORK; a container's \
    own file system is overlayfs, so \
                    give it a volume (docker run -v bake:/bake … --store /bake) or memory (--tmpfs \
                    /bake:exec)";

/// Whether no step could write on a file system of this type.
pub(super) fn is_unfit(kind: &str) -> bool {
    UNFIT.iter().any(|unfit| *unfit == kind || (unfit.ends_with('.') && kind.starts_with(unfit)))
}

/// Returns the type of the file system that `path` is on.
pub(super) fn file_system(path: &Path) -> Option<String> {
    let mount = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    let table = fs::read("/proc/self/mountinfo").ok()?;
    kind(&table, mount.stx_mnt_id)
}

/// Returns the type of mount `id`: in proc_pid_mountinfo(5) the field behind the lone dash.
fn kind(table: &[u8], id: u64) -> Option<String> {
    let id = id.to_string();
    let row = table
        .split(|b| *b == b'\n')
        .find(|row| row.split(|b| *b == b' ').next() == Some(id.as_bytes()))?;
    let mut fields = row.split(|b| *b == b' ').skip_while(|field| *field != b"-");
    fields.next()?;
    Some(String::from_utf8_lossy(fields.next()?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_stands_behind_the_dash() {
        let table =
            b"21 1 0:20 / / rw,relatime shared:1 - ext4 /dev/vda rw\n36 21 0:33 / /a\\040b \
            rw master:2 propagate_from:3 - fuse.bindfs x rw\n37 36 0:34 / / rw - overlay overlay \
            rw\n";
        for (id, expected, unfit) in
            [(21, "ext4", false), (36, "fuse.bindfs", true), (37, "overlay", true)]
        {
            assert_eq!(kind(table, id).as_deref(), Some(expected));
            assert_eq!(is_unfit(expected), unfit);
        }
        assert_eq!(kind(table, 3), None);
        assert!(!is_unfit("ext4") && !is_unfit("tmpfs") && is_unfit("nfs4") && !is_unfit("fuse"));
        let dir = tempfile::tempdir().unwrap();
        assert!(file_system(dir.path()).is_some());
    }
}
