//! Quantile expectations: what the judge reads out of latencies beside what sorting all of them says.

use super::draws::{Draws, each, float};
use lab::world::Result;
use squall_controller::judge::{Judge, JudgeSettings, Outcome, Trial};
use squall_experiments::experiment::SteadyState;
use squall_experiments::language::read;

/// The bound of the expectation, in microseconds.
const BOUND_US: f64 = 400_000.0;

/// Attempts of one run, at 50 a second.
pub(crate) const ATTEMPTS: u64 = 2_000;
const EVERY_US: u64 = 20_000;

/// A distribution of latencies of which a known share is slower than the bound: a uniform number from 0 to 1 and that
/// share to a latency in microseconds.
pub(crate) type Latencies = (&'static str, fn(f64, f64) -> f64);

/// Those that are looked at.
pub(crate) const LATENCIES: [Latencies; 2] = [
    // Pareto with exponent 1.2: its mean is finite, its variance is not.
    ("heavy tail", |u, slower| {
        BOUND_US * (slower / u).powf(1.0 / 1.2)
    }),
    // Fast, or just above the bound.
    ("two modes", |u, slower| {
        if u <= slower {
            BOUND_US * 1.05
        } else {
            20_000.0 + 5_000.0 * u
        }
    }),
];

/// What one run said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    /// The judge confirmed a violation of `p99 <= 400ms`.
    pub(crate) confirmed: bool,
    /// The judge holds the expectation shown.
    pub(crate) shown: bool,
    /// The 99th percentile of all attempts, by sorting them, is above the bound.
    pub(crate) exact_above: bool,
    /// How far the p99 of the judge's histogram is from that, as a share of it.
    pub(crate) p99_error: f64,
}

/// The steady state that is judged.
pub(crate) fn steady() -> Result<SteadyState> {
    let file = "apiVersion: squall/v1\nkind: Experiment\nmetadata: { name: calibration }\nhypothesis: calibration\n\
        steadyState: [ { name: calibration, probe: { load: { url: \"http://a/\", rate: 50/s } }, expect: [ p99 <= 400ms ] } ]\n\
        method: [ { fault: kill, on: { process: { name: a } }, hold: 40s } ]\n";
    let reading = read("calibration", file);
    let experiment = reading
        .experiment
        .ok_or_else(|| format!("the calibration's own file: {:?}", reading.diagnostics))?;
    let mut states = experiment.steady_state;
    Ok(states.swap_remove(0))
}

/// Runs in which so large a share is really slower than the bound.
pub(crate) fn said(
    steady: &SteadyState,
    (name, latency): Latencies,
    slower: f64,
    runs: u64,
) -> Vec<Said> {
    let settings = JudgeSettings {
        alpha: super::stops::ALPHA,
        confidence: 0.95,
    };
    each(&format!("calibration, {name}"), runs, |draws, _| {
        one(draws, steady, settings, |draws| {
            latency(draws.unit(), slower)
        })
    })
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a latency in microseconds, positive"
)]
fn one(
    draws: &mut Draws,
    steady: &SteadyState,
    settings: JudgeSettings,
    mut latency: impl FnMut(&mut Draws) -> f64,
) -> Said {
    const LATENCY_US_MAX: f64 = 600e6;
    let mut judge = Judge::new(steady, settings, 0);
    let mut confirmed = false;
    let mut latencies = Vec::new();
    for number in 0..ATTEMPTS {
        let due_us = number * EVERY_US;
        let latency_us = latency(draws).min(LATENCY_US_MAX) as u64;
        latencies.push(latency_us);
        confirmed |= !judge
            .take(&Trial {
                due_us,
                ended_us: due_us + latency_us,
                outcome: Outcome::Success,
                status: None,
                value: None,
                exit: None,
                bodies: Vec::new(),
            })
            .is_empty();
    }
    latencies.sort_unstable();
    let exact = latencies[latencies.len() * 99 / 100 - 1];
    let (window, _) = judge.tick(ATTEMPTS * EVERY_US);
    let read = window.and_then(|window| window.p99_us).unwrap_or_default();
    Said {
        confirmed,
        shown: judge.unproven().is_none(),
        exact_above: float(exact) > BOUND_US,
        p99_error: (float(read) - float(exact)).abs() / float(exact),
    }
}
