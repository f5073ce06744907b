//! What takes a fault back when everything of Squall that knows of it has died.

use super::FaultKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What takes a fault back when its holder dies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Holding {
    /// The kernel, with the object that the holder owned: nothing needs to be done, and nothing can be forgotten.
    #[default]
    Kernel,
    /// A journal: what was before is written down first, and put back by a guard process, by the agent, or by the next
    /// agent before it serves. Where guard and agent are killed at once it stays until then, and so a node forbids it
    /// unless its policy says otherwise.
    Journal,
    /// Nothing: the node itself ends. Forbidden like the one before, said in a word of its own where it is asked for, done
    /// once in a run, and shown to be wanted for a moment longer before it is done.
    Nothing,
}

impl Holding {
    /// Whether it is the kernel's, as with nearly all: the others are said, this is not.
    #[must_use]
    pub const fn is_kernel(&self) -> bool {
        matches!(self, Self::Kernel)
    }

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Journal => "journal",
            Self::Nothing => "nothing",
        }
    }
}

impl FaultKind {
    /// What takes a fault of this kind back when its holder dies.
    #[must_use]
    pub const fn holding(self) -> Holding {
        match self {
            Self::Freeze | Self::NicDown | Self::Fds => Holding::Journal,
            Self::Reboot | Self::Shutdown => Holding::Nothing,
            _ => Holding::Kernel,
        }
    }
}
