//! How much evidence it takes before a share of violations is *shown* to be within what is tolerated.
//!
//! The stop rule asks whether more than the tolerated share violates; silence of it is not yet health, since a short silence is
//! what a broken system gives as well. A proof asks the other question, by the same kind of bet turned around: for a share
//! `b` it bets that less than `b` violates. For each of a few ratios `r` below one, a trial `x` (0 or 1, or the violating share of a
//! block) multiplies a bet by `1 + (1-r)(b-x)/(1-b)`, which is `(1-rb)/(1-b)` when it does not violate and `r` when it does. If
//! really `b` or more violate, the expected factor is at most one, so that the mixture ever reaches `1/(1-confidence)` with a
//! chance of at most `1 - confidence` (Ville 1939). The shares that are not ruled out so make a confidence sequence: its upper end is
//! valid at every moment, however often it is looked at and whyever the run ends there.
//!
//! The capital grows with `b`, so that the upper end is found by bisection; and it depends on how often each `x` was seen alone, never on the order.
//!
//! A difference of two groups is shown in the same way: a trial is then a pair of attempts, and `x` what the group is worse in it than its control, from
//! -1 to 1. All that was used of `x` is that it is at most 1.
//!
//! Several expectations need no split of `1 - confidence`: all of them must be shown, and a false "held" needs the one that does not
//! hold to be shown by chance.

use std::collections::BTreeMap;

/// The bets: the ratio of the share that is bet on to the share that is ruled out, and its part of the capital. Nearly half bets
/// on no violation at all, which is what a healthy system usually shows; the rest on shares between.
const BETS: [(f64, f64); 5] = [
    (0.0, 0.45),
    (0.2, 0.12),
    (0.35, 0.13),
    (0.5, 0.15),
    (0.7, 0.15),
];

/// The same for differences, which swing more: where many of both groups violate at random, only small bets grow.
const BETS_OF_DIFFERENCE: [(f64, f64); 7] = [
    (0.0, 0.3),
    (0.2, 0.1),
    (0.35, 0.1),
    (0.5, 0.15),
    (0.7, 0.15),
    (0.9, 0.1),
    (0.97, 0.1),
];

/// No number of samples shows that nothing ever fails. Where nothing is tolerated, what is shown is that fewer than this do.
pub const SHARE_FOR_NOTHING: f64 = 0.05;

/// Shares are kept in steps of this, rounded up.
const STEPS: f64 = 1e6;

/// More samples than this no run takes: said as "never".
const SAMPLES_MAX: f64 = 1e9;

/// Precise enough for bounds that are told in hundredths of a percent.
const BISECTIONS: u32 = 60;

/// What was seen of one share of violations, and what it shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Proof {
    tolerated: f64,
    confidence: f64,
    bets: &'static [(f64, f64)],
    /// How many trials violated by so many millionths.
    seen: BTreeMap<i64, u64>,
    trials: u64,
}

impl Proof {
    /// That at most `tolerated` violate, at `confidence`; both fractions.
    #[must_use]
    pub fn new(tolerated: f64, confidence: f64) -> Self {
        Self::by(&BETS, tolerated, confidence)
    }

    /// That a group is worse than its control by at most `margin` on average, at `confidence`; both fractions.
    #[must_use]
    pub fn of_difference(margin: f64, confidence: f64) -> Self {
        Self::by(&BETS_OF_DIFFERENCE, margin, confidence)
    }

    const fn by(bets: &'static [(f64, f64)], tolerated: f64, confidence: f64) -> Self {
        Self {
            tolerated: tolerated.clamp(0.0, 1.0),
            confidence: confidence.clamp(0.0, 1.0 - f64::EPSILON),
            bets,
            seen: BTreeMap::new(),
            trials: 0,
        }
    }

    /// The same, with nothing seen.
    #[must_use]
    pub const fn again(&self) -> Self {
        Self::by(self.bets, self.tolerated, self.confidence)
    }

    /// Takes `count` trials that each violated by `x`: 0 to 1, of a difference -1 to 1.
    #[expect(clippy::cast_possible_truncation, reason = "at most a million")]
    pub fn take(&mut self, x: f64, count: u64) {
        if count == 0 {
            return;
        }
        let step = (x.clamp(-1.0, 1.0) * STEPS).ceil() as i64;
        *self.seen.entry(step).or_default() += count;
        self.trials += count;
    }

