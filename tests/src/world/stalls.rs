//! How long the machine itself stood still: a test that allows 100 ms must not blame the product for a host that looked away
//! for 200.
//!
//! A thread asks to be woken every millisecond. Whatever it is woken late by, beyond what a scheduler's tick explains, nobody on
//! this machine could use for sure. An idle machine has no stalls, so that there the limits of the tests are exact.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often the watch is woken.
const TICK: Duration = Duration::from_millis(1);

/// Less than this late is a scheduler's tick (4 ms at the 250 Hz of Debian's kernel) and no stall.
const STALL: Duration = Duration::from_millis(8);

/// When each stall began and how long it was.
type Seen = Arc<Mutex<Vec<(Instant, Duration)>>>;

/// A watch over the machine; it ends with this value.
#[derive(Debug)]
pub struct Stalls {
    over: Arc<AtomicBool>,
    seen: Seen,
    watch: Option<JoinHandle<()>>,
}

impl Stalls {
    /// Watches from now on.
    pub fn watch() -> Self {
        let (over, seen) = (Arc::<AtomicBool>::default(), Seen::default());
        let (told, found) = (Arc::clone(&over), Arc::clone(&seen));
        let watch = thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let begun = Instant::now();
                thread::sleep(TICK);
                let late = begun.elapsed().saturating_sub(TICK);
                if late > STALL
                    && let Ok(mut found) = found.lock()
                {
                    found.push((begun, late));
                }
            }
        });
        Self {
            over,
            seen,
            watch: Some(watch),
        }
    }

    /// For how long the machine stood still between `since` and `until`, all stalls together.
    pub fn between(&self, since: Instant, until: Instant) -> Duration {
        let Ok(seen) = self.seen.lock() else {
            return Duration::ZERO;
        };
        let inside = |(begun, late): &(Instant, Duration)| {
            let end = (*begun + *late).min(until);
            end.saturating_duration_since((*begun).max(since))
        };
        seen.iter().map(inside).sum()
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(watch) = self.watch.take() {
            // A watch that panicked has seen no stalls: the stricter side.
            let _ = watch.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_counts_only_where_it_overlaps() {
        let stalls = Stalls::watch();
        let begun = Instant::now();
        let ms = Duration::from_millis;
        stalls.seen.lock().unwrap().clear();
        let told = (begun + ms(3_600_000), ms(100));
        stalls.seen.lock().unwrap().push(told);
        let (from, to) = (told.0, told.0 + ms(100));
        assert_eq!(stalls.between(from, to), ms(100));
        assert_eq!(stalls.between(from + ms(40), to + ms(500)), ms(60));
        assert_eq!(stalls.between(from - ms(500), from + ms(10)), ms(10));
        assert_eq!(stalls.between(to, to + ms(10)), ms(0));
    }
}
