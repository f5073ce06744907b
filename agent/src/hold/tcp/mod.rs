//! The fault on connections: they are reset, refused, slow to close, or stand still.
//!
//! An owned table queues the packets by which a connection can be hit, and only those: for a reset everything but SYN and
//! RST, for a refusal SYN, for a slow end FIN. The holder reads their headers and lets them go on, drops them with a reset
//! made from their numbers, or keeps them for a while. For a stall the table itself closes the window in what the *other*
//! side sends, and the holder listens (see [`stall`]). With the holder table and queue go, and every packet passes.
//!
//! A connection is hit or not as a whole, by a draw from its ends. One that is idle is made to show itself (see
//! [`existing`]); one to be reset that still lives after a second or two is ended through the kernel (`SOCK_DESTROY`).
//!
//! Limits: a fragment, and IPv6 with extension headers, pass unread. A FIN that waits in the moment in which its holder is
//! killed is lost, and sent again by its sender. What a sender may already send when a stall begins still goes.

mod existing;
mod flows;
pub(super) mod segment;
mod stall;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use squall_experiments::dose::{Dose, Evidence, TcpDose};
use squall_experiments::fault::{Tcp, TcpEffect};
use squall_experiments::filter::{Direction, Protocol, ResolvedFilter};

use self::flows::{Flow, Flows};
use self::segment::{ACK, FIN, FLAGS_AT, RST, SYN, Segment, WINDOW_AT};
use self::stall::Standing;
use super::held::{Held, HoldError};
use super::owner::Owner;
use super::queue::waiting::Waiting;
use super::queue::{action_expression, commit_by, draft_hooks, draft_update, hooks, passing};
use super::{names, redirect, steer};
use crate::kernel::net::nfqueue::{Copying, Packet, Queue, Verdict};
use crate::kernel::net::nft::expr::{Base, Expressions, QueueMeans};
use crate::kernel::net::nft::{Draft, Family, OwnedTable};
use crate::kernel::net::rawsend::RawSender;
use crate::kernel::net::sockets::{Connection, Sockets};

/// FINs that may wait for their moment; more pass at once, and are counted.
const WAITING_MAX: usize = 10_000;
/// Packets that may lie unread in the kernel beyond those.
const UNREAD_MAX: u32 = 4_096;
/// Packets read in one turn, so that a flood cannot keep the control channel waiting.
const READ_PER_TURN_MAX: usize = 256;
/// How long it is remembered which FIN a connection ended with: it may be lost and come again.
const ENDED_NS: u64 = 60_000_000_000;

/// A fault on connections in force.
pub(crate) struct TcpFault {
    effect: TcpEffect,
    /// What the rules pick: for a stall, what comes back.
    filter: ResolvedFilter,
    table: OwnedTable,
    queue: Queue,
    sender: RawSender,
    sockets: Sockets,
    flows: Flows,
    waiting: Waiting<Late>,
    /// The number and the moment of the FIN of each end of a connection.
    ends: HashMap<(SocketAddr, SocketAddr), (u32, u64)>,
    standing: Standing,
    /// Connections to be reset that were there when last looked.
    lingering: HashSet<(SocketAddr, SocketAddr)>,
    destroys: bool,
    started: Instant,
    /// Whose connections alone are hit, where only some's are.
    owner: Option<Owner>,
    tally: Tally,
}

/// An end of a connection that is late.
#[derive(Debug)]
enum Late {
    /// The packet of that number.
    Held { id: u32, since_ns: u64 },
    /// One made from a packet that carried data as well.
    Made {
        packet: Vec<u8>,
        link: u32,
        since_ns: u64,
    },
}

#[derive(Debug, Default)]
struct Tally {
    seen: u64,
    /// Of those, others' packets, and those by which it is only learnt whose a connection is.
    others: u64,
    learnt: u64,
    delayed: u64,
    delay_sum_ns: u128,
    overflowed: u64,
}

