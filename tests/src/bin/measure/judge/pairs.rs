//! A group beside its control: how often one at the edge is stopped or called held, and how many pairs it takes to show one that is well.

use super::draws::{Draws, each, float};
use lab::world::Result;
use squall_controller::judge::compare::Difference;
use squall_experiments::enough::Hypothesis;
use squall_experiments::expectation::Expectation;
use squall_experiments::proof::Proof;

/// A minute at fifty pairs a second.
pub(crate) const PAIRS: u64 = 3_000;

/// It is looked at whether something is shown after so many pairs each; the test itself looks after each.
const LOOK_EVERY: u64 = 10;

/// After so many pairs nobody waits any more.
const LIMIT: u64 = 50_000;

/// What is expected, and which share of the control's attempts violates.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    expectation: &'static str,
    control: f64,
    /// In so large a share of pairs something hits both.
    both: f64,
}

/// Those that are looked at.
pub(crate) const KINDS: [Kind; 4] = [
    Kind {
        name: "success within 1 % of control, which fails at 0.2 %",
        expectation: "success within 1% of control",
        control: 0.002,
        both: 0.0,
    },
    Kind {
        name: "the same in weather that fails 30 % of pairs on both sides",
        expectation: "success within 1% of control",
        control: 0.002,
        both: 0.3,
    },
    Kind {
        name: "p95 against control",
        expectation: "p95 <= control",
        control: 0.05,
        both: 0.0,
    },
    Kind {
        name: "p99 against control",
        expectation: "p99 <= control",
        control: 0.01,
        both: 0.0,
    },
];

fn hypothesis(kind: Kind) -> Result<Hypothesis> {
    let expectation: Expectation = kind
        .expectation
        .parse()
        .map_err(|error| format!("{}: {error:?}", kind.expectation))?;
    Ok(Hypothesis::of(&expectation).ok_or("not judged by pairs")?)
}

fn pair(draws: &mut Draws, kind: Kind, more: f64) -> (bool, bool) {
    if draws.unit() <= kind.both {
        return (true, true);
    }
    // Where something hits both, the rest makes up for what is then not different.
    let more = more / (1.0 - kind.both);
    let (group, control) = (draws.unit(), draws.unit());
    (group <= kind.control + more, control <= kind.control)
}

fn worth(pair: (bool, bool), of: &Hypothesis) -> f64 {
    f64::from(u8::from(pair.0)) - of.weight * f64::from(u8::from(pair.1))
}

/// How many of the groups that are worse by all that is allowed were stopped, and how many that are worse by the whole margin were shown to be within it.
pub(crate) fn at_the_edge(kind: Kind, runs: u64) -> Result<(u64, u64)> {
    let of = hypothesis(kind)?;
    let ended = each(kind.name, runs, |draws, _| {
        let mut test = Difference::new(of, super::stops::ALPHA);
        let mut proof = Proof::of_difference(of.margin(), 0.95);
        let (mut stopped, mut shown) = (false, false);
        for number in 0..PAIRS {
            let (group, control) = pair(draws, kind, of.tolerated);
            test.take(group, control);
            stopped |= test.confirmed();
            proof.take(worth(pair(draws, kind, of.margin()), &of), 1);
            shown |= number % LOOK_EVERY == 0 && proof.shown();
        }
        (stopped, shown)
    });
    let count = |which: fn(&(bool, bool)) -> bool| ended.iter().filter(|run| which(run)).count();
    Ok((count(|run| run.0) as u64, count(|run| run.1) as u64))
}

/// After how many pairs a group as good as its control is shown to be within the margin.
pub(crate) fn alike(kind: Kind, runs: u64) -> Result<Vec<f64>> {
    let of = hypothesis(kind)?;
    let needed = each(kind.name, runs, |draws, _| {
        let mut proof = Proof::of_difference(of.margin(), 0.95);
        let mut number = 0;
        while number < LIMIT {
            number += 1;
            proof.take(worth(pair(draws, kind, 0.0), &of), 1);
            if number % LOOK_EVERY == 0 && proof.shown() {
                break;
            }
        }
        float(number)
    });
    Ok(needed)
}
