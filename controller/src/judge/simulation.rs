//! The judge's promises, by simulation with a fixed seed.

use super::eprocess::{EProcess, divergence};
use super::{Judge, JudgeSettings, Outcome, Trial};
use crate::run::fixture;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use squall_experiments::proof::Proof;

const SECOND_US: u64 = 1_000_000;
/// 50 attempts a second, as the fixture's load.
const EVERY_US: u64 = SECOND_US / 50;

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

/// How many trials do not violate before the next one that does, at this rate.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive, and saturating"
)]
fn gap(rng: &mut StdRng, rate: f64) -> u64 {
    ((1.0 - rng.random::<f64>()).ln() / (1.0 - rate).ln()) as u64
}

/// Healthy systems exactly at the edge of what is tolerated, looked at after every sample.
#[test]
fn a_healthy_system_is_stopped_at_most_as_often_as_allowed() {
    const RUNS: u32 = 5_000;
    const SAMPLES: u64 = 600;
    for (tolerated, alpha) in [(0.01, 0.01), (0.05, 0.01), (0.2, 0.01)] {
        let mut rng = StdRng::seed_from_u64(1);
        let stopped = (0..RUNS).filter(|_| {
            let mut test = EProcess::new(tolerated, alpha);
            // Only a violation can confirm: what is between two is taken at once.
            loop {
                let healthy = gap(&mut rng, tolerated);
                if test.samples() + healthy >= SAMPLES {
                    return false;
                }
                test.take_healthy(healthy);
                test.take(1.0);
                if test.confirmed() {
                    return true;
                }
            }
        });
        let stopped = f64::from(u32::try_from(stopped.count()).unwrap());
        let allowed = f64::from(RUNS) * alpha;
        // Three standard deviations above the bound would be chance of one in a thousand.
        assert!(
            stopped <= allowed + 3.0 * allowed.sqrt(),
            "{tolerated}: {stopped} of {RUNS}"
        );
        // A test that never stops would pass as well.
        assert!(stopped > 0.0, "{tolerated}");
    }
}

/// Breaks of three times the tolerated rate and more, from the first sample on and after a long healthy time.
#[test]
fn a_break_is_found_after_about_as_few_samples_as_wald_allows() {
    const RUNS: usize = 400;
    let alpha = 0.001;
    for (tolerated, times) in [
        (0.01, 3.0),
        (0.01, 10.0),
        (0.01, 50.0),
        (0.05, 3.0),
        (0.2, 3.0),
    ] {
        let rate = tolerated * times;
        let wald = (1.0_f64 / alpha).ln() / divergence(rate, tolerated);
        for (healthy, most) in [(0, 1.5), (3_000, 3.2)] {
            let mut rng = StdRng::seed_from_u64(2);
            let mut needed: Vec<u32> = (0..RUNS)
                .filter_map(|_| {
                    let mut test = EProcess::new(tolerated, alpha);
                    let mut draw = |rate| f64::from(u8::from(rng.random_bool(rate)));
                    (0..healthy).for_each(|_| test.take(draw(tolerated / 2.0)));
                    (1..20_000).find(|_| {
                        test.take(draw(rate));
                        test.confirmed()
                    })
                })
                .collect();
            assert_eq!(needed.len(), RUNS, "every break is found");
            needed.sort_unstable();
            let ratio = f64::from(needed[RUNS / 2]) / wald;
            assert!(
                ratio <= most,
                "{rate} against {tolerated} after {healthy}: {ratio:.2} times Wald's {wald:.1}"
            );
        }
    }
}

/// Failures that come in bursts, in the long run as many as are tolerated: a trial for each attempt stops healthy systems, a
/// trial for each block that is much longer than a burst does not.
#[test]
fn bursts_stop_a_healthy_system_only_where_each_attempt_is_a_trial() {
    const RUNS: u32 = 400;
    const SAMPLES: u64 = 3_000;
    const BLOCK: u64 = 100;
    let (tolerated, alpha) = (0.05, 0.01);
    let (ends, begins) = (0.2, 0.2 * tolerated / (1.0 - tolerated));
    let mut rng = StdRng::seed_from_u64(5);
    let (mut by_attempt, mut by_block) = (0, 0);
    for _ in 0..RUNS {
        let mut single = EProcess::new(tolerated, alpha);
        let mut blocks = EProcess::new(tolerated, alpha);
        let mut failing = rng.random_bool(tolerated);
        let (mut stopped, mut stopped_by_block, mut in_block) = (false, false, 0.0);
        for number in 1..=SAMPLES {
            let x = f64::from(u8::from(failing));
            single.take(x);
            in_block += x;
            if number.is_multiple_of(BLOCK) {
                blocks.take(in_block / f64::from(u32::try_from(BLOCK).unwrap()));
                in_block = 0.0;
            }
            stopped |= single.confirmed();
            stopped_by_block |= blocks.confirmed();
            failing = rng.random_bool(if failing { 1.0 - ends } else { begins });
        }
        by_attempt += u32::from(stopped);
        by_block += u32::from(stopped_by_block);
    }
    assert!(by_attempt > RUNS / 10, "{by_attempt} of {RUNS}");
    assert!(by_block <= 10, "{by_block} of {RUNS}: 4 may be");
}

