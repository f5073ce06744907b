//! Axes with round numbers.

use super::summary::Unit;
use super::words::{span_ms, value_in_words};

/// A value axis: what is at its ends, where its ticks are, and whether it is logarithmic.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) ticks: Vec<(f64, String)>,
    pub(super) logarithmic: bool,
}

/// Past this ratio of the greatest value to the bound, a straight axis would press the bound into the floor.
const LOGARITHMIC_FROM_RATIO: f64 = 25.0;

impl Axis {
    /// An axis on which all `values` and all `bounds` can be seen.
    pub(super) fn of(values: &[f64], bounds: &[f64], unit: Unit) -> Self {
        let all = || values.iter().chain(bounds).copied();
        let most = all().max_by(f64::total_cmp).unwrap_or(1.0);
        let least = all().min_by(f64::total_cmp).unwrap_or(0.0);
        let bound = bounds.iter().copied().max_by(f64::total_cmp);
        match unit {
            Unit::Fraction => Self::fraction(least),
            Unit::Microseconds
                if bound.is_some_and(|b| b > 0.0 && most / b > LOGARITHMIC_FROM_RATIO) =>
            {
                Self::decades(least.max(1.0), most, unit)
            }
            Unit::Microseconds | Unit::PerSecond => Self::linear(0.0, most * 1.08, unit),
            Unit::Number => {
                // A gauge that hardly moves keeps a little air around it.
                let air = ((most - least) * 0.1).max(most.abs() * 0.02).max(1e-9);
                let low = if least >= 0.0 && least < most * 0.5 {
                    0.0
                } else {
                    least - air
                };
                Self::linear(low, most + air, unit)
            }
        }
    }

    /// Shares end at all of it, and begin at a round number below the least.
    fn fraction(least: f64) -> Self {
        const FLOORS: [f64; 7] = [0.98, 0.95, 0.9, 0.8, 0.6, 0.4, 0.0];
        let low = FLOORS
            .iter()
            .find(|f| **f <= least - 0.002)
            .copied()
            .unwrap_or(0.0);
        let step = step(1.0 - low, 4.0);
        Self::with_ticks(low, 1.0, step, Unit::Fraction)
    }

    fn linear(low: f64, high: f64, unit: Unit) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        let step = step(high - low, 4.0);
        let low = (low / step).floor() * step;
        let high = (high / step).ceil() * step;
        Self::with_ticks(low, high, step, unit)
    }

    fn with_ticks(low: f64, high: f64, step: f64, unit: Unit) -> Self {
        let count = ((high - low) / step).round().clamp(1.0, 12.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 1..=12"
        )]
        let count = count as u32;
        let ticks = (0..=count).map(|i| {
            let value = low + f64::from(i) * step;
            (value, value_in_words(value, unit))
        });
        Self {
            low,
            high,
            ticks: ticks.collect(),
            logarithmic: false,
        }
    }

    fn decades(least: f64, most: f64, unit: Unit) -> Self {
        let (first, last) = (least.log10().floor(), most.log10().ceil());
        let mut ticks = Vec::new();
        let mut exponent = first;
        // At most 12 decades: from 1 µs to beyond the longest timeout.
        while exponent <= last && ticks.len() < 12 {
            let value = 10f64.powf(exponent);
            ticks.push((value, value_in_words(value, unit)));
            exponent += 1.0;
        }
        Self {
            low: 10f64.powf(first),
            high: 10f64.powf(last.max(first + 1.0)),
            ticks,
            logarithmic: true,
        }
    }

    /// Where a value lies, from 0 (low) to 1 (high).
    pub(super) fn place(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }
}

/// 1, 2 or 5 times a power of ten, so that about `wanted` of them fit.
fn step(span: f64, wanted: f64) -> f64 {
    let raw = (span / wanted).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(raw.log10().floor());
    let digit = raw / power;
    let rounded = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|d| digit <= *d)
        .unwrap_or(10.0);
    rounded * power
}

/// Ticks of the time axis in ms: steps people count in, six to twelve of them.
pub(super) fn time_ticks(end_ms: f64) -> Vec<(f64, String)> {
    const STEPS_S: [f64; 15] = [
        0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
    ];
    const TICKS_MOST: f64 = 12.0;
    let step_ms = STEPS_S
        .iter()
        .map(|s| s * 1000.0)
        .find(|s| end_ms / s <= TICKS_MOST)
        .unwrap_or(end_ms / TICKS_MOST);
    let mut ticks = Vec::new();
    let mut at = 0.0;
    while at <= end_ms && ticks.len() <= 12 {
        let label = if at == 0.0 {
            "0".to_owned()
        } else {
            span_ms(at)
        };
        ticks.push((at, label));
        at += step_ms;
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let axis = Axis::of(&[12_000.0, 730_000.0], &[400_000.0], Unit::Microseconds);
        let labels: Vec<&str> = axis.ticks.iter().map(|t| t.1.as_str()).collect();
        assert_eq!(labels, ["0 µs", "200 ms", "400 ms", "600 ms", "800 ms"]);
        let axis = Axis::of(&[1.0, 0.93], &[0.99], Unit::Fraction);
        assert_eq!((axis.low, axis.high), (0.9, 1.0));
    }

    #[test]
    fn a_far_outlier_leaves_the_bound_visible() {
        let axis = Axis::of(&[1_000.0, 5_000_000.0], &[50_000.0], Unit::Microseconds);
        assert!(axis.logarithmic && axis.place(50_000.0) > 0.3);
    }

    #[test]
    fn nothing_measured_is_an_axis_all_the_same() {
        for unit in [
            Unit::Fraction,
            Unit::Microseconds,
            Unit::PerSecond,
            Unit::Number,
        ] {
            for values in [&[][..], &[0.0], &[-5.0, -5.0]] {
                let axis = Axis::of(values, &[], unit);
                assert!(
                    axis.high > axis.low && !axis.ticks.is_empty(),
                    "{unit:?} {values:?}"
                );
                assert!((0.0..=1.0).contains(&axis.place(0.0)));
            }
        }
    }
}
