//! One value against one check.

use regex::Regex;
use serde_json::Value;
use squall_experiments::expectation::{Bound, Check, Comparison, Measure, Scalar};

/// A check made ready: its pattern compiled.
#[derive(Debug, Clone)]
pub struct Ready {
    check: Check,
    pattern: Option<Regex>,
}

impl Ready {
    /// A pattern that does not compile matches nothing; the file's reader refuses it before.
    #[must_use]
    pub fn new(check: &Check) -> Self {
        let pattern = match check {
            Check::Matches(pattern) => Regex::new(pattern).ok(),
            _ => None,
        };
        Self {
            check: check.clone(),
            pattern,
        }
    }

    /// Whether a number satisfies it. `baseline` is what was measured before anything was injected, or in the control for
    /// a check against that; such a check is not satisfied without it.
    #[must_use]
    pub fn number(&self, measured: f64, baseline: Option<f64>) -> bool {
        match &self.check {
            Check::Compare(comparison, bound) => {
                resolve(bound, baseline).is_some_and(|bound| compare(measured, *comparison, bound))
            }
            Check::Within { tolerance, of } => resolve(of, baseline).is_some_and(|of| {
                let away = (measured - of).abs();
                match tolerance {
                    Scalar::Percent(share) => away <= share.fraction() * of.abs(),
                    other => number(other).is_some_and(|tolerance| away <= tolerance),
                }
            }),
            Check::Between(low, high) => number(low)
                .zip(number(high))
                .is_some_and(|(low, high)| low <= measured && measured <= high),
            Check::OneOf(values) => values
                .iter()
                .filter_map(number)
                .any(|value| compare(measured, Comparison::Equal, value)),
            Check::Matches(_) => self
                .pattern
                .as_ref()
                .is_some_and(|pattern| pattern.is_match(&measured.to_string())),
        }
    }

    /// Whether what was found in a body satisfies it.
    #[must_use]
    pub fn json(&self, found: &Value, baseline: Option<f64>) -> bool {
        if let Some(measured) = found.as_f64() {
            return self.number(measured, baseline);
        }
        let equals = |scalar: &Scalar| match (scalar, found) {
            (Scalar::Text(text), Value::String(found)) => text == found,
            (Scalar::Bool(bool), Value::Bool(found)) => bool == found,
            _ => false,
        };
        match &self.check {
            Check::Compare(Comparison::Equal, Bound::Absolute(scalar)) => equals(scalar),
            Check::Compare(Comparison::NotEqual, Bound::Absolute(scalar)) => !equals(scalar),
            Check::OneOf(values) => values.iter().any(equals),
            Check::Matches(_) => self.pattern.as_ref().is_some_and(|pattern| match found {
                Value::String(text) => pattern.is_match(text),
                other => pattern.is_match(&other.to_string()),
            }),
            _ => false,
        }
    }

    /// The one number that a plot can draw as the bound.
    #[must_use]
    pub fn bound(&self, baseline: Option<f64>) -> Option<f64> {
        match &self.check {
            Check::Compare(_, bound) | Check::Within { of: bound, .. } => resolve(bound, baseline),
            _ => None,
        }
    }
}

/// Whether it needs the baseline before it can be judged.
#[must_use]
pub const fn against_baseline(check: &Check) -> bool {
    matches!(
        check,
        Check::Compare(_, Bound::Baseline { .. })
            | Check::Within {
                of: Bound::Baseline { .. },
                ..
            }
    )
}

/// Whether it needs the control beside it.
#[must_use]
pub const fn against_control(check: &Check) -> bool {
    matches!(
        check,
        Check::Compare(_, Bound::Control { .. })
            | Check::Within {
                of: Bound::Control { .. },
                ..
            }
    )
}

