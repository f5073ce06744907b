//! The queue: matched packets wait in the kernel until this process decides about them. For kernels without netem.
//!
//! An owned `inet` table queues them: what arrives before routing, what leaves after it, so that addresses are those on
//! the wire, as the detour's hooks see them. Bypass is always set: with the process, queue and table go, and packets
//! pass. What waited at that moment is dropped by the kernel; an orderly release lets it go on.
//!
//! Limits that are worth knowing:
//! - Delaying what *leaves* throttles bulk TCP sent from here: a queued packet stays charged to its socket, and TCP
//!   small queues lets only a few wait. Delays are exact all the same. Delay where it arrives where one can.
//! - Duplicating and corrupting need the packets' bytes, and TCP's large segments cut up: well below a gigabit a second.
//! - Any netfilter hook taken away in this namespace, by whomever, makes the kernel drop what waits in every queue there.

mod bytes;
mod model;
mod pace;
mod rules;
pub(super) mod waiting;
mod warnings;

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use squall_experiments::dose::{Dose, Evidence, NetworkDose};
use squall_experiments::filter::{Direction, ResolvedFilter};

use self::model::{Fate, Model};
use self::pace::Pace;
use self::rules::commit_rules;
pub(super) use self::rules::{action_expression, commit_by, draft_hooks, hooks, known};
use self::waiting::Waiting;
use self::warnings::warnings;
use super::held::{Held, HoldError};
use super::names;
use super::owner::Owner;
use super::steer;
use crate::kernel::net::nfqueue::{Copying, Packet, Queue, Verdict};
use crate::kernel::net::nft::expr::QueueMeans;
use crate::kernel::net::nft::{Draft, Family, OwnedTable};
use crate::kernel::net::rawsend::RawSender;
use crate::kernel::net::shape::Shape;

/// Packets read in one turn, so that a flood cannot keep the control channel waiting: about 5 ms of work.
const READ_PER_TURN_MAX: usize = 256;
/// Packets read by one look at the clock, some 0.1 ms: on a virtual machine a look can cost more than a packet. Answers go out as
/// often.
const READ_PER_CLOCK: usize = 16;
/// Packets that may lie unread in the kernel beyond those that wait for their moment.
const UNREAD_MAX: u32 = 4_096;
/// Bytes of all the copies that wait, where packets are duplicated.
const COPIES_BYTES_MAX: usize = 64 << 20;
/// Queued packets wait for this process to run; being late is being wrong. Above ordinary processes, below the system's.
pub(super) const NICENESS: i32 = -15;

/// A queue in force.
pub(crate) struct UserQueue {
    table: OwnedTable,
    queue: Queue,
    timer: TimerFd,
    /// When the timer is set to, in nanoseconds since `started`.
    timer_due_ns: Option<u64>,
    model: Model,
    shape: Shape,
    waiting: Waiting<Job>,
    pace: Pace,
    /// Room for what is read at once.
    arrived: Vec<Packet>,
    copies: Option<RawSender>,
    copies_bytes: usize,
    started: Instant,
    /// Whose packets alone are treated, where only some's are, and whether they are met in both directions.
    owner: Option<(Owner, bool)>,
    tally: Tally,
}

/// Something to do at its moment.
#[derive(Debug)]
enum Job {
    /// Let the packet of that number go on, perhaps with other bytes.
    Pass {
        id: u32,
        since_ns: u64,
        bytes: Option<Vec<u8>>,
    },
    /// Send a copy.
    Copy { bytes: Vec<u8>, link: u32 },
}

#[derive(Debug, Default)]
struct Tally {
    seen: u64,
    /// Of those, others' packets, and the bytes of the owner's.
    others: u64,
    own_bytes: u64,
    lost: u64,
    delayed: u64,
    delay_sum_ns: u128,
    duplicated: u64,
    corrupted: u64,
    reordered: u64,
    overflowed: u64,
}

