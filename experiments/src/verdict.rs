//! How a run ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The hypothesis stood.
    Held,
    /// It did not: a weakness was found.
    Broken,
    /// Nothing can be said: no data, too few samples, dose not in force, agent lost.
    Inconclusive,
    /// A gate said no; nothing was injected.
    Refused,
    /// A person stopped it.
    Halted,
}

impl Verdict {
    /// The process exit code of anything that ends in this verdict (2 is bad input).
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Held => 0,
            Self::Broken => 1,
            Self::Inconclusive => 3,
            Self::Refused => 4,
            Self::Halted => 5,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "held",
            Self::Broken => "broken",
            Self::Inconclusive => "inconclusive",
            Self::Refused => "refused",
            Self::Halted => "halted",
        })
    }
}
