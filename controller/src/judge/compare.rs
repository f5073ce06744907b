//! An anytime-valid test of a difference: is more of one group violating than of the group beside it?
//!
//! Both groups are asked at the same moments; the k-th attempts of both are one trial. It is worth
//!
//! ```text
//! x = worse(group) − weight × worse(control) − tolerated        worse is 0 or 1
//! ```
//!
//! and what is bet against is that no trial is expected to be worth more than nothing, whatever was seen before it. A bet `λ` multiplies its capital by
//! `1 + λx`; with `λ` below `1 / (weight + tolerated)` that is never negative, and its expected value is at most one. A mixture of such bets
//! over `λ`, and over the trial at which each is opened, is a non-negative supermartingale that starts at one: it *ever* reaches `1/alpha` with a
//! chance of at most `alpha` (Ville 1939), however often it is looked at.
//!
//! What is assumed is only that expectation. Both groups may get worse together, for as long and as suddenly as they like: `worse` then rises on both
//! sides of the minus. Nothing is assumed of how trials depend on each other through what *both* feel. What one group alone feels for a
//! while, a node of its own that is busy, counts against it, since for that while it is worse.
//!
//! That no stop came shows nothing yet: a [proof](squall_experiments::proof) of the same pairs must show that the group is worse by less than
//! what is allowed, or than a [margin](squall_experiments::enough::Hypothesis::margin) where nothing is.
//!
//! - Bets: [`BETS`] of them, evenly spaced in log odds between 2 % and 98 % of the greatest; the small ones find small differences among many
//!   failures, the great ones find great differences at once.
//! - Openings: half of the capital is bet from the first trial on, trial `k` of the others opens `1/(2k(k-1))`, as in [`super::eprocess`], so that a break
//!   after a long healthy time costs a logarithm of that time.
//!
//! After Waudby-Smith & Ramdas, *Estimating means of bounded random variables by betting* (2023); Shekhar & Ramdas, *Nonparametric two-sample
//! testing by betting* (2023).

use squall_experiments::enough::Hypothesis;

/// How many bets there are. More are closer to the best one, and cost a little of the capital each.
pub const BETS: u32 = 12;

/// Evidence is kept below this, so that it stays a number in JSON.
const EVIDENCE_MAX: f64 = 1e300;

/// The least and the greatest bet as a share of what could be lost at once, in log odds: 2 % and 98 %.
const LOG_ODDS: f64 = 3.9;

/// Pairs, and how many of each side violated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pairs.
    pub pairs: u64,
    /// Violating attempts of the group.
    pub group: u64,
    /// Violating attempts of the control.
    pub control: u64,
}

impl Counts {
    /// Takes a pair.
    pub fn take(&mut self, group: bool, control: bool) {
        self.pairs += 1;
        self.group += u64::from(group);
        self.control += u64::from(control);
    }

    /// What the pairs are worth together.
    #[must_use]
    pub fn worth(&self, of: &Hypothesis) -> f64 {
        float(self.group) - of.weight * float(self.control) - of.tolerated * float(self.pairs)
    }

    /// Whether so many pairs alone could well come from groups that are as they should be: what they are worth is within two standard deviations of
    /// nothing. A window has too few pairs to be held against the bound itself.
    #[must_use]
    pub fn could_be_well(&self, of: &Hypothesis) -> bool {
        const DEVIATIONS: f64 = 2.0;
        self.worth(of) <= DEVIATIONS * float(self.group + self.control).sqrt()
    }
}

/// One bet, and what it holds.
#[derive(Debug, Clone)]
struct Bet {
    /// What a pair multiplies it by, and the logarithm of that, for each of the four that there are; see [`kind`].
    factors: [(f64, f64); 4],
    capital: f64,
    /// What it has gained since it last stood at its lowest (Page 1954), and over which pairs: for words.
    log_gain: f64,
    stretch: Counts,
}

