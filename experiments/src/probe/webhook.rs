//! Anything that answers in our words.

use super::connection::Trouble;
use super::every_default;
use super::http::Source;
use crate::units::Interval;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One question each interval to something that answers `{ "ok": true, "value": 3, "reason": "…" }`; success is `ok`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Webhook {
    /// Whom to ask.
    pub source: Source,
    /// How often.
    #[serde(default = "every_default")]
    pub every: Interval,
    /// What becomes of an attempt without an answer.
    #[serde(default, skip_serializing_if = "Trouble::is_default")]
    pub trouble: Trouble,
}

/// What is sent: the same in every run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Question {
    /// The version of this exchange: `squall/v1`.
    pub api_version: String,
    /// The name of the steady state that asks.
    pub probe: String,
}

/// What is answered. Other fields are not looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reply {
    /// Whether what is asked about is as it should be.
    pub ok: bool,
    /// A number to be compared with: the probe's `value`.
    #[serde(default)]
    pub value: Option<f64>,
    /// Why it is not as it should be, in words.
    #[serde(default)]
    pub reason: Option<String>,
}
