//! One health check over gRPC each interval.

use super::{Auth, Tls, Trouble, every_default, timeout_default};
use crate::secret::Said;
use crate::units::{Interval, Timeout};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One call of `grpc.health.v1.Health/Check` each interval, over a connection of its own; success is SERVING.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grpc {
    /// `host:port`, `1.2.3.4:80` or `[::1]:80`.
    pub address: String,
    /// Whose health is asked for; the whole server's where nothing is said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// Metadata that goes with the call.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Said>,
    /// How the probe proves who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Whom TLS trusts; plain text where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// After this the call counts as failed.
    #[serde(default = "timeout_default")]
    pub timeout: Timeout,
    /// How often.
    #[serde(default = "every_default")]
    pub every: Interval,
    /// What becomes of an attempt without an answer.
    #[serde(default, skip_serializing_if = "Trouble::is_default")]
    pub trouble: Trouble,
}
