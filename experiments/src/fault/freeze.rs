//! A cgroup that stands still.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Every process of the cgroup and of those below it stands still; what is sent to it meanwhile reaches it afterwards.
/// The kernel's freezer does it, and does not undo it by itself: see [`super::Holding::Journal`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Freeze {}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("freeze")
    }
}
