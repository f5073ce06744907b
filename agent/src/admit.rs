//! Whether a fault may be injected: accepted (by which means), already so, or denied with the reason.
//!
//! Pure: all facts are brought by the caller, nothing is looked up, nothing waits. Stopping is not decided here
//! because it is never refused.

use crate::halt::Halt;
use crate::policy::bounds::{self, TooStrong};
use crate::policy::{Leave, PATH, Policy};
use jiff::Timestamp;
use squall_experiments::capability::{Capabilities, Capability, Means};
use squall_experiments::fault::{Fault, FaultKind};
use squall_experiments::filter::{Direction, Endpoint, Filter, Host, Network, Ports};
use squall_experiments::ids::{FaultId, RunId, TargetId};
use squall_experiments::units::{Lease, Percent};

/// What kind of thing a candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    /// The node.
    Host,
    /// One process.
    Process,
    /// A cgroup or unit.
    Group,
    /// A network namespace that is not the node's.
    Netns,
    /// A pod or container.
    Container,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The fault's name.
    pub(crate) id: &'a FaultId,
    /// What.
    pub(crate) fault: &'a Fault,
    /// Into what.
    pub(crate) target: &'a TargetId,
    /// For how long without another word.
    pub(crate) lease: Lease,
    /// By these means only, where the controller says so.
    pub(crate) means: Option<Means>,
    /// The network namespace that the target's packets are in, where that is known.
    pub(crate) netns: Option<u64>,
    /// What the target is; none where nobody has resolved it, or it is gone.
    pub(crate) site: Option<Site>,
    /// How many things the selection found by which the target was found, and how many of them are hit already, this
    /// one aside.
    pub(crate) among: (usize, usize),
}

/// What the node says, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'a> {
    /// What it can do.
    pub(crate) capabilities: &'a Capabilities,
    /// What it allows.
    pub(crate) policy: &'a Policy,
    /// The time.
    pub(crate) now: Timestamp,
    /// Its resolvers' number: where it has some, they are the node's own and may be protected.
    pub(crate) resolvers: usize,
    /// Whether somebody halted it.
    pub(crate) halted: Option<&'a Halt>,
}

/// A fault that may be acting now.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    /// Its name.
    pub(crate) id: FaultId,
    /// What.
    pub(crate) fault: Fault,
    /// Into what.
    pub(crate) target: TargetId,
    /// The network namespace that its packets are in, where that is known.
    pub(crate) netns: Option<u64>,
    /// By which means.
    pub(crate) means: Means,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Go ahead, by these means.
    Accept(Means),
    /// It lives already: asking twice is asking once.
    AlreadySo,
    /// No.
    Deny(Denial),
}

