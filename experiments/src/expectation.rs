//! What must stay true: `success >= 99%`, `p99 <= 400ms`, `value within 10% of baseline`, `p99 <= 1.2x control`.

mod burn;
mod check;
mod control;
mod lexer;
mod parse;

use crate::units::{Hold, Latency, Percent};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One sentence about one measure of one probe. Text in files and on the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Expectation {
    /// What is measured.
    pub measure: Measure,
    /// What must hold of it.
    pub check: Check,
}

/// What of a probe's answers is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Measure {
    /// The share of attempts that succeeded.
    Success,
    /// The HTTP status of every answer.
    Status,
    /// A latency quantile; the number is in millionths (p99 is 990,000, p999 is 999,000), above 0 and below 1,000,000.
    Quantile(u32),
    /// The slowest answer.
    Max,
    /// Answers per second.
    Rate,
    /// A JSON path into the body of every answer (RFC 9535).
    Body(String),
    /// The number that a command printed.
    Value,
    /// The exit code of a command.
    Exit,
    /// How fast the error budget of an objective is used up.
    Burn(Burn),
}

/// The error budget of a service-level objective, and over what it is looked at. At a burn rate of 1 the budget is used up exactly
/// at the end of the objective's own period, at 14.4 thirty days' worth is gone in fifty hours.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Burn {
    /// The share of attempts that is to succeed; above 0 % and below 100 %.
    pub objective: Percent,
    /// The window that shows that it matters.
    pub long: Hold,
    /// The window that shows that it is still so; shorter than the other.
    pub short: Hold,
}

/// What must hold of a measure.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// `<=`, `at most`, …
    Compare(Comparison, Bound),
    /// `within 10% of baseline`, `within 5ms of 20ms`.
    Within {
        /// How far away it may be.
        tolerance: Scalar,
        /// From what.
        of: Bound,
    },
    /// `between 1 and 5`, both included.
    Between(Scalar, Scalar),
    /// `one of 200, 202`.
    OneOf(Vec<Scalar>),
    /// `matches "^ok"`.
    Matches(String),
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Less,
    AtMost,
    Equal,
    NotEqual,
    AtLeast,
    Greater,
}

/// What a measure is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// A fixed value.
    Absolute(Scalar),
    /// A multiple of what was measured before anything was injected: `1.5x baseline`, `90% of baseline`.
    Baseline {
        /// The multiple; 1 where only `baseline` is written.
        factor: f64,
    },
    /// A multiple of what the control measures at the same time: `1.2x control`, `99% of control`.
    Control {
        /// The multiple; 1 where only `control` is written.
        factor: f64,
    },
}

/// A value with its unit.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Scalar {
    Number(f64),
    Percent(Percent),
    Latency(Latency),
    PerSecond(f64),
    Text(String),
    Bool(bool),
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("success"),
            Self::Status => f.write_str("status"),
            Self::Quantile(millionths) => {
                let digits = format!("{millionths:06}");
                let kept = digits.trim_end_matches('0');
                match kept.get(2..) {
                    // p999 is what people say of the far end; below it the point is needed to be understood.
                    Some(rest) if !rest.is_empty() && !kept.starts_with("99") => {
                        write!(f, "p{}.{rest}", &kept[..2])
                    }
                    _ => write!(f, "p{kept:0<2}"),
                }
            }
            Self::Max => f.write_str("max"),
            Self::Rate => f.write_str("rate"),
            Self::Body(path) => write!(f, "body {path}"),
            Self::Value => f.write_str("value"),
            Self::Exit => f.write_str("exit"),
            Self::Burn(burn) => burn.fmt(f),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::AtLeast => ">=",
            Self::Greater => ">",
        })
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Percent(percent) => percent.fmt(f),
            Self::Latency(latency) => latency.fmt(f),
            Self::PerSecond(rate) => write!(f, "{rate}/s"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Bool(bool) => bool.fmt(f),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(scalar) => scalar.fmt(f),
            Self::Baseline { factor } => multiple(f, *factor, "baseline"),
            Self::Control { factor } => multiple(f, *factor, "control"),
        }
    }
}

#[expect(
    clippy::float_cmp,
    reason = "exactly one is what a bare `baseline` reads as"
)]
fn multiple(f: &mut fmt::Formatter<'_>, factor: f64, of: &str) -> fmt::Result {
    if factor == 1.0 {
        f.write_str(of)
    } else {
        write!(f, "{factor}x {of}")
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.measure)?;
        match &self.check {
            Check::Compare(comparison, bound) => write!(f, "{comparison} {bound}"),
            Check::Within { tolerance, of } => write!(f, "within {tolerance} of {of}"),
            Check::Between(low, high) => write!(f, "between {low} and {high}"),
            Check::OneOf(values) => {
                let values: Vec<String> = values.iter().map(ToString::to_string).collect();
                write!(f, "one of {}", values.join(", "))
            }
            Check::Matches(pattern) => write!(f, "matches {pattern:?}"),
        }
    }
}

impl Expectation {
    /// Whether it is held against a control group.
    #[must_use]
    pub const fn against_control(&self) -> bool {
        matches!(
            &self.check,
            Check::Compare(_, Bound::Control { .. })
                | Check::Within {
                    of: Bound::Control { .. },
                    ..
                }
        )
    }

    /// What a canary is judged by where nothing else is said: its errors and its slow answers, beside the control's. The farther out a
    /// quantile, the more two equal groups differ in it, and so the more it tolerates.
    #[must_use]
    pub fn canary() -> Vec<Self> {
        CANARY.iter().filter_map(|text| text.parse().ok()).collect()
    }
}

/// See [`Expectation::canary`].
const CANARY: [&str; 3] = [
    "success within 1% of control",
    "p95 <= 1.2x control",
    "p99 <= 1.5x control",
];

impl Serialize for Expectation {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Expectation {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Expectation {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Expectation".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A measure, a comparison and a bound: success >= 99%, p99 <= 400ms, value within 10% of baseline, p99 <= 1.2x control",
        })
    }
}

/// Why an expectation could not be read. The places are byte offsets into its text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}{}", mend.as_ref().map(|m| format!(": {m}")).unwrap_or_default())]
pub struct ExpectationError {
    /// Where the culprit starts.
    pub at: usize,
    /// Where it ends.
    pub end: usize,
    /// What is wrong there.
    pub problem: String,
    /// How to mend it.
    pub mend: Option<String>,
}

impl std::str::FromStr for Expectation {
    type Err = ExpectationError;
    fn from_str(text: &str) -> Result<Self, ExpectationError> {
        parse::expectation(text)
    }
}
