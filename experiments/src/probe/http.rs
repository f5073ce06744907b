//! Requests over HTTP.

use super::connection::{Auth, Tls, Trouble};
use super::{every_default, timeout_default};
use crate::secret::Said;
use crate::units::{Interval, Timeout};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Something that answers over HTTP, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// http or https, absolute.
    pub url: String,
    /// Header fields.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Said>,
    /// How the probe proves who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Whom https trusts; the system's authorities where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// After this an attempt counts as failed.
    #[serde(default = "timeout_default")]
    pub timeout: Timeout,
}

impl Source {
    /// Only a URL.
    #[must_use]
    pub fn bare(url: String) -> Self {
        Self {
            url,
            headers: BTreeMap::new(),
            auth: None,
            tls: None,
            timeout: timeout_default(),
        }
    }
}

/// The request that a probe sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// To whom. Its fields stand among the request's own.
    #[serde(flatten)]
    pub source: Source,
    /// The method, in capitals.
    #[serde(default = "get")]
    pub method: String,
    /// The body, as it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

fn get() -> String {
    "GET".into()
}

impl Request {
    /// A GET of a URL.
    #[must_use]
    pub fn bare(url: String) -> Self {
        Self {
            source: Source::bare(url),
            method: get(),
            body: None,
        }
    }
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
    /// What becomes of an attempt without an answer.
    #[serde(default, skip_serializing_if = "Trouble::is_default")]
    pub trouble: Trouble,
}
