//! What is wrong with a quantity, in the words of whoever wrote it.

use super::suggest::quoted;
use crate::units::UnitError;

/// Units of other tools and other capitals, with the one that is nearest.
const OTHER_UNITS: &[(&str, &str, &str)] = &[
    ("a time", "sec", "s"),
    ("a time", "secs", "s"),
    ("a time", "second", "s"),
    ("a time", "seconds", "s"),
    ("a time", "msec", "ms"),
    ("a time", "msecs", "ms"),
    ("a time", "millis", "ms"),
    ("a time", "milliseconds", "ms"),
    ("a time", "usec", "us"),
    ("a time", "mins", "min"),
    ("a time", "minute", "min"),
    ("a time", "minutes", "min"),
    ("a time", "hour", "h"),
    ("a time", "hours", "h"),
    ("a size", "k", "KiB"),
    ("a size", "m", "MiB"),
    ("a size", "mi", "MiB"),
    ("a size", "g", "GiB"),
    ("a size", "gi", "GiB"),
    ("a size", "ki", "KiB"),
    ("a size", "mb", "MB"),
    ("a size", "gb", "GB"),
    ("a growth rate", "mb/s", "MB/s"),
    ("a growth rate", "m/s", "MiB/s"),
    ("a growth rate", "mib", "MiB/s"),
    ("a growth rate", "mb", "MB/s"),
    ("a growth rate", "mbps", "MB/s"),
    ("a bit rate", "mbps", "mbit"),
    ("a bit rate", "kbps", "kbit"),
    ("a bit rate", "gbps", "gbit"),
    ("a bit rate", "m", "mbit"),
    ("a bit rate", "k", "kbit"),
    ("a bit rate", "mbit/sec", "mbit"),
    ("a rate", "rps", "/s"),
    ("a rate", "qps", "/s"),
    ("a rate", "hz", "/s"),
    ("a rate", "/sec", "/s"),
    ("a rate", "/second", "/s"),
    ("a rate", "per second", "/s"),
    ("a rate", "/minute", "/min"),
    ("a percentage", "percent", "%"),
    ("a percentage", "pct", "%"),
];

/// The number that a text starts with, and the rest.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// The unit in an example such as `300ms`.
fn unit_of(example: &str) -> &str {
    split(example).1
}

/// The unit that was probably meant.
fn near<'k>(unit: &str, what: &str, known: &'k str) -> Option<&'k str> {
    let folded = unit.to_lowercase();
    let elsewhere = OTHER_UNITS
        .iter()
        .find(|(of, other, _)| *of == what && *other == folded)
        .map(|(_, _, ours)| *ours);
    elsewhere.or_else(|| {
        known
            .split(", ")
            .map(|k| k.split(' ').next().unwrap_or_default())
            .find(|k| k.to_lowercase() == folded)
    })
}

/// What is wrong, what the caret says, how to mend it. `example` is what a value in this place would look like.
pub(crate) fn explain(text: &str, error: &UnitError, example: &str) -> (String, String, String) {
    let (number, _) = split(text);
    let shown = quoted(text);
    match error {
        UnitError::NotANumber { what, .. } if text.trim_start().starts_with('-') => (
            format!("{shown} is not {what}: it is below zero"),
            "below zero".to_owned(),
            format!("write a number and a unit, such as `{example}`"),
        ),
        UnitError::NotANumber { what, .. } => (
            format!("{shown} is not {what}"),
            "no number".to_owned(),
            format!("write a number and a unit, such as `{example}`"),
        ),
        UnitError::NoUnit { what, .. } => {
            let unit = unit_of(example);
            let fraction = number
                .parse::<f64>()
                .ok()
                .filter(|n| unit == "%" && *n > 0.0 && *n <= 1.0);
            let mend = match fraction {
                Some(fraction) => format!(
                    "write `{}%` if a fraction of one was meant, or `{number}%`",
                    trimmed(fraction * 100.0)
                ),
                None => format!("write `{number}{unit}`, if that is what was meant"),
            };
            (
                format!("{shown} has no unit: {what} needs one"),
                "a bare number".to_owned(),
                mend,
            )
        }
        UnitError::UnknownUnit { unit, what, known } => {
            let near = near(unit, what, known);
            let label = match near {
                Some(near) => format!("did you mean `{number}{near}`?"),
                None => format!("not a unit of {what}"),
            };
            (
                format!("{} is not a unit of {what}", quoted(unit)),
                label,
                format!("use one of {known}"),
            )
        }
        UnitError::OutOfRange {
            what, least, most, ..
        } => (
            format!("{shown} is outside what {what} may be here"),
            "out of range".to_owned(),
            format!("write something from {least} to {most}"),
        ),
    }
}

/// A number without the noise of its last binary digits.
pub(crate) fn trimmed(number: f64) -> String {
    let text = format!("{number:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
