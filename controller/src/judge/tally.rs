//! What one window, or a whole baseline, measured of one probe.

use super::baseline::known_between;
use super::trial::{Outcome, Trial};
use hdrhistogram::Histogram;
use squall_experiments::event::Window;
use squall_experiments::expectation::Measure;
use std::collections::BTreeMap;

/// The longest latency that is told apart, in microseconds: the longest timeout there is, and a minute for being late.
const LATENCY_US_MAX: u64 = 660_000_000;

/// Three digits: a p99 of 400 ms is known to 0.4 ms.
const DIGITS: u8 = 3;

/// The most reasons for failure that are told apart in one window.
const REASONS_MAX: usize = 16;

/// Latencies in microseconds.
#[derive(Debug, Clone)]
enum Latencies {
    /// Of any number of attempts.
    Many(Histogram<u64>),
    /// Of a window's: most hold few, and there may be many windows.
    Few(Vec<u64>),
}

impl Latencies {
    fn take(&mut self, us: u64) {
        match self {
            Self::Many(histogram) => histogram.saturating_record(us),
            Self::Few(list) => list.push(us),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Many(histogram) => histogram.reset(),
            Self::Few(list) => list.clear(),
        }
    }

    fn max(&self) -> u64 {
        match self {
            Self::Many(histogram) => histogram.max(),
            Self::Few(list) => list.iter().copied().max().unwrap_or_default(),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a list"
    )]
    fn quantile(&self, fraction: f64) -> u64 {
        match self {
            Self::Many(histogram) => histogram.value_at_quantile(fraction),
            Self::Few(list) => {
                let mut sorted = list.clone();
                sorted.sort_unstable();
                let at = (fraction * sorted.len() as f64).ceil() as usize;
                let at = at.clamp(1, sorted.len().max(1)) - 1;
                sorted.get(at).copied().unwrap_or_default()
            }
        }
    }
}

/// Attempts, added up.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    latencies: Latencies,
    pub(super) attempts: u64,
    answers: u64,
    successes: u64,
    value: Option<f64>,
    exit: Option<i32>,
    status: Option<u16>,
    reasons: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS)
            .expect("bounds and digits are constants that the histogram accepts");
        Self::of(Latencies::Many(latencies))
    }

    /// For a window's attempts.
    pub(super) fn of_window() -> Self {
        Self::of(Latencies::Few(Vec::new()))
    }

    const fn of(latencies: Latencies) -> Self {
        Self {
            latencies,
            attempts: 0,
            answers: 0,
            successes: 0,
            value: None,
            exit: None,
            status: None,
            reasons: BTreeMap::new(),
        }
    }

    pub(super) fn take(&mut self, trial: &Trial) {
        self.attempts += 1;
        self.answers += u64::from(trial.answered());
        self.successes += u64::from(trial.succeeded());
        self.latencies.take(trial.latency_us().max(1));
        self.value = trial.value.or(self.value);
        self.exit = trial.exit.or(self.exit);
        self.status = trial.status.or(self.status);
        if let Outcome::Failed(reason) | Outcome::Unanswered(reason) = &trial.outcome {
            if let Some(seen) = self.reasons.get_mut(reason) {
                *seen += 1;
            } else if self.reasons.len() < REASONS_MAX {
                self.reasons.insert(reason.clone(), 1);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.latencies.clear();
        self.attempts = 0;
        self.answers = 0;
        self.successes = 0;
        self.value = None;
        self.exit = None;
        self.status = None;
        self.reasons.clear();
    }

    fn quantile(&self, fraction: f64) -> Option<u64> {
        (self.attempts > 0).then(|| self.latencies.quantile(fraction))
    }

    /// The least and the most, in microseconds, that a quantile may really be; no most where too little was seen.
    #[expect(clippy::cast_precision_loss, reason = "minutes in microseconds")]
    pub(super) fn between(&self, fraction: f64) -> Option<(f64, Option<f64>)> {
        let (low, high) = known_between(fraction, self.attempts);
        let high = high.and_then(|high| self.quantile(high));
        Some((self.quantile(low)? as f64, high.map(|us| us as f64)))
    }

    /// What it measured, in the measure's own unit; none where there was no data. Bodies are not kept here.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts and microseconds far below 2^53"
    )]
    pub(super) fn measure(&self, measure: &Measure, length_us: u64) -> Option<f64> {
        if self.attempts == 0 {
            return None;
        }
        match measure {
            Measure::Success => Some(self.successes as f64 / self.attempts as f64),
            Measure::Quantile(millionths) => self
                .quantile(f64::from(*millionths) / 1e6)
                .map(|us| us as f64),
            Measure::Max => Some(self.latencies.max() as f64),
            Measure::Rate => Some(self.answers as f64 * 1e6 / (length_us.max(1) as f64)),
            Measure::Status => self.status.map(f64::from),
            Measure::Value => self.value,
            Measure::Exit => self.exit.map(f64::from),
            Measure::Body(_) | Measure::Burn(_) => None,
        }
    }

    /// The reason that was given most often for a failure.
    pub(super) fn reason(&self) -> Option<&str> {
        let most = self.reasons.iter().max_by_key(|(_, seen)| **seen);
        most.map(|(reason, _)| reason.as_str())
    }

    /// As an event shows it; the checks are added by whoever made them.
    pub(super) fn window(&self, probe: &str, length_us: u64) -> Window {
        Window {
            probe: probe.to_owned(),
            length_ms: length_us / 1000,
            attempts: self.attempts,
            successes: self.successes,
            p50_us: self.quantile(0.5),
            p95_us: self.quantile(0.95),
            p99_us: self.quantile(0.99),
            p999_us: self.quantile(0.999),
            max_us: (self.attempts > 0).then(|| self.latencies.max()),
            value: self.value,
            failure: self.reason().map(str::to_owned),
            checks: Vec::new(),
        }
    }
}
