//! An anytime-valid test of one rate: is more than the tolerated share of trials violating?
//!
//! It bets against "at most `tolerated` of the trials violate". For an alternative rate `q` above the tolerated `p` a trial multiplies a
//! bet by `q/p` when it violates and by `(1-q)/(1-p)` when not; whatever the true rate at or below `p`, the expected factor is at most
//! one. A mixture of such bets over rates, and over the trial at which each is opened, is a non-negative
//! supermartingale that starts at one, so that the chance of it *ever* reaching `1/alpha` on a healthy
//! system is at most `alpha` (Ville 1939), however often it is looked at. That assumes that trials are independent given the rate; bursts
//! of violations from one cause are evidence sooner than independent ones would be.
//!
//! - Rates: [`RATES`] alternatives, evenly spaced in log odds from 1.5 times the tolerated odds to 98 %.
//! - Openings: half of the capital is bet from the first trial on, where a fault that breaks things at once is
//!   caught; trial `k` of the others opens `1/(2k(k-1))`, so that a break after a long healthy time costs
//!   a logarithm of that time and not, as with one early bet, the losses of all of it.
//!
//! After Waudby-Smith & Ramdas, *Estimating means of bounded random variables by betting* (2023); Howard et
//! al., *Time-uniform, nonparametric, nonasymptotic confidence sequences* (2021); Wald (1945).

/// How many alternative rates are bet on. More are closer to the true one, and cost a little of the capital each.
pub const RATES: usize = 12;

/// Evidence is kept below this, so that it stays a number in JSON.
const EVIDENCE_MAX: f64 = 1e300;

/// The least ratio of odds that is bet on: closer to the tolerated rate no run is long enough.
const ODDS_RATIO_MIN: f64 = 1.5;

/// The greatest alternative rate; a bet on certainty would be lost by one healthy trial.
const RATE_MAX: f64 = 0.98;

/// The rate of violations that a phase must be long enough to catch, before its silence is taken for health: so many
/// times the tolerated one, and at least a quarter.
const TIMES_TO_SEE: f64 = 10.0;
const RATE_TO_SEE: f64 = 0.25;

/// One bet: a rate, and what it holds.
#[derive(Debug, Clone, Copy)]
struct Bet {
    /// The factor when a trial violates.
    hit: f64,
    /// The factor when it does not.
    miss: f64,
    capital: f64,
    /// Since when it has gained, for words: the bet's own cumulative sum (Page 1954).
    stretch: Stretch,
}

/// The trials since a bet last stood at its lowest.
#[derive(Debug, Clone, Copy, Default)]
struct Stretch {
    log_gain: f64,
    samples: u64,
    violations: u64,
}

impl Stretch {
    fn take(&mut self, factor: f64, violates: bool) {
        self.log_gain += factor.ln();
        if self.log_gain <= 0.0 {
            *self = Self::default();
            return;
        }
        self.samples += 1;
        self.violations += u64::from(violates);
    }
}

