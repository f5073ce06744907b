//! Fewer points for the eye: a plot is some hundred pixels wide, a run may have thousands of windows.

use super::summary::Point;

/// A stretch of a measured line without gaps, as (time in ms, value).
pub(super) type Stretch = Vec<(f64, f64)>;

/// A window later than this many window lengths after the one before leaves a gap: one may be late, two are missing.
const GAP_WINDOWS: f64 = 2.5;

/// Splits points into stretches at missing data, and gives the gaps as (from, to) in ms.
pub(super) fn stretches(points: &[Point]) -> (Vec<Stretch>, Vec<(f64, f64)>) {
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut gaps: Vec<(f64, f64)> = Vec::new();
    let mut last: Option<&Point> = None;
    let mut broken = true;
    for point in points {
        if let Some(before) = last
            && point.at_ms - before.at_ms > GAP_WINDOWS * point.length_ms.max(before.length_ms)
        {
            gaps.push((before.at_ms, point.at_ms - point.length_ms));
            broken = true;
        }
        last = Some(point);
        let Some(measured) = point.measured else {
            let from = point.at_ms - point.length_ms;
            match gaps.last_mut() {
                Some(gap) if (gap.1 - from).abs() < point.length_ms / 2.0 => gap.1 = point.at_ms,
                _ => gaps.push((from, point.at_ms)),
            }
            broken = true;
            continue;
        };
        if broken {
            stretches.push(Vec::new());
            broken = false;
        }
        if let Some(stretch) = stretches.last_mut() {
            stretch.push((point.at_ms, measured));
        }
    }
    (stretches, gaps)
}

/// Keeps, of each of `columns` slices of time, the first, the least, the greatest and the last value: the line drawn
/// through them covers the same pixels as the line through all.
pub(super) fn thin(stretch: &[(f64, f64)], from: f64, to: f64, columns: u32) -> Stretch {
    const KEPT_PER_COLUMN: usize = 4;
    if stretch.len() <= columns as usize * KEPT_PER_COLUMN || to <= from {
        return stretch.to_vec();
    }
    let width = (to - from) / f64::from(columns);
    let column = |at: f64| ((at - from) / width).floor();
    let mut kept = Stretch::new();
    for slice in stretch.chunk_by(|a, b| column(a.0) == column(b.0)) {
        let extreme = |pick: fn(f64, f64) -> bool| {
            (1..slice.len()).fold(0, |best, i| {
                if pick(slice[i].1, slice[best].1) {
                    i
                } else {
                    best
                }
            })
        };
        let mut indices = [
            0,
            extreme(|a, b| a < b),
            extreme(|a, b| a > b),
            slice.len() - 1,
        ];
        indices.sort_unstable();
        let mut before = None;
        for index in indices {
            if before != Some(index) {
                kept.push(slice[index]);
                before = Some(index);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at_ms: f64, measured: Option<f64>) -> Point {
        Point {
            at_ms,
            length_ms: 1000.0,
            measured,
            bound: None,
            satisfied: true,
            evidence: 1.0,
            stop_at: None,
        }
    }

    #[test]
    fn missing_data_is_a_gap_and_never_a_line() {
        let points = [
            point(1000.0, Some(1.0)),
            point(2000.0, None),
            point(3000.0, None),
            point(4000.0, Some(2.0)),
            point(9000.0, Some(3.0)),
        ];
        let (stretches, gaps) = stretches(&points);
        assert_eq!(
            stretches,
            [
                vec![(1000.0, 1.0)],
                vec![(4000.0, 2.0)],
                vec![(9000.0, 3.0)]
            ]
        );
        assert_eq!(gaps, [(1000.0, 3000.0), (4000.0, 8000.0)]);
    }

    #[test]
    fn thinning_keeps_every_spike() {
        let mut all: Stretch = (0..10_000).map(|i| (f64::from(i), 1.0)).collect();
        all[5_432].1 = 99.0;
        all[7_777].1 = -99.0;
        let kept = thin(&all, 0.0, 10_000.0, 300);
        assert!(kept.len() <= 1_200, "{}", kept.len());
        assert!(kept.contains(&(5_432.0, 99.0)) && kept.contains(&(7_777.0, -99.0)));
        assert_eq!((kept.first(), kept.last()), (all.first(), all.last()));
    }
}
