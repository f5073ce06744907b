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
        let (least, most) = self.ratio(0.5);
        [("at least", least), ("at most", most)]
            .map(|(bound, ratio)| Row::alone(format!("{what}, {bound} (95 %)"), "", ratio))
    }

    /// Bounds of the ratio of a quantile.
    fn ratio(&self, share: f64) -> (f64, f64) {
        let mut random = StdRng::seed_from_u64(SEED);
        let mut drawn = |from: &[f64]| -> Vec<f64> {
            let one = |_| from[random.random_range(0..from.len())];
            (0..from.len()).map(one).collect()
        };
        let ratio = |_| quantile(&drawn(self.ours), share) / quantile(&drawn(self.other), share);
        let ratios: Vec<f64> = (0..DRAWS).map(ratio).collect();
        (quantile(&ratios, BOUNDS.0), quantile(&ratios, BOUNDS.1))
    }
}
