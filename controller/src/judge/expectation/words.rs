//! What a violation is, in words.

use super::Judged;
use crate::judge::burn::Burning;
use crate::judge::check;
use crate::judge::pairs::Pairs;
use squall_experiments::expectation::Measure;

impl Judged {
    /// A group beside its control: the phase's pairs, or, where they are within bounds, those of the burst that is the evidence.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    pub(super) fn pair_words(&self, pairs: &Pairs) -> String {
        let (seen, last) = match pairs.test.seen() {
            seen if seen.worth(pairs.test.hypothesis()) <= 0.0 => {
                (pairs.test.stretch(), "the last ")
            }
            seen => (seen, ""),
        };
        let percent = |of: u64| {
            let share = of as f64 / seen.pairs.max(1) as f64;
            format!("{}%", check::trimmed(share * 100.0, 2))
        };
        let did = match (&self.expectation.measure, pairs.limit_us()) {
            (Measure::Success, _) | (_, None) => "failed".to_owned(),
            (measure, Some(us)) => {
                let limit = check::show(measure, us);
                format!("were slow by the control's {measure}, lately {limit}")
            }
        };
        format!(
            "{} of {last}{} {} {did}, and {} of the control's as many, {} expected",
            percent(seen.group),
            seen.pairs,
            self.noun,
            percent(seen.control),
            self.expectation
        )
    }

    pub(super) fn burn_words(&self, burning: &Burning) -> String {
        let [long, short] = burning.rates();
        let (attempts, failures) = burning.seen();
        format!(
            "{failures} of {attempts} {} failed: the budget burns at {} over the long window and at {} over the short one ({})",
            self.noun,
            check::trimmed(long, 1),
            check::trimmed(short, 1),
            self.expectation
        )
    }

    pub(super) fn window_words(&self, measured: Option<f64>) -> String {
        if self.windows_in_row > 0 && self.empty_in_row == self.windows_in_row {
            let windows = self.windows_in_row;
            let s = if windows == 1 { "" } else { "s" };
            return format!(
                "the probe answered and gave no {} in {windows} window{s} in a row ({} expected)",
                self.expectation.measure, self.expectation
            );
        }
        let measured = match measured {
            Some(measured) => check::show(&self.expectation.measure, measured),
            None => "not as expected".to_owned(),
        };
        format!(
            "{} was {measured} and violated {} in {} window{} {}",
            self.expectation.measure,
            self.expectation,
            self.windows_in_row,
            if self.windows_in_row == 1 { "" } else { "s" },
            if self.clear == 1 {
                "in a row".to_owned()
            } else {
                format!("without {} good ones in a row between", self.clear)
            }
        )
    }
}
