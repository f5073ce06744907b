//! What a fault really did, measured where it acts, and the evidence that it is in force.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod idle;
mod sum;

/// What was done so far, cumulative since the fault was armed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Dose {
    /// Packets.
    Network(NetworkDose),
    /// Processor time.
    Cpu(CpuDose),
    /// Memory.
    Memory(MemoryDose),
    /// Signals.
    Kill(KillDose),
    /// DNS queries.
    Dns(DnsDose),
    /// HTTP requests.
    Http(HttpDose),
    /// Time stood still.
    Pause(PauseDose),
    /// Room on a file system.
    Fill(FillDose),
    /// Reads and writes.
    Io(IoDose),
    /// Whatever there is a limited number of.
    Exhaust(ExhaustDose),
    /// Any of these, of a fault that comes and goes.
    Pulsed(PulsedDose),
    /// A cgroup stood still.
    Freeze(FreezeDose),
    /// TCP connections.
    Tcp(TcpDose),
    /// An interface was down.
    NicDown(NicDownDose),
    /// A node's end was ordered.
    NodeEnd(NodeEndDose),
    /// Processes ran out of descriptors.
    Fds(FdsDose),
}

/// Packets, counted by the kernel (netem, nftables) or by the holder's queue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkDose {
    /// Packets that the fault took hold of.
    pub matched: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Lost on purpose.
    pub dropped: u64,
    /// Made late.
    pub delayed: u64,
    /// The mean of how late they were, in microseconds, where the means can tell.
    pub delay_mean_us: Option<f64>,
    /// Sent twice.
    pub duplicated: u64,
    /// Changed.
    pub corrupted: u64,
    /// Let past others.
    pub reordered: u64,
    /// Refused with an answer.
    pub rejected: u64,
    /// Let through untouched because a limit of the means was reached; not part of the dose.
    pub overflowed: u64,
}

/// How a fault that presses gave way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackOff {
    /// How often.
    pub times: u64,
    /// The share of what was asked for that it may do now, from 0 to 1: it comes back by and by.
    pub share: f64,
    /// Why, the last time, for people.
    pub why: String,
}

/// Processor time burnt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CpuDose {
    /// Processor seconds used.
    pub seconds: f64,
    /// Cores' worth over the last second.
    pub cores: f64,
    /// Cores' worth that was asked for.
    pub cores_asked: f64,
    /// That it gave way to a need of the node's or the target's; none where it never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_off: Option<BackOff>,
}

/// Memory taken.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MemoryDose {
    /// Bytes resident now.
    pub resident_bytes: u64,
    /// Bytes asked for.
    pub asked_bytes: u64,
    /// That it gave way to a need of the node's or the target's; none where it never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_off: Option<BackOff>,
}

/// Signals sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KillDose {
    /// Signals delivered.
    pub sent: u64,
    /// Of those, processes seen to end.
    pub ended: u64,
}

/// DNS queries, counted by the holder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DnsDose {
    /// Queries that came by.
    pub seen: u64,
    /// Of those, hit.
    pub matched: u64,
    /// Answered falsely.
    pub answered: u64,
    /// Left without an answer.
    pub dropped: u64,
    /// Sent on late.
    pub delayed: u64,
    /// Sent on at once, to the resolver they were meant for: not the fault's.
    pub forwarded: u64,
    /// Sent on because too many waited already; not part of the dose.
    pub overflowed: u64,
}

/// HTTP requests, counted by the holder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpDose {
    /// Connections led to the holder.
    pub connections: u64,
    /// Requests read on them.
    pub requests: u64,
    /// Of those, hit.
    pub matched: u64,
    /// Answered with the fault's status.
    pub aborted: u64,
    /// Sent on late.
    pub delayed: u64,
    /// Answers cut short. One that was short enough is not.
    pub truncated: u64,
    /// Ended by a reset.
    pub reset: u64,
    /// Changed.
    pub replaced: u64,
    /// Connections passed through unread because they are encrypted; not part of the dose.
    pub tls_passed: u64,
    /// Connections passed through unread because they speak something else; not part of the dose.
    pub other_passed: u64,
}

/// Threads that stand still.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PauseDose {
    /// Threads that the kernel showed as stopped when they were last looked at.
    pub threads: u64,
    /// The processes they belong to.
    pub processes: u64,
    /// Seconds for which all of them were seen to stand still.
    pub seconds: f64,
}

/// Room taken on a file system.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FillDose {
    /// Bytes that the file takes now.
    pub held_bytes: u64,
    /// Bytes asked for.
    pub asked_bytes: u64,
    /// Bytes that are free now for those without special rights.
    pub free_bytes: u64,
    /// That it gave way to a need of the node's or the target's; none where it never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_off: Option<BackOff>,
}

/// Reads and writes done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IoDose {
    /// Reads.
    pub reads: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Writes, those for a sync not among them.
    pub writes: u64,
    /// Bytes written, those for a sync among them.
    pub written_bytes: u64,
    /// Small writes that were followed by an `fdatasync`.
    pub syncs: u64,
    /// Operations of all kinds per second, over the last second.
    pub per_second: f64,
    /// Operations per second that were asked for.
    pub asked_per_second: f64,
    /// That it gave way to a need of the node's or the target's; none where it never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_off: Option<BackOff>,
}

