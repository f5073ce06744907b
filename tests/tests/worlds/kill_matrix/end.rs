//! The ways in which a fault's life can end.

use std::time::{Duration, Instant};

use squall_experiments::fault::FaultKind;
use squall_experiments::wire::EndCause;

use super::variation::Variation;
use crate::dose::emulated;
use crate::scene::exhausted::unable;

/// Where this is set, an emulated machine tries all that it otherwise leaves to the real one.
const ALL: &str = "SQUALL_MATRIX";

/// How a fault's life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    HolderKilled,
    AgentKilled,
    ControllerGone,
    AgentStopped,
    HolderHung,
    OutOfMemory,
    CgroupKilled,
    LeaseEnds,
    DiskFull,
    TargetExits,
    TargetRestarts,
    NetnsDeleted,
    Upgraded,
}

/// A lease that is to end: so long that every holder, which tells its dose once a second, has told it since the last renewal.
pub(crate) const LEASE: Duration = Duration::from_millis(2400);

/// How long the victim may go on suffering after what its holder or its agent must find out.
const FOUND_OUT: Duration = Duration::from_millis(1200);

/// How long a renewal may be on its way to the holder, whose timer it sets.
const ON_ITS_WAY: Duration = Duration::from_millis(100);

/// What the agent leaves a holder for an orderly end before it kills it (`STOP_LIMIT` of `agent/src/hold/supervise.rs`).
const ORDERLY: Duration = Duration::from_millis(500);

/// How long the victim may go on suffering after a kill.
const KILLED: Duration = Duration::from_millis(100);

/// What an emulated machine, some ten times slower, may need beyond that: 103 to 136 ms in all were seen there after a kill, and 330 with
/// six faults at once. That 100 are enough is shown by the same cells on the real machine.
fn slower() -> Duration {
    Duration::from_millis(if emulated() { 200 } else { 0 })
}