impl Bet {
    fn new(index: u32, of: &Hypothesis) -> Self {
        // Nothing can be lost where nothing is held against the group; a bet of one unit is then as good as any.
        let most = 1.0 / (of.weight + of.tolerated).max(f64::EPSILON);
        let place = 2.0 * f64::from(index) / f64::from(BETS - 1) - 1.0;
        let lambda = most / (1.0 + (-LOG_ODDS * place).exp());
        let mut factors = [(1.0, 0.0); 4];
        for (group, control) in [(false, false), (false, true), (true, false), (true, true)] {
            let worth = f64::from(u8::from(group))
                - of.weight * f64::from(u8::from(control))
                - of.tolerated;
            let factor = lambda.mul_add(worth, 1.0);
            factors[kind(group, control)] = (factor, factor.ln());
        }
        Self {
            factors,
            capital: 0.0,
            log_gain: 0.0,
            stretch: Counts::default(),
        }
    }
}

/// Which of the four pairs it is.
fn kind(group: bool, control: bool) -> usize {
    2 * usize::from(group) + usize::from(control)
}

/// The test.
#[derive(Debug, Clone)]
pub struct Difference {
    of: Hypothesis,
    alpha: f64,
    bets: Vec<Bet>,
    seen: Counts,
    evidence: f64,
}

impl Difference {
    /// With a chance of at most `alpha` of ever confirming a group that is no worse than it may be. What is outside its limits becomes the limit.
    #[must_use]
    pub fn new(of: Hypothesis, alpha: f64) -> Self {
        let of = Hypothesis {
            weight: of.weight.max(0.0),
            tolerated: of.tolerated.clamp(0.0, 1.0),
            usual: of.usual.clamp(0.0, 1.0),
        };
        Self {
            of,
            alpha: alpha.clamp(f64::MIN_POSITIVE, 1.0),
            bets: (0..BETS).map(|index| Bet::new(index, &of)).collect(),
            seen: Counts::default(),
            evidence: 1.0,
        }
    }

    /// Forgets what was seen.
    pub fn begin(&mut self) {
        *self = Self::new(self.of, self.alpha);
    }

    /// What is bet against.
    #[must_use]
    pub const fn hypothesis(&self) -> &Hypothesis {
        &self.of
    }

    /// Takes the k-th attempts of both groups.
    pub fn take(&mut self, group: bool, control: bool) {
        self.seen.take(group, control);
        let kind = kind(group, control);
        let opened = opening(self.seen.pairs) / f64::from(BETS);
        let mut held = 0.0;
        for bet in &mut self.bets {
            let (factor, log_gain) = bet.factors[kind];
            bet.capital = ((bet.capital + opened) * factor).min(EVIDENCE_MAX / f64::from(BETS + 1));
            bet.log_gain += log_gain;
            if bet.log_gain > 0.0 {
                bet.stretch.take(group, control);
            } else {
                bet.log_gain = 0.0;
                bet.stretch = Counts::default();
            }
            held += bet.capital;
        }
        self.evidence = held + unopened(self.seen.pairs);
    }

    /// How strong the evidence is now: 1 is none.
    #[must_use]
    pub const fn evidence(&self) -> f64 {
        self.evidence
    }

    /// Whether the violation is confirmed now.
    #[must_use]
    pub fn confirmed(&self) -> bool {
        self.evidence >= 1.0 / self.alpha
    }

    /// All that was seen.
    #[must_use]
    pub const fn seen(&self) -> Counts {
        self.seen
    }

    /// The pairs that the evidence rests on: those since the strongest bet began to gain.
    #[must_use]
    pub fn stretch(&self) -> Counts {
        let strongest = self
            .bets
            .iter()
            .max_by(|a, b| a.log_gain.total_cmp(&b.log_gain));
        strongest.map_or(self.seen, |bet| bet.stretch)
    }