    /// Trials taken.
    #[must_use]
    pub const fn trials(&self) -> u64 {
        self.trials
    }

    /// What the share must be shown to be below.
    #[must_use]
    pub fn bound(&self) -> f64 {
        if self.tolerated > 0.0 {
            self.tolerated
        } else {
            SHARE_FOR_NOTHING
        }
    }

    /// Whether it is shown now.
    #[must_use]
    pub fn shown(&self) -> bool {
        self.trials > 0 && (self.tolerated >= 1.0 || self.capital(self.bound(), 1.0) >= self.goal())
    }

    /// With the given confidence no more than this share violates; 1 where nothing is known.
    #[must_use]
    pub fn at_most(&self) -> f64 {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..BISECTIONS {
            let middle = f64::midpoint(low, high);
            if self.trials > 0 && self.capital(middle, 1.0) >= self.goal() {
                high = middle;
            } else {
                low = middle;
            }
        }
        high
    }

    /// How many more trials it takes, about, if they violate as often as those before; none where no number is enough, because
    /// as many violate as are tolerated, or nearly.
    #[must_use]
    pub fn missing(&self) -> Option<u64> {
        if self.shown() {
            return Some(0);
        }
        if self.trials == 0 {
            return needed(self.tolerated, self.confidence, 0.0);
        }
        let trials = float(self.trials);
        let enough = |times| self.capital(self.bound(), times) >= self.goal();
        let times = least(SAMPLES_MAX / trials, enough)?;
        Some(ceil(trials * (times - 1.0)).max(1))
    }

    /// How many trials it takes, about, where all of `of` are as those that were seen.
    fn needed(&self, of: u64) -> Option<u64> {
        if self.tolerated >= 1.0 {
            return Some(1);
        }
        let enough = |times| self.capital(self.bound(), times / float(of)) >= self.goal();
        least(SAMPLES_MAX, enough).map(ceil)
    }

    fn goal(&self) -> f64 {
        -(1.0 - self.confidence).ln()
    }

    /// The logarithm of what the bets against `share` or more hold, if everything had been seen so many `times`.
    fn capital(&self, share: f64, times: f64) -> f64 {
        let logs = self.bets.iter().map(|(ratio, part)| {
            let gains = self.seen.iter().map(|(step, count)| {
                let x = signed(*step) / STEPS;
                let factor = 1.0 + (1.0 - ratio) * (share - x) / (1.0 - share);
                float(*count) * factor.max(0.0).ln()
            });
            part.ln() + times * gains.sum::<f64>()
        });
        let most = logs.clone().fold(f64::NEG_INFINITY, f64::max);
        most + logs.map(|log| (log - most).exp()).sum::<f64>().ln()
    }
}

/// How many trials it takes, about, to show that at most `tolerated` violate, at `confidence`, where `share` of them do. None where no
/// number of them shows it.
#[must_use]
pub fn needed(tolerated: f64, confidence: f64, share: f64) -> Option<u64> {
    const OF: u64 = 1_000_000;
    let mut proof = Proof::new(tolerated, confidence);
    let violating = ceil(share.clamp(0.0, 1.0) * float(OF));
    proof.take(0.0, OF - violating);
    proof.take(1.0, violating);
    proof.needed(OF)
}

/// How many pairs it takes, about, to show that a group is worse than `weight` times its control by at most `margin`, at `confidence`, where the shares
/// `group` and `control` of both violate, each for itself. None where no number of them shows it.
#[must_use]
pub fn pairs_needed(
    (weight, margin): (f64, f64),
    confidence: f64,
    (group, control): (f64, f64),
) -> Option<u64> {
    const OF: u64 = 1_000_000;
    let mut proof = Proof::of_difference(margin, confidence);
    let shares = [
        (1.0, group * (1.0 - control)),
        (1.0 - weight, group * control),
        (-weight, (1.0 - group) * control),
    ];
    let mut left = OF;
    for (x, share) in shares {
        let count = ceil(share.clamp(0.0, 1.0) * float(OF)).min(left);
        proof.take(x, count);
        left -= count;
    }
    proof.take(0.0, left);
    proof.needed(OF)
}

