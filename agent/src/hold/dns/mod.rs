//! The fault on names: queries to port 53 are answered falsely, late or not at all.
//!
//! Over UDP each query waits in the kernel's queue until this process has read it. One that is not hit goes on as it is,
//! from its own socket to the resolver it was meant for; one that is hit is dropped, and the answer comes from the
//! address that was asked. So nobody's resolver need be known, queries on sockets that were open before are met too, and
//! with the holder queue and table go and every query passes. Over TCP connections are redirected (see `redirect`).
//!
//! Limits: a fragment, IPv6 with extension headers, and DNS over TLS or HTTPS pass unread. Queries that wait for a delay
//! are lost when the holder is killed, and asked again by their resolver.

mod message;
mod packet;
mod rule;
mod stream;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use squall_experiments::dose::{Dose, Evidence};
use squall_experiments::fault::Dns;
use squall_experiments::filter::{Direction, Protocol, ResolvedFilter};

use self::rule::{Fate, Rule};
use super::held::{Held, HoldError};
use super::owner::Owner;
use super::queue::waiting::Waiting;
use super::queue::{action_expression, commit_by};
use super::redirect::{self, LO, Redirect};
use super::{names, steer};
use crate::kernel::net::nfqueue::{Copying, Queue, Verdict};
use crate::kernel::net::nft::expr::{Expressions, Meta, QueueMeans, Verdict as Leads};
use crate::kernel::net::nft::{Draft, Family, Hook, OwnedTable};
use crate::kernel::net::origin::OWN_PRIORITY;
use crate::kernel::net::rawsend::RawSender;

/// Where queries go unless a file says otherwise.
const PORT: u16 = 53;
/// Before connection tracking (-200) and address translation: a query is seen with the address that was asked.
const PRIORITY: i32 = -300;
/// Queries that may wait for their moment; more pass at once, and are counted.
const WAITING_MAX: usize = 10_000;
/// Packets that may lie unread in the kernel beyond those.
const UNREAD_MAX: u32 = 4_096;
/// Packets read in one turn, so that a flood cannot keep the control channel waiting.
const READ_PER_TURN_MAX: usize = 256;

/// A fault on names in force.
pub(crate) struct DnsFault {
    rule: Arc<Rule>,
    datagrams: Option<Datagrams>,
    streams: Option<Redirect>,
}

/// Queries over UDP.
struct Datagrams {
    table: OwnedTable,
    queue: Queue,
    answers: RawSender,
    /// Numbers of packets that are late.
    waiting: Waiting<u32>,
    started: Instant,
    direction: Direction,
    /// Whose queries alone are met, where only some's are.
    owner: Option<Owner>,
}

impl DnsFault {
    /// Arms it in the current network namespace and reads it back from the kernel.
    pub(crate) fn arm(
        fault: &Dns,
        filter: &ResolvedFilter,
        seed: u64,
        owner: Option<Owner>,
    ) -> Result<(Self, Evidence), HoldError> {
        let rule = Arc::new(Rule::new(fault, seed));
        let mut lines = Vec::new();
        let datagrams = if filter.protocol == Some(Protocol::Tcp) {
            None
        } else {
            let (datagrams, read) = {
                let owner = owner.as_ref().map(Owner::twin).transpose()?;
                Datagrams::arm(&over(filter, Protocol::Udp), owner)?
            };
            lines.extend(read);
            Some(datagrams)
        };
        let streams = if filter.protocol == Some(Protocol::Udp) {
            None
        } else {
            let rule = Arc::clone(&rule);
            let serve: redirect::Serve =
                Arc::new(move |meeting| Box::pin(stream::serve(Arc::clone(&rule), meeting)));
            let (streams, read) = Redirect::arm(&over(filter, Protocol::Tcp), serve, owner)?;
            lines.extend(read);
            Some(streams)
        };
        let evidence = Evidence {
            means: "queries led to the holder".into(),
            read_back: lines,
            warnings: Vec::new(),
        };
        let fault = Self {
            rule,
            datagrams,
            streams,
        };
        Ok((fault, evidence))
    }

