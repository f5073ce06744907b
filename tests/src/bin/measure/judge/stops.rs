//! How often each rule stops a healthy system, and how soon a broken one.

use super::draws::{Draws, each, float};
use super::rules::{Canary, FixedHorizon, Oracle, Rule, Sliding, Squall, ThreeWindows};

/// The chance of a false stop that every rule that has one is given, and its normal quantile.
pub(crate) const ALPHA: f64 = 0.001;
const ALPHA_DEVIATIONS: f64 = 3.090;

/// A rule under a name.
pub(crate) type Named = (&'static str, fn(f64, &Draws) -> Box<dyn Rule>);

/// Squall's first, and the rivals.
pub(crate) const RULES: [Named; 5] = [
    ("squall", |p, _| Box::new(Squall::new(p, ALPHA))),
    ("last minute above 5 x the bound", |p, _| {
        Box::new(Sliding::new(p * 5.0))
    }),
    ("3 minutes in a row above the bound", |p, _| {
        Box::new(ThreeWindows::new(p))
    }),
    ("Mann-Whitney each minute (Kayenta)", |p, draws| {
        let mut draws = draws.clone();
        // A baseline of its own.
        let seed = (draws.unit() * 1e15).to_bits();
        Box::new(Canary::new(p, Draws::new(seed)))
    }),
    ("z-test for one look, each second", |p, _| {
        Box::new(FixedHorizon::new(p, ALPHA_DEVIATIONS))
    }),
];

/// Of `runs` healthy systems at the edge of the bound, how many each rule stopped within so many samples.
pub(crate) fn false_stops(tolerated: f64, samples: u64, runs: u64) -> [u64; RULES.len()] {
    let stopped = each("false stops", runs, |draws, _| {
        let mut rules = RULES.map(|(_, rule)| Some(rule(tolerated, draws)));
        let mut stopped = [false; RULES.len()];
        let mut number = 0;
        loop {
            number += 1 + draws.gap(tolerated);
            if number > samples {
                return stopped;
            }
            for (rule, stopped) in rules.iter_mut().zip(&mut stopped) {
                let stops = rule.as_mut().and_then(|rule| rule.violated(number));
                if stops.is_some() {
                    *stopped = true;
                    *rule = None;
                }
            }
        }
    });
    let mut counts = [0; RULES.len()];
    for run in stopped {
        for (count, stopped) in counts.iter_mut().zip(run) {
            *count += u64::from(stopped);
        }
    }
    counts
}

/// After how many samples of a break Squall stops, where the system violated half of what is tolerated for `healthy` samples before.
pub(crate) fn late_detection(tolerated: f64, rate: f64, healthy: u64, runs: u64) -> Vec<f64> {
    let name = format!("detection of {rate} where {tolerated} is tolerated, after {healthy}");
    each(&name, runs, |draws, _| {
        let mut squall = Squall::new(tolerated, ALPHA);
        let mut number = draws.gap(tolerated / 2.0) + 1;
        while number <= healthy {
            if squall.violated(number).is_some() {
                return 0.0;
            }
            number += draws.gap(tolerated / 2.0) + 1;
        }
        number = healthy;
        loop {
            number += draws.gap(rate) + 1;
            if squall.violated(number).is_some() {
                return float(number - healthy);
            }
        }
    })
}

/// How the test that knows the rate is called.
pub(crate) const ORACLE: &str = "Wald's test that knows the rate";

/// After how many samples each rule, and after them the oracle, stops a system that violates at `rate` from the first sample on; what does
/// not stop within `limit` is at the limit.
pub(crate) fn detection(
    tolerated: f64,
    rate: f64,
    limit: u64,
    runs: u64,
) -> [Vec<f64>; RULES.len() + 1] {
    let name = format!("detection of {rate} where {tolerated} is tolerated");
    let needed = each(&name, runs, |draws, _| {
        let rules = RULES.map(|(_, rule)| rule(tolerated, draws));
        let oracle: Box<dyn Rule> = Box::new(Oracle::new(rate, tolerated, ALPHA));
        let mut rules: Vec<_> = rules.into_iter().chain([oracle]).collect();
        let mut needed: [Option<u64>; RULES.len() + 1] = [None; RULES.len() + 1];
        let mut number = 0;
        while number < limit && needed.iter().any(Option::is_none) {
            number += 1 + draws.gap(rate);
            for (rule, needed) in rules.iter_mut().zip(&mut needed) {
                if needed.is_none() {
                    *needed = rule.violated(number);
                }
            }
        }
        needed.map(|needed| float(needed.unwrap_or(limit).min(limit)))
    });
    std::array::from_fn(|rule| needed.iter().map(|run| run[rule]).collect())
}
