//! A partition that refuses, for the packets of one owner alone: TCP is reset, UDP answered with port unreachable, as the kernel's
//! own `reject` does for all. Each packet waits until it has been found whose it is; others' go on at once.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use squall_experiments::dose::{Dose, Evidence, NetworkDose};
use squall_experiments::filter::{Direction, ResolvedFilter};

use super::checksum::checksum;
use super::held::{Held, HoldError};
use super::owner::Owner;
use super::queue::{action_expression, commit_by, draft_hooks, draft_update, hooks, passing};
use super::tcp::segment::{self, RST};
use super::{names, steer};
use crate::kernel::net::nfqueue::{Copying, Packet, Queue, Verdict};
use crate::kernel::net::nft::expr::Expressions;
use crate::kernel::net::nft::{Draft, Family, OwnedTable};
use crate::kernel::net::rawsend::RawSender;

/// Packets that may lie unread in the kernel; more pass, and are counted.
const UNREAD_MAX: u32 = 4_096;
/// Packets read in one turn, so that a flood cannot keep the control channel waiting.
const READ_PER_TURN_MAX: usize = 256;
const UDP: u8 = 17;
/// Of the packet that is refused, the answer brings back so much: its headers, and eight bytes (RFC 792; more is allowed).
const BROUGHT_BACK_BYTES: usize = 128;

/// A refusal in force.
pub(crate) struct Refusal {
    table: OwnedTable,
    queue: Queue,
    sender: RawSender,
    owner: Owner,
    direction: Direction,
    started: Instant,
    dose: NetworkDose,
    seen: u64,
    /// What the rule that queues shows as here.
    expression: &'static str,
}

impl Refusal {
    /// Arms it in the current network namespace and reads it back from the kernel.
    pub(crate) fn arm(
        filter: &ResolvedFilter,
        owner: Owner,
    ) -> Result<(Self, Evidence), HoldError> {
        let queue = Queue::bind(Copying::Headers, UNREAD_MAX)?;
        let tag = rand::random::<u32>() | 1;
        let sender = RawSender::open(tag)?;
        let mut table = OwnedTable::create(Family::Inet, &names::mine())?;
        let number = queue.number();
        let means = commit_by(&mut table, |means| {
            let mut draft = Draft::default();
            let mut act = passing(filter.direction, Some(tag));
            act.push(Expressions::default().counter().queue(means, number, 1));
            steer::draft_chains(&mut draft, Family::Inet, filter, act);
            draft_hooks(&mut draft, filter);
            draft
        })?;
        let expression = action_expression(means);
        let read_back = read_back(&table, filter.direction, number, expression)?;
        let held = Self {
            table,
            queue,
            sender,
            owner,
            direction: filter.direction,
            started: Instant::now(),
            dose: NetworkDose::default(),
            seen: 0,
            expression,
        };
        let evidence = Evidence {
            means: "packets led to the holder, which refuses them".into(),
            read_back,
            warnings: Vec::new(),
        };
        Ok((held, evidence))
    }

    /// Reads what has come; says whether the kernel had no more.
    fn read(&mut self) -> Result<bool, HoldError> {
        for _ in 0..READ_PER_TURN_MAX {
            let read = HoldError::kernel("read", "the queue of packets");
            let Some(packet) = self.queue.receive().map_err(read)? else {
                return Ok(true);
            };
            self.seen += 1;
            let now_ns = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let both = self.direction == Direction::Both;
            let refused = self.owner.owns(&packet, both, now_ns)? && self.refuse(&packet);
            let verdict = if refused {
                Verdict::Drop
            } else {
                Verdict::Accept
            };
            self.queue.decide(packet.id, verdict, None);
        }
        Ok(false)
    }

    /// Answers a packet of the owner's; not one that is an answer itself.
    fn refuse(&mut self, packet: &Packet) -> bool {
        let answer = match segment::parse(&packet.bytes, packet.length) {
            Some(segment) if segment.flags & RST != 0 => return false,
            Some(segment) => Some(segment.refused()),
            None => unreachable(&packet.bytes),
        };
        let Some(answer) = answer else { return false };
        self.dose.matched += 1;
        self.dose.bytes += u64::from(packet.length);
        // One that cannot be sent is a packet that vanished.
        if self.sender.send(&answer, packet.link) {
            self.dose.rejected += 1;
        } else {
            self.dose.dropped += 1;
        }
        true
    }

    fn turn_all(&mut self) -> Result<(), HoldError> {
        self.read()?;
        let answer = HoldError::kernel("answer", "the queue of packets");
        self.queue.flush().map_err(answer)
    }

    fn count(&self) -> Result<Dose, HoldError> {
        let (queued, _) = steer::read_action(&self.table, self.expression)?;
        Ok(Dose::Network(NetworkDose {
            overflowed: queued.saturating_sub(self.seen),
            ..self.dose.clone()
        }))
    }
}