/// Why not, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    /// The name is taken by something else.
    #[error("fault {0} is already something else here: a name is for one fault")]
    NameTaken(FaultId),
    /// Nobody has resolved this target, or it is gone.
    #[error(
        "target {0} is not held by this agent: it ended, or was never resolved here; resolve it again"
    )]
    UnknownTarget(TargetId),
    /// Another run has it.
    #[error(
        "run {0} has a fault on this target: one run at a time hits a target; end that one first"
    )]
    OfAnotherRun(RunId),
    /// This fault cannot act on such a thing.
    #[error("{kind} cannot be aimed at {site}: {mend}")]
    WrongTarget {
        /// The fault.
        kind: FaultKind,
        /// The target.
        site: &'static str,
        /// What to write instead.
        mend: &'static str,
    },
    /// This fault cannot come and go.
    #[error(
        "a {0} cannot come and go: it is over in an instant, and nothing of it can be taken back"
    )]
    NoPulse(FaultKind),
    /// The node cannot.
    #[error("this node cannot inject {kind}: {notes}")]
    Unable {
        /// The fault.
        kind: FaultKind,
        /// What the agent found out when it tried.
        notes: String,
    },
    /// The node can, but not by the means that were asked for.
    #[error(
        "this node cannot inject {kind} by {wanted:?}, only by {there:?}: leave the means to the agent"
    )]
    NotByThat {
        /// The fault.
        kind: FaultKind,
        /// The means.
        wanted: Means,
        /// What there is.
        there: Vec<Means>,
    },
    /// Another fault is in the way, and there is no means that goes along with it.
    #[error(
        "{kind} would act on packets that fault {other} already acts on, and this node has only one means for both \
         (a packet can take one detour, a connection one redirect): end {other} first, or give the two filters that do not overlap"
    )]
    InTheWay {
        /// The fault.
        kind: FaultKind,
        /// The one that was first.
        other: FaultId,
    },
    /// Enough is going on.
    #[error("the node's policy allows {0} faults at once, and so many are live: end some first")]
    TooMany(usize),
    /// Enough of this kind is going on.
    #[error(
        "the node's policy allows {most} {kind} faults at once, and so many are live: end one first"
    )]
    TooManyOfAKind {
        /// The kind.
        kind: FaultKind,
        /// Allowed.
        most: usize,
    },
    /// Enough is going on there.
    #[error(
        "the node's policy allows {0} faults at once on one target, and so many are live there: end one first"
    )]
    TooManyThere(usize),
    /// Too many of what was selected are hit.
    #[error(
        "the node's policy lets {most} of what one selection finds be hit at once: here {allowed} of {found}, and {hit} are"
    )]
    TooLargeAShare {
        /// Allowed.
        most: Percent,
        /// That is so many,
        allowed: usize,
        /// of so many,
        found: usize,
        /// and so many are hit.
        hit: usize,
    },
    /// Somebody said stop, here.
    #[error("the node is {0}: lift it there with `squall-agent halt --lift`")]
    Halted(String),
    /// This kind never.
    #[error("the node's policy forbids {0}: see `forbid` and `only` in {PATH}")]
    Forbidden(FaultKind),
    /// This kind not by itself.
    #[error("no process's death takes {kind} back, so a node must allow it by name: `allow: [ {word} ]` in {PATH}", word = .leave.word())]
    NeedsLeave {
        /// The kind.
        kind: FaultKind,
        /// What is missing.
        leave: Leave,
    },
    /// Not now.
    #[error("the node's policy allows faults {0} only, and it is not that time")]
    NotNow(String),
    /// Not so much.
    #[error("the node's policy allows {0}")]
    TooStrong(TooStrong),
    /// The node's own names.
    #[error(
        "the node's policy keeps the node's own resolvers reachable: aim at a network namespace, or say `protect: {{ dns: false }}` in {PATH}"
    )]
    OwnDns,
    /// The lease is too long.
    #[error("the node's policy allows leases up to {most}, and {asked} was asked for")]
    LeaseTooLong {
        /// Asked for.
        asked: Lease,
        /// Allowed.
        most: Lease,
    },
}

/// Decides.
pub(crate) fn admit(asked: Asked<'_>, live: &[Live], node: Node<'_>) -> Admission {
    if let Some(same) = live.iter().find(|l| l.id == *asked.id) {
        let equal = same.fault == *asked.fault && same.target == *asked.target;
        return if equal {
            Admission::AlreadySo
        } else {
            Admission::Deny(Denial::NameTaken(asked.id.clone()))
        };
    }
    match check(asked, live, node) {
        Ok(means) => Admission::Accept(means),
        Err(denial) => Admission::Deny(denial),
    }
}

fn check(asked: Asked<'_>, live: &[Live], node: Node<'_>) -> Result<Means, Denial> {
    if let Some(halt) = node.halted {
        return Err(Denial::Halted(halt.to_string()));
    }
    let site = asked
        .site
        .ok_or_else(|| Denial::UnknownTarget(asked.target.clone()))?;
    fits(asked.fault, site)?;
    allowed(asked, site, node)?;
    numbers(asked, live, node.policy)?;
    by_which_means(asked, live, node.capabilities)
}

