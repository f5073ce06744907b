//! A run, from a checked experiment to a verdict.

mod at_hand;
mod awake;
pub mod budget;
mod crew;
pub mod desk;
mod drive;
mod ends;
mod faults;
mod follow;
mod gate;
mod halt;
mod joining;
mod looking;
pub mod machine;
mod nodes;
mod places;
mod planning;
mod reach;
mod record;
mod stand_still;
mod turns;
mod verdict;
mod watch;

#[cfg(test)]
mod budget_tests;
#[cfg(test)]
mod control_tests;
#[cfg(test)]
mod crowd_tests;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod fleet_tests;
#[cfg(test)]
mod follow_tests;
#[cfg(test)]
mod inherit_tests;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

pub use drive::{here, plan_here};
pub use halt::{Halt, Halting, Urgency, Who};
pub use planning::Planned;
pub use reach::Reach;
pub use record::Feed;
pub use stand_still::{Halted, StandStill};

use crate::fleet::FleetError;
use crate::probe::ProbeError;
use squall_experiments::event::{Event, Finished};
use squall_experiments::experiment::Experiment;
use squall_experiments::ids::RunId;

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Order {
    /// The name of the run; see [`new_id`].
    pub run: RunId,
    /// The checked experiment.
    pub experiment: Experiment,
    /// The file as it was read.
    pub file_text: String,
    /// Where it was read from.
    pub file_path: String,
    /// SHA-256 over what the file does, in hex.
    pub digest: String,
    /// What random decisions start from.
    pub seed: u64,
    /// Where it runs, and who started it, where it is a controller's.
    pub environment: Option<String>,
    /// See `environment`.
    pub by: Option<String>,
}

/// A run that ended in a verdict, with all that happened in it, in order: what a report is made of.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Everything that happened.
    pub events: Vec<Event>,
    /// The last of it.
    pub finished: Finished,
}

/// How many events a slow reader of the feed may fall behind before it loses the oldest: minutes of a run
/// with ten probes.
pub const FEED_EVENTS_MAX: usize = 8192;

/// Why there was no run at all. Whatever goes wrong later is a verdict.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A probe cannot begin: the file is at fault.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// There is no agent.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// A mistake of this program.
    #[error("the run ended without a verdict; please report this with its events")]
    NoVerdict,
}

/// A name for a new run: the time it was created, so that runs sort, and a few random letters, so that two
/// created at once differ.
#[must_use]
pub fn new_id() -> RunId {
    const RANDOM_MAX: u32 = 1 << 20;
    let time = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    RunId(format!("{time}-{:05x}", rand::random_range(0..RANDOM_MAX)))
}

/// A seed that a person can type again, and that every JSON reader keeps exactly.
#[must_use]
pub fn drawn_seed() -> u64 {
    u64::from(rand::random::<u32>())
}
