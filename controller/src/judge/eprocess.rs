//! An anytime-valid test of one share: is more than the tolerated share of trials violating?
//!
//! A trial is a number `x` from 0 to 1: whether one attempt violates (0 or 1), or which share of a block of attempts does. The test bets
//! against "on average at most `tolerated`": for an alternative rate `q` above the tolerated `p` a trial multiplies a bet by
//! `1 + λ(x - p)` with `λ = (q-p) / (p(1-p))`, which is `q/p` when it violates and `(1-q)/(1-p)` when not. Whatever happened before,
//! the expected factor is at most one as long as `E[x | past] <= p`. A mixture of such bets over rates, and over the trial at which each
//! is opened, is therefore a non-negative supermartingale that starts at one, and the chance of it *ever* reaching
//! `1/alpha` on a healthy system is at most `alpha` (Ville 1939), however often it is looked at.
//!
//! What is assumed is that one sentence, `E[x | past] <= p`: at no moment does what was seen so far make a violation likelier than `p`. Failures that
//! come in bursts break it when each attempt is a trial, although their share in the long run is below `p`. Then a trial must be a block
//! longer than a burst (the file's `block`): attempts may depend on each other in any way within it.
//!
//! - Rates: a grid, evenly spaced in log odds from 1.5 times the tolerated odds to 98 %, about a doubling apart; the
//!   weight falls with the effect, since great effects are found in a few samples anyway.
//! - Openings: three quarters of the capital are bet from the first trial on, where a fault that breaks things at once is
//!   caught; the rest is opened octave by octave (trials 2-3, 4-7, 8-15, …; the `b`-th gets `1/(b(b+1))` of it), evenly within
//!   each, so that a break after a long healthy time costs about a logarithm of that time and not, as with one early bet, the
//!   losses of all of it.
//!
//! After Waudby-Smith & Ramdas, *Estimating means of bounded random variables by betting* (2023); Howard et
//! al., *Time-uniform, nonparametric, nonasymptotic confidence sequences* (2021); Wald (1945).

/// Evidence is kept below this, so that it stays a number in JSON.
const EVIDENCE_MAX: f64 = 1e300;

/// The least ratio of odds that is bet on: closer to the tolerated rate no run is long enough.
const ODDS_RATIO_MIN: f64 = 1.5;

/// How far apart neighbouring rates are, in ratios of odds. Closer ones lose less to a true rate between them, and split the capital further.
const ODDS_RATIO_STEP: f64 = 2.0;

/// The weight of a rate is its ratio of odds to the power of minus this. By simulation: 0 costs small effects a tenth
/// more samples, and 0.5 great ones.
const WEIGHT_FALL: f64 = 0.3;

/// The greatest alternative rate; a bet on certainty would be lost by one healthy trial.
const RATE_MAX: f64 = 0.98;

/// The share of the capital that is bet from the first trial on. More would make a fault that breaks things at once cheaper
/// to find (all of it: by 0.3 nats of some 7), and later breaks dearer.
const OPENED_FIRST: f64 = 0.75;

/// One bet: a rate, and what it holds.
#[derive(Debug, Clone, Copy)]
struct Bet {
    /// The factor when a trial violates.
    hit: f64,
    /// The factor when it does not.
    miss: f64,
    /// The part of every opening that it gets.
    weight: f64,
    capital: f64,
    /// Since when it has gained, for words: the bet's own cumulative sum (Page 1954).
    stretch: Stretch,
}

/// The trials since a bet last stood at its lowest.
#[derive(Debug, Clone, Copy, Default)]
struct Stretch {
    log_gain: f64,
    samples: u64,
    violations: f64,
}

impl Stretch {
    /// `count` trials of `x` each; several at once only where each of them loses.
    fn take(&mut self, factor: f64, x: f64, count: u64) {
        self.log_gain += factor.ln() * float(count);
        if self.log_gain <= 0.0 {
            *self = Self::default();
            return;
        }
        self.samples += count;
        self.violations += x * float(count);
    }
}

/// The test.
#[derive(Debug, Clone)]
pub struct EProcess {
    tolerated: f64,
    alpha: f64,
    bets: Vec<Bet>,
    samples: u64,
    violations: f64,
    evidence: f64,
}