/// Whether the policy allows this fault at all, now, and as strong as it is.
fn allowed(asked: Asked<'_>, site: Site, node: Node<'_>) -> Result<(), Denial> {
    let (policy, kind) = (node.policy, asked.fault.kind());
    let not_among = !policy.only.is_empty() && !policy.only.contains(&kind);
    if not_among || policy.forbid.contains(&kind) {
        return Err(Denial::Forbidden(kind));
    }
    if let Some(leave) = Leave::needed_by(kind)
        && !policy.allow.contains(&leave)
    {
        return Err(Denial::NeedsLeave { kind, leave });
    }
    if let Some(hours) = &policy.hours
        && !hours.is_open(node.now)
    {
        return Err(Denial::NotNow(hours.to_string()));
    }
    if asked.lease > policy.limits.lease {
        return Err(Denial::LeaseTooLong {
            asked: asked.lease,
            most: policy.limits.lease,
        });
    }
    if kind == FaultKind::Dns && site == Site::Host && policy.protect.dns && node.resolvers > 0 {
        return Err(Denial::OwnDns);
    }
    bounds::within(asked.fault, &policy.limits).map_err(Denial::TooStrong)
}

/// Whether there may be one more: in all, of its kind, on its target, of what it was selected with.
fn numbers(asked: Asked<'_>, live: &[Live], policy: &Policy) -> Result<(), Denial> {
    let (limits, kind) = (&policy.limits, asked.fault.kind());
    if live.len() >= limits.faults {
        return Err(Denial::TooMany(limits.faults));
    }
    if let Some(&most) = limits.per_kind.get(&kind)
        && live.iter().filter(|l| l.fault.kind() == kind).count() >= most
    {
        return Err(Denial::TooManyOfAKind { kind, most });
    }
    let there = live.iter().filter(|l| l.target == *asked.target).count();
    if there >= limits.per_target {
        return Err(Denial::TooManyThere(limits.per_target));
    }
    let (found, hit) = asked.among;
    let allowed = share_of(limits.share, found);
    if hit >= allowed {
        return Err(Denial::TooLargeAShare {
            most: limits.share,
            allowed,
            found,
            hit,
        });
    }
    Ok(())
}

/// So many of so many; one may always be hit, as in an experiment's ramp.
fn share_of(share: Percent, found: usize) -> usize {
    let part = u128::from(share.get()) * found as u128 / 1_000_000;
    usize::try_from(part).unwrap_or(usize::MAX).max(1)
}

/// The means to take, given what the node has and what else goes on.
fn by_which_means(
    asked: Asked<'_>,
    live: &[Live],
    capabilities: &Capabilities,
) -> Result<Means, Denial> {
    let kind = asked.fault.kind();
    // Whose a packet is, is found out while it waits for the holder, as is a partition of one owner's.
    let owned = kind.is_network() && matches!(asked.site, Some(Site::Process | Site::Group));
    let known = capabilities.of(match kind {
        FaultKind::Partition if owned => FaultKind::Loss,
        kind => kind,
    });
    let mut means: Vec<Means> = known.map_or(Vec::new(), |c| c.means.clone());
    if let Some(wanted) = asked.means {
        if !means.is_empty() && !means.contains(&wanted) {
            return Err(Denial::NotByThat {
                kind,
                wanted,
                there: means,
            });
        }
        means.retain(|means| *means == wanted);
    }
    if owned {
        // Requests and names are led elsewhere only once their first packet has waited as all packets do.
        let queues = |c: &Capability| c.means.contains(&Means::Queue);
        let waits = capabilities.of(FaultKind::Loss).is_some_and(queues);
        means.retain(|means| waits && matches!(means, Means::Queue | Means::Redirect));
    }
    let Some(first) = means.first() else {
        let notes = known.map(|c| c.notes.join("; ")).filter(|n| !n.is_empty());
        return Err(Denial::Unable {
            kind,
            notes: notes.unwrap_or_else(|| "it was not found to be possible".to_owned()),
        });
    };
    let Some(other) = in_the_way(asked, *first, live) else {
        return Ok(*first);
    };
    let around = means
        .iter()
        .find(|m| !matches!(m, Means::Detour | Means::Redirect));
    around.copied().ok_or_else(|| Denial::InTheWay {
        kind,
        other: other.id.clone(),
    })
}

