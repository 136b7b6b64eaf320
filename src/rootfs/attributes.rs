//! The extended attributes that overlayfs keeps for itself, as this project mounts it: with
//! `userxattr`, in the `user.` namespace (Documentation/filesystems/overlayfs.rst, "User xattr" and
//! "Nesting overlayfs mounts").

/// How the names of overlayfs's own attributes begin.
pub const OVERLAY: &[u8] = b"user.overlay.";
/// How the names begin that overlayfs takes for its own, with `userxattr` and without it.
pub const RESERVED: [&[u8]; 2] = [OVERLAY, b"trusted.overlay."];
/// Marks a directory that hides what lower layers have under its name; its value is `y`.
pub const OPAQUE: &str = "user.overlay.opaque";
/// What overlayfs puts behind [`OVERLAY`] where a program set an attribute of such a name itself.
pub const ESCAPE: &[u8] = b"overlay.";

/// Whether overlayfs keeps an attribute of this name for itself; one that a program set, and that
/// is stored escaped, is not.
#[must_use]
pub fn is_overlay_own(name: &[u8]) -> bool {
    name.strip_prefix(OVERLAY).is_some_and(|rest| !rest.starts_with(ESCAPE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_a_programs() {
        assert!(is_overlay_own(b"user.overlay.opaque"));
        assert!(!is_overlay_own(b"user.overlay.overlay.opaque"));
        assert!(!is_overlay_own(b"user.overlayx"));
        assert!(!is_overlay_own(b"user.a"));
    }
}
