//! How long a run must hold its faults before it can be called held, said before it starts.

use super::say;
use serde::Serialize;
use squall_experiments::enough::{Pace, needed};
use squall_experiments::experiment::Experiment;

/// What one expectation that is judged by shares takes.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Enough {
    probe: String,
    expectation: String,
    /// Trials that the shortest hold gives.
    given: u64,
    /// Trials that show it when nothing at all violates, and how long they take.
    healthy: u64,
    healthy_takes: String,
    /// The same when half of what is tolerated violates.
    at_half: Option<u64>,
    at_half_takes: Option<String>,
}

/// For every expectation that is judged by shares, in the file's order.
pub(super) fn enough(experiment: &Experiment) -> Vec<Enough> {
    let holds = experiment.method.iter().map(|step| step.hold);
    let Some(hold) = holds.min_by_key(|hold| hold.get()) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for steady in &experiment.steady_state {
        let pace = Pace::of(steady);
        let shares = steady.expect.iter().filter_map(|expectation| {
            let pace = pace.of_expectation(expectation);
            let healthy = needed(expectation, experiment.confidence, 0.0)?;
            let at_half = needed(expectation, experiment.confidence, 0.5);
            Some(Enough {
                probe: steady.name.clone(),
                expectation: expectation.to_string(),
                given: pace.trials(hold),
                healthy,
                healthy_takes: pace.lasting(healthy),
                at_half,
                at_half_takes: at_half.map(|trials| pace.lasting(trials)),
            })
        });
        all.extend(shares);
    }
    all
}

/// What the file is too short for.
pub(super) fn warnings(all: &[Enough]) -> Vec<String> {
    let short = all.iter().filter(|enough| enough.given < enough.healthy);
    short
        .map(|enough| {
            format!(
                "{}: the shortest hold gives {} of the {} samples that show {}: hold for at least {}, or probe more often; until then a run that does not break is inconclusive",
                enough.probe, enough.given, enough.healthy, enough.expectation, enough.healthy_takes
            )
        })
        .collect()
}

pub(super) fn print(all: &[Enough], confidence: &str) {
    if all.is_empty() {
        return;
    }
    say::out!(
        "to be held with {confidence} confidence, each share must be shown within its bound:"
    );
    let mut table = say::table(&[
        "",
        "expectation",
        "if none violates",
        "at half the bound",
        "the hold gives",
    ]);
    for enough in all {
        let takes = |trials: u64, takes: &str| format!("{trials} samples, {takes}");
        let half = enough.at_half.zip(enough.at_half_takes.as_deref());
        table.add_row([
            enough.probe.clone(),
            enough.expectation.clone(),
            takes(enough.healthy, &enough.healthy_takes),
            half.map_or("never".to_owned(), |(trials, time)| takes(trials, time)),
            format!("{} samples", enough.given),
        ]);
    }
    say::print(&table);
    say::out!("");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::fixture;

    #[test]
    fn a_group_beside_its_control_takes_pairs() {
        let mut experiment = fixture::experiment();
        let steady = &mut experiment.steady_state[0];
        steady.compare = Some(steady.probe.clone());
        steady.expect = squall_experiments::expectation::Expectation::canary();
        let all = enough(&experiment);
        assert_eq!(all.len(), 3);
        assert!(
            all.iter()
                .all(|enough| enough.at_half > Some(enough.healthy))
        );
        // Ten seconds are too short to tell a p99 from another.
        let warnings = warnings(&all);
        assert!(
            warnings.iter().any(|warning| warning.contains("p99")),
            "{warnings:?}"
        );
    }

    #[test]
    fn a_hold_that_is_too_short_is_told_with_the_one_that_is_not() {
        let mut experiment = fixture::experiment();
        let all = enough(&experiment);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].given, 500);
        assert!(all[0].healthy < 500 && all[0].at_half.is_some_and(|half| half > 1_000));
        assert!(warnings(&all).is_empty());
        experiment.method[0].hold = "3s".parse().unwrap();
        let warnings = warnings(&enough(&experiment));
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].contains("hold for at least 8s"), "{warnings:?}");
    }
}
