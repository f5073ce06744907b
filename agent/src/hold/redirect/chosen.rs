//! Whose connections are led to the holder, where only those of one owner are.
//!
//! ```text
//! ask-in, ask-out ──jump──▶ pick ──▶ act: queue     whose is it?          (filter chains, before)
//! in, out         ──jump──▶ mine: from A to B ──▶ lead: counter, redirect (chains of address translation)
//! ```
//! Where a connection begins its first packet waits in a queue until it has been found whose it is, as with all packets of one
//! owner's. One of the owner's gets a rule of its own in `mine`, by both its ends, and only then goes on and meets that;
//! others' go on at once, and are never led anywhere. No mark is set.
//!
//! A verdict takes its packet through the chains that follow before it returns, unless a queue of somebody else's comes between.
//! So a rule is needed for a moment only, and the oldest ones make room.
//!
//! Limits: a queue that is full lets beginnings pass, and those connections go straight. A socket that several processes have
//! open is each one's.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use squall_experiments::filter::{Direction, ResolvedFilter};

use super::steer;
use crate::hold::held::HoldError;
use crate::hold::owner::Owner;
use crate::hold::queue::{action_expression, commit_by};
use crate::hold::tcp::segment::ends;
use crate::kernel::net::nfqueue::{Copying, Queue, Verdict};
use crate::kernel::net::nft::expr::{Expressions, Verdict as Leads};
use crate::kernel::net::nft::matching::{End, Match, Net, Ports, Transport};
use crate::kernel::net::nft::{Draft, Family, Hook, OwnedTable};

/// The chain whose rules pick the connections that have just begun and are the owner's.
const MINE: &str = "mine";
/// The chain that leads them here, and counts them for as long as the table lives.
const LEAD: &str = "lead";
/// Just before the translation (-110): what else may keep a packet, as a delay does at -300, has let it go by then, and
/// tracking (-200) has seen it.
const ASK_PRIORITY: i32 = super::PRIORITY - 1;
/// First packets that may lie unread in the kernel; more pass, and are not led.
const UNREAD_MAX: u32 = 4_096;
/// Packets read in one turn, so that a flood cannot keep the control channel waiting; each may cost a rule.
const READ_PER_TURN_MAX: usize = 64;

/// Rules that there may be, and how many of them are kept when they would become more: each beginning of the owner's
/// passes them one by one.
const RULED_MAX: usize = 128;
const RULED_KEPT: usize = RULED_MAX / 2;

/// Where a connection comes from, and where it goes.
type Ends = (SocketAddr, SocketAddr);

/// Tells the owner's connections from others'.
pub(super) struct Chosen {
    owner: Owner,
    queue: Queue,
    /// What a rule that queues shows as here.
    expression: &'static str,
    direction: Direction,
    started: Instant,
    /// What has a rule now, the oldest first.
    ruled: Vec<Ends>,
}

impl Chosen {
    /// Makes the chains of a table, in which `lead` is done to the owner's connections.
    pub(super) fn arm(
        owner: Owner,
        filter: &ResolvedFilter,
        table: &mut OwnedTable,
        lead: Expressions,
    ) -> Result<Self, HoldError> {
        let queue = Queue::bind(Copying::Headers, UNREAD_MAX)?;
        let number = queue.number();
        let means = commit_by(table, |means| {
            let act = Expressions::default().counter().queue(means, number, 1);
            let mut draft = Draft::default();
            steer::draft_chains(&mut draft, Family::Inet, filter, vec![act]);
            draft.chain(LEAD).chain(MINE).rule(LEAD, lead.clone());
            for (chain, hook) in super::hooks(filter.direction) {
                let arriving = hook == Hook::Prerouting;
                let asks = asks(chain);
                draft.base_chain(asks, hook, ASK_PRIORITY);
                super::draft_beginnings(&mut draft, asks, arriving, filter.direction, steer::PICK);
            }
            super::draft_hooks(&mut draft, filter.direction, MINE);
            draft
        })?;
        Ok(Self {
            owner,
            queue,
            expression: action_expression(means),
            direction: filter.direction,
            started: Instant::now(),
            ruled: Vec::new(),
        })
    }

    /// What the kernel says of it, a line each.
    pub(super) fn read_back(
        &self,
        table: &OwnedTable,
        direction: Direction,
    ) -> Result<Vec<String>, HoldError> {
        let chains = super::hooks(direction);
        let wanted = chains
            .into_iter()
            .map(|(chain, _)| (asks(chain), ASK_PRIORITY));
        let mut lines = steer::hooks_read_back(table, wanted)?;
        lines.push(format!(
            "{table}: queues beginnings of connections to queue {} by `{}`, with bypass",
            self.queue.number(),
            self.expression
        ));
        Ok(lines)
    }

    /// Connections led so far, from the kernel, which must have the rule that asks as well as the one that leads.
    pub(super) fn led(&self, table: &OwnedTable) -> Result<u64, HoldError> {
        steer::read_action(table, self.expression)?;
        Ok(steer::read_rules(table, LEAD, "redir")?.0)
    }

