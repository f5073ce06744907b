//! Something that a target has a limited number of is used up.

use super::disk::FolderPath;
use crate::units::Percent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Exhausted {
    /// Processes and threads, up to the limit of the target's cgroup (`pids.max`).
    Pids,
    /// TCP ports for outgoing connections (`ip_local_port_range`), in the target's network namespace.
    Ports,
    /// Files that a file system can have.
    Inodes,
    /// Memory up to the limit of the target's cgroup, in pages, by a file that is kept in it.
    PageCache,
    /// Connections that can be tracked (`nf_conntrack_max`), in the target's network namespace.
    Conntrack,
}

impl Exhausted {
    /// All that can be used up, in the order in which it is declared.
    pub const ALL: [Self; 5] = [
        Self::Pids,
        Self::Ports,
        Self::Inodes,
        Self::PageCache,
        Self::Conntrack,
    ];

    /// The word for it in a file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pids => "pids",
            Self::Ports => "ports",
            Self::Inodes => "inodes",
            Self::PageCache => "pageCache",
            Self::Conntrack => "conntrack",
        }
    }
}

/// How much is left over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ExhaustGoal {
    /// So many.
    Leave(u32),
    /// What is left when this share of the limit is in use.
    To(Percent),
}

impl Default for ExhaustGoal {
    fn default() -> Self {
        Self::Leave(0)
    }
}

impl ExhaustGoal {
    /// How many are left over of so many.
    #[must_use]
    pub fn leaves(self, limit: u64) -> u64 {
        match self {
            Self::Leave(number) => u64::from(number),
            Self::To(share) => {
                let used = u128::from(limit) * u128::from(share.get()) / 1_000_000;
                limit - u64::try_from(used).unwrap_or(limit).min(limit)
            }
        }
    }
}

/// What follows the word for what is used up; nothing where nothing is left over.
impl fmt::Display for ExhaustGoal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leave(0) => Ok(()),
            Self::Leave(number) => write!(f, " but for {number}"),
            Self::To(share) => write!(f, " to {share}"),
        }
    }
}

/// Something that a target has a limited number of is used up, all but a rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exhaust {
    /// What.
    pub what: Exhausted,
    /// How much is left over; nothing where nothing is said.
    #[serde(default)]
    pub goal: ExhaustGoal,
    /// A folder on the file system whose inodes, or files in memory, are meant; with [`Exhausted::Inodes`] and
    /// [`Exhausted::PageCache`], and only there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<FolderPath>,
}

impl fmt::Display for Exhaust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            Exhausted::PageCache => write!(f, "exhaust page cache")?,
            what => write!(f, "exhaust {}", what.word())?,
        }
        if let Some(path) = &self.path {
            write!(f, " at {path}")?;
        }
        self.goal.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The schema has each variant by itself, and so knows of one that the list does not.
    #[test]
    fn nothing_that_can_be_used_up_is_missing_in_the_list() {
        let schema = schemars::schema_for!(Exhausted).to_value();
        let each = schema["oneOf"].as_array().into_iter().flatten();
        let declared: Vec<_> = each.map(|one| one["const"].clone()).collect();
        let listed = Exhausted::ALL.map(|what| serde_json::json!(what.word()));
        assert_eq!(declared, listed, "{schema}");
    }

    #[test]
    fn a_share_in_use_leaves_the_rest() {
        let to = |text: &str| text.parse().map(ExhaustGoal::To);
        assert_eq!(to("95%").map(|goal| goal.leaves(200)), Ok(10));
        assert_eq!(to("100%").map(|goal| goal.leaves(u64::MAX)), Ok(0));
        assert_eq!(to("0%").map(|goal| goal.leaves(200)), Ok(200));
        assert_eq!(ExhaustGoal::default().leaves(200), 0);
    }
}