impl TcpFault {
    /// Arms it in the current network namespace and reads it back from the kernel.
    pub(crate) fn arm(
        fault: &Tcp,
        filter: &ResolvedFilter,
        seed: u64,
        owner: Option<Owner>,
    ) -> Result<(Self, Evidence), HoldError> {
        let filter = picked(fault.effect, filter);
        // What is held is perhaps changed, and for that it must be whole.
        let copying = match fault.effect {
            TcpEffect::Close(_) => Copying::Whole,
            TcpEffect::Reset | TcpEffect::Refuse | TcpEffect::Stall => Copying::Headers,
        };
        let most = u32::try_from(WAITING_MAX).unwrap_or(u32::MAX) + UNREAD_MAX;
        let queue = Queue::bind(copying, most)?;
        let tag = rand::random::<u32>() | 1;
        let sender = RawSender::open(tag)?;
        let sockets = Sockets::open()?;
        let mut table = OwnedTable::create(Family::Inet, &names::mine())?;
        let number = queue.number();
        let means = commit_by(&mut table, |means| {
            let mut draft = Draft::default();
            let mut act = passing(filter.direction, Some(tag));
            act.push(action(fault.effect).counter().queue(means, number, 1));
            if owner.is_some() && matches!(fault.effect, TcpEffect::Close(_)) {
                // Who closes a socket has it no longer when its FIN is sent: whose it is, is learnt when it begins.
                act.push(flags(SYN | RST, SYN).queue(means, number, 1));
            }
            steer::draft_chains(&mut draft, Family::Inet, &filter, act);
            draft_hooks(&mut draft, &filter);
            draft
        })?;
        let mut held = Self {
            effect: fault.effect,
            filter,
            table,
            queue,
            sender,
            sockets,
            flows: Flows::new(fault.share, seed),
            waiting: Waiting::new(WAITING_MAX),
            ends: HashMap::new(),
            standing: Standing::default(),
            lingering: HashSet::new(),
            destroys: true,
            started: Instant::now(),
            owner,
            tally: Tally::default(),
        };
        let mut read_back = held.read_back(means)?;
        if held.owner.is_some() {
            held.learn()?;
        }
        if matches!(fault.effect, TcpEffect::Reset | TcpEffect::Stall) {
            let called = held.call()?;
            read_back.push(format!("{called} connections are there already"));
        }
        let evidence = Evidence {
            means: "connections led to the holder".into(),
            read_back,
            warnings: Vec::new(),
        };
        Ok((held, evidence))
    }

