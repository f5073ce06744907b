//! How often a baseline is turned away: of healthy systems, quiet and noisy, and of ones that drift.

use super::draws::{Draws, each};
use lab::world::Result;
use squall_controller::judge::{Judge, JudgeSettings, Outcome, Trial};
use squall_experiments::experiment::SteadyState;
use squall_experiments::language::read;

/// Fifty attempts a second for so many seconds.
const SECONDS: u64 = 20;
const RATE: u64 = 50;
const SECOND_US: u64 = 1_000_000;

/// A kind of system in its baseline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// The spread of the logarithm of latencies from one second to the next, and how much of a second's is left in the next.
    spread: f64,
    memory: f64,
    /// By what the latencies have grown at the end.
    grows: f64,
}

/// Those that are looked at.
pub(crate) const KINDS: [Kind; 5] = [
    Kind {
        name: "healthy, quiet",
        spread: 0.02,
        memory: 0.0,
        grows: 1.0,
    },
    Kind {
        name: "healthy, noisy seconds",
        spread: 0.2,
        memory: 0.0,
        grows: 1.0,
    },
    Kind {
        name: "healthy, noise that lasts for seconds",
        spread: 0.2,
        memory: 0.7,
        grows: 1.0,
    },
    Kind {
        name: "grows by half as much again",
        spread: 0.1,
        memory: 0.0,
        grows: 1.5,
    },
    Kind {
        name: "grows to three times",
        spread: 0.1,
        memory: 0.0,
        grows: 3.0,
    },
];

/// The steady state that is judged: against a bound, and against the baseline itself.
pub(crate) fn steady() -> Result<SteadyState> {
    let file = "apiVersion: squall/v1\nkind: Experiment\nmetadata: { name: baselines }\nhypothesis: baselines\n\
        steadyState: [ { name: baselines, probe: { load: { url: \"http://a/\", rate: 50/s } }, expect: [ success >= 99%, p99 <= 400ms, p95 <= 1.5x baseline ] } ]\n\
        method: [ { fault: kill, on: { process: { name: a } }, hold: 40s } ]\n";
    let reading = read("baselines", file);
    let experiment = reading
        .experiment
        .ok_or_else(|| format!("the file of the baselines: {:?}", reading.diagnostics))?;
    let mut states = experiment.steady_state;
    Ok(states.swap_remove(0))
}

/// Which of `runs` baselines were turned away.
pub(crate) fn unfit(steady: &SteadyState, kind: Kind, runs: u64) -> u64 {
    let unfit = each("baselines", runs, |draws, _| {
        one(draws, steady, kind).is_some()
    });
    unfit.into_iter().filter(|unfit| *unfit).count() as u64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a latency in microseconds, positive"
)]
fn one(draws: &mut Draws, steady: &SteadyState, kind: Kind) -> Option<String> {
    const MEDIAN_US: f64 = 20_000.0;
    const SPREAD_WITHIN: f64 = 0.3;
    const FAILING: f64 = 0.002;
    let settings = JudgeSettings {
        alpha: super::stops::ALPHA / 6.0,
        confidence: 0.95,
    };
    let mut judge = Judge::new(steady, settings, 0);
    let mut disturbance = 0.0;
    for second in 0..SECONDS {
        let fresh = (1.0 - kind.memory * kind.memory).sqrt();
        disturbance = kind.memory * disturbance + fresh * kind.spread * normal(draws);
        let grown = kind.grows.ln() * second as f64 / SECONDS as f64;
        for number in 0..RATE {
            let due_us = second * SECOND_US + number * SECOND_US / RATE;
            let log = grown + disturbance + SPREAD_WITHIN * normal(draws);
            judge.take(&Trial {
                due_us,
                ended_us: due_us + (MEDIAN_US * log.exp()) as u64,
                outcome: if draws.unit() <= FAILING {
                    Outcome::Failed("status 503".into())
                } else {
                    Outcome::Success
                },
                status: None,
                value: None,
                exit: None,
                bodies: Vec::new(),
            });
        }
        judge.tick((second + 1) * SECOND_US);
    }
    judge.take_baseline(SECONDS * SECOND_US);
    judge.unfit()
}

/// Box & Muller (1958).
fn normal(draws: &mut Draws) -> f64 {
    let radius = (-2.0 * draws.unit().ln()).sqrt();
    radius * (std::f64::consts::TAU * draws.unit()).cos()
}
