//! Whether an expectation makes sense: each measure has its unit, its limits and its comparisons.

use super::parse::look;
use super::{Bound, Check, Comparison, ExpectationError, Measure, Scalar};
use super::{burn, control};
use crate::language::quoted;

/// Where what must hold is written, in bytes from and to.
pub(super) struct Places {
    pub(super) check: (usize, usize),
}

/// A value that a measure could be compared with, for messages.
pub(super) const fn example(measure: &Measure) -> &'static str {
    match measure {
        Measure::Success => "99%",
        Measure::Status => "200",
        Measure::Quantile(_) | Measure::Max => "400ms",
        Measure::Rate => "50/s",
        Measure::Body(_) => "\"ok\"",
        Measure::Value => "42",
        Measure::Exit => "0",
        Measure::Burn(_) => "14.4",
    }
}

/// What a measure's values are called.
const fn unit(measure: &Measure) -> &'static str {
    match measure {
        Measure::Success => "a percentage",
        Measure::Status => "an HTTP status",
        Measure::Quantile(_) | Measure::Max => "a time",
        Measure::Rate => "a rate",
        Measure::Body(_) => "a text, a number or true or false",
        Measure::Value => "a number",
        Measure::Exit => "an exit code",
        Measure::Burn(_) => "a factor",
    }
}

/// Reads a value that is not quoted, and says what is wrong with it and how to mend that.
pub(super) fn scalar(text: &str, measure: &Measure) -> Result<Scalar, (String, String)> {
    if let Measure::Body(_) = measure {
        let number = look(text).filter(|s| matches!(s, Scalar::Number(_) | Scalar::Bool(_)));
        return Ok(number.unwrap_or_else(|| Scalar::Text(text.to_owned())));
    }
    match look(text) {
        Some(scalar) => Ok(scalar),
        None if text.eq_ignore_ascii_case("baseline") => Err((
            "the baseline cannot stand here".to_owned(),
            "write `within 10% of baseline`, `<= 1.5x baseline` or `>= 90% of baseline`".to_owned(),
        )),
        None if text.eq_ignore_ascii_case("control") => Err((
            "the control cannot stand here".to_owned(),
            "write `within 1% of control`, `<= 1.2x control` or `>= 99% of control`".to_owned(),
        )),
        None if text
            .trim_end_matches('%')
            .parse::<f64>()
            .is_ok_and(|n| n > 100.0) =>
        {
            Err((
                format!("{} is more than all", quoted(text)),
                "write at most `100%`; a multiple of the baseline is `1.5x baseline`".to_owned(),
            ))
        }
        None => Err((
            format!("{} is not {}", quoted(text), unit(measure)),
            format!("write one such as `{}`", example(measure)),
        )),
    }
}

/// Whether a measure can be compared like this, with these values.
pub(super) fn fits(
    measure: &Measure,
    check: &Check,
    places: &Places,
) -> Result<(), ExpectationError> {
    let wrong = |problem: String, mend: String| ExpectationError {
        at: places.check.0,
        end: places.check.1,
        problem,
        mend: Some(mend),
    };
    if let Measure::Burn(burn) = measure {
        return burn::fits(burn, check).map_err(|(p, m)| wrong(p, m));
    }
    match check {
        Check::Matches(_) => match measure {
            Measure::Body(_) => Ok(()),
            _ => Err(wrong(
                format!("`{measure}` is not a text that could match"),
                match measure {
                    Measure::Status => {
                        "write `status is 2xx`, or `status between 200 and 299`".to_owned()
                    }
                    _ => format!(
                        "compare it with {}, such as `{}`",
                        unit(measure),
                        example(measure)
                    ),
                },
            )),
        },
        Check::OneOf(values) => values
            .iter()
            .try_for_each(|v| value(measure, v).map_err(|(p, m)| wrong(p, m))),
        Check::Between(low, high) => {
            for end in [low, high] {
                value(measure, end).map_err(|(p, m)| wrong(p, m))?;
            }
            match (number(low), number(high)) {
                (Some(a), Some(b)) if a < b => Ok(()),
                (Some(a), Some(b)) if a > b => Err(wrong(
                    format!("nothing is between {low} and {high}"),
                    format!("write `between {high} and {low}`"),
                )),
                (Some(_), Some(_)) => Err(wrong(
                    format!("only {low} is between {low} and {high}"),
                    format!("write `is {low}`"),
                )),
                _ => Err(wrong(
                    "`between` takes two numbers".to_owned(),
                    "use `is`, `one of` or `matches` for texts".to_owned(),
                )),
            }
        }
        Check::Within { tolerance, of } => {
            within(measure, tolerance, of).map_err(|(p, m)| wrong(p, m))
        }
        Check::Compare(comparison, bound) => {
            compare(measure, *comparison, bound).map_err(|(p, m)| wrong(p, m))
        }
    }
}

