//! Partition: nothing that matches gets through, silently or with a refusal.
//!
//! *Drop* sits at the links' own hooks, before any detour. On the way out an nft `drop` would be noticed: the sender's
//! `sendto` fails, and TCP, told of local congestion, tries again every 500 ms instead of backing off (RFC 6298), so that
//! a connection attempt ends later than in a real partition. A packet handed to a link that does not exist vanishes
//! without a word (`nf_fwd_netdev_egress` frees it and reports it sent), which is what a cut cable looks like.
//!
//! *Reject* sits at this namespace's own input and output: TCP is reset, all else is answered with port unreachable.
//! A local sender of UDP gets the error from `sendto` itself. Traffic forwarded through the namespace is not refused.

use squall_experiments::dose::{Dose, Evidence, NetworkDose};
use squall_experiments::fault::PartitionMode;
use squall_experiments::filter::{Direction, ResolvedFilter};

use super::held::{Held, HoldError};
use super::names;
use super::steer::{self, LinkHooks};
use crate::kernel::net::netlink::{Netlink, Protocol};
use crate::kernel::net::nft::expr::{Base, Expressions, Meta, Reject, Verdict};
use crate::kernel::net::nft::{Draft, Family, Hook, OwnedTable};

/// Before detours (-300): what is dropped is not worth delaying.
const DROP_PRIORITY: i32 = -310;
/// After everybody's NAT and filters of usual priority, so that what they drop is not answered by us.
const REJECT_PRIORITY: i32 = 10;
/// A link index that no kernel hands out by itself: they count up from 1.
const NOWHERE: u32 = i32::MAX as u32;
const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// A partition in force.
pub(crate) struct Partition {
    table: OwnedTable,
    route: Netlink,
    /// The links' hooks of a drop; none for a reject.
    hooks: Option<LinkHooks>,
}

impl Partition {
    /// Arms it in the current network namespace and reads it back from the kernel.
    pub(crate) fn arm(
        filter: &ResolvedFilter,
        mode: PartitionMode,
    ) -> Result<(Self, Evidence), HoldError> {
        let name = names::mine();
        match mode {
            PartitionMode::Drop => Self::arm_drop(&name, filter),
            PartitionMode::Reject => Self::arm_reject(&name, filter),
        }
    }

    fn arm_drop(name: &str, filter: &ResolvedFilter) -> Result<(Self, Evidence), HoldError> {
        let mut route = Netlink::open(Protocol::Route)?;
        let mut table = OwnedTable::create(Family::Netdev, name)?;
        let mut draft = Draft::default();
        let vanish = Expressions::default().counter().forward_to(NOWHERE);
        steer::draft_chains(&mut draft, Family::Netdev, filter, vec![vanish]);
        table.commit(&draft)?;
        let mut hooks = LinkHooks::new(filter.direction, DROP_PRIORITY);
        hooks.refresh(&mut route, &mut table)?;

        let mut lines = hooks.read_back(&table)?;
        steer::read_action(&table, "fwd")?;
        lines.push(steer::picks_read_back(&table)?);
        lines.push(format!("{table}: counts packets and lets them vanish"));
        let evidence = Evidence {
            means: "nftables drop".into(),
            read_back: lines,
            warnings: Vec::new(),
        };
        Ok((
            Self {
                table,
                route,
                hooks: Some(hooks),
            },
            evidence,
        ))
    }

