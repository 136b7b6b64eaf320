//! How a layer is unpacked.

use super::{Form, Limits};

/// What becomes of device nodes in a tar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Devices {
    /// An error that names it: a layer has no business with devices.
    Refuse,
    /// Left out: for the tars of whole systems, which often hold a `/dev` that a running system
    /// replaces anyway.
    Skip,
}

/// What becomes of a directory in the tar where an earlier layer has a symlink to a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirOverSymlink {
    /// The directory replaces the symlink, as the image specification says.
    Replace,
    /// The symlink stays and the directory's contents go where it leads, as dpkg does.
    Follow,
}

/// Who owns what is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// As the tar says; needs root, in this or a user namespace.
    Kept,
    /// Whoever unpacks. Setuid and setgid bits and capabilities are dropped: they were meant for
    /// another owner.
    Dropped,
}

/// How to unpack.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the tar becomes.
    pub form: Form,
    /// Bounds.
    pub limits: Limits,
    /// Devices.
    pub devices: Devices,
    /// Directories over symlinks.
    pub links: DirOverSymlink,
    /// Owners.
    pub owners: Ownership,
}

impl Options {
    /// The rules for a layer: devices refused, directorys replace symlinks, owners kept, default
    /// limits.
    pub fn layer(form: Form) -> Self {
        Self {
            form,
            limits: Limits::default(),
            devices: Devices::Refuse,
            links: DirOverSymlink::Replace,
            owners: Ownership::Kept,
        }
    }
}
