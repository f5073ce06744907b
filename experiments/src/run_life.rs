//! The life of a run.
//!
//! ```text
//!  Planned ─▶ Gated ─▶ Baseline ─▶ Injecting(0) ─▶ … ─▶ Injecting(n) ─▶ Recovering ─▶ Finished
//!     │         │          │             │                    │              ▲
//!     │         │          └─────────────┴───── stop ─────────┴──────────────┘
//!     └─────────┴───────────────── refused, stopped ──────────────────────────────────▶ Finished
//! ```
//!
//! - **Planned**: targets are resolved and drawn; nothing has been touched.
//! - **Gated**: the gates said yes.
//! - **Baseline**: the steady state is watched, nothing is injected.
//! - **Injecting(stage)**: the faults of a stage of the ramp are in force.
//! - **Recovering**: every fault has been told to end; the steady state must come back. Stop leads here from
//!   anywhere after the gate, even from the baseline: what may have been touched is checked.
//! - **Finished**: a verdict stands.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a run is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RunState {
    /// Targets are resolved and drawn.
    Planned,
    /// Allowed to start.
    Gated,
    /// Watching, before anything is injected.
    Baseline,
    /// The faults of this stage (counted from 0 over all steps' ramps) are in force.
    Injecting(u32),
    /// The faults are told to end; the steady state must come back.
    Recovering,
    /// Over.
    Finished,
}

/// What can happen to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunEvent {
    /// The gates said yes.
    Allowed,
    /// The gates said no.
    Refused,
    /// The first probe runs.
    Observing,
    /// The next stage begins; the number must be the next one.
    Inject(u32),
    /// The method is through, or something or somebody wants the run to end.
    Stop,
    /// The verdict is in.
    Finish,
}

/// An event that cannot happen in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a run that is {state:?} cannot be told {event:?}")]
pub struct IllegalRun {
    /// Where it was.
    pub state: RunState,
    /// What was said.
    pub event: RunEvent,
}

impl RunState {
    /// The only way from one state to another.
    ///
    /// # Errors
    /// An event that makes no sense in this state, naming both.
    pub const fn next(self, event: RunEvent) -> Result<Self, IllegalRun> {
        use RunEvent as E;
        match (self, event) {
            (Self::Planned, E::Allowed) => Ok(Self::Gated),
            (Self::Planned | Self::Gated, E::Refused | E::Stop) => Ok(Self::Finished),
            (Self::Gated, E::Observing) => Ok(Self::Baseline),
            (Self::Baseline, E::Inject(0)) => Ok(Self::Injecting(0)),
            (Self::Injecting(stage), E::Inject(next)) if matches!(stage.checked_add(1), Some(expected) if expected == next) => {
                Ok(Self::Injecting(next))
            }
            // Stop is never refused.
            (Self::Baseline | Self::Injecting(_) | Self::Recovering, E::Stop) => {
                Ok(Self::Recovering)
            }
            (Self::Recovering, E::Finish) => Ok(Self::Finished),
            (Self::Finished, E::Stop) => Ok(Self::Finished),
            _ => Err(IllegalRun { state: self, event }),
        }
    }
}
