//! What is promised of a group beside its control, by simulation with a fixed seed.

use super::compare::Difference;
use super::{Confirmed, Judge, JudgeSettings, Outcome, Trial};
use crate::run::fixture;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use squall_experiments::enough::Hypothesis;
use squall_experiments::experiment::SteadyState;
use squall_experiments::proof::Proof;

const SECOND_US: u64 = 1_000_000;
/// 50 attempts a second, as the fixture's load.
const EVERY_US: u64 = SECOND_US / 50;

const AS_GOOD: Hypothesis = Hypothesis {
    weight: 1.0,
    tolerated: 0.0,
    usual: 0.01,
};

/// The share of violating attempts that both groups have at a moment: calm, then ever worse, then a storm in which half of
/// everything violates, and calm again.
fn weather(number: u32) -> f64 {
    match number {
        0..300 => 0.005,
        300..600 => 0.005 + f64::from(number - 300) / 1_500.0,
        600..800 => 0.5,
        _ => 0.01,
    }
}

/// Equal groups at the very edge of the hypothesis, in weather that nothing absolute would survive, looked at after every pair.
#[test]
fn equal_groups_are_stopped_at_most_as_often_as_allowed_whatever_hits_both() {
    const RUNS: u32 = 2_000;
    const PAIRS: u32 = 1_000;
    const ALPHA: f64 = 0.02;
    for (weight, tolerated) in [(1.0, 0.0), (1.0, 0.01), (0.99, 0.01)] {
        let of = Hypothesis {
            weight,
            tolerated,
            ..AS_GOOD
        };
        let mut rng = StdRng::seed_from_u64(3);
        let stopped = (0..RUNS).filter(|_| {
            let mut test = Difference::new(of, ALPHA);
            (0..PAIRS).any(|number| {
                let control = weather(number);
                let group = weight * control + tolerated;
                test.take(rng.random_bool(group), rng.random_bool(control));
                test.confirmed()
            })
        });
        let stopped = f64::from(u32::try_from(stopped.count()).unwrap());
        let allowed = f64::from(RUNS) * ALPHA;
        assert!(
            stopped <= allowed + 3.0 * allowed.sqrt(),
            "{of:?}: {stopped} of {RUNS}"
        );
        // A test that never stops would pass as well.
        assert!(stopped > 0.0, "{of:?}");
    }
}

/// From the first pair on and after a long time in which both were equal, beside what the best bet known in hindsight would take.
#[test]
fn a_group_that_is_worse_is_found_soon() {
    const RUNS: usize = 100;
    let alpha = 0.001;
    let within = |tolerated| Hypothesis {
        tolerated,
        ..AS_GOOD
    };
    for (of, group, control, most_at_once, most_late) in [
        (AS_GOOD, 0.05, 0.01, 2.0, 4.0),
        (AS_GOOD, 0.5, 0.3, 2.0, 4.0),
        (within(0.01), 0.1, 0.005, 2.0, 4.5),
        (within(0.01), 0.6, 0.01, 2.5, 7.0),
    ] {
        let ideal = (1.0_f64 / alpha).ln() / Difference::new(of, alpha).growth(group, control);
        for (equal, most) in [(0, most_at_once), (3_000, most_late)] {
            let mut rng = StdRng::seed_from_u64(4);
            let mut needed: Vec<u32> = (0..RUNS)
                .filter_map(|_| {
                    let mut test = Difference::new(of, alpha);
                    (0..equal).for_each(|_| {
                        test.take(rng.random_bool(control), rng.random_bool(control));
                    });
                    (1..20_000).find(|_| {
                        test.take(rng.random_bool(group), rng.random_bool(control));
                        test.confirmed()
                    })
                })
                .collect();
            assert_eq!(needed.len(), RUNS, "{of:?}: every break is found");
            needed.sort_unstable();
            let ratio = f64::from(needed[RUNS / 2]) / ideal;
            assert!(
                ratio <= most,
                "{group} beside {control} after {equal}: {ratio:.2} times {ideal:.0}"
            );
        }
    }
}

const SETTINGS: JudgeSettings = JudgeSettings {
    alpha: 0.0005,
    confidence: 0.95,
};

fn beside(expect: &[&str]) -> SteadyState {
    let read = expect.iter().map(|text| text.parse().unwrap());
    let steady = fixture::load("http://v2/", "50/s", read.collect());
    let control = fixture::load("http://v1/", "50/s", Vec::new());
    SteadyState {
        compare: Some(control.probe),
        ..steady
    }
}

fn attempt(due_us: u64, latency_us: u64, outcome: Outcome) -> Trial {
    Trial {
        due_us,
        ended_us: due_us + latency_us,
        outcome,
        status: None,
        value: None,
        exit: None,
        bodies: Vec::new(),
    }
}

/// A judge, and two groups whose answers come as they are set.
struct Two {
    judge: Judge,
    rng: StdRng,
    number: u64,
}

/// How a group answers: how often it fails, and its median latency.
type Manner = (f64, f64);

