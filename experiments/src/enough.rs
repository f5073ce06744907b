//! How long a fault must be held before a run can be called held.

use crate::expectation::{Bound, Check, Comparison, Expectation, Measure, Scalar};
use crate::experiment::SteadyState;
use crate::probe::Probe;
use crate::proof;
use crate::units::{Hold, Percent};
use std::time::Duration;

/// How fast one steady state gives trials.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// What its probe does.
    pub attempts_per_second: f64,
    /// Trials are blocks of this length, where they are blocks.
    pub block: Option<Duration>,
}

impl Pace {
    /// As the file says it.
    #[must_use]
    pub fn of(steady: &SteadyState) -> Self {
        let attempts_per_second = match &steady.probe {
            // Exact, where a time between two of them is not.
            Probe::Load(load) => load.rate.per_second(),
            other => 1.0 / other.cadence().every.as_secs_f64(),
        };
        Self {
            attempts_per_second,
            block: steady.block.map(|block| block.duration()),
        }
    }

    /// Of what an expectation is judged by: beside a control that is pairs of attempts, whatever `block` says.
    #[must_use]
    pub fn of_expectation(self, expectation: &Expectation) -> Self {
        Self {
            block: self.block.filter(|_| !expectation.against_control()),
            ..self
        }
    }

    /// Trials in a second. A block in which nothing was attempted is none.
    #[must_use]
    pub fn trials_per_second(&self) -> f64 {
        let blocks = self.block.map(|block| 1.0 / block.as_secs_f64());
        blocks.map_or(self.attempts_per_second, |blocks| {
            blocks.min(self.attempts_per_second)
        })
    }

    /// Whole trials in so long a time.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and at most two hours of a bounded rate"
    )]
    pub fn trials(&self, hold: Hold) -> u64 {
        // A rate such as 1/0.05 is not exact.
        (self.trials_per_second() * hold.duration().as_secs_f64() + 1e-6) as u64
    }

    /// How long so many trials take, in whole seconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "at most a billion")]
    pub fn lasting(&self, trials: u64) -> String {
        let seconds = (trials as f64 / self.trials_per_second()).ceil();
        if seconds < 600.0 {
            format!("{seconds}s")
        } else {
            format!("{}min", (seconds / 60.0).ceil())
        }
    }
}

/// The share of trials that an expectation lets violate, as far as the file alone says; none for what is not judged by shares, or is
/// compared with the baseline's own share.
#[must_use]
pub fn tolerated(expectation: &Expectation) -> Option<f64> {
    use Comparison as C;
    if expectation.against_control() {
        // Judged by pairs of attempts, not by a share of one group's.
        return None;
    }
    let Check::Compare(comparison, bound) = &expectation.check else {
        return None;
    };
    match (&expectation.measure, comparison, bound) {
        (Measure::Success, C::AtLeast | C::Greater, Bound::Absolute(Scalar::Percent(share))) => {
            Some(1.0 - share.fraction())
        }
        (Measure::Success, C::AtMost | C::Less, Bound::Absolute(Scalar::Percent(share))) => {
            Some(share.fraction())
        }
        (Measure::Quantile(millionths), C::AtMost | C::Less, _) => {
            Some(1.0 - f64::from(*millionths) / 1e6)
        }
        (Measure::Quantile(millionths), C::AtLeast | C::Greater, _) => {
            Some(f64::from(*millionths) / 1e6)
        }
        _ => None,
    }
}

/// How a group is held against its control, attempt by attempt: what is bet against is that of pairs of attempts
/// `worse(group) − weight × worse(control) − tolerated` is on average not above nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hypothesis {
    /// How much of the control's violations the group may have: 1 for as many. Above 0, or 0 where only `tolerated` counts.
    pub weight: f64,
    /// How much more of its attempts may violate, from 0 to 1.
    pub tolerated: f64,
    /// The share of the control's attempts that violate on a good day: what is known before anything was seen.
    pub usual: f64,
}

impl Hypothesis {
    /// None for what is not judged by pairs: gauges, and what is not held against a control.
    #[must_use]
    pub fn of(expectation: &Expectation) -> Option<Self> {
        use Comparison as C;
        match (&expectation.measure, &expectation.check) {
            // At least F of the control's successes: 1 - group >= F (1 - control).
            (
                Measure::Success,
                Check::Compare(C::AtLeast | C::Greater, Bound::Control { factor }),
            ) => Some(Self {
                weight: *factor,
                tolerated: 1.0 - factor,
                usual: 0.0,
            }),
            // So many points below a multiple of the control's successes; better than it is as good.
            (
                Measure::Success,
                Check::Within {
                    tolerance: Scalar::Percent(points),
                    of: Bound::Control { factor },
                },
            ) => Some(Self {
                weight: *factor,
                tolerated: (1.0 - factor + points.fraction()).clamp(0.0, 1.0),
                usual: 0.0,
            }),
            (
                Measure::Quantile(q),
                Check::Compare(C::AtMost | C::Less, Bound::Control { .. })
                | Check::Within {
                    of: Bound::Control { .. },
                    ..
                },
            ) => Some(Self {
                weight: 1.0,
                tolerated: 0.0,
                usual: 1.0 - f64::from(*q) / 1e6,
            }),
            _ => None,
        }
    }

    /// By how much less than this the group must be shown to be worse: what is tolerated. That two are exactly alike no number of pairs shows;
    /// where nothing is tolerated, it is as much again as the quantile itself leaves out, or 5 in a hundred.
    #[must_use]
    pub fn margin(&self) -> f64 {
        match (self.tolerated > 0.0, self.usual > 0.0) {
            (true, _) => self.tolerated,
            (false, true) => self.usual.min(proof::SHARE_FOR_NOTHING),
            (false, false) => proof::SHARE_FOR_NOTHING,
        }
    }
}

/// How many trials it takes, about, to show an expectation of which so many times the tolerated share violates (0 for none
/// at all; of a group beside its control: as many as of the control); none where it is not judged by shares, or never shown.
#[must_use]
pub fn needed(expectation: &Expectation, confidence: Percent, times_tolerated: f64) -> Option<u64> {
    if let Some(of) = Hypothesis::of(expectation) {
        let (margin, control) = (of.margin(), of.usual);
        let group = (of.weight * control + times_tolerated * margin).min(1.0);
        return proof::pairs_needed((of.weight, margin), confidence.fraction(), (group, control));
    }
    let tolerated = tolerated(expectation)?;
    proof::needed(
        tolerated,
        confidence.fraction(),
        tolerated * times_tolerated,
    )
}
