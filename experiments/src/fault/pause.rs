//! Processes that stand still.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Every thread of the target stands still; what is sent to it meanwhile reaches it afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pause {}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pause")
    }
}