/// What is wrong, and how to mend it.
pub(super) type Wrong = (String, String);

fn compare(measure: &Measure, comparison: Comparison, bound: &Bound) -> Result<(), Wrong> {
    let scalar = match bound {
        Bound::Baseline { .. } => return baseline(measure),
        Bound::Control { factor } => return control::compare(measure, comparison, *factor),
        Bound::Absolute(scalar) => scalar,
    };
    value(measure, scalar)?;
    let ordered = !matches!(comparison, Comparison::Equal | Comparison::NotEqual);
    if ordered && number(scalar).is_none() {
        return Err((
            format!("{scalar} has no order, so that nothing can be {comparison} it"),
            "use `is`, `is not`, `one of` or `matches` for texts, true and false".to_owned(),
        ));
    }
    never(measure, comparison, scalar)
}

/// What can never hold, or always does, is a slip.
fn never(measure: &Measure, comparison: Comparison, scalar: &Scalar) -> Result<(), Wrong> {
    let Some(bound) = number(scalar) else {
        return Ok(());
    };
    let (least, most) = match measure {
        Measure::Success => (0.0, 1e6),
        Measure::Quantile(_) | Measure::Max | Measure::Rate => (0.0, f64::INFINITY),
        Measure::Status => (100.0, 599.0),
        Measure::Exit => (0.0, 255.0),
        Measure::Body(_) | Measure::Value | Measure::Burn(_) => return Ok(()),
    };
    let never = match comparison {
        Comparison::Less => bound <= least,
        Comparison::Greater => bound >= most,
        Comparison::AtMost | Comparison::AtLeast | Comparison::Equal | Comparison::NotEqual => {
            false
        }
    };
    let always = match comparison {
        Comparison::AtLeast => bound <= least,
        Comparison::AtMost => bound >= most,
        _ => false,
    };
    if never {
        Err((
            format!("`{measure} {comparison} {scalar}` can never hold"),
            "turn the comparison round, or change the value".to_owned(),
        ))
    } else if always {
        Err((
            format!("`{measure} {comparison} {scalar}` always holds, and so shows nothing"),
            format!(
                "compare with something that could be missed, such as `{}`",
                example(measure)
            ),
        ))
    } else {
        Ok(())
    }
}

fn within(measure: &Measure, tolerance: &Scalar, of: &Bound) -> Result<(), Wrong> {
    match of {
        Bound::Baseline { .. } => baseline(measure)?,
        Bound::Control { .. } => control::within(measure, tolerance)?,
        Bound::Absolute(scalar) => {
            value(measure, scalar)?;
            if number(scalar).is_none() || matches!(measure, Measure::Status | Measure::Exit) {
                return Err((
                    format!("nothing is near {scalar}"),
                    "use `is` or `one of`".to_owned(),
                ));
            }
        }
    }
    // A share of the bound fits every measure; anything else must have the measure's own unit.
    if !matches!(tolerance, Scalar::Percent(_)) {
        value(measure, tolerance)?;
    }
    match number(tolerance) {
        Some(tolerance) if tolerance > 0.0 => Ok(()),
        _ => Err((
            "a tolerance is above zero".to_owned(),
            format!("write one such as `within 10% of {of}`, or `is {of}`"),
        )),
    }
}

