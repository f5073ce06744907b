//! Gauges and budgets, through a judge.

use super::{Confirmed, Judge, JudgeSettings, Outcome, Trial};
use crate::run::fixture;
use squall_experiments::experiment::SteadyState;
use squall_experiments::probe::{Command, Probe};

const SECOND_US: u64 = 1_000_000;

const SETTINGS: JudgeSettings = JudgeSettings {
    alpha: 0.001,
    confidence: 0.95,
};

fn gauge(expect: &str, confirm: u32, clear: u32) -> Judge {
    let steady = SteadyState {
        name: "queue".into(),
        probe: Probe::Command(Command {
            argv: vec!["./queue.sh".into()],
            timeout: "500ms".parse().unwrap(),
            every: "1s".parse().unwrap(),
        }),
        compare: None,
        expect: vec![expect.parse().unwrap()],
        confirm,
        clear,
        block: None,
    };
    Judge::new(&steady, SETTINGS, 0)
}

/// One value a second, from the n-th second on.
fn values(judge: &mut Judge, from: u64, values: &[Option<f64>]) -> Vec<Confirmed> {
    let mut found = Vec::new();
    for (second, value) in (from..).zip(values) {
        let due_us = second * SECOND_US + 1;
        found.extend(judge.take(&Trial {
            due_us,
            ended_us: due_us + 1_000,
            outcome: Outcome::Success,
            status: None,
            value: *value,
            exit: Some(0),
            bodies: Vec::new(),
        }));
        found.extend(judge.tick((second + 1) * SECOND_US).1);
    }
    found
}

const GOOD: Option<f64> = Some(10.0);
const BAD: Option<f64> = Some(1_000.0);

#[test]
fn violations_in_a_row_confirm_and_a_single_good_value_clears_them() {
    let mut judge = gauge("value <= 100", 3, 1);
    assert!(values(&mut judge, 0, &[BAD, BAD, GOOD, BAD, BAD, GOOD, BAD]).is_empty());
    let found = values(&mut judge, 7, &[BAD, BAD]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].measured.contains("in 3 windows in a row"));
}

#[test]
fn a_gauge_that_flaps_is_confirmed_where_one_good_value_does_not_clear() {
    let flapping = [BAD, BAD, GOOD, BAD];
    assert!(values(&mut gauge("value <= 100", 3, 1), 0, &flapping).is_empty());
    let found = values(&mut gauge("value <= 100", 3, 2), 0, &flapping);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].measured.contains("without 2 good ones"),
        "{found:?}"
    );
    // Two good ones in a row do.
    let cleared = [BAD, BAD, GOOD, GOOD, BAD, BAD];
    assert!(values(&mut gauge("value <= 100", 3, 2), 0, &cleared).is_empty());
}

#[test]
fn a_gauge_that_stops_giving_values_is_a_violation_with_that_reason() {
    let mut judge = gauge("value <= 100", 3, 1);
    assert!(values(&mut judge, 0, &[GOOD, None, None]).is_empty());
    let found = values(&mut judge, 3, &[None]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].no_data);
    let said = &found[0].measured;
    assert!(
        said.contains("the probe gave no value in 3 windows"),
        "{said}"
    );
}

#[test]
fn a_change_from_the_baseline_is_found_on_both_sides_and_never_without_a_baseline() {
    for away in [115.0, 85.0] {
        let mut judge = gauge("value within 10% of baseline", 3, 1);
        assert!(values(&mut judge, 0, &[Some(98.0), Some(102.0), Some(100.0)]).is_empty());
        assert_eq!(judge.take_baseline(3 * SECOND_US).measured, [Some(100.0)]);
        assert_eq!(judge.unfit(), None);
        judge.begin(3 * SECOND_US, 3 * SECOND_US);
        assert!(values(&mut judge, 3, &[Some(109.0), Some(91.0), Some(109.0)]).is_empty());
        let found = values(&mut judge, 6, &[Some(away); 3]);
        assert_eq!(found.len(), 1, "{found:?}");
    }
    let mut judge = gauge("value within 10% of baseline", 3, 1);
    values(&mut judge, 0, &[None; 3]);
    judge.take_baseline(3 * SECOND_US);
    assert!(judge.unfit().unwrap().contains("measured nothing"));
}

#[test]
fn a_gauge_beside_its_control_is_compared_window_by_window() {
    let of = |second: u64, value: f64| Trial {
        due_us: second * SECOND_US + 1,
        ended_us: second * SECOND_US + 1_000,
        outcome: Outcome::Success,
        status: None,
        value: Some(value),
        exit: Some(0),
        bodies: Vec::new(),
    };
    let alone = gauge("value within 10% of baseline", 3, 1);
    assert_eq!(alone.expectations().count(), 1);
    let mut steady = fixture::load("http://x/", "50/s", Vec::new());
    steady.expect = vec!["value within 10% of control".parse().unwrap()];
    steady.compare = Some(steady.probe.clone());
    let mut judge = Judge::new(&steady, SETTINGS, 0);
    let mut found = Vec::new();
    // Both double: weather. Then the group alone does.
    for (second, group, control) in [
        (0, 10.0, 10.0),
        (1, 20.0, 20.0),
        (2, 20.0, 20.0),
        (3, 40.0, 20.0),
        (4, 40.0, 20.0),
        (5, 40.0, 20.0),
    ] {
        judge.take(&of(second, group));
        judge.take_of_control(&of(second, control));
        found.extend(judge.tick((second + 1) * SECOND_US).1);
    }
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].samples, 6);
}

/// Fifty attempts a second; every n-th fails.
fn attempts(judge: &mut Judge, from_s: u64, seconds: u64, fails_each: u64) -> Vec<Confirmed> {
    let mut found = Vec::new();
    for number in 0..seconds * 50 {
        let due_us = from_s * SECOND_US + number * SECOND_US / 50;
        let outcome = if number % fails_each == 0 {
            Outcome::Failed("status 503".into())
        } else {
            Outcome::Success
        };
        found.extend(judge.take(&Trial {
            due_us,
            ended_us: due_us + 1_000,
            outcome,
            status: None,
            value: None,
            exit: None,
            bodies: Vec::new(),
        }));
        found.extend(judge.tick(due_us).1);
    }
    found
}

fn budget() -> Judge {
    let text = "burn of 99.9% over 60s and 5s <= 14.4";
    let steady = fixture::load("http://x/", "50/s", vec![text.parse().unwrap()]);
    Judge::new(&steady, SETTINGS, 0)
}

#[test]
fn a_budget_that_burns_is_a_violation_that_says_how_fast() {
    let mut judge = budget();
    // One in a thousand fails: a burn of one, which is what the objective allows.
    assert!(attempts(&mut judge, 0, 60, 1_000).is_empty());
    assert_eq!(judge.unfit(), None);
    judge.begin(60 * SECOND_US, 60 * SECOND_US);
    let found = attempts(&mut judge, 60, 10, 5);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].measured.contains("the budget burns at 14."),
        "{found:?}"
    );
    // 14.4 times one in a thousand of a minute's 3,000 are 43.2, and every fifth fails.
    assert!((215..=221).contains(&found[0].samples), "{found:?}");
}

#[test]
fn a_budget_that_still_burns_is_not_recovered() {
    let mut judge = budget();
    judge.begin(0, 0);
    // A total outage, young enough that the minute as a whole still looks well.
    attempts(&mut judge, 0, 4, 1);
    assert!(!judge.recovered());
    attempts(&mut judge, 4, 5, u64::MAX);
    assert!(judge.recovered());
}
