//! The variables and files that every job has.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::event::{Event, Sink};
use crate::rootfs::PATH;
use crate::sandbox::PolicyFile;

/// Returns the environment of every step, before the step's own: bake's, and over it that of the
/// image that is the `base`.
pub(crate) fn environment(epoch: i64, base: &BTreeMap<String, String>) -> BTreeMap<String, String> {
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
    out.extend(base.clone());
    out
}

/// Returns `/etc/hosts` of a job that is called `hostname`.
pub(crate) fn hosts(hostname: &str) -> PolicyFile {
    let bytes = format!("127.0.0.1 localhost {hostname}\n::1 localhost\n").into_bytes();
    PolicyFile { at: PathBuf::from("/etc/hosts"), bytes, mode: 0o644 }
}

/// Returns `/etc/resolv.conf` of the host, for a job with its network. Where it cannot be read that
/// is a warning: `without` have no name service.
pub(crate) fn resolv_conf(sink: &Sink, without: &str) -> Option<PolicyFile> {
    const AT: &str = "/etc/resolv.conf";
    match std::fs::read(AT) {
        Ok(bytes) => Some(PolicyFile { at: PathBuf::from(AT), bytes, mode: 0o644 }),
        Err(error) => {
            let message = format!("cannot read {AT} ({error}): {without} no name service");
            sink(Event::Warning { message, hint: None });
            None
        }
    }
}
