//! Lines that a program writes.

use super::connection::Trouble;
use super::every_default;
use crate::units::Interval;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A log that is followed from its end; how many of its new lines match, per second, is `value`. Success is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    /// Where the lines are.
    #[serde(flatten)]
    pub of: Lines,
    /// A regular expression, found anywhere in a line.
    pub pattern: String,
    /// How often it is looked at.
    #[serde(default = "every_default")]
    pub every: Interval,
    /// What it is when they cannot be read.
    #[serde(default, skip_serializing_if = "Trouble::is_default")]
    pub trouble: Trouble,
}

/// Where lines are, on the controller's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Lines {
    /// A file. It may be rotated and truncated.
    File(String),
    /// systemd's journal, of which each message is a line.
    Journal {
        /// The unit that wrote it, or that systemd wrote it about.
        unit: String,
        /// Where the journal's files are; journald's two folders where nothing is said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folder: Option<String>,
    },
}
