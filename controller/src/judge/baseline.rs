//! Whether a baseline is fit to start from: long enough, quiet enough, and not on its way somewhere.
//!
//! It is judged by its windows, not by its attempts: what makes several attempts of one second slow together is one disturbance and
//! not evidence of a trend. A healthy but noisy machine must not be turned away by chance, so that a baseline is only unfit when what
//! was seen is both sure and large enough to matter for the expectation at hand.
//!
//! - **Drift**: the windows of the second half rank above or below those of the first (Mann-Whitney, two-sided, one in a
//!   thousand by chance), *and* the one half alone would violate the expectation if the other were the baseline. It takes eight
//!   windows in each half before so small a chance can be told; a shorter baseline is not judged for drift.
//! - **Noise**: of the windows of a gauge [`NOISY_SHARE`] or more are outside what is allowed around their own mean.
//! - **Too short**: a latency quantile, as far as it is known from so many attempts (95 %, by order statistics), may really be worse than
//!   what is allowed against it.

use super::check::Ready;

/// The normal quantile of half of one in a thousand: so seldom is a steady baseline called drifting, for each expectation.
const DRIFT_DEVIATIONS: f64 = 3.29;

/// Fewer windows in each half cannot differ so much.
const HALF_WINDOWS_MIN: usize = 8;

/// Where one healthy window in five violates, three in a row come within a minute about every third time.
const NOISY_SHARE: f64 = 0.2;

/// One window outside may be a hiccup.
const NOISY_WINDOWS_MIN: usize = 2;

/// 95 % of a normal distribution.
const DEVIATIONS_95: f64 = 1.96;

/// What one window said of one expectation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) measured: Option<f64>,
    pub(super) trials: u64,
    pub(super) violating: u64,
}

/// The windows of a phase, one after another.
#[derive(Debug, Clone, Default)]
pub(super) struct Course(Vec<Point>);

/// What is wrong with a baseline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Unfit {
    /// The halves differ: what each measured.
    Drifts(f64, f64),
    /// So many windows of so many are outside.
    Noisy(usize, usize),
}

impl Course {
    pub(super) fn take(&mut self, point: Point) {
        self.0.push(point);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether the share of violating trials drifts, where at most `tolerated` may violate.
    pub(super) fn share(&self, tolerated: f64) -> Option<Unfit> {
        let shares: Vec<f64> = self.0.iter().map(|p| share(&[*p])).collect();
        let (early, late) = self.0.split_at(self.0.len() / 2);
        let (early, late) = (share(early), share(late));
        (differ(&shares) && early.max(late) > tolerated).then_some(Unfit::Drifts(early, late))
    }

    /// Whether a measure that is held against its own baseline drifts, or is noisier than what is allowed. `windows`: it is
    /// judged window by window.
    pub(super) fn measure(
        &self,
        ready: &Ready,
        baseline: Option<f64>,
        windows: bool,
    ) -> Option<Unfit> {
        let values: Vec<f64> = self.0.iter().filter_map(|p| p.measured).collect();
        let (early, late) = values.split_at(values.len() / 2);
        let (early, late) = (median(early), median(late));
        let apart = !ready.number(early, Some(late)) || !ready.number(late, Some(early));
        if differ(&values) && apart {
            return Some(Unfit::Drifts(early, late));
        }
        let outside = values.iter().filter(|v| !ready.number(**v, baseline));
        let (outside, all) = (outside.count(), values.len());
        let noisy = outside >= NOISY_WINDOWS_MIN && float(outside) >= NOISY_SHARE * float(all);
        (windows && noisy).then_some(Unfit::Noisy(outside, all))
    }
}

/// Between which quantiles the true one lies, about, when `fraction` is estimated from so many attempts; none above where there
/// are too few attempts to tell.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(super) fn known_between(fraction: f64, attempts: u64) -> (f64, Option<f64>) {
    let away = DEVIATIONS_95 * (fraction * (1.0 - fraction) / attempts.max(1) as f64).sqrt();
    let above = fraction + away;
    ((fraction - away).max(0.0), (above < 1.0).then_some(above))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn share(points: &[Point]) -> f64 {
    let trials: u64 = points.iter().map(|p| p.trials).sum();
    let violating: u64 = points.iter().map(|p| p.violating).sum();
    violating as f64 / trials.max(1) as f64
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Whether the second half ranks above or below the first, more than chance has it: Mann & Whitney (1947), with the
/// normal approximation, corrected for ties and for being discrete.
pub(super) fn differ(values: &[f64]) -> bool {
    let (early, late) = values.split_at(values.len() / 2);
    if early.len() < HALF_WINDOWS_MIN {
        return false;
    }
    let (m, n) = (float(early.len()), float(late.len()));
    let mut sorted: Vec<(f64, bool)> = early.iter().map(|v| (*v, false)).collect();
    sorted.extend(late.iter().map(|v| (*v, true)));
    sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut before, mut rank_sum, mut ties) = (0.0, 0.0, 0.0);
    for same in sorted.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let count = float(same.len());
        let late = float(same.iter().filter(|(_, late)| *late).count());
        rank_sum += late * (before + f64::midpoint(count, 1.0));
        before += count;
        ties += count.powi(3) - count;
    }
    let all = m + n;
    let above_mean = rank_sum - n * (all + 1.0) / 2.0;
    let variance = m * n / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    variance > 0.0 && (above_mean.abs() - 0.5) / variance.sqrt() >= DRIFT_DEVIATIONS
}

