//! The attempts that are under way: each is announced before it is made, so that one that is missing is known to be.

use std::collections::BTreeSet;

/// So many attempts in a row that nobody announced are counted one by one; more of them say nothing more.
const GAP_MAX: usize = 100_000;

/// The attempts of one group, by when they are due, in microseconds.
#[derive(Debug, Clone)]
pub(super) struct Announced {
    every_us: u64,
    /// Attempts are all announced: one that is not, between two that are, is missing.
    regular: bool,
    last_us: Option<u64>,
    open: BTreeSet<u64>,
    /// They count as violating, and are not heard any more.
    given_up: BTreeSet<u64>,
}

impl Announced {
    /// Attempts are due every so many microseconds, unless they are not `regular`: what a probe may leave out without a word.
    pub(super) const fn new(every_us: u64, regular: bool) -> Self {
        Self {
            every_us: if every_us == 0 { 1 } else { every_us },
            regular,
            last_us: None,
            open: BTreeSet::new(),
            given_up: BTreeSet::new(),
        }
    }

    /// An attempt is under way. Those from `since_us` on are told that should have been announced before it and were not; they count as under
    /// way from now on.
    pub(super) fn begun(&mut self, due_us: u64, since_us: u64) -> Vec<u64> {
        let mut left_out = Vec::new();
        if let Some(last) = self.last_us.filter(|_| self.regular) {
            // An attempt is due at a multiple of the interval, to a microsecond or two.
            let until = due_us.saturating_sub(self.every_us / 2);
            let mut next = last + self.every_us;
            while next < until && left_out.len() < GAP_MAX {
                if next >= since_us {
                    left_out.push(next);
                }
                next += self.every_us;
            }
        }
        self.last_us = self.last_us.max(Some(due_us));
        self.open.extend(&left_out);
        self.open.insert(due_us);
        left_out
    }

    /// An attempt ended. Not so for one that was given up: it is counted already.
    pub(super) fn ended(&mut self, due_us: u64) -> bool {
        self.open.remove(&due_us);
        !self.given_up.remove(&due_us)
    }

    /// Gives up those that were due from `since_us` on and before `before_us`.
    pub(super) fn give_up(&mut self, since_us: u64, before_us: u64) -> Vec<u64> {
        if since_us >= before_us {
            return Vec::new();
        }
        let lost: Vec<u64> = self.open.range(since_us..before_us).copied().collect();
        for due_us in &lost {
            self.open.remove(due_us);
        }
        self.given_up.extend(&lost);
        lost
    }

    /// Forgets those that are due from `until_us` on, and announces no more.
    pub(super) fn end(&mut self, until_us: u64) {
        self.open.retain(|due_us| *due_us < until_us);
    }

    /// What was due before says nothing any more.
    pub(super) fn begin(&mut self, since_us: u64) {
        self.open.retain(|due_us| *due_us >= since_us);
        self.given_up.retain(|due_us| *due_us >= since_us);
    }

    pub(super) const fn open(&self) -> &BTreeSet<u64> {
        &self.open
    }

    /// The oldest that was due from `since_us` on.
    pub(super) fn oldest(&self, since_us: u64) -> Option<u64> {
        self.open.range(since_us..).next().copied()
    }

    /// Whether any was ever announced.
    pub(super) const fn is_used(&self) -> bool {
        self.last_us.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_between_two_is_known() {
        let mut announced = Announced::new(20, true);
        assert!(
            announced.begun(1_000, 0).is_empty(),
            "nobody knows the first"
        );
        assert!(announced.begun(1_021, 0).is_empty(), "nearly in time");
        assert_eq!(announced.begun(1_080, 0), [1_041, 1_061]);
        assert_eq!(announced.begun(1_160, 1_130), [1_140], "of the phase alone");
        assert_eq!(announced.oldest(1_030), Some(1_041));
        let mut may_leave_out = Announced::new(20, false);
        may_leave_out.begun(1_000, 0);
        assert!(may_leave_out.begun(9_000, 0).is_empty());
    }

    #[test]
    fn what_was_given_up_is_not_heard_again() {
        let mut announced = Announced::new(20, true);
        announced.begun(10, 0);
        announced.begun(30, 0);
        assert_eq!(announced.give_up(0, 20), [10]);
        assert!(announced.give_up(0, 20).is_empty());
        assert!(!announced.ended(10) && announced.ended(30));
        assert!(announced.open().is_empty());
    }
}