    /// What a pair is worth in nats to the best of the bets, where so many of the group's and of the control's attempts violate, each for itself.
    #[must_use]
    pub fn growth(&self, group: f64, control: f64) -> f64 {
        let gain = |bet: &Bet| {
            let shares = [
                (1.0 - group) * (1.0 - control),
                (1.0 - group) * control,
                group * (1.0 - control),
                group * control,
            ];
            let each = shares.iter().zip(bet.factors);
            each.map(|(share, (_, log_gain))| share * log_gain)
                .sum::<f64>()
        };
        self.bets.iter().map(gain).fold(0.0, f64::max)
    }
}

/// The share of the capital that is bet from pair `k` (from 1) on; all of them sum to one.
fn opening(k: u64) -> f64 {
    let k = float(k);
    if k <= 1.0 { 0.5 } else { 0.5 / (k * (k - 1.0)) }
}

/// The share that is not bet after pair `k`.
fn unopened(k: u64) -> f64 {
    0.5 / float(k.max(1))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
const fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const AS_GOOD: Hypothesis = Hypothesis {
        weight: 1.0,
        tolerated: 0.0,
        usual: 0.01,
    };

    #[test]
    fn no_bet_gains_on_a_group_at_the_edge_and_none_can_be_lost_twice() {
        for (weight, tolerated) in [
            (1.0, 0.0),
            (1.0, 0.01),
            (0.99, 0.01),
            (0.5, 0.5),
            (1.0, 0.9),
        ] {
            let of = Hypothesis {
                weight,
                tolerated,
                ..AS_GOOD
            };
            let test = Difference::new(of, 0.001);
            for bet in &test.bets {
                assert!(
                    bet.factors.iter().all(|(factor, _)| *factor > 0.0),
                    "{of:?}"
                );
                for control in [0.0, 0.02, 0.1] {
                    let group = weight * control + tolerated;
                    let expected =
                        (1.0 - group) * (1.0 - control) * bet.factors[kind(false, false)].0
                            + (1.0 - group) * control * bet.factors[kind(false, true)].0
                            + group * (1.0 - control) * bet.factors[kind(true, false)].0
                            + group * control * bet.factors[kind(true, true)].0;
                    assert!((expected - 1.0).abs() < 1e-12, "{of:?}: {expected}");
                }
            }
        }
    }

    #[test]
    fn a_group_that_is_worse_in_every_pair_is_confirmed_soon() {
        for (tolerated, usual) in [(0.0, 0.01), (0.01, 0.0), (0.0, 0.05), (0.1, 0.0)] {
            let of = Hypothesis {
                tolerated,
                usual,
                ..AS_GOOD
            };
            let mut test = Difference::new(of, 0.0005);
            (0..25).for_each(|_| test.take(true, false));
            assert!(test.confirmed(), "{of:?}");
        }
    }

    #[test]
    fn what_hits_both_alike_is_no_evidence() {
        let mut test = Difference::new(AS_GOOD, 0.001);
        (0..1_000).for_each(|_| test.take(false, false));
        (0..1_000).for_each(|_| test.take(true, true));
        assert!(test.evidence() <= 1.0 + 1e-9, "{}", test.evidence());
    }

    #[test]
    fn evidence_stays_a_number() {
        let mut test = Difference::new(AS_GOOD, 0.001);
        (0..100_000).for_each(|_| test.take(true, false));
        assert!(test.evidence().is_finite() && test.confirmed());
        assert_eq!(test.stretch().pairs, 100_000);
        (0..100_000).for_each(|_| test.take(false, true));
        assert!(test.evidence().is_finite());
    }

    #[test]
    fn a_window_alone_is_given_the_benefit_of_chance() {
        let counts = |group, control| Counts {
            pairs: 50,
            group,
            control,
        };
        assert!(counts(1, 0).could_be_well(&AS_GOOD));
        assert!(counts(50, 50).could_be_well(&AS_GOOD));
        assert!(!counts(50, 0).could_be_well(&AS_GOOD));
        assert!(!counts(30, 10).could_be_well(&AS_GOOD));
    }
}