/// Something limited, used up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExhaustDose {
    /// How many are held.
    pub held: u64,
    /// How many are left for others.
    pub left: u64,
    /// How many there are in all.
    pub limit: u64,
    /// Packets that would have begun a connection and were dropped, where what is used up is `conntrack`; none elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// That it gave way to a need of the node's or the target's; none where it never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_off: Option<BackOff>,
}

/// What a fault that comes and goes did in all its pulses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PulsedDose {
    /// All pulses together: counts and times are sums, and what is said of *now* is of the last one. None before the first
    /// measurement.
    pub of: Option<Box<Dose>>,
    /// How often it came in force, as the kernel confirmed.
    pub times_on: u32,
    /// How often it was shown gone again by the pattern.
    pub times_off: u32,
    /// Seconds in force.
    pub seconds_on: f64,
    /// Seconds shown absent in between.
    pub seconds_off: f64,
    /// Whether it is in force now.
    pub is_on: bool,
}

/// A cgroup that stands still.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FreezeDose {
    /// Processes in it, and in those below it, when it was last looked at.
    pub processes: u64,
    /// Seconds for which the kernel said that all of it is frozen.
    pub seconds: f64,
}

/// An interface that is down.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NicDownDose {
    /// Seconds for which the kernel said that it is down.
    pub seconds: f64,
    /// Addresses and routes that the kernel forgot with it, all of which are put back.
    pub forgotten: u64,
}

/// Processes that run out of file descriptors, as the kernel told when they were last looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FdsDose {
    /// Processes whose limit is the lowered one.
    pub processes: u64,
    /// How many descriptors the one with the fewest can still open.
    pub left: u64,
    /// That one's lowered limit (`RLIMIT_NOFILE`): one more than the highest number that a new descriptor can have.
    pub limit: u64,
    /// Processes whose limit somebody else has changed meanwhile, and which were let go.
    pub let_go: u64,
    /// Seconds for which the kernel said that a limit is lowered.
    pub seconds: f64,
}

/// A node that is told to end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeEndDose {
    /// Whether it was told: the moment after which nothing takes it back. Nobody is left to say that it was done.
    pub ordered: bool,
}

/// TCP connections, counted by the holder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpDose {
    /// Packets that the kernel's rule took hold of.
    pub packets: u64,
    /// Connections that they belong to.
    pub connections: u64,
    /// Of those, hit. Each is counted once.
    pub matched: u64,
    /// Packets with FIN that were held back.
    pub delayed: u64,
    /// The mean of how late they were, in microseconds.
    pub delay_mean_us: Option<f64>,
    /// Packets let through untouched because a limit was reached; not part of the dose.
    pub overflowed: u64,
}

impl Dose {
    /// That the fault gave way; of one that comes and goes, in any of its pulses.
    #[must_use]
    pub fn back_off(&self) -> Option<&BackOff> {
        match self {
            Self::Cpu(dose) => dose.back_off.as_ref(),
            Self::Memory(dose) => dose.back_off.as_ref(),
            Self::Fill(dose) => dose.back_off.as_ref(),
            Self::Io(dose) => dose.back_off.as_ref(),
            Self::Exhaust(dose) => dose.back_off.as_ref(),
            Self::Pulsed(dose) => dose.of.as_ref().and_then(|of| of.back_off()),
            _ => None,
        }
    }

    /// Whether the fault took hold of anything at all. A verdict of *held* needs this of every fault.
    #[must_use]
    pub fn in_force(&self) -> bool {
        match self {
            Self::Network(dose) => dose.matched > 0,
            Self::Cpu(dose) => dose.seconds > 0.0,
            Self::Memory(dose) => dose.resident_bytes > 0,
            Self::Kill(dose) => dose.sent > 0,
            Self::Dns(dose) => dose.matched > 0,
            Self::Http(dose) => dose.matched > 0,
            Self::Pause(dose) => dose.seconds > 0.0,
            Self::Fill(dose) => dose.held_bytes > 0,
            Self::Io(dose) => dose.reads + dose.writes + dose.syncs > 0,
            Self::Exhaust(dose) => dose.held > 0,
            Self::Pulsed(dose) => dose.of.as_ref().is_some_and(|of| of.in_force()),
            Self::Freeze(dose) => dose.processes > 0 && dose.seconds > 0.0,
            Self::Tcp(dose) => dose.matched > 0,
            Self::NicDown(dose) => dose.seconds > 0.0,
            Self::NodeEnd(dose) => dose.ordered,
            Self::Fds(dose) => dose.seconds > 0.0,
        }
    }
}

/// What the kernel answered when it was asked, after arming, whether the fault is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// By which means: `netem behind a detour`, `user-space queue`, `nftables drop`, …
    pub means: String,
    /// What was read back, a line each, for people.
    pub read_back: Vec<String>,
    /// What the reader should know about this means' limits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