impl Two {
    fn new(expect: &[&str], seed: u64) -> Self {
        Self {
            judge: Judge::new(&beside(expect), SETTINGS, 0),
            rng: StdRng::seed_from_u64(seed),
            number: 0,
        }
    }

    /// Latencies have a heavy tail: every tenth takes three times as long, every hundredth ten times.
    fn answer(&mut self, due_us: u64, (fails, median_us): Manner) -> Trial {
        let tail = match self.rng.random_range(0..100) {
            0 => 10.0,
            1..10 => 3.0,
            _ => 1.0,
        };
        let latency = median_us * tail * self.rng.random_range(0.5..1.5);
        let outcome = if self.rng.random_bool(fails) {
            Outcome::Failed("status 503".into())
        } else {
            Outcome::Success
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "milliseconds"
        )]
        attempt(due_us, latency as u64, outcome)
    }

    fn seconds(&mut self, seconds: u64, group: Manner, control: Manner) -> Vec<Confirmed> {
        let mut found = Vec::new();
        for _ in 0..seconds * 50 {
            let due_us = self.number * EVERY_US;
            self.number += 1;
            let (one, other) = (self.answer(due_us, group), self.answer(due_us, control));
            found.extend(self.judge.take(&one));
            found.extend(self.judge.take_of_control(&other));
            found.extend(self.judge.tick(due_us).1);
        }
        found
    }
}

const CANARY: &[&str] = &[
    "success within 1% of control",
    "p95 <= 1.2x control",
    "p99 <= 1.5x control",
];

#[test]
fn equal_groups_that_get_worse_together_are_never_stopped() {
    for seed in 0..20 {
        let mut two = Two::new(CANARY, seed);
        let calm = (0.005, 10_000.0);
        let mut found = two.seconds(20, calm, calm);
        found.extend(two.seconds(20, (0.2, 50_000.0), (0.2, 50_000.0)));
        found.extend(two.seconds(20, calm, calm));
        assert!(found.is_empty(), "seed {seed}: {found:?}");
        // In such weather a percent more or less cannot be seen so soon, and nobody says that it was.
        let unproven = two.judge.unproven().expect("too much weather");
        assert!(
            unproven.contains("success within 1% of control is not shown"),
            "{unproven}"
        );
    }
}

#[test]
fn equal_groups_are_shown_to_be_so_and_how_much_is_missing_is_said_before() {
    for seed in 0..10 {
        let mut two = Two::new(CANARY, seed);
        let calm = (0.001, 10_000.0);
        two.seconds(2, calm, calm);
        let early = two.judge.unproven().expect("a hundred pairs show nothing");
        assert!(
            early.contains("is not shown by 100 pairs") || early.contains("more pairs are missing"),
            "{early}"
        );
        let found = two.seconds(70, calm, calm);
        assert!(found.is_empty(), "seed {seed}: {found:?}");
        assert_eq!(two.judge.unproven(), None, "seed {seed}");
        let shown = two.judge.shown();
        assert!(
            shown.len() == 3 && shown[0].contains("points more"),
            "{shown:?}"
        );
    }
}

/// Whether a group that is worse by exactly what is allowed is ever shown to be worse by less, looked at after every pair.
#[test]
fn what_is_not_so_is_shown_of_a_difference_at_most_as_often_as_the_confidence_leaves() {
    const RUNS: u32 = 300;
    const CONFIDENCE: f64 = 0.95;
    for (weight, margin, control) in [(1.0, 0.05, 0.02), (1.0, 0.05, 0.3), (0.9, 0.15, 0.1)] {
        let mut rng = StdRng::seed_from_u64(11);
        let group = weight * control + margin;
        let shown = (0..RUNS).filter(|_| {
            let mut proof = Proof::of_difference(margin, CONFIDENCE);
            (0..300).any(|number| {
                let [worse, beside] =
                    [group, control].map(|share| f64::from(u8::from(rng.random_bool(share))));
                proof.take(worse - weight * beside, 1);
                number % 5 == 4 && proof.shown()
            })
        });
        let shown = f64::from(u32::try_from(shown.count()).unwrap());
        let allowed = f64::from(RUNS) * (1.0 - CONFIDENCE);
        assert!(
            shown <= allowed + 3.0 * allowed.sqrt(),
            "{control}: {shown} of {RUNS}"
        );
        assert!(shown > 0.0, "{control}");
    }
}

#[test]
fn a_canary_that_fails_or_is_slow_is_found_while_both_are_in_bad_weather() {
    let weather = (0.05, 50_000.0);
    for (worse, which) in [((0.25, 50_000.0), "success"), ((0.05, 200_000.0), "p95")] {
        for seed in 0..20 {
            let mut two = Two::new(CANARY, seed);
            assert!(two.seconds(10, weather, weather).is_empty());
            let found = two.seconds(20, worse, weather);
            let first = found.first().unwrap_or_else(|| panic!("{which}: nothing"));
            assert!(first.expectation.text.starts_with(which), "{found:?}");
            assert!(first.measured.contains("of the control's"), "{found:?}");
        }
    }
}

