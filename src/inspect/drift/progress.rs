//! How far the reading of files is.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::event::{Event, Sink};

/// Bytes to be read from which on it takes long enough to be reported.
const WORTH_REPORTING: u64 = 256 << 20;

/// Counts the bytes that have been read, and reports them (task `compare`).
pub(super) struct Progress<'a> {
    what: String,
    total: u64,
    done: AtomicU64,
    reported: AtomicU64,
    sink: &'a Sink,
}

impl<'a> Progress<'a> {
    /// Begins to count up to `total`.
    pub(super) fn new(what: String, total: u64, sink: &'a Sink) -> Self {
        Self { what, total, done: AtomicU64::new(0), reported: AtomicU64::new(0), sink }
    }

    /// Counts more bytes.
    pub(super) fn add(&self, bytes: u64) {
        if self.total < WORTH_REPORTING {
            return;
        }
        let now = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // A hundred times in all is enough for a bar.
        let step = now * 100 / self.total.max(1);
        if self.reported.fetch_max(step, Ordering::Relaxed) < step {
            (self.sink)(Event::Progress {
                task: "compare",
                what: self.what.clone(),
                done: now.min(self.total),
                total: Some(self.total),
                bytes: true,
            });
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        (self.sink)(Event::ProgressEnd { task: "compare" });
    }
}
