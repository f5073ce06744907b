//! One of a fault's kernel queues: the packets that come to it, and what becomes of each at its moment.

use std::ops::AddAssign;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::bytes;
use super::model::{Fate, Model};
use super::pace::Pace;
use super::waiting::Waiting;
use crate::hold::held::HoldError;
use crate::hold::owner::Owner;
use crate::kernel::net::nfqueue::{Packet, Queue, Verdict};
use crate::kernel::net::rawsend::RawSender;
use crate::kernel::net::shape::Shape;

/// Packets read in one turn, so that a flood cannot keep the control channel waiting: about 5 ms of work.
const READ_PER_TURN_MAX: usize = 256;
/// Packets read by one look at the clock, some 0.1 ms: on a virtual machine a look can cost more than a packet. Answers go out as
/// often.
const READ_PER_CLOCK: usize = 16;
/// Packets that may lie unread in the kernel beyond those that wait for their moment.
pub(super) const UNREAD_MAX: u32 = 4_096;
/// Bytes of all the copies that wait, where packets are duplicated.
const COPIES_BYTES_MAX: usize = 64 << 20;

/// A kernel queue, and what waits in it.
pub(super) struct Lane {
    queue: Queue,
    timer: TimerFd,
    /// When the timer is set to, in nanoseconds since `started`.
    timer_due_ns: Option<u64>,
    model: Model,
    /// What finds no more room is lost, as on a narrow link.
    narrow: bool,
    waiting: Waiting<Job>,
    pace: Pace,
    /// Room for what is read at once.
    arrived: Vec<Packet>,
    copies: Option<RawSender>,
    copies_bytes: usize,
    copies_bytes_max: usize,
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

/// What was done to packets so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) seen: u64,
    /// Of those, others' packets, and the bytes of the owner's.
    pub(super) others: u64,
    pub(super) own_bytes: u64,
    pub(super) lost: u64,
    pub(super) delayed: u64,
    pub(super) delay_sum_ns: u128,
    pub(super) duplicated: u64,
    pub(super) corrupted: u64,
    pub(super) reordered: u64,
    pub(super) overflowed: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.seen += other.seen;
        self.others += other.others;
        self.own_bytes += other.own_bytes;
        self.lost += other.lost;
        self.delayed += other.delayed;
        self.delay_sum_ns += other.delay_sum_ns;
        self.duplicated += other.duplicated;
        self.corrupted += other.corrupted;
        self.reordered += other.reordered;
        self.overflowed += other.overflowed;
    }
}

impl Lane {
    /// One of `lanes` for packets of this shape; `copies` sends those that are doubled.
    ///
    /// # Errors
    /// When the kernel has no timer to give.
    pub(super) fn new(
        queue: Queue,
        shape: &Shape,
        copies: Option<RawSender>,
        lanes: usize,
    ) -> Result<Self, HoldError> {
        let failed = |e: nix::Error| HoldError::kernel("create", "the queue's timer")(e);
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
        )
        .map_err(failed)?;
        Ok(Self {
            queue,
            timer,
            timer_due_ns: None,
            model: Model::new(shape),
            narrow: shape.rate_bytes_per_s > 0,
            waiting: Waiting::new(shape.packets_max as usize),
            pace: Pace::of(shape, false),
            arrived: Vec::new(),
            copies,
            copies_bytes: 0,
            copies_bytes_max: COPIES_BYTES_MAX / lanes.max(1),
            started: Instant::now(),
            owner: None,
            tally: Tally::default(),
        })
    }

    /// Treats the packets of one alone: `both` where those that arrive are his as well.
    pub(super) fn only_of(mut self, owner: Owner, both: bool, shape: &Shape) -> Self {
        self.pace = Pace::of(shape, true);
        self.owner = Some((owner, both));
        self
    }

    /// Its number.
    pub(super) fn number(&self) -> u16 {
        self.queue.number()
    }

    /// What was done so far.
    pub(super) const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What to wait for until the next turn: packets, or their moment; the moment alone while a pace is kept.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self.pace.until_ns() {
            None => vec![self.queue.as_fd(), self.timer.as_fd()],
            Some(_) => vec![self.timer.as_fd()],
        }
    }

    /// When something is due next.
    pub(super) fn next_turn(&self) -> Option<Instant> {
        let next = self.waiting.next_due_ns();
        next.map(|due| self.started + Duration::from_nanos(due))
    }

    /// Does what is due, and looks at what has come. Bounded work.
    pub(super) fn turn(&mut self) -> Result<(), HoldError> {
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

    /// Nothing more is queued from here on, and everything that waits goes on.
    pub(super) fn let_all_pass(&mut self) -> Result<(), HoldError> {
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
        self.flush()
    }

    /// Leaves the kernel's queue to be closed later: the rule that led to it is gone.
    pub(super) fn retire(self) {
        self.queue.retire();
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
            let verdict = if self.narrow {
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
        if self.copies_bytes + length > self.copies_bytes_max {
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
}