    fn check(&self) -> Result<Dose, HoldError> {
        if let Some(datagrams) = &self.datagrams {
            datagrams.check()?;
        }
        if let Some(streams) = &self.streams {
            streams.count()?;
        }
        Ok(Dose::Dns(self.rule.dose()))
    }
}

fn over(filter: &ResolvedFilter, protocol: Protocol) -> ResolvedFilter {
    redirect::at(filter, protocol, Some(PORT))
}

impl Held for DnsFault {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let queue = self.datagrams.as_ref().map(|d| d.queue.as_fd());
        let begun = self.streams.as_ref().and_then(Redirect::descriptor);
        queue.into_iter().chain(begun).collect()
    }

    fn next_turn(&self) -> Option<Instant> {
        let datagrams = self.datagrams.as_ref()?;
        let due_ns = datagrams.waiting.next_due_ns()?;
        Some(datagrams.started + Duration::from_nanos(due_ns))
    }

    fn turn(&mut self) -> Result<(), HoldError> {
        if let Some(streams) = &mut self.streams {
            streams.turn()?;
        }
        match &mut self.datagrams {
            Some(datagrams) => datagrams.turn(&self.rule),
            None => Ok(()),
        }
    }

    fn dose(&mut self) -> Result<Dose, HoldError> {
        self.turn()?;
        self.check()
    }

    fn update(&mut self, endpoints: &ResolvedFilter) -> Result<(), HoldError> {
        if let Some(datagrams) = &mut self.datagrams {
            let mut draft = Draft::default();
            let endpoints = over(endpoints, Protocol::Udp);
            steer::draft_update(&mut draft, Family::Inet, &endpoints, []);
            datagrams.table.commit(&draft)?;
        }
        match &mut self.streams {
            Some(streams) => streams.update(&over(endpoints, Protocol::Tcp)),
            None => Ok(()),
        }
    }

    fn release(self: Box<Self>) -> Result<Dose, HoldError> {
        let Self {
            rule,
            datagrams,
            streams,
        } = *self;
        // Both are ended, whatever the first one says.
        let first = datagrams.map_or(Ok(()), |datagrams| datagrams.release(&rule));
        let second = streams.map_or(Ok(0), Redirect::release);
        first.and(second)?;
        Ok(Dose::Dns(rule.dose()))
    }
}

impl Datagrams {
    fn arm(
        filter: &ResolvedFilter,
        owner: Option<Owner>,
    ) -> Result<(Self, Vec<String>), HoldError> {
        let most = u32::try_from(WAITING_MAX).unwrap_or(u32::MAX) + UNREAD_MAX;
        let queue = Queue::bind(Copying::Whole, most)?;
        let answers = RawSender::open(OWN_PRIORITY)?;
        let mut table = OwnedTable::create(Family::Inet, &names::mine())?;
        let number = queue.number();
        let means = commit_by(&mut table, |means| draft(filter, means, number))?;
        let datagrams = Self {
            table,
            queue,
            answers,
            waiting: Waiting::new(WAITING_MAX),
            started: Instant::now(),
            direction: filter.direction,
            owner,
        };
        let lines = datagrams.read_back(filter.direction, means)?;
        Ok((datagrams, lines))
    }

    fn read_back(&self, direction: Direction, means: QueueMeans) -> Result<Vec<String>, HoldError> {
        let table = &self.table;
        let expression = action_expression(means);
        steer::read_action(table, expression)?;
        let wanted = redirect::hooks(direction)
            .into_iter()
            .map(|(chain, _)| (chain, PRIORITY));
        let mut lines = steer::hooks_read_back(table, wanted)?;
        lines.push(format!(
            "{table}: counts queries and queues them to queue {} by `{expression}`, with bypass",
            self.queue.number()
        ));
        Ok(lines)
    }

