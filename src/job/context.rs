//! What every job of one command shares.

use std::path::Path;

use super::call::Session;
use super::error::Error;
use super::host::Host;
use crate::event::Sink;
use crate::sandbox::{Cancel, emulation};
use crate::store::Store;

/// What every job of one command shares.
#[derive(Clone, Copy)]
pub struct JobContext<'a> {
    /// Where images and the cache are.
    pub store: &'a Store,
    /// What this machine can do.
    pub host: &'a Host,
    /// Ends everything from outside.
    pub cancel: &'a Cancel,
    /// Where events go.
    pub sink: &'a Sink,
}

impl JobContext<'_> {
    /// Makes a user namespace whose scratch directory is `scratch`.
    ///
    /// # Errors
    /// Where this host cannot.
    pub(crate) fn session(&self, scratch: &Path) -> Result<Session, Error> {
        Ok(Session::open(self.host.get()?, &self.store.layers()?, scratch)?)
    }

    /// The same for programs of the processor `arch` (Go's name). Where this host cannot run them,
    /// whatever needs none still works.
    ///
    /// # Errors
    /// Where this host cannot.
    pub(crate) fn session_for(&self, scratch: &Path, arch: &str) -> Result<Session, Error> {
        let (host, layers) = (self.host.get()?, self.store.layers()?);
        Ok(Session::open_with(host, &layers, scratch, &emulation(arch))?)
    }
}