impl EProcess {
    /// Against "at most `tolerated` of the trials violate", with a chance of at most `alpha` of ever confirming it of a healthy system.
    /// Both are fractions; what is outside 0 to 1 becomes the limit.
    #[must_use]
    pub fn new(tolerated: f64, alpha: f64) -> Self {
        let tolerated = tolerated.clamp(0.0, 1.0);
        Self {
            tolerated,
            alpha: alpha.clamp(f64::MIN_POSITIVE, 1.0),
            bets: bets(tolerated),
            samples: 0,
            violations: 0.0,
            evidence: 1.0,
        }
    }

    /// Takes one trial: 0 where nothing violated, 1 where all of it did, the share where it is a block. What is outside 0 to 1
    /// becomes the limit.
    pub fn take(&mut self, x: f64) {
        let x = x.clamp(0.0, 1.0);
        if x <= 0.0 {
            self.take_healthy(1);
            return;
        }
        self.samples += 1;
        self.violations += x;
        if self.tolerated <= 0.0 {
            // Nothing is tolerated: one violation is proof.
            self.evidence = EVIDENCE_MAX;
            return;
        }
        let most = EVIDENCE_MAX / (count(self.bets.len()) + 1.0);
        let opened = opening(self.samples);
        let mut held = 0.0;
        for bet in &mut self.bets {
            let factor = bet.miss + x * (bet.hit - bet.miss);
            bet.capital = ((bet.capital + opened * bet.weight) * factor).min(most);
            bet.stretch.take(factor, x, 1);
            held += bet.capital;
        }
        self.see(held);
    }

    /// Takes so many trials in a row in which nothing violated. The same as taking them one by one, at the price of a few:
    /// within an octave the openings are equal, and what they come to is a geometric series.
    pub fn take_healthy(&mut self, trials: u64) {
        let mut left = trials;
        while left > 0 {
            let first = self.samples + 1;
            let octave_ends = if first == 1 {
                1
            } else {
                (2 << first.ilog2()) - 1
            };
            let now = left.min(octave_ends - self.samples);
            let opened = opening(first);
            let mut held = 0.0;
            for bet in &mut self.bets {
                let kept = power(bet.miss, now);
                let series = bet.miss * (1.0 - kept) / (1.0 - bet.miss);
                bet.capital = bet.capital * kept + opened * bet.weight * series;
                bet.stretch.take(bet.miss, 0.0, now);
                held += bet.capital;
            }
            self.samples += now;
            left -= now;
            if self.tolerated > 0.0 {
                self.see(held);
            }
        }
    }

