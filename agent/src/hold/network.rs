//! Faults on packets: where holder and agent reach the network families.

use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::time::Instant;

use squall_experiments::capability::{Capability, Means};
use squall_experiments::dose::Evidence;
use squall_experiments::fault::{self, Fault, FaultKind, LossModel, PartitionMode};
use squall_experiments::filter::ResolvedFilter;

use super::detour::Detour;
use super::dns::DnsFault;
use super::held::{Held, HoldError};
use super::holder::Grip;
use super::http::HttpFault;
use super::owner::{Owner, Whose};
use super::partition::Partition;
use super::queue::{self, UserQueue};
use super::refuse::Refusal;
use super::speech::HoldSpec;
use super::sweep;
use super::tcp::TcpFault;
use crate::kernel::net::netns::Netns;
use crate::kernel::net::nft::expr::QueueMeans;
use crate::kernel::net::probe::NetAbilities;
use crate::kernel::net::shape::{Chance, Distribution, Loss, Shape, packets_max};

/// Arms a network fault in the network namespace that this process has entered, and reads it back.
pub(crate) fn arm(
    spec: &HoldSpec,
    grip: &mut Grip,
) -> Result<(Box<dyn Held>, Evidence), HoldError> {
    if let Some(means) = spec.queue {
        queue::known(means);
    }
    if !spec.owned {
        return arm_fault(&spec.fault, spec.means, &spec.filter, spec.seed);
    }
    let pids = grip.processes.iter().map(|(_, pid)| *pid).collect();
    let whose = match grip.groups.pop() {
        Some(group) if grip.processes.is_empty() => Whose::Group(group),
        _ => Whose::Processes(pids),
    };
    let owner = Owner::new(whose)?;
    let said = owner.in_words();
    let (held, mut evidence): (Box<dyn Held>, Evidence) = match &spec.fault {
        Fault::Tcp(tcp) if spec.fault.may_have_owner() => {
            let (held, evidence) = TcpFault::arm(tcp, &spec.filter, spec.seed, Some(owner))?;
            (Box::new(held), evidence)
        }
        Fault::Dns(dns) => {
            let (held, evidence) = DnsFault::arm(dns, &spec.filter, spec.seed, Some(owner))?;
            (Box::new(held), evidence)
        }
        Fault::Http(http) => {
            let (held, evidence) = HttpFault::arm(http, &spec.filter, spec.seed, Some(owner))?;
            (Box::new(held), evidence)
        }
        Fault::Partition(partition) if partition.mode == PartitionMode::Reject => {
            let (held, evidence) = Refusal::arm(&spec.filter, owner)?;
            (Box::new(held), evidence)
        }
        fault if fault.may_have_owner() => {
            let shape = shape(fault, spec.seed)?;
            let (held, evidence) = UserQueue::arm(&spec.filter, shape, Some(owner))?;
            (Box::new(held), evidence)
        }
        fault => {
            return Err(HoldError::Unable(format!(
                "{} cannot tell whose packets it meets: aim it at a network namespace",
                fault.kind()
            )));
        }
    };
    evidence.read_back.push(said);
    Ok((held, evidence))
}

/// The way into a queue that works on this node; none where none does, or nobody has tried yet.
pub(crate) fn queue_means() -> Option<QueueMeans> {
    FOUND.get()?.queue().ok()
}

/// [`arm`] without the rest of an order.
pub(crate) fn arm_fault(
    fault: &Fault,
    means: Means,
    filter: &ResolvedFilter,
    seed: u64,
) -> Result<(Box<dyn Held>, Evidence), HoldError> {
    if let Fault::Partition(partition) = fault {
        let (held, evidence) = Partition::arm(filter, partition.mode)?;
        return Ok((Box::new(held), evidence));
    }
    if let Fault::Dns(dns) = fault {
        let (held, evidence) = DnsFault::arm(dns, filter, seed, None)?;
        return Ok((Box::new(held), evidence));
    }
    if let Fault::Http(http) = fault {
        let (held, evidence) = HttpFault::arm(http, filter, seed, None)?;
        return Ok((Box::new(held), evidence));
    }
    if let Fault::Tcp(tcp) = fault {
        let (held, evidence) = TcpFault::arm(tcp, filter, seed, None)?;
        return Ok((Box::new(held), evidence));
    }
    let shape = shape(fault, seed)?;
    match means {
        Means::Detour => {
            let (held, evidence) = Detour::arm(filter, shape)?;
            Ok((Box::new(held), evidence))
        }
        Means::Queue => {
            let (held, evidence) = UserQueue::arm(filter, shape, None)?;
            Ok((Box::new(held), evidence))
        }
        Means::Nftables | Means::Process | Means::Redirect | Means::Journal => {
            Err(HoldError::Unable(format!(
                "{} cannot be held by {means:?}: ask for the detour or the queue, or leave the choice to the agent",
                fault.kind()
            )))
        }
    }
}

/// What an ended holder left in a namespace.
pub(crate) struct Left {
    /// What of it is still in force, a line each.
    pub(crate) in_force: Vec<String>,
    /// When that was seen.
    pub(crate) seen: Instant,
    /// Whether all that was idle could be removed.
    pub(crate) swept: Result<usize, HoldError>,
}

