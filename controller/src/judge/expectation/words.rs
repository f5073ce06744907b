//! What a violation is, in words.

use super::{Finding, Judged, Rule, Violates};
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
        let [long, short] = burning.exceeded().unwrap_or_else(|| burning.rates());
        let (attempts, failures) = burning.seen();
        format!(
            "{failures} of {attempts} {} failed: the budget burns at {} over the long window and at {} over the short one ({})",
            self.noun,
            check::trimmed(long, 1),
            check::trimmed(short, 1),
            self.expectation
        )
    }

    /// Why windows violate; `reason` is what the probe itself said most often in the last.
    pub(super) fn window_words(&self, measured: Option<f64>, reason: Option<&str>) -> String {
        let why = self.reasons.words(reason);
        if self.windows_in_row > 0 && self.empty_in_row == self.windows_in_row {
            let windows = self.windows_in_row;
            let s = if windows == 1 { "" } else { "s" };
            return format!(
                "the probe gave no {} in {windows} window{s} in a row ({} expected){why}",
                self.expectation.measure, self.expectation
            );
        }
        let measured = match measured {
            Some(measured) => check::show(&self.expectation.measure, measured),
            None => "not as expected".to_owned(),
        };
        format!(
            "{} was {measured} and violated {} in {} window{} {}{why}",
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

    pub(super) fn finding(&self) -> Finding {
        let (trials, share, of_what) = self.evidence_rests_on();
        let percent = |share: f64| format!("{}%", check::trimmed(share * 100.0, 2));
        let of = match of_what {
            Some(noun) => format!("of the last {trials} {noun}"),
            None => format!("of {trials} {}", self.noun),
        };
        let measured = match &self.rule {
            Rule::Samples { violates, .. } => {
                let tolerated = percent(self.share().map_or(0.0, |(_, tolerated)| tolerated));
                let latency = |us| check::show(&Measure::Max, us);
                match *violates {
                    Violates::Failing => format!(
                        "{} {of} succeeded, {} expected",
                        percent(1.0 - share),
                        self.expectation
                    ),
                    Violates::Succeeding => format!(
                        "{} {of} succeeded, {} expected",
                        percent(share),
                        self.expectation
                    ),
                    Violates::Slower { us, .. } => format!(
                        "{} {of} took longer than {}, at most {tolerated} expected ({})",
                        percent(share),
                        latency(us),
                        self.expectation
                    ),
                    Violates::Faster { us, .. } => format!(
                        "{} {of} took less than {}, at most {tolerated} expected ({})",
                        percent(share),
                        latency(us),
                        self.expectation
                    ),
                }
            }
            Rule::Pairs(pairs) => self.pair_words(pairs),
            Rule::Burn(burning) => self.burn_words(burning),
            _ => self.answer_words(&of),
        };
        let samples = match &self.rule {
            Rule::Pairs(pairs) => pairs.test.seen().pairs,
            _ => self.in_phase.trials,
        };
        // Why attempts failed does not say why they were slow.
        let why = match &self.rule {
            Rule::Samples {
                violates: Violates::Failing,
                ..
            }
            | Rule::Burn(_)
            | Rule::Answers => self.reasons.words(None),
            _ => String::new(),
        };
        Finding {
            measured: measured + &why,
            samples,
            no_data: false,
        }
    }

    /// What answers did not say, and how many of them had nothing at the path that is looked at.
    fn answer_words(&self, of: &str) -> String {
        let seen = self.in_phase;
        let words = format!(
            "{} {of} did not satisfy {}",
            seen.violating, self.expectation
        );
        match (
            &self.expectation.measure,
            seen.trials.saturating_sub(seen.numbers),
        ) {
            (Measure::Body(_), absent @ 1..) => {
                format!("{words}, as {absent} were no JSON or had nothing there")
            }
            _ => words,
        }
    }

    /// The trials to tell a person of and the share of them that violates: the phase's attempts, or, where that share is still
    /// within bounds, those of the burst that is the evidence, with what they are called.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn evidence_rests_on(&self) -> (u64, f64, Option<&'static str>) {
        let seen = self.in_phase;
        let tolerated = self.share().map_or(0.0, |(_, tolerated)| tolerated);
        let share = seen.violating as f64 / seen.trials.max(1) as f64;
        match &self.rule {
            Rule::Samples { test, .. } if share <= tolerated => {
                let (trials, violating) = test.stretch();
                let share = violating / trials.max(1) as f64;
                (trials, share, Some(test.noun(self.noun)))
            }
            _ => (seen.trials, share, None),
        }
    }
}
