//! Extended attributes: which ones a layer keeps, and what overlay's own ones say.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::io::Errno;

use super::{MAX_ATTRIBUTE, MAX_ID, Wrong, show};
use crate::rootfs::attributes::{ESCAPE, OVERLAY, RESERVED};

/// File capabilities.
pub(crate) const CAPABILITY: &[u8] = b"security.capability";
/// The ACL of a file or directory.
pub(crate) const ACL: &[u8] = b"system.posix_acl_access";
/// The ACL that files in a directory start with.
pub(crate) const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
/// Whether overlayfs takes an attribute of this name for its own: by the mount option `userxattr`
/// (how this project mounts it) or without it. On a lower directory of any mount they would be
/// obeyed, not shown: one of them could hide a file from the steps and tests of an image and show
/// it where the image is used, or the other way round. No layer has one.
pub(crate) fn reserved(name: &[u8]) -> bool {
    RESERVED.iter().any(|prefix| name.starts_with(prefix))
}

/// The attributes of one file.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Those a layer keeps.
    pub(crate) kept: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Overlay says: hides what is below.
    pub(crate) opaque: bool,
}

/// Whether a layer keeps an attribute of this name. The others belong to a host: SELinux labels,
/// trusted.*, overlay's.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.") || [CAPABILITY, ACL, DEFAULT_ACL].contains(&name)
}

/// Checks an attribute that is to be kept: of the only form that means the same on every host.
pub(crate) fn check(name: &[u8], value: &[u8]) -> Result<(), Wrong> {
    let wrong = || Wrong::Attribute(show(name));
    if reserved(name) {
        return Err(Wrong::Reserved(show(name)));
    }
    // `=` ends the name in a PAX record; the kernel allows 255 bytes of name.
    if name.len() > 255 || name.contains(&b'=') || name.contains(&0) || value.len() > MAX_ATTRIBUTE
    {
        return Err(wrong());
    }
    let number =
        |at: usize| value.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    if name == CAPABILITY {
        // linux/capability.h: revision 2 is 20 bytes; 3 carries a root id, which is a fact about a
        // host.
        let revision = number(0).map(|magic| magic >> 24);
        if revision != Some(2) || value.len() != 20 {
            return Err(wrong());
        }
    } else if name == ACL || name == DEFAULT_ACL {
        // linux/posix_acl_xattr.h: version 2, then (tag u16, permissions u16, id u32) each; tags 2
        // and 8 are named users and groups.
        if number(0) != Some(2) || value.len() < 4 + 3 * 8 || !(value.len() - 4).is_multiple_of(8) {
            return Err(wrong());
        }
        for entry in value[4..].chunks_exact(8) {
            let tag = u16::from_le_bytes([entry[0], entry[1]]);
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            if matches!(tag, 2 | 8) && id > MAX_ID {
                return Err(Wrong::Id { what: "ACL id", id: id.into() });
            }
        }
    }
    Ok(())
}

/// Why reading attributes failed.
pub(crate) enum Failure {
    System(Errno),
    Wrong(Wrong),
}

impl From<Errno> for Failure {
    fn from(e: Errno) -> Self {
        Self::System(e)
    }
}

impl From<Wrong> for Failure {
    fn from(e: Wrong) -> Self {
        Self::Wrong(e)
    }
}

/// Returns the names of the attributes of an open file.
pub(crate) fn list(fd: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut buffer = vec![0; 512];
    loop {
        match rustix::fs::flistxattr(&fd, &mut buffer[..]) {
            Ok(n) => {
                return Ok(buffer[..n]
                    .split(|b| *b == 0)
                    .filter(|name| !name.is_empty())
                    .map(<[u8]>::to_vec)
                    .collect());
            }
            // The kernel's own bound for a list is 64 KiB.
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 8, 0),
            Err(Errno::NOTSUP) => return Ok(vec![]),
            Err(e) => return Err(e),
        }
    }
}