/// A system exactly at the edge, asked after every sample whether it is shown to be within its bound.
#[test]
fn what_is_not_so_is_shown_at_most_as_often_as_the_confidence_leaves() {
    const RUNS: u32 = 4_000;
    let (tolerated, confidence) = (0.05, 0.95);
    let mut rng = StdRng::seed_from_u64(6);
    let shown = (0..RUNS).filter(|_| {
        let mut proof = Proof::new(tolerated, confidence);
        (0..600).any(|_| {
            proof.take(f64::from(u8::from(rng.random_bool(tolerated))), 1);
            proof.shown()
        })
    });
    let shown = f64::from(u32::try_from(shown.count()).unwrap());
    let allowed = f64::from(RUNS) * (1.0 - confidence);
    assert!(shown <= allowed + 3.0 * allowed.sqrt(), "{shown} of {RUNS}");
    assert!(shown > 0.0);
}

/// `p99 <= 400ms` against the share of latencies above it, of distributions whose p99 is known.
#[test]
fn quantiles_are_judged_by_what_is_really_slower() {
    let mut rng = StdRng::seed_from_u64(7);
    // The 99th percentile of a Pareto tail with exponent 1.5 is its least value times 100^(1/1.5); of two modes, 97 % fast,
    // it is the slow one.
    let pareto = |u: f64, p99: f64| p99 / 100f64.powf(1.0 / 1.5) * u.powf(-1.0 / 1.5);
    let bimodal = |u: f64, slow: f64| if u < 0.03 { slow } else { 20_000.0 };
    type Latency<'a> = &'a dyn Fn(f64) -> f64;
    let cases: [(Latency<'_>, bool); 4] = [
        (&|u| pareto(u, 300_000.0), false),
        (&|u| pareto(u, 1_600_000.0), true),
        (&|u| bimodal(u, 390_000.0), false),
        (&|u| bimodal(u, 900_000.0), true),
    ];
    for (number, (latency, breaks)) in cases.into_iter().enumerate() {
        let mut judge = judge(0);
        let found = (0..4_000).any(|n| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a latency in microseconds"
            )]
            let latency_us = latency(1.0 - rng.random::<f64>()) as u64;
            let trial = attempt(n * EVERY_US, latency_us, Outcome::Success);
            !judge.take(&trial).is_empty()
        });
        assert_eq!(found, breaks, "case {number}");
    }
}

fn settings() -> JudgeSettings {
    JudgeSettings {
        alpha: 0.0005,
        confidence: 0.95,
    }
}

fn judge(now_us: u64) -> Judge {
    let steady = fixture::load(
        "http://x/",
        "50/s",
        vec![fixture::success(), fixture::p99()],
    );
    Judge::new(&steady, settings(), now_us)
}

#[test]
fn a_late_answer_is_known_before_it_comes() {
    let mut judge = judge(0);
    for number in 0..100 {
        judge.begun(number * EVERY_US);
    }
    // Nothing answers: at 400 ms and one request later each is late. Not one has ended.
    let (_, found) = judge.tick(399_000);
    assert!(found.is_empty());
    let found: Vec<_> = (0..100)
        .flat_map(|number| judge.tick(400_000 + number * EVERY_US).1)
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].expectation.text.starts_with("p99"));
    assert!(found[0].samples < 10, "{}", found[0].samples);
    // When they end, they are not counted again for latency.
    let ended = attempt(
        0,
        5 * SECOND_US,
        Outcome::Unanswered("no answer within 5s".into()),
    );
    assert!(
        judge
            .take(&ended)
            .iter()
            .all(|c| !c.expectation.text.starts_with("p99"))
    );
}

#[test]
fn a_refused_connection_is_not_a_fast_answer() {
    let mut judge = judge(0);
    let refused = |n| attempt(n * EVERY_US, 100, Outcome::Unanswered("refused".into()));
    let found: Vec<_> = (0..20).flat_map(|n| judge.take(&refused(n))).collect();
    assert_eq!(found.len(), 2, "success and latency both: {found:?}");
}