impl UserQueue {
    /// Arms it in the current network namespace and reads it back from the kernel.
    pub(crate) fn arm(
        filter: &ResolvedFilter,
        shape: Shape,
        owner: Option<Owner>,
    ) -> Result<(Self, Evidence), HoldError> {
        let failed = |e: nix::Error| HoldError::kernel("create", "the queue's timer")(e);
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
        )
        .map_err(failed)?;
        let doubles = shape.duplicate.probability > 0.0;
        let copying = if doubles || shape.corrupt.probability > 0.0 {
            Copying::Whole
        } else if owner.is_some() {
            Copying::Headers
        } else {
            Copying::Length
        };
        let queue = Queue::bind(copying, shape.packets_max.saturating_add(UNREAD_MAX))?;
        let tag = rand::random::<u32>() | 1;
        let copies = if doubles {
            Some(RawSender::open(tag)?)
        } else {
            None
        };

        let mut table = OwnedTable::create(Family::Inet, &names::mine())?;
        let tag = doubles.then_some(tag);
        let means = commit_rules(&mut table, filter, queue.number(), tag)?;

        let mut warnings = warnings(filter.direction, copying);
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            warnings.push(format!("this holder runs at ordinary priority ({error}); on a busy node packets are later than asked"));
        }
        let queue = Self {
            model: Model::new(&shape),
            waiting: Waiting::new(shape.packets_max as usize),
            pace: Pace::of(&shape, owner.is_some()),
            arrived: Vec::new(),
            table,
            queue,
            timer,
            timer_due_ns: None,
            shape,
            copies,
            copies_bytes: 0,
            started: Instant::now(),
            owner: owner.map(|owner| (owner, filter.direction == Direction::Both)),
            tally: Tally::default(),
        };
        let read_back = queue.read_back(filter.direction, means)?;
        Ok((
            queue,
            Evidence {
                means: "user-space queue".into(),
                read_back,
                warnings,
            },
        ))
    }

    fn read_back(&self, direction: Direction, means: QueueMeans) -> Result<Vec<String>, HoldError> {
        let expression = action_expression(means);
        steer::read_action(&self.table, expression)?;
        let wanted = hooks(direction)
            .into_iter()
            .map(|(chain, _, at)| (chain, at));
        let mut lines = steer::hooks_read_back(&self.table, wanted)?;
        lines.push(format!(
            "{}: counts and queues packets to queue {} by `{expression}`, with bypass",
            self.table,
            self.queue.number()
        ));
        lines.push(format!(
            "queue {}: bound by process {}, shaping {}",
            self.queue.number(),
            std::process::id(),
            self.shape
        ));
        Ok(lines)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Reads what has come; says whether the kernel had no more.
    fn read(&mut self, early_ns: u64) -> Result<bool, HoldError> {
        let seen = self.tally.seen;
        let mut packets = std::mem::take(&mut self.arrived);
        let emptied = self.read_into(&mut packets, early_ns);
        packets.clear();
        self.arrived = packets;
        self.pace.seen(self.now_ns(), self.tally.seen - seen);
        emptied
    }

    /// `early_ns`: so much before they are read they are taken to have come.
    fn read_into(&mut self, packets: &mut Vec<Packet>, early_ns: u64) -> Result<bool, HoldError> {
        let (mut read, mut looked, mut now_ns) = (0, None, 0);
        while read < READ_PER_TURN_MAX {
            let more = self
                .queue
                .receive_many(packets)
                .map_err(HoldError::kernel("read", "the packet queue"))?;
            if looked.is_none_or(|at| read >= at + READ_PER_CLOCK) {
                // Those of a flood do not wait for all of it.
                self.flush()?;
                (looked, now_ns) = (Some(read), self.now_ns().saturating_sub(early_ns));
            }
            read += packets.len();
            for packet in packets.drain(..) {
                if self.is_ours(&packet, now_ns)? {
                    self.judge(packet, now_ns);
                } else {
                    self.queue.decide(packet.id, Verdict::Accept, None);
                }
            }
            if !more {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a packet is treated at all.
    fn is_ours(&mut self, packet: &Packet, now_ns: u64) -> Result<bool, HoldError> {
        self.tally.seen += 1;
        let Some((owner, both)) = &mut self.owner else {
            return Ok(true);
        };
        let ours = owner.owns(packet, *both, now_ns)?;
        if ours {
            self.tally.own_bytes += u64::from(packet.length);
        } else {
            self.tally.others += 1;
        }
        Ok(ours)
    }

    fn judge(&mut self, mut packet: Packet, now_ns: u64) {
        let fates = self.model.take(now_ns, packet.length);
        if let Some(Fate::Sent {
            due_ns, corrupt, ..
        }) = fates.copy
        {
            self.add_copy(&packet, due_ns, corrupt);
        }
        let Fate::Sent {
            due_ns,
            corrupt,
            overtakes,
        } = fates.own
        else {
            self.tally.lost += 1;
            self.queue.decide(packet.id, Verdict::Drop, None);
            return;
        };
        self.tally.reordered += u64::from(overtakes);
        let changed = corrupt.is_some_and(|draw| bytes::flip_one_bit(&mut packet.bytes, draw));
        self.tally.corrupted += u64::from(changed);
        let bytes = changed.then_some(packet.bytes);
        if due_ns <= now_ns {
            self.queue
                .decide(packet.id, Verdict::Accept, bytes.as_deref());
            return;
        }
        let job = Job::Pass {
            id: packet.id,
            since_ns: now_ns,
            bytes,
        };
        if let Err(Job::Pass { id, .. }) = self.waiting.add(due_ns, job) {
            // Too many wait. A narrow link drops then, as netem does; a slow one must not become a lossy one.
            let verdict = if self.shape.rate_bytes_per_s > 0 {
                Verdict::Drop
            } else {
                Verdict::Accept
            };
            *(if verdict == Verdict::Drop {
                &mut self.tally.lost
            } else {
                &mut self.tally.overflowed
            }) += 1;
            self.queue.decide(id, verdict, None);
        }
    }

    fn add_copy(&mut self, packet: &Packet, due_ns: u64, corrupt: Option<u64>) {
        let length = packet.bytes.len();
        if self.copies_bytes + length > COPIES_BYTES_MAX {
            return;
        }
        let mut bytes = packet.bytes.clone();
        if let Some(draw) = corrupt {
            bytes::flip_one_bit(&mut bytes, draw);
        }
        if self
            .waiting
            .add(
                due_ns,
                Job::Copy {
                    bytes,
                    link: packet.link,
                },
            )
            .is_ok()
        {
            self.copies_bytes += length;
        }
    }

    /// Lets go of what is due at that moment.
    fn let_go(&mut self, now_ns: u64) {
        while let Some(job) = self.waiting.take_due(now_ns) {
            match job {
                Job::Pass {
                    id,
                    since_ns,
                    bytes,
                } => {
                    self.queue.decide(id, Verdict::Accept, bytes.as_deref());
                    self.tally.delayed += 1;
                    self.tally.delay_sum_ns += u128::from(now_ns.saturating_sub(since_ns));
                }
                Job::Copy { bytes, link } => {
                    self.copies_bytes -= bytes.len();
                    let sent = self.copies.as_ref().is_some_and(|c| c.send(&bytes, link));
                    self.tally.duplicated += u64::from(sent);
                }
            }
        }
    }

    /// Lets go of everything, whenever it would have been due.
    fn let_all_go(&mut self) {
        while let Some(job) = self.waiting.take_due(u64::MAX) {
            if let Job::Pass { id, bytes, .. } = job {
                self.queue.decide(id, Verdict::Accept, bytes.as_deref());
            }
        }
    }

    fn flush(&mut self) -> Result<(), HoldError> {
        self.queue
            .flush()
            .map_err(HoldError::kernel("answer", "the packet queue"))
    }

    /// Sets the timer to the next moment at which there is something to do: it is exact where a poll's own limit may be rounded.
    fn set_timer(&mut self) -> Result<(), HoldError> {
        let next = self.waiting.next_due_ns();
        let due_ns = next.into_iter().chain(self.pace.until_ns()).min();
        // An expired timer stays readable until it is set anew.
        let expired = self.timer_due_ns.is_some_and(|due| due <= self.now_ns());
        if due_ns == self.timer_due_ns && !expired {
            return Ok(());
        }
        let set = match due_ns {
            None => self.timer.unset(),
            Some(due_ns) => {
                // Zero would disarm it.
                let in_ns = due_ns.saturating_sub(self.now_ns()).max(1);
                let at = TimeSpec::from_duration(Duration::from_nanos(in_ns));
                self.timer
                    .set(Expiration::OneShot(at), TimerSetTimeFlags::empty())
            }
        };
        set.map_err(HoldError::kernel("set", "the queue's timer"))?;
        self.timer_due_ns = due_ns;
        Ok(())
    }

    fn count(&self) -> Result<NetworkDose, HoldError> {
        Ok(self.dose_of(self.counter()?))
    }

    /// Packets and bytes that the kernel counted into the queue.
    fn counter(&self) -> Result<(u64, u64), HoldError> {
        let act = self
            .table
            .rules(steer::ACT)?
            .first()
            .and_then(|r| r.counter);
        act.ok_or_else(|| {
            HoldError::Unable(format!(
                "the rule that should queue packets is not in {} any more: somebody removed it, so the fault is over",
                self.table
            ))
        })
    }

    fn dose_of(&self, (queued, bytes): (u64, u64)) -> NetworkDose {
        let tally = &self.tally;
        // Packets the kernel counted and we never saw passed by the queue's own limit. Not so where it cuts large
        // segments up before we see them: then we see more than it counts.
        let unseen = queued.saturating_sub(tally.seen);
        let mean =
            (tally.delayed > 0).then(|| tally.delay_sum_ns as f64 / tally.delayed as f64 / 1e3);
        let (matched, bytes) = match &self.owner {
            Some(_) => (tally.seen - tally.others, tally.own_bytes),
            None => (queued.max(tally.seen), bytes),
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

impl Held for UserQueue {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self.pace.until_ns() {
            None => vec![self.queue.as_fd(), self.timer.as_fd()],
            Some(_) => vec![self.timer.as_fd()],
        }
    }

    fn next_turn(&self) -> Option<Instant> {
        self.waiting
            .next_due_ns()
            .map(|due| self.started + Duration::from_nanos(due))
    }

    fn turn(&mut self) -> Result<(), HoldError> {
        // First what is due: its moment is now, the new packets' is later.
        let now_ns = self.now_ns();
        self.let_go(now_ns);
        if let Some(early_ns) = self.pace.look(now_ns) {
            self.read(early_ns)?;
            self.let_go(self.now_ns());
        }
        self.flush()?;
        self.set_timer()
    }

    fn dose(&mut self) -> Result<Dose, HoldError> {
        self.turn()?;
        self.count().map(Dose::Network)
    }

    fn update(&mut self, endpoints: &ResolvedFilter) -> Result<(), HoldError> {
        let mut draft = Draft::default();
        steer::draft_update(&mut draft, Family::Inet, endpoints);
        Ok(self.table.commit(&draft)?)
    }

    fn release(mut self: Box<Self>) -> Result<Dose, HoldError> {
        // What is counted from here on passes, and is not the fault's.
        let counted = self.counter();
        // Nothing more is queued; then everything that waits goes on; only then the hooks go, which would drop it.
        self.queue
            .let_pass()
            .map_err(HoldError::kernel("shut", "the packet queue"))?;
        self.model = Model::new(&Shape::default());
        // At most what the kernel held unread; the limit is against a flood that never ends.
        for _ in 0..=(UNREAD_MAX as usize / READ_PER_TURN_MAX) {
            if self.read(0)? {
                break;
            }
        }
        self.let_all_go();
        self.flush()?;
        let dose = counted.map(|counted| Dose::Network(self.dose_of(counted)));
        self.table.delete()?;
        self.queue.retire();
        dose
    }
}