#[test]
fn a_canary_that_is_better_violates_nothing() {
    let mut two = Two::new(CANARY, 5);
    let found = two.seconds(30, (0.0, 5_000.0), (0.3, 50_000.0));
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn the_control_is_drawn_as_the_bound() {
    let mut two = Two::new(&["median <= 2x control"], 6);
    two.seconds(1, (0.0, 10_000.0), (0.0, 30_000.0));
    let (window, _) = two.judge.tick(SECOND_US);
    let check = &window.unwrap().checks[0];
    assert!(check.satisfied);
    let (measured, bound) = (check.measured.unwrap(), check.bound.unwrap());
    assert!((5_000.0..20_000.0).contains(&measured), "{measured}");
    assert!((40_000.0..90_000.0).contains(&bound), "{bound}");
}

/// The group's failures are quick and the control's slow: in the order in which they end, the control would look well for five seconds.
#[test]
fn a_slow_failure_is_not_overtaken_by_quick_ones() {
    let mut judge = Judge::new(&beside(&CANARY[..1]), SETTINGS, 0);
    let refused = Outcome::Unanswered("refused".into());
    let mut found = Vec::new();
    for number in 0..100 {
        judge.begun(number * EVERY_US);
        judge.begun_of_control(number * EVERY_US);
        found.extend(judge.take(&attempt(number * EVERY_US, 100, refused.clone())));
    }
    for number in 0..100 {
        let late = attempt(number * EVERY_US, 5 * SECOND_US, refused.clone());
        found.extend(judge.take_of_control(&late));
    }
    assert!(found.is_empty(), "{found:?}");
    let unproven = judge.unproven().expect("a hundred are not enough");
    assert!(
        unproven.contains("by 100 pairs"),
        "all pairs were judged: {unproven}"
    );
}

#[test]
fn a_late_answer_beside_a_quick_control_is_known_before_it_comes() {
    let mut two = Two::new(&["p95 <= 1.2x control"], 7);
    two.seconds(4, (0.0, 10_000.0), (0.0, 10_000.0));
    let mut found = Vec::new();
    for number in two.number..two.number + 100 {
        let due_us = number * EVERY_US;
        two.judge.begun(due_us);
        let control = two.answer(due_us, (0.0, 10_000.0));
        found.extend(two.judge.take_of_control(&control));
        found.extend(two.judge.tick(due_us + 1).1);
    }
    // Not one of the group's has ended.
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(!found[0].no_data, "{found:?}");
}

#[test]
fn a_control_that_falls_silent_is_a_violation() {
    let mut two = Two::new(CANARY, 8);
    two.seconds(4, (0.0, 10_000.0), (0.0, 10_000.0));
    let mut found = Vec::new();
    for number in two.number..two.number + 50 * 10 {
        let due_us = number * EVERY_US;
        let answered = attempt(due_us, 1_000, Outcome::Success);
        found.extend(two.judge.take(&answered));
        found.extend(two.judge.tick(due_us).1);
    }
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].no_data && found[0].measured.contains("the control"));
}

/// One of the group's attempts is never heard of, and one of the control's: the pairs behind them count all the same.
#[test]
fn a_missing_half_of_a_pair_counts_against_the_group() {
    let mut judge = Judge::new(&beside(&["success >= control"]), SETTINGS, 0);
    for number in 0..100 {
        let due_us = number * EVERY_US;
        judge.begun(due_us);
        judge.begun_of_control(due_us);
        let fails = if number == 20 {
            Outcome::Failed("no".into())
        } else {
            Outcome::Success
        };
        if number != 10 {
            judge.take(&attempt(due_us, 1_000, fails));
        }
        if number != 20 {
            judge.take_of_control(&attempt(due_us, 1_000, Outcome::Success));
        }
    }
    let pairs = |judge: &Judge| judge.unproven().unwrap();
    assert!(
        pairs(&judge).contains("by 10 pairs, 0 violating in the group"),
        "{}",
        pairs(&judge)
    );
    judge.lost();
    assert!(
        pairs(&judge).contains("by 100 pairs, 2 violating in the group and 0 in the control"),
        "{}",
        pairs(&judge)
    );
}

#[test]
fn nothing_is_held_that_was_not_compared() {
    let mut two = Two::new(CANARY, 9);
    for number in 0..500 {
        two.judge
            .take(&attempt(number * EVERY_US, 1_000, Outcome::Success));
    }
    two.judge.take_baseline(10 * SECOND_US);
    assert!(two.judge.unfit().unwrap().contains("the control"));
    assert!(two.judge.unproven().is_some());
}

#[test]
fn pairs_of_the_phase_before_say_nothing_about_this_one() {
    let mut two = Two::new(&CANARY[..1], 10);
    two.judge.begin(0, 10 * SECOND_US);
    let found = two.seconds(10, (1.0, 1_000.0), (0.0, 1_000.0));
    let in_phase = found.iter().filter(|found| !found.no_data);
    assert_eq!(in_phase.count(), 0, "{found:?}");
    let found = two.seconds(10, (1.0, 1_000.0), (0.0, 1_000.0));
    assert_eq!(found.len(), 1, "{found:?}");
}
