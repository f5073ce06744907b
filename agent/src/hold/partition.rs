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
    met: Met,
}

/// Where packets are met.
enum Met {
    /// To be dropped, at the links.
    AtLinks(LinkHooks),
    /// To be refused, where they come to this namespace's own sockets and leave them: in these chains.
    AtSockets(Vec<&'static str>),
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
        let mut hooks = LinkHooks::new(filter, DROP_PRIORITY);
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
                met: Met::AtLinks(hooks),
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
        let passing = answers().map(|answer| answer.verdict(&Verdict::Accept));
        let mut act = Vec::from(passing);
        act.extend([
            is_tcp.counter().reject(Reject::TcpReset),
            Expressions::default()
                .counter()
                .reject(Reject::PortUnreachable),
        ]);
        let mut draft = Draft::default();
        steer::draft_chains(&mut draft, Family::Inet, filter, act);
        let mut bases = Vec::new();
        for (chain, hook, left_out) in [
            ("in", Hook::Input, Direction::Egress),
            ("out", Hook::Output, Direction::Ingress),
        ] {
            if filter.direction != left_out {
                draft.base_chain(chain, hook, REJECT_PRIORITY);
                bases.push(chain);
            }
        }
        steer::draft_bases(&mut draft, Family::Inet, filter, bases.iter().copied());
        table.commit(&draft)?;

        steer::read_action(&table, "reject")?;
        let seen = table.chains()?;
        let based: Vec<_> = seen
            .iter()
            .filter(|c| c.hook.is_some_and(|(_, p)| p == REJECT_PRIORITY))
            .collect();
        if based.len() != bases.len() {
            return Err(HoldError::Unable(format!(
                "{table}: chains {bases:?} were made, the kernel shows {seen:?}"
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
                met: Met::AtSockets(bases),
            },
            evidence,
        ))
    }

    fn count(&self) -> Result<NetworkDose, HoldError> {
        let (needed, rejects) = match self.met {
            Met::AtLinks(_) => ("fwd", false),
            Met::AtSockets(_) => ("reject", true),
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
        if let Met::AtLinks(hooks) = &mut self.met {
            hooks.refresh(&mut self.route, &mut self.table)?;
        }
        Ok(Dose::Network(dose))
    }

    fn update(&mut self, endpoints: &ResolvedFilter) -> Result<(), HoldError> {
        match &mut self.met {
            Met::AtLinks(hooks) => Ok(hooks.update(&mut self.table, endpoints)?),
            Met::AtSockets(bases) => {
                let mut draft = Draft::default();
                let bases = bases.iter().copied();
                steer::draft_update(&mut draft, Family::Inet, endpoints, bases);
                Ok(self.table.commit(&draft)?)
            }
        }
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
