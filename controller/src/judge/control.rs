//! The control beside a probe: what it measured in the window, and whether it is heard at all.

use super::announced::Announced;
use super::tally::Tally;
use super::trial::Trial;

/// The attempts of a control group. Times are microseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub(super) struct Control {
    pub(super) announced: Announced,
    window: Tally,
    in_phase: u64,
    heard_us: u64,
    silent: bool,
}

impl Control {
    pub(super) fn new(now_us: u64, announced: Announced) -> Self {
        Self {
            announced,
            window: Tally::new(),
            in_phase: 0,
            heard_us: now_us,
            silent: false,
        }
    }

    /// A new phase.
    pub(super) fn begin(&mut self, since_us: u64) {
        self.announced.begin(since_us);
        self.window.clear();
        self.in_phase = 0;
    }

    /// An attempt ended, whichever phase it belongs to.
    pub(super) fn heard(&mut self, trial: &Trial) {
        self.heard_us = self.heard_us.max(trial.ended_us);
    }

    /// Takes an attempt of the phase.
    pub(super) fn take(&mut self, trial: &Trial) {
        self.window.take(trial);
        self.in_phase += 1;
    }

    /// The window's attempts so far.
    pub(super) const fn tally(&self) -> &Tally {
        &self.window
    }

    /// The next window begins.
    pub(super) fn clear(&mut self) {
        self.window.clear();
    }

    /// Whether the phase has seen nothing of it.
    pub(super) const fn gave_nothing(&self) -> bool {
        self.in_phase == 0
    }

    /// For how many seconds nothing was heard, at the moment at which that becomes too long.
    pub(super) fn falls_silent(&mut self, now_us: u64, silence_us: u64) -> Option<u64> {
        let since_us = now_us.saturating_sub(self.heard_us);
        let silent = since_us >= silence_us;
        let falls = silent && !self.silent;
        self.silent = silent;
        falls.then_some(since_us / 1_000_000)
    }
}