    fn see(&mut self, held: f64) {
        if !self.bets.is_empty() {
            self.evidence = held + unopened(self.samples);
        }
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

    /// Trials taken.
    #[must_use]
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// Trials that violated; of blocks the sum of their shares.
    #[must_use]
    pub const fn violations(&self) -> f64 {
        self.violations
    }

    /// The trials that the evidence rests on, and how many of them violate: those since the strongest bet began to gain. A late
    /// burst is evidence even where the share over the whole phase is still within bounds.
    #[must_use]
    pub fn stretch(&self) -> (u64, f64) {
        let strongest = self
            .bets
            .iter()
            .max_by(|a, b| a.stretch.log_gain.total_cmp(&b.stretch.log_gain));
        strongest.map_or((self.samples, self.violations), |bet| {
            (bet.stretch.samples, bet.stretch.violations)
        })
    }
}

/// The Kullback-Leibler divergence of two Bernoulli rates in nats: what one trial is worth.
#[must_use]
pub fn divergence(q: f64, p: f64) -> f64 {
    let part = |q: f64, p: f64| if q > 0.0 { q * (q / p).ln() } else { 0.0 };
    part(q, p) + part(1.0 - q, 1.0 - p)
}

fn bets(tolerated: f64) -> Vec<Bet> {
    if tolerated <= 0.0 || tolerated >= RATE_MAX {
        return Vec::new();
    }
    let odds = |rate: f64| rate / (1.0 - rate);
    let least = ODDS_RATIO_MIN.ln();
    let most = (odds(RATE_MAX) / odds(tolerated)).ln().max(least);
    let steps = ceil((most - least) / ODDS_RATIO_STEP.ln()).max(1);
    let grid: Vec<f64> = (0..=steps)
        .map(|step| (least + (most - least) * float(step) / float(steps)).exp())
        .collect();
    let weight = |ratio: &f64| ratio.powf(-WEIGHT_FALL);
    let weights: f64 = grid.iter().map(weight).sum();
    grid.iter()
        .map(|ratio| {
            let odds = odds(tolerated) * ratio;
            let rate = odds / (1.0 + odds);
            Bet {
                hit: rate / tolerated,
                miss: (1.0 - rate) / (1.0 - tolerated),
                weight: weight(ratio) / weights,
                capital: 0.0,
                stretch: Stretch::default(),
            }
        })
        .collect()
}

/// The share of the capital that is bet from trial `k` (from 1) on; all of them sum to one.
fn opening(k: u64) -> f64 {
    if k <= 1 {
        return OPENED_FIRST;
    }
    let octave = k.ilog2();
    let (b, length) = (f64::from(octave), float(1 << octave));
    (1.0 - OPENED_FIRST) / (b * (b + 1.0) * length)
}

/// The share that is not bet after trial `k`.
fn unopened(k: u64) -> f64 {
    if k <= 1 {
        return 1.0 - OPENED_FIRST;
    }
    let octave = k.ilog2();
    let opened_of_octave = float(k - (1 << octave) + 1);
    // The octaves from the b-th on get 1/b of it.
    (1.0 - OPENED_FIRST) / f64::from(octave) - opened_of_octave * opening(k)
}

fn power(base: f64, exponent: u64) -> f64 {
    i32::try_from(exponent).map_or(0.0, |exponent| base.powi(exponent))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
const fn count(number: usize) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of trials, finite and positive; `as` saturates"
)]
fn ceil(number: f64) -> u64 {
    number.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capital_is_one_and_no_bet_gains_on_a_system_at_the_edge() {
        let mut spent = 0.0;
        for k in 1..=3000 {
            spent += opening(k);
            assert!((spent + unopened(k) - 1.0).abs() < 1e-12, "{k}");
        }
        for tolerated in [0.001, 0.01, 0.1, 0.5, 0.9] {
            for bet in bets(tolerated) {
                let expected = tolerated * bet.hit + (1.0 - tolerated) * bet.miss;
                assert!((expected - 1.0).abs() < 1e-12, "{tolerated}: {expected}");
            }
        }
    }

    #[test]
    fn healthy_trials_in_a_row_are_the_same_as_one_by_one() {
        let mut at_once = EProcess::new(0.01, 0.001);
        let mut singly = at_once.clone();
        for run in [0, 1, 2, 3, 40, 700, 5, 10_000, 1] {
            at_once.take_healthy(run);
            (0..run).for_each(|_| singly.take(0.0));
            for test in [&mut at_once, &mut singly] {
                test.take(1.0);
                test.take(0.3);
            }
            assert_eq!(at_once.samples(), singly.samples());
            assert_eq!(at_once.stretch(), singly.stretch());
            let ratio = at_once.evidence() / singly.evidence();
            assert!((ratio - 1.0).abs() < 1e-9, "{run}: {ratio}");
        }
    }

    #[test]
    fn a_block_counts_for_less_than_its_attempts_and_more_than_none() {
        let evidence = |x| {
            let mut test = EProcess::new(0.1, 0.001);
            (0..10).for_each(|_| test.take(x));
            test.evidence()
        };
        assert!(evidence(0.0) < evidence(0.1) && evidence(0.1) < evidence(0.5));
        assert!(evidence(0.1) <= 1.0, "at the edge nothing is gained");
        assert!(evidence(0.5) < evidence(1.0));
    }

    #[test]
    fn a_burst_is_told_by_its_own_trials() {
        let mut test = EProcess::new(0.01, 0.001);
        test.take_healthy(850);
        let burst = (1..=50).find(|_| {
            test.take(1.0);
            test.confirmed()
        });
        let burst = burst.expect("a burst confirms");
        assert_eq!(test.stretch(), (burst, float(burst)));
        assert!(test.violations() * 100.0 < float(test.samples()) * 2.0);
    }

    #[test]
    fn nothing_tolerated_is_proven_by_one() {
        let mut test = EProcess::new(0.0, 0.001);
        test.take_healthy(1000);
        assert!(!test.confirmed());
        test.take(1.0);
        assert!(test.confirmed());
    }

    #[test]
    fn everything_tolerated_is_never_violated() {
        let mut test = EProcess::new(1.0, 0.001);
        (0..1000).for_each(|_| test.take(1.0));
        assert!(!test.confirmed());
    }

    #[test]
    fn evidence_stays_a_number() {
        let mut test = EProcess::new(0.01, 0.001);
        (0..100_000).for_each(|_| test.take(1.0));
        assert!(test.evidence().is_finite() && test.confirmed());
        test.take_healthy(u64::from(u32::MAX));
        assert!(test.evidence().is_finite());
    }
}