    /// Whether the kernel still has the rule that queues.
    fn check(&self) -> Result<(), HoldError> {
        if self.table.rules(steer::ACT)?.is_empty() {
            return Err(HoldError::Unable(format!(
                "the rule that should queue queries is not in {} any more: somebody removed it, so the fault is over",
                self.table
            )));
        }
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn turn(&mut self, rule: &Rule) -> Result<(), HoldError> {
        self.let_go(self.now_ns());
        self.read(rule)?;
        self.queue
            .flush()
            .map_err(HoldError::kernel("answer", "the queue of queries"))
    }

    /// Reads what has come; says whether the kernel had no more.
    fn read(&mut self, rule: &Rule) -> Result<bool, HoldError> {
        for _ in 0..READ_PER_TURN_MAX {
            let received = self
                .queue
                .receive()
                .map_err(HoldError::kernel("read", "the queue of queries"))?;
            let Some(packet) = received else {
                return Ok(true);
            };
            let now_ns = self.now_ns();
            let ours = match &mut self.owner {
                None => true,
                Some(owner) => owner.concerns(&packet, self.direction, now_ns)?,
            };
            let parts = packet::parse(&packet.bytes);
            let fate = match &parts {
                Some(parts) if ours => rule.judge(&packet.bytes[parts.payload.clone()]),
                _ => Fate::Pass,
            };
            match fate {
                Fate::Pass => self.queue.decide(packet.id, Verdict::Accept, None),
                Fate::Dropped => self.queue.decide(packet.id, Verdict::Drop, None),
                Fate::Answered(said) => {
                    let answer = parts.and_then(|p| packet::answer(&packet.bytes, &p, &said));
                    // One that cannot be sent is a query without an answer, and its client asks again.
                    if let Some(answer) = answer {
                        self.answers.send(&answer, packet.link);
                    }
                    self.queue.decide(packet.id, Verdict::Drop, None);
                }
                Fate::Late(time) => {
                    let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                    let due_ns = self.now_ns().saturating_add(time_ns);
                    if let Err(id) = self.waiting.add(due_ns, packet.id) {
                        rule.overflowed();
                        self.queue.decide(id, Verdict::Accept, None);
                    }
                }
            }
        }
        Ok(false)
    }

    fn let_go(&mut self, now_ns: u64) {
        while let Some(id) = self.waiting.take_due(now_ns) {
            self.queue.decide(id, Verdict::Accept, None);
        }
    }

    /// Nothing more is queued; then all that waits goes on; only then the hooks go, which would drop it.
    fn release(mut self, rule: &Rule) -> Result<(), HoldError> {
        self.queue
            .let_pass()
            .map_err(HoldError::kernel("shut", "the queue of queries"))?;
        // At most what the kernel held unread; the limit is against a flood that never ends.
        for _ in 0..=(UNREAD_MAX as usize / READ_PER_TURN_MAX) {
            if self.read(rule)? {
                break;
            }
        }
        self.let_go(u64::MAX);
        self.queue
            .flush()
            .map_err(HoldError::kernel("answer", "the queue of queries"))?;
        self.table.delete()?;
        self.queue.retire();
        Ok(())
    }
}

fn draft(filter: &ResolvedFilter, means: QueueMeans, number: u16) -> Draft {
    let rule = Expressions::default;
    let mut draft = Draft::default();
    let act = rule().counter().queue(means, number, 1);
    steer::draft_chains(&mut draft, Family::Inet, filter, vec![act]);
    for (chain, hook) in redirect::hooks(filter.direction) {
        let arriving = hook == Hook::Prerouting;
        draft.base_chain(chain, hook, PRIORITY);
        if arriving {
            // What arrives over `lo` has left over it, and is met there.
            let on_lo = rule().meta(Meta::InLink).equals(&LO.to_ne_bytes());
            draft.rule(chain, on_lo.verdict(&Leads::Accept));
        }
        let picked = match (arriving, filter.direction) {
            (true, _) => rule().for_this_host(),
            (false, Direction::Ingress) => rule().meta(Meta::OutLink).equals(&LO.to_ne_bytes()),
            (false, _) => rule(),
        };
        draft.rule(chain, picked.verdict(&Leads::Goto(steer::PICK.into())));
    }
    // Connection tracking never saw the query that is answered: the answer would be the first packet of a connection
    // that leads backwards.
    draft.base_chain("answers", Hook::Output, PRIORITY);
    let own = rule()
        .meta(Meta::Priority)
        .equals(&OWN_PRIORITY.to_ne_bytes());
    draft.rule("answers", own.no_track());
    draft
}
