//! What the agent and one holder say to each other: a JSON message each, over [`crate::kernel::channel`].

use super::strain;
use crate::inventory::containers::Sockets;
use crate::kernel::net::nft::expr::QueueMeans;
use serde::{Deserialize, Serialize};
use squall_experiments::capability::Means;
use squall_experiments::dose::{Dose, Evidence};
use squall_experiments::fault::Fault;
use squall_experiments::filter::ResolvedFilter;
use squall_experiments::ids::FaultId;
use squall_experiments::pulse::Pulse;
use squall_experiments::target::{ProcessSelector, Target};
use squall_experiments::wire::EndCause;
use std::path::PathBuf;

/// What the agent says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ToHolder {
    /// Always the first, with the target's descriptors attached.
    Hold(Box<HoldSpec>),
    /// Another lease from now.
    Renew {
        /// How long.
        lease_ms: u64,
    },
    /// New addresses for the fault's names.
    Update(ResolvedFilter),
    /// Take it back and end.
    Stop,
}

/// What a holder says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum FromHolder {
    /// The process that will hold the next pulse; said before it is told what to hold.
    Beat {
        /// Its pid.
        pid: u32,
    },
    /// In force: the kernel said so.
    Armed(Evidence),
    /// With each renewal, and each second where none come.
    Dose(Dose),
    /// The last word after `Armed`.
    Ended {
        /// Why.
        cause: EndCause,
        /// All that it did.
        dose: Option<Dose>,
    },
    /// The last word before `Armed`: nothing is in force.
    Failed {
        /// Why, in a sentence.
        reason: String,
    },
}

/// All that a holder needs to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HoldSpec {
    /// The fault's name.
    pub(crate) id: FaultId,
    /// The agent's pid: whoever else is the parent means that the agent is gone.
    pub(crate) parent: u32,
    /// How long without another word.
    pub(crate) lease_ms: u64,
    /// What random decisions start from.
    pub(crate) seed: u64,
    /// What.
    pub(crate) fault: Fault,
    /// By which means.
    pub(crate) means: Means,
    /// Which packets, for those that touch packets.
    pub(crate) filter: ResolvedFilter,
    /// The way into a queue that works on this node, where one does.
    pub(crate) queue: Option<QueueMeans>,
    /// The attached descriptors, in their order.
    pub(crate) attached: Vec<Attached>,
    /// Whether only packets are hit that belong to the attached processes or groups.
    #[serde(default)]
    pub(crate) owned: bool,
    /// For a crash loop: what else may be hit; for it and for a pause: what never.
    pub(crate) prey: Option<Prey>,
    /// It comes and goes.
    #[serde(default)]
    pub(crate) pulse: Option<Pulse>,
    /// For one pulse: the holder whose name the kernel's objects bear, so that whoever asks what is left of *that* finds
    /// them.
    #[serde(default)]
    pub(crate) on_behalf_of: Option<u32>,
    /// How much the node may suffer before a fault that presses gives way.
    #[serde(default)]
    pub(crate) pressure: strain::Limits,
    /// For those that a journal holds: its folder.
    pub(crate) journal: Option<PathBuf>,
}

/// What one attached descriptor is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Attached {
    /// A pidfd of the target's; the fault ends with the last of them.
    Process {
        /// For messages.
        pid: u32,
    },
    /// The network namespace to enter.
    Netns,
    /// The directory of the target's cgroup in one hierarchy.
    Cgroup {
        /// v1: the hierarchy's controllers; v2: empty.
        controllers: Vec<String>,
        /// Where it is, for messages.
        path: String,
    },
}

/// Which processes a crash loop, or a fault on all of a group, may hit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Prey {
    /// What they must match; none where only the one process was named.
    pub(crate) selector: Option<ProcessSelector>,
    /// Where the target is a container: how what takes its place is found.
    #[serde(default)]
    pub(crate) places: Option<Places>,
    /// Processes that are never hit.
    pub(crate) spare_pids: Vec<u32>,
    /// Names that the node's policy protects.
    pub(crate) spare_names: Vec<String>,
    /// Units that it protects.
    pub(crate) spare_units: Vec<String>,
}

/// How what takes a killed container's place is found: its runtime is asked again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Places {
    /// What it must match.
    pub(crate) target: Target,
    /// Whom to ask.
    pub(crate) sockets: Sockets,
    /// What the target has in common with itself after a restart.
    pub(crate) kin: String,
    /// The same of those beside it, which are not meant; none where there are too many to say.
    pub(crate) siblings: Option<Vec<String>>,
    /// Namespaces of Kubernetes that the policy protects.
    pub(crate) spare_namespaces: Vec<String>,
}