impl End {
    pub(crate) const ALL: [Self; 13] = [
        Self::HolderKilled,
        Self::AgentKilled,
        Self::ControllerGone,
        Self::AgentStopped,
        Self::HolderHung,
        Self::OutOfMemory,
        Self::CgroupKilled,
        Self::LeaseEnds,
        Self::DiskFull,
        Self::TargetExits,
        Self::TargetRestarts,
        Self::NetnsDeleted,
        Self::Upgraded,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::HolderKilled => "holder_killed",
            Self::AgentKilled => "agent_killed",
            Self::ControllerGone => "controller_gone",
            Self::AgentStopped => "agent_stopped",
            Self::HolderHung => "holder_hung",
            Self::OutOfMemory => "out_of_memory",
            Self::CgroupKilled => "cgroup_killed",
            Self::LeaseEnds => "lease_ends",
            Self::DiskFull => "disk_full",
            Self::TargetExits => "target_exits",
            Self::TargetRestarts => "target_restarts",
            Self::NetnsDeleted => "netns_deleted",
            Self::Upgraded => "upgraded",
        }
    }

    /// The column's head in the table, in two lines: what happens, and to whom.
    pub(crate) const fn head(self) -> (&'static str, &'static str) {
        match self {
            Self::HolderKilled => ("SIGKILL", "holder"),
            Self::AgentKilled => ("SIGKILL", "agent"),
            Self::ControllerGone => ("EOF", "link"),
            Self::AgentStopped => ("SIGSTOP", "agent"),
            Self::HolderHung => ("SIGSTOP", "holder"),
            Self::OutOfMemory => ("OOM kill", "agent"),
            Self::CgroupKilled => ("killed", "cgroup"),
            Self::LeaseEnds => ("ends", "lease"),
            Self::DiskFull => ("full", "disk"),
            Self::TargetExits => ("exits", "target"),
            Self::TargetRestarts => ("restarts", "target"),
            Self::NetnsDeleted => ("deleted", "netns"),
            Self::Upgraded => ("upgraded", "agent"),
        }
    }

    /// How long the victim may go on suffering from now on: 100 ms after a kill, until the lease's end after anything that only
    /// stops answering, and where there is a word to be said, as long as the agent waits for it.
    pub(crate) fn limit(self, lease_end: Option<Instant>, variation: Variation) -> Duration {
        match self {
            // An orderly end, which one holder passes on to another, or which an emulated one comes to hear of late.
            Self::ControllerGone if variation == Variation::Pulsed || emulated() => ORDERLY,
            Self::HolderKilled
            | Self::AgentKilled
            | Self::ControllerGone
            | Self::OutOfMemory
            | Self::CgroupKilled => KILLED + slower(),
            Self::AgentStopped | Self::HolderHung | Self::LeaseEnds => {
                let left = lease_end.map(|end| end.saturating_duration_since(Instant::now()));
                left.unwrap_or_default() + ON_ITS_WAY + slower()
            }
            Self::TargetExits | Self::TargetRestarts | Self::NetnsDeleted => FOUND_OUT,
            Self::DiskFull | Self::Upgraded => ORDERLY,
        }
    }

    /// Whether it is the lease's end that ends the fault.
    pub(crate) const fn is_by_lease(self) -> bool {
        matches!(
            self,
            Self::AgentStopped | Self::HolderHung | Self::LeaseEnds
        )
    }

    /// Whether the agent is still there afterwards to clean up by itself.
    pub(crate) const fn spares_the_agent(self) -> bool {
        matches!(
            self,
            Self::HolderKilled
                | Self::HolderHung
                | Self::LeaseEnds
                | Self::DiskFull
                | Self::TargetExits
                | Self::TargetRestarts
                | Self::NetnsDeleted
        )
    }

    /// Whether that is what an agent that was spared may say of the end.
    pub(crate) const fn is_caused_by(self, cause: &EndCause) -> bool {
        match self {
            Self::HolderKilled => matches!(cause, EndCause::HolderKilled(_)),
            Self::HolderHung | Self::LeaseEnds => matches!(cause, EndCause::LeaseEnded),
            Self::DiskFull => matches!(cause, EndCause::Stopped),
            Self::TargetExits | Self::TargetRestarts | Self::NetnsDeleted => {
                matches!(cause, EndCause::TargetGone)
            }
            Self::AgentKilled
            | Self::ControllerGone
            | Self::AgentStopped
            | Self::OutOfMemory
            | Self::CgroupKilled
            | Self::Upgraded => true,
        }
    }

    /// Why this end makes no sense for that kind of fault, asked for like this.
    pub(crate) fn senseless(self, kind: FaultKind, variation: Variation) -> Option<&'static str> {
        if let Variation::Exhausting(what) = variation
            && let Some(reason) = unable(what)
        {
            return Some(reason);
        }
        let tried = matches!(self, Self::HolderKilled | Self::AgentKilled);
        if variation != Variation::Plain && !tried && emulated() && std::env::var_os(ALL).is_none()
        {
            return Some(
                "with this end it is tried on the real machine; SQUALL_MATRIX=all tries it on the emulated one too, for a quarter of an hour",
            );
        }
        match (self, variation) {
            // As for all others that are aimed at a process.
            (Self::NetnsDeleted, Variation::Owned) => self.senseless_for(FaultKind::Kill),
            _ => self.senseless_for(kind),
        }
    }

    /// Why it makes none for that kind of fault. A new kind or end does not compile without a decision.
    const fn senseless_for(self, kind: FaultKind) -> Option<&'static str> {
        match self {
            _ if kind.is_for_good() => Some(
                "nothing takes it back, and so the node that runs these tests lets it through to none of them: `node_end` does it",
            ),
            Self::HolderKilled
            | Self::AgentKilled
            | Self::ControllerGone
            | Self::AgentStopped
            | Self::HolderHung
            | Self::OutOfMemory
            | Self::CgroupKilled
            | Self::LeaseEnds
            | Self::DiskFull
            | Self::Upgraded => None,
            Self::TargetExits | Self::TargetRestarts => match kind {
                FaultKind::Kill => {
                    Some("its target's exit is the fault itself, and what starts again is its next")
                }
                FaultKind::Delay
                | FaultKind::Loss
                | FaultKind::Duplicate
                | FaultKind::Corrupt
                | FaultKind::Reorder
                | FaultKind::Rate
                | FaultKind::Partition
                | FaultKind::Cpu
                | FaultKind::Memory
                | FaultKind::Dns
                | FaultKind::Http
                | FaultKind::Pause
                | FaultKind::Fill
                | FaultKind::Io
                | FaultKind::Exhaust
                | FaultKind::Freeze
                | FaultKind::Tcp
                | FaultKind::NicDown
                | FaultKind::Reboot
                | FaultKind::Shutdown
                | FaultKind::Fds => None,
            },
            Self::NetnsDeleted => senseless_without_a_name(kind),
        }
    }
}

/// Why the end of a network namespace's name makes no sense for that kind of fault.
const fn senseless_without_a_name(kind: FaultKind) -> Option<&'static str> {
    match kind {
        FaultKind::Kill
        | FaultKind::Cpu
        | FaultKind::Memory
        | FaultKind::Pause
        | FaultKind::Fill
        | FaultKind::Io
        | FaultKind::Exhaust
        | FaultKind::Freeze
        | FaultKind::Fds => Some(
            "it is aimed at a process, which stays in its network namespace when the name is deleted",
        ),
        FaultKind::Delay
        | FaultKind::Loss
        | FaultKind::Duplicate
        | FaultKind::Corrupt
        | FaultKind::Reorder
        | FaultKind::Rate
        | FaultKind::Partition
        | FaultKind::Dns
        | FaultKind::Http
        | FaultKind::Tcp
        | FaultKind::NicDown
        | FaultKind::Reboot
        | FaultKind::Shutdown => None,
    }
}
