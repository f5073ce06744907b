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

/// How many trials it takes, about, to show an expectation of which so many times the tolerated share violates (0 for none
/// at all); none where it is not judged by shares, or never shown.
#[must_use]
pub fn needed(expectation: &Expectation, confidence: Percent, times_tolerated: f64) -> Option<u64> {
    let tolerated = tolerated(expectation)?;
    proof::needed(
        tolerated,
        confidence.fraction(),
        tolerated * times_tolerated,
    )
}