    fn arm_reject(name: &str, filter: &ResolvedFilter) -> Result<(Self, Evidence), HoldError> {
        let route = Netlink::open(Protocol::Route)?;
        let mut table = OwnedTable::create(Family::Inet, name)?;
        let is_tcp = Expressions::default()
            .meta(Meta::TransportProtocol)
            .equals(&[TCP]);
        let act = vec![
            is_tcp.counter().reject(Reject::TcpReset),
            Expressions::default()
                .counter()
                .reject(Reject::PortUnreachable),
        ];
        let mut draft = Draft::default();
        steer::draft_chains(&mut draft, Family::Inet, filter, act);
        let sides = [
            ("in", Hook::Input, filter.direction != Direction::Egress),
            ("out", Hook::Output, filter.direction != Direction::Ingress),
        ];
        let wanted = sides.iter().filter(|(_, _, wanted)| *wanted).count();
        for (chain, hook, _) in sides.into_iter().filter(|(_, _, wanted)| *wanted) {
            draft.base_chain(chain, hook, REJECT_PRIORITY);
            for answer in answers() {
                draft.rule(chain, answer.verdict(&Verdict::Accept));
            }
            draft.rule(
                chain,
                Expressions::default().verdict(&Verdict::Jump(steer::PICK.into())),
            );
        }
        table.commit(&draft)?;

        steer::read_action(&table, "reject")?;
        let seen = table.chains()?;
        let based: Vec<_> = seen
            .iter()
            .filter(|c| c.hook.is_some_and(|(_, p)| p == REJECT_PRIORITY))
            .collect();
        if based.len() != wanted {
            return Err(HoldError::Unable(format!(
                "{table}: {wanted} chains were made, the kernel shows {seen:?}"
            )));
        }
        let mut lines: Vec<String> = based
            .iter()
            .map(|c| format!("{table}: chain `{}`, priority {REJECT_PRIORITY}", c.name))
            .collect();
        lines.push(steer::picks_read_back(&table)?);
        lines.push(format!("{table}: counts packets and refuses them"));
        let evidence = Evidence {
            means: "nftables reject".into(),
            read_back: lines,
            warnings: Vec::new(),
        };
        Ok((
            Self {
                table,
                route,
                hooks: None,
            },
            evidence,
        ))
    }

    fn count(&self) -> Result<NetworkDose, HoldError> {
        let (needed, rejects) = if self.hooks.is_some() {
            ("fwd", false)
        } else {
            ("reject", true)
        };
        let (matched, bytes) = steer::read_action(&self.table, needed)?;
        let (dropped, rejected) = if rejects { (0, matched) } else { (matched, 0) };
        Ok(NetworkDose {
            matched,
            bytes,
            dropped,
            rejected,
            ..NetworkDose::default()
        })
    }
}

impl Held for Partition {
    fn dose(&mut self) -> Result<Dose, HoldError> {
        let dose = self.count()?;
        if let Some(hooks) = &mut self.hooks {
            hooks.refresh(&mut self.route, &mut self.table)?;
        }
        Ok(Dose::Network(dose))
    }

    fn update(&mut self, endpoints: &ResolvedFilter) -> Result<(), HoldError> {
        let mut draft = Draft::default();
        steer::draft_update(&mut draft, self.table.family(), endpoints);
        Ok(self.table.commit(&draft)?)
    }

    fn release(mut self: Box<Self>) -> Result<Dose, HoldError> {
        let mut draft = Draft::default();
        steer::draft_nothing(&mut draft);
        self.table.commit(&draft)?;
        let dose = self.count();
        self.table.delete()?;
        dose.map(Dose::Network)
    }
}

/// What a refusal is answered with: TCP resets, and destination unreachable of ICMP (3) and ICMPv6 (1). They pass, or a
/// refusal would refuse itself and the caller wait as behind a drop.
fn answers() -> [Expressions; 3] {
    const TCP_FLAGS_AT: u32 = 13;
    const TCP_RST: u8 = 4;
    let of = |protocol: u8| {
        Expressions::default()
            .meta(Meta::TransportProtocol)
            .equals(&[protocol])
    };
    let kind = |list: Expressions, kind: u8| list.payload(Base::Transport, 0, 1).equals(&[kind]);
    [
        of(TCP)
            .payload(Base::Transport, TCP_FLAGS_AT, 1)
            .mask(&[TCP_RST])
            .equals(&[TCP_RST]),
        kind(of(ICMP), 3),
        kind(of(ICMPV6), 1),
    ]
}
