//! A process that runs out of file descriptors.

use super::exhaust::ExhaustGoal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Processes can open but a rest of descriptors more: whatever would give them another one (`open`, `socket`, `accept`, …) fails with
/// `EMFILE` then. Their soft limit (`RLIMIT_NOFILE`) is lowered, which the kernel does not undo by itself: see
/// [`super::Holding::Journal`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fds {
    /// How many can still be opened, or the share of each process's soft limit that is in use then; none can be where nothing is said.
    #[serde(default)]
    pub goal: ExhaustGoal,
}

impl fmt::Display for Fds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fds{}", self.goal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shown_as_a_person_would_say_it() {
        let fds = |goal| Fds { goal }.to_string();
        assert_eq!(Fds::default().to_string(), "fds");
        assert_eq!(fds(ExhaustGoal::Leave(10)), "fds but for 10");
        let share = "95%".parse().map(ExhaustGoal::To);
        assert_eq!(share.map(fds).as_deref(), Ok("fds to 95%"));
    }
}
