//! Requests at a constant rate.

use super::http::Request;
use crate::units::{Frequency, Interval};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Requests at a constant rate; each is due at its time, and its latency counts from then, so that a slow
/// answer cannot hide the requests behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Load {
    /// What is sent. Its body is a [`template`](crate::template).
    pub request: Request,
    /// How often.
    pub rate: Frequency,
    /// So many users, each with cookies of its own, who take turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<u32>,
    /// At least so long from one request of a user to its next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub think: Option<Interval>,
    /// A CSV file on the controller's machine, for the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csv: Option<String>,
    /// HTTP/2 instead of HTTP/1.1.
    #[serde(default, skip_serializing_if = "is_not")]
    pub http2: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_not(http2: &bool) -> bool {
    !*http2
}

impl Load {
    /// As many cookie jars as one process keeps without noticing.
    pub const SESSIONS_MAX: u32 = 10_000;

    /// Requests at a rate, and nothing else.
    #[must_use]
    pub const fn bare(request: Request, rate: Frequency) -> Self {
        Self {
            request,
            rate,
            sessions: None,
            think: None,
            csv: None,
            http2: false,
        }
    }

    /// How many users take turns: what is said, or as many as can keep the rate and still think for so long.
    #[must_use]
    pub fn users(&self) -> Option<u32> {
        self.sessions
            .or_else(|| self.think.map(|think| users_needed(self.rate, think)))
    }
}

/// How many users can send at `rate` when each waits for `think` between two requests.
#[must_use]
pub fn users_needed(rate: Frequency, think: Interval) -> u32 {
    /// Thousandths per second times nanoseconds.
    const UNIT: u128 = 1_000 * 1_000_000_000;
    let product = u128::from(rate.get()) * u128::from(think.get());
    u32::try_from(product.div_ceil(UNIT)).unwrap_or(u32::MAX)
}
