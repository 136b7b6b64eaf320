//! A handle that ends jobs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::error::Error;

/// Ends jobs from another thread or a signal handler.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<OwnedFd>);

impl Cancel {
    /// Makes one that has not fired.
    pub fn new() -> Result<Self, Error> {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let fd = rustix::event::eventfd(0, flags).map_err(|error| Error::System {
            what: "cannot make an event descriptor".into(),
            source: error.into(),
        })?;
        Ok(Self(Arc::new(fd)))
    }

    /// Ends every job that was given this handle, now and later. May be called in a signal handler:
    /// it is one `write`.
    pub fn fire(&self) {
        // Fails only when the counter is full, and then it has fired.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }

    /// Whether it has fired.
    #[must_use]
    pub fn fired(&self) -> bool {
        let mut fds = [rustix::event::PollFd::new(&*self.0, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&now)).is_ok() && !fds[0].revents().is_empty()
    }
}

/// Readable once it has fired, for those who wait for something else as well.
impl AsFd for Cancel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
