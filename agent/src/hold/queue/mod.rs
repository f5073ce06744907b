//! The queue: matched packets wait in the kernel until this process decides about them. For kernels without netem.
//!
//! An owned `inet` table queues them: what arrives before routing, what leaves after it, so that addresses are those on
//! the wire, as the detour's hooks see them. Bypass is always set: with the process, queue and table go, and packets
//! pass. What waited at that moment is dropped by the kernel; an orderly release lets it go on.
//!
//! Where a packet's fate does not depend on those before it, several queues share the work, each with a thread of its own: the
//! kernel chooses one by both addresses (`nfqueue_hash`, include/net/netfilter/nf_queue.h), so that what two hosts say to each
//! other stays in order.
//!
//! Limits that are worth knowing:
//! - Delaying what *leaves* throttles bulk TCP sent from here: a queued packet stays charged to its socket, and TCP
//!   small queues lets only a few wait. Delays are exact all the same. Delay where it arrives where one can.
//! - Duplicating and corrupting need the packets' bytes, and TCP's large segments cut up: well below a gigabit a second.
//! - Any netfilter hook taken away in this namespace, by whomever, makes the kernel drop what waits in every queue there.

mod beside;
mod bytes;
mod lane;
mod model;
mod pace;
mod rules;
pub(super) mod waiting;
mod warnings;

use std::os::fd::BorrowedFd;
use std::time::Instant;

use squall_experiments::dose::{Dose, Evidence, NetworkDose};
use squall_experiments::filter::{Direction, ResolvedFilter};

use self::beside::{ANSWER_LIMIT, Beside};
use self::lane::{Lane, Tally, UNREAD_MAX};
use self::rules::commit_rules;
pub(super) use self::rules::{
    action_expression, commit_by, draft_hooks, draft_update, hooks, known, passing,
};
use self::warnings::warnings;
use super::held::{Held, HoldError};
use super::names;
use super::owner::Owner;
use super::steer;
use crate::kernel::net::nfqueue::{Copying, Queue};
use crate::kernel::net::nft::{Draft, Family, OwnedTable};
use crate::kernel::net::rawsend::RawSender;
use crate::kernel::net::shape::Shape;

/// More queues than this would be more threads than any traffic that was measured needs.
const LANES_MAX: usize = 4;
/// Queued packets wait for this process to run; being late is being wrong. Above ordinary processes, below the system's.
pub(super) const NICENESS: i32 = -15;

/// Queues in force.
pub(crate) struct UserQueue {
    table: OwnedTable,
    /// The one that this thread looks after.
    lane: Lane,
    others: Vec<Beside>,
    shape: Shape,
    owned: bool,
    direction: Direction,
    /// What the rule that queues shows as here.
    expression: &'static str,
}

impl UserQueue {
    /// Arms it in the current network namespace and reads it back from the kernel.
    pub(crate) fn arm(
        filter: &ResolvedFilter,
        shape: Shape,
        owner: Option<Owner>,
    ) -> Result<(Self, Evidence), HoldError> {
        let doubles = shape.duplicate.probability > 0.0;
        let copying = if doubles || shape.corrupt.probability > 0.0 {
            Copying::Whole
        } else if owner.is_some() {
            Copying::Headers
        } else {
            Copying::Length
        };
        let most = shape.packets_max.saturating_add(UNREAD_MAX);
        let queues = Queue::bind_in_a_row(share(&shape, owner.is_some()), copying, most)?;
        let (first, total) = (queues[0].number(), queues.len() as u16);
        let tag = doubles.then(|| rand::random::<u32>() | 1);

        let mut lanes = lanes_of(queues, &shape, tag)?;
        let mut table = OwnedTable::create(Family::Inet, &names::mine())?;
        let means = commit_rules(&mut table, filter, (first, total), tag)?;

        let mut warnings = warnings(filter.direction, copying);
        // Before there are other threads: they take it over.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            warnings.push(format!("this holder runs at ordinary priority ({error}); on a busy node packets are later than asked"));
        }
        let owned = owner.is_some();
        let mut lane = lanes.swap_remove(0);
        if let Some(owner) = owner {
            lane = lane.only_of(owner, filter.direction == Direction::Both, &shape);
        }
        let others = lanes.into_iter().map(Beside::start);
        let others = others.collect::<Result<_, _>>()?;
        let queue = Self {
            table,
            lane,
            others,
            shape,
            owned,
            direction: filter.direction,
            expression: action_expression(means),
        };
        let read_back = queue.read_back()?;
        let means = "user-space queue".into();
        Ok((
            queue,
            Evidence {
                means,
                read_back,
                warnings,
            },
        ))
    }

    fn read_back(&self) -> Result<Vec<String>, HoldError> {
        self.counter()?;
        let wanted = hooks(self.direction)
            .into_iter()
            .map(|(chain, _, at)| (chain, at));
        let mut lines = steer::hooks_read_back(&self.table, wanted)?;
        let first = self.lane.number();
        let queues = match self.others.len() as u16 {
            0 => format!("queue {first}"),
            more => format!("queues {first} to {}", first + more),
        };
        lines.push(format!(
            "{}: counts and queues packets to {queues} by `{}`, with bypass",
            self.table, self.expression
        ));
        lines.push(format!(
            "{queues}: bound by process {}, shaping {}",
            std::process::id(),
            self.shape
        ));
        Ok(lines)
    }

    /// Packets and bytes that the kernel counted into the queue.
    fn counter(&self) -> Result<(u64, u64), HoldError> {
        steer::read_action(&self.table, self.expression)
    }

    fn dose_of(&self, (queued, bytes): (u64, u64), tally: &Tally) -> NetworkDose {
        // Packets the kernel counted and we never saw passed by the queue's own limit. Not so where it cuts large
        // segments up before we see them: then we see more than it counts.
        let unseen = queued.saturating_sub(tally.seen);
        let mean =
            (tally.delayed > 0).then(|| tally.delay_sum_ns as f64 / tally.delayed as f64 / 1e3);
        let (matched, bytes) = if self.owned {
            (tally.seen - tally.others, tally.own_bytes)
        } else {
            (queued.max(tally.seen), bytes)
        };
        NetworkDose {
            matched,
            bytes,
            dropped: tally.lost,
            delayed: tally.delayed,
            delay_mean_us: mean,
            duplicated: tally.duplicated,
            corrupted: tally.corrupted,
            reordered: tally.reordered,
            rejected: 0,
            overflowed: tally.overflowed + unseen,
        }
    }
}

