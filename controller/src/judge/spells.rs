//! The windows that are judged: what was due in each, whenever it ended.

use super::tally::Tally;
use super::trial::Trial;
use std::collections::BTreeMap;

/// An attempt that was due at the end of a window is announced within this, and the window may wait for it.
const ANNOUNCED_US: u64 = 100_000;

/// Nobody announces what may be left out without a word: it has so long to come in.
const UNANNOUNCED_US: u64 = 1_000_000;

/// One window.
#[derive(Debug, Clone)]
pub(super) struct Spell {
    pub(super) number: u64,
    pub(super) group: Tally,
    pub(super) control: Tally,
}

/// The windows of one phase. Times are microseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub(super) struct Spells {
    since_us: u64,
    window_us: u64,
    /// All attempts are announced.
    regular: bool,
    ahead: BTreeMap<u64, Spell>,
    next: u64,
}

impl Spells {
    pub(super) const fn new(since_us: u64, window_us: u64, regular: bool) -> Self {
        Self {
            since_us,
            window_us,
            regular,
            ahead: BTreeMap::new(),
            next: 0,
        }
    }

    /// A new phase.
    pub(super) fn begin(&mut self, since_us: u64) {
        *self = Self::new(since_us, self.window_us, self.regular);
    }

    /// Takes an attempt of the phase.
    pub(super) fn take(&mut self, trial: &Trial) {
        self.of(trial).group.take(trial);
    }

    /// The same of the control's.
    pub(super) fn take_of_control(&mut self, trial: &Trial) {
        self.of(trial).control.take(trial);
    }

    /// What comes when its window is judged already counts in the next.
    fn of(&mut self, trial: &Trial) -> &mut Spell {
        let number = trial.due_us.saturating_sub(self.since_us) / self.window_us;
        let number = number.max(self.next);
        self.ahead.entry(number).or_insert_with(|| empty(number))
    }

    /// The next window that is over before `until_us`, and that no attempt is missing from: `waiting_us` is when the oldest that is under way
    /// was due. `announced`: whether attempts are announced at all.
    pub(super) fn next(
        &mut self,
        now_us: u64,
        until_us: u64,
        waiting_us: Option<u64>,
        announced: bool,
    ) -> Option<Spell> {
        let number = self.next;
        let ends_us = (number + 1)
            .checked_mul(self.window_us)?
            .checked_add(self.since_us)?;
        let patience_us = match (self.regular, announced) {
            (true, true) => ANNOUNCED_US,
            (true, false) => 0,
            (false, _) => UNANNOUNCED_US,
        };
        let is_over = ends_us <= until_us && now_us.saturating_sub(patience_us) >= ends_us;
        if !is_over || waiting_us.is_some_and(|since| since < ends_us) {
            return None;
        }
        // With nothing ahead, there is nothing to judge until the end of time.
        if now_us == u64::MAX && self.ahead.is_empty() {
            return None;
        }
        self.next += 1;
        Some(self.ahead.remove(&number).unwrap_or_else(|| empty(number)))
    }
}

fn empty(number: u64) -> Spell {
    Spell {
        number,
        group: Tally::of_window(),
        control: Tally::of_window(),
    }
}
