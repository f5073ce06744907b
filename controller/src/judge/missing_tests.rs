//! A missing sample never makes a verdict better: of any stream of attempts, whichever of them are lost or left out.

use super::{Judge, JudgeSettings, Outcome, Trial};
use crate::run::fixture;
use proptest::prelude::*;
use squall_experiments::experiment::SteadyState;
use squall_experiments::probe::{Command, Probe};

const SECOND_US: u64 = 1_000_000;

/// How often the run looks at the time.
const TICK_US: u64 = 20_000;

const SETTINGS: JudgeSettings = JudgeSettings {
    alpha: 0.005,
    confidence: 0.9,
};

/// One attempt as it would be heard of.
#[derive(Debug, Clone, Copy)]
struct Made {
    fails: bool,
    latency_ms: u64,
    value: f64,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Heard,
    /// It is announced and never ends.
    Lost,
    /// Nobody hears of it at all.
    LeftOut,
}

/// From the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Held,
    Inconclusive,
    Broken,
}

enum What {
    Begun,
    Ended(Trial),
}

/// Attempts of the group, and of its control where there are any, from the second on; the judge sees the phase from second 1.
fn rank(steady: &SteadyState, every_us: u64, groups: &[(&[Made], &[Fate])]) -> Rank {
    let mut judge = Judge::new(steady, SETTINGS, SECOND_US);
    let mut happens: Vec<(u64, usize, What)> = Vec::new();
    let mut until_us = 0;
    for (side, (made, fates)) in groups.iter().enumerate() {
        for ((number, made), fate) in (0..).zip(*made).zip(*fates) {
            let due_us = SECOND_US + number * every_us;
            until_us = until_us.max(due_us + every_us);
            if *fate != Fate::LeftOut {
                happens.push((due_us, side, What::Begun));
            }
            if *fate == Fate::Heard {
                let trial = trial(due_us, *made);
                happens.push((trial.ended_us, side, What::Ended(trial)));
            }
        }
        // The probe goes on after the phase.
        happens.push((until_us, side, What::Begun));
    }
    happens.sort_by_key(|(at_us, ..)| *at_us);
    let mut happens = happens.into_iter().peekable();
    let (mut broken, mut over) = (false, false);
    let ends_us = until_us + 15 * SECOND_US;
    for now_us in (SECOND_US..ends_us).step_by(20_000) {
        while let Some((at_us, side, what)) = happens.next_if(|(at_us, ..)| *at_us <= now_us) {
            let found = match (what, side) {
                (What::Begun, 0) => {
                    judge.begun(at_us);
                    Vec::new()
                }
                (What::Begun, _) => {
                    judge.begun_of_control(at_us);
                    Vec::new()
                }
                (What::Ended(trial), 0) => judge.take(&trial),
                (What::Ended(trial), _) => judge.take_of_control(&trial),
            };
            broken |= !found.is_empty();
        }
        if !over && now_us >= until_us + TICK_US {
            judge.end(until_us);
            over = true;
        }
        let found = if over {
            judge.tick_after(now_us)
        } else {
            judge.tick(now_us).1
        };
        broken |= !found.is_empty();
    }
    broken |= !judge.lost().is_empty();
    match (broken, judge.unproven()) {
        (true, _) => Rank::Broken,
        (false, None) => Rank::Held,
        (false, Some(_)) => Rank::Inconclusive,
    }
}

fn trial(due_us: u64, made: Made) -> Trial {
    let outcome = match (made.fails, made.latency_ms > 900) {
        (false, _) => Outcome::Success,
        (true, false) => Outcome::Failed("status 503".into()),
        (true, true) => Outcome::Unanswered("no answer".into()),
    };
    Trial {
        due_us,
        ended_us: due_us + made.latency_ms * 1_000,
        outcome,
        status: Some(if made.fails { 503 } else { 200 }),
        value: Some(made.value),
        exit: Some(0),
        bodies: Vec::new(),
    }
}

/// Each of these is judged in its own way.
const LOAD: [&str; 12] = [
    "success >= 90%",
    "success >= 60%",
    "success <= 99%",
    "p90 <= 200ms",
    "p50 >= 1ms",
    "status == 200",
    "max <= 1s",
    "rate <= 60/s",
    "rate >= 30/s",
    "success within 10% of 95%",
    "burn of 90% over 4s and 500ms <= 2",
    "burn of 99% over 10s and 1s <= 14",
];

fn load(expect: &str) -> SteadyState {
    fixture::load("http://x/", "50/s", vec![expect.parse().unwrap()])
}

