//! Until when this controller leads, by a clock that nobody sets and that goes on while a machine sleeps.

use crate::clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Now. Where the kernel does not tell, nobody leads for long.
pub(super) fn now() -> Duration {
    clock::since_boot()
}

/// Until when this controller may act as the leader. Cloning it is another handle to the same. A process that was stopped
/// and wakes finds it over before it does anything else.
#[derive(Debug, Clone)]
pub struct Term(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    until_ms: AtomicU64,
    /// The token of the lead; 0 where there are none.
    number: AtomicU64,
}

impl Term {
    /// Nobody else can lead: one controller, or one run on one machine.
    #[must_use]
    pub fn always() -> Self {
        Self::until(u64::MAX)
    }

    pub(super) fn over() -> Self {
        Self::until(0)
    }

    fn until(until_ms: u64) -> Self {
        Self(Arc::new(Inner {
            until_ms: AtomicU64::new(until_ms),
            number: AtomicU64::new(0),
        }))
    }

    /// Whether this controller leads now.
    #[must_use]
    pub fn holds(&self) -> bool {
        millis(now()) < self.0.until_ms.load(Ordering::Acquire)
    }

    /// Which term this is, or was last: each leader's is higher than the one before. None where there is but one controller.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        Some(self.0.number.load(Ordering::Acquire)).filter(|number| *number > 0)
    }

    pub(crate) fn begin(&self, token: i64, until: Duration) {
        let number = u64::try_from(token).unwrap_or(0);
        self.0.number.store(number, Ordering::Release);
        self.extend(until);
    }

    pub(super) fn extend(&self, until: Duration) {
        self.0.until_ms.store(millis(until), Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.0.until_ms.store(0, Ordering::Release);
    }
}

impl Default for Term {
    fn default() -> Self {
        Self::always()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_holds_until_its_time_is_over_for_all_its_handles() {
        let term = Term::over();
        let other = term.clone();
        assert!(!other.holds());
        term.extend(now() + Duration::from_secs(3600));
        assert!(other.holds());
        term.extend(now());
        assert!(!other.holds());
        term.extend(now() + Duration::from_secs(3600));
        other.end();
        assert!(!term.holds());
        assert!(Term::always().holds());
        assert_eq!(Term::always().number(), None);
        term.begin(7, now() + Duration::from_secs(3600));
        assert!(other.holds());
        other.end();
        assert_eq!(other.number(), Some(7));
    }
}
