//! When to do what is done again and again: along with what wakes this process anyway.
//!
//! Leases are renewed every few seconds, and each renewal wakes the agent and its holders. What is due about once a
//! second (a dose, a look at what lives) is done then, and by a clock of its own only where no renewal comes when one
//! should: between two renewals nothing wakes up.

use std::time::{Duration, Instant};

/// At least this much time lies between two turns, and this much where no renewals come.
const EVERY: Duration = Duration::from_secs(1);
/// No turn is later than this, however rarely renewals come.
const EVERY_MAX: Duration = Duration::from_secs(5);

/// When the next turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rhythm {
    last: Instant,
    renewed: Instant,
    due: Instant,
}

impl Rhythm {
    /// The first turn is in a second.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            last: now,
            renewed: now,
            due: now + EVERY,
        }
    }

    /// When to wake up for a turn.
    pub(crate) const fn due(&self) -> Instant {
        self.due
    }

    /// Whether the turn is due; if so it is taken.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let due = now >= self.due;
        if due {
            self.last = now;
            self.due = now + EVERY;
        }
        due
    }

    /// A renewal has come: its turn is taken now unless the last one has only just been, and the next is expected with the next
    /// renewal. Says whether.
    pub(crate) fn renewed(&mut self, now: Instant) -> bool {
        let between = now.saturating_duration_since(self.renewed);
        self.renewed = now;
        let taken = now.saturating_duration_since(self.last) >= EVERY;
        if taken {
            self.last = now;
        }
        // Half as long again as the last time: renewals are not punctual to the millisecond.
        let expected = (between.max(EVERY) * 3 / 2).min(EVERY_MAX);
        self.due = if taken { now } else { self.last } + expected;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn without_renewals_there_is_a_turn_each_second() {
        let start = Instant::now();
        let mut rhythm = Rhythm::new(start);
        for second in 1..=3 {
            assert!(!rhythm.take(at(start, second * 1000 - 1)));
            assert!(rhythm.take(at(start, second * 1000)));
        }
    }

    #[test]
    fn with_renewals_nothing_but_them_wakes_anybody() {
        for (every_ms, turns) in [(2_000, 10), (400, 3), (3_300, 10)] {
            let start = Instant::now();
            let mut rhythm = Rhythm::new(start);
            rhythm.take(at(start, 1_000));
            rhythm.renewed(at(start, 2_000));
            let mut taken = 0;
            for renewal in 1..=10 {
                let now = at(start, 2_000 + renewal * every_ms);
                if renewal > 1 {
                    assert!(rhythm.due() > now, "woken up before renewal {renewal}");
                }
                taken += u64::from(rhythm.renewed(now));
            }
            assert!(
                taken >= turns,
                "{taken} turns at renewals each {every_ms} ms"
            );
        }
    }

    #[test]
    fn a_renewal_that_stays_away_costs_a_few_seconds_at_most() {
        let start = Instant::now();
        let mut rhythm = Rhythm::new(start);
        for renewal in 1..=3 {
            rhythm.renewed(at(start, renewal * 20_000));
        }
        assert_eq!(rhythm.due(), at(start, 65_000));
        assert!(rhythm.take(at(start, 65_000)));
        assert_eq!(rhythm.due(), at(start, 66_000));
    }
}