    fn read_back(&self, means: QueueMeans) -> Result<Vec<String>, HoldError> {
        let table = &self.table;
        let expression = action_expression(means);
        steer::read_action(table, expression)?;
        let wanted = hooks(self.filter.direction)
            .into_iter()
            .map(|(chain, _, at)| (chain, at));
        let mut lines = steer::hooks_read_back(table, wanted)?;
        let what = match self.effect {
            TcpEffect::Reset => "packets of connections",
            TcpEffect::Refuse => "beginnings of connections",
            TcpEffect::Close(_) => "ends of connections",
            TcpEffect::Stall => "packets, closes the window in them,",
        };
        lines.push(format!(
            "{table}: counts {what} and queues them to queue {} by `{expression}`, with bypass",
            self.queue.number()
        ));
        Ok(lines)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether a connection is the owner's, where there is one.
    fn is_ours(&mut self, connection: &Connection) -> bool {
        let now_ns = self.now_ns();
        self.owner
            .as_mut()
            .is_none_or(|owner| owner.has_open(connection.inode, now_ns))
    }

    /// Learns whose the connections are that are there: their next packet may be their last.
    fn learn(&mut self) -> Result<(), HoldError> {
        let now_ns = self.now_ns();
        let connections = self.sockets.connections()?;
        if let Some(owner) = &mut self.owner {
            for connection in connections {
                owner.learn(
                    connection.local,
                    connection.remote,
                    connection.inode,
                    now_ns,
                );
            }
        }
        Ok(())
    }

    /// Makes the connections that are there show themselves; says how many.
    fn call(&mut self) -> Result<usize, HoldError> {
        let mut called = 0;
        for connection in self.sockets.connections()? {
            let calls = existing::calls(&self.filter, &connection);
            if calls.is_empty()
                || !self.flows.draws(flow_of(&connection))
                || !self.is_ours(&connection)
            {
                continue;
            }
            called += 1;
            for call in calls {
                self.sender.send(&call, 0);
            }
        }
        Ok(called)
    }

    /// Reads what has come; says whether the kernel had no more.
    fn read(&mut self) -> Result<bool, HoldError> {
        for _ in 0..READ_PER_TURN_MAX {
            let received = self.queue.receive().map_err(HoldError::kernel(
                "read",
                "the queue of connections' packets",
            ))?;
            let Some(packet) = received else {
                return Ok(true);
            };
            self.tally.seen += 1;
            let ours = match &mut self.owner {
                None => true,
                Some(owner) => {
                    let both = self.filter.direction == Direction::Both;
                    let now_ns =
                        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    owner.owns(&packet, both, now_ns)?
                }
            };
            self.tally.others += u64::from(!ours);
            match segment::parse(&packet.bytes, packet.length) {
                Some(segment) if ours => self.judge(&packet, &segment),
                _ => self.queue.decide(packet.id, Verdict::Accept, None),
            }
        }
        Ok(false)
    }

    fn judge(&mut self, packet: &Packet, segment: &Segment) {
        let now_ns = self.now_ns();
        let flow = Flow::of(segment.source, segment.destination);
        // Where large segments are cut up, parts without the flag come along.
        let ends = segment.flags & FIN != 0 || !matches!(self.effect, TcpEffect::Close(_));
        self.tally.learnt += u64::from(!ends);
        let fate = if !ends || !self.flows.meet(flow, now_ns) {
            Verdict::Accept
        } else {
            match self.effect {
                TcpEffect::Reset => {
                    self.sender.send(&segment.given_up(), packet.link);
                    self.sender.send(&segment.refused(), packet.link);
                    Verdict::Drop
                }
                TcpEffect::Refuse => {
                    self.sender.send(&segment.refused(), packet.link);
                    Verdict::Drop
                }
                TcpEffect::Close(time) => {
                    return self.keep(packet, segment, time.duration(), now_ns);
                }
                TcpEffect::Stall => {
                    self.standing.hear(segment, now_ns);
                    Verdict::Accept
                }
            }
        };
        self.queue.decide(packet.id, fate, None);
    }

    /// Keeps a FIN until it is due. Data that comes with it goes on at once; and while one waits, the same one sent again
    /// is dropped.
    fn keep(&mut self, packet: &Packet, segment: &Segment, time: Duration, now_ns: u64) {
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let key = (segment.source, segment.destination);
        let known = self.ends.get(&key).filter(|(end, _)| *end == segment.end());
        let (due_ns, again) = match known {
            Some((_, due_ns)) => (*due_ns, true),
            None => (now_ns.saturating_add(time_ns), false),
        };
        if due_ns <= now_ns {
            return self.queue.decide(packet.id, Verdict::Accept, None);
        }
        let since_ns = now_ns;
        let split = (segment.payload > 0).then(|| segment.split(&packet.bytes));
        let (first, late) = match split {
            Some(None) => return self.queue.decide(packet.id, Verdict::Accept, None),
            Some(Some((first, last))) => {
                let (packet, link) = (last, packet.link);
                let late = Late::Made {
                    packet,
                    link,
                    since_ns,
                };
                (Some(first), late)
            }
            None => {
                let id = packet.id;
                (None, Late::Held { id, since_ns })
            }
        };
        if !again {
            if self.waiting.add(due_ns, late).is_err() {
                self.tally.overflowed += 1;
                return self.queue.decide(packet.id, Verdict::Accept, None);
            }
            self.ends.insert(key, (segment.end(), due_ns));
        }
        match first {
            Some(data) => self.queue.decide(packet.id, Verdict::Accept, Some(&data)),
            None if again => self.queue.decide(packet.id, Verdict::Drop, None),
            None => {}
        }
    }

    fn let_go(&mut self, now_ns: u64) {
        while let Some(late) = self.waiting.take_due(now_ns) {
            let since_ns = match late {
                Late::Held { id, since_ns } => {
                    self.queue.decide(id, Verdict::Accept, None);
                    since_ns
                }
                Late::Made {
                    packet,
                    link,
                    since_ns,
                } => {
                    self.sender.send(&packet, link);
                    since_ns
                }
            };
            self.tally.delayed += 1;
            self.tally.delay_sum_ns += u128::from(self.now_ns().saturating_sub(since_ns));
        }
    }

    fn flush(&mut self) -> Result<(), HoldError> {
        self.queue.flush().map_err(HoldError::kernel(
            "answer",
            "the queue of connections' packets",
        ))
    }

    /// Ends the connections that should have been reset a second ago, and forgets what is over.
    fn look(&mut self) -> Result<(), HoldError> {
        let now_ns = self.now_ns();
        self.ends
            .retain(|_, (_, due_ns)| due_ns.saturating_add(ENDED_NS) > now_ns);
        match self.effect {
            TcpEffect::Reset if self.destroys => self.end_lingering(now_ns),
            TcpEffect::Stall => {
                let here = self.sockets.connections()?;
                let ends: HashSet<Flow> = here.iter().map(flow_of).collect();
                self.standing
                    .prune(|from, to| ends.contains(&Flow::of(from, to)), now_ns);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn end_lingering(&mut self, now_ns: u64) -> Result<(), HoldError> {
        let mut lingering = HashSet::new();
        for connection in self.sockets.connections()? {
            let (leaving, arriving) = existing::sides(&self.filter, &connection);
            let met = (leaving || arriving) && self.flows.draws(flow_of(&connection));
            if !met || !self.is_ours(&connection) {
                continue;
            }
            let ends = (connection.local, connection.remote);
            if !self.lingering.contains(&ends) {
                lingering.insert(ends);
                continue;
            }
            match self.sockets.destroy(&connection) {
                Ok(()) => {
                    self.flows.meet(flow_of(&connection), now_ns);
                }
                Err(e) if e.errno() == Some(libc::EOPNOTSUPP) => self.destroys = false,
                // It has ended by itself.
                Err(e) if e.is_absent() => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.lingering = lingering;
        Ok(())
    }

    fn count(&self) -> Result<TcpDose, HoldError> {
        // `counter` stands in every way into a queue.
        let (counted, _) = steer::read_action(&self.table, "counter")?;
        let tally = &self.tally;
        let packets = if self.owner.is_some() {
            tally.seen - tally.others - tally.learnt
        } else {
            counted
        };
        let mean =
            (tally.delayed > 0).then(|| tally.delay_sum_ns as f64 / tally.delayed as f64 / 1e3);
        Ok(TcpDose {
            packets,
            connections: self.flows.met,
            matched: self.flows.hit,
            delayed: tally.delayed,
            delay_mean_us: mean,
            // What the kernel counted and we never saw passed by the queue's own limit.
            overflowed: tally.overflowed
                + self.standing.beyond
                + counted.saturating_sub(tally.seen),
        })
    }
}

fn flow_of(connection: &Connection) -> Flow {
    Flow::of(connection.local, connection.remote)
}

/// What the rules pick for a filter: of TCP; and for a stall what goes the other way, as the window that a sender heeds is
/// said by who receives.
fn picked(effect: TcpEffect, filter: &ResolvedFilter) -> ResolvedFilter {
    let mut filter = redirect::at(filter, Protocol::Tcp, None);
    if effect == TcpEffect::Stall {
        std::mem::swap(&mut filter.to, &mut filter.from);
        filter.direction = match filter.direction {
            Direction::Egress => Direction::Ingress,
            Direction::Ingress => Direction::Egress,
            Direction::Both => Direction::Both,
        };
    }
    filter
}

/// Goes on only with a segment that has these flags, of those looked at.
fn flags(mask: u8, value: u8) -> Expressions {
    Expressions::default()
        .payload(Base::Transport, FLAGS_AT, 1)
        .mask(&[mask])
        .equals(&[value])
}

/// The part of the rule before its counter: which of a connection's packets, and what the kernel itself does to them.
fn action(effect: TcpEffect) -> Expressions {
    match effect {
        TcpEffect::Reset => flags(SYN | RST, 0),
        TcpEffect::Refuse => flags(SYN | ACK | FIN | RST, SYN),
        TcpEffect::Close(_) => flags(FIN | RST, FIN),
        TcpEffect::Stall => flags(RST, 0).write_tcp(WINDOW_AT, &[0, 0]),
    }
}

impl Held for TcpFault {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.queue.as_fd()]
    }

    fn next_turn(&self) -> Option<Instant> {
        let due_ns = [self.waiting.next_due_ns(), self.standing.due_ns];
        let first = due_ns.into_iter().flatten().min()?;
        Some(self.started + Duration::from_nanos(first))
    }

    fn turn(&mut self) -> Result<(), HoldError> {
        self.let_go(self.now_ns());
        for word in self.standing.say(self.now_ns()) {
            self.sender.send(&word, 0);
        }
        self.read()?;
        self.flush()
    }

    fn dose(&mut self) -> Result<Dose, HoldError> {
        self.turn()?;
        self.look()?;
        self.count().map(Dose::Tcp)
    }

    fn update(&mut self, endpoints: &ResolvedFilter) -> Result<(), HoldError> {
        let filter = picked(self.effect, endpoints);
        let mut draft = Draft::default();
        draft_update(&mut draft, self.filter.direction, &filter);
        self.table.commit(&draft)?;
        self.filter = filter;
        Ok(())
    }

    /// Nothing more is queued; then all that waits goes on; only then the hooks go, which would drop it. Who stands still
    /// is told at once.
    fn release(mut self: Box<Self>) -> Result<Dose, HoldError> {
        let mut draft = Draft::default();
        steer::draft_nothing(&mut draft);
        self.table.commit(&draft)?;
        // At most what the kernel held unread; the limit is against a flood that never ends.
        for _ in 0..=(UNREAD_MAX as usize / READ_PER_TURN_MAX) {
            if self.read()? {
                break;
            }
        }
        self.let_go(u64::MAX);
        self.flush()?;
        let dose = self.count();
        let Self {
            table,
            standing,
            sender,
            ..
        } = *self;
        table.delete()?;
        for question in standing.questions() {
            sender.send(&question, 0);
        }
        dose.map(Dose::Tcp)
    }
}
