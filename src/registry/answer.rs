//! What a registry answers.

use std::io::{self, Read};
use std::time::Duration;

use ureq::Body;
use ureq::http::HeaderMap;

/// Bytes of an answer that nobody reads, which are read all the same so that the connection can be
/// used again.
const DRAINED: u64 = 64 << 10;

/// An answer of whatever status.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Where it came from in the end.
    pub(super) url: String,
    pub(super) body: Body,
}

impl Answer {
    /// Returns a header that is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the announced length.
    pub(super) fn length(&self) -> Option<u64> {
        self.header("content-length").and_then(|text| text.parse().ok())
    }

    /// Returns how long the server asks to wait (RFC 9110 section 10.2.3).
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let text = self.header("retry-after")?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let when = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        let seconds = when.as_second() - jiff::Timestamp::now().as_second();
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    }

    /// Returns the body.
    pub(super) fn into_reader(self) -> impl Read {
        self.body.into_reader()
    }

    /// Reads the body to its end, if that is near.
    pub(super) fn drain(self) {
        // What breaks here breaks the next request, which says so.
        let _ = io::copy(&mut self.body.into_reader().take(DRAINED), &mut io::sink());
    }
}
