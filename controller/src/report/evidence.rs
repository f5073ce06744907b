//! The evidence against one expectation, below its plot: on a logarithmic axis, with the line at which the run stops.

use super::summary::Point;
use super::thin::thin;
use std::fmt::Write as _;

/// The strip between its first and last place, in units of the picture.
const TOP: f64 = 16.0;
const BOTTOM: f64 = 76.0;

/// Evidence below this is none worth telling apart.
const LEAST: f64 = 1e-2;

/// What is above the stop line by more than this factor is drawn at the top.
const ABOVE_STOP: f64 = 10.0;

/// The strip's geometry.
pub(super) struct Evidence {
    pub(super) line: String,
    pub(super) none_y: String,
    pub(super) stop_y: String,
    pub(super) stop: String,
    /// In words, for who cannot see it.
    pub(super) describe: String,
}

impl Evidence {
    /// None where the expectation is not judged by e-values. `x` places a moment, of a run that lasts until `end_ms`.
    pub(super) fn of(
        points: &[Point],
        x: impl Fn(f64) -> f64,
        (end_ms, columns): (f64, u32),
    ) -> Option<Self> {
        let stop = points.iter().rev().find_map(|point| point.stop_at)?;
        let (least, most) = (LEAST.ln(), (stop * ABOVE_STOP).ln());
        let y = |evidence: f64| {
            let place = (evidence.max(LEAST).ln() - least) / (most - least);
            BOTTOM - place.clamp(0.0, 1.0) * (BOTTOM - TOP)
        };
        let known = points.iter().filter(|point| point.stop_at.is_some());
        let known: Vec<(f64, f64)> = known.map(|point| (point.at_ms, point.evidence)).collect();
        let greatest = known
            .iter()
            .map(|(_, evidence)| *evidence)
            .fold(0.0, f64::max);
        let mut line = String::new();
        for (index, (ms, evidence)) in thin(&known, 0.0, end_ms, columns).iter().enumerate() {
            let letter = if index == 0 { 'M' } else { 'L' };
            // Writing to a String cannot fail.
            let _ = write!(line, "{letter}{:.1} {:.1}", x(*ms), y(*evidence));
        }
        Some(Self {
            line,
            none_y: format!("{:.1}", y(1.0)),
            stop_y: format!("{:.1}", y(stop)),
            stop: format!("{stop:.0}"),
            describe: format!(
                "Evidence against it: {greatest:.3} at most, where 1 is none and {stop:.0} stops the run."
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at_ms: f64, evidence: f64, stop_at: Option<f64>) -> Point {
        Point {
            at_ms,
            length_ms: 1000.0,
            measured: Some(1.0),
            bound: None,
            satisfied: true,
            evidence,
            stop_at,
        }
    }

    #[test]
    fn what_reaches_the_line_is_drawn_at_it_or_above() {
        let points = [
            point(1000.0, 1.0, Some(2000.0)),
            point(2000.0, 2000.0, Some(2000.0)),
            point(3000.0, 1e300, Some(2000.0)),
        ];
        let drawn = Evidence::of(&points, |ms| ms / 100.0, (3000.0, 100)).unwrap();
        let (none, stop) = (&drawn.none_y, &drawn.stop_y);
        assert_eq!(
            drawn.line,
            format!("M10.0 {none}L20.0 {stop}L30.0 {TOP:.1}")
        );
        assert_eq!(drawn.stop, "2000");
        // 0.01 to 20,000 are fourteen and a half logarithms: none lies a third of the way up, the stop line a sixth below the top.
        assert_eq!((none.as_str(), stop.as_str()), ("57.0", "25.5"));
    }

    #[test]
    fn a_gauge_has_none() {
        let points = [point(1000.0, 3.0, None)];
        assert!(Evidence::of(&points, |ms| ms, (1000.0, 10)).is_none());
    }
}
