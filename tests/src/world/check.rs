//! Verdicts on measurements: each says what is wrong, and none is content with a system left untouched.

use std::time::Duration;

use super::volley::{Volley, quantile};

/// A measurement's verdict; the error is a sentence with the figures.
pub type Verdict = Result<(), String>;

/// How exact a delay has to be: this much, and this share of what was asked.
#[derive(Clone, Copy, Debug)]
pub struct Exactness {
    /// Milliseconds.
    pub ms: f64,
    /// A share from 0 to 1.
    pub share: f64,
}

/// Held by netem.
pub const DETOUR: Exactness = Exactness {
    ms: 1.0,
    share: 0.01,
};

/// Held in user space.
pub const QUEUE: Exactness = Exactness {
    ms: 2.0,
    share: 0.02,
};

/// The median round trip grew by `asked`, within `exactness`, against `untouched`.
///
/// # Errors
/// With both medians when it did not.
pub fn delayed(
    untouched: &Volley,
    volley: &Volley,
    asked: Duration,
    exactness: Exactness,
) -> Verdict {
    let ms = |volley: &Volley| quantile(&volley.times(), 0.5).as_secs_f64() * 1e3;
    let (before, now, asked) = (ms(untouched), ms(volley), asked.as_secs_f64() * 1e3);
    let tolerance = exactness.ms + exactness.share * asked;
    let off = now - before - asked;
    if volley.times().is_empty() || off.abs() > tolerance {
        return Err(format!(
            "asked for {asked} ms more, got {:.2} ms (from {before:.2} to {now:.2} ms): off by {off:.2}, allowed {tolerance:.2}",
            now - before
        ));
    }
    Ok(())
}

/// `measured` is within `tolerance` of `asked`, all shares from 0 to 1.
///
/// # Errors
/// With all three when it is not.
pub fn share(what: &str, measured: f64, asked: f64, tolerance: f64) -> Verdict {
    let off = (measured - asked).abs();
    if off <= tolerance {
        return Ok(());
    }
    let percent = |share: f64| share * 100.0;
    Err(format!(
        "{what}: asked for {:.2} %, measured {:.2} %, allowed to be off by {:.2}",
        percent(asked),
        percent(measured),
        percent(tolerance)
    ))
}

/// Delays spread from `lowest` to `highest` above the untouched median, and fill that span: the tenth
/// and the ninetieth percentile lie where those of `distribution` would.
///
/// # Errors
/// With the percentiles when they do not.
pub fn spread(
    untouched: &Volley,
    volley: &Volley,
    tenth_ms: f64,
    ninetieth_ms: f64,
    tolerance_ms: f64,
) -> Verdict {
    let base = quantile(&untouched.times(), 0.5);
    let times = volley.times();
    let at = |share: f64| quantile(&times, share).saturating_sub(base).as_secs_f64() * 1e3;
    for (share, asked) in [(0.1, tenth_ms), (0.9, ninetieth_ms)] {
        if (at(share) - asked).abs() > tolerance_ms {
            return Err(format!(
                "{:.0} % of the delays should be below {asked} ms (± {tolerance_ms}), but that percentile is {:.2} ms",
                share * 100.0,
                at(share)
            ));
        }
    }
    Ok(())
}

/// Nothing happened to this traffic: all of it came back, once, and no later than without a fault.
///
/// # Errors
/// With what happened to it.
pub fn untouched(before: &Volley, now: &Volley, slack: Duration) -> Verdict {
    let (lost, twice) = (now.loss(), now.duplicates());
    let (base, median) = (quantile(&before.times(), 0.5), quantile(&now.times(), 0.5));
    if lost > 0.0 || twice > 0.0 || now.damaged > 0 || median > base + slack {
        return Err(format!(
            "traffic that no fault names was touched: {:.2} % lost, {:.2} % twice, {} damaged, median {median:?} instead of {base:?}",
            lost * 100.0,
            twice * 100.0,
            now.damaged
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::volley::Shot;
    use super::*;
    use std::time::Instant;

    fn volley(ms: impl IntoIterator<Item = Option<f64>>) -> Volley {
        let shots = ms.into_iter().map(|ms| Shot {
            sent: Instant::now(),
            answers: ms
                .iter()
                .map(|ms| Duration::from_secs_f64(ms / 1e3))
                .collect(),
            refused: false,
        });
        let shots: Vec<Shot> = shots.collect();
        let order = (0u32..)
            .zip(&shots)
            .filter(|(_, s)| !s.answers.is_empty())
            .map(|(n, _)| n)
            .collect();
        Volley {
            shots,
            order,
            damaged: 0,
        }
    }

    fn steady(ms: f64) -> Volley {
        volley([Some(ms); 100])
    }

    #[test]
    fn no_fault_is_no_delay() {
        assert!(delayed(&steady(0.3), &steady(0.3), Duration::from_millis(10), QUEUE).is_err());
        assert!(
            delayed(
                &steady(0.3),
                &steady(10.9),
                Duration::from_millis(10),
                DETOUR
            )
            .is_ok()
        );
        assert!(
            delayed(
                &steady(0.3),
                &steady(12.0),
                Duration::from_millis(10),
                DETOUR
            )
            .is_err()
        );
    }

    #[test]
    fn no_answers_are_no_delay() {
        assert!(
            delayed(
                &steady(0.3),
                &volley([None; 9]),
                Duration::from_millis(1),
                QUEUE
            )
            .is_err()
        );
    }

    #[test]
    fn no_fault_is_no_loss() {
        assert!(share("loss", steady(1.0).loss(), 0.3, 0.01).is_err());
        assert!(share("loss", 0.305, 0.3, 0.01).is_ok());
    }

    #[test]
    fn a_constant_delay_is_no_jitter() {
        assert!(spread(&steady(0.0), &steady(100.0), 84.0, 116.0, 4.0).is_err());
        let even = volley((0..100).map(|n| Some(80.0 + 0.4 * f64::from(n))));
        assert!(spread(&steady(0.0), &even, 84.0, 116.0, 1.0).is_ok());
    }

    #[test]
    fn a_touched_neighbour_is_seen() {
        let slack = Duration::from_millis(2);
        assert!(untouched(&steady(0.3), &steady(0.5), slack).is_ok());
        assert!(untouched(&steady(0.3), &steady(5.0), slack).is_err());
        assert!(untouched(&steady(0.3), &volley([Some(0.3), None]), slack).is_err());
    }
}
