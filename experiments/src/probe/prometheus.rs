//! What Prometheus knows.

use super::connection::Trouble;
use super::every_default;
use super::http::Source;
use crate::units::{Hold, Interval};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One query each interval; its one number is `value`. Success is a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prometheus {
    /// The server, without `/api/v1/…`.
    pub source: Source,
    /// Any PromQL that comes to one number.
    pub query: String,
    /// Looks at a stretch of time and not at now alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// How often.
    #[serde(default = "every_default")]
    pub every: Interval,
    /// What becomes of an attempt without an answer.
    #[serde(default, skip_serializing_if = "Trouble::is_default")]
    pub trouble: Trouble,
}

/// A query over the time just past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Range {
    /// So much of it.
    pub over: Hold,
    /// From one of its points to the next.
    #[serde(default = "Range::step_default")]
    pub step: Interval,
    /// How its points become one number.
    #[serde(default)]
    pub reduce: Reduce,
}

impl Range {
    /// Prometheus itself refuses more points than this in one answer.
    pub const POINTS_MAX: u64 = 11_000;

    /// One second: no scrape is denser.
    #[must_use]
    pub fn step_default() -> Interval {
        Interval::clamped(Duration::from_secs(1))
    }
}

/// How many points become one number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Reduce {
    /// The youngest.
    #[default]
    Last,
    /// Their mean.
    Avg,
    /// The greatest.
    Max,
    /// The least.
    Min,
    /// Their sum.
    Sum,
}
