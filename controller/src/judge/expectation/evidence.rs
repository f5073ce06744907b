//! Whether what one phase showed of an expectation is enough to say anything.

use super::{Finding, Judged, Rule};
use crate::judge::baseline::Unfit;
use crate::judge::check;
use squall_experiments::enough::Pace;
use squall_experiments::proof::Proof;

impl Judged {
    /// Counts what is complete by now: blocks, where trials are blocks, and pairs of which nothing more will come from before `given_up_us`.
    pub(in crate::judge) fn complete(
        &mut self,
        now_us: u64,
        waiting_since_us: Option<u64>,
        given_up_us: u64,
    ) -> Option<Finding> {
        let was = self.confirmed();
        match &mut self.rule {
            Rule::Samples { test, .. } => test.complete(now_us, waiting_since_us),
            Rule::Pairs(pairs) => pairs.expire(given_up_us),
            _ => {}
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

    /// What is missing before the phase's silence says that the expectation held, where something is. `pace` says
    /// how long so many trials take.
    pub(in crate::judge) fn unproven(&self, pace: Pace) -> Option<String> {
        let text = &self.expectation;
        if let Some((proof, noun, seen)) = self.proof() {
            if proof.shown() {
                return None;
            }
            let sure = check::trimmed(self.settings.confidence * 100.0, 2);
            let bound = self.margin();
            return Some(match proof.missing() {
                Some(missing) => format!(
                    "{text} is not shown{bound} with {sure}% confidence by {seen}: about {missing} more {noun} are missing, {} at this rate; hold longer or probe more often",
                    pace.of_expectation(text).lasting(missing)
                ),
                None => format!(
                    "{text} is not shown{bound} by {seen}: about as many violate as are tolerated, and no hold is long enough for that; mend what fails, or expect less"
                ),
            });
        }
        let (had, needed) = self.samples();
        (had < needed).then(|| {
            format!("{text}: {had} samples, and fewer than {needed} cannot show a violation: hold longer or probe more often")
        })
    }

    /// What must be shown of shares of trials, what a trial is called, and what was seen, in words.
    fn proof(&self) -> Option<(&Proof, &'static str, String)> {
        match &self.rule {
            Rule::Samples { test, .. } => {
                let (proof, noun) = (test.proof(), test.noun(self.noun));
                let seen = format!("{} {noun}, {} violating", proof.trials(), self.violating());
                Some((proof, noun, seen))
            }
            Rule::Pairs(pairs) => {
                let seen = pairs.test.seen();
                let seen = format!(
                    "{} pairs, {} violating in the group and {} in the control",
                    seen.pairs, seen.group, seen.control
                );
                Some((&pairs.proof, "pairs", seen))
            }
            _ => None,
        }
    }

    /// By how much a group may still be worse, where the expectation itself leaves nothing.
    fn margin(&self) -> String {
        match &self.rule {
            Rule::Pairs(pairs) if pairs.test.hypothesis().tolerated <= 0.0 => format!(
                " to be missed by less than {} points",
                check::trimmed(pairs.test.hypothesis().margin() * 100.0, 2)
            ),
            _ => String::new(),
        }
    }

    /// What the phase showed, in words, where it is a share of trials that is shown.
    pub(in crate::judge) fn shown(&self) -> Option<String> {
        let (proof, _, seen) = self.proof().filter(|(proof, ..)| proof.shown())?;
        let at_most = check::trimmed((proof.at_most() * 1e4).ceil() / 1e2, 2);
        let sure = check::trimmed(self.settings.confidence * 100.0, 2);
        Some(match &self.rule {
            Rule::Pairs(_) => format!(
                "{}: of {seen}; at most {at_most} points more of the group's do than it allows for the control's, with {sure}% confidence",
                self.expectation
            ),
            _ => format!(
                "{}: {} of {} {} violated; at most {at_most}% do, with {sure}% confidence",
                self.expectation,
                self.violating(),
                self.in_phase.trials,
                self.noun,
            ),
        })
    }

    fn violating(&self) -> String {
        match self.in_phase.violating {
            0 => "none".to_owned(),
            some => some.to_string(),
        }
    }
}
