//! What controller and agent say to each other: one JSON message per WebSocket text frame.
//!
//! The agent dials, says [`FromAgent::Hello`] and waits for [`FromController::Welcome`]. After that either
//! side speaks when it has something to say. Every message about a fault names it, and saying it twice is
//! saying it once: a message that is repeated after a lost link does no harm. What versions that differ make of each other is in [`skew`].

pub mod skew;
mod terms;

pub use skew::{PROTOCOL, PROTOCOL_LEAST};
pub use terms::{Superseded, Terms};

use crate::capability::{Capabilities, Means};
use crate::dose::{Dose, Evidence};
use crate::fault::{Fault, FaultKind, Holding};
use crate::filter::Found;
use crate::ids::{FaultId, RunId, TargetId};
use crate::join::Labels;
use crate::pulse::Pulse;
use crate::target::{Candidate, Target};
use crate::units::Lease;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most bytes one message may have. A node with 10,000 candidates answers in under 4 MiB.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// What a controller says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FromController {
    /// The answer to `Hello`.
    Welcome(Welcome),
    /// What is there to hit?
    Resolve(Resolve),
    /// Inject a fault.
    Arm(Arm),
    /// The faults that stay, for another lease from now.
    Renew(Renew),
    /// End faults. Overtakes everything, is never refused.
    Stop(Stop),
    /// Hosts of a cluster have moved: the run's live faults go with them.
    Moved(Moved),
}

/// The answer to `Hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// The version that both speak; where there is none, the newest that the controller does, and the link ends.
    pub protocol: u32,
    /// The oldest that the controller speaks; `protocol` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_least: Option<u32>,
    /// The controller's own version.
    #[serde(default)]
    pub version: String,
    /// Processes of the controller on this node, which no fault may hit.
    #[serde(default)]
    pub spare_pids: Vec<u32>,
    /// In which term it leads, where others may lead, too: each leader's is higher than the one before. See [`Terms`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
}

/// What is there to hit?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolve {
    /// Repeated in the answer.
    pub request: u64,
    /// What is looked for.
    pub target: Target,
    /// What will be done to it: some faults cannot hit some targets, and it is better to know before.
    pub faults: Vec<FaultKind>,
}

/// Inject a fault. With a field that it does not know an agent does not arm: half of what was asked for is another fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Arm {
    /// Its name.
    pub id: FaultId,
    /// The run it belongs to.
    pub run: RunId,
    /// What.
    pub fault: Fault,
    /// Into what: a candidate of an earlier `Resolved`.
    pub target: TargetId,
    /// For how long without another word.
    pub lease: Lease,
    /// What random decisions start from, so that a run can be repeated.
    pub seed: u64,
    /// Only by this means, or not at all; the agent chooses where nothing is said. Both means are held to the
    /// same promises, and this is how that is tested where a kernel has both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub means: Option<Means>,
    /// It comes and goes, by the holder's own clock; it stays where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulse: Option<Pulse>,
    /// Where the hosts are that a cluster names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<Found>,
}

/// Hosts of a cluster have moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// Whose faults are meant.
    pub run: RunId,
    /// Where all of them are now.
    pub found: Vec<Found>,
}

/// The faults that stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Renew {
    /// Which.
    pub faults: Vec<FaultId>,
    /// For how long from now.
    pub lease: Lease,
}

/// Which faults are to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stop {
    /// These.
    Faults(Vec<FaultId>),
    /// All of a run.
    Run(RunId),
    /// Everything on the node.
    All,
    /// All but those of these runs: what a controller that has come back knows nothing of.
    Others(Vec<RunId>),
}

/// What an agent says. Times are microseconds since the Unix epoch by the agent's clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FromAgent {
    /// The first word.
    Hello(Hello),
    /// The answer to `Resolve`.
    Resolved(Resolved),
    /// In force: the kernel said so.
    Armed(Armed),
    /// Not injected, and nothing is in force.
    Refused(Refused),
    /// What it did so far; with each renewal of its lease, and each second where none come.
    Dosed(Dosed),
    /// Gone: the kernel said so.
    Ended(Ended),
    /// It should be gone and cannot be shown gone; said again until it is.
    Stuck(Stuck),
}

/// The first word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// The newest version the agent speaks.
    pub protocol: u32,
    /// The oldest; `protocol` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_least: Option<u32>,
    /// The agent's own version.
    pub version: String,
    /// The node's name.
    pub node: String,
    /// The agent's process id.
    pub pid: u32,
    /// What the node can do.
    pub capabilities: Capabilities,
    /// What the node is labelled with: its zone, its pool.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// The answer to `Resolve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// The number of the question.
    pub request: u64,
    /// What was found and is now held on to.
    pub candidates: Vec<Candidate>,
    /// What matched and cannot be hit, each with the reason.
    pub excluded: Vec<Excluded>,
}

/// Something that matched and is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Excluded {
    /// What, for people.
    pub label: String,
    /// Why, in a sentence.
    pub reason: String,
}

/// In force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Armed {
    /// Which fault.
    pub id: FaultId,
    /// The holder's process id.
    pub holder: u32,
    /// What the kernel answered.
    pub evidence: Evidence,
    /// What takes it back when its holder dies; the kernel where nothing is said.
    #[serde(default, skip_serializing_if = "Holding::is_kernel")]
    pub held: Holding,
    /// When it was read back.
    pub at_us: u64,
    /// How long that took from the receipt of `Arm`, in microseconds.
    pub took_us: u64,
}

/// Not injected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// Which fault.
    pub id: FaultId,
    /// Why, in a sentence, with what to do.
    pub reason: String,
    /// The node said no on purpose (policy, protection): trying again is no use.
    pub denied: bool,
    /// What it was to be injected into is no longer there.
    #[serde(default)]
    pub gone: bool,
}

/// What a fault did so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dosed {
    /// Which fault.
    pub id: FaultId,
    /// What it did.
    pub dose: Dose,
    /// When that was read.
    pub at_us: u64,
}

/// What ended a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EndCause {
    /// The controller said stop, or the agent is shutting down.
    Stopped,
    /// No word from the controller within the lease.
    LeaseEnded,
    /// Its holder was killed by somebody or something else.
    HolderKilled(String),
    /// What it was aimed at is gone.
    TargetGone,
    /// It was done: a kill that happens once.
    Done,
    /// The holder could not go on.
    Failed(String),
}

/// Gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// Which fault.
    pub id: FaultId,
    /// What ended it.
    pub cause: EndCause,
    /// All that it did, where the holder could still say.
    pub dose: Option<Dose>,
    /// When it was seen gone.
    pub at_us: u64,
    /// How long that took from the receipt of `Stop`, in microseconds, where there was one.
    pub took_us: Option<u64>,
    /// How long it was in force, from when that was read back, in microseconds of a clock that nobody sets; not said by agents before this
    /// was known, nor by one that began after the fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasted_us: Option<u64>,
}

/// Not shown gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stuck {
    /// Which fault.
    pub id: FaultId,
    /// What was tried and what is still there.
    pub reason: String,
}
