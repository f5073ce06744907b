//! The judge's promises, by simulation with a fixed seed.

use super::eprocess::{EProcess, divergence};
use super::{Judge, JudgeSettings, Outcome, Trial};
use crate::run::fixture;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

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

/// Healthy systems exactly at the edge of what is tolerated, looked at after every sample.
#[test]
fn a_healthy_system_is_stopped_at_most_as_often_as_allowed() {
    const RUNS: u32 = 20_000;
    const SAMPLES: u32 = 600;
    for (tolerated, alpha) in [(0.01, 0.01), (0.05, 0.01), (0.2, 0.01)] {
        let mut rng = StdRng::seed_from_u64(1);
        let stopped = (0..RUNS).filter(|_| {
            let mut test = EProcess::new(tolerated, alpha);
            (0..SAMPLES).any(|_| {
                test.take(rng.random_bool(tolerated));
                test.confirmed()
            })
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
    let (tolerated, alpha) = (0.01, 0.001);
    for (rate, most_at_once, most_late) in [(0.03, 2.2, 4.5), (0.1, 1.9, 3.5), (0.5, 2.0, 4.0)] {
        let wald = (1.0_f64 / alpha).ln() / divergence(rate, tolerated);
        for (healthy, most) in [(0, most_at_once), (3_000, most_late)] {
            let mut rng = StdRng::seed_from_u64(2);
            let mut needed: Vec<u32> = (0..RUNS)
                .filter_map(|_| {
                    let mut test = EProcess::new(tolerated, alpha);
                    (0..healthy).for_each(|_| test.take(rng.random_bool(tolerated / 2.0)));
                    (1..20_000).find(|_| {
                        test.take(rng.random_bool(rate));
                        test.confirmed()
                    })
                })
                .collect();
            assert_eq!(needed.len(), RUNS, "every break is found");
            needed.sort_unstable();
            let ratio = f64::from(needed[RUNS / 2]) / wald;
            assert!(
                ratio <= most,
                "{rate} after {healthy}: {ratio:.2} times Wald's {wald:.1}"
            );
        }
    }
}

fn judge(now_us: u64) -> Judge {
    let steady = fixture::load(
        "http://x/",
        "50/s",
        vec![fixture::success(), fixture::p99()],
    );
    Judge::new(&steady, JudgeSettings { alpha: 0.0005 }, now_us)
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
