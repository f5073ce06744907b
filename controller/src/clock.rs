//! The one clock of a controller.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Microseconds since the Unix epoch that never go back: the wall clock is read once, then the monotonic one goes on from there.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Instant,
    began_us: u64,
}

impl Clock {
    /// Reads the wall clock.
    #[must_use]
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            began: Instant::now(),
            began_us: us(since_epoch.unwrap_or_default()),
        }
    }

    /// Now.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.began_us + us(self.began.elapsed())
    }

    /// An instant of the monotonic clock; what was before the start is the start.
    #[must_use]
    pub fn at_us(&self, instant: Instant) -> u64 {
        self.began_us + us(instant.saturating_duration_since(self.began))
    }
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
