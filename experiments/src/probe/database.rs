//! Round trips to databases.

use super::{Tls, Trouble, every_default, timeout_default};
use crate::secret::SecretRef;
use crate::units::{Interval, Timeout};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a connection outlives its attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Connection {
    /// The next attempt uses it again, as a service's pool does. One that was closed meanwhile is opened anew
    /// within the attempt.
    #[default]
    Kept,
    /// Each attempt connects, and logs in, anew.
    New,
}

/// One query each interval, in a read-only transaction; success is that the server ran it. The first column of
/// the first row is `value` when it is a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Postgres {
    /// Where the server is, with the port.
    pub address: String,
    /// Who asks.
    pub user: String,
    /// Where the password is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// The database.
    pub database: String,
    /// What is asked.
    #[serde(default = "Postgres::query_default")]
    pub query: String,
    /// Whether the connection is kept.
    #[serde(default)]
    pub connection: Connection,
    /// Whom TLS trusts; plain text where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
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

impl Postgres {
    /// Where a server listens.
    pub const PORT: u16 = 5432;

    /// What any server can answer.
    #[must_use]
    pub fn query_default() -> String {
        "select 1".into()
    }
}

/// One command each interval; success is a reply that is neither an error nor nil. A reply that is a number is
/// `value`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Redis {
    /// Where the server is, with the port.
    pub address: String,
    /// Who asks, where the server has users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Where the password is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretRef>,
    /// The number of the database.
    #[serde(default)]
    pub db: u32,
    /// The command, one of [`Redis::COMMANDS`] in capitals, and its arguments.
    #[serde(default = "Redis::command_default")]
    pub command: Vec<String>,
    /// Whether the connection is kept.
    #[serde(default)]
    pub connection: Connection,
    /// Whom TLS trusts; plain text where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
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

impl Redis {
    /// Where a server listens.
    pub const PORT: u16 = 6379;

    /// More databases than any server is set up with.
    pub const DB_MAX: u32 = 9_999;

    /// All that a probe may say: what neither changes anything nor takes longer the more data there is.
    pub const COMMANDS: [&str; 24] = [
        "DBSIZE",
        "ECHO",
        "EXISTS",
        "GET",
        "GETBIT",
        "GETRANGE",
        "HEXISTS",
        "HGET",
        "HLEN",
        "HSTRLEN",
        "LASTSAVE",
        "LLEN",
        "PING",
        "PTTL",
        "SCARD",
        "SISMEMBER",
        "STRLEN",
        "TIME",
        "TTL",
        "TYPE",
        "XLEN",
        "ZCARD",
        "ZCOUNT",
        "ZSCORE",
    ];

    /// What any server can answer.
    #[must_use]
    pub fn command_default() -> Vec<String> {
        vec!["PING".into()]
    }
}
