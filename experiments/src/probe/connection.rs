//! What every probe that asks over the network can say: how it proves who it is, whom it trusts, and what becomes
//! of an attempt that got no answer.

use crate::secret::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whom TLS trusts, and who it says it is. Paths are the controller's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tls {
    /// A PEM file with the certificates to trust, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// A PEM file with the client's own certificate and those between it and its authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<String>,
    /// A PEM file with the private key of `cert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The name that the other side's certificate must have, where it is not the host that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// How a probe proves who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Auth {
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer(SecretRef),
    /// `Authorization: Basic …` (RFC 7617).
    Basic(Basic),
}

/// A user and a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Basic {
    /// The user, without a colon.
    pub user: String,
    /// Where the password is.
    pub password: SecretRef,
}

/// What an attempt is that could not speak to its source at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnError {
    /// A violation, with what went wrong as its reason.
    #[default]
    Violation,
    /// No sample. No data at all is still a violation.
    Ignore,
}

/// What becomes of an attempt that could not speak to its source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trouble {
    /// So many more tries before it counts. All of them together are one attempt and share its timeout evenly.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// What it is when no try got through.
    #[serde(default, skip_serializing_if = "is_violation")]
    pub on_error: OnError,
}

impl Trouble {
    /// More tries than this hide a system that is down half of the time.
    pub const RETRIES_MAX: u32 = 5;

    /// Whether nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(retries: &u32) -> bool {
    *retries == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_violation(on_error: &OnError) -> bool {
    *on_error == OnError::Violation
}