#[expect(clippy::cast_precision_loss, reason = "a number of windows")]
const fn float(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;
    use rand::{RngExt, SeedableRng};

    /// What [`DRIFT_DEVIATIONS`] stands for.
    const DRIFT_CHANCE: f64 = 0.001;

    /// Whatever the windows of a steady baseline look like, smooth, rare or bursty: every order of them is as likely.
    #[test]
    fn a_steady_baseline_is_seldom_called_drifting() {
        const RUNS: u32 = 20_000;
        let smooth: Vec<f64> = (0..20).map(f64::from).collect();
        let rare: Vec<f64> = (0..20).map(|n| f64::from(u8::from(n < 6))).collect();
        let tailed: Vec<f64> = (0..40).map(|n| 1.0 / f64::from(1 + n / 3)).collect();
        for mut values in [smooth, rare, tailed] {
            let mut rng = StdRng::seed_from_u64(3);
            let called = (0..RUNS).filter(|_| {
                values.shuffle(&mut rng);
                differ(&values)
            });
            let called = f64::from(u32::try_from(called.count()).unwrap());
            let allowed = f64::from(RUNS) * DRIFT_CHANCE;
            assert!(
                called <= allowed + 3.0 * allowed.sqrt(),
                "{called} of {RUNS}: {values:?}"
            );
        }
    }

    #[test]
    fn a_drift_is_told_and_a_step_of_noise_is_not() {
        let mut rng = StdRng::seed_from_u64(4);
        let mut noisy = |from: f64, to: f64| -> Vec<f64> {
            (0..20)
                .map(|n| from + (to - from) * f64::from(n) / 20.0 + rng.random_range(-1.0..1.0))
                .collect()
        };
        assert!(differ(&noisy(10.0, 20.0)) && differ(&noisy(20.0, 10.0)));
        assert!(!differ(&noisy(10.0, 10.0)));
        assert!(!differ(&[1.0, 9.0, 2.0, 8.0, 1.0, 9.0]), "too few to tell");
        assert!(!differ(&[5.0; 40]), "all the same");
    }

    #[test]
    fn a_quantile_is_known_the_better_the_more_is_seen() {
        let (low, high) = known_between(0.95, 1000);
        assert!(low > 0.93 && high.is_some_and(|high| high < 0.97));
        assert_eq!(known_between(0.99, 100).1, None);
    }
}
