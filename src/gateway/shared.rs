//! What the loop of a job's network shares with those who work for it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::names::Names;
use super::outside::Outside;
use super::policy::Policy;

/// What a job shares with those who work for it.
pub(super) struct Shared {
    pub(super) policy: Policy,
    pub(super) names: Names,
    pub(super) outside: Arc<Outside>,
    pub(super) stop: AtomicBool,
    /// What is on its way may be lost.
    pub(super) hurry: AtomicBool,
    /// Written to where something is to be looked at.
    pub(super) wake: OwnedFd,
}

impl Shared {
    /// Has the loop look at what there is.
    pub(super) fn wake(&self) {
        // A counter that is full has been written to.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}
