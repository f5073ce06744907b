//! Whether one set of figures is larger than another, and how sure that is.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::table::{Row, quantile};

/// So often both sets are drawn anew from themselves (the bootstrap).
const DRAWS: usize = 2000;
/// Which draws: the same figures give the same bounds.
const SEED: u64 = 1;
/// Between these shares of the draws lies the ratio, 95 times in a hundred.
const BOUNDS: (f64, f64) = (0.025, 0.975);

/// One set of figures beside another.
pub(crate) struct Compared<'a> {
    ours: &'a [f64],
    other: &'a [f64],
}

impl<'a> Compared<'a> {
    pub(crate) const fn new(ours: &'a [f64], other: &'a [f64]) -> Self {
        Self { ours, other }
    }

    /// Of milliseconds: how many there are of each, their quantiles, and how far the ratio of these may be from the truth.
    #[allow(clippy::cast_precision_loss, reason = "hundreds")]
    pub(crate) fn rows(&self, what: &str, name: &str) -> Vec<Row> {
        if self.ours.is_empty() || self.other.is_empty() {
            return Vec::new();
        }
        let mut rows = vec![
            Row::alone(format!("{what}: how many"), "", self.ours.len() as f64)
                .beside(name, self.other.len() as f64),
        ];
        for (of, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("worst", 1.0)] {
            let row = Row::alone(format!("{what}: {of}"), "ms", quantile(self.ours, share));
            rows.push(row.beside(name, quantile(self.other, share)));
        }
        rows.extend(self.bounds(&format!("{what}: ratio of p50")));
        rows
    }

    /// How far the ratio of the medians may be from the truth.
    pub(crate) fn bounds(&self, what: &str) -> [Row; 2] {
        bounds(what, self.ratio(0.5))
    }

    /// Bounds of the ratio of a quantile.
    fn ratio(&self, share: f64) -> (f64, f64) {
        let mut random = StdRng::seed_from_u64(SEED);
        let mut drawn = |from| quantile(&drawn_anew(from, &mut random), share);
        let ratios: Vec<f64> = (0..DRAWS)
            .map(|_| drawn(self.ours) / drawn(self.other))
            .collect();
        between(&ratios)
    }
}

/// Ratios of figures that were taken together.
pub(crate) struct Pairs(Vec<f64>);

impl Pairs {
    pub(crate) const fn new(ratios: Vec<f64>) -> Self {
        Self(ratios)
    }

    /// Their median.
    pub(crate) fn middle(&self) -> f64 {
        quantile(&self.0, 0.5)
    }

    /// Their median, and how far it may be from the truth.
    pub(crate) fn rows(&self, what: &str) -> [Row; 3] {
        let mut random = StdRng::seed_from_u64(SEED);
        let drawn = |_| quantile(&drawn_anew(&self.0, &mut random), 0.5);
        let [least, most] = bounds(what, between(&(0..DRAWS).map(drawn).collect::<Vec<_>>()));
        [Row::alone(what, "times", self.middle()), least, most]
    }
}

fn drawn_anew(from: &[f64], random: &mut StdRng) -> Vec<f64> {
    let one = |_| from[random.random_range(0..from.len())];
    (0..from.len()).map(one).collect()
}

fn between(draws: &[f64]) -> (f64, f64) {
    (quantile(draws, BOUNDS.0), quantile(draws, BOUNDS.1))
}

fn bounds(what: &str, (least, most): (f64, f64)) -> [Row; 2] {
    [("at least", least), ("at most", most)]
        .map(|(bound, ratio)| Row::alone(format!("{what}, {bound} (95 %)"), "", ratio))
}
