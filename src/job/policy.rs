//! The files that every job has.

use std::path::PathBuf;

use crate::event::{Event, Sink};
use crate::sandbox::PolicyFile;

/// Returns `/etc/hosts` of a job that is called `hostname`.
pub(crate) fn hosts(hostname: &str) -> PolicyFile {
    let bytes = format!("127.0.0.1 localhost {hostname}\n::1 localhost\n").into_bytes();
    PolicyFile { at: PathBuf::from("/etc/hosts"), bytes, mode: 0o644 }
}

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Returns `/etc/resolv.conf` with this content.
pub(crate) fn resolver(bytes: Vec<u8>) -> PolicyFile {
    PolicyFile { at: PathBuf::from(RESOLV_CONF), bytes, mode: 0o644 }
}

/// Returns `/etc/resolv.conf` of the host, for a job with its network. Where it cannot be read that
/// is a warning: `without` have no name service.
pub(crate) fn resolv_conf(sink: &Sink, without: &str) -> Option<PolicyFile> {
    match std::fs::read(RESOLV_CONF) {
        Ok(bytes) => Some(resolver(bytes)),
        Err(error) => {
            let message = format!("cannot read {RESOLV_CONF} ({error}): {without} no name service");
            sink(Event::Warning { message, hint: None });
            None
        }
    }
}
