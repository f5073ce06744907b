//! How the steady state is observed.

mod connection;
mod database;
mod dns;
mod grpc;
mod http;
mod kubernetes;
mod load;
mod local;
mod log;
mod prometheus;
mod webhook;

pub use connection::{Auth, Basic, OnError, Tls, Trouble};
pub use database::{Connection, Postgres, Redis};
pub use dns::{Dns, DnsTransport, RecordType};
pub use grpc::Grpc;
pub use http::{Http, Request, Source};
pub use kubernetes::{Api, Cluster, Deployment, Events, Kubernetes, Object, Pods};
pub use load::{Load, users_needed};
pub use local::Local;
pub use log::{Lines, Log};
pub use prometheus::{Prometheus, Range, Reduce};
pub use webhook::{Question, Reply, Webhook};

use crate::units::{Interval, Timeout};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

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
    /// One PromQL query each interval.
    Prometheus(Prometheus),
    /// One question each interval to anything that answers in our words.
    Webhook(Webhook),
    /// One health check over gRPC each interval.
    Grpc(Grpc),
    /// One question to a name server each interval.
    Dns(Dns),
    /// One query to PostgreSQL each interval.
    Postgres(Postgres),
    /// One command to Redis each interval.
    Redis(Redis),
    /// New lines of a file, each interval.
    Log(Log),
    /// A Kubernetes API server, each interval.
    Kubernetes(Kubernetes),
}

/// 5 s: longer than any answer a person would wait for.
#[must_use]
pub fn timeout_default() -> Timeout {
    Timeout::clamped(Duration::from_secs(5))
}

/// One second: what a person would watch with.
#[must_use]
pub fn every_default() -> Interval {
    Interval::clamped(Duration::from_secs(1))
}

/// One connection each interval; success is a completed handshake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tcp {
    /// `host:port`, `1.2.3.4:80` or `[::1]:80`.
    pub address: String,
    /// After this the attempt counts as failed.
    #[serde(default = "timeout_default")]
    pub timeout: Timeout,
    /// How often.
    #[serde(default = "every_default")]
    pub every: Interval,
    /// What becomes of an attempt without an answer.
    #[serde(default, skip_serializing_if = "Trouble::is_default")]
    pub trouble: Trouble,
}

/// One program each interval; success is exit code 0. Its standard output, trimmed, is `value` when it is a
/// number and `body` when it is JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Command {
    /// The program and its arguments. Never a shell line.
    pub argv: Vec<String>,
    /// After this it is killed and counts as failed.
    #[serde(default = "timeout_default")]
    pub timeout: Timeout,
    /// How often.
    #[serde(default = "every_default")]
    pub every: Interval,
}

impl Probe {
    /// The words for all of them, in the order above.
    pub const WORDS: [&'static str; 12] = [
        "http",
        "load",
        "tcp",
        "command",
        "prometheus",
        "webhook",
        "grpc",
        "dns",
        "postgres",
        "redis",
        "log",
        "kubernetes",
    ];

    /// The word for it in a file.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Load(_) => "load",
            Self::Tcp(_) => "tcp",
            Self::Command(_) => "command",
            Self::Prometheus(_) => "prometheus",
            Self::Webhook(_) => "webhook",
            Self::Grpc(_) => "grpc",
            Self::Dns(_) => "dns",
            Self::Postgres(_) => "postgres",
            Self::Redis(_) => "redis",
            Self::Log(_) => "log",
            Self::Kubernetes(_) => "kubernetes",
        }
    }

    /// How often it makes an attempt, and how patient it is.
    #[must_use]
    pub fn cadence(&self) -> Cadence {
        /// A [`crate::units::Frequency`] is kept in thousandths per second.
        const NS_TIMES_THOUSANDTHS: u64 = 1_000_000_000_000;
        let (noun, every, timeout, trouble) = match self {
            Self::Http(p) => ("requests", p.every, p.request.source.timeout, p.trouble),
            Self::Load(p) => {
                return Cadence {
                    noun: "requests",
                    every: Duration::from_nanos(NS_TIMES_THOUSANDTHS / p.rate.get()),
                    timeout: p.request.source.timeout.duration(),
                    trouble: Trouble::default(),
                };
            }
            Self::Tcp(p) => ("connections", p.every, p.timeout, p.trouble),
            Self::Command(p) => ("runs", p.every, p.timeout, Trouble::default()),
            Self::Prometheus(p) => ("queries", p.every, p.source.timeout, p.trouble),
            Self::Kubernetes(p) => ("looks", p.every, p.timeout, p.trouble),
            Self::Log(p) => ("looks", p.every, timeout_default(), p.trouble),
            Self::Webhook(p) => ("questions", p.every, p.source.timeout, p.trouble),
            Self::Grpc(p) => ("calls", p.every, p.timeout, p.trouble),
            Self::Dns(p) => ("questions", p.every, p.timeout, p.trouble),
            Self::Postgres(p) => ("queries", p.every, p.timeout, p.trouble),
            Self::Redis(p) => ("commands", p.every, p.timeout, p.trouble),
        };
        Cadence {
            noun,
            every: every.duration(),
            timeout: timeout.duration(),
            trouble,
        }
    }
}

/// The pace of a probe's attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    /// What attempts are called, in the plural.
    pub noun: &'static str,
    /// From the start of one to the start of the next.
    pub every: Duration,
    /// How long one may take, all its tries together.
    pub timeout: Duration,
    /// What becomes of one without an answer.
    pub trouble: Trouble,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes through all probes by their words leaves none out.
    #[test]
    fn the_words_are_those_of_the_type() {
        let schema = serde_json::to_value(schemars::schema_for!(Probe)).unwrap();
        let kinds = schema["oneOf"].as_array().unwrap().iter();
        let words = kinds.flat_map(|kind| kind["required"].as_array().unwrap());
        let words: Vec<_> = words.filter_map(serde_json::Value::as_str).collect();
        assert_eq!(words, Probe::WORDS);
    }
}