/// Which faults can act on which things.
fn fits(fault: &Fault, site: Site) -> Result<(), Denial> {
    let kind = fault.kind();
    let wrong = |site, mend| Err(Denial::WrongTarget { kind, site, mend });
    if kind.is_for_good() && site != Site::Host {
        return wrong("less than a node", "a node is ended as a whole; say `host`");
    }
    match (kind.is_network(), site) {
        (true, Site::Host | Site::Netns | Site::Container) => Ok(()),
        (true, Site::Process | Site::Group) if fault.may_have_owner() => Ok(()),
        (true, Site::Process) => wrong(
            "a process",
            "others in its network namespace would be hit too; say `netns: { process: … }`",
        ),
        (true, Site::Group) => wrong(
            "a cgroup",
            "packets belong to a network namespace; say `netns: { process: … }`",
        ),
        (false, Site::Netns) => wrong("a network namespace", "name the processes in it"),
        (false, Site::Host) if kind == FaultKind::Kill => {
            wrong("the host", "name the processes that are to be killed")
        }
        (false, Site::Host) if kind == FaultKind::Pause => {
            wrong("the host", "name the processes that are to stand still")
        }
        (false, Site::Host) if kind == FaultKind::Freeze => {
            wrong("the host", "name the cgroup or unit that is to stand still")
        }
        (false, Site::Host) if kind == FaultKind::Fds => wrong(
            "the host",
            "name the processes that are to run out of descriptors",
        ),
        (false, Site::Process | Site::Container) if kind == FaultKind::Freeze => wrong(
            "a process",
            "everything in its cgroup would stand still too; name the cgroup or unit, or use `pause`",
        ),
        (false, Site::Process | Site::Group | Site::Host | Site::Container) => Ok(()),
    }
}

/// What the newcomer's packets may already take: what comes out of an ifb passes no netdev hook again, so two detours
/// cannot both act on one packet; and of two redirects the first alone would see a connection. Two targets may be one network
/// namespace: a pod, and the processes that it was found by.
fn in_the_way<'a>(asked: Asked<'_>, means: Means, live: &'a [Live]) -> Option<&'a Live> {
    if !matches!(means, Means::Detour | Means::Redirect) {
        return None;
    }
    let mine = asked.fault.filter()?;
    // Names and requests are different things: a file that leads both to one port means neither.
    let meets = |other: &Live| means == Means::Detour || other.fault.kind() == asked.fault.kind();
    live.iter().find(|other| {
        other.means == means
            && (other.target == *asked.target
                || (other.netns.is_some() && other.netns == asked.netns))
            && meets(other)
            && other.fault.filter().is_some_and(|f| may_overlap(mine, f))
    })
}

/// Whether one packet may match both. When in doubt, yes: the other means is right in either case.
fn may_overlap(one: &Filter, other: &Filter) -> bool {
    let protocols = match (one.protocol, other.protocol) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    // A forwarded packet arrives and leaves, and passes an ifb at both sides: opposite directions may meet too.
    let _: (Direction, Direction) = (one.direction, other.direction);
    protocols
        && ends_meet(one.to.as_ref(), other.to.as_ref())
        && ends_meet(one.from.as_ref(), other.from.as_ref())
}

fn ends_meet(one: Option<&Endpoint>, other: Option<&Endpoint>) -> bool {
    let (Some(one), Some(other)) = (one, other) else {
        return true;
    };
    let hosts = one.hosts.is_empty()
        || other.hosts.is_empty()
        || one
            .hosts
            .iter()
            .any(|a| other.hosts.iter().any(|b| hosts_meet(a, b)));
    let meet = |a: &Ports, b: &Ports| a.first <= b.last && b.first <= a.last;
    let ports = one.ports.is_empty()
        || other.ports.is_empty()
        || one
            .ports
            .iter()
            .any(|a| other.ports.iter().any(|b| meet(a, b)));
    hosts && ports
}

fn hosts_meet(one: &Host, other: &Host) -> bool {
    match (one, other) {
        (Host::Network(a), Host::Network(b)) => networks_meet(*a, *b),
        // A name may resolve to anything.
        _ => true,
    }
}

fn networks_meet(one: Network, other: Network) -> bool {
    let prefix = one.prefix.min(other.prefix);
    let wide = |network: Network| Network::new(network.address, prefix);
    one.address.is_ipv4() == other.address.is_ipv4() && wide(one) == wide(other)
}

#[cfg(test)]
mod tests;