    /// Reads what has begun, and lets it go on to where it belongs.
    pub(super) fn turn(&mut self, table: &mut OwnedTable) -> Result<(), HoldError> {
        let (mut waiting, mut ours, mut others) = (Vec::new(), Vec::new(), Vec::new());
        while waiting.len() < READ_PER_TURN_MAX {
            let received = self.queue.receive();
            let read = HoldError::kernel("read", "the queue of connections that begin");
            let Some(packet) = received.map_err(read)? else {
                break;
            };
            let now_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let mine = self.owner.concerns(&packet, self.direction, now_ns)?;
            if let Some((_, from, to, _)) = ends(&packet.bytes) {
                let whose = if mine { &mut ours } else { &mut others };
                whose.push((from, to));
            }
            waiting.push(packet.id);
        }
        if let Some(draft) = rules(&mut self.ruled, &ours, &others) {
            table.commit(&draft)?;
        }
        for id in waiting {
            self.queue.decide(id, Verdict::Accept, None);
        }
        let answer = HoldError::kernel("answer", "the queue of connections that begin");
        self.queue.flush().map_err(answer)
    }

    /// What waits goes on, and no more is queued; the socket closes later. Says how many were led.
    pub(super) fn release(mut self, table: &OwnedTable) -> Result<u64, HoldError> {
        let shut = HoldError::kernel("shut", "the queue of connections that begin");
        self.queue.let_pass().map_err(shut)?;
        while let Ok(Some(packet)) = self.queue.receive() {
            self.queue.decide(packet.id, Verdict::Accept, None);
        }
        let answer = HoldError::kernel("answer", "the queue of connections that begin");
        self.queue.flush().map_err(answer)?;
        let led = self.led(table);
        self.queue.retire();
        led
    }
}

impl AsFd for Chosen {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

/// What changes in `mine` by these beginnings, if anything. A rule whose ends are another's now is not for that one.
fn rules(ruled: &mut Vec<Ends>, ours: &[Ends], others: &[Ends]) -> Option<Draft> {
    let mut draft = Draft::default();
    let mut fresh: Vec<Ends> = Vec::new();
    for ends in ours {
        if !ruled.contains(ends) && !fresh.contains(ends) {
            fresh.push(*ends);
        }
    }
    let is_stale = ruled.iter().any(|ends| others.contains(ends));
    let is_full = ruled.len() + fresh.len() > RULED_MAX;
    if is_stale || is_full {
        draft.flush(MINE);
        ruled.retain(|ends| !others.contains(ends));
        let oldest = ruled.len().saturating_sub(RULED_KEPT);
        ruled.drain(..oldest);
        fresh.splice(..0, ruled.drain(..));
    } else if fresh.is_empty() {
        return None;
    }
    for (from, to) in &fresh {
        for rule in between(*from, *to).expressions(Family::Inet) {
            draft.rule(MINE, rule.verdict(&Leads::Goto(LEAD.into())));
        }
    }
    ruled.append(&mut fresh);
    Some(draft)
}

/// The chain that asks before one of address translation.
fn asks(chain: &str) -> &'static str {
    if chain == "in" { "ask-in" } else { "ask-out" }
}

fn between(from: SocketAddr, to: SocketAddr) -> Match {
    let end = |at: SocketAddr| End {
        nets: vec![Net {
            address: at.ip(),
            prefix: match at.ip() {
                IpAddr::V4(_) => 32,
                IpAddr::V6(_) => 128,
            },
        }],
        ports: Some(Ports {
            first: at.port(),
            last: at.port(),
        }),
    };
    Match {
        source: end(from),
        destination: end(to),
        transport: Some(Transport::Tcp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(port: u16) -> Ends {
        (([10, 0, 0, 1], port).into(), ([10, 0, 0, 2], 80).into())
    }

    #[test]
    fn a_rule_is_made_once_and_goes_with_its_owner() {
        let mut ruled = Vec::new();
        assert!(rules(&mut ruled, &[ends(1), ends(1), ends(2)], &[]).is_some());
        assert_eq!(ruled, [ends(1), ends(2)]);
        // A beginning that is sent again, and another's that has nothing in common with it.
        assert!(rules(&mut ruled, &[ends(1)], &[ends(3)]).is_none());
        // The ends of one that is over are another's now.
        assert!(rules(&mut ruled, &[ends(4)], &[ends(1)]).is_some());
        assert_eq!(ruled, [ends(2), ends(4)]);
    }

    #[test]
    fn rules_never_become_many_and_the_newest_stay() {
        let mut ruled = Vec::new();
        for turn in 0..100 {
            let first = turn * 64;
            let ours: Vec<Ends> = (first..first + 64).map(ends).collect();
            assert!(rules(&mut ruled, &ours, &[]).is_some());
            assert!(ruled.ends_with(&ours) && ruled.len() <= RULED_MAX);
        }
    }
}