fn gauge(expect: &str) -> SteadyState {
    SteadyState {
        probe: Probe::Command(Command {
            argv: vec!["./queue.sh".into()],
            timeout: "500ms".parse().unwrap(),
            every: "1s".parse().unwrap(),
        }),
        clear: 2,
        ..load(expect)
    }
}

/// A system that is well for a time, and then, perhaps, is not.
fn stream(many: usize) -> impl Strategy<Value = Vec<Made>> {
    let attempt = (0.0..1.0_f64, 0..100_u32, 0.0..1.0_f64);
    let many = proptest::collection::vec(attempt, many);
    (many, 0.0..0.6_f64, any::<prop::sample::Index>()).prop_map(|(drawn, fails, from)| {
        let from = from.index(drawn.len());
        let attempts = drawn.into_iter().enumerate();
        let made = attempts.map(|(number, (failing, latency, value))| {
            let share = if number >= from { fails } else { fails / 20.0 };
            let latency_ms = match latency {
                0..90 => 1 + u64::from(latency),
                90..98 => 300,
                _ => 3_000,
            };
            Made {
                fails: failing < share,
                latency_ms,
                value: if value < share { 1_000.0 } else { value },
            }
        });
        made.collect()
    })
}

/// The first attempt is heard of: nobody could know that one before it was left out.
fn fates(many: usize) -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![8 => Just(Fate::Heard), 1 => Just(Fate::Lost), 1 => Just(Fate::LeftOut)];
    proptest::collection::vec(fate, many).prop_map(|mut fates| {
        fates[0] = Fate::Heard;
        fates
    })
}

const MANY: usize = 300;
const FEW: usize = 14;

fn all_heard(many: usize) -> Vec<Fate> {
    vec![Fate::Heard; many]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_missing_sample_never_makes_a_verdict_better(
        made in stream(MANY),
        fates in fates(MANY),
        which in 0..LOAD.len(),
        block: bool,
    ) {
        let mut steady = load(LOAD[which]);
        steady.block = block.then(|| "200ms".parse().unwrap());
        let whole = rank(&steady, 20_000, &[(&made, &all_heard(MANY))]);
        let less = rank(&steady, 20_000, &[(&made, &fates)]);
        prop_assert!(less >= whole, "{}: {whole:?} became {less:?}", LOAD[which]);
    }

    #[test]
    fn a_missing_value_never_makes_a_verdict_better(
        mut made in stream(FEW),
        fates in fates(FEW),
        upper: bool,
    ) {
        made.iter_mut().for_each(|made| made.latency_ms = made.latency_ms.min(400));
        let steady = gauge(if upper { "value <= 10" } else { "value within 3% of 0.5" });
        let whole = rank(&steady, SECOND_US, &[(&made, &all_heard(FEW))]);
        let less = rank(&steady, SECOND_US, &[(&made, &fates)]);
        prop_assert!(less >= whole, "{whole:?} became {less:?}");
    }

    /// Of either group; of latencies beside a control's only those of the group, since the control's set the bound.
    #[test]
    fn a_missing_half_of_a_pair_never_makes_a_verdict_better(
        group in stream(MANY),
        control in stream(MANY),
        of_group in fates(MANY),
        of_control in fates(MANY),
        slow: bool,
    ) {
        let mut steady = load(if slow { "p90 <= 1.2x control" } else { "success within 10% of control" });
        steady.compare = Some(steady.probe.clone());
        let heard = all_heard(MANY);
        let of_control = if slow { &heard } else { &of_control };
        let whole = rank(&steady, 20_000, &[(&group, &heard), (&control, &heard)]);
        let less = rank(&steady, 20_000, &[(&group, &of_group), (&control, of_control)]);
        prop_assert!(less >= whole, "{whole:?} became {less:?}");
    }
}

/// Every kind of verdict is met above: a property of streams that all end alike would say nothing.
#[test]
fn streams_of_the_kind_above_end_in_every_verdict() {
    let made = |fails: usize| -> Vec<Made> {
        let attempts = (0..MANY).map(|number| Made {
            fails: number % 100 < fails,
            latency_ms: 10,
            value: 0.5,
        });
        attempts.collect()
    };
    let of = |expect: &str, fails| rank(&load(expect), 20_000, &[(&made(fails), &all_heard(MANY))]);
    assert_eq!(of("success >= 90%", 0), Rank::Held);
    assert_eq!(of("success >= 99.9%", 0), Rank::Inconclusive);
    assert_eq!(of("success >= 90%", 50), Rank::Broken);
    let mut fates = all_heard(MANY);
    fates[40..80].fill(Fate::LeftOut);
    assert_eq!(
        rank(&load("success >= 90%"), 20_000, &[(&made(0), &fates)]),
        Rank::Broken
    );
}
