//! The life of one fault, as the controller and the agent both see it.
//!
//! ```text
//!            armed            stop                 ended
//!   Arming ─────────▶ Armed ─────────▶ Stopping ─────────▶ Ended
//!     │ denied, failed  │ ended (lease, killed,     │
//!     ▼                 ▼  target gone)             │ not shown gone in time
//!   Refused           Ended                         ▼
//!                                                 Stuck ── ended ──▶ Ended
//! ```
//!
//! - A fault that is being armed can be stopped; it then ends or is refused, whichever comes first.
//! - `Stuck` is not an end: it is said loudly until the kernel shows the fault gone.
//! - `Ended` and `Refused` take no further event but repetitions of their own, which change nothing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a fault is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FaultState {
    /// Asked for; not yet read back from the kernel.
    Arming,
    /// In force: the kernel said so.
    Armed,
    /// Told to end.
    Stopping,
    /// Told to end, and not shown gone in time.
    Stuck,
    /// Gone: the kernel said so.
    Ended,
    /// Never was.
    Refused,
}

/// What can happen to a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultEvent {
    /// The holder read it back from the kernel.
    Armed,
    /// Admission or the holder said no, and nothing is in force.
    Refused,
    /// Somebody wants it gone.
    Stop,
    /// It is gone, whatever ended it.
    Ended,
    /// It should be gone and nobody can show it.
    NotShownGone,
}

/// An event that cannot happen in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fault that is {state:?} cannot be told {event:?}")]
pub struct IllegalFault {
    /// Where it was.
    pub state: FaultState,
    /// What was said.
    pub event: FaultEvent,
}

impl FaultState {
    /// The only way from one state to another.
    ///
    /// # Errors
    /// An event that makes no sense in this state, naming both.
    pub const fn next(self, event: FaultEvent) -> Result<Self, IllegalFault> {
        use FaultEvent as E;
        match (self, event) {
            (Self::Arming, E::Armed) => Ok(Self::Armed),
            (Self::Arming | Self::Refused, E::Refused) => Ok(Self::Refused),
            (Self::Stopping, E::Refused) => Ok(Self::Refused),
            (Self::Arming | Self::Armed | Self::Stopping, E::Stop) => Ok(Self::Stopping),
            // Armed was on its way while stop was: the stop still stands.
            (Self::Stopping, E::Armed) => Ok(Self::Stopping),
            (Self::Armed, E::Armed) => Ok(Self::Armed),
            (Self::Stuck, E::Stop) => Ok(Self::Stuck),
            (Self::Ended, E::Stop) => Ok(Self::Ended),
            (Self::Refused, E::Stop) => Ok(Self::Refused),
            (Self::Arming | Self::Armed | Self::Stopping | Self::Stuck | Self::Ended, E::Ended) => {
                Ok(Self::Ended)
            }
            (Self::Arming | Self::Armed | Self::Stopping | Self::Stuck, E::NotShownGone) => {
                Ok(Self::Stuck)
            }
            _ => Err(IllegalFault { state: self, event }),
        }
    }

    /// Whether it may be acting on the target.
    #[must_use]
    pub const fn may_act(self) -> bool {
        matches!(
            self,
            Self::Arming | Self::Armed | Self::Stopping | Self::Stuck
        )
    }
}