fn baseline(measure: &Measure) -> Result<(), Wrong> {
    match measure {
        Measure::Status | Measure::Exit | Measure::Body(_) => Err((
            format!("`{measure}` has no baseline: it is not a quantity"),
            format!(
                "compare it with {}, such as `is {}`",
                unit(measure),
                example(measure)
            ),
        )),
        _ => Ok(()),
    }
}

/// Whether a value has the measure's unit and is within its limits.
fn value(measure: &Measure, scalar: &Scalar) -> Result<(), Wrong> {
    let fits = match (measure, scalar) {
        (Measure::Success, Scalar::Percent(_))
        | (Measure::Quantile(_) | Measure::Max, Scalar::Latency(_))
        | (Measure::Rate, Scalar::PerSecond(_))
        | (Measure::Value, Scalar::Number(_))
        | (Measure::Body(_), Scalar::Text(_) | Scalar::Number(_) | Scalar::Bool(_)) => true,
        (Measure::Status, Scalar::Number(n)) => (100.0..=599.0).contains(n) && n.fract() == 0.0,
        (Measure::Exit, Scalar::Number(n)) => (0.0..=255.0).contains(n) && n.fract() == 0.0,
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let mend = match (measure, scalar) {
        (Measure::Success, Scalar::Number(n)) if *n > 0.0 && *n <= 1.0 => {
            format!("write `{}%`", crate::language::trimmed(n * 100.0))
        }
        (Measure::Success, Scalar::Number(n)) if *n <= 100.0 => format!("write `{n}%`"),
        (Measure::Quantile(_) | Measure::Max, Scalar::Number(n)) if *n >= 0.0 => {
            format!("write `{n}ms`, if that is what was meant")
        }
        (Measure::Rate, Scalar::Number(n)) if *n >= 0.0 => {
            format!("write `{n}/s`, if that is what was meant")
        }
        (Measure::Status, Scalar::Number(_)) => {
            "a status is a whole number from 100 to 599".to_owned()
        }
        (Measure::Exit, Scalar::Number(_)) => {
            "an exit code is a whole number from 0 to 255".to_owned()
        }
        _ => format!("write one such as `{}`", example(measure)),
    };
    Err((
        format!(
            "`{measure}` is compared with {}, not with {scalar}",
            unit(measure)
        ),
        mend,
    ))
}

/// The value as a number in its base unit, for those that have an order.
#[expect(clippy::cast_precision_loss, reason = "only compared")]
fn number(scalar: &Scalar) -> Option<f64> {
    match scalar {
        Scalar::Number(number) | Scalar::PerSecond(number) => Some(*number),
        Scalar::Percent(percent) => Some(percent.get() as f64),
        Scalar::Latency(latency) => Some(latency.get() as f64),
        Scalar::Text(_) | Scalar::Bool(_) => None,
    }
}

/// Whether a JSON path can be evaluated (RFC 9535).
pub(super) fn path(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("`body` needs a JSON path".to_owned());
    }
    if !path.starts_with('$') {
        return Err(format!(
            "{} is not a JSON path: it starts with `$`",
            quoted(path)
        ));
    }
    // Filters are read by recursive descent: what is nested deeper than anybody writes is not even tried.
    let nested = path
        .bytes()
        .filter(|b| matches!(b, b'(' | b'[' | b'!'))
        .count();
    let readable = path.len() <= PATH_BYTES_MAX
        && nested <= PATH_BRACKETS_MAX
        && serde_json_path::JsonPath::parse(path).is_ok();
    if readable {
        Ok(())
    } else {
        Err(format!("{} is not a JSON path (RFC 9535)", quoted(path)))
    }
}

/// Longer than any path to a value that a person would check.
const PATH_BYTES_MAX: usize = 512;
/// Likewise.
const PATH_BRACKETS_MAX: usize = 16;