#[test]
fn attempts_of_the_phase_before_say_nothing_about_this_one() {
    let mut judge = judge(0);
    judge.begin(10 * SECOND_US, 10 * SECOND_US);
    let failed = |n| attempt(n * EVERY_US, 1000, Outcome::Failed("status 503".into()));
    let found: Vec<_> = (0..400).flat_map(|n| judge.take(&failed(n))).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn recovered_is_so_many_good_windows_in_a_row() {
    let mut judge = judge(0);
    let second = |judge: &mut Judge, second: u64, outcome: &Outcome| {
        for number in 0..50 {
            let due_us = second * SECOND_US + number * EVERY_US;
            judge.take(&attempt(due_us, 1000, outcome.clone()));
        }
        judge.tick((second + 1) * SECOND_US);
    };
    let bad = Outcome::Failed("status 503".into());
    second(&mut judge, 0, &Outcome::Success);
    second(&mut judge, 1, &Outcome::Success);
    second(&mut judge, 2, &bad);
    second(&mut judge, 3, &Outcome::Success);
    second(&mut judge, 4, &Outcome::Success);
    assert!(!judge.recovered());
    second(&mut judge, 5, &Outcome::Success);
    assert!(judge.recovered());
    // Windows without data are no proof: two seconds of patience, then an empty window.
    judge.tick(7 * SECOND_US);
    judge.tick(8 * SECOND_US);
    assert!(!judge.recovered());
}

#[test]
fn a_lost_attempt_does_not_stall_the_blocks_after_it() {
    let mut steady = fixture::load("http://x/", "50/s", vec![fixture::success()]);
    steady.block = Some("500ms".parse().unwrap());
    let mut judge = Judge::new(&steady, settings(), 0);
    judge.begun(0);
    assert!(!judge.heard());
    let found = (0..30).any(|second| {
        for number in 1..50 {
            let due_us = second * SECOND_US + number * EVERY_US;
            judge.take(&attempt(due_us, 1_000, Outcome::Failed("no".into())));
        }
        let (_, found) = judge.tick((second + 1) * SECOND_US);
        !found.is_empty()
    });
    assert!(found && judge.heard(), "it was given up");
    assert!(judge.lost().is_empty(), "it is confirmed already");
}

/// Blocks in which some attempts fail, each attempt with the place at which it comes in.
fn batches() -> impl Strategy<Value = Vec<Vec<(bool, u32)>>> {
    proptest::collection::vec(
        proptest::collection::vec((proptest::bool::weighted(0.1), any::<u32>()), 25),
        1..40,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The batch is a block: attempts that were due in one block may come in in any order, and every number that the judge
    /// knows stays the same, at every moment between blocks.
    #[test]
    fn the_order_within_a_block_does_not_matter(batches in batches()) {
        let mut steady = fixture::load("http://x/", "50/s", vec![fixture::success()]);
        steady.block = Some("500ms".parse().unwrap());
        let mut in_order = Judge::new(&steady, settings(), 0);
        let mut shuffled = in_order.clone();
        for (second, batch) in (0_u64..).zip(&batches) {
            let mut trials: Vec<(u32, Trial)> = (0_u64..)
                .zip(batch)
                .map(|(n, (fails, place))| {
                    let outcome = if *fails { Outcome::Failed("no".into()) } else { Outcome::Success };
                    (*place, attempt(second * SECOND_US + n * EVERY_US, 1_000, outcome))
                })
                .collect();
            trials.iter().for_each(|(_, trial)| drop(in_order.take(trial)));
            trials.sort_by_key(|(place, _)| *place);
            trials.iter().for_each(|(_, trial)| drop(shuffled.take(trial)));
            let at_us = (second + 1) * SECOND_US;
            prop_assert_eq!(in_order.tick(at_us), shuffled.tick(at_us));
            prop_assert_eq!(in_order.unproven(), shuffled.unproven());
        }
    }

    /// What is shown at the end depends on how many attempts violated, and not on the order in which they came.
    #[test]
    fn the_order_of_a_phase_does_not_matter_for_what_it_shows(batches in batches()) {
        let steady = fixture::load("http://x/", "50/s", vec![fixture::success()]);
        let mut in_order = Judge::new(&steady, settings(), 0);
        let mut shuffled = in_order.clone();
        let mut trials: Vec<(u32, bool)> = batches.concat().into_iter().map(|(f, p)| (p, f)).collect();
        let take = |judge: &mut Judge, trials: &[(u32, bool)]| {
            for (n, (_, fails)) in (0_u64..).zip(trials) {
                let outcome = if *fails { Outcome::Failed("no".into()) } else { Outcome::Success };
                judge.take(&attempt(n * EVERY_US, 1_000, outcome));
            }
        };
        take(&mut in_order, &trials);
        trials.sort_unstable();
        take(&mut shuffled, &trials);
        prop_assert_eq!(in_order.unproven(), shuffled.unproven());
        prop_assert_eq!(in_order.shown(), shuffled.shown());
    }
}