/// The least number from 1 to `most` that is `enough`, where every greater one is, too.
fn least(most: f64, enough: impl Fn(f64) -> bool) -> Option<f64> {
    let (mut low, mut high) = (1.0, most);
    if most < low || !enough(high) {
        return None;
    }
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(low, high);
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(high)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
const fn float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "at most a million")]
const fn signed(number: i64) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 1 and a billion"
)]
fn ceil(number: f64) -> u64 {
    // What bisection leaves over is no sample.
    (number - 1e-6).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_violation_shows_it_after_about_four_over_the_share() {
        for (tolerated, least, most) in [(0.01, 300, 400), (0.05, 58, 80), (0.1, 28, 40)] {
            let needed = needed(tolerated, 0.95, 0.0).expect("it can be shown");
            assert!((least..=most).contains(&needed), "{tolerated}: {needed}");
            let mut proof = Proof::new(tolerated, 0.95);
            proof.take(0.0, needed - 1);
            assert!(!proof.shown() && proof.missing() == Some(1));
            proof.take(0.0, 1);
            assert!(proof.shown() && proof.missing() == Some(0));
        }
    }

    #[test]
    fn violations_cost_samples_and_the_tolerated_share_is_never_shown() {
        let half = needed(0.01, 0.95, 0.005).expect("half of it can be shown");
        assert!((1_200..4_000).contains(&half), "{half}");
        assert_eq!(needed(0.01, 0.95, 0.01), None);
        let mut proof = Proof::new(0.01, 0.95);
        proof.take(0.0, 490);
        proof.take(1.0, 10);
        assert!(!proof.shown() && proof.missing().is_none());
    }

    #[test]
    fn the_upper_end_and_the_proof_are_one_and_the_same() {
        for violating in [0, 1, 3, 10] {
            for trials in [50, 400, 3000] {
                let mut proof = Proof::new(0.02, 0.95);
                proof.take(0.0, trials - violating);
                proof.take(1.0, violating);
                let at_most = proof.at_most();
                assert_eq!(
                    proof.shown(),
                    at_most <= 0.02,
                    "{violating}/{trials}: {at_most}"
                );
                assert!(at_most > float(violating) / float(trials));
            }
        }
        assert!(Proof::new(0.02, 0.95).at_most() >= 1.0, "nothing is known");
    }

    #[test]
    fn a_block_is_one_trial() {
        let mut proof = Proof::new(0.1, 0.95);
        proof.take(0.04, 40);
        let mut nothing = Proof::new(0.1, 0.95);
        nothing.take(0.0, 40);
        assert!(nothing.shown() && proof.at_most() > nothing.at_most());
    }

    #[test]
    fn a_difference_is_shown_by_pairs_that_are_alike_and_never_by_one_that_is_as_great() {
        let quiet = pairs_needed((1.0, 0.01), 0.95, (0.0, 0.0)).expect("it can be shown");
        assert!((300..600).contains(&quiet), "{quiet}");
        let alike = pairs_needed((1.0, 0.01), 0.95, (0.01, 0.01)).expect("it can be shown");
        assert!((1_200..3_000).contains(&alike), "{alike}");
        let better = pairs_needed((1.0, 0.01), 0.95, (0.0, 0.01)).expect("it can be shown");
        assert!(better < quiet, "{better}");
        assert_eq!(pairs_needed((1.0, 0.01), 0.95, (0.02, 0.01)), None);
        let mut proof = Proof::of_difference(0.01, 0.95);
        proof.take(0.0, quiet);
        assert!(proof.shown() && !proof.again().shown());
        proof.take(1.0, 20);
        assert!(!proof.shown());
    }

    #[test]
    fn where_nothing_is_tolerated_few_are_ruled_out() {
        let mut proof = Proof::new(0.0, 0.95);
        proof.take(0.0, 20);
        assert!(!proof.shown());
        proof.take(0.0, 60);
        assert!(proof.shown());
        let mut everything = Proof::new(1.0, 0.95);
        assert!(!everything.shown());
        everything.take(1.0, 1);
        assert!(everything.shown());
    }
}
