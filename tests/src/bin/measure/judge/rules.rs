//! Rules that decide when to stop: Squall's and those that others use. They hear of violations alone; what lies between two
//! of them is known from their numbers.

use super::draws::{Draws, float};
use squall_controller::judge::eprocess::EProcess;

/// A minute at one sample a second.
const MINUTE: u64 = 60;

/// Decides from the numbers (from 1 on) of the samples that violate.
pub(crate) trait Rule {
    /// The `number`-th sample violated, and none since the last call: the sample at which the rule stops, where it does.
    fn violated(&mut self, number: u64) -> Option<u64>;
}

/// The e-process of the product, as it is.
pub(crate) struct Squall(EProcess);

impl Squall {
    pub(crate) fn new(tolerated: f64, alpha: f64) -> Self {
        Self(EProcess::new(tolerated, alpha))
    }
}

impl Rule for Squall {
    fn violated(&mut self, number: u64) -> Option<u64> {
        // Evidence only falls while nothing violates, so that a violation is what stops.
        self.0.take_healthy(number - 1 - self.0.samples());
        self.0.take(1.0);
        self.0.confirmed().then_some(number)
    }
}

/// Wald's own test (1945) of a rate that it *knows*: the likelihood ratio of that rate and the tolerated one. On average no test of this kind
/// needs fewer samples, and nobody can use it, as nobody knows beforehand how badly a system will fail.
pub(crate) struct Oracle {
    log_hit: f64,
    log_miss: f64,
    log_stop: f64,
    log_ratio: f64,
    seen: u64,
}

impl Oracle {
    pub(crate) fn new(rate: f64, tolerated: f64, alpha: f64) -> Self {
        Self {
            log_hit: (rate / tolerated).ln(),
            log_miss: ((1.0 - rate) / (1.0 - tolerated)).ln(),
            log_stop: -alpha.ln(),
            log_ratio: 0.0,
            seen: 0,
        }
    }
}

impl Rule for Oracle {
    fn violated(&mut self, number: u64) -> Option<u64> {
        self.log_ratio += float(number - 1 - self.seen) * self.log_miss + self.log_hit;
        self.seen = number;
        (self.log_ratio >= self.log_stop).then_some(number)
    }
}

/// Stops when more than `allowed` of the last minute's samples violate: an alert on a rate.
pub(crate) struct Sliding {
    allowed: f64,
    last: std::collections::VecDeque<u64>,
}

impl Sliding {
    pub(crate) fn new(allowed: f64) -> Self {
        Self {
            allowed,
            last: std::collections::VecDeque::new(),
        }
    }
}

impl Rule for Sliding {
    fn violated(&mut self, number: u64) -> Option<u64> {
        self.last.push_back(number);
        while self.last.front().is_some_and(|n| n + MINUTE <= number) {
            self.last.pop_front();
        }
        (self.last.len() as u64 > count(self.allowed)).then_some(number)
    }
}

/// Of a minute's samples.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "at most 60"
)]
fn count(share: f64) -> u64 {
    (share * float(MINUTE) + 1e-9) as u64
}

/// Violations minute by minute; a minute is told when it is over.
#[derive(Default)]
struct Minutes {
    current: u64,
    violations: u64,
}

impl Minutes {
    /// Counts a violation, and calls back with the number and the violations of every minute that ended before it.
    fn count(&mut self, number: u64, mut over: impl FnMut(u64, u64) -> bool) -> Option<u64> {
        let minute = (number - 1) / MINUTE;
        while self.current < minute {
            let stops = over(self.current, self.violations);
            self.current += 1;
            self.violations = 0;
            if stops {
                return Some(self.current * MINUTE);
            }
        }
        self.violations += 1;
        None
    }
}

/// Stops after three minutes in a row in each of which more than the bound violates: what gauges are judged by.
pub(crate) struct ThreeWindows {
    tolerated: f64,
    minutes: Minutes,
    in_row: u32,
}

impl ThreeWindows {
    pub(crate) fn new(tolerated: f64) -> Self {
        Self {
            tolerated,
            minutes: Minutes::default(),
            in_row: 0,
        }
    }
}

