//! The windows of one expectation: those that are shown as time goes by, and those that are judged.
//!
//! What is judged is each window's own attempts: those that were due in it, once all of them have ended or were given up. A slow attempt is
//! thus waited for, and an attempt that is missing belongs to its window and not to none.

use super::{Finding, Judged, Rule, Seen};
use crate::judge::baseline::Point;
use crate::judge::compare::Counts;
use crate::judge::tally::Tally;
use squall_experiments::event::CheckPoint;
use squall_experiments::expectation::Measure;

impl Judged {
    /// The number of the window in which an attempt is judged; of one that comes when its own is over, the next.
    pub(super) fn window_of(&self, due_us: u64) -> u64 {
        let window = due_us.saturating_sub(self.since_us) / self.window_us;
        window.max(self.next_window)
    }

    /// Counts one attempt.
    pub(super) fn see(&mut self, due_us: u64, violates: bool, number: Option<f64>) {
        let window = self.window_of(due_us);
        let ahead = self.ahead.entry(window).or_default();
        for seen in [&mut self.in_phase, &mut self.in_window, ahead] {
            seen.trials += 1;
            seen.violating += u64::from(violates);
            if let Some(number) = number {
                seen.numbers += 1;
                seen.sum += number;
            }
        }
    }

    /// Shows a window: `tally` holds what ended in it, `control` what did of the control, where there is one.
    pub(in crate::judge) fn show(
        &mut self,
        tally: &Tally,
        control: Option<&Tally>,
        length_us: u64,
    ) -> CheckPoint {
        let seen = std::mem::take(&mut self.in_window);
        let pairs = match &mut self.rule {
            Rule::Pairs(pairs) => pairs.close(),
            _ => Counts::default(),
        };
        self.compare_with(control, length_us);
        let measured = self.measured(seen, tally, length_us);
        CheckPoint {
            measured,
            bound: self.ready.bound(self.against()),
            satisfied: tally.attempts > 0 && self.satisfies(seen, pairs, measured),
            evidence: self.evidence(),
            stop_at: matches!(self.rule, Rule::Samples { .. } | Rule::Pairs(_))
                .then(|| 1.0 / self.settings.alpha),
        }
    }

    /// Judges the window of this number, which is over, and says whether it was good. One without attempts is none.
    pub(in crate::judge) fn close(
        &mut self,
        window: u64,
        tally: &Tally,
        control: Option<&Tally>,
    ) -> (bool, Option<Finding>) {
        let seen = self.ahead.remove(&window).unwrap_or_default();
        self.next_window = window + 1;
        let pairs = match &mut self.rule {
            Rule::Pairs(pairs) => pairs.close_judged(),
            _ => Counts::default(),
        };
        if tally.attempts == 0 {
            return (false, None);
        }
        self.compare_with(control, self.window_us);
        let measured = self.measured(seen, tally, self.window_us);
        let satisfied = self.satisfies(seen, pairs, measured);
        self.course.take(Point {
            measured,
            trials: seen.trials,
            violating: seen.violating,
        });
        let was = self.confirmed();
        if matches!(self.rule, Rule::Windows) {
            self.count_window(satisfied, measured);
        }
        let finding = (!was && self.confirmed()).then(|| Finding {
            no_data: measured.is_none(),
            measured: self.window_words(measured, tally.reason()),
            samples: self.windows,
        });
        (satisfied, finding)
    }

    fn compare_with(&mut self, control: Option<&Tally>, length_us: u64) {
        let measure = &self.expectation.measure;
        self.control = control.and_then(|control| control.measure(measure, length_us));
    }

    fn measured(&self, seen: Seen, tally: &Tally, length_us: u64) -> Option<f64> {
        match (&self.expectation.measure, &self.rule) {
            (Measure::Body(_) | Measure::Status | Measure::Exit, _) => seen.mean(),
            (_, Rule::Burn(burning)) => {
                let [long, short] = burning.rates();
                (tally.attempts > 0).then_some(long.min(short))
            }
            (measure, _) => tally.measure(measure, length_us),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn satisfies(&self, seen: Seen, pairs: Counts, measured: Option<f64>) -> bool {
        match (&self.rule, &self.expectation.measure) {
            (Rule::Pairs(of), _) => {
                self.control.is_some() && pairs.could_be_well(of.test.hypothesis())
            }
            // The window's own burn: over an hour's a total outage of minutes would look like health.
            (Rule::Burn(_), Measure::Burn(burn)) => {
                let share = seen.violating as f64 / seen.trials.max(1) as f64;
                self.ready.number(share / burn.budget(), None)
            }
            (Rule::NotYet, _) => true,
            // Not a window of which all is known.
            (Rule::Windows, _) if seen.missing > 0 => false,
            (Rule::Samples { .. }, _) => {
                let tolerated = self.share().map_or(0.0, |(_, tolerated)| tolerated);
                // A share such as 1 - 0.99 is not exact; a millionth of a trial decides nothing.
                seen.violating as f64 <= tolerated * seen.trials as f64 + 1e-6
            }
            (Rule::Answers, _) | (_, Measure::Exit | Measure::Value) => seen.violating == 0,
            // Nobody is worse for a slowest answer that is faster than the control's.
            (Rule::Windows, Measure::Max)
                if measured.zip(self.control).is_some_and(|(m, c)| m <= c) =>
            {
                true
            }
            (Rule::Windows | Rule::Burn(_), _) => {
                measured.is_some_and(|m| self.ready.number(m, self.against()))
            }
        }
    }

    /// Ends a window of an expectation that is judged by them.
    fn count_window(&mut self, satisfied: bool, measured: Option<f64>) {
        self.windows += 1;
        if !satisfied {
            self.windows_in_row += 1;
            self.good_in_row = 0;
            self.empty_in_row += u64::from(measured.is_none());
            return;
        }
        self.good_in_row += 1;
        if self.good_in_row >= self.clear {
            self.windows_in_row = 0;
            self.empty_in_row = 0;
        }
    }
}