/// In the unit that measures have inside: fractions, microseconds, per second, or the bare number.
#[must_use]
pub fn number(scalar: &Scalar) -> Option<f64> {
    const NS_PER_US: f64 = 1e3;
    match scalar {
        Scalar::Number(number) | Scalar::PerSecond(number) => Some(*number),
        Scalar::Percent(percent) => Some(percent.fraction()),
        #[expect(
            clippy::cast_precision_loss,
            reason = "at most ten minutes in nanoseconds"
        )]
        Scalar::Latency(latency) => Some(latency.get() as f64 / NS_PER_US),
        Scalar::Text(_) | Scalar::Bool(_) => None,
    }
}

/// A number as a person would read it, in the measure's own unit.
#[must_use]
pub fn show(measure: &Measure, measured: f64) -> String {
    match measure {
        Measure::Success => format!("{}%", trimmed(measured * 100.0, 2)),
        Measure::Quantile(_) | Measure::Max if measured >= 1e6 => {
            format!("{}s", trimmed(measured / 1e6, 2))
        }
        Measure::Quantile(_) | Measure::Max => format!("{}ms", trimmed(measured / 1e3, 1)),
        Measure::Rate => format!("{}/s", trimmed(measured, 1)),
        Measure::Burn(_) => trimmed(measured, 1),
        Measure::Status | Measure::Body(_) | Measure::Value | Measure::Exit => trimmed(measured, 3),
    }
}

/// With at most so many digits behind the point, and none that say nothing.
#[must_use]
pub fn trimmed(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

fn resolve(bound: &Bound, baseline: Option<f64>) -> Option<f64> {
    match bound {
        Bound::Absolute(scalar) => number(scalar),
        Bound::Baseline { factor } | Bound::Control { factor } => {
            baseline.map(|baseline| baseline * factor)
        }
    }
}

#[expect(
    clippy::float_cmp,
    reason = "`==` in a file means exactly that: statuses, exit codes, counts"
)]
fn compare(measured: f64, comparison: Comparison, bound: f64) -> bool {
    match comparison {
        Comparison::Less => measured < bound,
        Comparison::AtMost => measured <= bound,
        Comparison::Equal => measured == bound,
        Comparison::NotEqual => measured != bound,
        Comparison::AtLeast => measured >= bound,
        Comparison::Greater => measured > bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ready(check: Check) -> Ready {
        Ready::new(&check)
    }

    fn text(text: &str) -> Scalar {
        Scalar::Text(text.into())
    }

    #[test]
    fn numbers_are_compared_in_their_unit() {
        let bound = Scalar::Latency("400ms".parse().unwrap());
        let check = ready(Check::Compare(Comparison::AtMost, Bound::Absolute(bound)));
        assert!(check.number(400_000.0, None) && !check.number(400_001.0, None));
        assert_eq!(check.bound(None), Some(400_000.0));
    }

    #[test]
    fn the_baseline_is_needed_where_it_is_named() {
        let check = Check::Within {
            tolerance: Scalar::Percent("10%".parse().unwrap()),
            of: Bound::Baseline { factor: 1.0 },
        };
        assert!(against_baseline(&check));
        let check = ready(check);
        assert!(check.number(109.0, Some(100.0)) && !check.number(111.0, Some(100.0)));
        assert!(!check.number(100.0, None), "no baseline, no pass");
    }

    #[test]
    fn bodies_are_compared_by_kind() {
        let equal = |scalar| ready(Check::Compare(Comparison::Equal, Bound::Absolute(scalar)));
        assert!(equal(text("ok")).json(&json!("ok"), None));
        assert!(!equal(text("ok")).json(&json!(true), None));
        assert!(equal(Scalar::Bool(true)).json(&json!(true), None));
        assert!(equal(Scalar::Number(3.0)).json(&json!(3), None));
        let matches = ready(Check::Matches("^ok".into()));
        assert!(matches.json(&json!("ok, so far"), None) && !matches.json(&json!("not ok"), None));
        assert!(ready(Check::OneOf(vec![text("a"), text("b")])).json(&json!("b"), None));
    }
}
