//! The clocks of a controller: the one on the wall, one that never goes back, and one that goes on while the machine sleeps.

use nix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// What the wall clock says: microseconds since the Unix epoch. Somebody may set it at any moment.
#[must_use]
pub fn wall_us() -> u64 {
    #[cfg(test)]
    if let Some(wall_us) = simulated::wall_us() {
        return wall_us;
    }
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    us(since_epoch.unwrap_or_default())
}

/// The same, as databases keep it.
#[must_use]
pub fn kept_us() -> i64 {
    i64::try_from(wall_us()).unwrap_or(i64::MAX)
}

/// Time since this machine was started (CLOCK_BOOTTIME), which nobody sets and which goes on while it sleeps. Zero where the kernel does
/// not tell.
#[must_use]
pub fn since_boot() -> Duration {
    #[cfg(test)]
    if let Some(since_boot) = simulated::since_boot() {
        return since_boot;
    }
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

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
        Self {
            began: Instant::now(),
            began_us: wall_us(),
        }
    }

    /// Now.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.began_us + us(self.began.elapsed())
    }

    /// An instant of the monotonic clock; what was before the start is the start.
    #[must_use]
    pub fn at_us(&self, instant: std::time::Instant) -> u64 {
        let instant = Instant::from_std(instant);
        self.began_us + us(instant.saturating_duration_since(self.began))
    }
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The clocks of the simulated machine whose process this thread is running just now ([`crate::simulation`]).
#[cfg(test)]
pub(crate) mod simulated {
    use super::us;
    use std::cell::Cell;
    use std::time::Duration;
    use tokio::time::Instant;

    thread_local! {
        static CLOCKS: Cell<Option<Clocks>> = const { Cell::new(None) };
    }

    /// Where a process's paused clock is in the simulation's time.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Clocks {
        /// The process's clock when it began.
        pub(crate) began: Instant,
        /// And when that was, in the simulation's time.
        pub(crate) began_us: u64,
        /// What the wall clock said at the simulation's beginning, as it is set now.
        pub(crate) wall_us: u64,
    }

    /// From now on this thread runs a process with these clocks, or none.
    pub(crate) fn set(clocks: Option<Clocks>) {
        CLOCKS.set(clocks);
    }

    /// The simulation's time.
    pub(crate) fn now_us() -> Option<u64> {
        let clocks = CLOCKS.get()?;
        Some(clocks.began_us + us(Instant::now().saturating_duration_since(clocks.began)))
    }

    pub(super) fn wall_us() -> Option<u64> {
        Some(CLOCKS.get()?.wall_us + now_us()?)
    }

    pub(super) fn since_boot() -> Option<Duration> {
        now_us().map(Duration::from_micros)
    }
}
