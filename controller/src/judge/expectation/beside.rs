//! What an expectation knows from one phase or window to the next: the control beside it, its budget, how its windows were.

use super::{Finding, Judged, Rule};
use crate::judge::burn::Burning;
use crate::judge::check;
use crate::judge::pairs::{Pairs, Side};
use crate::judge::trial::Trial;
use squall_experiments::expectation::{Bound, Check, Measure};

impl Judged {
    /// The rules that know something from one phase to the next.
    pub(super) fn lasting(&self, every_us: u64) -> Option<Rule> {
        match (&self.expectation.measure, &self.expectation.check) {
            (Measure::Burn(burn), Check::Compare(_, Bound::Absolute(factor))) => {
                let factor = check::number(factor)?;
                Some(Rule::Burn(Burning::new(burn, factor, every_us)))
            }
            _ => Pairs::new(&self.expectation, self.settings).map(Rule::Pairs),
        }
    }

    /// Whether it says nothing without the control.
    pub(in crate::judge) const fn is_beside_control(&self) -> bool {
        check::against_control(&self.expectation.check)
    }

    /// An attempt, due then, is under way.
    pub(in crate::judge) fn begun(&mut self, due_us: u64) {
        match &mut self.rule {
            Rule::Pairs(pairs) => pairs.begun(due_us),
            Rule::Samples { test, .. } => test.begun(due_us),
            _ => {}
        }
    }

    /// An attempt of the control, due then, is under way.
    pub(in crate::judge) fn begun_of_control(&mut self, due_us: u64) {
        if let Rule::Pairs(pairs) = &mut self.rule {
            pairs.begun(due_us);
        }
    }

    /// An attempt of the control that was due then is missing.
    pub(in crate::judge) fn lost_of_control(&mut self, due_us: u64) -> Option<Finding> {
        if self.is_beside_control() {
            let window = self.window_of(due_us);
            self.ahead.entry(window).or_default().missing += 1;
        }
        self.paired(|pairs| pairs.lost_of_control(due_us))
    }

    /// Takes one attempt of the control.
    pub(in crate::judge) fn take_control(&mut self, trial: &Trial) -> Option<Finding> {
        self.paired(|pairs| pairs.take(Side::Control, trial))
    }

    pub(super) fn paired(&mut self, change: impl FnOnce(&mut Pairs)) -> Option<Finding> {
        let was = self.confirmed();
        if let Rule::Pairs(pairs) = &mut self.rule {
            change(pairs);
        }
        (!was && self.confirmed()).then(|| self.finding())
    }

    /// Takes one attempt out of the error budget.
    pub(super) fn take_of_budget(&mut self, trial: &Trial) -> Option<Finding> {
        let was = self.confirmed();
        let failed = !trial.succeeded();
        self.see(trial.due_us, failed, None);
        if let Rule::Burn(burning) = &mut self.rule {
            burning.take(trial.due_us, failed);
        }
        (!was && self.confirmed()).then(|| self.finding())
    }
}
