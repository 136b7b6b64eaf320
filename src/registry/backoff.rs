//! Waiting between attempts: longer each time, never all clients at once, and as long as the
//! registry asks.

use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::Duration;

use super::options::{Limits, Stop};

/// Longest pause that the registry did not ask for.
const LONGEST: Duration = Duration::from_secs(10);

/// The attempts of one piece of work.
pub(super) struct Backoff<'a> {
    limits: &'a Limits,
    stop: &'a Stop,
    /// Attempts that came to nothing since the last progress.
    failed: u32,
    pause: Duration,
}

impl<'a> Backoff<'a> {
    pub(super) fn new(limits: &'a Limits, stop: &'a Stop) -> Self {
        Self { limits, stop, failed: 0, pause: limits.pause }
    }

    /// Notes that the last attempt came further than those before: what follows counts anew.
    pub(super) fn progressed(&mut self) {
        self.failed = 0;
        self.pause = self.limits.pause / 25;
    }

    /// Waits for the next attempt, at least for `after`. False where there is none: it was tried
    /// often enough, or everything is to end. Right after progress there is hardly any wait.
    pub(super) fn again(&mut self, after: Option<Duration>) -> bool {
        self.failed += 1;
        if self.failed >= self.limits.tries {
            return false;
        }
        // "Full jitter" would allow no pause at all; half of it is always waited.
        let half = self.pause / 2;
        let random = u32::try_from(RandomState::new().hash_one(self.failed) % 1024).unwrap_or(0);
        let pause = (half + half * random / 1024).max(after.unwrap_or_default());
        // Only the first pause after progress is short: what fails again has no time.
        self.pause = (self.pause * 2).max(self.limits.pause).min(LONGEST);
        wait(pause, self.stop)
    }
}

/// Waits. False where everything is to end.
pub(super) fn wait(pause: Duration, stop: &Stop) -> bool {
    let slice = Duration::from_millis(20);
    let mut slept = Duration::ZERO;
    while slept < pause {
        if stop() {
            return false;
        }
        thread::sleep(slice.min(pause - slept));
        slept += slice;
    }
    !stop()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn attempts_are_bounded_and_progress_counts_anew() {
        let limits = Limits { tries: 3, pause: Duration::from_micros(10), ..Limits::default() };
        let stop: Stop = Arc::new(|| false);
        let mut backoff = Backoff::new(&limits, &stop);
        assert!(backoff.again(None) && backoff.again(None));
        assert!(!backoff.again(None));
        backoff.progressed();
        assert!(backoff.again(None) && backoff.again(None) && !backoff.again(None));
    }

    #[test]
    fn what_the_registry_asks_for_is_waited_and_the_end_is_not() {
        let limits = Limits { pause: Duration::from_micros(10), ..Limits::default() };
        let stop: Stop = Arc::new(|| false);
        let before = Instant::now();
        assert!(Backoff::new(&limits, &stop).again(Some(Duration::from_millis(60))));
        assert!(before.elapsed() >= Duration::from_millis(60));
        let stop: Stop = Arc::new(|| true);
        let before = Instant::now();
        assert!(!Backoff::new(&limits, &stop).again(Some(Duration::from_secs(600))));
        assert!(before.elapsed() < Duration::from_secs(60));
    }
}