/// How many queues share the work: no more than there are processors, and one where packets' fates depend on each other, or on
/// whose they are.
fn share(shape: &Shape, owned: bool) -> u16 {
    if owned || shape.has_memory() {
        return 1;
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    processors.min(LANES_MAX) as u16
}

/// `copies`: the priority that tells what they send twice.
fn lanes_of(
    queues: Vec<Queue>,
    shape: &Shape,
    copies: Option<u32>,
) -> Result<Vec<Lane>, HoldError> {
    let total = queues.len();
    let lane = |(place, queue)| {
        // Of one seed for all, one's draws would be another's.
        let seed = shape.seed.wrapping_add(place as u64);
        let shape = Shape {
            seed,
            ..shape.clone()
        };
        let copies = copies.map(RawSender::open).transpose()?;
        Lane::new(queue, &shape, copies, total)
    };
    queues.into_iter().enumerate().map(lane).collect()
}

impl Held for UserQueue {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let others = self.others.iter().map(Beside::descriptor);
        self.lane.descriptors().into_iter().chain(others).collect()
    }

    fn next_turn(&self) -> Option<Instant> {
        self.lane.next_turn()
    }

    fn turn(&mut self) -> Result<(), HoldError> {
        if let Some(place) = self.others.iter().position(Beside::has_ended) {
            return self.others.swap_remove(place).failure();
        }
        self.lane.turn()
    }

    fn dose(&mut self) -> Result<Dose, HoldError> {
        // First what the kernel counted: what comes meanwhile is seen by a queue at most, which is no loss.
        let counted = self.counter()?;
        self.others.iter_mut().for_each(Beside::ask);
        let until = Instant::now() + ANSWER_LIMIT;
        self.turn()?;
        let mut tally = self.lane.tally().clone();
        for other in &mut self.others {
            tally += other.tally(until).clone();
        }
        Ok(Dose::Network(self.dose_of(counted, &tally)))
    }

    fn update(&mut self, endpoints: &ResolvedFilter) -> Result<(), HoldError> {
        let mut draft = Draft::default();
        draft_update(&mut draft, self.direction, endpoints);
        Ok(self.table.commit(&draft)?)
    }

    fn release(mut self: Box<Self>) -> Result<Dose, HoldError> {
        // What is counted from here on passes, and is not the fault's.
        let counted = self.counter();
        // Nothing more is queued; then everything that waits goes on; only then the hooks go, which would drop it.
        self.others.iter().for_each(Beside::end);
        self.lane.let_all_pass()?;
        let mut ended = Vec::new();
        for other in std::mem::take(&mut self.others) {
            ended.push(other.ended()?);
        }
        let mut tally = self.lane.tally().clone();
        for lane in &ended {
            tally += lane.tally().clone();
        }
        let dose = counted.map(|counted| Dose::Network(self.dose_of(counted, &tally)));
        self.table.delete()?;
        self.lane.retire();
        ended.into_iter().for_each(Lane::retire);
        dose
    }
}
