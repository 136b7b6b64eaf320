//! What every reader of a root file system has to agree on: where a path leads inside it, which ids
//! a user or group of it has, and which extended attributes are overlayfs's own.
//!
//! Nothing here opens a file: whoever asks says how a symlink or an account file is read (from a
//! disk, from a stack of layers, from the names of a tar archive), so that all of them follow one
//! rule.

use std::collections::BTreeMap;

pub mod accounts;
pub mod attributes;
pub mod resolve;
pub mod table;

/// `PATH` of every program that has no other: Debian's and Docker's default.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Returns the environment of every program that runs while an image is built: bake's, and `over`
/// it that of the image that is the base, or what some programs need besides. `epoch`: seconds
/// since 1970.
pub fn environment(epoch: i64, over: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let fixed = [
        ("PATH", PATH),
        ("HOME", "~"),
        ("LANG", "C.UTF-8"),
        ("TZ", "UTC"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        // No service manager runs: `systemctl daemon-reload` and `udevadm` have nothing to do
        // (systemd's ENVIRONMENT.md).
        ("SYSTEMD_IN_CHROOT", "1"),
        ("SYSTEMD_OFFLINE", "1"),
    ];
    let mut out: BTreeMap<String, String> =
        fixed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    out.insert("SOURCE_DATE_EPOCH".to_owned(), epoch.to_string());
    out.extend(over.clone());
    out
}