/// Says what of Squall's is still in force for `holder_pid` in a namespace (the node's own where none is given), and
/// then removes what was left idle there.
pub(crate) fn sweep(netns: Option<BorrowedFd<'_>>, holder_pid: u32) -> Result<Left, HoldError> {
    let namespace = match netns {
        None => Netns::current()?,
        Some(fd) => {
            let own = fd
                .try_clone_to_owned()
                .map_err(HoldError::kernel("duplicate", "the namespace's descriptor"))?;
            Netns::from_descriptor(own, "the target")?
        }
    };
    let found = namespace.inside(|| {
        let in_force = sweep::in_force_here(holder_pid)?;
        Ok(Left {
            in_force,
            seen: Instant::now(),
            swept: sweep::sweep_here().map_err(HoldError::from),
        })
    })?;
    Ok(found)
}

/// Removes idle leftovers from every network namespace of the node; says how many there were.
pub(crate) fn sweep_everywhere() -> Result<usize, HoldError> {
    sweep::sweep_everywhere()
}

static FOUND: OnceLock<NetAbilities> = OnceLock::new();

/// What this node can do to packets, found out once by trying in a scratch namespace.
pub(crate) fn probe() -> Vec<Capability> {
    let abilities = FOUND.get_or_init(NetAbilities::probe);
    FaultKind::ALL
        .into_iter()
        .filter(|kind| kind.is_network() && kind.holding().is_kernel())
        .map(|kind| capability(abilities, kind))
        .collect()
}

fn capability(abilities: &NetAbilities, fault: FaultKind) -> Capability {
    let mut means = Vec::new();
    let mut notes = Vec::new();
    if fault.is_shaping() {
        match abilities.detour() {
            Ok(()) => means.push(Means::Detour),
            Err(reasons) => notes.extend(reasons.into_iter().map(|r| format!("no detour: {r}"))),
        }
        match abilities.queue() {
            Ok(_) => means.push(Means::Queue),
            Err(reasons) => notes.extend(reasons.into_iter().map(|r| format!("no queue: {r}"))),
        }
    } else if fault.is_redirecting() {
        let mut missing = abilities.redirect().err().unwrap_or_default();
        if fault == FaultKind::Dns {
            missing.extend(abilities.queue().err().unwrap_or_default());
        }
        missing.dedup();
        if missing.is_empty() {
            means.push(Means::Redirect);
        }
        notes.extend(missing);
    } else if fault == FaultKind::Tcp {
        match abilities.connections() {
            Ok(()) => means.push(Means::Queue),
            Err(reasons) => notes.extend(reasons),
        }
    } else {
        for (mode, result) in [("drop", abilities.drop()), ("reject", abilities.reject())] {
            match result {
                Ok(()) => means.push(Means::Nftables),
                Err(reasons) => {
                    notes.extend(reasons.into_iter().map(|r| format!("no {mode}: {r}")))
                }
            }
        }
        means.dedup();
    }
    if let Err(reasons) = abilities.owners() {
        let only = |why| format!("not for one process of a namespace alone: {why}");
        notes.extend(reasons.into_iter().map(only));
    }
    Capability {
        fault,
        means,
        held: fault.holding(),
        notes,
    }
}

/// What a fault of the file is in the kernel's terms.
fn shape(fault: &Fault, seed: u64) -> Result<Shape, HoldError> {
    let mut shape = Shape {
        seed,
        ..Shape::default()
    };
    match fault {
        Fault::Delay(delay) => {
            shape.delay = delay.time.duration();
            shape.jitter = delay.jitter.map(|j| j.duration()).unwrap_or_default();
            shape.delay_correlation = delay.correlation.map_or(0.0, |c| c.fraction());
            shape.distribution = match delay.distribution {
                fault::Distribution::Uniform => Distribution::Uniform,
                fault::Distribution::Normal => Distribution::Normal,
                fault::Distribution::Pareto => Distribution::Pareto,
                fault::Distribution::ParetoNormal => Distribution::ParetoNormal,
            };
        }
        Fault::Loss(loss) => {
            shape.loss = Some(match &loss.model {
                LossModel::Random(c) => {
                    let Chance {
                        probability,
                        correlation,
                    } = chance(c);
                    Loss::Random {
                        probability,
                        correlation,
                    }
                }
                LossModel::Gemodel(ge) => Loss::Gilbert {
                    to_bad: ge.p.fraction(),
                    to_good: ge.r.fraction(),
                    bad_loss: ge.bad.fraction(),
                    good_loss: ge.good.fraction(),
                },
            });
        }
        // Of one owner's packets; all others have a rule of the kernel's.
        Fault::Partition(_) => {
            shape.loss = Some(Loss::Random {
                probability: 1.0,
                correlation: 0.0,
            });
        }
        Fault::Duplicate(duplicate) => shape.duplicate = chance(&duplicate.chance),
        Fault::Corrupt(corrupt) => shape.corrupt = chance(&corrupt.chance),
        Fault::Reorder(reorder) => {
            shape.delay = reorder.time.duration();
            shape.reorder = chance(&reorder.chance);
            shape.reorder_gap = reorder.gap;
        }
        Fault::Rate(rate) => shape.rate_bytes_per_s = rate.limit.get() / 8,
        other => {
            let kind = other.kind();
            return Err(HoldError::Unable(format!("{kind} does not shape packets")));
        }
    }
    shape.packets_max = packets_max(shape.delay, shape.jitter);
    Ok(shape)
}

fn chance(c: &fault::Chance) -> Chance {
    Chance {
        probability: c.probability.fraction(),
        correlation: c.correlation.map_or(0.0, |c| c.fraction()),
    }
}
