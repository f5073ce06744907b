//! A step that goes on hitting what its target means, as that changes while it holds.

use crate::units::Interval;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The target is looked for again and again: what replaces a target that ended, or is new and matches, is hit too, and
/// what ended is let go without ending the run. The share is always that of what matches now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Follow {
    /// How often it is looked for; 1s where nothing is said.
    #[serde(default = "Follow::every_default")]
    pub every: Interval,
    /// Never more targets than this at once, however many match; only the share limits them where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u32>,
}

impl Follow {
    /// A look through a node's processes takes some milliseconds, and a container some hundred to come back.
    #[must_use]
    pub fn every_default() -> Interval {
        Interval::clamped(Duration::from_secs(1))
    }
}

impl Default for Follow {
    fn default() -> Self {
        Self {
            every: Self::every_default(),
            at_most: None,
        }
    }
}
