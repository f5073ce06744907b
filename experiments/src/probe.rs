//! How the steady state is observed.

use crate::units::{Frequency, Interval, Timeout};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod dns;

pub use dns::{Dns, DnsTransport, RecordType};

/// One way of looking at the system under test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Probe {
    /// One request each interval.
    Http(Http),
    /// Requests at a constant rate, whatever the answers do (open loop).
    Load(Load),
    /// One connection each interval.
    Tcp(Tcp),
    /// One program each interval, without a shell.
    Command(Command),
    /// One question to a name server each interval.
    Dns(Dns),
}

/// The request that a probe sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// http or https, absolute.
    pub url: String,
    /// The method, in capitals.
    #[serde(default = "get")]
    pub method: String,
    /// Header fields.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body, as it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// After this the request counts as failed.
    #[serde(default = "Request::timeout_default")]
    pub timeout: Timeout,
}

fn get() -> String {
    "GET".into()
}

impl Request {
    /// 5 s: longer than any answer a person would wait for.
    #[must_use]
    pub fn timeout_default() -> Timeout {
        Timeout::clamped(std::time::Duration::from_secs(5))
    }
}

/// One second: what a person would watch with.
#[must_use]
pub fn every_default() -> Interval {
    Interval::clamped(std::time::Duration::from_secs(1))
}

/// One request each interval; success is a status below 400.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Http {
    /// What is sent.
    pub request: Request,
    /// How often.
    #[serde(default = "every_default")]
    pub every: Interval,
}

/// Requests at a constant rate; each is due at its time, and its latency counts from then, so that a slow
/// answer cannot hide the requests behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Load {
    /// What is sent.
    pub request: Request,
    /// How often.
    pub rate: Frequency,
}

/// One connection each interval; success is a completed handshake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tcp {
    /// `host:port`, `1.2.3.4:80` or `[::1]:80`.
    pub address: String,
    /// After this the attempt counts as failed.
    #[serde(default = "Request::timeout_default")]
    pub timeout: Timeout,
    /// How often.
    #[serde(default = "every_default")]
    pub every: Interval,
}

/// One program each interval; success is exit code 0. Its standard output, trimmed, is `value` when it is a
/// number and `body` when it is JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Command {
    /// The program and its arguments. Never a shell line.
    pub argv: Vec<String>,
    /// After this it is killed and counts as failed.
    #[serde(default = "Request::timeout_default")]
    pub timeout: Timeout,
    /// How often.
    #[serde(default = "every_default")]
    pub every: Interval,
}

impl Probe {
    /// The word for it in a file.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Load(_) => "load",
            Self::Tcp(_) => "tcp",
            Self::Command(_) => "command",
            Self::Dns(_) => "dns",
        }
    }
}
