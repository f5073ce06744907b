//! Secrets by reference: an experiment says where a secret is found, and never what it is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where the controller finds a secret when a run starts. The value itself is in no file, digest, event or report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SecretRef {
    /// In the controller's environment, under this name.
    Env(String),
    /// In this file, without the line break at its end.
    File(String),
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "the environment variable `{name}`"),
            Self::File(path) => write!(f, "the file `{path}`"),
        }
    }
}

/// A text that stands in the file, or a secret that does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Said {
    /// As the file says it.
    Plain(String),
    /// Somewhere else.
    Secret(SecretRef),
}
