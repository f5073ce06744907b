//! What a node can inject, by which means, and why not where it cannot.

use crate::fault::{FaultKind, Holding};
use crate::wire::skew::known;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// By which means a network fault is held.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Means {
    /// Matched packets are led through an ifb with netem (Linux 5.16 with `sch_netem`).
    Detour,
    /// Matched packets are queued to the holder, which treats them in user space.
    Queue,
    /// nftables alone drops or rejects.
    Nftables,
    /// A process in the target's cgroup, or a signal.
    Process,
    /// Matched traffic is led to the holder, which reads it, and answers it or sends it on.
    Redirect,
    /// A setting of the kernel's is changed, and a journal knows what it was.
    Journal,
}

/// One thing a node can or cannot do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capability {
    /// Which fault.
    pub fault: FaultKind,
    /// By which means, the preferred one first; empty when it cannot. Those of a newer agent that are not known here are left out.
    #[serde(deserialize_with = "known")]
    pub means: Vec<Means>,
    /// What takes it back when its holder dies; the kernel where nothing is said.
    #[serde(default, skip_serializing_if = "Holding::is_kernel")]
    pub held: Holding,
    /// Why not, or what is limited, and what would help. One sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// All that an agent found out by trying.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// The kernel's release.
    pub kernel: String,
    /// `v1`, `v2` or `hybrid`.
    pub cgroup: String,
    /// One entry per kind of fault that is known here; a newer agent may have more.
    #[serde(deserialize_with = "known")]
    pub faults: Vec<Capability>,
    /// Its faults are aimed at services and pods of a cluster, and go with them; an agent that does not say so knows none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cluster_ends: bool,
}

impl Capabilities {
    /// What is known of one kind.
    #[must_use]
    pub fn of(&self, kind: FaultKind) -> Option<&Capability> {
        self.faults.iter().find(|c| c.fault == kind)
    }
}