fn get(fd: impl AsFd, name: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match rustix::fs::fgetxattr(&fd, name, &mut buffer[..]) {
            Ok(n) => {
                buffer.truncate(n);
                return Ok(Some(buffer));
            }
            Err(Errno::RANGE) if buffer.len() < MAX_ATTRIBUTE => buffer.resize(MAX_ATTRIBUTE, 0),
            Err(Errno::NODATA) => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}

/// Reads those attributes of an open file of a living root that a layer would keep, as they are:
/// nothing is judged.
pub(crate) fn kept_of(fd: impl AsFd) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let mut found = BTreeMap::new();
    for name in list(&fd)?.into_iter().filter(|name| is_kept(name)) {
        if let Some(value) = get(&fd, &name)? {
            found.insert(name, value);
        }
    }
    Ok(found)
}

/// Reads the attributes of an open file or directory of an overlay upper directory, or of a tree.
pub(crate) fn read(fd: impl AsFd) -> Result<Found, Failure> {
    let mut found = Found::default();
    for name in list(&fd)? {
        if let Some(own) = RESERVED.iter().find_map(|prefix| name.strip_prefix(*prefix)) {
            match own {
                b"redirect" | b"metacopy" | b"whiteout" => return Err(Wrong::Overlay.into()),
                // What overlayfs notes of its own accord lies under the prefix that it was mounted
                // with; what a step has set has one more `overlay.`.
                b"opaque" if name.starts_with(OVERLAY) => {
                    match get(&fd, &name)?.as_deref() {
                        Some(b"y") => found.opaque = true,
                        // `x`: files in it may be whiteouts by attribute.
                        Some(_) => return Err(Wrong::Overlay.into()),
                        None => {}
                    }
                }
                _ => {}
            }
            if let Some(set) = own.strip_prefix(ESCAPE).filter(|_| name.starts_with(OVERLAY)) {
                return Err(Wrong::Reserved(show(&[OVERLAY, set].concat())).into());
            }
            continue;
        }
        if is_kept(&name)
            && let Some(value) = get(&fd, &name)?
        {
            check(&name, &value)?;
            found.kept.insert(name, value);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(id: u32) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0];
        for (tag, id) in [(1u16, u32::MAX), (2, id), (4, u32::MAX), (16, u32::MAX), (32, u32::MAX)]
        {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(4u16.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn only_forms_that_mean_the_same_everywhere() {
        let mut capability = vec![0; 20];
        capability[..4].copy_from_slice(&0x0200_0001u32.to_le_bytes());
        assert_eq!(check(CAPABILITY, &capability), Ok(()));
        let mut with_root = vec![0; 24];
        with_root[..4].copy_from_slice(&0x0300_0001u32.to_le_bytes());
        assert!(check(CAPABILITY, &with_root).is_err());
        assert_eq!(check(ACL, &acl(1000)), Ok(()));
        assert_eq!(check(ACL, &acl(70_000)), Ok(()));
        let none = Wrong::Id { what: "ACL id", id: u32::MAX.into() };
        assert_eq!(check(ACL, &acl(u32::MAX)), Err(none));
        assert!(check(ACL, &acl(1)[..13]).is_err());
        assert!(check(b"user.a=b", b"").is_err());
        assert!(check(b"user.long", &vec![0; MAX_ATTRIBUTE + 1]).is_err());
    }

    #[test]
    fn what_belongs_to_a_host_is_not_kept() {
        for (name, keep) in [
            ("user.x", true),
            ("security.capability", true),
            ("system.posix_acl_default", true),
            ("security.selinux", false),
            ("trusted.overlay.opaque", false),
            ("security.ima", false),
            ("system.nfs4_acl", false),
        ] {
            assert_eq!(is_kept(name.as_bytes()), keep, "{name}");
        }
        for name in ["user.overlay.opaque", "user.overlay.overlay.x", "trusted.overlay.origin"] {
            let refused = Err(Wrong::Reserved(name.to_owned()));
            assert_eq!(check(name.as_bytes(), b"y"), refused, "{name}");
        }
        assert_eq!(check(b"user.overlayx", b"y"), Ok(()));
    }
}
