//! Lines that a program writes.

use super::connection::Trouble;
use super::every_default;
use crate::units::Interval;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A file that is followed from its end; how many of its new lines match, per second, is `value`. Success is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Log {
    /// The file, on the controller's machine. It may be rotated and truncated.
    pub file: String,
    /// A regular expression, found anywhere in a line.
    pub pattern: String,
    /// How often it is looked at.
    #[serde(default = "every_default")]
    pub every: Interval,
    /// What it is when the file cannot be read.
    #[serde(default, skip_serializing_if = "Trouble::is_default")]
    pub trouble: Trouble,
}
