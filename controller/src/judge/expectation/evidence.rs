//! Whether what one phase showed of an expectation is enough to say anything.

use super::{Finding, Judged, Rule};
use crate::judge::baseline::Unfit;
use crate::judge::check;
use std::collections::BTreeSet;

impl Judged {
    /// The phase is over, and what is still under way will not be heard any more: it is not known to have been well, and counts as
    /// a violation. `open` are the attempts of the phase.
    pub(in crate::judge) fn lost(&mut self, open: &BTreeSet<u64>) -> Option<Finding> {
        if !matches!(self.rule, Rule::Samples { .. }) {
            return None;
        }
        let mut found = None;
        for due_us in open {
            if self.late.insert(*due_us) {
                found = found.or(self.count(*due_us, true, None));
            }
        }
        found
    }

    /// Counts the blocks that are complete, where trials are blocks.
    pub(in crate::judge) fn complete(
        &mut self,
        now_us: u64,
        waiting_since_us: Option<u64>,
    ) -> Option<Finding> {
        let was = self.confirmed();
        if let Rule::Samples { test, .. } = &mut self.rule {
            test.complete(now_us, waiting_since_us);
        }
        (!was && self.confirmed()).then(|| self.finding())
    }

    /// Why the baseline is too short, too noisy or on its way somewhere; see [`baseline`].
    pub(super) fn unsteady(&self) -> Option<String> {
        let measured = self.baseline.map(|b| b.measured);
        let text = &self.expectation;
        let show = |value| check::show(&self.expectation.measure, value);
        if let (Some((low, high)), Some(bound)) = (self.known_between, self.ready.bound(measured))
            && check::against_baseline(&text.check)
            && !high.is_some_and(|high| self.ready.number(high, measured))
        {
            let between = high.map_or("nothing above it was seen".to_owned(), |high| {
                format!("it may be anything from {} to {}", show(low), show(high))
            });
            let attempts = self.baseline.map_or(0, |b| b.attempts);
            return Some(format!(
                "the baseline is too short for {text}: from {attempts} {} {between}, and {} is the bound; make it longer, probe more often, or allow more",
                self.noun,
                show(bound)
            ));
        }
        let (unfit, shares) = match &self.rule {
            Rule::Samples { .. } => {
                let (_, tolerated) = self.share()?;
                (self.course.share(tolerated)?, true)
            }
            Rule::NotYet => {
                let windows = self.share().is_none();
                (self.course.measure(&self.ready, measured, windows)?, false)
            }
            Rule::Pairs(_) | Rule::Burn(_) | Rule::Answers | Rule::Windows => return None,
        };
        Some(match unfit {
            Unfit::Drifts(early, late) => {
                let percent = |share| format!("{}% violating", check::trimmed(share * 100.0, 2));
                let words = |value| if shares { percent(value) } else { show(value) };
                format!(
                    "the baseline drifts: {text} saw {} in its first half and {} in its second; let the system settle, or make the baseline longer",
                    words(early),
                    words(late)
                )
            }
            Unfit::Noisy(outside, all) => format!(
                "the baseline is noisier than {text} allows: {outside} of its {all} windows were outside before anything was injected; allow more, or probe less often for longer windows"
            ),
        })
    }

    /// What is missing before the phase's silence says that the expectation held, where something is. `lasting`
    /// says how long so many trials take.
    pub(in crate::judge) fn unproven(&self, lasting: impl Fn(u64) -> String) -> Option<String> {
        let text = &self.expectation;
        if let Rule::Samples { test, .. } = &self.rule {
            let proof = test.proof();
            if proof.shown() {
                return None;
            }
            let noun = test.noun(self.noun);
            let seen = format!("{} {noun}, {} violating", proof.trials(), self.violating());
            let sure = check::trimmed(self.settings.confidence * 100.0, 2);
            return Some(match proof.missing() {
                Some(missing) => format!(
                    "{text} is not shown with {sure}% confidence by {seen}: about {missing} more {noun} are missing, {} at this rate; hold longer or probe more often",
                    lasting(missing)
                ),
                None => format!(
                    "{text} is not shown by {seen}: about as many violate as are tolerated, and no hold is long enough for that; mend what fails, or expect less"
                ),
            });
        }
        let (had, needed) = self.samples();
        (had < needed).then(|| {
            format!("{text}: {had} samples, and fewer than {needed} cannot show a violation: hold longer or probe more often")
        })
    }

    /// What the phase showed, in words, where it is a share of trials that is shown.
    pub(in crate::judge) fn shown(&self) -> Option<String> {
        let Rule::Samples { test, .. } = &self.rule else {
            return None;
        };
        let proof = test.proof();
        proof.shown().then(|| {
            format!(
                "{}: {} of {} {} violated; at most {}% do, with {}% confidence",
                self.expectation,
                self.violating(),
                self.in_phase.trials,
                self.noun,
                check::trimmed((proof.at_most() * 1e4).ceil() / 1e2, 2),
                check::trimmed(self.settings.confidence * 100.0, 2)
            )
        })
    }

    fn violating(&self) -> String {
        match self.in_phase.violating {
            0 => "none".to_owned(),
            some => some.to_string(),
        }
    }
}