impl Rule for ThreeWindows {
    fn violated(&mut self, number: u64) -> Option<u64> {
        let (allowed, in_row) = (count(self.tolerated), &mut self.in_row);
        self.minutes.count(number, |_, violations| {
            *in_row = if violations > allowed { *in_row + 1 } else { 0 };
            *in_row >= 3
        })
    }
}

/// Each minute a Mann-Whitney test of the error rates of all minutes so far, canary against a baseline that runs beside it
/// at the bound: what canary analysis (Kayenta) does at 98 % confidence, asked again and again.
pub(crate) struct Canary {
    minutes: Minutes,
    /// How many minutes had so many violations.
    canary: [u64; KINDS],
    baseline: [u64; KINDS],
    tolerated: f64,
    draws: Draws,
}

/// A minute with more violations counts as one with this many.
const KINDS: usize = 61;

/// One side of 98 %.
const CANARY_DEVIATIONS: f64 = 2.326;

/// Kayenta wants data before it judges; fewer minutes than this it would not rank.
const CANARY_MINUTES_MIN: u64 = 10;

impl Canary {
    pub(crate) fn new(tolerated: f64, draws: Draws) -> Self {
        Self {
            minutes: Minutes::default(),
            canary: [0; KINDS],
            baseline: [0; KINDS],
            tolerated,
            draws,
        }
    }
}

impl Rule for Canary {
    fn violated(&mut self, number: u64) -> Option<u64> {
        let (canary, baseline, draws) = (&mut self.canary, &mut self.baseline, &mut self.draws);
        let tolerated = self.tolerated;
        self.minutes.count(number, |minute, violations| {
            let kind = |violations: u64| (violations as usize).min(KINDS - 1);
            canary[kind(violations)] += 1;
            baseline[kind(in_a_minute(draws, tolerated))] += 1;
            minute + 1 >= CANARY_MINUTES_MIN && deviations(canary, baseline) > CANARY_DEVIATIONS
        })
    }
}

fn in_a_minute(draws: &mut Draws, rate: f64) -> u64 {
    let (mut at, mut violations) = (draws.gap(rate), 0);
    while at < MINUTE {
        violations += 1;
        at += 1 + draws.gap(rate);
    }
    violations
}

/// How many standard deviations the canary ranks above the baseline, ties corrected.
fn deviations(canary: &[u64; KINDS], baseline: &[u64; KINDS]) -> f64 {
    let (mut below, mut rank_sum, mut ties) = (0.0, 0.0, 0.0);
    for (canary, baseline) in canary.iter().zip(baseline) {
        let same = float(canary + baseline);
        rank_sum += float(*canary) * (below + (same + 1.0) / 2.0);
        below += same;
        ties += same * same * same - same;
    }
    let minutes = below / 2.0;
    let mean = minutes * (below + 1.0) / 2.0;
    let variance = minutes * minutes / 12.0 * (below + 1.0 - ties / (below * (below - 1.0)));
    if variance > 0.0 {
        (rank_sum - mean - 0.5) / variance.sqrt()
    } else {
        0.0
    }
}

/// A z-test for one look at a fixed time, looked at after every sample.
pub(crate) struct FixedHorizon {
    tolerated: f64,
    deviations: f64,
    violations: u64,
}

impl FixedHorizon {
    /// `deviations` are the normal quantile of the chance of a false stop that is wanted.
    pub(crate) fn new(tolerated: f64, deviations: f64) -> Self {
        Self {
            tolerated,
            deviations,
            violations: 0,
        }
    }
}

impl Rule for FixedHorizon {
    fn violated(&mut self, number: u64) -> Option<u64> {
        self.violations += 1;
        let expected = float(number) * self.tolerated;
        let deviation = (expected * (1.0 - self.tolerated)).sqrt();
        // The normal approximation is not used before five violations are to be expected.
        let stops =
            expected >= 5.0 && float(self.violations) - expected > self.deviations * deviation;
        stops.then_some(number)
    }
}