impl Held for Refusal {
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.queue.as_fd()]
    }

    fn turn(&mut self) -> Result<(), HoldError> {
        self.turn_all()
    }

    fn dose(&mut self) -> Result<Dose, HoldError> {
        self.turn_all()?;
        self.count()
    }

    fn update(&mut self, endpoints: &ResolvedFilter) -> Result<(), HoldError> {
        let mut draft = Draft::default();
        draft_update(&mut draft, self.direction, endpoints);
        Ok(self.table.commit(&draft)?)
    }

    fn release(mut self: Box<Self>) -> Result<Dose, HoldError> {
        let shut = HoldError::kernel("shut", "the queue of packets");
        self.queue.let_pass().map_err(shut)?;
        // At most what the kernel held unread; the limit is against a flood that never ends.
        for _ in 0..=(UNREAD_MAX as usize / READ_PER_TURN_MAX) {
            if self.read()? {
                break;
            }
        }
        let answer = HoldError::kernel("answer", "the queue of packets");
        self.queue.flush().map_err(answer)?;
        let dose = self.count();
        self.table.delete()?;
        self.queue.retire();
        dose
    }
}

/// What the kernel says of it, a line each.
fn read_back(
    table: &OwnedTable,
    direction: Direction,
    number: u16,
    expression: &str,
) -> Result<Vec<String>, HoldError> {
    steer::read_action(table, expression)?;
    let wanted = hooks(direction)
        .into_iter()
        .map(|(chain, _, at)| (chain, at));
    let mut lines = steer::hooks_read_back(table, wanted)?;
    lines.push(format!(
        "{table}: counts packets and queues them to queue {number} by `{expression}`, with bypass"
    ));
    Ok(lines)
}

/// ICMP's port unreachable to the sender of a UDP datagram, from where that went to (RFC 792; RFC 4443, section 3.1). `None` for
/// anything else.
fn unreachable(packet: &[u8]) -> Option<Vec<u8>> {
    const V4_BYTES: usize = 20;
    const V6_BYTES: usize = 40;
    const HOPS: u8 = 64;
    let is_v6 = match packet.first()? >> 4 {
        4 if *packet.get(9)? == UDP => false,
        6 if *packet.get(6)? == UDP => true,
        _ => return None,
    };
    let brought_back = &packet[..packet.len().min(BROUGHT_BACK_BYTES)];
    let (kind, code, number) = if is_v6 { (1, 4, 58) } else { (3, 3, 1) };
    let mut icmp = vec![kind, code, 0, 0, 0, 0, 0, 0];
    icmp.extend(brought_back);
    let length = u16::try_from(icmp.len()).ok()?;
    let mut out = if is_v6 {
        let (from, to) = (packet.get(8..24)?, packet.get(24..V6_BYTES)?);
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(length.to_be_bytes());
        header.extend([number, HOPS]);
        header.extend(to.iter().chain(from));
        header
    } else {
        let (from, to) = (packet.get(12..16)?, packet.get(16..V4_BYTES)?);
        let mut header = vec![0x45, 0];
        header.extend((length + V4_BYTES as u16).to_be_bytes());
        header.extend([0, 0, 0x40, 0, HOPS, number, 0, 0]);
        header.extend(to.iter().chain(from));
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    };
    let sum = if is_v6 {
        let [high, low] = length.to_be_bytes();
        checksum(&[&out[8..], &[0, number, high, low], &icmp])
    } else {
        checksum(&[&icmp])
    };
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    out.append(&mut icmp);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_datagram_is_answered_from_where_it_went() {
        let mut packet = vec![0x45, 0, 0, 31, 0, 0, 0x40, 0, 64, UDP, 0, 0];
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend([0x12, 0x34, 0, 53, 0, 11, 0, 0]);
        packet.extend(b"abc");
        let answer = unreachable(&packet).unwrap();
        assert_eq!(answer[12..20], [10, 0, 0, 2, 10, 0, 0, 1]);
        assert_eq!(answer[20..22], [3, 3]);
        assert_eq!(answer[28..], packet);
        assert_eq!(
            (checksum(&[&answer[..20]]), checksum(&[&answer[20..]])),
            (0, 0)
        );
        packet[9] = 1;
        assert_eq!(
            unreachable(&packet),
            None,
            "what is no datagram is not answered"
        );
    }

    #[test]
    fn so_is_one_over_ipv6() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 11, UDP, 64];
        let (one, other) = ([0xfd; 16], [0xfe; 16]);
        packet.extend(one.iter().chain(&other));
        packet.extend([0x12, 0x34, 0, 53, 0, 11, 0, 0]);
        packet.extend(b"abc");
        let answer = unreachable(&packet).unwrap();
        assert_eq!((&answer[8..24], &answer[24..40]), (&other[..], &one[..]));
        assert_eq!(answer[40..42], [1, 4]);
        assert_eq!(answer[48..], packet);
        // RFC 8200, section 8.1: the sum covers a header of addresses, length and protocol.
        let pseudo = [0, 58, answer[4], answer[5]];
        assert_eq!(checksum(&[&answer[8..40], &pseudo, &answer[40..]]), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(packet in prop::collection::vec(any::<u8>(), 0..120)) {
            unreachable(&packet);
        }
    }
}