/// The test.
#[derive(Debug, Clone)]
pub struct EProcess {
    tolerated: f64,
    alpha: f64,
    bets: Vec<Bet>,
    samples: u64,
    violations: u64,
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
            violations: 0,
            evidence: 1.0,
        }
    }

    /// Takes one trial.
    pub fn take(&mut self, violates: bool) {
        self.samples += 1;
        self.violations += u64::from(violates);
        if self.tolerated <= 0.0 {
            // Nothing is tolerated: one violation is proof.
            if violates {
                self.evidence = EVIDENCE_MAX;
            }
            return;
        }
        if self.bets.is_empty() {
            return;
        }
        let opened = opening(self.samples) / count(self.bets.len());
        let mut held = 0.0;
        for bet in &mut self.bets {
            let factor = if violates { bet.hit } else { bet.miss };
            bet.capital = ((bet.capital + opened) * factor).min(EVIDENCE_MAX / count(RATES + 1));
            bet.stretch.take(factor, violates);
            held += bet.capital;
        }
        self.evidence = held + unopened(self.samples);
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

    /// Trials that violated.
    #[must_use]
    pub const fn violations(&self) -> u64 {
        self.violations
    }

    /// The trials that the evidence rests on, and how many of them violate: those since the strongest bet began to gain. A late
    /// burst is evidence even where the share over the whole phase is still within bounds.
    #[must_use]
    pub fn stretch(&self) -> (u64, u64) {
        let strongest = self
            .bets
            .iter()
            .max_by(|a, b| a.stretch.log_gain.total_cmp(&b.stretch.log_gain));
        strongest.map_or((self.samples, self.violations), |bet| {
            (bet.stretch.samples, bet.stretch.violations)
        })
    }

    /// After how many trials a clear break would have been confirmed, about: Wald's bound, plus what the mixture costs.
    /// Fewer trials without a stop say nothing. Clear is ten times the tolerated rate, at least a quarter of all
    /// trials, and at most halfway from the tolerated rate to all.
    #[must_use]
    pub fn samples_needed(&self) -> u64 {
        if self.tolerated >= RATE_MAX {
            return 1;
        }
        let halfway = f64::midpoint(self.tolerated, 1.0).min(RATE_MAX);
        let seen = (self.tolerated * TIMES_TO_SEE)
            .max(RATE_TO_SEE)
            .min(halfway);
        if self.tolerated <= 0.0 {
            // The chance of a quarter never showing in so many is alpha.
            return ceil((self.alpha.ln() / (1.0 - seen).ln()).max(1.0));
        }
        let wanted = (2.0 * count(RATES) / self.alpha).ln();
        ceil(wanted / divergence(seen, self.tolerated))
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
    (0..RATES)
        .map(|index| {
            let ratio = (least + (most - least) * count(index) / count(RATES - 1)).exp();
            let odds = odds(tolerated) * ratio;
            let rate = odds / (1.0 + odds);
            Bet {
                hit: rate / tolerated,
                miss: (1.0 - rate) / (1.0 - tolerated),
                capital: 0.0,
                stretch: Stretch::default(),
            }
        })
        .collect()
}

/// The share of the capital that is bet from trial `k` (from 1) on; all of them sum to one.
fn opening(k: u64) -> f64 {
    let k = float(k);
    if k <= 1.0 { 0.5 } else { 0.5 / (k * (k - 1.0)) }
}

/// The share that is not bet after trial `k`.
fn unopened(k: u64) -> f64 {
    0.5 / float(k.max(1))
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
        let spent: f64 = (1..=1000).map(opening).sum();
        assert!((spent + unopened(1000) - 1.0).abs() < 1e-12);
        for tolerated in [0.001, 0.01, 0.1, 0.5, 0.9] {
            for bet in bets(tolerated) {
                let expected = tolerated * bet.hit + (1.0 - tolerated) * bet.miss;
                assert!((expected - 1.0).abs() < 1e-12, "{tolerated}: {expected}");
            }
        }
    }

    #[test]
    fn a_burst_is_told_by_its_own_trials() {
        let mut test = EProcess::new(0.01, 0.001);
        (0..850).for_each(|_| test.take(false));
        let burst = (1..=50).find(|_| {
            test.take(true);
            test.confirmed()
        });
        let burst = burst.expect("a burst confirms");
        assert_eq!(test.stretch(), (burst, burst));
        assert!(test.violations() * 100 < test.samples() * 2);
    }

    #[test]
    fn nothing_tolerated_is_proven_by_one() {
        let mut test = EProcess::new(0.0, 0.001);
        (0..1000).for_each(|_| test.take(false));
        assert!(!test.confirmed());
        test.take(true);
        assert!(test.confirmed());
    }

    #[test]
    fn everything_tolerated_is_never_violated() {
        let mut test = EProcess::new(1.0, 0.001);
        (0..1000).for_each(|_| test.take(true));
        assert!(!test.confirmed());
    }

    #[test]
    fn evidence_stays_a_number() {
        let mut test = EProcess::new(0.01, 0.001);
        (0..100_000).for_each(|_| test.take(true));
        assert!(test.evidence().is_finite() && test.confirmed());
    }

    #[test]
    fn a_clear_break_is_confirmed_within_about_the_samples_needed() {
        for (tolerated, violating_of_100) in
            [(0.001, 25), (0.01, 25), (0.05, 50), (0.1, 55), (0.5, 75)]
        {
            let mut test = EProcess::new(tolerated, 0.0005);
            let needed = test.samples_needed();
            let mut taken = 0;
            while !test.confirmed() {
                taken += 1;
                // Spread evenly.
                test.take((taken * violating_of_100) % 100 < violating_of_100);
                assert!(taken <= 2 * needed, "{tolerated}: {taken} of {needed}");
            }
            assert!(needed < 100, "{tolerated}: {needed}");
        }
    }
}
