//! What the person decides about registries, made at the edge.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::web::Patience;

/// Asked often; once it is true, everything ends with [`Error::Cancelled`](super::Error).
pub type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// How patient to be.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Transfers at once.
    pub parallel: usize,
    /// To make a connection.
    pub connect: Duration,
    /// Without a single byte. What comes slower than [`Limits::SLOWEST`] for so long has stalled
    /// as well.
    pub stall: Duration,
    /// Attempts in all, one after the other without any progress, when the failure may pass.
    pub tries: u32,
    /// Before the second attempt; doubled for each further one, up to 10 seconds.
    pub pause: Duration,
    /// Longest wait that a registry may ask for (`Retry-After`).
    pub wait: Duration,
    /// Most bytes of a blob that are sent in one request. Registries are used to whole blobs; it
    /// gets less by itself where connections break.
    pub chunk: u64,
}

impl Limits {
    /// Bytes a second.
    pub const SLOWEST: u64 = 256;

    /// Bytes by which an attempt has come further: with fewer a slow server would be tried without
    /// end.
    pub(super) fn progress(&self) -> u64 {
        let millis = u64::try_from(self.stall.as_millis()).unwrap_or(u64::MAX);
        (Self::SLOWEST.saturating_mul(millis) / 1000).max(1)
    }

    pub(super) fn patience(&self) -> Patience {
        Patience { connect: self.connect, stall: self.stall }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            parallel: 4,
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(60),
            tries: 6,
            pause: Duration::from_millis(250),
            wait: Duration::from_secs(120),
            chunk: u64::MAX,
        }
    }
}

/// What the person decides about registries. Cheap to clone.
#[derive(Clone)]
pub struct Options {
    /// Files of credentials (`config.json` of docker, `auth.json` of podman), asked in this order.
    /// One that is not there has none.
    pub credentials: Vec<PathBuf>,
    /// File of certificates (PEM) that are trusted besides the system's.
    pub authority: Option<PathBuf>,
    /// Certificate (PEM) that is shown to the registry, and to no other host.
    pub certificate: Option<PathBuf>,
    /// Private key (PEM) of that certificate.
    pub key: Option<PathBuf>,
    /// Directories with a directory `host[:port]` for each registry, which has authorities
    /// (`*.crt`), certificates (`*.cert`) and their keys (`*.key`): `/etc/docker/certs.d`.
    pub directories: Vec<PathBuf>,
    /// Proxies and authorities of the host are left aside.
    pub no_host_trust: bool,
    /// Hosts, or `host:port`, that are spoken to without TLS. A loopback address need not be here.
    pub plain: Vec<String>,
    /// How patient to be.
    pub limits: Limits,
    /// Ends everything.
    pub stop: Stop,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            credentials: vec![],
            authority: None,
            certificate: None,
            key: None,
            directories: vec![],
            no_host_trust: false,
            plain: vec![],
            limits: Limits::default(),
            stop: Arc::new(|| false),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("limits", &self.limits).finish_non_exhaustive()
    }
}
