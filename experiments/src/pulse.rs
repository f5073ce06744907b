//! A fault that comes and goes while its step holds.

use crate::fault::FaultKind;
use crate::units::Hold;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// In force for `on`, really absent for `off`, over and over; `on` comes first. 100ms to 2h each: a fault takes
/// milliseconds to come and to go, and a shorter beat would be mostly that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pulse {
    /// How long it is in force each time.
    pub on: Hold,
    /// How long it is absent in between.
    pub off: Hold,
}

impl fmt::Display for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on and {} off", self.on, self.off)
    }
}

impl FaultKind {
    /// Whether it can come and go. A kill is over in an instant, and nothing of it can be taken back.
    #[must_use]
    pub const fn can_pulse(self) -> bool {
        !matches!(self, Self::Kill) && !self.is_for_good()
    }
}
