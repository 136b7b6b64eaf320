//! The way out of a step's own network: who may be reached is decided here, connection by
//! connection, and the connection to the outside is this program's. The kernel's part is
//! [`crate::sandbox::Outlet`]. `docs/design/network.md` says why.
//!
//! ```text
//! step ── name? ──► names     an address of 198.18.0.0/15 that stands for the name
//!      ── SYN ────► carry ──► policy ──► outside   looked up, judged, connected
//!                       └──── pump: both ways, by splice(2) ────┘
//! ```

mod carry;
mod names;
mod outside;
mod policy;
mod proxy;
mod pump;
mod record;
mod requests;
mod resolve;
mod shared;
mod tasks;
mod trust;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, Rlimit};

use self::carry::Carrier;
use self::names::Names;
use self::outside::Outside;
use self::policy::Policy;
use self::shared::Shared;
use crate::reach::Reach;
use crate::sandbox::{GATEWAY, Network, Outlet};
use crate::threads;

pub use self::policy::{Host, Refusal, Refused, Target};
pub use self::proxy::Proxies;
pub use self::record::{Reached, Report};
pub use self::trust::{BUNDLE, HostTrust};

/// Open files that a network with many connections wants.
const FILES: u64 = 16_384;

/// The way out of one job's network.
pub struct Gateway {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Report>>,
}

impl Gateway {
    /// Makes a network for one job, from which `reach` can be reached, and no more, as this host
    /// reaches it by `trust`.
    ///
    /// # Errors
    /// Where the host gives no thread, or no more open files.
    pub fn open(reach: Reach, trust: Arc<HostTrust>) -> io::Result<(Self, Network)> {
        more_files();
        let (outlet, network) = Outlet::new()?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared {
            policy: Policy(reach),
            names: Names::default(),
            outside: Outside::new(trust),
            stop: AtomicBool::new(false),
            hurry: AtomicBool::new(false),
            wake,
        });
        let carrier = Carrier::new(outlet, Arc::clone(&shared))?;
        let thread = Some(threads::free(move || carrier.run())?);
        Ok((Self { shared, thread }, network))
    }

    /// Ends it, after the job; returns what the job did with it. `whole`: what the job sent last is
    /// still to arrive.
    #[must_use]
    pub fn finish(mut self, whole: bool) -> Report {
        self.end(whole)
    }

    fn end(&mut self, whole: bool) -> Report {
        self.shared.hurry.store(!whole, Ordering::SeqCst);
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake();
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end(false);
        }
    }
}

/// Returns `/etc/resolv.conf` of a job with such a network.
#[must_use]
pub fn resolv_conf() -> Vec<u8> {
    format!("nameserver {GATEWAY}\n").into_bytes()
}

/// Raises this process's limit of open files as far as it may: a connection takes two.
fn more_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES, |most| most.min(FILES));
    if limit.current.is_some_and(|now| now < wanted) {
        // As many as there are have to do then.
        let more = Rlimit { current: Some(wanted), maximum: limit.maximum };
        let _ = rustix::process::setrlimit(Resource::Nofile, more);
    }
}
