//! The fault on requests: some HTTP requests are refused, late, cut short or changed.

use super::dns::{all, list, share};
use crate::filter::Filter;
use crate::pattern::Pattern;
use crate::units::{ByteSize, Delay, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Requests over HTTP/1.1 and unencrypted HTTP/2 are aborted, late, cut short or changed; all others pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Http {
    /// What happens to a request.
    pub effect: HttpEffect,
    /// Which requests. In a box, so that faults that say less are not as large.
    #[serde(default)]
    pub requests: Box<Requests>,
    /// The share of these requests that is hit, each drawn on its own.
    #[serde(default = "all")]
    pub share: Percent,
    /// Which connections; their port must be named.
    #[serde(default)]
    pub filter: Filter,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum HttpEffect {
    /// It is answered with this status and never reaches the service.
    Abort(Status),
    /// It goes on, late.
    Delay(Delay),
    /// Its answer ends after so many bytes of its body.
    Truncate(ByteSize),
    /// Its connection is reset instead of an answer (HTTP/2: its stream).
    Reset,
    /// Headers are set, over what they were.
    Replace(Replace),
}

/// Headers to set; an old value is replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Replace {
    /// On the way to the service.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub request: BTreeMap<String, String>,
    /// On the way back.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub response: BTreeMap<String, String>,
}

impl Replace {
    /// What frames a message or belongs to one connection: with another value it would be another message.
    pub const FIXED: [&str; 8] = [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
}

/// Which requests: those that match everything that is said, and of each list anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Requests {
    /// Methods, in capitals.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Paths, without the query.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<Pattern>,
    /// Hosts as the request names them, without regard to case, without the port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Pattern>,
    /// Headers and what their value is like.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Pattern>,
}

/// A status that ends a request: from 200 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Status(u16);

impl Status {
    /// The lowest: what is below does not end a request.
    pub const LEAST: u16 = 200;
    /// The highest that RFC 9110 knows a class for.
    pub const MOST: u16 = 599;

    /// None outside the limits.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number < Self::LEAST || number > Self::MOST {
            None
        } else {
            Some(Self(number))
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Status {
    type Error = String;
    fn try_from(number: u16) -> Result<Self, String> {
        Self::new(number).ok_or_else(|| {
            format!(
                "{number} is not a status from {} to {}",
                Self::LEAST,
                Self::MOST
            )
        })
    }
}

impl From<Status> for u16 {
    fn from(status: Status) -> Self {
        status.0
    }
}

impl JsonSchema for Status {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Status".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": Self::LEAST, "maximum": Self::MOST, "description": "An HTTP status" })
    }
}

impl fmt::Display for HttpEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Abort(status) => write!(f, "abort {}", status.get()),
            Self::Delay(time) => write!(f, "delay {time}"),
            Self::Truncate(size) => write!(f, "truncate after {size}"),
            Self::Reset => f.write_str("reset"),
            Self::Replace(replace) => {
                f.write_str("replace ")?;
                let names = replace.request.keys().chain(replace.response.keys());
                list(f, names)
            }
        }
    }
}

/// `http abort 503 of GET /orders/*`; the filter is said by whoever shows the fault.
impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http {}", self.effect)?;
        let Requests {
            methods,
            paths,
            hosts,
            headers,
        } = &*self.requests;
        if !methods.is_empty() || !paths.is_empty() {
            f.write_str(" of ")?;
            list(f, methods.iter())?;
            f.write_str(if methods.is_empty() || paths.is_empty() {
                ""
            } else {
                " "
            })?;
            list(f, paths.iter())?;
        }
        if !hosts.is_empty() {
            f.write_str(" for ")?;
            list(f, hosts.iter())?;
        }
        if !headers.is_empty() {
            f.write_str(" with ")?;
            list(f, headers.keys())?;
        }
        share(f, self.share)
    }
}
